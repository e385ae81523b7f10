/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* The driver, which devices it takes, and their files. */

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_bus.h>
#include <rte_byteorder.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_pci.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_test.h"

/* Bits of COMMAND that the test may change, and restores. */
#define COMMAND_INTX_DISABLE 0x400
#define COMMAND_OURS (RTE_PCI_COMMAND_MASTER | COMMAND_INTX_DISABLE)

/* NVMe, and devices of QEMU that do DMA and stand for all others. */
static const struct rte_pci_id uio_ids[] = {
	{
		.class_id = NVME_PCI_CLASS,
		.vendor_id = RTE_PCI_ANY_ID,
		.device_id = RTE_PCI_ANY_ID,
		.subsystem_vendor_id = RTE_PCI_ANY_ID,
		.subsystem_device_id = RTE_PCI_ANY_ID,
	},
	{ RTE_PCI_DEVICE(0x1234, 0x11e8) }, /* edu */
	{ RTE_PCI_DEVICE(0x8086, 0x10d3) }, /* e1000e */
	{ RTE_PCI_DEVICE(0x15ad, 0x07b0) }, /* vmxnet3 */
	{ .vendor_id = 0 },
};

/*
 * Drives of which no register may be read for some time after CC.EN 0: they hang. The same list
 * as in other NVMe drivers.
 */
static const struct rte_pci_id uio_slow_ids[] = {
	{ RTE_PCI_DEVICE(0x144d, 0xa821) }, { RTE_PCI_DEVICE(0x144d, 0xa822) },
	{ RTE_PCI_DEVICE(0x144d, 0xa826) }, { RTE_PCI_DEVICE(0x1c58, 0x0003) },
	{ RTE_PCI_DEVICE(0x1c58, 0x0023) }, { RTE_PCI_DEVICE(0x1c5f, 0x0540) },
	{ .vendor_id = 0 },
};
#define UIO_SETTLE_MS 2500

/* QEMU's controllers: what a doorbell write without a defined result does there is known. */
static const struct rte_pci_id uio_emulated_ids[] = {
	{ RTE_PCI_DEVICE(0x1b36, 0x0010) }, { RTE_PCI_DEVICE(0x8086, 0x5845) },
	{ .vendor_id = 0 },
};

struct uio_dev uio_devices[UIO_DEVICES_MAX];
unsigned int uio_devices_nb;

static bool (*uio_accept)(struct rte_pci_device *pci);
int uio_remove_answer;

static int
uio_probe(struct rte_pci_driver *driver __rte_unused, struct rte_pci_device *pci)
{
	return uio_accept(pci) ? 0 : 1;
}

/*
 * Nothing to do, on purpose: it runs in rte_eal_cleanup() of a secondary as well, where the
 * device is the primary's to stop.
 */
static int
uio_remove(struct rte_pci_device *pci __rte_unused)
{
	return uio_remove_answer;
}

static struct rte_pci_driver uio_driver = {
	.driver = { .name = "test_pci_uio_secondary" },
	.id_table = uio_ids,
	.probe = uio_probe,
	.remove = uio_remove,
};

/* Not by RTE_PMD_REGISTER_PCI: no other command of dpdk-test shall find a drive attached. */
void
uio_driver_register(bool (*accept)(struct rte_pci_device *pci), bool map)
{
	uio_accept = accept;
	uio_driver.drv_flags = map ? RTE_PCI_DRV_NEED_MAPPING : 0;
	rte_pci_register(&uio_driver);
}

void
uio_driver_unregister(void)
{
	rte_pci_unregister(&uio_driver);
	uio_remove_answer = 0;
}

static bool
uio_has_id(const struct rte_pci_device *pci, const struct rte_pci_id *id)
{
	for (; id->vendor_id != 0; id++) {
		if (id->class_id != RTE_CLASS_ANY_ID ? id->class_id == pci->id.class_id :
				id->vendor_id == pci->id.vendor_id &&
				id->device_id == pci->id.device_id)
			return true;
	}
	return false;
}

void
uio_sysfs_path(const char *device, const char *file, char *path, size_t size)
{
	snprintf(path, size, "%s/%s/%s", rte_pci_get_sysfs_path(), device, file);
}

bool
uio_sysfs_read(const char *device, const char *file, char *line, size_t size)
{
	char path[PATH_MAX];
	bool found;
	FILE *f;

	uio_sysfs_path(device, file, path, sizeof(path));
	f = fopen(path, "r");
	found = f != NULL && fgets(line, size, f) != NULL;
	if (f != NULL)
		fclose(f);
	if (!found)
		line[0] = '\0';

	return found;
}

