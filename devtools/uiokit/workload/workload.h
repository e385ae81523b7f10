/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef WORKLOAD_H
#define WORKLOAD_H

/**
 * @file
 * A program for many processes on the same NVMe drives:
 *
 *   uio_workload <EAL options> --proc-type=primary -- [--pause US] [--wait]
 *   uio_workload <EAL options> --proc-type=secondary -- [--nothing] [--stay] ...
 *
 * The primary owns all drives that it is allowed and reads from them all the time (primary.c). A
 * secondary attaches them, uses their config space, and leaves (secondary.c). Both tell what they see
 * as one JSON object a line on stdout. devtools/uiokit/workload/workload.py starts them.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <bus_pci_driver.h>
#include <rte_bus_pci.h>

#include "nvme_ctrl.h"

#define WORKLOAD_DRIVES_MAX 64

/* PCI Local Bus 3.0, 6.1 and 6.2.2 */
#define CONFIG_COMMAND 0x04
#define CONFIG_COMMAND_MASTER 0x4
#define CONFIG_CACHE_LINE_SIZE 0x0c /* without effect on PCI Express, and writable */

extern struct rte_pci_device *workload_devices[WORKLOAD_DRIVES_MAX];
extern unsigned int workload_devices_nb;

/** Scan the bus and attach every NVMe drive that EAL allows, as a bus does at hotplug. */
void workload_attach(void);

/** CLOCK_MONOTONIC, in nanoseconds. */
uint64_t workload_now(void);

/** COMMAND in config space, opened anew through sysfs, or negative. */
int workload_command(const struct rte_pci_device *pci);

/** FDs of this process, and mappings, whose path has @p part in it. */
unsigned int workload_count_fds(const char *part);
unsigned int workload_count_maps(const char *part);
/** A value in kB of /proc/self/smaps_rollup or /proc/self/status, such as "Private_Dirty:". */
long workload_memory(const char *file, const char *field);

/** Print text as a JSON string. */
void workload_print_string(const char *text);

int primary_main(int argc, char **argv);
int secondary_main(int argc, char **argv);

#endif /* WORKLOAD_H */
