/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Unit test of app/test/nvme_regs.h and nvme_ctrl.c on a controller that this file imitates: no
 * device, no DPDK. Prints TAP; the exit code is 0 when all pass.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_dpdk.h"
/* Its DPDK headers are empty files of the build. */
#include "nvme_ctrl.c"

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
	EXPECT(nvme_cqe_status(0x02 << 17), 0x002);
	EXPECT(nvme_cqe_status(0x80000000u | 1 << 25 | 0x05 << 17), 0x105);
	EXPECT(nvme_cqe_status(2 << 25 | 0x85 << 17 | 1 << 16 | 42), 0x285);
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
	EXPECT(nvme_ready_timeout_ms(0, 0), 500);
	EXPECT(nvme_ready_timeout_ms(UINT64_C(15) << NVME_CAP_TO_SHIFT, 0), 8000);
	EXPECT(nvme_ready_timeout_ms(UINT64_MAX, 0), 128000);
	/* CRTO may tell more, and has another field above */
	EXPECT(nvme_ready_timeout_ms(UINT64_C(15) << NVME_CAP_TO_SHIFT, 0xffff001f), 16000);
}

static void
format_index_has_six_bits(void)
{
	EXPECT(nvme_flbas_index(0x0f), 15);
	EXPECT(nvme_flbas_index(0x10), 0); /* metadata in the data, no part of the index */
	EXPECT(nvme_flbas_index(0x23), 16 + 3);
	EXPECT(nvme_flbas_index(0xff), 63);
}

/*
 * A controller, as far as nvme_ctrl.c looks. IOVA are the addresses of this process. Time passes
 * with each look at the clock.
 */
static struct {
	uint32_t cap_low, cap_high, version, cc, csts, crto;
	uint64_t asq, acq;
	uint16_t head, written; /* of the admin queues */
	uint8_t phase;
	uint32_t active[3];     /* namespaces */
	uint32_t nn;
	struct nvme_lbaf format;
	uint64_t blocks;
	bool gone, never_shuts_down, stays_ready;
	unsigned int lists_asked, writes, event_after;
} fake;
static uint8_t fake_bar[1 << 13];
static uint64_t fake_now;

uint64_t
rte_get_timer_cycles(void)
{
	return fake_now++;
}

void
rte_delay_us_sleep(unsigned int us)
{
	fake_now += us / 1000;
}

static void
fake_complete(uint16_t cid, uint32_t dw0, uint16_t status)
{
	struct nvme_cqe *cqe = (struct nvme_cqe *)(uintptr_t)fake.acq + fake.written;

	cqe->dw0 = dw0;
	cqe->sqhd = fake.head;
	cqe->dw3 = cid | (uint32_t)fake.phase << 16 | (uint32_t)status << 17;
	if (++fake.written == NVME_QUEUE_SIZE) {
		fake.written = 0;
		fake.phase ^= 1;
	}
}

static uint16_t
fake_identify(const struct nvme_sqe *cmd)
{
	struct nvme_id_ctrl *id = (void *)(uintptr_t)cmd->prp1;
	struct nvme_id_ns *ns = (void *)(uintptr_t)cmd->prp1;
	unsigned int i;

	switch (cmd->cdw10) {
	case NVME_CNS_CONTROLLER:
		id->nn = fake.nn;
		return 0;
	case NVME_CNS_ACTIVE_NAMESPACES:
		fake.lists_asked++;
		memcpy(ns, fake.active, sizeof(fake.active));
		return fake.version >= NVME_VERSION(1, 1) ? 0 : 0x02;
	}
	for (i = 0; i < DIM(fake.active); i++) {
		if (fake.active[i] == cmd->nsid) {
			ns->nsze = fake.blocks;
			ns->flbas = 1;
			ns->lbaf[1] = fake.format;
		}
	}
	return 0;
}

static void
fake_fetch(uint16_t tail)
{
	const struct nvme_sqe *cmd;
	uint16_t status;

	while (fake.head != tail) {
		cmd = (struct nvme_sqe *)(uintptr_t)fake.asq + fake.head;
		fake.head = (fake.head + 1) % NVME_QUEUE_SIZE;
		if (cmd->opc == NVME_ADMIN_ASYNC_EVENT)
			continue;
		if (fake.event_after != 0 && --fake.event_after == 0)
			fake_complete(NVME_AER_CID, 0x00020102, 0);
		status = cmd->opc == NVME_ADMIN_IDENTIFY ? fake_identify(cmd) : 0;
		fake_complete(cmd->cid, 0x00030003, status);
	}
}

