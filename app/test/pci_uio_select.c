/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>

#include "test.h"
#include "pci_uio_test.h"

static struct uio_dev *uio_devices;
static unsigned int *uio_devices_nb;

/* Keep a device that the driver was probed with. */
static bool
uio_accept(struct rte_pci_device *pci)
{
	struct uio_dev *dev;
	unsigned int d;

	for (d = 0; d < *uio_devices_nb; d++) {
		dev = &uio_devices[d];
		if (dev->pci != pci)
			continue;
		dev->in_use = true;
		return true;
	}
	return false;
}

/* Whether this process can run the test at all. */
static int
uio_check_process(void)
{
	char config[PATH_MAX], path[PATH_MAX];

	if (geteuid() != 0)
		return uio_skip("not root, which /dev/uioX and IOVA need: run with sudo");
	if (!rte_eal_has_hugepages())
		return uio_skip("no hugepages: reserve some, e.g. dpdk-hugepages.py --setup 128M, "
				"and run without --no-huge");
	if (rte_eal_iova_mode() != RTE_IOVA_PA)
		return uio_skip("IOVA are not physical addresses: run with --iova-mode=pa");
	/* That the file exists is not enough: an earlier process may have left it. */
	snprintf(config, sizeof(config), "%s/config", rte_eal_get_runtime_dir());
	if (realpath(config, path) == NULL || uio_count_maps(path) == 0)
		return uio_skip("no %s for secondaries to share: run without --in-memory and "
				"--no-shconf", config);

	return TEST_SUCCESS;
}

/* Take a device into the list, or say why the test must not run. */
static int
uio_select(struct rte_pci_device *pci)
{
	struct uio_dev *dev = &uio_devices[*uio_devices_nb];
	pid_t holder;

	if (pci->kdrv == RTE_PCI_KDRV_VFIO || pci->kdrv == RTE_PCI_KDRV_IGB_UIO)
		return uio_skip("%s is bound to another driver than uio_pci_generic, and would be "
				"attached as well: allow only what is to be tested, with -a",
				pci->name);
	/* With a kernel driver, or none: the bus does not attach it. */
	if (pci->kdrv != RTE_PCI_KDRV_UIO_GENERIC)
		return TEST_SUCCESS;

	memset(dev, 0, sizeof(*dev));
	if (uio_dev_path(pci, dev->uio_path, sizeof(dev->uio_path)) != 0 ||
			uio_command_sysfs(pci) < 0)
		return uio_skip("%s has no /dev/uioX, or its config space is not readable: bind it "
				"again, dpdk-devbind.py -b uio_pci_generic %s", pci->name,
				pci->name);
	holder = uio_holder(dev->uio_path);
	if (holder != 0)
		return uio_skip("%s is in use: process %d has %s open; end it, or allow another "
				"device with -a", pci->name, (int)holder, dev->uio_path);
	if (*uio_devices_nb == UIO_DEVICES_MAX)
		return uio_skip("more than %u devices: allow fewer, with -a", UIO_DEVICES_MAX);
	dev->pci = pci;
	dev->is_nvme = pci->id.class_id == NVME_PCI_CLASS;
	dev->command_found = uio_command_sysfs(pci);
	(*uio_devices_nb)++;

	return TEST_SUCCESS;
}

/* List the devices to test, before anything is opened. */
static int
uio_select_all(void)
{
	struct rte_dev_iterator iterator;
	struct rte_pci_device *pci;
	struct rte_device *dev;
	int ret = TEST_SUCCESS;

	RTE_DEV_FOREACH(dev, "bus=pci", &iterator) {
		pci = container_of(dev, struct rte_pci_device, device);
		/* What a driver of this dpdk-test has taken is not for this test. */
		if (ret == TEST_SUCCESS && dev->driver == NULL && uio_driver_matches(pci))
			ret = uio_select(pci);
	}
	if (ret == TEST_SUCCESS && *uio_devices_nb == 0)
		ret = uio_skip("no NVMe drive on uio_pci_generic: modprobe uio_pci_generic, "
				"dpdk-devbind.py -b uio_pci_generic BDF, allow it with -a BDF");

	return ret;
}

/* Attach again what an earlier run of the test in this process has left. */
static int
uio_attach_again(void)
{
	unsigned int d;

	for (d = 0; d < *uio_devices_nb; d++) {
		if (rte_pci_map_device(uio_devices[d].pci) != 0)
			return uio_not_ok("the device to be attached again", "an error for %s",
					uio_devices[d].pci->name);
		uio_devices[d].in_use = true;
		uio_devices[d].dead = false;
	}
	return TEST_SUCCESS;
}

int
uio_devices_attach(struct uio_dev *devices, unsigned int *nb)
{
	const bool again = *nb > 0;
	struct uio_dev *dev;
	unsigned int d;
	int ret;

	uio_devices = devices;
	uio_devices_nb = nb;
	uio_driver_register(uio_accept, true);
	ret = uio_check_process();
	if (ret != TEST_SUCCESS)
		return ret;
	if (again) {
		ret = uio_attach_again();
	} else {
		rte_bus_scan();
		ret = uio_select_all();
		if (ret == TEST_SUCCESS)
			rte_bus_probe();
		else
			*nb = 0;
	}

	for (d = 0; d < *nb && ret == TEST_SUCCESS; d++) {
		dev = &uio_devices[d];
		if (!dev->in_use)
			ret = uio_not_ok("the primary to attach the device", "no probe of %s",
					dev->pci->name);
		else if (dev->is_nvme && nvme_ctrl_init(&dev->ctrl, dev->pci->name,
				dev->pci->mem_resource[0].addr, uio_settings.time_scale) != 0)
			ret = uio_not_ok("an NVMe controller", "%s", dev->ctrl.error);
	}
	return ret;
}
