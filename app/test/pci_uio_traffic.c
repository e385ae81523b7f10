/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* I/O of secondaries, events, resets and interrupts of an NVMe controller. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_interrupts.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_test.h"

/* Reads that prove that a secondary goes on reading. */
#define UIO_READS 50
#define UIO_READS_TIMEOUT_MS 10000
/* Time for an event that a controller may not raise at all. */
#define UIO_EVENT_MS 2000
/* Resets to find commands in flight; a controller may complete all before CC.EN 0 reaches it. */
#define UIO_RESETS_MAX 5

static bool
create_queue(struct uio_dev *dev, struct nvme_qpair *qp, uint16_t qid)
{
	return uio_ok() && uio_expect_io(dev, nvme_qpair_create(&dev->ctrl, qp, qid),
			"a queue pair to be created");
}

static bool
delete_queue(struct uio_dev *dev, struct nvme_qpair *qp)
{
	return uio_ok() && uio_expect_io(dev, nvme_qpair_delete(&dev->ctrl, qp),
			"the queue pair to be deleted");
}

/*
 * Write a wrong value to the SQ tail doorbell of a queue, and wait for the event that it raises.
 * Other events may come first: their log pages are read, which lets further ones come.
 */
static int
violate(struct uio_dev *dev, uint16_t qid, uint32_t value, uint32_t info)
{
	const uint32_t expected = NVME_AER_TYPE_ERROR | NVME_SET(info, NVME_AER_INFO) |
		NVME_SET(NVME_LID_ERROR, NVME_AER_LID);
	struct nvme_ctrl *ctrl = &dev->ctrl;
	uint32_t dw0 = 0;
	int tries, ret = 0;

	for (tries = 0; tries < 4 && ret == 0; tries++) {
		/* A time-out of this is not a missing event. */
		if (nvme_aer_arm(ctrl) != 0)
			return -EIO;
		/* The violation. */
		nvme_reg_write(ctrl, nvme_doorbell(ctrl, qid, NVME_DB_SQ_TAIL), value);
		ret = nvme_aer_wait(ctrl, UIO_EVENT_MS * uio_settings.time_scale, &dw0);
		if (ret == 0 && (dw0 & (NVME_AER_TYPE | NVME_AER_INFO | NVME_AER_LID)) == expected)
			return 0;
	}
	return ret != 0 ? ret : nvme_fail(ctrl, -EIO, "other events only, the last 0x%08x", dw0);
}

/* What a wrong doorbell write does is not defined (NVMe over PCIe Transport, 3.1.2.1). */
static bool
may_be_undefined(const struct uio_dev *dev)
{
	return dev->emulated || uio_settings.undefined ||
		uio_skip("undefined doorbell writes only on QEMU's controllers, or with "
				UIO_ENV "UNDEFINED=1");
}

/* A wrong doorbell write raises its event after a secondary as before. */
static void
case_event(struct uio_dev *dev)
{
	const uint32_t info = uio_current->args.arg;
	const bool has_queue = info == NVME_AER_INVALID_DB_VALUE;
	/* One that the controller grants, or its doorbell may not exist, and that no case uses. */
	const uint16_t qid = has_queue ? UIO_QID_A : dev->ctrl.io_queues;
	struct nvme_qpair qp = { .size = 1 };
	int ret;

	/* Without events from before. */
	if (!may_be_undefined(dev) || !uio_recovered(dev))
		return;
	if (has_queue)
		create_queue(dev, &qp, qid);
	ret = uio_ok() ? violate(dev, qid, qp.size, info) : 0;
	if (ret == -ETIMEDOUT && uio_recovered(dev))
		uio_skip("%s raises no event for this", dev->name);
	uio_expect_io(dev, ret, "an event before a secondary");
	uio_run_secondary(dev, 0, "return");
	if (uio_check_bus_master(dev))
		uio_expect_io(dev, violate(dev, qid, qp.size, info),
				"the same event after a secondary");
	if (has_queue)
		delete_queue(dev, &qp);
}

/* A secondary that reads on a queue pair which the primary has created for it. */
static bool
start_reader(struct uio_dev *dev, unsigned int slot, struct nvme_qpair *qp, uint16_t qid)
{
	const struct uio_spawn_args args = { .arg = qid };

	return create_queue(dev, qp, qid) && uio_start(dev, slot, "reads", &args, UIO_STATE_DONE);
}

bool
uio_expect_reads(unsigned int slot)
{
	const struct uio_peer *peer = &uio_shared->peers[slot];
	const uint64_t deadline = uio_deadline(UIO_READS_TIMEOUT_MS);
	const uint32_t before = peer->reads;

	while (uio_ok() && peer->reads - before < UIO_READS)
		uio_expect(uio_pause(deadline), "the secondary to go on reading, got %u reads, %s",
				peer->reads - before, peer->what);
	return uio_ok();
}

static void
case_io_secondary(struct uio_dev *dev)
{
	struct nvme_qpair qp;

	start_reader(dev, 0, &qp, UIO_QID_A);
	uio_expect_reads(0);
	uio_end(0, 0);
	uio_check_bus_master(dev);
	delete_queue(dev, &qp);
}