uint32_t
rte_read32(const volatile void *addr)
{
	if (fake.gone)
		return UINT32_MAX;
	switch ((const volatile uint8_t *)addr - fake_bar) {
	case NVME_REG_CAP:
		return fake.cap_low;
	case NVME_REG_CAP + 4:
		return fake.cap_high;
	case NVME_REG_VS:
		return fake.version;
	case NVME_REG_CC:
		return fake.cc;
	case NVME_REG_CSTS:
		return fake.csts;
	case NVME_REG_CRTO:
		return fake.crto;
	}
	return 0;
}

void
rte_write32(uint32_t value, volatile void *addr)
{
	fake.writes++;
	switch ((volatile uint8_t *)addr - fake_bar) {
	case NVME_REG_CC:
		if ((value & 1) && !(fake.cc & 1)) {
			fake.head = fake.written = 0;
			fake.phase = 1;
		}
		fake.cc = value;
		fake.csts = (value & 1) || fake.stays_ready;
		if (NVME_GET(value, NVME_CC_SHN) && !fake.never_shuts_down)
			fake.csts |= NVME_SET(NVME_CSTS_SHST_COMPLETE, NVME_CSTS_SHST);
		break;
	case NVME_REG_ASQ:
		fake.asq = (fake.asq & ~(uint64_t)UINT32_MAX) | value;
		break;
	case NVME_REG_ASQ + 4:
		fake.asq = (uint32_t)fake.asq | (uint64_t)value << 32;
		break;
	case NVME_REG_ACQ:
		fake.acq = (fake.acq & ~(uint64_t)UINT32_MAX) | value;
		break;
	case NVME_REG_ACQ + 4:
		fake.acq = (uint32_t)fake.acq | (uint64_t)value << 32;
		break;
	case NVME_REG_DBS:
		fake_fetch(value);
		break;
	}
}

/* A controller with namespace 1, of 512-byte blocks; bring it up. */
static int
fake_bring_up(struct nvme_ctrl *ctrl)
{
	const int ret = nvme_ctrl_init(ctrl, "fake", fake_bar, 1);

	return ret != 0 ? ret : nvme_bring_up(ctrl);
}

static void
fake_reset(uint32_t version)
{
	memset(&fake, 0, sizeof(fake));
	fake.cap_low = 0x0f0107ff;
	fake.cap_high = NVME_CAP_CSS_NVM << (NVME_CAP_CSS_SHIFT - 32);
	fake.version = version;
	fake.nn = 4;
	fake.active[0] = 1;
	fake.format.lbads = 9;
	fake.blocks = 1 << 15;
}

static void
version_1_0_has_no_list_of_namespaces(void)
{
	struct nvme_ctrl ctrl;

	fake_reset(NVME_VERSION(1, 0));
	fake.active[0] = 3;
	EXPECT(fake_bring_up(&ctrl), 0);
	EXPECT(ctrl.nsid, 3);
	EXPECT(fake.lists_asked, 0);
	EXPECT(ctrl.io_queues, 4);
	nvme_ctrl_free(&ctrl);

	fake_reset(NVME_VERSION(1, 1));
	fake.active[0] = 3;
	EXPECT(fake_bring_up(&ctrl), 0);
	EXPECT(ctrl.nsid, 3);
	EXPECT(fake.lists_asked, 1);
	nvme_ctrl_free(&ctrl);
}

