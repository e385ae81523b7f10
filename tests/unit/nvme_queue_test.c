/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Unit test of app/test/nvme_queue.h and nvme_regs.h: no device, no DPDK.
 * Prints TAP; the exit code is 0 when all hold.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nvme_queue.h"

#define DIM(a) (sizeof(a) / sizeof((a)[0]))

static unsigned int failures; /* in the current test */

#define EXPECT(got, expected) expect(#got, (uint64_t)(got), (uint64_t)(expected), __LINE__)

static void
expect(const char *what, uint64_t got, uint64_t expected, int line)
{
	if (got == expected)
		return;
	failures++;
	printf("# line %d: %s: expected 0x%" PRIx64 ", got 0x%" PRIx64 "\n", line, what, expected,
			got);
}

static void
index_wraps_at_the_size(void)
{
	EXPECT(nvme_index_next(0, 2), 1);
	EXPECT(nvme_index_next(1, 2), 0);
	EXPECT(nvme_index_next(30, 32), 31);
	EXPECT(nvme_index_next(31, 32), 0);
	/* sizes that are no powers of two, and the largest index of all */
	EXPECT(nvme_index_next(2, 3), 0);
	EXPECT(nvme_index_next(UINT16_MAX - 2, UINT16_MAX), UINT16_MAX - 1);
	EXPECT(nvme_index_next(UINT16_MAX - 1, UINT16_MAX), 0);
}

static void
full_queue_keeps_one_entry_free(void)
{
	uint16_t head, size, tail;
	unsigned int posted;

	for (size = 2; size < 40; size++) {
		for (head = 0; head < size; head++) {
			posted = 0;
			for (tail = head; !nvme_sq_is_full(head, tail, size);
					tail = nvme_index_next(tail, size))
				posted++;
			EXPECT(posted, size - 1u);
		}
	}
}

/*
 * Play the controller: write completions with its own phase, and let the host take them. The host
 * must take each one once, and never an entry of the pass before.
 */
static void
phase_follows_the_controller(void)
{
	uint16_t size, head, post, written, taken;
	uint8_t host_phase, ctrl_phase;
	uint32_t queue[16];
	unsigned int pass;

	for (size = 2; size <= DIM(queue); size++) {
		memset(queue, 0, sizeof(queue));
		head = post = 0;
		host_phase = ctrl_phase = 1;
		for (pass = 0; pass < 100; pass++) {
			/* bursts of all lengths that the queue can hold */
			for (written = 0; written <= pass % (size - 1u); written++) {
				queue[post] = (uint32_t)ctrl_phase << NVME_CQE_P_SHIFT;
				if (++post == size) {
					post = 0;
					ctrl_phase ^= 1;
				}
			}
			for (taken = 0; nvme_cqe_is_new(queue[head], host_phase); taken++) {
				head = nvme_index_next(head, size);
				host_phase = nvme_phase_next(head, host_phase);
				if (taken > size)
					break;
			}
			EXPECT(taken, written);
			EXPECT(head, post);
			EXPECT(host_phase, ctrl_phase);
		}
	}
}

static void
phase_is_one_bit_among_others(void)
{
	EXPECT(nvme_cqe_is_new(0, 1), false);
	EXPECT(nvme_cqe_is_new(0, 0), true);
	EXPECT(nvme_cqe_is_new(UINT32_MAX, 1), true);
	EXPECT(nvme_cqe_is_new(UINT32_MAX & ~(1u << 16), 1), false);
	EXPECT(nvme_phase_next(5, 1), 1);
	EXPECT(nvme_phase_next(0, 1), 0);
	EXPECT(nvme_phase_next(0, 0), 1);
}

static void
doorbells_of_each_stride(void)
{
	static const struct {
		uint16_t qid;
		enum nvme_doorbell which;
		uint8_t dstrd;
		uint32_t offset;
	} known[] = {
		{ 0, NVME_DB_SQ_TAIL, 0, 0x1000 }, { 0, NVME_DB_CQ_HEAD, 0, 0x1004 },
		{ 1, NVME_DB_SQ_TAIL, 0, 0x1008 }, { 1, NVME_DB_CQ_HEAD, 0, 0x100c },
		{ 7, NVME_DB_CQ_HEAD, 0, 0x103c }, { 1, NVME_DB_SQ_TAIL, 1, 0x1010 },
		{ 1, NVME_DB_CQ_HEAD, 1, 0x1018 }, { 2, NVME_DB_SQ_TAIL, 4, 0x1100 },
		{ UINT16_MAX, NVME_DB_CQ_HEAD, 0, 0x1000 + 131071 * 4 },
		{ 1, NVME_DB_SQ_TAIL, 15, 0x1000 + 2 * 0x20000 },
	};
	uint32_t stride, offset;
	unsigned int dstrd;
	uint16_t qid;
	size_t i;

	for (i = 0; i < DIM(known); i++)
		EXPECT(nvme_doorbell_offset(known[i].qid, known[i].which, known[i].dstrd),
				known[i].offset);

	/* in order, none shared, a stride apart: for each value that CAP.DSTRD can have */
	for (dstrd = 0; dstrd <= NVME_CAP_DSTRD_MASK; dstrd++) {
		stride = UINT32_C(4) << dstrd;
		offset = NVME_REG_DBS;
		for (qid = 0; qid < 64; qid++) {
			EXPECT(nvme_doorbell_offset(qid, NVME_DB_SQ_TAIL, dstrd), offset);
			EXPECT(nvme_doorbell_offset(qid, NVME_DB_CQ_HEAD, dstrd), offset + stride);
			offset += 2 * stride;
		}
	}
}