static void
case_io_killed(struct uio_dev *dev)
{
	struct nvme_qpair a, b;

	start_reader(dev, 0, &a, UIO_QID_A);
	start_reader(dev, 1, &b, UIO_QID_B);
	uio_kill(0, SIGKILL);
	uio_wait_end(0, -SIGKILL);
	uio_check_bus_master(dev);
	uio_expect_reads(1);
	uio_end(1, 0);
	delete_queue(dev, &a);
	delete_queue(dev, &b);
}

/*
 * Disable the controller while commands of the primary are in flight: true if one did not complete.
 * The queue is in the memory of this process, which the controller does not write to afterwards.
 */
static bool
disable_in_flight(struct uio_dev *dev)
{
	struct uio_traffic *t = &dev->traffic;
	struct nvme_cqe cqe;
	unsigned int completed = 0;

	/* QEMU 7.2 crashes if it fetches commands while it completes others for a reset. */
	if (dev->emulated)
		return uio_stop(dev);
	uio_traffic_poll();
	/* uio_recovered() clears this error. */
	uio_expect(t->error[0] == '\0', "reads to complete before the reset, got %s", t->error);
	if (!uio_ok() || !uio_expect_io(dev, nvme_disable(&dev->ctrl), "the controller to stop"))
		return false;
	t->running = false;
	while (completed < t->depth && nvme_cq_take(&t->qp, &cqe))
		completed++;
	return completed < t->in_flight;
}

/*
 * A secondary always has one read in flight, and reports when that ended with the controller. It
 * may ring a doorbell after CC.EN 0, which it does not see at once, and reads CSTS meanwhile.
 */
static void
case_traffic_reset(struct uio_dev *dev)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	bool in_flight = false;
	struct nvme_qpair qp;
	uint64_t deadline;
	int i;

	if (!may_be_undefined(dev))
		return;
	if (dev->ctrl.settle_ms > 0)
		uio_skip("no register of %s may be read for %u ms after CC.EN 0", dev->name,
				dev->ctrl.settle_ms);
	for (i = 0; uio_ok() && i < UIO_RESETS_MAX && !in_flight; i++) {
		if (!start_reader(dev, 0, &qp, UIO_QID_A))
			return;
		in_flight = disable_in_flight(dev);
		deadline = uio_deadline(UIO_READS_TIMEOUT_MS);
		while (uio_ok() && peer->result[0] == 0)
			uio_expect(uio_pause(deadline), "the read of the secondary to fail with "
					"the reset, got %u reads, %s", peer->reads, peer->what);
		uio_recovered(dev);
		/* The secondary goes on with a queue of the same memory. */
		create_queue(dev, &qp, UIO_QID_A);
		uio_shared->peers[0].step = 1;
		uio_expect_reads(0);
		uio_end(0, 0);
		delete_queue(dev, &qp);
		if (!uio_check(dev))
			return;
	}
	if (!in_flight)
		uio_skip("%s completed all commands before each of %u resets", dev->name,
				UIO_RESETS_MAX);
}

static void
check_intr_secondary(struct uio_dev *dev __rte_unused)
{
	const int32_t *result = uio_shared->peers[0].result;

	uio_expect(result[0] < 0 && result[1] < 0 && result[2] < 0,
			"rte_intr_enable, _callback_register and _disable to fail, got %d, %d, %d",
			result[0], result[1], result[2]);
}

static volatile uint32_t interrupts;

static void
on_interrupt(void *arg __rte_unused)
{
	interrupts++;
}

/*
 * Run a command of which the completion raises INTx, and wait for the callback. The completion is
 * consumed after that, not before: with the CQ head the controller ends the interrupt, and the
 * kernel does not report one that has ended by the time it looks.
 */
static void
expect_interrupt(struct uio_dev *dev, const char *when)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	const struct nvme_sqe cmd = {
		.opc = NVME_ADMIN_IDENTIFY,
		.cid = ctrl->admin.next_cid,
		.prp1 = ctrl->buf.iova,
		.cdw10 = NVME_CNS_CONTROLLER,
	};
	const uint32_t before = interrupts;
	const uint64_t deadline = nvme_deadline(ctrl->command_ms);

	/* uio_pci_generic disabled INTx at the last interrupt: enable it again. */
	if (!uio_expect(rte_intr_enable(dev->pci->intr_handle) == 0,
			"rte_intr_enable in the primary to work, got an error %s", when))
		return;
	nvme_reg_write(ctrl, NVME_REG_INTMC, UINT32_MAX);
	uio_expect(nvme_sq_post(&ctrl->admin, &cmd) == 0, "room in the admin queue, got none");
	nvme_sq_ring(&ctrl->admin);
	while (interrupts == before && uio_pause(deadline))
		;
	nvme_reg_write(ctrl, NVME_REG_INTMS, UINT32_MAX);
	uio_expect_io(dev, nvme_wait(ctrl, &ctrl->admin, "Identify", cmd.cid, ctrl->command_ms),
			"Identify to complete");
	uio_expect(interrupts != before, "an interrupt, got none %s", when);
}

