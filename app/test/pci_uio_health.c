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

/* What must be blank at either end of a namespace that may be written: tables, RAID, LVM, ZFS. */
#define UIO_BLANK_BYTES (1u << 20)
/* First bytes of what the test writes, to know it again. */
#define UIO_PATTERN "dpdk pci_uio_secondary test"

char uio_owed[512];

static bool
uio_has_io(const struct uio_dev *dev)
{
	return dev->is_nvme && dev->unsuitable[0] == '\0';
}

/* One buffer after those of the traffic, for reads that are waited for. */
static struct nvme_mem
uio_single_buffer(const struct uio_dev *dev)
{
	return nvme_mem_part(&dev->traffic.data, UIO_DEPTH);
}

/* Fill with what says which device, place and time it is: a read of another one is noticed. */
static void
uio_fill_pattern(struct uio_dev *dev, unsigned int place)
{
	const struct nvme_mem mem = nvme_mem_part(&dev->traffic.reference, place);
	const uint32_t sequence = dev->traffic.sequence++;
	uint32_t *word = mem.addr;
	size_t i;

	for (i = 0; i < NVME_BUF_SIZE / sizeof(*word); i++)
		word[i] = rte_cpu_to_le_32((uint32_t)dev->traffic.lba[place] * 0x9e3779b1u +
				sequence * 0x85ebca6bu + i);
	snprintf(mem.addr, 64, UIO_PATTERN " %s %u", dev->name, sequence);
}

static bool
uio_is_zero(const void *data)
{
	const uint8_t *bytes = data;

	return bytes[0] == 0 && memcmp(bytes, bytes + 1, NVME_BUF_SIZE - 1) == 0;
}

/* Whether NVME_BUF_SIZE bytes from a block on are zeroes; says in dev->not_written what is not. */
static int
uio_expect_blank(struct uio_dev *dev, uint64_t lba)
{
	const struct nvme_mem mem = uio_single_buffer(dev);
	int ret = nvme_io(&dev->ctrl, &dev->traffic.qp, NVME_NVM_READ, lba, &mem);

	if (ret == 0 && !uio_is_zero(mem.addr))
		snprintf(dev->not_written, sizeof(dev->not_written), "block %" PRIu64 " of %s is "
				"not blank%s: use a drive that holds nothing", lba, dev->name,
				memcmp(mem.addr, UIO_PATTERN, strlen(UIO_PATTERN)) == 0 ?
				", it was left by a run of this test that was killed" : "");
	return ret;
}

/* Choose where the traffic writes: in the middle, if nothing is there or at the ends. */
static int
uio_choose_blank(struct uio_dev *dev)
{
	const struct nvme_ctrl *ctrl = &dev->ctrl;
	const uint32_t step = nvme_io_blocks(ctrl);
	const uint64_t end = ctrl->blocks - ctrl->blocks % step;
	const uint64_t edge = RTE_MIN(UIO_BLANK_BYTES / ctrl->block_size, end / 2);
	const uint64_t middle = end / 2 / step * step;
	uint64_t lba;
	int i, ret = 0;

	for (lba = 0; lba < edge && ret == 0 && dev->not_written[0] == '\0'; lba += step) {
		ret = uio_expect_blank(dev, lba);
		if (ret == 0 && dev->not_written[0] == '\0')
			ret = uio_expect_blank(dev, end - step - lba);
	}
	for (i = 0; i < UIO_PLACES && ret == 0 && dev->not_written[0] == '\0'; i++) {
		dev->traffic.lba[i] = middle + i * step;
		ret = uio_expect_blank(dev, dev->traffic.lba[i]);
	}

	return ret;
}

/* Choose what is read, all over the namespace, and keep what is there now. */
static int
uio_choose_to_read(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	const uint32_t step = nvme_io_blocks(ctrl);
	struct nvme_mem mem, first = nvme_mem_part(&dev->traffic.reference, 0);
	bool alike = true;
	int i, ret = 0;

	for (i = 0; i < UIO_PLACES && ret == 0; i++) {
		dev->traffic.lba[i] = ctrl->blocks / UIO_PLACES * i / step * step;
		mem = nvme_mem_part(&dev->traffic.reference, i);
		ret = nvme_io(ctrl, &dev->traffic.qp, NVME_NVM_READ, dev->traffic.lba[i], &mem);
		alike = alike && memcmp(mem.addr, first.addr, NVME_BUF_SIZE) == 0;
	}
	if (ret == 0 && alike)
		printf("# %s: all blocks that are read are alike: a read of a wrong one is not "
				"noticed\n", dev->name);
	return ret;
}

