/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * A minimal multi-process application on a UIO device. Like SPDK, it has its own PCI driver:
 *
 *   uio_pair --proc-type=primary -a <BDF> < pipe        has the device until the pipe is closed;
 *                                                       maps it again for each byte in the pipe
 *   uio_pair --proc-type=secondary -a <BDF>             attaches, accesses config space, exits
 *
 * UIO_PAIR_UID in the environment: the user that the process becomes when it has attached.
 * Both print COMMAND and their accesses to config space. Exit code: 0 if the process attached the
 * device and found bus mastering on, 1 otherwise. The application is built outside of DPDK's tree,
 * against the DPDK that `devtools/dpdk install` has installed:
 *
 *   cc -DALLOW_INTERNAL_API -DALLOW_EXPERIMENTAL_API uio_pair.c \
 *      $(pkg-config --cflags --libs libdpdk)
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_eal.h>
#include <rte_errno.h>

#include <bus_pci_driver.h>
#include <rte_bus_pci.h>

#define NVME_CLASS 0x010802 /* PCI Code and ID Assignment: NVM Express I/O controller */

/* PCI Local Bus 3.0, 6.1: registers of the configuration header, little endian as this host is. */
#define CONFIG_COMMAND 0x04
#define CONFIG_COMMAND_MASTER 0x4
#define CONFIG_CACHE_LINE_SIZE 0x0c /* writable, without effect on PCI Express */

static const struct rte_pci_id ids[] = {
	{
		.class_id = NVME_CLASS,
		.vendor_id = RTE_PCI_ANY_ID,
		.device_id = RTE_PCI_ANY_ID,
		.subsystem_vendor_id = RTE_PCI_ANY_ID,
		.subsystem_device_id = RTE_PCI_ANY_ID,
	},
	{ .vendor_id = 0 },
};

static struct rte_pci_device *device;

static int
probe(struct rte_pci_driver *driver, struct rte_pci_device *pci)
{
	RTE_SET_USED(driver);
	device = pci;
	return 0;
}

/* The device is not started: there is nothing to stop. */
static int
detach(struct rte_pci_device *pci)
{
	RTE_SET_USED(pci);
	return 0;
}

static struct rte_pci_driver driver = {
	.driver = { .name = "uio_pair" },
	.id_table = ids,
	.drv_flags = RTE_PCI_DRV_NEED_MAPPING,
	.probe = probe,
	.remove = detach,
};

static int
print_state(const char *who, const char *when)
{
	uint16_t command;

	if (rte_pci_read_config(device, &command, sizeof(command), CONFIG_COMMAND) !=
			sizeof(command)) {
		printf("%s: %s: cannot read COMMAND\n", who, device->name);
		return -1;
	}
	printf("%s: %s: COMMAND 0x%04x %s, bus master %s\n", who, device->name, command, when,
			command & CONFIG_COMMAND_MASTER ? "on" : "OFF");

	return command & CONFIG_COMMAND_MASTER ? 0 : -1;
}

/* Write a register, read it back, and restore it. */
static int
write_config(const char *who)
{
	uint8_t found, wanted, seen = 0;

	if (rte_pci_read_config(device, &found, 1, CONFIG_CACHE_LINE_SIZE) != 1)
		return -1;
	wanted = found == 8 ? 16 : 8;
	if (rte_pci_write_config(device, &wanted, 1, CONFIG_CACHE_LINE_SIZE) != 1 ||
			rte_pci_read_config(device, &seen, 1, CONFIG_CACHE_LINE_SIZE) != 1 ||
			rte_pci_write_config(device, &found, 1, CONFIG_CACHE_LINE_SIZE) != 1)
		return -1;
	printf("%s: %s: wrote 0x%02x to config space, read 0x%02x\n", who, device->name, wanted,
			seen);

	return seen == wanted ? 0 : -1;
}

int
main(int argc, char **argv)
{
	const char *uid = getenv("UIO_PAIR_UID");
	const char *who;
	char byte;
	int ret;

	rte_pci_register(&driver);
	if (rte_eal_init(argc, argv) < 0) {
		fprintf(stderr, "EAL: %s\n", rte_strerror(rte_errno));
		return EXIT_FAILURE;
	}
	who = rte_eal_process_type() == RTE_PROC_PRIMARY ? "primary" : "secondary";
	if (device == NULL) {
		printf("%s: no NVMe device attached: allow one on uio_pci_generic with -a BDF\n",
				who);
		rte_eal_cleanup();
		return EXIT_FAILURE;
	}

	ret = 0;
	if (rte_eal_process_type() == RTE_PROC_PRIMARY)
		ret = rte_pci_set_bus_master(device, true);
	if (uid != NULL)
		ret |= setuid(atoi(uid));
	ret |= print_state(who, "when attached");
	ret |= write_config(who);
	fflush(stdout);

	while (read(STDIN_FILENO, &byte, 1) > 0) {
		ret |= rte_pci_map_device(device);
		printf("%s: mapped again: %s\n", who, rte_strerror(-ret));
		fflush(stdout);
	}
	if (rte_eal_process_type() == RTE_PROC_PRIMARY)
		ret |= print_state(who, "at the end");
	rte_eal_cleanup();

	return ret == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