static void
case_intr_primary(struct uio_dev *dev)
{
	struct rte_intr_handle *handle = dev->pci->intr_handle;
	char irq[16];
	int ret;

	/* INTx as the kernel routed it. */
	if (!uio_sysfs_read(dev->name, "irq", irq, sizeof(irq)) || atoi(irq) == 0)
		uio_skip("%s has no INTx", dev->name);
	ret = uio_ok() ? rte_intr_callback_register(handle, on_interrupt, NULL) : 0;
	uio_expect(ret == 0, "rte_intr_callback_register in the primary to work, got %d", ret);
	if (!uio_ok())
		return;
	expect_interrupt(dev, "before a secondary");
	uio_run_secondary(dev, 0, "return");
	if (uio_check_bus_master(dev))
		expect_interrupt(dev, "after a secondary");

	rte_intr_disable(handle);
	rte_intr_callback_unregister_sync(handle, on_interrupt, NULL);
}

/* In a secondary. */

/* Each of these must be refused: interrupts belong to the primary. */
static int
role_interrupts(struct uio_peer *peer, struct rte_pci_device *pci)
{
	peer->result[0] = rte_intr_enable(pci->intr_handle);
	peer->result[1] = rte_intr_callback_register(pci->intr_handle, on_interrupt, NULL);
	peer->result[2] = rte_intr_disable(pci->intr_handle);
	return 0;
}

/* Read on the queue pair that the primary made for this process, until an error or the end. */
static int
read_until(struct uio_peer *peer, struct nvme_ctrl *ctrl)
{
	struct nvme_qpair qp;
	int ret = nvme_qpair_init(ctrl, &qp, peer->arg);

	while (ret == 0 && peer->finish == 0) {
		ret = nvme_read_expected(ctrl, &qp, uio_shared->lba, UIO_BUF_SECONDARY + qp.qid,
				UIO_BUF_EXPECTED + UIO_PLACE_FIXED);
		if (ret == 0 && ++peer->reads == 1)
			uio_set_state(UIO_STATE_DONE);
	}
	if (ret != 0)
		strlcpy(peer->what, ctrl->error, sizeof(peer->what));
	return ret;
}

static int
role_reads(struct uio_peer *peer, struct rte_pci_device *pci)
{
	struct nvme_ctrl ctrl;
	int ret;

	ret = nvme_ctrl_init(&ctrl, pci->name, pci->mem_resource[0].addr,
			uio_settings.time_scale);
	ctrl.nsid = uio_shared->nsid;
	ctrl.block_size = uio_shared->block_size;
	if (ret == 0)
		ret = read_until(peer, &ctrl);
	/* A reset ends the queue. The primary creates another one, and says so. */
	while (ret != 0 && ret != -EILSEQ) {
		peer->result[0]++;
		if (!uio_wait_primary(&peer->step))
			break;
		peer->step = 0;
		ret = read_until(peer, &ctrl);
	}
	return ret;
}

static const struct uio_role uio_traffic_roles[] = {
	{ .name = "interrupts", .work = role_interrupts },
	{ .name = "reads", .work = role_reads },
};
UIO_REGISTER_ROLES(uio_traffic_roles)

static const struct uio_case uio_traffic_cases[] = {
	{ .name = "traffic_no_queue", .flags = UIO_CASE_NVME, .run = case_event,
		.args.arg = NVME_AER_INVALID_DB_REGISTER, .queues = UIO_QID_B + 1,
		.claim = "after a secondary, a doorbell of no queue raises its event" },
	{ .name = "traffic_sq_tail", .flags = UIO_CASE_NVME, .run = case_event,
		.args.arg = NVME_AER_INVALID_DB_VALUE, .queues = UIO_QID_A,
		.claim = "after a secondary, an SQ tail beyond the queue raises its event" },
	{ .name = "traffic_reset", .flags = UIO_CASE_NVME, .run = case_traffic_reset,
		.queues = UIO_QID_A,
		.claim = "a controller reset works with a read of a secondary in flight" },
	{ .name = "io_secondary", .flags = UIO_CASE_NVME, .run = case_io_secondary,
		.queues = UIO_QID_A,
		.claim = "a secondary reads on its own queue pair, and the primary goes on" },
	{ .name = "io_killed", .flags = UIO_CASE_NVME, .run = case_io_killed, .queues = UIO_QID_B,
		.claim = "a secondary killed while reading stops neither another nor the primary" },
	{ .name = "intr_secondary", .role = "interrupts", .check = check_intr_secondary,
		.claim = "interrupt calls in a secondary fail cleanly" },
	{ .name = "intr_primary", .flags = UIO_CASE_NVME, .run = case_intr_primary,
		.claim = "INTx of the primary works after a secondary" },
};
UIO_REGISTER_CASES(60, uio_traffic_cases)
