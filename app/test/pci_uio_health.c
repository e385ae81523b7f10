/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* What a healthy device is, the traffic that shows it, and how the device is left at the end. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_pci.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_test.h"

static bool
uio_has_io(const struct uio_dev *dev)
{
	return dev->is_nvme && dev->unsuitable[0] == '\0';
}

/* Choose what is read, all over the namespace, and keep what is there now. */
static int
uio_choose_places(struct uio_dev *dev)
{
	struct uio_traffic *t = &dev->traffic;
	struct nvme_ctrl *ctrl = &dev->ctrl;
	const uint32_t step = nvme_io_blocks(ctrl);
	bool alike = true;
	int i, ret = 0;

	if (t->placed)
		return 0;
	for (i = 0; i < UIO_PLACES && ret == 0; i++) {
		t->lba[i] = ctrl->blocks / UIO_PLACES * i / step * step;
		ret = nvme_read(ctrl, &t->qp, t->lba[i], UIO_BUF_EXPECTED + i);
		alike = alike && nvme_compare(ctrl, t->lba[i], UIO_BUF_EXPECTED + i,
				UIO_BUF_EXPECTED) == 0;
	}
	t->placed = ret == 0;
	if (ret == 0 && alike)
		printf("# %s: all blocks that are read are alike: a read of a wrong one is not "
				"noticed\n", dev->name);
	return ret;
}

/* Post the next Read of a place. */
static int
uio_traffic_post(struct uio_dev *dev, uint16_t place)
{
	struct uio_traffic *t = &dev->traffic;
	struct nvme_sqe cmd = nvme_read_prepare(&dev->ctrl, t->lba[place], UIO_BUF_DATA + place);

	nvme_spoil(&dev->ctrl, UIO_BUF_DATA + place, UIO_BUF_EXPECTED + place);
	cmd.cid = place;
	return nvme_sq_post(&t->qp, &cmd) == 0 ? 0 :
		nvme_fail(&dev->ctrl, -ENOSPC, "queue %u is full", t->qp.qid);
}

/* Look at one completion of the traffic. */
static int
uio_traffic_take(struct uio_dev *dev, const struct nvme_cqe *cqe)
{
	struct uio_traffic *t = &dev->traffic;
	const uint16_t place = NVME_GET(cqe->dw3, NVME_CQE_CID);

	if (place >= t->depth)
		return nvme_fail(&dev->ctrl, -EILSEQ, "queue %u: completion of command %u, which "
				"was not sent", t->qp.qid, place);
	if (NVME_GET(cqe->dw3, NVME_CQE_STATUS) != 0)
		return nvme_fail(&dev->ctrl, -EIO, "Read of block %" PRIu64 ": status %03xh",
				t->lba[place], NVME_GET(cqe->dw3, NVME_CQE_STATUS));
	t->reads++;
	return nvme_compare(&dev->ctrl, t->lba[place], UIO_BUF_DATA + place,
			UIO_BUF_EXPECTED + place);
}

/* Take all completions there are; with more, keep the queue full. */
static int
uio_traffic_reap(struct uio_dev *dev, bool more)
{
	struct uio_traffic *t = &dev->traffic;
	struct nvme_cqe cqe;
	unsigned int taken = 0;
	int ret = 0;

	while (ret == 0 && taken < t->depth && nvme_cq_take(&t->qp, &cqe)) {
		taken++;
		ret = uio_traffic_take(dev, &cqe);
		if (ret == 0 && more)
			ret = uio_traffic_post(dev, NVME_GET(cqe.dw3, NVME_CQE_CID));
		else
			t->in_flight--;
	}
	if (taken > 0) {
		nvme_cq_ring(&t->qp);
		if (ret == 0 && more)
			nvme_sq_ring(&t->qp);
		t->deadline = nvme_deadline(dev->ctrl.command_ms);
	} else if (nvme_expired(t->deadline)) {
		ret = nvme_fail(&dev->ctrl, -ETIMEDOUT, "no completion in %u ms, %u commands in "
				"flight", dev->ctrl.command_ms, t->in_flight);
	}
	if (ret == 0 && nvme_expired(t->look_at_status)) {
		t->look_at_status = nvme_deadline(1);
		ret = nvme_check_alive(&dev->ctrl, "the traffic");
	}
	return ret;
}

