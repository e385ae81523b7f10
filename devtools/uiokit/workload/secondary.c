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
#include <inttypes.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_interrupts.h>

#include "workload.h"

/*
 * Accesses to config space in one sample of secondary_time_config(). So few that no timer interrupt
 * falls into most samples.
 */
#define SECONDARY_ACCESSES 100

/* Reads after the end of input, and the pause between two. */
#define SECONDARY_READS 20
#define SECONDARY_PAUSE_US 500
/* Time for a thread of EAL to run on a busy machine. */
#define SECONDARY_WAIT_NS (UINT64_C(5) * NS_PER_S)

/* In the paths of a drive: /sys/devices/pci..../0000:00:04.0/config, /dev/uio0, /dev/vfio/1. */
#define SECONDARY_SYSFS "/0000:"
#define SECONDARY_DEV_UIO "/dev/uio"
#define SECONDARY_DEV_VFIO "vfio"

/* Open files through which this process keeps the drives open. */
static unsigned int
secondary_count_devices(void)
{
	return workload_count_fds(SECONDARY_DEV_UIO) + workload_count_fds(SECONDARY_DEV_VFIO);
}

static unsigned int
secondary_count_fds(void)
{
	return workload_count_fds(SECONDARY_SYSFS) + secondary_count_devices();
}

/* Wait for the open files that the primary shares: a thread of EAL receives them. */
static bool
secondary_wait_files(void)
{
	const uint64_t deadline = workload_now() + SECONDARY_WAIT_NS;

	while (secondary_count_devices() < workload_devices_nb) {
		if (workload_now() > deadline)
			return false;
		usleep(1000);
	}
	return true;
}

/*
 * The file descriptors that a detach left. All that were shared have arrived before it, but the
 * thread of EAL may not have handled those of the last reply: it closes them then.
 */
static int
secondary_left_fds(unsigned int before)
{
	const uint64_t deadline = workload_now() + SECONDARY_WAIT_NS;

	while (secondary_count_fds() != before && workload_now() < deadline)
		usleep(1000);
	return secondary_count_fds() - before;
}

/* Mark the start of a phase. The reader of a system call trace finds it at the start of a write. */
static void
secondary_phase(const char *phase)
{
	fflush(stdout);
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

/* Access 4 bytes of config space: 0 by DPDK, 1 by an open file, 2 by a file opened for it. */
static int
secondary_access_by(unsigned int how, bool write, struct rte_pci_device *pci, int fd,
		const char *path)
{
	const off_t offset = write ? CONFIG_READ_ONLY : 0;
	uint32_t value = 0;
	int ret;

	if (how == 0)
		return write ? rte_pci_write_config(pci, &value, sizeof(value), offset) :
			rte_pci_read_config(pci, &value, sizeof(value), offset);
	if (how == 2)
		fd = open(path, write ? O_RDWR : O_RDONLY);
	ret = write ? pwrite(fd, &value, sizeof(value), offset) :
		pread(fd, &value, sizeof(value), offset);
	if (how == 2)
		close(fd);

	return ret;
}

/* Time each method in each round and print each sample. */
static int
secondary_time_config(struct rte_pci_device *pci, unsigned int rounds)
{
	static const struct {
		const char *figure, *variant;
	} methods[] = {
		{ "config-read", "rte_pci_read_config" },
		{ "config-read", "pread" },
		{ "config-read", "open+pread+close" },
		{ "config-write", "rte_pci_write_config" },
		{ "config-write", "pwrite" },
		{ "config-write", "open+pwrite+close" },
	};
	unsigned int i, n, method;
	char path[128];
	uint64_t began;
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", pci->name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (i = 0; i < rounds * RTE_DIM(methods) && ret == 0; i++) {
		/* Each round starts with another method: none is always the first. */
		method = (i + i / RTE_DIM(methods)) % RTE_DIM(methods);
		began = workload_now();
		for (n = 0; n < SECONDARY_ACCESSES && ret == 0; n++)
			ret = secondary_access_by(method % 3, method >= 3, pci, fd, path) == 4 ? 0 : -1;
		if (ret == 0)
			printf("{\"figure\": \"%s\", \"variant\": \"%s\", \"x\": null, "
					"\"round\": %zu, \"value\": %.6f}\n", methods[method].figure,
					methods[method].variant, i / RTE_DIM(methods),
					(workload_now() - began) / 1e3 / SECONDARY_ACCESSES);
	}
	close(fd);

	return ret;
}

static void
secondary_alarm(void *arg __rte_unused)
{
}