static int
uio_choose_places(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	struct nvme_mem fixed;
	int ret;

	ret = nvme_mem_get(ctrl, &dev->traffic.data, "uio_data", 0,
			(UIO_DEPTH + 1) * NVME_BUF_SIZE);
	if (ret == 0)
		ret = nvme_mem_get(ctrl, &dev->traffic.reference, "uio_ref", 0,
				UIO_PLACES * NVME_BUF_SIZE);
	if (ret == 0 && !dev->placed) {
		if (!uio_settings.write)
			strlcpy(dev->not_written, "writing needs " UIO_ENV "WRITE=1 and a blank "
					"drive", sizeof(dev->not_written));
		else
			ret = uio_choose_blank(dev);
		if (ret == 0 && dev->not_written[0] != '\0')
			ret = uio_choose_to_read(dev);
		dev->placed = ret == 0;
	}
	if (ret != 0 || dev->not_written[0] != '\0')
		return ret;

	dev->written = true;
	uio_fill_pattern(dev, UIO_PLACE_FIXED);
	fixed = nvme_mem_part(&dev->traffic.reference, UIO_PLACE_FIXED);
	return nvme_io(ctrl, &dev->traffic.qp, NVME_NVM_WRITE, dev->traffic.lba[UIO_PLACE_FIXED],
			&fixed);
}

/* Post the next command of a place: a Write of new data, or a Read of what must be there. */
static int
uio_traffic_post(struct uio_dev *dev, uint16_t place)
{
	struct uio_traffic *t = &dev->traffic;
	const struct nvme_mem data = nvme_mem_part(&t->data, place);
	const struct nvme_mem reference = nvme_mem_part(&t->reference, place);
	struct nvme_sqe cmd;

	if (t->writing[place]) {
		uio_fill_pattern(dev, place);
		nvme_io_prepare(&dev->ctrl, &cmd, NVME_NVM_WRITE, t->lba[place], &reference);
	} else {
		/* Neither the old data nor the right ones: a Read that does nothing must fail. */
		memset(data.addr, ~*(const uint8_t *)reference.addr, NVME_BUF_SIZE);
		nvme_io_prepare(&dev->ctrl, &cmd, NVME_NVM_READ, t->lba[place], &data);
	}
	cmd.cid = place;

	return nvme_sq_post(&t->qp, &cmd) == 0 ? 0 :
		nvme_fail(&dev->ctrl, -ENOSPC, "queue %u is full", t->qp.qid);
}

static int
uio_compare(struct uio_dev *dev, const struct nvme_mem *mem, unsigned int place, uint16_t qid)
{
	const struct nvme_mem reference = nvme_mem_part(&dev->traffic.reference, place);
	const uint8_t *data = mem->addr, *expected = reference.addr;
	size_t i = 0;

	if (memcmp(data, expected, NVME_BUF_SIZE) == 0)
		return 0;
	while (data[i] == expected[i])
		i++;
	return nvme_fail(&dev->ctrl, -EILSEQ, "block %" PRIu64 ", queue %u: byte %zu is %02xh, not "
			"%02xh", dev->traffic.lba[place], qid, i, data[i], expected[i]);
}

