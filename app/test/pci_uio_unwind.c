/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* What a failed attach and a detach leave behind in a secondary. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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
role_take_bar(struct uio_peer *peer __rte_unused, const char *device __rte_unused)
{
	void *addr = mmap(uio_shared->bar_addr, uio_shared->bar_len, PROT_READ,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return addr == uio_shared->bar_addr ? 0 : -1;
}

/* Hide the files of the device, now that the scan has found it. */
static int
role_hide_config(struct uio_peer *peer __rte_unused, const char *device __rte_unused)
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

/* The message has the device, the operation and the cause. */
static void
check_no_config(struct uio_dev *dev)
{
	char pattern[128];

	snprintf(pattern, sizeof(pattern), "*Cannot open " NO_SYSFS "*%s*: %s\n", dev->name,
			strerror(ENOENT));
	uio_expect_output(0, pattern);
}

static void
check_detach(struct uio_dev *dev __rte_unused)
{
	uio_expect_nothing_left(0);
}

static void
check_detach_unmapped(struct uio_dev *dev __rte_unused)
{
	uio_expect(uio_shared->peers[0].result[0] >= 0,
			"standard input still open, got it closed");
	uio_expect_nothing_left(0);
}

static const struct uio_case uio_unwind_cases[] = {
	{ .name = "fd_failed_attach", .role = "bar_taken", .flags = UIO_CASE_FAILS,
		.claim = "a failed attach leaves no fd and no mapping of the device" },
	{ .name = "fd_no_config", .role = "no_config", .flags = UIO_CASE_FAILS,
		.check = check_no_config,
		.claim = "a secondary that cannot open config space says so and cleans up" },
	{ .name = "fd_detach", .role = "detach", .check = check_detach,
		.claim = "a local detach leaves no fd and no mapping of the device" },
	{ .name = "fd_detach_unmapped", .role = "detach_unmapped",
		.check = check_detach_unmapped,
		.claim = "a local detach of a device that was not mapped closes nothing" },
};
UIO_REGISTER_CASES(15, uio_unwind_cases)
