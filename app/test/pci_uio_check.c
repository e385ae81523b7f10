/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_pci.h>

#include "test.h"
#include "pci_uio_test.h"

/* Time between reads of the flow. An emulated controller takes CPU time from the secondaries. */
#define UIO_FLOW_MS 20

/* Fill with what says which block it is, so that a read of another one is noticed. */
static void
uio_fill_pattern(struct uio_dev *dev)
{
	uint32_t *word = dev->reference.addr;
	size_t i;

	for (i = 0; i < NVME_BUF_SIZE / sizeof(*word); i++)
		word[i] = rte_cpu_to_le_32((uint32_t)dev->lba * 0x9e3779b1u + i);
}

/* Choose the blocks that the flow reads, and what they must contain. */
static int
uio_flow_reference(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	int ret;

	/* The last blocks: the least likely to hold a partition table. */
	dev->lba = ctrl->blocks - nvme_io_blocks(ctrl);
	ret = nvme_mem_get(ctrl, &dev->data, "uio_data", 0, NVME_BUF_SIZE);
	if (ret == 0)
		ret = nvme_mem_get(ctrl, &dev->reference, "uio_ref", 0, NVME_BUF_SIZE);
	if (ret == 0)
		ret = nvme_mem_get(ctrl, &dev->saved, "uio_saved", 0, NVME_BUF_SIZE);
	if (ret != 0 || dev->reads > 0)
		return ret; /* after a recovery the blocks must be what they were before */

	if (!uio_settings.write)
		return nvme_io(ctrl, &dev->ioq, NVME_NVM_READ, dev->lba, &dev->reference);

	if (!dev->written) {
		ret = nvme_io(ctrl, &dev->ioq, NVME_NVM_READ, dev->lba, &dev->saved);
		if (ret != 0)
			return ret;
	}
	uio_fill_pattern(dev);
	dev->written = true;
	ret = nvme_io(ctrl, &dev->ioq, NVME_NVM_WRITE, dev->lba, &dev->reference);
	if (ret == 0 && ctrl->has_compare)
		ret = nvme_io(ctrl, &dev->ioq, NVME_NVM_COMPARE, dev->lba, &dev->reference);

	return ret;
}

int
uio_flow_read(struct uio_dev *dev, struct nvme_qpair *qp)
{
	const uint8_t *data = dev->data.addr, *reference = dev->reference.addr;
	size_t i;

	/* Neither the old data nor the right ones: a read that does nothing must not pass. */
	memset(dev->data.addr, ~reference[0], NVME_BUF_SIZE);
	if (nvme_io(&dev->ctrl, qp, NVME_NVM_READ, dev->lba, &dev->data) != 0)
		return -1;
	for (i = 0; i < NVME_BUF_SIZE; i++) {
		if (data[i] != reference[i])
			return nvme_fail(&dev->ctrl, -1,
					"block %" PRIu64 ", queue %u: byte %zu is %02xh, not %02xh",
					dev->lba, qp->qid, i, data[i], reference[i]);
	}
	dev->reads++;

	return 0;
}

void
uio_flow_step(struct uio_dev *dev)
{
	int command;

	if (!dev->flowing || dev->flow_error[0] != '\0' || !nvme_expired(dev->next_read))
		return;
	dev->next_read = nvme_deadline(UIO_FLOW_MS);
	command = uio_command_bus(dev->pci);
	/* Without the bit a doorbell would only make things worse, or last until its deadline. */
	if (command < 0 || !(command & RTE_PCI_COMMAND_MASTER))
		snprintf(dev->flow_error, sizeof(dev->flow_error),
				"COMMAND 0x%04x: bus master is lost", command);
	else if (uio_flow_read(dev, &dev->ioq) != 0)
		snprintf(dev->flow_error, sizeof(dev->flow_error), "%s", dev->ctrl.error);
}

int
uio_recover(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	int ret;

	dev->flowing = false;
	dev->flow_error[0] = '\0';
	/* First of all: a controller that may not do DMA fails again at the first doorbell. */
	if (rte_pci_set_bus_master(dev->pci, true) != 0)
		return nvme_fail(ctrl, -1, "cannot set bus master");
	if (!dev->is_nvme)
		return 0;

	/* Setting the bit does not clear a fatal status, and queues are in an unknown state. */
	ret = nvme_disable(ctrl);
	if (ret == 0)
		ret = nvme_bring_up(ctrl);
	if (ret == 0)
		ret = nvme_qpair_create(ctrl, &dev->ioq, UIO_QID_FLOW);
	if (ret == 0)
		ret = uio_flow_reference(dev);
	if (ret == 0)
		ret = uio_flow_read(dev, &dev->ioq);
	if (ret == 0) {
		dev->flowing = true;
		uio_shared->nsid = ctrl->nsid;
		uio_shared->block_size = ctrl->block_size;
		uio_shared->lba = dev->lba;
	}

	return ret;
}

int
uio_flow_failed(struct uio_dev *dev, const char *expected)
{
	/* The next case starts with a recovery. */
	dev->flowing = false;
	return uio_not_ok(expected, "%s", dev->ctrl.error);
}

static bool
uio_csts_is_good(uint32_t csts)
{
	return csts != NVME_REG_GONE && NVME_GET(csts, NVME_CSTS_RDY) &&
		!NVME_GET(csts, NVME_CSTS_CFS);
}

