/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_bus.h>
#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_errno.h>

#include "workload.h"

/* More than a process opens here, and at most the default limit of open files. */
#define WORKLOAD_FDS_MAX 1024

#define NVME_CLASS 0x010802 /* PCI Code and ID Assignment: NVM Express I/O controller */

struct rte_pci_device *workload_devices[WORKLOAD_DRIVES_MAX];
unsigned int workload_devices_nb;

static const struct rte_pci_id workload_ids[] = {
	{
		.class_id = NVME_CLASS,
		.vendor_id = RTE_PCI_ANY_ID,
		.device_id = RTE_PCI_ANY_ID,
		.subsystem_vendor_id = RTE_PCI_ANY_ID,
		.subsystem_device_id = RTE_PCI_ANY_ID,
	},
	{ .vendor_id = 0 },
};

static int
workload_probe(struct rte_pci_driver *driver __rte_unused, struct rte_pci_device *pci)
{
	if (workload_devices_nb == WORKLOAD_DRIVES_MAX)
		return 1;
	workload_devices[workload_devices_nb++] = pci;
	return 0;
}

/* The primary stops its drives in primary_stop(), and a secondary must not stop them. */
static int
workload_remove(struct rte_pci_device *pci __rte_unused)
{
	return 0;
}

static struct rte_pci_driver workload_driver = {
	.driver = { .name = "uio_workload" },
	.id_table = workload_ids,
	.drv_flags = RTE_PCI_DRV_NEED_MAPPING,
	.probe = workload_probe,
	.remove = workload_remove,
};

uint64_t
workload_time(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

uint64_t
workload_attach(void)
{
	uint64_t before;

	/* Not in a constructor, so that this time can be measured apart from rte_eal_init(). */
	rte_pci_register(&workload_driver);
	rte_bus_scan();
	before = workload_time(CLOCK_THREAD_CPUTIME_ID);
	rte_bus_probe();

	return workload_time(CLOCK_THREAD_CPUTIME_ID) - before;
}

uint64_t
workload_now(void)
{
	return workload_time(CLOCK_MONOTONIC);
}

int
workload_command(const struct rte_pci_device *pci)
{
	char path[PATH_MAX];
	uint16_t command;
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", pci->name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	len = pread(fd, &command, sizeof(command), CONFIG_COMMAND);
	close(fd);

	return len == sizeof(command) ? command : -1;
}

/*
 * By system calls that a secondary makes nowhere else after its attach: how often it waits differs
 * in every run, and tests/fault numbers the calls of each name.
 */
unsigned int
workload_count_fds(const char *part)
{
	static struct pollfd files[WORKLOAD_FDS_MAX];
	char path[32], target[PATH_MAX];
	unsigned int i, count = 0;
	ssize_t len;

	for (i = 0; i < WORKLOAD_FDS_MAX; i++)
		files[i].fd = i;
	poll(files, WORKLOAD_FDS_MAX, 0);
	for (i = 0; i < WORKLOAD_FDS_MAX; i++) {
		if (files[i].revents & POLLNVAL)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%u", i);
		len = readlinkat(AT_FDCWD, path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		count += strstr(target, part) != NULL;
	}

	return count;
}

unsigned int
workload_count_maps(const char *part)
{
	char line[PATH_MAX + 128];
	unsigned int count = 0;
	FILE *f;

	f = fopen("/proc/self/maps", "r");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		count += strstr(line, part) != NULL;
	fclose(f);

	return count;
}

/* Every block starts with its own number, followed by the number of its drive. */
static int
verify(struct workload_drive *drive, uint64_t lba)
{
	const uint32_t size = drive->ctrl.block_size;
	const uint64_t *words;
	uint32_t i;

	for (i = 0; i < nvme_io_blocks(&drive->ctrl); i++) {
		words = RTE_PTR_ADD(nvme_buf(&drive->ctrl, drive->buf).addr, i * size);
		if (drive->number < 0)
			drive->number = rte_le_to_cpu_64(words[1]);
		if (rte_le_to_cpu_64(words[0]) == lba + i &&
				(int64_t)rte_le_to_cpu_64(words[1]) == drive->number)
			continue;
		drive->wrong++;
		return nvme_fail(&drive->ctrl, -EIO, "wrong data in block %" PRIu64
				": block %" PRIu64 " of drive %" PRIu64, lba + i, rte_le_to_cpu_64(words[0]),
				rte_le_to_cpu_64(words[1]));
	}
	return 0;
}

int
workload_read(struct workload_drive *drive, struct nvme_qpair *qp)
{
	const uint64_t lba = drive->lba;
	int ret;

	/* No block contains this pattern: a read that transfers nothing must fail. */
	memset(nvme_buf(&drive->ctrl, drive->buf).addr, 0xa5, NVME_BUF_SIZE);
	ret = nvme_read(&drive->ctrl, qp, lba, drive->buf);
	if (ret == 0)
		ret = verify(drive, lba);
	if (ret != 0) {
		drive->failed = true;
		return ret;
	}
	drive->reads++;
	drive->lba += nvme_io_blocks(&drive->ctrl);
	if (drive->lba + nvme_io_blocks(&drive->ctrl) > drive->ctrl.blocks)
		drive->lba = 0;

	return 0;
}

long
workload_private_kb(void)
{
	char line[256];
	long value = -1;
	FILE *f;

	f = fopen("/proc/self/smaps_rollup", "r");
	if (f == NULL)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "Private_Dirty: %ld kB", &value);
	fclose(f);

	return value;
}

void
workload_print_string(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		if ((unsigned char)*text >= ' ')
			putchar(*text);
	}
	putchar('"');
}

const char *
workload_option(char **argv, const char *name)
{
	for (; *argv != NULL; argv++) {
		if (strcmp(*argv, name) == 0)
			return argv[1] != NULL ? argv[1] : "";
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	int used;

	used = rte_eal_init(argc, argv);
	if (used < 0) {
		printf("{\"failed\": \"rte_eal_init: %s\"}\n", rte_strerror(rte_errno));
		return EXIT_FAILURE;
	}
	if (rte_eal_process_type() == RTE_PROC_PRIMARY)
		return primary_main(argv + used);
	return secondary_main(argv + used);
}
