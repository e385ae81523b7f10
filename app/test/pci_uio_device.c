/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <rte_byteorder.h>
#include <rte_pci.h>

#include "test.h"
#include "pci_uio_test.h"

/* Bits of COMMAND that the test may change, and gives back. */
#define COMMAND_INTX_DISABLE 0x400
#define COMMAND_OURS (RTE_PCI_COMMAND_MASTER | COMMAND_INTX_DISABLE)

/* Devices that may stand for all that are not NVMe: QEMU has them, and they do DMA. */
static const struct rte_pci_id uio_ids[] = {
	{
		.class_id = NVME_PCI_CLASS,
		.vendor_id = RTE_PCI_ANY_ID,
		.device_id = RTE_PCI_ANY_ID,
		.subsystem_vendor_id = RTE_PCI_ANY_ID,
		.subsystem_device_id = RTE_PCI_ANY_ID,
	},
	{ RTE_PCI_DEVICE(0x1234, 0x11e8) }, /* edu */
	{ RTE_PCI_DEVICE(0x8086, 0x10d3) }, /* e1000e */
	{ RTE_PCI_DEVICE(0x15ad, 0x07b0) }, /* vmxnet3 */
	{ .vendor_id = 0 },
};

static bool (*uio_accept)(struct rte_pci_device *pci);

static int
uio_probe(struct rte_pci_driver *driver __rte_unused, struct rte_pci_device *pci)
{
	return uio_accept(pci) ? 0 : 1;
}

/*
 * Nothing to do, on purpose: it runs in rte_eal_cleanup() of a secondary as well, where the
 * device is the primary's to stop.
 */
static int
uio_remove(struct rte_pci_device *pci __rte_unused)
{
	return 0;
}

static struct rte_pci_driver uio_driver = {
	.driver = { .name = "test_pci_uio_secondary" },
	.id_table = uio_ids,
	.probe = uio_probe,
	.remove = uio_remove,
};

/* Not by RTE_PMD_REGISTER_PCI: no other command of dpdk-test shall find a drive attached. */
void
uio_driver_register(bool (*accept)(struct rte_pci_device *pci), bool map)
{
	uio_accept = accept;
	uio_driver.drv_flags = map ? RTE_PCI_DRV_NEED_MAPPING : 0;
	rte_pci_register(&uio_driver);
}

void
uio_driver_unregister(void)
{
	rte_pci_unregister(&uio_driver);
}

bool
uio_driver_matches(const struct rte_pci_device *pci)
{
	const struct rte_pci_id *id;

	for (id = uio_ids; id->vendor_id != 0; id++) {
		if (id->class_id != RTE_CLASS_ANY_ID ? id->class_id == pci->id.class_id :
				id->vendor_id == pci->id.vendor_id &&
				id->device_id == pci->id.device_id)
			return true;
	}
	return false;
}

void
uio_sysfs_path(const struct rte_pci_device *pci, const char *file, char *path, size_t size)
{
	snprintf(path, size, "%s/%s/%s", rte_pci_get_sysfs_path(), pci->name, file);
}

int
uio_dev_path(const struct rte_pci_device *pci, char *path, size_t size)
{
	char dirname[PATH_MAX];
	struct dirent *entry;
	int ret = -1;
	DIR *dir;

	uio_sysfs_path(pci, "uio", dirname, sizeof(dirname));
	dir = opendir(dirname);
	if (dir == NULL)
		return -1;
	while (ret != 0 && (entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, "uio", 3) == 0 &&
				snprintf(path, size, "/dev/%s", entry->d_name) < (int)size)
			ret = 0;
	}
	closedir(dir);

	return ret;
}

/* fds of a process on files whose path contains, or is, a part; the first one goes to what. */
static int
uio_count_fds_of(const char *pid, const char *part, bool whole, char *what, size_t size)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	int count = 0;
	ssize_t len;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	if (dir == NULL)
		return 0;
	while ((entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, entry->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		if (whole ? strcmp(target, part) != 0 : strstr(target, part) == NULL)
			continue;
		if (count++ == 0 && what != NULL)
			snprintf(what, size, "fd %s on %.200s", entry->d_name, target);
	}
	closedir(dir);

	return count;
}

int
uio_count_fds(const char *part, char *what, size_t size)
{
	return uio_count_fds_of("self", part, false, what, size);
}

pid_t
uio_holder(const char *path)
{
	struct dirent *entry;
	pid_t holder = 0;
	DIR *dir;

	dir = opendir("/proc");
	if (dir == NULL)
		return 0;
	while (holder == 0 && (entry = readdir(dir)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == getpid())
			continue;
		if (uio_count_fds_of(entry->d_name, path, true, NULL, 0) > 0)
			holder = atoi(entry->d_name);
	}
	closedir(dir);

	return holder;
}

int
uio_count_maps(const char *part)
{
	char line[PATH_MAX];
	int count = 0;
	FILE *maps;

	maps = fopen("/proc/self/maps", "r");
	if (maps == NULL)
		return 0;
	while (fgets(line, sizeof(line), maps) != NULL)
		count += strstr(line, part) != NULL;
	fclose(maps);

	return count;
}

int
uio_count_bars(const struct rte_pci_device *pci)
{
	int i, count = 0;

	for (i = 0; i < PCI_MAX_RESOURCE; i++)
		count += pci->mem_resource[i].phys_addr != 0 && pci->mem_resource[i].addr != NULL;

	return count;
}

int
uio_watch_opens(const char *path)
{
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	if (watch >= 0 && inotify_add_watch(watch, path, IN_OPEN) < 0) {
		close(watch);
		watch = -1;
	}
	return watch;
}

int
uio_count_opens(int watch)
{
	/* A watch on a file, not on a directory: no name follows an event. */
	struct inotify_event events[32];
	int count = 0;
	ssize_t len;
	size_t i;

	if (watch < 0)
		return -1;
	while ((len = read(watch, events, sizeof(events))) > 0) {
		for (i = 0; i < len / sizeof(events[0]); i++)
			count += (events[i].mask & IN_OPEN) != 0;
	}
	close(watch);

	return count;
}

int
uio_command_sysfs(const struct rte_pci_device *pci)
{
	char path[PATH_MAX];
	uint16_t command;
	ssize_t len;
	int fd;

	uio_sysfs_path(pci, "config", path, sizeof(path));
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	len = pread(fd, &command, sizeof(command), RTE_PCI_COMMAND);
	close(fd);

	return len == sizeof(command) ? rte_le_to_cpu_16(command) : -1;
}

int
uio_command_bus(const struct rte_pci_device *pci)
{
	uint16_t command;

	if (rte_pci_read_config(pci, &command, sizeof(command), RTE_PCI_COMMAND) !=
			sizeof(command))
		return -1;

	return rte_le_to_cpu_16(command);
}

int
uio_command_restore(struct uio_dev *dev)
{
	int now = uio_command_sysfs(dev->pci);
	char path[PATH_MAX];
	uint16_t command;
	ssize_t len;
	int fd;

	if (now < 0)
		return -1;
	command = (now & ~COMMAND_OURS) | (dev->command_found & COMMAND_OURS);
	if (command == now)
		return 0;

	uio_sysfs_path(dev->pci, "config", path, sizeof(path));
	fd = open(path, O_RDWR);
	if (fd < 0)
		return -1;
	command = rte_cpu_to_le_16(command);
	len = pwrite(fd, &command, sizeof(command), RTE_PCI_COMMAND);
	close(fd);

	return len == sizeof(command) ? 0 : -1;
}
