/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * rte_pci_ioport_map() is the other call that opens /dev/uioX: where the interrupt handle has no
 * type, for a legacy device whose BARs are not mapped.
 */

#include <stdio.h>

#include "test.h"
#include "pci_uio_test.h"

/* Map and unmap a port: both results, and the fds on /dev/uio* with the port and after it. */
static void
uio_port_try(struct rte_pci_device *pci, int32_t result[4])
{
	struct rte_pci_ioport port = { .dev = pci };

	result[0] = rte_pci_ioport_map(pci, uio_first_bar(pci), &port);
	result[1] = uio_count_fds("/dev/uio", NULL, 0);
	result[2] = result[0] == 0 ? rte_pci_ioport_unmap(&port) : -1;
	result[3] = uio_count_fds("/dev/uio", NULL, 0);
}

static int
uio_port_check(const int32_t result[4], int fds, int fds_after)
{
	char expected[96];

	if (result[0] != 0 || result[2] != 0)
		return uio_not_ok("rte_pci_ioport_map and _unmap to work", "%d, %d", result[0],
				result[2]);
	snprintf(expected, sizeof(expected), "%d fds on /dev/uio* with the port, %d after it", fds,
			fds_after);
	if (result[1] != fds || result[3] != fds_after)
		return uio_not_ok(expected, "%d, %d", result[1], result[3]);

	return TEST_SUCCESS;
}

static int
uio_check_port_secondary(struct uio_dev *dev __rte_unused)
{
	return uio_port_check(uio_shared->peers[0].result, 0, 0);
}

static int
uio_case_port_primary(struct uio_dev *dev)
{
	const int fds = uio_count_fds("/dev/uio", NULL, 0);
	int32_t attached[4], alone[4];
	int bars, ret;

	/* /dev/uioX is open already. */
	uio_port_try(dev->pci, attached);
	ret = uio_port_check(attached, fds, fds);
	if (ret == TEST_SUCCESS)
		ret = uio_check(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_unmap(dev);
	if (ret != TEST_SUCCESS)
		return ret;

	bars = uio_count_bars(dev->pci);
	uio_port_try(dev->pci, alone);
	ret = uio_remap(dev);
	if (ret == TEST_SUCCESS && bars != 0)
		ret = uio_not_ok("no BAR address after rte_pci_unmap_device", "%d", bars);
	if (ret == TEST_SUCCESS)
		ret = uio_port_check(alone, fds, fds - 1);

	return ret == TEST_SUCCESS ? uio_ready(dev) : ret;
}

static int
uio_use_port(struct uio_peer *peer, struct rte_pci_device *pci)
{
	uio_port_try(pci, peer->result);
	return 0;
}

static const struct uio_role uio_port_roles[] = {
	{ .name = "port", .work = uio_use_port },
};
UIO_REGISTER_ROLES(uio_port_roles)

static const struct uio_case uio_port_cases[] = {
	{ .name = "port_secondary", .role = "port", .check = uio_check_port_secondary,
		.claim = "a secondary with an I/O port never opens /dev/uio*" },
	{ .name = "port_primary", .run = uio_case_port_primary,
		.claim = "the primary closes what it opened for an I/O port, and nothing else" },
};
UIO_REGISTER_CASES(40, uio_port_cases)