static void
status_is_type_and_code(void)
{
	/* phase, do-not-retry, more and CID are no part of it */
	EXPECT(nvme_cqe_status(0), 0);
	EXPECT(nvme_cqe_status(0x0001ffff), 0);
	EXPECT(nvme_cqe_status(0x80000000u), 0);
	EXPECT(nvme_cqe_status(0x70000000u), 0);
	/* Invalid Field in Command, and the limit of event requests, and a failed Compare */
	EXPECT(nvme_cqe_status(0x02 << 17), NVME_STATUS(NVME_SCT_GENERIC, 0x02));
	EXPECT(nvme_cqe_status(0x80000000u | 1 << 25 | 0x05 << 17),
			NVME_STATUS(NVME_SCT_COMMAND_SPECIFIC, NVME_SC_SPECIFIC_ASYNC_LIMIT));
	EXPECT(nvme_cqe_status(2 << 25 | 0x85 << 17 | 1 << 16 | 42),
			NVME_STATUS(NVME_SCT_MEDIA, NVME_SC_MEDIA_COMPARE_FAILURE));
	EXPECT(nvme_cqe_status(UINT32_MAX), 0x7ff);
	EXPECT(NVME_GET(0xfffe002au, NVME_CQE_CID), 42);
}

static void
event_has_type_info_and_log(void)
{
	struct nvme_event event = nvme_event_decode(0x00010100, 1 << 16 | 0xff00);

	EXPECT(event.type, NVME_AER_TYPE_ERROR);
	EXPECT(event.info, NVME_AER_INFO_INVALID_DB_VALUE);
	EXPECT(event.lid, NVME_LID_ERROR_INFORMATION);
	EXPECT(event.status, 0);

	event = nvme_event_decode(UINT32_MAX, 0);
	EXPECT(event.type, 7);
	EXPECT(event.info, 0xff);
	EXPECT(event.lid, 0xff);

	event = nvme_event_decode(0x00020305, 0);
	EXPECT(event.type, 5);
	EXPECT(event.info, 3);
	EXPECT(event.lid, 2);

	event = nvme_event_decode(0, 1 << 25 | 0x05 << 17);
	EXPECT(event.status, 0x105);
}

static void
fields_go_in_and_out(void)
{
	/* a CAP as of QEMU: MQES 2047, CQR, TO 15, CSS c1h, MPSMAX 4 */
	const uint64_t cap = UINT64_C(0x004018200f0107ff);

	EXPECT(NVME_GET(cap, NVME_CAP_MQES), 2047);
	EXPECT(NVME_GET(cap, NVME_CAP_TO), 15);
	EXPECT(NVME_GET(cap, NVME_CAP_DSTRD), 0);
	EXPECT(NVME_GET(cap, NVME_CAP_CSS), 0xc1);
	EXPECT(NVME_GET(cap, NVME_CAP_MPSMIN), 0);
	EXPECT(NVME_GET(UINT64_MAX, NVME_CAP_DSTRD), 15);
	EXPECT(NVME_GET(UINT64_C(1) << 35, NVME_CAP_DSTRD), 8);

	EXPECT(NVME_SET(1, NVME_CC_EN) | NVME_SET(6, NVME_CC_IOSQES) |
			NVME_SET(4, NVME_CC_IOCQES), 0x460001);
	EXPECT(NVME_SET(NVME_CC_SHN_NORMAL, NVME_CC_SHN), 0x4000);
	/* what does not fit does not spill over */
	EXPECT(NVME_SET(0x1f, NVME_CC_IOSQES), 0xf0000);
	EXPECT(NVME_SET(UINT32_MAX, NVME_AQA_ACQS), 0x0fff0000);
	EXPECT(NVME_SET(UINT32_MAX, NVME_CDW10_QSIZE), 0xffff0000u);
}

static void
ready_timeout_is_never_zero(void)
{
	EXPECT(nvme_ready_timeout_ms(0), 500);
	EXPECT(nvme_ready_timeout_ms(UINT64_C(15) << NVME_CAP_TO_SHIFT), 8000);
	EXPECT(nvme_ready_timeout_ms(UINT64_MAX), 128000);
}

int
main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = {
#define TEST(name) { #name, name }
		TEST(index_wraps_at_the_size),
		TEST(full_queue_keeps_one_entry_free),
		TEST(phase_follows_the_controller),
		TEST(phase_is_one_bit_among_others),
		TEST(doorbells_of_each_stride),
		TEST(status_is_type_and_code),
		TEST(event_has_type_info_and_log),
		TEST(fields_go_in_and_out),
		TEST(ready_timeout_is_never_zero),
	};
	unsigned int failed = 0;
	size_t i;

	printf("1..%zu\n", DIM(tests));
	for (i = 0; i < DIM(tests); i++) {
		failures = 0;
		tests[i].run();
		failed += failures > 0;
		printf("%sok %zu - %s\n", failures > 0 ? "not " : "", i + 1, tests[i].name);
	}
	return failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