int
uio_ready(struct uio_dev *dev)
{
	const int command = uio_command_sysfs(dev->pci);
	int bar = PCI_MAX_RESOURCE - 1;

	/* For the cases that take its address the last one, so that those before are mapped. */
	while (bar > 0 && dev->pci->mem_resource[bar].addr == NULL)
		bar--;
	uio_shared->bar_addr = dev->pci->mem_resource[bar].addr;
	uio_shared->bar_len = dev->pci->mem_resource[bar].len;
	if (dev->dead)
		return uio_not_ok("a device that works", "%s could not be recovered before",
				dev->pci->name);
	if (command >= 0 && (command & RTE_PCI_COMMAND_MASTER) && (!dev->is_nvme ||
			(dev->flowing && dev->flow_error[0] == '\0' &&
			uio_csts_is_good(nvme_reg_read(&dev->ctrl, NVME_REG_CSTS)))))
		return TEST_SUCCESS;
	if (uio_recover(dev) == 0)
		return TEST_SUCCESS;

	dev->dead = true;
	return uio_not_ok("a device that works after controller reset", "%s", dev->ctrl.error);
}

int
uio_check_bus_master(struct uio_dev *dev)
{
	const int sysfs = uio_command_sysfs(dev->pci);
	const int bus = uio_command_bus(dev->pci);

	if (sysfs < 0 || bus < 0)
		return uio_not_ok("COMMAND to be readable", "sysfs %d, rte_pci_read_config %d",
				sysfs, bus);
	if (!(sysfs & RTE_PCI_COMMAND_MASTER) || !(bus & RTE_PCI_COMMAND_MASTER))
		return uio_not_ok("COMMAND with bus master set",
				"COMMAND 0x%04x in sysfs, 0x%04x by rte_pci_read_config: "
				"bus master is lost", sysfs, bus);

	return TEST_SUCCESS;
}

/* An admin command, a read on the queue pair that was there, and one on a new queue pair. */
static int
uio_check_flow(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	struct nvme_qpair qp;
	int ret;

	ret = nvme_identify(ctrl, NVME_CNS_CONTROLLER, 0);
	if (ret == 0)
		ret = uio_flow_read(dev, &dev->ioq);
	if (ret != 0 || ctrl->io_queues < UIO_QID_A)
		return ret;

	ret = nvme_qpair_create(ctrl, &qp, UIO_QID_A);
	if (ret != 0)
		return ret;
	ret = uio_flow_read(dev, &qp);
	if (ret != 0)
		return ret;

	return nvme_qpair_delete(ctrl, &qp);
}

int
uio_check(struct uio_dev *dev)
{
	uint32_t csts;
	int ret;

	ret = uio_check_bus_master(dev);
	if (ret != TEST_SUCCESS || !dev->is_nvme)
		return ret;
	if (dev->flow_error[0] != '\0')
		return uio_not_ok("reads to go on", "%s", dev->flow_error);

	csts = nvme_reg_read(&dev->ctrl, NVME_REG_CSTS);
	if (!uio_csts_is_good(csts))
		return uio_not_ok("CSTS ready and not fatal", "CSTS 0x%08x", csts);
	if (uio_check_flow(dev) != 0)
		return uio_flow_failed(dev, "commands and reads to complete");

	return TEST_SUCCESS;
}

int
uio_let_go(struct uio_dev *dev)
{
	/* The kernel clears bus master with the unmap: the controller must have stopped before. */
	dev->flowing = false;
	if (dev->is_nvme && nvme_disable(&dev->ctrl) != 0)
		return uio_not_ok("the controller to stop", "%s", dev->ctrl.error);
	rte_pci_unmap_device(dev->pci);

	return TEST_SUCCESS;
}

int
uio_take_back(struct uio_dev *dev)
{
	if (rte_pci_map_device(dev->pci) != 0) {
		dev->in_use = false;
		dev->dead = true;
		return uio_not_ok("the device to be attached again", "an error");
	}
	dev->ctrl.bar = dev->pci->mem_resource[0].addr;

	return TEST_SUCCESS;
}

/* Put back what the test wrote, and stop the controller; 0 when it does no more DMA. */
static int
uio_release_nvme(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	int ret;

	if (dev->written && (dev->dead || (!dev->flowing && uio_recover(dev) != 0) ||
			nvme_io(ctrl, &dev->ioq, NVME_NVM_WRITE, dev->lba, &dev->saved) != 0))
		printf("# %s: could not put back block %" PRIu64 ": %s\n", dev->pci->name,
				dev->lba, ctrl->error);
	else
		dev->written = false;

	if (dev->flowing && nvme_qpair_delete(ctrl, &dev->ioq) == 0)
		ret = nvme_shutdown(ctrl);
	else
		ret = nvme_disable(ctrl);
	dev->flowing = false;
	if (ret != 0)
		printf("# %s\n", ctrl->error);

	return ret;
}

void
uio_release(struct uio_dev *dev)
{
	bool stopped = true;

	if (!dev->in_use)
		return;
	if (dev->is_nvme && dev->ctrl.bar != NULL && uio_release_nvme(dev) != 0)
		stopped = false;

	/* Before its memory is given back, a controller that does not stop must be cut off. */
	if (!stopped)
		rte_pci_set_bus_master(dev->pci, false);
	rte_pci_unmap_device(dev->pci);
	if (dev->is_nvme)
		nvme_ctrl_free(&dev->ctrl);
	dev->in_use = false;
	dev->reads = 0;
	dev->flow_error[0] = '\0';

	/* The kernel cleared bus master with the last close of /dev/uioX, which unmap did. */
	if (!stopped)
		printf("# %s: left with bus master clear, as the controller does not stop\n",
				dev->pci->name);
	else if (uio_command_restore(dev) != 0)
		printf("# %s: could not restore COMMAND 0x%04x\n", dev->pci->name,
				dev->command_found);
}
