/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef WORKLOAD_H
#define WORKLOAD_H

/**
 * @file
 * A multi-process program that uses the same NVMe drives in all of its processes:
 *
 *   uio_workload <EAL options> --proc-type=primary -- [--interval US] [--wait] [--queues N]
 *   uio_workload <EAL options> --proc-type=secondary -- [--no-attach] [--wait] [--stay]
 *       [--read QID] [--unshared] [--alarm] ...
 *
 * The primary drives all NVMe drives that EAL allows and reads from them all the time (primary.c).
 * A secondary attaches them, accesses their config space, detaches them and exits (secondary.c).
 * Both report as one JSON object a line on stdout. workload.py starts and controls them.
 */

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <bus_pci_driver.h>
#include <rte_bus_pci.h>

#include "nvme_ctrl.h"

#define WORKLOAD_DRIVES_MAX 64

/* PCI Local Bus 3.0, 6.1 and 6.2.2 */
#define CONFIG_COMMAND 0x04
#define CONFIG_COMMAND_MASTER 0x4
#define CONFIG_CACHE_LINE_SIZE 0x0c /* writable, without effect on PCI Express */

extern struct rte_pci_device *workload_devices[WORKLOAD_DRIVES_MAX];
extern unsigned int workload_devices_nb;

/**
 * Scan the bus and attach every NVMe drive that EAL allows, as EAL does on hotplug.
 *
 * @return
 *   Processor time of this thread for the attach, without the scan, in nanoseconds.
 */
uint64_t workload_attach(void);

/** A clock, and CLOCK_MONOTONIC, in nanoseconds. */
uint64_t workload_time(clockid_t clock);
uint64_t workload_now(void);

/** Read COMMAND from a new file descriptor in sysfs; negative on failure. */
int workload_command(const struct rte_pci_device *pci);

/** Count the file descriptors, or mappings, of this process whose path contains @p part. */
unsigned int workload_count_fds(const char *part);
unsigned int workload_count_maps(const char *part);
/** The private memory of this process that it has written to, in kB. */
long workload_private_kb(void);

/** A drive that a process reads from, one command at a time. */
struct workload_drive {
	struct rte_pci_device *pci;
	struct nvme_ctrl ctrl;
	struct nvme_qpair ioq;
	unsigned int buf;      /**< its data; numbered as its queue pair */
	uint64_t lba;
	uint64_t reads;
	uint64_t wrong;        /**< reads that returned wrong data */
	int64_t number;        /**< of the drive, from its blocks; negative before the first read */
	bool failed;           /**< the reason is in ctrl.error */
};

/** The first of the queue pairs that a primary creates for its secondaries (--queues). */
#define WORKLOAD_QID 3
/** The buffer with the primary's struct workload_drive, for its secondaries. */
#define WORKLOAD_BUF_DRIVE (NVME_BUFS - 1)
static_assert(sizeof(struct workload_drive) <= NVME_BUF_SIZE, "it is in one buffer");

/** Read the next blocks of a drive and verify them. */
int workload_read(struct workload_drive *drive, struct nvme_qpair *qp);

/** Print text as a JSON string. */
void workload_print_string(const char *text);

/** The word after an option, "" if it is the last; NULL without the option. */
const char *workload_option(char **argv, const char *name);

int primary_main(char **argv);
int secondary_main(char **argv);

#endif /* WORKLOAD_H */
