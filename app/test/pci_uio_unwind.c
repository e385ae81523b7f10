/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* What a failed attach and a detach leave behind in a secondary. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"
#include "pci_uio_test.h"

/* A folder of devices that does not exist. */
#define NO_SYSFS "/nonexistent"

/* In a secondary. */

/* Take the address of the primary's BAR, so that the BAR cannot be mapped there. */
static int
role_take_bar(struct uio_peer *peer __rte_unused)
{
	void *addr = mmap(uio_shared->bar_addr, uio_shared->bar_len, PROT_READ,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return addr == uio_shared->bar_addr ? 0 : -1;
}

/* Hide the files of the device, now that the scan has found it. */
static int
role_hide_config(struct uio_peer *peer __rte_unused)
{
	return setenv("SYSFS_PCI_DEVICES", NO_SYSFS, 1);
}

/* What a driver does that maps no BAR: the device has nothing to close. */
static int
role_detach_unmapped(struct uio_peer *peer, struct rte_pci_device *pci)
{
	/* The fds of an interrupt handle that no attach has set read 0: fd 0 must be open. */
	if (fcntl(STDIN_FILENO, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != STDIN_FILENO)
		return -1;
	rte_pci_unmap_device(pci);
	peer->result[0] = fcntl(STDIN_FILENO, F_GETFD);
	return 0;
}

static const struct uio_role uio_unwind_roles[] = {
	{ .name = "bar_taken", .before = role_take_bar },
	{ .name = "no_config", .before = role_hide_config },
	{ .name = "detach_unmapped", .work = role_detach_unmapped, .leave_unmapped = true },
};
UIO_REGISTER_ROLES(uio_unwind_roles)

/* In the primary. */

/* After a role without the device at its end: nothing of the device is left in the secondary. */
static void
check_nothing_left(struct uio_dev *dev __rte_unused)
{
	const struct uio_peer *peer = &uio_shared->peers[0];

	uio_expect(peer->uio_fds == 0, "no fd on /dev/uio*, got %s", peer->what);
	uio_expect(peer->device_fds == 0 && peer->device_maps == 0 && peer->device_bars == 0,
			"no fd, no mapping, no BAR address of the device, got %d fds, %d "
			"mappings, %d addresses", peer->device_fds, peer->device_maps,
			peer->device_bars);
}

/* The message has the device, the operation and the cause. */
static void
check_no_config(struct uio_dev *dev)
{
	check_nothing_left(dev);
	uio_expect_output(0, "Cannot open " NO_SYSFS, dev->name, strerror(ENOENT));
}

static void
check_detach_unmapped(struct uio_dev *dev)
{
	uio_expect(uio_shared->peers[0].result[0] >= 0,
			"standard input still open, got it closed");
	check_nothing_left(dev);
}

static const struct uio_case uio_unwind_cases[] = {
	{ .name = "fd_failed_attach", .role = "bar_taken", .flags = UIO_CASE_FAILS,
		.check = check_nothing_left,
		.claim = "a failed attach leaves no fd and no mapping of the device" },
	{ .name = "fd_no_config", .role = "no_config", .flags = UIO_CASE_FAILS,
		.check = check_no_config,
		.claim = "a secondary that cannot open config space says so and cleans up" },
	{ .name = "fd_detach", .role = "detach", .check = check_nothing_left,
		.claim = "a local detach leaves no fd and no mapping of the device" },
	{ .name = "fd_detach_unmapped", .role = "detach_unmapped",
		.check = check_detach_unmapped,
		.claim = "a local detach of a device that was not mapped closes nothing" },
};
UIO_REGISTER_CASES(15, uio_unwind_cases)
