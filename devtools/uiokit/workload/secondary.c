/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * The secondary process: EAL, attach, config reads and writes, detach, cleanup. It reports each
 * phase, how long the attach took, and what remained after the detach. Exit code: 0 if it attached
 * and used every drive that EAL allows, 1 if not; the reason is on stderr.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_interrupts.h>

#include "workload.h"

/* Accesses to config space in one sample of secondary_time_config(). */
#define SECONDARY_ACCESSES 500

/* In the paths of a drive: /sys/devices/pci..../0000:00:04.0/config, /dev/uio0, /dev/vfio/1. */
#define SECONDARY_SYSFS "/0000:"
#define SECONDARY_DEV_UIO "/dev/uio"
#define SECONDARY_DEV_VFIO "vfio"

struct secondary_options {
	bool no_attach;
	bool stay;             /* attached, until the end of input */
	bool read_only;        /* do not write to config space, which others may do at the same time */
	uint64_t started;      /* when this process was started, see workload_now() */
	unsigned int time_config;
	const char *become;    /* drop privileges between EAL's start and the attach */
};

static unsigned int
secondary_count_fds(void)
{
	return workload_count_fds(SECONDARY_SYSFS) + workload_count_fds(SECONDARY_DEV_UIO) +
		workload_count_fds(SECONDARY_DEV_VFIO);
}

/* Mark the start of a phase, for the reader of a system call trace. */
static void
secondary_phase(const char *phase)
{
	printf("{\"phase\": \"%s\"}\n", phase);
	fflush(stdout);
}

/* Access config space once, and report a failure. */
static int
secondary_access(struct rte_pci_device *pci, bool write, void *bytes, int len, off_t offset)
{
	int done;

	errno = 0;
	done = write ? rte_pci_write_config(pci, bytes, len, offset) :
		rte_pci_read_config(pci, bytes, len, offset);
	if (done == len)
		return 0;
	fprintf(stderr, "%s: %s of %d bytes of config space at offset %d: %s\n", pci->name,
			write ? "write" : "read", len, (int)offset,
			done < 0 ? strerror(errno) : "fewer bytes than requested");

	return -1;
}

/*
 * Read what every driver reads, and 256 bytes, which an unprivileged process does not get. Write a
 * register, read it back and restore it.
 */
static int
secondary_use_config(struct rte_pci_device *pci, bool read_only)
{
	uint8_t bytes[256], found = 0, wanted, seen = 0;
	int ret;

	ret = secondary_access(pci, false, bytes, 4, 0);
	ret |= secondary_access(pci, false, bytes, sizeof(bytes), 0);
	ret |= secondary_access(pci, false, &found, 1, CONFIG_CACHE_LINE_SIZE);
	if (read_only)
		return ret;
	wanted = found == 8 ? 16 : 8;
	if (secondary_access(pci, true, &wanted, 1, CONFIG_CACHE_LINE_SIZE) != 0)
		return -1;
	ret |= secondary_access(pci, false, &seen, 1, CONFIG_CACHE_LINE_SIZE);
	if (ret == 0 && seen != wanted) {
		fprintf(stderr, "%s: wrote 0x%02x to config space, read 0x%02x\n", pci->name, wanted,
				seen);
		ret = -1;
	}
	return ret | secondary_access(pci, true, &found, 1, CONFIG_CACHE_LINE_SIZE);
}

/* The subsystem ID is read-only: writes to it have no effect. */
#define CONFIG_READ_ONLY 0x2c

struct secondary_method {
	const char *figure, *variant;
	enum { BY_DPDK, BY_FD, BY_OPEN } how;
	bool write;
};

/* Access 4 bytes of config space by one method. */
static int
secondary_try_method(struct rte_pci_device *pci, const struct secondary_method *method, int fd,
		const char *path)
{
	uint32_t value = 0;
	int ret;

	if (method->how == BY_DPDK)
		return method->write ?
			rte_pci_write_config(pci, &value, sizeof(value), CONFIG_READ_ONLY) :
			rte_pci_read_config(pci, &value, sizeof(value), 0);
	if (method->how == BY_OPEN)
		fd = open(path, method->write ? O_RDWR : O_RDONLY);
	ret = method->write ? pwrite(fd, &value, sizeof(value), CONFIG_READ_ONLY) :
		pread(fd, &value, sizeof(value), 0);
	if (method->how == BY_OPEN)
		close(fd);

	return ret;
}

/* Return the nanoseconds of one sample, or 0 when an access fails. */
static uint64_t
secondary_time_method(struct rte_pci_device *pci, const struct secondary_method *method, int fd,
		const char *path)
{
	const uint64_t began = workload_now();
	unsigned int i;

	for (i = 0; i < SECONDARY_ACCESSES; i++) {
		if (secondary_try_method(pci, method, fd, path) != 4)
			return 0;
	}
	return workload_now() - began;
}

