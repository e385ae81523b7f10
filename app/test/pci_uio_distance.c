/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* Where the primary maps the BARs: a secondary must be able to map them at the same addresses. */

#include <inttypes.h>
#include <stdio.h>

#include "test.h"
#include "pci_uio_test.h"

/* Libraries are loaded closer to each other than this, at addresses that differ by process. */
#define APART (UINT64_C(64) << 30)

static void
case_bar_apart(struct uio_dev *dev)
{
	/* An object in a library. */
	const uintptr_t libc = (uintptr_t)stdout;
	int i;

	uio_expect(uio_count_bars(dev->pci) > 0, "a mapped BAR, got none");
	for (i = 0; i < PCI_MAX_RESOURCE; i++) {
		const uintptr_t bar = (uintptr_t)dev->pci->mem_resource[i].addr;
		const uintptr_t distance = bar > libc ? bar - libc : libc - bar;

		uio_expect(bar == 0 || distance > APART, "each BAR far from libc, got BAR %d at "
				"0x%" PRIxPTR ", libc at 0x%" PRIxPTR, i, bar, libc);
	}
}

static const struct uio_case uio_distance_cases[] = {
	{ .name = "bar_apart", .run = case_bar_apart,
		.claim = "no BAR is mapped where another process may have a library" },
};
UIO_REGISTER_CASES(12, uio_distance_cases)
