/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * The UIO devices that this process owns, over telemetry.
 *
 * Each request looks at the processes from outside, in /proc and /sys. Nothing is recorded when a
 * device comes or goes, and no lock is shared with the threads that attach and detach. What is kept
 * from one request to the next is the state of bus mastering, to tell when it was lost.
 */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include <rte_byteorder.h>
#include <rte_common.h>
#include <rte_pci.h>
#include <rte_string_fns.h>
#include <rte_telemetry.h>

#include "pci_init.h"
#include "private.h"

#define UIO_HELD_MAX 256
#define UIO_COMMAND_MEMORY 0x2
#define UIO_COMMAND_MASTER 0x4
#define UIO_COMMAND_INTX_DISABLE 0x400

/* a UIO device that this process has open */
struct uio_held {
	unsigned int num;
	char name[PCI_PRI_STR_SIZE + 1];
};

/* what earlier requests have seen of a device */
struct uio_seen {
	TAILQ_ENTRY(uio_seen) next;
	char name[PCI_PRI_STR_SIZE + 1];
	bool master;
	int losses;
};

static TAILQ_HEAD(, uio_seen) uio_seen_list = TAILQ_HEAD_INITIALIZER(uio_seen_list);
/* each connection to telemetry has a thread of its own */
static pthread_mutex_t uio_seen_lock = PTHREAD_MUTEX_INITIALIZER;

/* the last part of where a link points to */
static int
uio_link_name(const char *path, char *name, size_t size)
{
	char target[PATH_MAX];
	const char *last;
	ssize_t len;

	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return -1;
	target[len] = '\0';
	last = strrchr(target, '/');

	return strlcpy(name, last != NULL ? last + 1 : target, size) < size ? 0 : -1;
}

/* call a function with what each FD of a process is opened on */
static void
uio_walk_fds(const char *pid, void (*look)(const char *target, void *arg), void *arg)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	ssize_t len;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	if (dir == NULL)
		return; /* ended, or not ours to see */
	while ((entry = readdir(dir)) != NULL) {
		len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		look(target, arg);
	}
	closedir(dir);
}

struct uio_holding {
	struct uio_held held[UIO_HELD_MAX];
	int nb;
};

static void
uio_look_for_devices(const char *target, void *arg)
{
	struct uio_holding *holding = arg;
	struct rte_pci_addr addr;
	char path[PATH_MAX];
	unsigned int num;
	int i, end = 0;

	if (sscanf(target, "/dev/uio%u%n", &num, &end) != 1 || target[end] != '\0')
		return;
	for (i = 0; i < holding->nb; i++) {
		if (holding->held[i].num == num)
			return;
	}
	snprintf(path, sizeof(path), "/sys/class/uio/uio%u/device", num);
	/* devices of other buses have names of other forms */
	if (i == UIO_HELD_MAX || uio_link_name(path, holding->held[i].name,
			sizeof(holding->held[i].name)) < 0 ||
			rte_pci_addr_parse(holding->held[i].name, &addr) != 0)
		return;
	holding->held[i].num = num;
	holding->nb++;
}

static int
uio_handle_list(const char *cmd __rte_unused, const char *params __rte_unused,
		struct rte_tel_data *d)
{
	struct uio_holding holding = { .nb = 0 };
	int i;

	uio_walk_fds("self", uio_look_for_devices, &holding);
	rte_tel_data_start_array(d, RTE_TEL_STRING_VAL);
	for (i = 0; i < holding.nb; i++)
		rte_tel_data_add_array_string(d, holding.held[i].name);

	return 0;
}

/* FDs that a process has on a device */
struct uio_fds {
	char uio[32];
	char config[PCI_PRI_STR_SIZE + sizeof("//config")];
	int nb_uio;
	int nb_config;
};

static void
uio_count_fds(const char *target, void *arg)
{
	struct uio_fds *fds = arg;
	size_t len = strlen(target), tail = strlen(fds->config);

	fds->nb_uio += strcmp(target, fds->uio) == 0;
	fds->nb_config += len >= tail && strcmp(target + len - tail, fds->config) == 0;
}

/* other processes that have the device open, in either way */
static void
uio_find_others(struct uio_fds *fds, struct rte_tel_data *uio, struct rte_tel_data *config)
{
	struct dirent *entry;
	DIR *dir;

	dir = opendir("/proc");
	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == getpid())
			continue;
		fds->nb_uio = fds->nb_config = 0;
		uio_walk_fds(entry->d_name, uio_count_fds, fds);
		if (fds->nb_uio > 0)
			rte_tel_data_add_array_int(uio, atoi(entry->d_name));
		if (fds->nb_config > 0)
			rte_tel_data_add_array_int(config, atoi(entry->d_name));
	}
	closedir(dir);
}

static int
uio_read_command(const char *name, uint16_t *command)
{
	char path[PATH_MAX];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/config", rte_pci_get_sysfs_path(), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	len = pread(fd, command, sizeof(*command), RTE_PCI_COMMAND);
	close(fd);
	*command = rte_le_to_cpu_16(*command);

	return len == sizeof(*command) ? 0 : -1;
}