void
uio_traffic_poll(void)
{
	struct uio_dev *dev;

	UIO_FOREACH_DEVICE(dev) {
		struct uio_traffic *t = &dev->traffic;

		if (t->running && t->error[0] == '\0' && uio_traffic_reap(dev, true) != 0)
			strlcpy(t->error, dev->ctrl.error, sizeof(t->error));
	}
}

int
uio_traffic_stop(struct uio_dev *dev)
{
	struct uio_traffic *t = &dev->traffic;
	int ret = 0;

	if (!t->running)
		return 0;
	t->running = false;
	if (t->error[0] != '\0')
		return nvme_fail(&dev->ctrl, -EIO, "%s", t->error);
	while (t->in_flight > 0 && ret == 0)
		ret = uio_traffic_reap(dev, false);

	return ret;
}

static int
uio_traffic_start(struct uio_dev *dev)
{
	struct uio_traffic *t = &dev->traffic;
	uint16_t place;
	int ret = 0;

	t->depth = RTE_MIN(UIO_DEPTH, t->qp.size - 1);
	for (place = 0; place < t->depth && ret == 0; place++)
		ret = uio_traffic_post(dev, place);
	if (ret != 0)
		return ret;
	t->in_flight = t->depth;
	t->deadline = nvme_deadline(dev->ctrl.command_ms);
	t->look_at_status = nvme_deadline(1);
	t->running = true;
	nvme_sq_ring(&t->qp);

	return 0;
}

static int
uio_bring_up(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	int ret;

	/* Not with commands in flight: QEMU 7.2 crashes if it fetches others during a reset. */
	uio_traffic_stop(dev);
	dev->traffic.error[0] = '\0';
	/* First of all: a controller that may not do DMA fails again at the first doorbell. */
	if (rte_pci_set_bus_master(dev->pci, true) != 0)
		return nvme_fail(ctrl, -EIO, "cannot set bus master");
	if (!uio_has_io(dev))
		return 0;

	/* Setting the bit does not clear a fatal status, and queues are in an unknown state. */
	ret = nvme_disable(ctrl);
	if (ret == 0)
		ret = nvme_bring_up(ctrl);
	if (ret == 0)
		ret = nvme_qpair_create(ctrl, &dev->traffic.qp, UIO_QID_TRAFFIC);
	if (ret == 0)
		ret = uio_choose_places(dev);
	if (ret == 0)
		ret = uio_traffic_start(dev);

	return ret;
}

int
uio_recover(struct uio_dev *dev)
{
	int ret = uio_bring_up(dev);

	if (ret != 0 && uio_has_io(dev)) {
		printf("# %s\n", dev->ctrl.error);
		if (uio_sysfs_reset(dev->name) == 0)
			ret = uio_bring_up(dev);
	}
	return ret;
}

int
uio_look(struct uio_dev *dev)
{
	const int command = uio_command_sysfs(dev->name);
	const bool lost = command < 0 || !(command & RTE_PCI_COMMAND_MASTER);
	const struct uio_traffic *t = &dev->traffic;
	bool healthy = dev->mapped && !lost;
	uint32_t csts = 0;

	if (uio_has_io(dev) && dev->mapped) {
		csts = nvme_reg_read(&dev->ctrl, NVME_REG_CSTS);
		/* A device that is gone reads as ones, which is a fatal status, too. */
		healthy = healthy && t->running && t->error[0] == '\0' &&
			(csts & (NVME_CSTS_RDY | NVME_CSTS_CFS)) == NVME_CSTS_RDY;
	}
	return healthy ? 0 : nvme_fail(&dev->ctrl, -EIO, "COMMAND 0x%04x CSTS 0x%08x%s%s%s",
			command, csts, t->error[0] != '\0' ? ", " : "", t->error,
			lost ? ": bus master is lost" : "");
}

