/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* Names that DPDK uses; values after the PCI specification. */
#ifndef STUB_DEV_PCI_PCIREG_H
#define STUB_DEV_PCI_PCIREG_H

#define PCIM_HDRTYPE 0x7f
#define PCIM_HDRTYPE_NORMAL 0
#define PCIM_HDRTYPE_BRIDGE 1
#define PCIM_HDRTYPE_CARDBUS 2
#define PCIR_MAX_BAR_0 5
#define PCIR_MAX_BAR_1 1
#define PCIR_MAX_BAR_2 0
#define PCIR_BAR(x) (0x10 + (x) * 4)
#define PCI_BAR_IO(x) (((x) & 1) == 1)

#endif