/* read COMMAND, and count how often the bit was found cleared that had been found set before */
static int
uio_look_at_command(const char *name, uint16_t *command, int *losses)
{
	struct uio_seen *seen;
	bool master;
	int ret;

	*losses = 0;
	/* what is read first must be noted first */
	pthread_mutex_lock(&uio_seen_lock);
	ret = uio_read_command(name, command);
	if (ret < 0)
		goto unlock;
	master = *command & UIO_COMMAND_MASTER;
	TAILQ_FOREACH(seen, &uio_seen_list, next) {
		if (strcmp(seen->name, name) == 0)
			break;
	}
	if (seen == NULL) {
		seen = calloc(1, sizeof(*seen));
		if (seen != NULL) {
			strlcpy(seen->name, name, sizeof(seen->name));
			TAILQ_INSERT_TAIL(&uio_seen_list, seen, next);
		}
	}
	if (seen != NULL) {
		seen->losses += seen->master && !master;
		seen->master = master;
		*losses = seen->losses;
	}
unlock:
	pthread_mutex_unlock(&uio_seen_lock);

	return ret;
}

/* a device that is seen to have been given up starts anew */
static void
uio_forget_losses(const char *name)
{
	struct uio_seen *seen;

	pthread_mutex_lock(&uio_seen_lock);
	TAILQ_FOREACH(seen, &uio_seen_list, next) {
		if (strcmp(seen->name, name) == 0)
			break;
	}
	if (seen != NULL) {
		TAILQ_REMOVE(&uio_seen_list, seen, next);
		free(seen);
	}
	pthread_mutex_unlock(&uio_seen_lock);
}

static int
uio_fill_info(const struct uio_held *held, struct rte_tel_data *d)
{
	struct rte_tel_data *uio, *config;
	char path[PATH_MAX], driver[32];
	struct uio_fds fds = { .nb_uio = 0 };
	uint16_t command;
	int losses;
	char hex[8];

	snprintf(path, sizeof(path), "/sys/class/uio/uio%u/device/driver", held->num);
	if (uio_link_name(path, driver, sizeof(driver)) < 0 ||
			uio_look_at_command(held->name, &command, &losses) < 0)
		return -ENODEV; /* unbound or unplugged meanwhile */
	snprintf(fds.uio, sizeof(fds.uio), "/dev/uio%u", held->num);
	snprintf(fds.config, sizeof(fds.config), "/%s/config", held->name);
	snprintf(hex, sizeof(hex), "0x%04x", command);

	uio = rte_tel_data_alloc();
	config = rte_tel_data_alloc();
	if (uio == NULL || config == NULL) {
		rte_tel_data_free(uio);
		rte_tel_data_free(config);
		return -ENOMEM;
	}
	rte_tel_data_start_array(uio, RTE_TEL_INT_VAL);
	rte_tel_data_start_array(config, RTE_TEL_INT_VAL);

	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_string(d, "device", held->name);
	rte_tel_data_add_dict_string(d, "driver", driver);
	rte_tel_data_add_dict_string(d, "uio", fds.uio);
	rte_tel_data_add_dict_int(d, "owner", getpid());
	rte_tel_data_add_dict_string(d, "command", hex);
	rte_tel_data_add_dict_int(d, "memory_space", !!(command & UIO_COMMAND_MEMORY));
	rte_tel_data_add_dict_int(d, "bus_master", !!(command & UIO_COMMAND_MASTER));
	rte_tel_data_add_dict_int(d, "intx_disable", !!(command & UIO_COMMAND_INTX_DISABLE));
	rte_tel_data_add_dict_int(d, "bus_master_losses", losses);
	uio_walk_fds("self", uio_count_fds, &fds);
	rte_tel_data_add_dict_int(d, "uio_fds", fds.nb_uio);
	rte_tel_data_add_dict_int(d, "config_fds", fds.nb_config);
	uio_find_others(&fds, uio, config);
	rte_tel_data_add_dict_container(d, "attached", config, 0);
	rte_tel_data_add_dict_container(d, "uio_open_by_others", uio, 0);

	return 0;
}

static int
uio_handle_info(const char *cmd __rte_unused, const char *params, struct rte_tel_data *d)
{
	struct uio_holding holding = { .nb = 0 };
	char name[PCI_PRI_STR_SIZE + 1];
	struct rte_pci_addr addr;
	int i;

	if (params == NULL || rte_pci_addr_parse(params, &addr) != 0)
		return -EINVAL;
	rte_pci_device_name(&addr, name, sizeof(name));

	uio_walk_fds("self", uio_look_for_devices, &holding);
	for (i = 0; i < holding.nb; i++) {
		if (strcmp(holding.held[i].name, name) == 0)
			return uio_fill_info(&holding.held[i], d);
	}
	uio_forget_losses(name);

	return -ENODEV;
}

RTE_INIT(pci_uio_telemetry)
{
	rte_telemetry_register_cmd("/pci/uio/list", uio_handle_list,
		"Returns the PCI devices whose UIO device this process has open. Takes no parameters");
	rte_telemetry_register_cmd("/pci/uio/info", uio_handle_info,
		"Returns owner, processes and COMMAND register of a UIO device. Parameters: BDF");
}
