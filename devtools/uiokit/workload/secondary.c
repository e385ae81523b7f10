/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * A secondary's whole life: EAL, attach, config reads and writes, detach, cleanup. It tells how far
 * it is, how long it took, and what it left behind. Exit code: 0 when it had every drive that it was
 * allowed and used it, 1 when it could not, for a reason that is on stderr.
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

/* Of each way to access config space, so many in a row are one sample. */
#define SECONDARY_ACCESSES 500

/* Files of any drive: /sys/devices/pci..../0000:00:04.0/config, resource0, /dev/uio0, /dev/vfio/1 */
#define SECONDARY_SYSFS "/0000:"
#define SECONDARY_DEV_UIO "/dev/uio"
#define SECONDARY_DEV_VFIO "vfio"

struct secondary_options {
	bool nothing;          /* attach no drive */
	bool stay;             /* until the end of input, when attached */
	bool read_only;        /* leave config space to others that have the drive, too */
	uint64_t began;        /* when this process was started, see workload_now() */
	unsigned int time_config;
	const char *become;    /* give up privileges between EAL's start and the attach */
};

static unsigned int
secondary_count_fds(void)
{
	return workload_count_fds(SECONDARY_SYSFS) + workload_count_fds(SECONDARY_DEV_UIO) +
		workload_count_fds(SECONDARY_DEV_VFIO);
}

/* How far this process is, for who traces it. */
static void
secondary_tell(const char *where)
{
	printf("{\"at\": \"%s\"}\n", where);
	fflush(stdout);
}

/* One access to config space; what came of it when it did not do what it should. */
static int
secondary_access(struct rte_pci_device *pci, const char *what, int (*access)(
		const struct rte_pci_device *pci, void *bytes, int len, off_t at),
		void *bytes, int len, off_t at)
{
	int done;

	errno = 0;
	done = access(pci, bytes, len, at);
	if (done == len)
		return 0;
	fprintf(stderr, "%s: %s of %d bytes of config space at %d: %s\n", pci->name, what, len,
			(int)at, done < 0 ? strerror(errno) : "fewer bytes than that");

	return -1;
}

static int
secondary_write_config(const struct rte_pci_device *pci, void *bytes, int len, off_t at)
{
	return rte_pci_write_config(pci, bytes, len, at);
}

static int
secondary_read_config(const struct rte_pci_device *pci, void *bytes, int len, off_t at)
{
	return rte_pci_read_config(pci, bytes, len, at);
}

/* Read what every driver reads, and more than an unprivileged process gets; write, and restore. */
static int
secondary_use_config(struct rte_pci_device *pci, bool read_only)
{
	uint8_t bytes[256], found = 0, wanted, seen = 0;
	int ret;

	ret = secondary_access(pci, "read", secondary_read_config, bytes, 4, 0);
	ret |= secondary_access(pci, "read", secondary_read_config, bytes, sizeof(bytes), 0);
	ret |= secondary_access(pci, "read", secondary_read_config, &found, 1,
			CONFIG_CACHE_LINE_SIZE);
	if (read_only)
		return ret;
	wanted = found == 8 ? 16 : 8;
	if (secondary_access(pci, "write", secondary_write_config, &wanted, 1,
			CONFIG_CACHE_LINE_SIZE) != 0)
		return -1;
	ret |= secondary_access(pci, "read", secondary_read_config, &seen, 1, CONFIG_CACHE_LINE_SIZE);
	if (ret == 0 && seen != wanted) {
		fprintf(stderr, "%s: wrote 0x%02x to config space, read 0x%02x\n", pci->name, wanted,
				seen);
		ret = -1;
	}
	return ret | secondary_access(pci, "write", secondary_write_config, &found, 1,
			CONFIG_CACHE_LINE_SIZE);
}

static uint64_t
secondary_time(int (*access)(struct rte_pci_device *pci, int fd, const char *path),
		struct rte_pci_device *pci, int fd, const char *path)
{
	const uint64_t began = workload_now();
	unsigned int i;

	for (i = 0; i < SECONDARY_ACCESSES; i++) {
		if (access(pci, fd, path) != 4)
			return 0;
	}
	return workload_now() - began;
}

static int
access_read(struct rte_pci_device *pci, int fd __rte_unused, const char *path __rte_unused)
{
	uint32_t value;

	return rte_pci_read_config(pci, &value, sizeof(value), 0);
}

static int
access_pread(struct rte_pci_device *pci __rte_unused, int fd, const char *path __rte_unused)
{
	uint32_t value;

	return pread(fd, &value, sizeof(value), 0);
}

static int
access_open_pread(struct rte_pci_device *pci, int fd, const char *path)
{
	int ret;

	fd = open(path, O_RDONLY);
	ret = access_pread(pci, fd, path);
	close(fd);

	return ret;
}

/* The subsystem's identity, which ignores what is written. */
#define CONFIG_READ_ONLY 0x2c

static int
access_write(struct rte_pci_device *pci, int fd __rte_unused, const char *path __rte_unused)
{
	const uint32_t value = 0;

	return rte_pci_write_config(pci, &value, sizeof(value), CONFIG_READ_ONLY);
}