/* Look at one completion of the traffic. */
static int
uio_traffic_take(struct uio_dev *dev, const struct nvme_cqe *cqe)
{
	struct uio_traffic *t = &dev->traffic;
	const uint16_t place = NVME_GET(cqe->dw3, NVME_CQE_CID);
	struct nvme_mem data;

	if (place >= t->depth)
		return nvme_fail(&dev->ctrl, -EILSEQ, "queue %u: completion of command %u, which "
				"was not sent", t->qp.qid, place);
	if (nvme_cqe_status(cqe->dw3) != 0)
		return nvme_fail(&dev->ctrl, -EIO, "%s of block %" PRIu64 ": SCT %xh SC %02xh",
				t->writing[place] ? "Write" : "Read", t->lba[place],
				NVME_GET(cqe->dw3, NVME_CQE_SCT), NVME_GET(cqe->dw3, NVME_CQE_SC));
	if (t->writing[place]) {
		t->writing[place] = false;
		return 0;
	}
	t->writing[place] = dev->written;
	t->reads++;
	data = nvme_mem_part(&t->data, place);

	return uio_compare(dev, &data, place, t->qp.qid);
}

/* Take all completions there are; with more, keep the queue full. */
static int
uio_traffic_reap(struct uio_dev *dev, bool more)
{
	struct uio_traffic *t = &dev->traffic;
	struct nvme_cqe cqe;
	unsigned int taken = 0;
	int ret = 0;

	while (ret == 0 && taken < t->depth && nvme_cq_peek(&t->qp, &cqe)) {
		nvme_cq_advance(&t->qp);
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
		ret = nvme_check_alive(&dev->ctrl, &t->qp, "the traffic");
	}
	return ret;
}