bool
uio_ready(struct uio_dev *dev)
{
	int bar = PCI_MAX_RESOURCE - 1;
	bool healthy;

	if (!uio_expect(!dev->dead && dev->mapped,
			"a device that works, got %s could not be recovered before", dev->name))
		return false;
	/* For the cases that take its address the last one, so that those before are mapped. */
	while (bar > 0 && dev->pci->mem_resource[bar].addr == NULL)
		bar--;
	uio_shared->bar_addr = dev->pci->mem_resource[bar].addr;
	uio_shared->bar_len = dev->pci->mem_resource[bar].len;
	healthy = uio_look(dev) == 0;
	/* Fail if something broke it after its last case, although it can be recovered. */
	uio_expect(healthy || !dev->works, "a device that works since its last case, got %s",
			dev->ctrl.error);
	dev->dead = !healthy && uio_recover(dev) != 0;
	dev->works = !dev->dead;
	uio_shared->nsid = dev->ctrl.nsid;
	uio_shared->block_size = dev->ctrl.block_size;
	uio_shared->lba = dev->traffic.lba[UIO_PLACE_FIXED];

	return uio_expect(!dev->dead, "a device that works after controller reset, got %s",
			dev->ctrl.error);
}

bool
uio_expect_io(struct uio_dev *dev, int ret, const char *expected)
{
	/* Queues are in an unknown state. The next case starts with a recovery. */
	if (ret != 0 && uio_ok())
		strlcpy(dev->traffic.error, dev->ctrl.error, sizeof(dev->traffic.error));
	return uio_expect(ret == 0, "%s, got %s", expected, dev->ctrl.error);
}

bool
uio_recovered(struct uio_dev *dev)
{
	return uio_ok() && uio_expect_io(dev, uio_recover(dev),
			"bus master, controller reset, Identify, queues and a read to work");
}

bool
uio_check_bus_master(struct uio_dev *dev)
{
	const int sysfs = uio_command_sysfs(dev->name);
	uint16_t bus = 0;

	/* dev->pci may be gone after a failure. */
	if (!uio_ok())
		return false;
	uio_expect(sysfs >= 0 && rte_pci_read_config(dev->pci, &bus, sizeof(bus),
			RTE_PCI_COMMAND) == sizeof(bus),
			"COMMAND to be readable, got sysfs %d, rte_pci_read_config 0x%04x", sysfs,
			bus);
	bus = rte_le_to_cpu_16(bus);
	return uio_expect(sysfs & bus & RTE_PCI_COMMAND_MASTER, "COMMAND with bus master set, got "
			"COMMAND 0x%04x in sysfs, 0x%04x by rte_pci_read_config: bus master is "
			"lost", sysfs, bus);
}

bool
uio_expect_bus_master(struct uio_dev *dev, bool set, const char *when)
{
	const int command = uio_command_sysfs(dev->name);

	return uio_expect(command >= 0 && !(command & RTE_PCI_COMMAND_MASTER) == !set,
			"bus master %s %s, got COMMAND 0x%04x", set ? "set" : "clear", when,
			command);
}

/* An admin command, a read on a new queue pair, and one more round of the traffic. */
static int
uio_check_io(struct uio_dev *dev)
{
	const uint32_t reads = dev->traffic.reads;
	struct nvme_ctrl *ctrl = &dev->ctrl;
	struct nvme_qpair qp;
	int ret;

	ret = nvme_identify(ctrl, NVME_CNS_CONTROLLER, 0);
	if (ret == 0 && ctrl->io_queues >= UIO_QID_A) {
		ret = nvme_qpair_create(ctrl, &qp, UIO_QID_A);
		if (ret == 0)
			ret = nvme_read_expected(ctrl, &qp, dev->traffic.lba[UIO_PLACE_FIXED],
					UIO_BUF_DATA + UIO_PLACE_FIXED,
					UIO_BUF_EXPECTED + UIO_PLACE_FIXED);
		if (ret == 0)
			ret = nvme_qpair_delete(ctrl, &qp);
	}
	while (ret == 0 && dev->traffic.reads - reads < dev->traffic.depth) {
		uio_traffic_poll();
		if (dev->traffic.error[0] != '\0')
			ret = nvme_fail(ctrl, -EIO, "%s", dev->traffic.error);
	}
	return ret;
}

