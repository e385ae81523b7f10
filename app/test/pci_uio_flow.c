/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <inttypes.h>
#include <stdio.h>

#include "test.h"
#include "pci_uio_test.h"

/* One that no case creates. */
#define UIO_QID_NONE 7
#define UIO_IN_FLIGHT 8

int
uio_case_bring_up(struct uio_dev *dev)
{
	/* From a controller in any state, also when a case before has already done it. */
	if (uio_recover(dev) != 0)
		return uio_flow_failed(dev, "reset, enable, Identify, queues and a read to work");
	printf("# %s: %s, namespace %u of %" PRIu64 " blocks of %u bytes, %u I/O queues\n",
			dev->pci->name, dev->ctrl.model, dev->ctrl.nsid, dev->ctrl.blocks,
			dev->ctrl.block_size, dev->ctrl.io_queues);

	return uio_check(dev);
}

int
uio_case_flow_reads(struct uio_dev *dev)
{
	const uint32_t before = dev->reads;
	int ret;

	ret = uio_come_and_go(dev, "return", 0);
	if (ret == TEST_SUCCESS)
		ret = uio_come_and_go(dev, "exit_at_once", 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check(dev);
	/* Two reads are of uio_check(); the others went on beside the secondaries. */
	if (ret == TEST_SUCCESS && dev->reads <= before + 2)
		ret = uio_not_ok("reads beside the secondaries", "none");

	return ret;
}

/* Create two more queue pairs, read on them, delete them in the other order. */
static int
uio_use_queues(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	struct nvme_qpair a, b;

	if (nvme_qpair_create(ctrl, &a, UIO_QID_A) != 0 ||
			nvme_qpair_create(ctrl, &b, UIO_QID_B) != 0 ||
			uio_flow_read(dev, &a) != 0 || uio_flow_read(dev, &b) != 0 ||
			nvme_qpair_delete(ctrl, &a) != 0 || nvme_qpair_delete(ctrl, &b) != 0)
		return uio_flow_failed(dev, "I/O queues to be created, used and deleted");

	return TEST_SUCCESS;
}

int
uio_case_flow_queues(struct uio_dev *dev)
{
	int ret;

	if (dev->ctrl.io_queues < UIO_QID_B)
		return uio_skip("%s grants only %u I/O queues", dev->pci->name,
				dev->ctrl.io_queues);
	ret = uio_spawn(dev, 0, "return", NULL);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_state(dev, 0, UIO_STATE_DONE);
	if (ret == TEST_SUCCESS)
		ret = uio_use_queues(dev);
	if (ret != TEST_SUCCESS)
		return ret;

	uio_go(0);
	ret = uio_wait_end(dev, 0, 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check(dev);
	return ret == TEST_SUCCESS ? uio_use_queues(dev) : ret;
}

/* Whether the doorbell of UIO_QID_NONE is in the BAR: not so if they are far apart. */
static bool
uio_has_spare_doorbell(const struct uio_dev *dev)
{
	return nvme_doorbell_offset(UIO_QID_NONE, NVME_DB_CQ_HEAD,
			NVME_GET(dev->ctrl.cap, NVME_CAP_DSTRD)) < dev->pci->mem_resource[0].len;
}

/* Arm a request for events, and make sure that the controller has it. */
static int
uio_arm(struct uio_dev *dev)
{
	/*
	 * The Identify is what makes sure: commands are fetched in order, so that the request has
	 * been fetched when it completes. An event without a request is lost.
	 */
	if (nvme_aer_submit(&dev->ctrl) != 0 ||
			nvme_identify(&dev->ctrl, NVME_CNS_CONTROLLER, 0) != 0)
		return uio_flow_failed(dev, "an Asynchronous Event Request to be armed");

	return TEST_SUCCESS;
}

/* Unless the event is retained, this lets the next one come. Entries are up to the controller. */
static int
uio_read_error_log(struct uio_dev *dev, bool retain_event)
{
	if (nvme_get_log(&dev->ctrl, NVME_LID_ERROR_INFORMATION, sizeof(struct nvme_error_entry),
			retain_event) != 0)
		return uio_flow_failed(dev, "the error log to be read");

	return TEST_SUCCESS;
}

/* The event that a wrong doorbell must raise, and the log page that goes with it. */
static int
uio_expect_event(struct uio_dev *dev, uint8_t info)
{
	struct nvme_event event;
	char expected[96];

	snprintf(expected, sizeof(expected), "event type 0 info %02xh log page 01h", info);
	if (nvme_aer_poll(&dev->ctrl, &event, dev->ctrl.timeout_ms) != 0)
		return uio_flow_failed(dev, expected);
	if (event.status != 0 || event.type != NVME_AER_TYPE_ERROR || event.info != info ||
			event.lid != NVME_LID_ERROR_INFORMATION)
		return uio_not_ok(expected, "type %u info %02xh log page %02xh, status %03xh",
				event.type, event.info, event.lid, event.status);

	return uio_read_error_log(dev, false);
}

/* Arm; let a secondary come and go; ring a wrong doorbell; expect the event. */
static int
uio_wrong_doorbell(struct uio_dev *dev, uint16_t qid, enum nvme_doorbell which, uint32_t value,
		uint8_t info)
{
	int ret;

	ret = uio_arm(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_come_and_go(dev, "return", 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret != TEST_SUCCESS)
		return ret;

	/* The violation. */
	nvme_doorbell_write(&dev->ctrl, qid, which, value);
	return uio_expect_event(dev, info);
}

/* Start without events left from before, and with a queue pair of its own to misuse. */
static int
uio_misuse_queue(struct uio_dev *dev, enum nvme_doorbell which)
{
	struct nvme_qpair qp;
	int ret;

	if (uio_recover(dev) != 0 || nvme_qpair_create(&dev->ctrl, &qp, UIO_QID_A) != 0)
		return uio_flow_failed(dev, "a queue pair to be created");
	/* Indices are 0 to size - 1: this is the first one beyond. */
	ret = uio_wrong_doorbell(dev, UIO_QID_A, which, qp.size, NVME_AER_INFO_INVALID_DB_VALUE);
	if (ret != TEST_SUCCESS)
		return ret;
	if (nvme_qpair_delete(&dev->ctrl, &qp) != 0)
		return uio_flow_failed(dev, "the queue pair to be deleted");

	return uio_check(dev);
}

int
uio_case_flow_no_queue(struct uio_dev *dev)
{
	int ret;

	if (!uio_has_spare_doorbell(dev))
		return uio_skip("%s has no doorbell of queue %u", dev->pci->name, UIO_QID_NONE);
	if (uio_recover(dev) != 0)
		return uio_flow_failed(dev, "controller reset to work");
	ret = uio_wrong_doorbell(dev, UIO_QID_NONE, NVME_DB_SQ_TAIL, 1,
			NVME_AER_INFO_INVALID_DB_REGISTER);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

int
uio_case_flow_sq_tail(struct uio_dev *dev)
{
	return uio_misuse_queue(dev, NVME_DB_SQ_TAIL);
}

int
uio_case_flow_cq_head(struct uio_dev *dev)
{
	return uio_misuse_queue(dev, NVME_DB_CQ_HEAD);
}

/* No event although one is due: whatever is to come came before the Identify completes. */
static int
uio_expect_masked(struct uio_dev *dev, const char *when)
{
	struct nvme_event event;

	if (nvme_identify(&dev->ctrl, NVME_CNS_CONTROLLER, 0) != 0)
		return uio_flow_failed(dev, "Identify to complete");
	if (nvme_aer_poll(&dev->ctrl, &event, 0) == 0)
		return uio_not_ok("no event", "type %u info %02xh %s", event.type, event.info,
				when);

	return TEST_SUCCESS;
}

int
uio_case_flow_masked(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	struct nvme_event event;
	int ret;

	if (uio_recover(dev) != 0)
		return uio_flow_failed(dev, "controller reset to work");
	if (ctrl->aerl < 1 || !uio_has_spare_doorbell(dev))
		return uio_skip("%s takes one event request only, or has few doorbells",
				dev->pci->name);
	ret = uio_arm(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_arm(dev);
	if (ret != TEST_SUCCESS)
		return ret;

	/* The violation, twice. */
	nvme_doorbell_write(ctrl, UIO_QID_NONE, NVME_DB_SQ_TAIL, 1);
	nvme_doorbell_write(ctrl, UIO_QID_NONE, NVME_DB_SQ_TAIL, 1);
	if (nvme_aer_poll(ctrl, &event, ctrl->timeout_ms) != 0)
		return uio_flow_failed(dev, "the first event");
	ret = uio_expect_masked(dev, "before the log was read");
	if (ret != TEST_SUCCESS)
		return ret;
	ret = uio_read_error_log(dev, true);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_masked(dev, "after the log was read with the event retained");
	if (ret != TEST_SUCCESS)
		return ret;
	if (uio_read_error_log(dev, false) != TEST_SUCCESS)
		return TEST_FAILED;
	/* A controller may have kept the second violation, or not; a third it must tell. */
	nvme_doorbell_write(ctrl, UIO_QID_NONE, NVME_DB_SQ_TAIL, 1);
	ret = uio_expect_event(dev, NVME_AER_INFO_INVALID_DB_REGISTER);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

int
uio_case_flow_aer_limit(struct uio_dev *dev)
{
	const uint16_t limit = NVME_STATUS(NVME_SCT_COMMAND_SPECIFIC, NVME_SC_SPECIFIC_ASYNC_LIMIT);
	struct nvme_event event;
	int ret = TEST_SUCCESS;
	unsigned int i;

	if (uio_recover(dev) != 0)
		return uio_flow_failed(dev, "controller reset to work");
	for (i = 0; i <= dev->ctrl.aerl && ret == TEST_SUCCESS; i++) {
		ret = uio_arm(dev);
		if (ret == TEST_SUCCESS && nvme_aer_poll(&dev->ctrl, &event, 0) == 0)
			ret = uio_not_ok("event requests up to AERL to wait",
					"status %03xh for request %u of %u", event.status, i + 1,
					dev->ctrl.aerl + 1);
	}
	if (ret != TEST_SUCCESS)
		return ret;

	/* The violation: one more than the controller takes. */
	if (nvme_aer_submit(&dev->ctrl) != 0 ||
			nvme_aer_poll(&dev->ctrl, &event, dev->ctrl.timeout_ms) != 0)
		return uio_flow_failed(dev, "one event request too many to complete");
	if (event.status != limit)
		return uio_not_ok("status 105h, limit exceeded", "status %03xh", event.status);

	return uio_check(dev);
}

int
uio_case_flow_reset(struct uio_dev *dev)
{
	struct nvme_sqe cmd;
	int i, ret;

	ret = uio_spawn(dev, 0, "return", NULL);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_state(dev, 0, UIO_STATE_DONE);
	if (ret != TEST_SUCCESS)
		return ret;

	/* Nobody waits for these: the reset is to come between. */
	for (i = 0; i < UIO_IN_FLIGHT; i++) {
		nvme_io_prepare(&dev->ctrl, &cmd, NVME_NVM_READ, dev->lba, &dev->data);
		nvme_sq_post(&dev->ioq, &cmd);
	}
	nvme_sq_ring(&dev->ioq);
	if (uio_recover(dev) != 0)
		return uio_flow_failed(dev, "controller reset with reads in flight to work");

	uio_go(0);
	ret = uio_wait_end(dev, 0, 0);
	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}