static void
unsuitable_namespaces_are_told_from_failures(void)
{
	static const struct {
		uint32_t nsid;
		uint8_t lbads;
		uint16_t ms;
		uint64_t blocks;
		int ret;
	} drives[] = {
		{ 1, 9, 0, 1 << 15, 0 }, { 1, 12, 0, 1 << 12, 0 },
		{ 0, 9, 0, 1 << 15, -ENOTSUP }, { 1, 9, 8, 1 << 15, -ENOTSUP },
		{ 1, 13, 0, 1 << 12, -ENOTSUP }, { 1, 8, 0, 1 << 15, -ENOTSUP },
		{ 1, 9, 0, 8, -ENOTSUP },
	};
	struct nvme_ctrl ctrl;
	unsigned int v;
	size_t i;

	for (i = 0; i < DIM(drives); i++) {
		for (v = 0; v < 2; v++) {
			fake_reset(NVME_VERSION(1, v));
			fake.active[0] = drives[i].nsid;
			fake.format.lbads = drives[i].lbads;
			fake.format.ms = drives[i].ms;
			fake.blocks = drives[i].blocks;
			EXPECT(fake_bring_up(&ctrl), drives[i].ret);
			/* and it can be left disabled */
			EXPECT(nvme_shutdown(&ctrl), 0);
			EXPECT(fake.cc & 1, 0);
			nvme_ctrl_free(&ctrl);
		}
	}
	fake_reset(NVME_VERSION(1, 4));
	fake.cap_high = 0;
	EXPECT(nvme_ctrl_init(&ctrl, "fake", fake_bar, 1), -ENOTSUP);
	EXPECT(nvme_disable(&ctrl), 0);
}

static void
nothing_is_written_to_a_device_that_is_gone(void)
{
	struct nvme_ctrl ctrl, other;

	fake_reset(NVME_VERSION(1, 4));
	EXPECT(fake_bring_up(&ctrl), 0);
	fake.gone = true;
	fake.writes = 0;
	EXPECT(nvme_disable(&ctrl), -ENODEV);
	EXPECT(nvme_shutdown(&ctrl), -ENODEV);
	EXPECT(nvme_ctrl_init(&other, "fake", fake_bar, 1), -ENODEV);
	EXPECT(fake.writes, 0);
	nvme_ctrl_free(&ctrl);
}

static void
shutdown_that_never_completes_ends_disabled(void)
{
	struct nvme_ctrl ctrl;

	fake_reset(NVME_VERSION(1, 4));
	EXPECT(fake_bring_up(&ctrl), 0);
	fake.never_shuts_down = true;
	EXPECT(nvme_shutdown(&ctrl), 0);
	EXPECT(fake.cc & 1, 0);

	EXPECT(nvme_enable(&ctrl), 0);
	fake.stays_ready = true;
	EXPECT(nvme_shutdown(&ctrl), -ETIMEDOUT);
	EXPECT(fake.cc & 1, 0);
	nvme_ctrl_free(&ctrl);
}

static void
events_and_failures_end_a_wait(void)
{
	struct nvme_event event;
	struct nvme_ctrl ctrl;

	fake_reset(NVME_VERSION(1, 4));
	EXPECT(fake_bring_up(&ctrl), 0);
	EXPECT(nvme_aer_arm(&ctrl), 0);
	EXPECT(nvme_aer_poll(&ctrl, &event, 0), -ETIMEDOUT);
	EXPECT(ctrl.aer_armed, true);
	/* It comes between a command and its completion, and is kept. */
	fake.event_after = 1;
	EXPECT(nvme_identify(&ctrl, NVME_CNS_CONTROLLER, 0), 0);
	EXPECT(ctrl.aer_armed, false);
	EXPECT(nvme_aer_poll(&ctrl, &event, 0), 0);
	EXPECT(event.type << 16 | event.info << 8 | event.lid, 2 << 16 | 1 << 8 | 2);

	fake.csts = 1 << NVME_CSTS_CFS_SHIFT;
	EXPECT(nvme_aer_poll(&ctrl, &event, 100000), -ENODEV);
	fake.csts = 0;
	EXPECT(nvme_wait(&ctrl, &ctrl.admin, "nothing", 1, NULL), -ENODEV);
	fake.csts = 1;
	EXPECT(nvme_wait(&ctrl, &ctrl.admin, "nothing", 1, NULL), -ETIMEDOUT);
	nvme_ctrl_free(&ctrl);
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
		TEST(format_index_has_six_bits),
		TEST(version_1_0_has_no_list_of_namespaces),
		TEST(unsuitable_namespaces_are_told_from_failures),
		TEST(nothing_is_written_to_a_device_that_is_gone),
		TEST(shutdown_that_never_completes_ends_disabled),
		TEST(events_and_failures_end_a_wait),
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