bool
uio_check(struct uio_dev *dev)
{
	if (!uio_ok() || !uio_check_bus_master(dev) || !uio_has_io(dev))
		return uio_ok();
	return uio_expect(uio_look(dev) == 0, "CSTS ready and not fatal, and traffic, got %s",
			dev->ctrl.error) &&
		uio_expect_io(dev, uio_check_io(dev), "commands and reads to complete");
}

bool
uio_stop(struct uio_dev *dev)
{
	dev->works = false;
	return uio_ok() && uio_expect_io(dev, uio_traffic_stop(dev), "reads to complete") &&
		(!dev->is_nvme || uio_expect_io(dev, nvme_disable(&dev->ctrl),
			"the controller to stop"));
}

bool
uio_unmap(struct uio_dev *dev)
{
	/* The kernel clears bus master with the unmap: the controller must have stopped before. */
	if (!uio_stop(dev))
		return false;
	uio_set_mapped(dev, false);
	rte_pci_unmap_device(dev->pci);

	return true;
}

void
uio_set_mapped(struct uio_dev *dev, bool mapped)
{
	dev->works = false;
	dev->mapped = mapped;
	dev->ctrl.bar = mapped ? dev->pci->mem_resource[0].addr : NULL;
}

bool
uio_remap(struct uio_dev *dev)
{
	/* Another primary may have left it enabled. */
	uio_set_mapped(dev, (!dev->is_nvme || uio_stop_stale(dev)) &&
			rte_pci_map_device(dev->pci) == 0);
	dev->dead = !dev->mapped;

	return uio_expect(dev->mapped, "the device to be mapped again, got an error");
}

/* 0 when the controller does no more DMA. */
static int
uio_stop_controller(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	int ret = uio_traffic_stop(dev);

	if (ret == 0 && ctrl->nsid != 0 && (nvme_reg_read(ctrl, NVME_REG_CC) & NVME_CC_EN))
		ret = nvme_qpair_delete(ctrl, &dev->traffic.qp) == 0 ? nvme_shutdown(ctrl) :
			nvme_disable(ctrl);
	else
		ret = nvme_disable(ctrl);
	if (ret != 0 && uio_sysfs_reset(dev->name) == 0)
		ret = nvme_disable(ctrl);

	return ret;
}

bool
uio_release(struct uio_dev *dev)
{
	bool stopped = true;
	int command;

	if (dev->is_nvme)
		stopped = dev->mapped ? uio_stop_controller(dev) == 0 : uio_stop_stale(dev);
	if (!stopped) {
		/* Before its memory is given back, the controller must be cut off from it. */
		if (dev->mapped)
			rte_pci_set_bus_master(dev->pci, false);
		command = uio_command_sysfs(dev->name);
		uio_expect(false, "the controller to be left disabled, got %s, COMMAND 0x%04x; "
				"reset it: echo 1 > /sys/bus/pci/devices/%s/reset",
				dev->ctrl.error, command, dev->name);
	}
	dev->traffic.running = false;
	if (dev->mapped)
		rte_pci_unmap_device(dev->pci);
	uio_set_mapped(dev, false);
	command = uio_command_sysfs(dev->name);
	/* The memory of a controller that may still write to it stays reserved. */
	if (stopped || (command >= 0 && !(command & RTE_PCI_COMMAND_MASTER)))
		nvme_ctrl_free(&dev->ctrl);

	/* The kernel cleared bus master with the last close of /dev/uioX, which unmap did. */
	if (stopped)
		uio_expect(uio_command_restore(dev) == 0,
				"COMMAND to be left as it was found, got 0x%04x instead of 0x%04x",
				uio_command_sysfs(dev->name), dev->command_found);
	return uio_ok();
}
