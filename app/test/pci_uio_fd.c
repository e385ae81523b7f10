/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* Which files of a device a process has open, and what is left of it after a detach. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_interrupts.h>

#include "test.h"
#include "pci_uio_test.h"

/* Nothing opened /dev/uioX from start to end: neither seen by the secondary nor by the kernel. */
static int
uio_expect_no_open(struct uio_dev *dev, const struct uio_spawn_args *args)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	const int watch = uio_watch_opens(dev->uio_path);
	int opens, ret;

	ret = uio_spawn(dev, 0, "return", args);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_state(dev, 0, UIO_STATE_DONE);
	if (ret == TEST_SUCCESS) {
		uio_go(0);
		ret = uio_wait_end(dev, 0, 0);
	}
	opens = uio_count_opens(watch);

	if (ret == TEST_SUCCESS && peer->uio_fds != 0)
		ret = uio_not_ok("no fd on /dev/uio*", "%s (%d in all)", peer->what, peer->uio_fds);
	if (ret == TEST_SUCCESS && opens < 0)
		ret = uio_not_ok("open() of /dev/uio* to be watched", "no watch");
	if (ret == TEST_SUCCESS && opens > 0)
		ret = uio_not_ok("no open() of /dev/uio*", "%d of %s", opens, dev->uio_path);
	return ret;
}

int
uio_case_fd_none(struct uio_dev *dev)
{
	return uio_expect_no_open(dev, NULL);
}

int
uio_case_fd_create_uio_dev(struct uio_dev *dev)
{
	const struct uio_spawn_args args = { .option = "--create-uio-dev" };

	return uio_expect_no_open(dev, &args);
}

/* After a role that ended up without the device: nothing of it is left in the secondary. */
static int
uio_expect_nothing_left(const struct uio_peer *peer)
{
	if (peer->uio_fds != 0)
		return uio_not_ok("no fd on /dev/uio*", "%s (%d in all)", peer->what,
				peer->uio_fds);
	if (peer->device_fds != 0 || peer->device_maps != 0 || peer->device_bars != 0)
		return uio_not_ok("no fd, no mapping, no BAR address of the device",
				"%d fds, %d mappings, %d addresses", peer->device_fds,
				peer->device_maps, peer->device_bars);
	return TEST_SUCCESS;
}

/* Run a role that cannot attach the device. */
static int
uio_expect_failed_attach(struct uio_dev *dev, const char *role)
{
	int ret;

	ret = uio_spawn(dev, 0, role, NULL);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_state(dev, 0, UIO_STATE_REFUSED);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_nothing_left(&uio_shared->peers[0]);
	uio_go(0);

	return ret == TEST_SUCCESS ? uio_wait_end(dev, 0, 0) : ret;
}

int
uio_case_fd_failed_attach(struct uio_dev *dev)
{
	return uio_expect_failed_attach(dev, "bar_taken");
}

int
uio_case_fd_no_config(struct uio_dev *dev)
{
	int ret = uio_expect_failed_attach(dev, "no_config");

	/* The device, the operation and the cause. */
	if (ret == TEST_SUCCESS && !uio_has_said(0, "Cannot open " UIO_NO_SYSFS, dev->pci->name,
			strerror(ENOENT))) {
		uio_blame(0);
		ret = uio_not_ok("the secondary to say which file it cannot open, and why",
				"no such line");
	}
	return ret;
}

int
uio_case_fd_detach(struct uio_dev *dev)
{
	int ret = uio_come_and_go(dev, "detach", 0);

	return ret == TEST_SUCCESS ? uio_expect_nothing_left(&uio_shared->peers[0]) : ret;
}

int
uio_case_fd_detach_unmapped(struct uio_dev *dev)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	int ret = uio_come_and_go(dev, "detach_unmapped", 0);

	if (ret == TEST_SUCCESS && peer->result[0] < 0)
		ret = uio_not_ok("standard input still to be open", "it was closed");
	return ret == TEST_SUCCESS ? uio_expect_nothing_left(peer) : ret;
}

/*
 * rte_pci_ioport_map() is the other way to /dev/uioX: it opens it where the interrupt handle has
 * no type, for a legacy device whose BARs are not mapped. It takes a memory BAR as well, so that
 * any device will do here.
 */
int
uio_first_bar(const struct rte_pci_device *pci)
{
	int bar = 0;

	while (bar < PCI_MAX_RESOURCE - 1 && pci->mem_resource[bar].phys_addr == 0)
		bar++;
	return bar;
}

void
uio_port_try(struct rte_pci_device *pci, struct uio_port_view *view)
{
	struct rte_pci_ioport port = { .dev = pci };

	view->mapped = rte_pci_ioport_map(pci, uio_first_bar(pci), &port);
	view->fds = uio_count_fds("/dev/uio", NULL, 0);
	view->unmapped = view->mapped == 0 ? rte_pci_ioport_unmap(&port) : -1;
	view->fds_after = uio_count_fds("/dev/uio", NULL, 0);
}

/* Fail the case unless a port came and went with so many fds of its own. */
static int
uio_port_check(const struct uio_port_view *view, int fds, int fds_after)
{
	char expected[96];

	if (view->mapped != 0 || view->unmapped != 0)
		return uio_not_ok("rte_pci_ioport_map and _unmap to work", "%d, %d", view->mapped,
				view->unmapped);
	snprintf(expected, sizeof(expected), "%d fds on /dev/uio* with the port, %d after it", fds,
			fds_after);
	if (view->fds != fds || view->fds_after != fds_after)
		return uio_not_ok(expected, "%d, %d", view->fds, view->fds_after);

	return TEST_SUCCESS;
}

int
uio_case_port_secondary(struct uio_dev *dev)
{
	int ret = uio_come_and_go(dev, "port", 0);

	if (ret == TEST_SUCCESS)
		ret = uio_check(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_port_check(&uio_shared->peers[0].port, 0, 0);

	return ret;
}

int
uio_case_port_primary(struct uio_dev *dev)
{
	const int fds = uio_count_fds("/dev/uio", NULL, 0);
	struct uio_port_view attached, alone;
	int bars, ret;

	/* It has been opened already. */
	uio_port_try(dev->pci, &attached);
	ret = uio_port_check(&attached, fds, fds);
	if (ret == TEST_SUCCESS)
		ret = uio_check(dev);
	if (ret != TEST_SUCCESS)
		return ret;

	ret = uio_let_go(dev);
	if (ret != TEST_SUCCESS)
		return ret;
	bars = uio_count_bars(dev->pci);
	uio_port_try(dev->pci, &alone);
	ret = uio_take_back(dev);
	if (ret != TEST_SUCCESS)
		return ret;
	if (bars != 0)
		return uio_not_ok("no BAR address after rte_pci_unmap_device", "%d", bars);
	ret = uio_port_check(&alone, fds, fds - 1);

	return ret == TEST_SUCCESS ? uio_ready(dev) : ret;
}