/* Let EAL set up its alarms, which it does once a process; returns the processor time, in ns. */
static uint64_t
secondary_set_alarm(void)
{
	const uint64_t before = workload_time(CLOCK_THREAD_CPUTIME_ID);

	rte_eal_alarm_set(US_PER_S, secondary_alarm, NULL);
	return workload_time(CLOCK_THREAD_CPUTIME_ID) - before;
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

/* A drive is usable when its registers can be read. */
static int
secondary_probe_registers(struct rte_pci_device *pci)
{
	const volatile uint32_t *bar = pci->mem_resource[0].addr;

	return bar != NULL && bar[NVME_REG_CSTS / 4] != NVME_REG_GONE ? 0 : -1;
}

/* The primary's state of a drive, but with a queue pair and a buffer of this process. */
static int
secondary_find_drive(struct workload_drive *drive, struct rte_pci_device *pci, uint16_t qid)
{
	struct nvme_ctrl *ctrl = &drive->ctrl;
	struct nvme_qpair ioq;
	int ret;

	ret = nvme_ctrl_init(ctrl, pci->name, pci->mem_resource[0].addr, 1);
	if (ret == 0)
		ret = nvme_qpair_init(ctrl, &ioq, qid);
	if (ret != 0)
		return ret;
	*drive = *(const struct workload_drive *)nvme_buf(ctrl, WORKLOAD_BUF_DRIVE).addr;
	ctrl->name = pci->name;
	drive->ioq = ioq;
	drive->buf = qid;

	return 0;
}

/* Read from all drives until the end of input, and some more; stop at the first error. */
static int
secondary_read(uint16_t qid)
{
	static struct workload_drive drives[WORKLOAD_DRIVES_MAX];
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	uint64_t now, last, longest = 0, reads = 0;
	unsigned int d, more = SECONDARY_READS;
	int ret = 0;

	for (d = 0; d < workload_devices_nb && ret == 0; d++)
		ret = secondary_find_drive(&drives[d], workload_devices[d], qid);
	last = workload_now();
	while (ret == 0 && more > 0) {
		for (d = 0; d < workload_devices_nb && ret == 0; d++)
			ret = workload_read(&drives[d], &drives[d].ioq);
		now = workload_now();
		longest = RTE_MAX(longest, now - last);
		last = now;
		if (ret == 0 && reads++ == 0)
			secondary_phase("reading");
		if (poll(&input, 1, 0) > 0)
			more--;
		usleep(SECONDARY_PAUSE_US);
	}
	if (ret != 0)
		fprintf(stderr, "%s\n", drives[d - 1].ctrl.error);
	printf("{\"reads\": %" PRIu64 ", \"longest_ms\": %.3f}\n", reads, longest / 1e6);

	return ret;
}

int
secondary_main(char **argv)
{
	/*
	 * unshared: no open files of the primary are expected; stay: attached until the end of
	 * input, of which each byte detaches the next drive; read_only: config space is not
	 * written, since others may do so.
	 */
	const bool attach = workload_option(argv, "--no-attach") == NULL,
		unshared = workload_option(argv, "--unshared") != NULL,
		stay = workload_option(argv, "--stay") != NULL,
		wait = workload_option(argv, "--wait") != NULL,
		read_only = workload_option(argv, "--read-only") != NULL;
	/* Nanoseconds, see workload_now(). */
	const char *started = workload_option(argv, "--started"),
		*rounds = workload_option(argv, "--time-config"),
		*become = workload_option(argv, "--become"), *qid = workload_option(argv, "--read");
	unsigned int d, gone = 0, fds, maps;
	uint64_t began, attached, probe = 0;
	char byte;
	int left, ret = 0;

	if (started == NULL || (become != NULL && secondary_become(become) != 0))
		return 2;
	if (wait) {
		secondary_phase("waiting");
		if (read(STDIN_FILENO, &byte, 1) < 0)
			return 2;
	}
	/* The scan in rte_eal_init() may have left some: count what the attach adds. */
	fds = secondary_count_fds();
	maps = workload_count_maps(SECONDARY_SYSFS);

	if (workload_option(argv, "--alarm") != NULL)
		printf("{\"alarm_ns\": %" PRIu64 "}\n", secondary_set_alarm());
	secondary_phase("attach");
	began = workload_now();
	if (attach)
		probe = workload_attach();
	for (d = 0; d < workload_devices_nb; d++)
		ret |= secondary_probe_registers(workload_devices[d]);
	attached = workload_now();
	if (attach && workload_devices_nb == 0) {
		fprintf(stderr, "no NVMe drive was attached\n");
		ret = -1;
	}
	secondary_phase("attached");
	printf("{\"drives\": %u, \"ms\": %.6f, \"part_ms\": %.6f, \"probe_ns\": %" PRIu64 ", "
			"\"private_kb\": %ld}\n", workload_devices_nb,
			(attached - strtoull(started, NULL, 10)) / 1e6, (attached - began) / 1e6, probe,
			workload_private_kb());
	fflush(stdout);

	secondary_phase("wait");
	if (!unshared && !secondary_wait_files() && qid != NULL) {
		fprintf(stderr, "the primary does not share its open files\n");
		ret = -1;
	}
	if (qid != NULL && ret == 0)
		ret = secondary_read(atoi(qid));
	printf("{\"fds\": %u}\n", secondary_count_fds() - fds);
	if (stay)
		secondary_phase("stay");
	while (stay && read(STDIN_FILENO, &byte, 1) > 0 && gone < workload_devices_nb)
		rte_pci_unmap_device(workload_devices[gone++]);
	secondary_phase("use");
	for (d = gone; d < workload_devices_nb; d++)
		ret |= secondary_use_config(workload_devices[d], read_only);
	if (rounds != NULL && workload_devices_nb > 0)
		ret |= secondary_time_config(workload_devices[0], atoi(rounds));
	secondary_phase("detach");
	for (d = gone; d < workload_devices_nb; d++)
		rte_pci_unmap_device(workload_devices[d]);
	secondary_phase("wait");
	left = secondary_left_fds(fds);
	secondary_phase("detached");
	printf("{\"left_fds\": %d, \"left_maps\": %d}\n", left,
			(int)(workload_count_maps(SECONDARY_SYSFS) - maps));
	fflush(stdout);
	/* A primary that was killed may have left a lock of EAL taken, which the cleanup needs. */
	if (qid == NULL)
		rte_eal_cleanup();

	return ret == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
