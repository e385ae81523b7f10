/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef PCI_UIO_CLAIM_H
#define PCI_UIO_CLAIM_H

#include "pci_uio_test.h"

/** Start a second primary, which must be refused, as the process @p holder has the device. */
void claim_expect_refused(struct uio_dev *dev, unsigned int slot, pid_t holder);

#endif /* PCI_UIO_CLAIM_H */