int
uio_sysfs_reset(const char *device)
{
	char path[PATH_MAX];
	ssize_t len = -1;
	int fd;

	uio_sysfs_path(device, "reset", path, sizeof(path));
	fd = open(path, O_WRONLY);
	if (fd >= 0) {
		len = write(fd, "1", 1);
		close(fd);
	}
	printf("# %s: reset through sysfs: %s\n", device, len == 1 ? "done" : strerror(errno));

	return len == 1 ? 0 : -1;
}

/* /dev/uioX of the device, or empty when it has none. */
static void
uio_find_path(const char *device, char *path, size_t size)
{
	char pattern[PATH_MAX];
	glob_t found;

	path[0] = '\0';
	uio_sysfs_path(device, "uio/uio*", pattern, sizeof(pattern));
	if (glob(pattern, 0, NULL, &found) == 0) {
		snprintf(path, size, "/dev%s", strrchr(found.gl_pathv[0], '/'));
		globfree(&found);
	}
}

int
uio_count_fds(const char *process, const char *file, char *what, size_t size)
{
	char links[64], target[PATH_MAX];
	int count = 0;
	ssize_t len;
	glob_t all;
	size_t i;

	snprintf(links, sizeof(links), "/proc/%s/fd/*", process);
	if (glob(links, GLOB_NOSORT, NULL, &all) != 0)
		return 0;
	for (i = 0; i < all.gl_pathc; i++) {
		/* It may have been closed meanwhile. */
		len = readlink(all.gl_pathv[i], target, sizeof(target) - 1);
		target[RTE_MAX(len, 0)] = '\0';
		if (fnmatch(file, target, 0) == 0 && count++ == 0 && what != NULL)
			snprintf(what, size, "%s on %.200s", all.gl_pathv[i], target);
	}
	globfree(&all);

	return count;
}

int
uio_count_maps(const char *part)
{
	char line[PATH_MAX];
	int count = 0;
	FILE *maps;

	maps = fopen("/proc/self/maps", "r");
	if (maps == NULL)
		return 0;
	while (fgets(line, sizeof(line), maps) != NULL)
		count += strstr(line, part) != NULL;
	fclose(maps);

	return count;
}

int
uio_count_bars(const struct rte_pci_device *pci)
{
	int i, count = 0;

	for (i = 0; i < PCI_MAX_RESOURCE; i++)
		count += pci->mem_resource[i].phys_addr != 0 && pci->mem_resource[i].addr != NULL;

	return count;
}

int
uio_first_bar(const struct rte_pci_device *pci)
{
	int bar = 0;

	while (bar < PCI_MAX_RESOURCE - 1 && pci->mem_resource[bar].phys_addr == 0)
		bar++;
	return bar;
}

/* Read COMMAND through sysfs, or write it. */
static int
uio_command_access(const char *device, uint16_t *command, bool write)
{
	char path[PATH_MAX];
	ssize_t len;
	int fd;

	uio_sysfs_path(device, "config", path, sizeof(path));
	fd = open(path, write ? O_RDWR : O_RDONLY);
	if (fd < 0)
		return -1;
	len = write ? pwrite(fd, command, sizeof(*command), RTE_PCI_COMMAND) :
		pread(fd, command, sizeof(*command), RTE_PCI_COMMAND);
	close(fd);

	return len == sizeof(*command) ? 0 : -1;
}

int
uio_command_sysfs(const char *device)
{
	uint16_t command;

	return uio_command_access(device, &command, false) == 0 ? rte_le_to_cpu_16(command) : -1;
}

int
uio_command_restore(struct uio_dev *dev)
{
	const int now = uio_command_sysfs(dev->name);
	const int then = (now & ~COMMAND_OURS) | (dev->command_found & COMMAND_OURS);
	uint16_t command = rte_cpu_to_le_16(then);

	if (now < 0 || (now != then && uio_command_access(dev->name, &command, true) != 0))
		return -1;
	return uio_command_sysfs(dev->name) == then ? 0 : -1;
}

/* Keep a device that was chosen. */
static bool
uio_accept_chosen(struct rte_pci_device *pci)
{
	struct uio_dev *dev;

	UIO_FOREACH_DEVICE(dev) {
		if (strcmp(dev->name, pci->name) == 0) {
			dev->pci = pci;
			uio_set_mapped(dev, true);
			return true;
		}
	}
	return false;
}