/* Time each method in each round and print each sample. */
static int
secondary_time_config(struct rte_pci_device *pci, unsigned int rounds)
{
	static const struct secondary_method methods[] = {
		{ "config-read", "rte_pci_read_config", BY_DPDK, false },
		{ "config-read", "pread", BY_FD, false },
		{ "config-read", "open+pread+close", BY_OPEN, false },
		{ "config-write", "rte_pci_write_config", BY_DPDK, true },
		{ "config-write", "pwrite", BY_FD, true },
		{ "config-write", "open+pwrite+close", BY_OPEN, true },
	};
	const struct secondary_method *method;
	char path[128];
	unsigned int round;
	uint64_t ns = 1;
	size_t i;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", pci->name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (round = 0; round < rounds && ns > 0; round++) {
		for (i = 0; i < RTE_DIM(methods) && ns > 0; i++) {
			/* Each round starts with another method: none is always the first. */
			method = &methods[(i + round) % RTE_DIM(methods)];
			ns = secondary_time_method(pci, method, fd, path);
			if (ns > 0)
				printf("{\"figure\": \"%s\", \"variant\": \"%s\", \"x\": null, "
						"\"round\": %u, \"value\": %.6f}\n",
						method->figure, method->variant, round,
						ns / 1e3 / SECONDARY_ACCESSES);
		}
	}
	close(fd);

	return ns > 0 ? 0 : -1;
}

/* Drop privileges: access to config space depends on those of the process that opens it. */
static int
secondary_become(const char *whom)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (strcmp(whom, "nobody") == 0)
		return setgid(65534) != 0 ? -1 : setuid(65534);
	if (strcmp(whom, "no-sys-admin") != 0 || syscall(SYS_capget, &header, data) != 0)
		return -1;
	data[0].effective &= ~(1u << CAP_SYS_ADMIN);
	data[0].permitted &= ~(1u << CAP_SYS_ADMIN);

	return syscall(SYS_capset, &header, data);
}

static int
secondary_parse(int argc, char **argv, struct secondary_options *o)
{
	static const struct option options[] = {
		{ "no-attach", no_argument, NULL, 'n' },
		{ "stay", no_argument, NULL, 's' },
		{ "read-only", no_argument, NULL, 'r' },
		{ "started", required_argument, NULL, 'a' },
		{ "time-config", required_argument, NULL, 't' },
		{ "become", required_argument, NULL, 'u' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			o->no_attach = true;
			break;
		case 's':
			o->stay = true;
			break;
		case 'r':
			o->read_only = true;
			break;
		case 'a':
			o->started = strtoull(optarg, NULL, 10);
			break;
		case 't':
			o->time_config = atoi(optarg);
			break;
		case 'u':
			o->become = optarg;
			break;
		default:
			return -1;
		}
	}
	return 0;
}

/* A drive is usable when its registers can be read. */
static int
secondary_probe_registers(struct rte_pci_device *pci)
{
	const volatile uint32_t *bar = pci->mem_resource[0].addr;

	return bar != NULL && bar[NVME_REG_CSTS / 4] != NVME_REG_GONE ? 0 : -1;
}

int
secondary_main(int argc, char **argv)
{
	struct secondary_options o = { .started = workload_now() };
	unsigned int d, uio_fds, fds, maps;
	uint64_t began, attached;
	char byte;
	int ret = 0;

	if (secondary_parse(argc, argv, &o) != 0)
		return 2;
	if (o.become != NULL && secondary_become(o.become) != 0)
		return 2;
	/* The scan in rte_eal_init() may have left some: count what the attach adds. */
	fds = secondary_count_fds();
	maps = workload_count_maps(SECONDARY_SYSFS);

	secondary_phase("attach");
	began = workload_now();
	if (!o.no_attach)
		workload_attach();
	for (d = 0; d < workload_devices_nb; d++)
		ret |= secondary_probe_registers(workload_devices[d]);
	attached = workload_now();
	if (!o.no_attach && workload_devices_nb == 0) {
		fprintf(stderr, "no NVMe drive was attached\n");
		ret = -1;
	}
	secondary_phase("attached");
	uio_fds = workload_count_fds(SECONDARY_DEV_UIO);
	printf("{\"drives\": %u, \"ms\": %.6f, \"part_ms\": %.6f, \"uio_fds\": %u, "
			"\"private_kb\": %ld}\n", workload_devices_nb, (attached - o.started) / 1e6,
			(attached - began) / 1e6, uio_fds,
			workload_memory("/proc/self/smaps_rollup", "Private_Dirty:"));
	fflush(stdout);

	while (o.stay && read(STDIN_FILENO, &byte, 1) > 0)
		;
	secondary_phase("use");
	for (d = 0; d < workload_devices_nb; d++)
		ret |= secondary_use_config(workload_devices[d], o.read_only);
	if (o.time_config > 0 && workload_devices_nb > 0)
		ret |= secondary_time_config(workload_devices[0], o.time_config);
	secondary_phase("detach");
	for (d = 0; d < workload_devices_nb; d++)
		rte_pci_unmap_device(workload_devices[d]);
	secondary_phase("detached");
	printf("{\"left_fds\": %d, \"left_maps\": %d}\n", (int)(secondary_count_fds() - fds),
			(int)(workload_count_maps(SECONDARY_SYSFS) - maps));
	fflush(stdout);
	rte_eal_cleanup();

	return ret == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
