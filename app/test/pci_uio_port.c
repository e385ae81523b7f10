/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * rte_pci_ioport_map() is the other call that opens /dev/uioX: where the interrupt handle has no
 * type, for a legacy device whose BARs are not mapped.
 */

#include <errno.h>
#include <stdio.h>

#include "test.h"
#include "pci_uio_test.h"

/* Map and unmap a port: both results, and the fds on /dev/uio* with the port and after it. */
static void
try_port(struct rte_pci_device *pci, int32_t result[4])
{
	struct rte_pci_ioport port = { .dev = pci };
	const int mapped = rte_pci_ioport_map(pci, uio_first_bar(pci), &port);
	uint16_t id;

	result[0] = mapped;
	/* Config space belongs to it: virtio finds its capabilities there. */
	if (mapped == 0 && rte_pci_read_config(pci, &id, sizeof(id), 0) != sizeof(id))
		result[0] = -EIO;
	result[1] = uio_count_fds("self", "/dev/uio*", NULL, 0);
	result[2] = mapped == 0 ? rte_pci_ioport_unmap(&port) : -1;
	result[3] = uio_count_fds("self", "/dev/uio*", NULL, 0);
}

static void
expect_works(const int32_t result[4])
{
	uio_expect(result[0] == 0 && result[2] == 0,
			"rte_pci_ioport_map, a read of config space, rte_pci_ioport_unmap to work, "
			"got %d, %d", result[0], result[2]);
}

static void
expect_port(const int32_t result[4], int fds, int fds_after)
{
	expect_works(result);
	uio_expect(result[1] == fds && result[3] == fds_after, "%d fds on /dev/uio* with the port, "
			"%d after it, got %d, %d", fds, fds_after, result[1], result[3]);
}

static int
role_port(struct uio_peer *peer, struct rte_pci_device *pci)
{
	try_port(pci, peer->result);
	return 0;
}

static const struct uio_role uio_port_roles[] = {
	{ .name = "port", .work = role_port },
};
UIO_REGISTER_ROLES(uio_port_roles)

static void
check_port_secondary(struct uio_dev *dev __rte_unused)
{
	expect_works(uio_shared->peers[0].result);
}

static void
case_port_primary(struct uio_dev *dev)
{
	const int fds = uio_count_fds("self", "/dev/uio*", NULL, 0);
	int32_t result[4];
	int bars;

	/* /dev/uioX is open already. */
	try_port(dev->pci, result);
	expect_port(result, fds, fds);
	uio_check(dev);
	if (!uio_unmap(dev))
		return;
	bars = uio_count_bars(dev->pci);
	uio_expect(bars == 0, "no BAR address after rte_pci_unmap_device, got %d", bars);
	try_port(dev->pci, result);
	uio_remap(dev);
	expect_port(result, fds, fds - 1);
	uio_ready(dev);
}

static const struct uio_case uio_port_cases[] = {
	{ .name = "port_secondary", .role = "port", .flags = UIO_CASE_NO_OPEN | UIO_CASE_PORT,
		.check = check_port_secondary,
		.claim = "a secondary with an I/O port never opens /dev/uio*" },
	{ .name = "port_primary", .flags = UIO_CASE_PORT, .run = case_port_primary,
		.claim = "the primary closes what it opened for an I/O port, and nothing else" },
};
UIO_REGISTER_CASES(40, uio_port_cases)