/* Whether this process can run the test at all. */
static bool
uio_check_process(void)
{
	char config[PATH_MAX], path[PATH_MAX];

	/* That the file exists is not enough: an earlier process may have left it. */
	snprintf(config, sizeof(config), "%s/config", rte_eal_get_runtime_dir());
	if (geteuid() != 0)
		uio_skip("not root, which /dev/uioX and IOVA need: run with sudo");
	else if (!rte_eal_has_hugepages())
		uio_skip("no hugepages: reserve some, e.g. dpdk-hugepages.py --setup 128M, and run "
				"without --no-huge");
	else if (rte_eal_iova_mode() != RTE_IOVA_PA)
		uio_skip("IOVA are not physical addresses: run with --iova-mode=pa");
	else if (realpath(config, path) == NULL || uio_count_maps(path) == 0)
		uio_skip("no %s for secondaries to share: run without --in-memory and "
				"--no-shconf", config);
	return uio_ok();
}

static int
uio_ctrl_init(struct uio_dev *dev, void *bar)
{
	const int ret = nvme_ctrl_init(&dev->ctrl, dev->name, bar, uio_settings.time_scale);

	dev->ctrl.settle_ms = dev->settle_ms;
	return ret;
}

/* BAR 0 is mapped without /dev/uioX. */
bool
uio_stop_stale(struct uio_dev *dev)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	void *bar = MAP_FAILED;
	char path[PATH_MAX];
	int fd, ret;

	uio_sysfs_path(dev->name, "resource0", path, sizeof(path));
	fd = open(path, O_RDWR);
	if (fd >= 0) {
		bar = mmap(NULL, NVME_REG_DBS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}
	if (bar == MAP_FAILED) {
		uio_expect(false, "BAR 0 to be mapped, got %s: %s", path, strerror(errno));
		return false;
	}
	ret = uio_ctrl_init(dev, bar);
	if (ret != -ENODEV && (nvme_reg_read(ctrl, NVME_REG_CC) & NVME_CC_EN)) {
		printf("# %s: found enabled, CC 0x%08x CSTS 0x%08x: disabled before the attach\n",
				dev->name, nvme_reg_read(ctrl, NVME_REG_CC),
				nvme_reg_read(ctrl, NVME_REG_CSTS));
		ret = nvme_disable(ctrl);
	}
	if (ret != 0 && ret != -ENOTSUP && uio_sysfs_reset(dev->name) == 0) {
		/* Its timeouts could not be read if its registers read as ones. */
		ret = uio_ctrl_init(dev, bar);
		if (ret == 0 || ret == -ENOTSUP)
			ret = nvme_disable(ctrl);
	}
	munmap(bar, NVME_REG_DBS);
	ctrl->bar = NULL;
	if (ret == -ENOTSUP)
		ret = 0;
	uio_expect(ret == 0, "a controller that stops while it is not attached, got %s; reset it: "
			"echo 1 > /sys/bus/pci/devices/%s/reset", ctrl->error, dev->name);
	return ret == 0;
}

/* Take a device into the list, or say why the test must not run. */
static void
uio_choose(struct rte_pci_device *pci)
{
	const struct rte_devargs *args = pci->device.devargs;
	struct uio_dev *dev = &uio_devices[uio_devices_nb];
	const struct rte_driver *driver = pci->device.driver;
	const char *why_not = NULL;
	char type[16], holder[256];
	bool would_attach;

	if (driver != NULL && driver != &uio_driver.driver)
		why_not = driver->name;
	else if (pci->kdrv != RTE_PCI_KDRV_UIO_GENERIC)
		why_not = "not uio_pci_generic";
	would_attach = why_not == NULL || (driver == NULL &&
			(pci->kdrv == RTE_PCI_KDRV_VFIO || pci->kdrv == RTE_PCI_KDRV_IGB_UIO));
	if (args == NULL && would_attach)
		/* No allow list: a probe would take this device, and others. */
		uio_skip("%s is not named: name each device to test with -a, this test resets it",
				pci->name);
	else if (args != NULL && args->policy == RTE_DEV_ALLOWED && would_attach && why_not != NULL)
		uio_skip("%s is bound to another driver than uio_pci_generic, and would be "
				"attached as well: name only what is to be tested, with -a",
				pci->name);
	else if (args != NULL && args->policy == RTE_DEV_ALLOWED && why_not != NULL)
		printf("# %s: not tested: bound to %s\n", pci->name, why_not);
	else if (args != NULL && uio_devices_nb == UIO_DEVICES_MAX)
		uio_skip("more than %u devices: name fewer, with -a", UIO_DEVICES_MAX);
	if (args == NULL || args->policy != RTE_DEV_ALLOWED || why_not != NULL || !uio_ok())
		return;

	memset(dev, 0, sizeof(*dev));
	strlcpy(dev->name, pci->name, sizeof(dev->name));
	dev->pci = pci;
	dev->ctrl.name = dev->name;
	dev->is_nvme = pci->id.class_id == NVME_PCI_CLASS;
	dev->emulated = uio_has_id(pci, uio_emulated_ids);
	dev->settle_ms = uio_has_id(pci, uio_slow_ids) ? UIO_SETTLE_MS : 0;
	dev->command_found = uio_command_sysfs(dev->name);
	uio_find_path(dev->name, dev->uio_path, sizeof(dev->uio_path));
	if (dev->uio_path[0] == '\0' || uio_command_sysfs(dev->name) < 0)
		uio_skip("%s has no /dev/uioX, or its config space is not readable: bind it again, "
				"dpdk-devbind.py -b uio_pci_generic %s", dev->name, dev->name);
	if (uio_count_fds("[0-9]*", dev->uio_path, holder, sizeof(holder)) > 0)
		uio_skip("%s is in use: %s; end that process, or name another device with -a",
				dev->name, holder);
	if (uio_sysfs_read(dev->name, "iommu_group/type", type, sizeof(type)) &&
			strncmp(type, "DMA", strlen("DMA")) == 0)
		snprintf(dev->unsuitable, sizeof(dev->unsuitable), "the IOMMU translates addresses "
				"of %s: boot with iommu=pt", pci->name);
	uio_devices_nb++;
	if (dev->is_nvme && uio_ok())
		uio_stop_stale(dev);
}

