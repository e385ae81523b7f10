/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef PCI_UIO_CLAIM_H
#define PCI_UIO_CLAIM_H

/** @file Other primaries than the one that runs the cases: pci_uio_claim.c */

#include "pci_uio_test.h"

/** Exit code. */
#define SECOND_FAILED 1

/** Lines of output. */
#define SECOND_IS_READY "second primary is ready"
#define SECOND_HAS_DEVICE "second primary has the device"

/** In another process: attach the device, and return it or NULL. */
struct rte_pci_device *second_attach(const char *device);
/** Print a line for uio_wait_output(). */
void second_print(const char *text);
/** Print SECOND_IS_READY and wait for SIGUSR1; 0, or SECOND_FAILED if it does not come. */
int second_wait_start(void);
/** Stay until the case is over. */
void second_stay(void);

/** Start a second primary that gets the device and ends. */
void claim_expect_success(struct uio_dev *dev, unsigned int slot);
/** Start one that is refused, and says that the process @p holder has the device. */
void claim_expect_refused(struct uio_dev *dev, unsigned int slot, pid_t holder);

#endif /* PCI_UIO_CLAIM_H */