void
uio_traffic_poll(void)
{
	struct uio_dev *dev = NULL;

	while ((dev = uio_next_device(dev)) != NULL) {
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
	for (place = 0; place < t->depth && ret == 0; place++) {
		/* What a Write that did not complete has left there is not known. */
		t->writing[place] = dev->written;
		ret = uio_traffic_post(dev, place);
	}
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
	if (ret == 0) {
		uio_shared->nsid = ctrl->nsid;
		uio_shared->block_size = ctrl->block_size;
		uio_shared->lba = dev->traffic.lba[UIO_PLACE_FIXED];
	}

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

bool
uio_is_healthy(struct uio_dev *dev, char *why, size_t size)
{
	const int command = uio_command_sysfs(dev->name);
	const bool has_io = uio_has_io(dev) && dev->ctrl.bar != NULL;
	const uint32_t csts = has_io ? nvme_reg_read(&dev->ctrl, NVME_REG_CSTS) : 0;
	const bool lost = command < 0 || !(command & RTE_PCI_COMMAND_MASTER);

	snprintf(why, size, "COMMAND 0x%04x CSTS 0x%08x%s%s%s", command, csts,
			dev->traffic.error[0] != '\0' ? ", " : "", dev->traffic.error,
			lost ? ": bus master is lost" : "");
	if (lost || !dev->mapped)
		return false;
	return !uio_has_io(dev) || (dev->traffic.running && dev->traffic.error[0] == '\0' &&
			csts != NVME_REG_GONE && NVME_GET(csts, NVME_CSTS_RDY) &&
			!NVME_GET(csts, NVME_CSTS_CFS));
}

int
uio_ready(struct uio_dev *dev)
{
	int bar = PCI_MAX_RESOURCE - 1;
	char why[320];

	if (dev->dead || !dev->mapped)
		return uio_not_ok("a device that works", "%s could not be recovered before",
				dev->name);
	/* For the cases that take its address the last one, so that those before are mapped. */
	while (bar > 0 && dev->pci->mem_resource[bar].addr == NULL)
		bar--;
	uio_shared->bar_addr = dev->pci->mem_resource[bar].addr;
	uio_shared->bar_len = dev->pci->mem_resource[bar].len;
	if (uio_is_healthy(dev, why, sizeof(why)) || uio_recover(dev) == 0)
		return TEST_SUCCESS;

	dev->dead = true;
	return uio_not_ok("a device that works after controller reset", "%s", dev->ctrl.error);
}

int
uio_io_failed(struct uio_dev *dev, const char *expected)
{
	/* The next case starts with a recovery. */
	strlcpy(dev->traffic.error, dev->ctrl.error, sizeof(dev->traffic.error));
	return uio_not_ok(expected, "%s", dev->ctrl.error);
}

int
uio_check_bus_master(struct uio_dev *dev)
{
	const int sysfs = uio_command_sysfs(dev->name);
	uint16_t bus = 0;

	if (sysfs < 0 || rte_pci_read_config(dev->pci, &bus, sizeof(bus), RTE_PCI_COMMAND) !=
			sizeof(bus))
		return uio_not_ok("COMMAND to be readable", "sysfs %d, rte_pci_read_config 0x%04x",
				sysfs, bus);
	bus = rte_le_to_cpu_16(bus);
	if (!(sysfs & bus & RTE_PCI_COMMAND_MASTER))
		return uio_not_ok("COMMAND with bus master set",
				"COMMAND 0x%04x in sysfs, 0x%04x by rte_pci_read_config: "
				"bus master is lost", sysfs, bus);

	return TEST_SUCCESS;
}

int
uio_read(struct uio_dev *dev, struct nvme_qpair *qp)
{
	const struct nvme_mem data = uio_single_buffer(dev);
	int ret;

	memset(data.addr, 0xa5, NVME_BUF_SIZE);
	ret = nvme_io(&dev->ctrl, qp, NVME_NVM_READ, dev->traffic.lba[UIO_PLACE_FIXED], &data);

	return ret == 0 ? uio_compare(dev, &data, UIO_PLACE_FIXED, qp->qid) : ret;
}

/* An admin command, a read on a new queue pair, and one more round of the traffic. */
static int
uio_check_io(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	const uint32_t reads = dev->traffic.reads;
	struct nvme_qpair qp;
	int ret;

	ret = nvme_identify(ctrl, NVME_CNS_CONTROLLER, 0);
	if (ret == 0 && ctrl->io_queues >= UIO_QID_A) {
		ret = nvme_qpair_create(ctrl, &qp, UIO_QID_A);
		if (ret == 0)
			ret = uio_read(dev, &qp);
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

int
uio_check(struct uio_dev *dev)
{
	char why[320];
	int ret;

	ret = uio_check_bus_master(dev);
	if (ret != TEST_SUCCESS || !uio_has_io(dev))
		return ret;
	if (!uio_is_healthy(dev, why, sizeof(why)))
		return uio_not_ok("CSTS ready and not fatal, and traffic", "%s", why);
	if (uio_check_io(dev) != 0)
		return uio_io_failed(dev, "commands and reads to complete");

	return TEST_SUCCESS;
}

int
uio_unmap(struct uio_dev *dev)
{
	/* The kernel clears bus master with the unmap: the controller must have stopped before. */
	uio_traffic_stop(dev);
	if (dev->is_nvme && nvme_disable(&dev->ctrl) != 0)
		return uio_not_ok("the controller to stop", "%s", dev->ctrl.error);
	dev->mapped = false;
	dev->ctrl.bar = NULL;
	rte_pci_unmap_device(dev->pci);

	return TEST_SUCCESS;
}

int
uio_remap(struct uio_dev *dev)
{
	dev->mapped = rte_pci_map_device(dev->pci) == 0;
	if (!dev->mapped) {
		dev->dead = true;
		return uio_not_ok("the device to be mapped again", "an error");
	}
	dev->ctrl.bar = dev->pci->mem_resource[0].addr;

	return TEST_SUCCESS;
}

/* Write the zeroes that were in all places before the test, and read them back. */
static int
uio_write_zeroes(struct uio_dev *dev)
{
	const struct nvme_mem mem = uio_single_buffer(dev);
	struct nvme_qpair *qp = &dev->traffic.qp;
	int i, ret = 0;

	for (i = 0; i < UIO_PLACES && ret == 0; i++) {
		memset(mem.addr, 0, NVME_BUF_SIZE);
		ret = nvme_io(&dev->ctrl, qp, NVME_NVM_WRITE, dev->traffic.lba[i], &mem);
		memset(mem.addr, 0xff, NVME_BUF_SIZE);
		if (ret == 0)
			ret = nvme_io(&dev->ctrl, qp, NVME_NVM_READ, dev->traffic.lba[i], &mem);
		if (ret == 0 && !uio_is_zero(mem.addr))
			ret = nvme_fail(&dev->ctrl, -EILSEQ, "block %" PRIu64 " does not read as "
					"zeroes", dev->traffic.lba[i]);
	}
	return ret;
}

/* The blocks are blank again, and stay so, or the case fails and the message says what to do. */
static int
uio_restore(struct uio_dev *dev)
{
	const uint32_t blocks = nvme_io_blocks(&dev->ctrl) * UIO_PLACES;
	int ret;

	ret = uio_traffic_stop(dev);
	if (ret == 0)
		ret = nvme_check_alive(&dev->ctrl, &dev->traffic.qp, "restoring");
	if (ret == 0)
		ret = uio_write_zeroes(dev);
	if (ret != 0) {
		printf("# restoring %s again, after a reset: %s\n", dev->name, dev->ctrl.error);
		ret = uio_recover(dev);
		if (ret == 0)
			ret = uio_traffic_stop(dev);
		if (ret == 0)
			ret = uio_write_zeroes(dev);
	}
	dev->written = ret != 0;
	if (ret == 0)
		return TEST_SUCCESS;

	snprintf(uio_owed, sizeof(uio_owed), "%s holds data of this test in blocks %" PRIu64 " to %"
			PRIu64 " of namespace %u, which were zeroes: bind it to nvme and run dd "
			"if=/dev/zero of=/dev/nvmeXnY bs=%u seek=%" PRIu64 " count=%u oflag=direct",
			dev->name, dev->traffic.lba[0], dev->traffic.lba[0] + blocks - 1,
			dev->ctrl.nsid, dev->ctrl.block_size, dev->traffic.lba[0], blocks);
	return uio_not_ok("the blocks to be restored", "%s; %s", dev->ctrl.error, uio_owed);
}

/* 0 when the controller does no more DMA. */
static int
uio_stop_controller(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	int ret = uio_traffic_stop(dev);

	if (ret == 0 && ctrl->nsid != 0 && NVME_GET(nvme_reg_read(ctrl, NVME_REG_CC), NVME_CC_EN))
		ret = nvme_qpair_delete(ctrl, &dev->traffic.qp) == 0 ? nvme_shutdown(ctrl) :
			nvme_disable(ctrl);
	else
		ret = nvme_disable(ctrl);
	if (ret != 0 && uio_sysfs_reset(dev->name) == 0)
		ret = nvme_disable(ctrl);

	return ret;
}

int
uio_release(struct uio_dev *dev)
{
	int ret = TEST_SUCCESS;
	bool stopped = true;

	if (!dev->mapped && dev->written)
		uio_remap(dev);
	if (dev->mapped && dev->is_nvme) {
		if (dev->written)
			ret = uio_restore(dev);
		stopped = uio_stop_controller(dev) == 0;
	}
	if (!stopped) {
		/* Before its memory is given back, the controller must be cut off from it. */
		rte_pci_set_bus_master(dev->pci, false);
		ret = uio_not_ok("the controller to be left disabled", "%s; bus master was "
				"cleared, reset it: echo 1 > /sys/bus/pci/devices/%s/reset",
				dev->ctrl.error, dev->name);
	}
	dev->traffic.running = false;
	dev->ctrl.bar = NULL;
	if (dev->mapped)
		rte_pci_unmap_device(dev->pci);
	dev->mapped = false;
	nvme_ctrl_free(&dev->ctrl);

	/* The kernel cleared bus master with the last close of /dev/uioX, which unmap did. */
	if (stopped && uio_command_restore(dev) != 0)
		ret = uio_not_ok("COMMAND to be left as it was found", "0x%04x instead of 0x%04x",
				uio_command_sysfs(dev->name), dev->command_found);
	return ret;
}

void
uio_emergency_stop(void)
{
	struct uio_dev *dev = NULL;
	uint32_t cc;

	while ((dev = uio_next_device(dev)) != NULL) {
		if (!dev->is_nvme || dev->ctrl.bar == NULL)
			continue;
		cc = nvme_reg_read(&dev->ctrl, NVME_REG_CC);
		if (cc != NVME_REG_GONE)
			nvme_reg_write(&dev->ctrl, NVME_REG_CC, cc & ~NVME_SET(1, NVME_CC_EN));
	}
}