/* List the devices to test, before anything is opened. */
static bool
uio_choose_all(void)
{
	struct rte_dev_iterator iterator;
	struct rte_pci_device *pci;
	struct rte_device *dev;

	RTE_DEV_FOREACH(dev, "bus=pci", &iterator) {
		pci = container_of(dev, struct rte_pci_device, device);
		if (uio_ok() && uio_has_id(pci, uio_ids))
			uio_choose(pci);
	}
	if (uio_devices_nb == 0)
		uio_skip("no NVMe drive on uio_pci_generic is named: "
				"modprobe uio_pci_generic, dpdk-devbind.py -b uio_pci_generic BDF, "
				"and name it with -a BDF");
	return uio_ok();
}

bool
uio_open_and_close(struct uio_dev *dev)
{
	const int fd = open(dev->uio_path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return uio_expect(fd >= 0, "%s to be opened, got %s", dev->uio_path, strerror(errno));
}

/* Find out whether this kernel clears bus master with a close. No controller does DMA yet. */
static void
uio_inspect_kernel(struct uio_dev *dev)
{
	int command;

	if (!uio_open_and_close(dev))
		return;
	command = uio_command_sysfs(dev->name);
	dev->keeps_bus_master = command >= 0 && (command & RTE_PCI_COMMAND_MASTER) != 0;
	uio_expect(rte_pci_set_bus_master(dev->pci, true) == 0,
			"the primary to set bus master, got an error");
}

/* Find what works of a controller, and stop it. What fails here, uio_ready() tries again. */
static void
uio_inspect(struct uio_dev *dev)
{
	int ret = uio_ctrl_init(dev, dev->pci->mem_resource[0].addr);

	if (ret == 0 && dev->unsuitable[0] == '\0')
		ret = nvme_bring_up(&dev->ctrl);
	if (ret == -ENOTSUP)
		strlcpy(dev->unsuitable, dev->ctrl.error, sizeof(dev->unsuitable));
	else if (ret == 0 && NVME_GET(dev->ctrl.cap, NVME_CAP_MQES) < UIO_DEPTH_MIN)
		snprintf(dev->unsuitable, sizeof(dev->unsuitable), "%s has no queues for %u reads "
				"at a time", dev->name, UIO_DEPTH_MIN);
	if (nvme_disable(&dev->ctrl) != 0 || (ret != 0 && ret != -ENOTSUP))
		printf("# %s\n", dev->ctrl.error);
}

bool
uio_devices_attach(void)
{
	struct uio_dev *dev;

	uio_devices_nb = 0;
	uio_remove_answer = -EBUSY;
	uio_driver_register(uio_accept_chosen, true);
	if (!uio_check_process())
		return false;
	rte_bus_scan();
	if (!uio_choose_all())
		return false;
	rte_bus_probe();
	UIO_FOREACH_DEVICE(dev) {
		/* An earlier run in this process has probed it, and unmapped it. */
		if (!dev->mapped && dev->pci->device.driver != NULL)
			dev->mapped = rte_pci_map_device(dev->pci) == 0;
		uio_expect(dev->mapped, "the primary to attach the device, got no probe of %s",
				dev->name);
		uio_expect_bus_master(dev, true, "after the attach");
		if (dev->mapped && dev->is_nvme)
			uio_inspect(dev);
		if (dev->mapped)
			uio_inspect_kernel(dev);
	}
	return uio_ok();
}
