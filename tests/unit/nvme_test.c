/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Unit test of app/test/nvme_ctrl.c on a controller that this file imitates: no
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

static unsigned int failures; /* in the current test */
static struct nvme_ctrl ctrl; /* brought up before each test */

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
full_queue_keeps_one_entry_free(void)
{
	const struct nvme_sqe cmd = { .opc = NVME_ADMIN_IDENTIFY };
	struct nvme_sqe entries[40];
	struct nvme_qpair qp = { .sq = entries };
	unsigned int head, posted;

	for (qp.size = 2; qp.size < RTE_DIM(entries); qp.size++) {
		for (head = 0; head < qp.size; head++) {
			qp.sq_head = qp.sq_tail = head;
			for (posted = 0; nvme_sq_post(&qp, &cmd) == 0; posted++)
				;
			EXPECT(posted, qp.size - 1u);
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
	uint16_t post, written, taken;
	struct nvme_cqe queue[16], cqe;
	struct nvme_qpair qp;
	uint8_t ctrl_phase;
	unsigned int size, pass;

	for (size = 2; size <= RTE_DIM(queue); size++) {
		/* All bits of an entry are set but the phase: only that one counts. */
		memset(queue, 0xff, sizeof(queue));
		for (post = 0; post < size; post++)
			queue[post].dw3 = ~NVME_CQE_P;
		qp = (struct nvme_qpair){ .size = size, .phase = 1, .cq = queue };
		post = 0;
		ctrl_phase = 1;
		for (pass = 0; pass < 100; pass++) {
			/* bursts of all lengths that the queue can hold */
			for (written = 0; written <= pass % (size - 1); written++) {
				queue[post].dw3 = NVME_SET((uint32_t)ctrl_phase, NVME_CQE_P);
				if (++post == size) {
					post = 0;
					ctrl_phase ^= 1;
				}
			}
			for (taken = 0; taken <= size && nvme_cq_take(&qp, &cqe); taken++)
				;
			EXPECT(taken, written);
			EXPECT(qp.cq_head, post);
			EXPECT(qp.phase, ctrl_phase);
		}
	}
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
	size_t i;

	for (i = 0; i < RTE_DIM(known); i++) {
		ctrl.cap = ~NVME_CAP_DSTRD | NVME_SET((uint64_t)known[i].dstrd, NVME_CAP_DSTRD);
		EXPECT(nvme_doorbell(&ctrl, known[i].qid, known[i].which), known[i].offset);
	}
}

static void
fields_go_in_and_out(void)
{
	/* a CAP as of QEMU: MQES 2047, CQR, TO 15, CSS c1h, MPSMAX 4 */
	const uint64_t cap = UINT64_C(0x004018200f0107ff);
	const struct {
		uint64_t got, expected;
	} known[] = {
		{ NVME_GET(cap, NVME_CAP_MQES), 2047 }, { NVME_GET(cap, NVME_CAP_TO), 15 },
		{ NVME_GET(cap, NVME_CAP_DSTRD), 0 }, { NVME_GET(cap, NVME_CAP_CSS_NVM), 1 },
		{ NVME_GET(cap, NVME_CAP_MPSMIN), 0 },
		{ NVME_GET(UINT64_MAX, NVME_CAP_DSTRD), 15 },
		{ NVME_GET(UINT64_C(1) << 35, NVME_CAP_DSTRD), 8 },
		{ NVME_GET(UINT64_C(1) << 59, NVME_CAP_CRMS), 1 },
		{ NVME_CC_EN | NVME_SET(6, NVME_CC_IOSQES) | NVME_SET(4, NVME_CC_IOCQES), 0x460001 },
		{ NVME_SET(NVME_CC_SHN_NORMAL, NVME_CC_SHN), 0x4000 },
		/* what does not fit does not spill over */
		{ NVME_SET(0x1f, NVME_CC_IOSQES), 0xf0000 },
		{ NVME_SET(UINT32_MAX, NVME_CDW10_QSIZE), 0xffff0000u },
		/* phase, do-not-retry, more and CID are no part of a status */
		{ NVME_GET(0xf001ffffu, NVME_CQE_STATUS), 0 },
		{ NVME_GET(0x80000000u | 1 << 25 | 0x05 << 17, NVME_CQE_STATUS), 0x105 },
		{ NVME_GET(UINT32_MAX, NVME_CQE_STATUS), 0x7ff },
		{ NVME_GET(0xfffe002au, NVME_CQE_CID), 42 },
	};
	size_t i;

	for (i = 0; i < RTE_DIM(known); i++)
		EXPECT(known[i].got, known[i].expected);
}

/*
 * A controller, as far as nvme_ctrl.c looks. IOVA are the addresses of this process. Time passes
 * with each look at the clock.
 */
static struct {
	uint16_t head, written; /* of the admin queues */
	uint8_t phase;
	uint32_t active[3];     /* namespaces */
	uint32_t nn;
	struct nvme_lbaf format;
	uint8_t flbas;
	uint64_t blocks;
	bool gone, never_shuts_down, stays_ready;
	unsigned int lists_asked, writes, event_after, event_status, log_page, settle;
} fake;
static uint32_t fake_bar[(1 << 13) / sizeof(uint32_t)];
#define REG(offset) fake_bar[(offset) / sizeof(uint32_t)]
static uint64_t fake_now;
static uint64_t fake_quiet_until; /* a register read before that hangs the drive */

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

static uintptr_t
fake_queue(enum nvme_reg reg)
{
	return REG(reg) | (uintptr_t)REG(reg + 4) << 32;
}

static void
fake_complete(uint16_t cid, uint32_t dw0, uint16_t status)
{
	struct nvme_cqe *cqe = (struct nvme_cqe *)fake_queue(NVME_REG_ACQ) + fake.written;

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
		return REG(NVME_REG_VS) >= NVME_VERSION(1, 1) ? 0 : 0x02;
	}
	for (i = 0; i < RTE_DIM(fake.active); i++) {
		if (fake.active[i] == cmd->nsid) {
			ns->nsze = fake.blocks;
			ns->flbas = fake.flbas;
			ns->lbaf[(fake.flbas & 0xf) | (fake.flbas >> 1 & 0x30)] = fake.format;
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
		cmd = (struct nvme_sqe *)fake_queue(NVME_REG_ASQ) + fake.head;
		fake.head = (fake.head + 1) % NVME_QUEUE_SIZE;
		if (cmd->opc == NVME_ADMIN_ASYNC_EVENT)
			continue;
		if (fake.event_after != 0 && --fake.event_after == 0)
			fake_complete(NVME_AER_CID, 0x00020102, fake.event_status);
		if (cmd->opc == NVME_ADMIN_GET_LOG_PAGE)
			fake.log_page = cmd->cdw10 & 0xff;
		status = cmd->opc == NVME_ADMIN_IDENTIFY ? fake_identify(cmd) : 0;
		fake_complete(cmd->cid, 0x00030003, status);
	}
}

uint32_t
rte_read32(const volatile void *addr)
{
	EXPECT(fake_now < fake_quiet_until, false);
	return fake.gone ? UINT32_MAX : *(const volatile uint32_t *)addr;
}

void
rte_write32(uint32_t value, volatile void *addr)
{
	const bool enabled = REG(NVME_REG_CC) & NVME_CC_EN, enable = value & NVME_CC_EN;

	fake.writes++;
	*(volatile uint32_t *)addr = value;
	if (addr == &REG(NVME_REG_DBS))
		fake_fetch(value);
	if (addr != &REG(NVME_REG_CC))
		return;
	if (enable && !enabled) {
		fake.head = fake.written = 0;
		fake.phase = 1;
	}
	if (!enable && enabled)
		fake_quiet_until = fake_now + fake.settle;
	REG(NVME_REG_CSTS) = enable || fake.stays_ready;
	if (NVME_GET(value, NVME_CC_SHN) && !fake.never_shuts_down)
		REG(NVME_REG_CSTS) |= NVME_SET(NVME_CSTS_SHST_COMPLETE, NVME_CSTS_SHST);
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
	memset(fake_bar, 0, sizeof(fake_bar));
	REG(NVME_REG_CAP) = 0x0f0107ff;
	REG(NVME_REG_CAP + 4) = NVME_CAP_CSS_NVM >> 32;
	REG(NVME_REG_VS) = version;
	fake.nn = 4;
	fake.active[0] = 1;
	fake.format.lbads = 9;
	fake.flbas = 1;
	fake.blocks = 1 << 15;
}

static void
ready_timeout_is_never_zero(void)
{
	static const struct {
		uint32_t to, crms, crto, ms;
	} known[] = {
		{ 0, 0, 0x1f, 5000 }, { 15, 0, 0xff, 8000 }, { 0xff, 0, 0, 128000 },
		/* CRTO may tell more, and has another field above */
		{ 15, 1, 0xffff001f, 16000 },
	};
	struct nvme_ctrl other;
	size_t i;

	for (i = 0; i < RTE_DIM(known); i++) {
		fake_reset(NVME_VERSION(2, 0));
		REG(NVME_REG_CAP) = NVME_SET(known[i].to, (uint32_t)NVME_CAP_TO);
		REG(NVME_REG_CAP + 4) |= known[i].crms << 27;
		REG(NVME_REG_CRTO) = known[i].crto;
		EXPECT(nvme_ctrl_init(&other, "fake", fake_bar, 1), 0);
		EXPECT(other.ready_ms, known[i].ms);
	}
}

static void
unsuitable_namespaces_are_told_from_failures(void)
{
	static const struct {
		uint32_t nsid;
		uint8_t lbads, flbas;
		uint16_t ms;
		uint64_t blocks;
		int ret;
	} drives[] = {
		{ 1, 9, 0, 0, 1 << 15, 0 }, { 3, 12, 15, 0, 1 << 12, 0 },
		/* bits 6:5 are the upper part of the format's index; 4 is no part of it */
		{ 1, 9, 0x23, 0, 1 << 15, 0 }, { 1, 12, 0x10, 0, 1 << 15, 0 },
		{ 0, 9, 1, 0, 1 << 15, -ENOTSUP }, { 1, 9, 1, 8, 1 << 15, -ENOTSUP },
		{ 1, 13, 1, 0, 1 << 12, -ENOTSUP }, { 1, 8, 1, 0, 1 << 15, -ENOTSUP },
		{ 1, 9, 1, 0, 8, -ENOTSUP },
	};
	struct nvme_ctrl other;
	unsigned int minor;
	size_t i;

	for (i = 0; i < RTE_DIM(drives) * 2; i++) {
		minor = i % 2;
		fake_reset(NVME_VERSION(1, minor));
		fake.active[0] = drives[i / 2].nsid;
		fake.format.lbads = drives[i / 2].lbads;
		fake.format.ms = drives[i / 2].ms;
		fake.flbas = drives[i / 2].flbas;
		fake.blocks = drives[i / 2].blocks;
		EXPECT(fake_bring_up(&other), drives[i / 2].ret);
		if (drives[i / 2].ret == 0) {
			EXPECT(other.nsid, drives[i / 2].nsid);
			EXPECT(other.io_queues, 4);
		}
		/* Version 1.0 has no list of namespaces. */
		EXPECT(fake.lists_asked, minor);
		/* and it can be left disabled */
		EXPECT(nvme_shutdown(&other), 0);
		EXPECT(REG(NVME_REG_CC) & 1, 0);
		nvme_ctrl_free(&other);
	}
	fake_reset(NVME_VERSION(1, 4));
	REG(NVME_REG_CAP + 4) = 0;
	EXPECT(nvme_ctrl_init(&other, "fake", fake_bar, 1), -ENOTSUP);
	EXPECT(nvme_disable(&other), 0);
}

static void
nothing_is_written_to_a_device_that_is_gone(void)
{
	struct nvme_ctrl other;

	fake.gone = true;
	fake.writes = 0;
	EXPECT(nvme_disable(&ctrl), -ENODEV);
	EXPECT(nvme_shutdown(&ctrl), -ENODEV);
	EXPECT(nvme_ctrl_init(&other, "fake", fake_bar, 1), -ENODEV);
	EXPECT(fake.writes, 0);
}

static void
shutdown_that_never_completes_ends_disabled(void)
{
	fake.never_shuts_down = true;
	EXPECT(nvme_shutdown(&ctrl), 0);
	EXPECT(REG(NVME_REG_CC) & 1, 0);

	EXPECT(nvme_bring_up(&ctrl), 0);
	fake.stays_ready = true;
	EXPECT(nvme_shutdown(&ctrl), -ETIMEDOUT);
	EXPECT(REG(NVME_REG_CC) & 1, 0);
}

static void
no_register_is_read_while_a_drive_settles(void)
{
	fake.settle = ctrl.settle_ms = 2500;
	EXPECT(nvme_disable(&ctrl), 0);
}

static void
a_read_of_nothing_is_noticed(void)
{
	const struct nvme_mem buf = nvme_buf(&ctrl, 1), expected = nvme_buf(&ctrl, NVME_BUFS - 1);
	struct nvme_qpair qp;

	memset(expected.addr, 0x5a, NVME_BUF_SIZE);
	nvme_spoil(&ctrl, 1, NVME_BUFS - 1);
	EXPECT(nvme_compare(&ctrl, 0, 1, NVME_BUFS - 1), -EILSEQ);
	memcpy(buf.addr, expected.addr, NVME_BUF_SIZE);
	EXPECT(nvme_compare(&ctrl, 0, 1, NVME_BUFS - 1), 0);
	((uint8_t *)buf.addr)[NVME_BUF_SIZE - 1] ^= 1;
	EXPECT(nvme_compare(&ctrl, 0, 1, NVME_BUFS - 1), -EILSEQ);
	/* The buffers begin where the memory of the last queue pair ends. */
	EXPECT(nvme_qpair_init(&ctrl, &qp, NVME_QUEUES + 1), -EINVAL);
	EXPECT(nvme_qpair_init(&ctrl, &qp, NVME_QUEUES), 0);
	EXPECT((uint8_t *)qp.mem.addr + 2 * ctrl.page_size, ctrl.buf.addr);
}

static void
events_and_failures_end_a_wait(void)
{
	uint32_t dw0 = 0;

	EXPECT(nvme_aer_arm(&ctrl), 0);
	EXPECT(nvme_aer_wait(&ctrl, 0, &dw0), -ETIMEDOUT);
	EXPECT(ctrl.aer_armed, true);
	/* It comes between a command and its completion, and is kept. */
	fake.event_after = 1;
	EXPECT(nvme_identify(&ctrl, NVME_CNS_CONTROLLER, 0), 0);
	EXPECT(ctrl.aer_armed, false);
	EXPECT(nvme_aer_wait(&ctrl, 0, &dw0), 0);
	EXPECT(dw0, 0x00020102);
	EXPECT(fake.log_page, 2);
	/* A request that fails is no event. */
	EXPECT(nvme_aer_arm(&ctrl), 0);
	fake.event_after = 1;
	fake.event_status = 0x105;
	EXPECT(nvme_identify(&ctrl, NVME_CNS_CONTROLLER, 0), 0);
	EXPECT(nvme_aer_wait(&ctrl, 0, &dw0), -EIO);

	REG(NVME_REG_CSTS) = NVME_CSTS_CFS;
	EXPECT(nvme_aer_wait(&ctrl, 100000, &dw0), -ENODEV);
	REG(NVME_REG_CSTS) = 0;
	EXPECT(nvme_wait(&ctrl, &ctrl.admin, "nothing", 1, 10), -ENODEV);
	REG(NVME_REG_CSTS) = NVME_CSTS_RDY;
	EXPECT(nvme_wait(&ctrl, &ctrl.admin, "nothing", 1, 10), -ETIMEDOUT);
}

int
main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = {
#define TEST(name) { #name, name }
		TEST(full_queue_keeps_one_entry_free),
		TEST(phase_follows_the_controller),
		TEST(doorbells_of_each_stride),
		TEST(fields_go_in_and_out),
		TEST(ready_timeout_is_never_zero),
		TEST(unsuitable_namespaces_are_told_from_failures),
		TEST(nothing_is_written_to_a_device_that_is_gone),
		TEST(shutdown_that_never_completes_ends_disabled),
		TEST(no_register_is_read_while_a_drive_settles),
		TEST(a_read_of_nothing_is_noticed),
		TEST(events_and_failures_end_a_wait),
	};
	unsigned int failed = 0;
	size_t i;

	printf("1..%zu\n", RTE_DIM(tests));
	for (i = 0; i < RTE_DIM(tests); i++) {
		failures = 0;
		fake_reset(NVME_VERSION(1, 4));
		EXPECT(fake_bring_up(&ctrl), 0);
		tests[i].run();
		nvme_ctrl_free(&ctrl);
		failed += failures > 0;
		printf("%sok %zu - %s\n", failures > 0 ? "not " : "", i + 1, tests[i].name);
	}
	return failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
