/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* Queues, I/O of secondaries, events, resets and interrupts of an NVMe controller. */

#include <signal.h>
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

static int
uio_need_queues(const struct uio_dev *dev, unsigned int queues)
{
	return dev->ctrl.io_queues >= queues ? TEST_SUCCESS :
		uio_skip("%s grants only %u I/O queue pairs", dev->name, dev->ctrl.io_queues);
}

/* Create two more queue pairs, read on them, delete them in the order of their creation. */
static int
uio_use_queues(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	struct nvme_qpair a, b;

	if (nvme_qpair_create(ctrl, &a, UIO_QID_A) != 0 ||
			nvme_qpair_create(ctrl, &b, UIO_QID_B) != 0 ||
			uio_read(dev, &a) != 0 || uio_read(dev, &b) != 0 ||
			nvme_qpair_delete(ctrl, &a) != 0 || nvme_qpair_delete(ctrl, &b) != 0)
		return uio_io_failed(dev, "I/O queues to be created, used and deleted");

	return TEST_SUCCESS;
}

static int
uio_case_traffic_queues(struct uio_dev *dev)
{
	int ret = uio_need_queues(dev, UIO_QID_B);

	if (ret == TEST_SUCCESS)
		ret = uio_start(dev, 0, "return", NULL, UIO_STATE_DONE);
	if (ret == TEST_SUCCESS)
		ret = uio_use_queues(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_end(dev, 0, 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check(dev);
	return ret == TEST_SUCCESS ? uio_use_queues(dev) : ret;
}

static int
uio_case_traffic_write(struct uio_dev *dev)
{
	int ret;

	if (dev->not_written[0] != '\0')
		return uio_skip("%s", dev->not_written);
	ret = uio_run_secondary(dev, "return", 0);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

/*
 * Write a wrong value to a doorbell, and wait for the event that it raises. Other events may come
 * first: their log pages are read, which lets further ones come.
 */
static int
uio_violate(struct uio_dev *dev, uint16_t qid, enum nvme_doorbell which, uint32_t value,
		uint8_t info)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	struct nvme_event event = { 0 };
	int tries, ret = 0;

	for (tries = 0; tries < 4 && ret == 0; tries++) {
		ret = nvme_aer_arm(ctrl);
		if (ret == 0) {
			/* The violation. */
			nvme_doorbell_write(ctrl, qid, which, value);
			ret = nvme_aer_poll(ctrl, &event, UIO_EVENT_MS * uio_settings.time_scale);
		}
		if (ret == 0 && event.status != 0)
			return nvme_fail(ctrl, -EIO, "event request completed with status %03xh",
					event.status);
		if (ret == 0)
			ret = nvme_get_log(ctrl, event.lid, NVME_ERROR_ENTRY_SIZE);
		if (ret == 0 && event.type == NVME_AER_TYPE_ERROR && event.info == info &&
				event.lid == NVME_LID_ERROR_INFORMATION)
			return 0;
	}
	return ret != 0 ? ret : nvme_fail(ctrl, -EIO, "other events only, the last of type %u info "
			"%02xh log page %02xh", event.type, event.info, event.lid);
}

/*
 * A wrong doorbell write raises its event after a secondary as before. What it does to a
 * controller is not defined (NVMe over PCIe Transport, 3.1.2.1): hence not on any real drive.
 */
static int
uio_expect_event(struct uio_dev *dev, enum nvme_doorbell which, uint8_t info)
{
	const bool create = info == NVME_AER_INFO_INVALID_DB_VALUE;
	/* One that the controller grants, or its doorbell may not exist, and that no case uses. */
	const uint16_t qid = create ? UIO_QID_A : dev->ctrl.io_queues;
	struct nvme_qpair qp = { .size = 1 };
	int ret;

	if (!dev->emulated && !uio_settings.undefined)
		return uio_skip("undefined doorbell writes only on QEMU's controllers, or with "
				UIO_ENV "UNDEFINED=1");
	ret = uio_need_queues(dev, create ? UIO_QID_A : UIO_QID_B + 1);
	if (ret != TEST_SUCCESS)
		return ret;
	/* Without events from before. */
	if (uio_recover(dev) != 0 || (create && nvme_qpair_create(&dev->ctrl, &qp, qid) != 0))
		return uio_io_failed(dev, "a queue pair to be created");
	ret = uio_violate(dev, qid, which, qp.size, info);
	if (ret != 0) {
		if (uio_recover(dev) != 0)
			return uio_io_failed(dev, "controller reset to work");
		return ret == -ETIMEDOUT ? uio_skip("%s raises no event for this", dev->name) :
			uio_not_ok("an event before a secondary", "none");
	}

	ret = uio_run_secondary(dev, "return", 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret != TEST_SUCCESS)
		return ret;
	if (uio_violate(dev, qid, which, qp.size, info) != 0)
		return uio_io_failed(dev, "the same event after a secondary");
	if (create && nvme_qpair_delete(&dev->ctrl, &qp) != 0)
		return uio_io_failed(dev, "the queue pair to be deleted");

	return uio_check(dev);
}

static int
uio_case_traffic_no_queue(struct uio_dev *dev)
{
	return uio_expect_event(dev, NVME_DB_SQ_TAIL, NVME_AER_INFO_INVALID_DB_REGISTER);
}

static int
uio_case_traffic_sq_tail(struct uio_dev *dev)
{
	return uio_expect_event(dev, NVME_DB_SQ_TAIL, NVME_AER_INFO_INVALID_DB_VALUE);
}

static int
uio_case_traffic_cq_head(struct uio_dev *dev)
{
	return uio_expect_event(dev, NVME_DB_CQ_HEAD, NVME_AER_INFO_INVALID_DB_VALUE);
}

/* A queue pair for a secondary, and memory for its data. */
static int
uio_create_for_secondary(struct uio_dev *dev, struct nvme_qpair *qp, uint16_t qid)
{
	struct nvme_mem data;

	if (nvme_qpair_create(&dev->ctrl, qp, qid) != 0 ||
			nvme_mem_get(&dev->ctrl, &data, "uio_data", qid, NVME_BUF_SIZE) != 0)
		return uio_io_failed(dev, "a queue pair for a secondary to be created");

	return TEST_SUCCESS;
}

static int
uio_start_reader(struct uio_dev *dev, unsigned int slot, struct nvme_qpair *qp, uint16_t qid)
{
	const struct uio_spawn_args args = { .arg = qid };
	int ret = uio_create_for_secondary(dev, qp, qid);

	return ret == TEST_SUCCESS ? uio_start(dev, slot, "reads", &args, UIO_STATE_DONE) : ret;
}

/* Wait until a secondary has done some more reads. */
static int
uio_expect_reads(unsigned int slot)
{
	const struct uio_peer *peer = &uio_shared->peers[slot];
	const uint64_t deadline = uio_deadline(UIO_READS_TIMEOUT_MS);
	const uint32_t before = peer->reads;

	while (peer->reads - before < UIO_READS) {
		if (!uio_pause(deadline))
			return uio_not_ok("the secondary to go on reading", "%u reads, %s",
					peer->reads - before, peer->what);
	}
	return TEST_SUCCESS;
}

static int
uio_case_io_secondary(struct uio_dev *dev)
{
	struct nvme_qpair qp;
	int ret = uio_need_queues(dev, UIO_QID_A);

	if (ret == TEST_SUCCESS)
		ret = uio_start_reader(dev, 0, &qp, UIO_QID_A);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_reads(0);
	if (ret == TEST_SUCCESS)
		ret = uio_end(dev, 0, 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret == TEST_SUCCESS && nvme_qpair_delete(&dev->ctrl, &qp) != 0)
		ret = uio_io_failed(dev, "the queue pair of the secondary to be deleted");

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

static int
uio_case_io_killed(struct uio_dev *dev)
{
	struct nvme_qpair a, b;
	int ret = uio_need_queues(dev, UIO_QID_B);

	if (ret == TEST_SUCCESS)
		ret = uio_start_reader(dev, 0, &a, UIO_QID_A);
	if (ret == TEST_SUCCESS)
		ret = uio_start_reader(dev, 1, &b, UIO_QID_B);
	if (ret != TEST_SUCCESS)
		return ret;

	uio_kill(0, SIGKILL);
	ret = uio_wait_end(dev, 0, -SIGKILL);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_reads(1);
	if (ret == TEST_SUCCESS)
		ret = uio_end(dev, 1, 0);
	if (ret == TEST_SUCCESS && (nvme_qpair_delete(&dev->ctrl, &a) != 0 ||
			nvme_qpair_delete(&dev->ctrl, &b) != 0))
		ret = uio_io_failed(dev, "the queue pairs of the secondaries to be deleted");

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

/*
 * Disable the controller while commands of the primary are in flight: true if one did not complete.
 * The queue is in the memory of this process, which the controller does not write to afterwards.
 */
static bool
uio_disable_in_flight(struct uio_dev *dev)
{
	struct uio_traffic *t = &dev->traffic;
	struct nvme_cqe cqe;
	unsigned int completed = 0;

	/* QEMU 7.2 crashes if it fetches commands while it completes others for a reset. */
	if (dev->emulated) {
		uio_traffic_stop(dev);
		return nvme_disable(&dev->ctrl) == 0;
	}
	uio_traffic_poll();
	if (nvme_disable(&dev->ctrl) != 0)
		return false;
	t->running = false;
	while (completed < t->depth && nvme_cq_peek(&t->qp, &cqe)) {
		nvme_cq_advance(&t->qp);
		completed++;
	}
	return completed < t->in_flight;
}

/* A secondary always has one read in flight, and reports when that ended with the controller. */
static int
uio_reset_under_reader(struct uio_dev *dev, bool *in_flight)
{
	struct uio_peer *peer = &uio_shared->peers[0];
	struct nvme_qpair qp;
	uint64_t deadline;
	int ret = uio_start_reader(dev, 0, &qp, UIO_QID_A);

	if (ret != TEST_SUCCESS)
		return ret;
	*in_flight = uio_disable_in_flight(dev);
	deadline = uio_deadline(UIO_READS_TIMEOUT_MS);
	while (peer->result[0] == 0) {
		if (!uio_pause(deadline))
			return uio_not_ok("the read of the secondary to fail with the reset",
					"%u reads, %s", peer->reads, peer->what);
	}
	if (uio_recover(dev) != 0)
		return uio_io_failed(dev, "controller reset with reads in flight to work");
	/* The secondary goes on with a queue of the same memory. */
	ret = uio_create_for_secondary(dev, &qp, UIO_QID_A);
	peer->step = 1;
	if (ret == TEST_SUCCESS)
		ret = uio_expect_reads(0);
	if (ret == TEST_SUCCESS)
		ret = uio_end(dev, 0, 0);
	if (ret == TEST_SUCCESS && nvme_qpair_delete(&dev->ctrl, &qp) != 0)
		ret = uio_io_failed(dev, "the queue pair of the secondary to be deleted");

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

static int
uio_case_traffic_reset(struct uio_dev *dev)
{
	bool in_flight = false;
	int i, ret = uio_need_queues(dev, UIO_QID_A);

	for (i = 0; i < UIO_RESETS_MAX && ret == TEST_SUCCESS && !in_flight; i++)
		ret = uio_reset_under_reader(dev, &in_flight);
	if (ret == TEST_SUCCESS && !in_flight)
		ret = uio_skip("%s completed all commands before each of %u resets", dev->name,
				UIO_RESETS_MAX);
	return ret;
}

static int
uio_check_intr_secondary(struct uio_dev *dev __rte_unused)
{
	const int32_t *result = uio_shared->peers[0].result;

	return result[0] < 0 && result[1] < 0 && result[2] < 0 ? TEST_SUCCESS :
		uio_not_ok("rte_intr_enable, _callback_register and _disable to fail",
				"%d, %d, %d", result[0], result[1], result[2]);
}

static volatile uint32_t uio_interrupts;

static void
uio_on_interrupt(void *arg __rte_unused)
{
	uio_interrupts++;
}

/*
 * Run a command of which the completion raises INTx, and wait for the callback. The completion is
 * consumed after that, not before: with the CQ head the controller ends the interrupt, and the
 * kernel does not report one that has ended by the time it looks.
 */
static int
uio_expect_interrupt(struct uio_dev *dev, const char *when)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	struct nvme_sqe cmd = {
		.opc = NVME_ADMIN_IDENTIFY,
		.cid = ctrl->admin.next_cid,
		.prp1 = ctrl->buf.iova,
		.cdw10 = NVME_CNS_CONTROLLER,
	};
	const uint32_t before = uio_interrupts;
	const uint64_t deadline = nvme_deadline(ctrl->command_ms);

	/* uio_pci_generic disabled INTx at the last interrupt: enable it again. */
	if (rte_intr_enable(dev->pci->intr_handle) != 0)
		return uio_not_ok("rte_intr_enable in the primary to work", "an error %s", when);
	nvme_reg_write(ctrl, NVME_REG_INTMC, UINT32_MAX);
	if (nvme_sq_post(&ctrl->admin, &cmd) != 0)
		return uio_not_ok("room in the admin queue", "none %s", when);
	nvme_sq_ring(&ctrl->admin);
	while (uio_interrupts == before && uio_pause(deadline))
		;
	nvme_reg_write(ctrl, NVME_REG_INTMS, UINT32_MAX);

	if (nvme_wait(ctrl, &ctrl->admin, "Identify", cmd.cid, NULL) != 0)
		return uio_not_ok("Identify to complete", "%s %s", ctrl->error, when);
	if (uio_interrupts == before)
		return uio_not_ok("an interrupt", "none %s", when);
	return TEST_SUCCESS;
}

/* INTx of the device as the kernel routed it; 0: none. */
static int
uio_irq(const char *device)
{
	char path[PATH_MAX];
	int irq = 0;
	FILE *f;

	uio_sysfs_path(device, "irq", path, sizeof(path));
	f = fopen(path, "r");
	if (f == NULL || fscanf(f, "%d", &irq) != 1)
		irq = 0;
	if (f != NULL)
		fclose(f);

	return irq;
}

static int
uio_case_intr_primary(struct uio_dev *dev)
{
	struct rte_intr_handle *handle = dev->pci->intr_handle;
	int ret;

	if (uio_irq(dev->name) == 0)
		return uio_skip("%s has no INTx", dev->name);
	ret = rte_intr_callback_register(handle, uio_on_interrupt, NULL);
	if (ret != 0)
		return uio_not_ok("rte_intr_callback_register in the primary to work", "%d", ret);

	ret = uio_expect_interrupt(dev, "before a secondary");
	if (ret == TEST_SUCCESS)
		ret = uio_run_secondary(dev, "return", 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_interrupt(dev, "after a secondary");

	rte_intr_disable(handle);
	rte_intr_callback_unregister_sync(handle, uio_on_interrupt, NULL);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

/* In a secondary. */

/* Each of these must be refused: interrupts belong to the primary. */
static int
uio_try_interrupts(struct uio_peer *peer, struct rte_pci_device *pci)
{
	peer->result[0] = rte_intr_enable(pci->intr_handle);
	peer->result[1] = rte_intr_callback_register(pci->intr_handle, uio_on_interrupt, NULL);
	peer->result[2] = rte_intr_disable(pci->intr_handle);
	return 0;
}

/* Read on the queue pair that the primary made for this slot, until an error or the end. */
static int
uio_read_until(struct uio_peer *peer, struct nvme_ctrl *ctrl, const struct nvme_mem *data,
		const struct nvme_mem *reference)
{
	struct nvme_qpair qp;
	int ret = nvme_qpair_init(ctrl, &qp, peer->arg);

	while (ret == 0 && peer->finish == 0 && !uio_is_orphan()) {
		memset(data->addr, ~*(uint8_t *)reference->addr, NVME_BUF_SIZE);
		ret = nvme_io(ctrl, &qp, NVME_NVM_READ, uio_shared->lba, data);
		if (ret == 0 && memcmp(data->addr, reference->addr, NVME_BUF_SIZE) != 0)
			ret = nvme_fail(ctrl, -EILSEQ, "queue %u: wrong data after %u reads",
					qp.qid, peer->reads);
		if (ret == 0 && ++peer->reads == 1)
			uio_set_state(UIO_STATE_DONE);
	}
	if (ret != 0)
		strlcpy(peer->what, ctrl->error, sizeof(peer->what));
	return ret;
}

static int
uio_do_reads(struct uio_peer *peer, struct rte_pci_device *pci)
{
	const uint64_t deadline = uio_deadline(UIO_READS_TIMEOUT_MS);
	struct nvme_mem data, places, reference;
	struct nvme_ctrl ctrl;
	int ret;

	ret = nvme_ctrl_init(&ctrl, pci->name, pci->mem_resource[0].addr,
			uio_settings.time_scale);
	ctrl.nsid = uio_shared->nsid;
	ctrl.block_size = uio_shared->block_size;
	if (ret == 0)
		ret = nvme_mem_get(&ctrl, &data, "uio_data", peer->arg, NVME_BUF_SIZE);
	if (ret == 0)
		ret = nvme_mem_get(&ctrl, &places, "uio_ref", 0, UIO_PLACES * NVME_BUF_SIZE);
	if (ret != 0)
		return ret;
	reference = nvme_mem_part(&places, UIO_PLACE_FIXED);

	ret = uio_read_until(peer, &ctrl, &data, &reference);
	/* A reset ends the queue. The primary creates another one, and says so. */
	while (ret != 0 && ret != -EILSEQ) {
		peer->result[0]++;
		while (peer->step == 0 && !nvme_expired(deadline))
			rte_delay_us_sleep(1000);
		if (peer->step == 0)
			break;
		peer->step = 0;
		ret = uio_read_until(peer, &ctrl, &data, &reference);
	}
	return ret;
}

static const struct uio_role uio_traffic_roles[] = {
	{ .name = "interrupts", .work = uio_try_interrupts },
	{ .name = "reads", .work = uio_do_reads },
};
UIO_REGISTER_ROLES(uio_traffic_roles)

static const struct uio_case uio_traffic_cases[] = {
	{ .name = "traffic_write", .flags = UIO_CASE_NVME, .run = uio_case_traffic_write,
		.claim = "writes survive a secondary, and read back" },
	{ .name = "traffic_queues", .flags = UIO_CASE_NVME, .run = uio_case_traffic_queues,
		.claim = "I/O queues are created and deleted beside and after a secondary" },
	{ .name = "traffic_no_queue", .flags = UIO_CASE_NVME, .run = uio_case_traffic_no_queue,
		.claim = "after a secondary, a doorbell of no queue raises its event" },
	{ .name = "traffic_sq_tail", .flags = UIO_CASE_NVME, .run = uio_case_traffic_sq_tail,
		.claim = "after a secondary, an SQ tail beyond the queue raises its event" },
	{ .name = "traffic_cq_head", .flags = UIO_CASE_NVME, .run = uio_case_traffic_cq_head,
		.claim = "after a secondary, a CQ head beyond the queue raises its event" },
	{ .name = "traffic_reset", .flags = UIO_CASE_NVME, .run = uio_case_traffic_reset,
		.claim = "a controller reset works with reads of primary and secondary in flight" },
	{ .name = "io_secondary", .flags = UIO_CASE_NVME, .run = uio_case_io_secondary,
		.claim = "a secondary reads on its own queue pair, and the primary goes on" },
	{ .name = "io_killed", .flags = UIO_CASE_NVME, .run = uio_case_io_killed,
		.claim = "a secondary killed while reading stops neither another nor the primary" },
	{ .name = "intr_secondary", .role = "interrupts", .check = uio_check_intr_secondary,
		.claim = "interrupt calls in a secondary fail cleanly" },
	{ .name = "intr_primary", .flags = UIO_CASE_NVME, .run = uio_case_intr_primary,
		.claim = "INTx of the primary works after a secondary" },
};
UIO_REGISTER_CASES(60, uio_traffic_cases)