static int
access_pwrite(struct rte_pci_device *pci __rte_unused, int fd, const char *path __rte_unused)
{
	const uint32_t value = 0;

	return pwrite(fd, &value, sizeof(value), CONFIG_READ_ONLY);
}

static int
access_open_pwrite(struct rte_pci_device *pci, int fd, const char *path)
{
	int ret;

	fd = open(path, O_RDWR);
	ret = access_pwrite(pci, fd, path);
	close(fd);

	return ret;
}

/* Time access to config space in three ways, in turn; prints each sample. */
static int
secondary_time_config(struct rte_pci_device *pci, unsigned int rounds)
{
	static const struct {
		const char *figure, *variant;
		int (*access)(struct rte_pci_device *pci, int fd, const char *path);
	} ways[] = {
		{ "config-read", "rte_pci_read_config", access_read },
		{ "config-read", "pread", access_pread },
		{ "config-read", "open+pread+close", access_open_pread },
		{ "config-write", "rte_pci_write_config", access_write },
		{ "config-write", "pwrite", access_pwrite },
		{ "config-write", "open+pwrite+close", access_open_pwrite },
	};
	char path[128];
	unsigned int round;
	uint64_t ns;
	size_t i, w;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", pci->name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < RTE_DIM(ways); i++) {
			/* Each round begins with another one: no way is always the first. */
			w = (i + round) % RTE_DIM(ways);
			ns = secondary_time(ways[w].access, pci, fd, path);
			if (ns == 0) {
				close(fd);
				return -1;
			}
			printf("{\"figure\": \"%s\", \"variant\": \"%s\", \"x\": null, "
					"\"round\": %u, \"value\": %.6f}\n", ways[w].figure,
					ways[w].variant, round, ns / 1e3 / SECONDARY_ACCESSES);
		}
	}
	close(fd);

	return 0;
}

/* Give up what access to config space depends on: the opener's rights decide. */
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
		{ "nothing", no_argument, NULL, 'n' },
		{ "stay", no_argument, NULL, 's' },
		{ "read-only", no_argument, NULL, 'r' },
		{ "began", required_argument, NULL, 'b' },
		{ "time-config", required_argument, NULL, 't' },
		{ "become", required_argument, NULL, 'u' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			o->nothing = true;
			break;
		case 's':
			o->stay = true;
			break;
		case 'r':
			o->read_only = true;
			break;
		case 'b':
			o->began = strtoull(optarg, NULL, 10);
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

/* What it takes to use a drive: its registers answer. */
static int
secondary_use(struct rte_pci_device *pci)
{
	const volatile uint32_t *bar = pci->mem_resource[0].addr;

	return bar != NULL && bar[NVME_REG_CSTS / 4] != NVME_REG_GONE ? 0 : -1;
}

int
secondary_main(int argc, char **argv)
{
	struct secondary_options o = { .began = workload_now() };
	unsigned int d, uio_fds, fds, maps;
	uint64_t began, attached;
	char byte;
	int ret = 0;

	if (secondary_parse(argc, argv, &o) != 0)
		return 2;
	if (o.become != NULL && secondary_become(o.become) != 0)
		return 2;
	/* EAL's own scan has left none open. */
	fds = secondary_count_fds();
	maps = workload_count_maps(SECONDARY_SYSFS);

	secondary_tell("attach");
	began = workload_now();
	if (!o.nothing)
		workload_attach();
	for (d = 0; d < workload_devices_nb; d++)
		ret |= secondary_use(workload_devices[d]);
	attached = workload_now();
	if (!o.nothing && workload_devices_nb == 0) {
		fprintf(stderr, "%u drives on a driver for user space were attached\n",
				workload_devices_nb);
		ret = -1;
	}
	secondary_tell("attached");
	uio_fds = workload_count_fds(SECONDARY_DEV_UIO);
	printf("{\"drives\": %u, \"ms\": %.6f, \"part_ms\": %.6f, \"uio_fds\": %u, "
			"\"private_kb\": %ld}\n", workload_devices_nb, (attached - o.began) / 1e6,
			(attached - began) / 1e6, uio_fds,
			workload_memory("/proc/self/smaps_rollup", "Private_Dirty:"));
	fflush(stdout);

	while (o.stay && read(STDIN_FILENO, &byte, 1) > 0)
		;
	secondary_tell("use");
	for (d = 0; d < workload_devices_nb; d++)
		ret |= secondary_use_config(workload_devices[d], o.read_only);
	if (o.time_config > 0 && workload_devices_nb > 0)
		ret |= secondary_time_config(workload_devices[0], o.time_config);
	secondary_tell("detach");
	for (d = 0; d < workload_devices_nb; d++)
		rte_pci_unmap_device(workload_devices[d]);
	secondary_tell("detached");
	printf("{\"left_fds\": %d, \"left_maps\": %d}\n", (int)(secondary_count_fds() - fds),
			(int)(workload_count_maps(SECONDARY_SYSFS) - maps));
	fflush(stdout);
	rte_eal_cleanup();

	return ret == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
