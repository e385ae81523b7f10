/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* Other primaries that want the device, from inside: what each role does. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <rte_bus.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_pci.h>

#include "test.h"
#include "pci_uio_test.h"

/* Exit codes of a rival beside those in pci_uio_test.h. */
#define RIVAL_FAILED 1
#define RIVAL_LOST 5      /* had the device, and bus master did not stay set */
#define RIVAL_TOO_EARLY 6 /* the claim ended before the owner's /dev/uioX was closed */
#define RIVAL_LITTERS 7   /* was refused, and has files of the device open */

/* A user and group without any privilege. */
#define RIVAL_NOBODY 65534

/* How long a rival waits for what its parent does, and watches its own bus master bit. */
#define RIVAL_WAIT_S 60
#define RIVAL_WATCH_MS 50

static const char *rival_device;
static struct rte_pci_device *rival_pci;
static volatile sig_atomic_t rival_started;

static bool
rival_accept(struct rte_pci_device *pci)
{
	if (strcmp(pci->name, rival_device) != 0)
		return false;
	rival_pci = pci;
	return true;
}

static void
rival_say(const char *text)
{
	printf("%s\n", text);
	fflush(stdout);
}

static void
rival_on_start(int sig __rte_unused)
{
	rival_started = 1;
}

/* Wait for the shot that starts a race. */
static int
rival_wait_start(void)
{
	int ms;

	/* Not sigwait(): the signal may go to a thread of EAL, which does not block it. */
	signal(SIGUSR1, rival_on_start);
	rival_say(UIO_RIVAL_IS_READY);
	for (ms = 0; ms < RIVAL_WAIT_S * 1000 && rival_started == 0; ms++)
		rte_delay_us_sleep(1000);

	return rival_started != 0 ? 0 : RIVAL_FAILED;
}

/* Open a file of the device in sysfs. */
static int
rival_open(const char *file, int flags)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s/%s", rte_pci_get_sysfs_path(), rival_device, file);

	return open(path, flags | O_CLOEXEC);
}

/* Open the file that an owner locks: the first resource. */
static int
rival_open_claim(void)
{
	char file[] = "resource0";
	int fd = -1;

	for (; fd < 0 && file[8] < '0' + PCI_MAX_RESOURCE; file[8]++)
		fd = rival_open(file, O_RDWR);

	return fd;
}

/* Stay until the case is over. */
static void
rival_stay(pid_t parent)
{
	int s;

	for (s = 0; s < RIVAL_WAIT_S && getppid() == parent; s++)
		sleep(1);
}

/* Lock what a user without privilege may open of the device: config space, and more. */
static int
rival_lock_all(pid_t parent)
{
	bool has_config = false;
	struct dirent *entry;
	DIR *dir;
	int fd;

	if (setgroups(0, NULL) != 0 || setgid(RIVAL_NOBODY) != 0 || setuid(RIVAL_NOBODY) != 0)
		return RIVAL_FAILED;
	dir = fdopendir(rival_open(".", O_RDONLY | O_DIRECTORY));
	if (dir == NULL)
		return RIVAL_FAILED;
	while ((entry = readdir(dir)) != NULL) {
		fd = rival_open(entry->d_name, O_RDONLY);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			has_config |= strcmp(entry->d_name, "config") == 0;
		/* It stays open, and locked. */
	}
	closedir(dir);
	if (!has_config)
		return RIVAL_FAILED;
	rival_say(UIO_RIVAL_IS_READY);
	rival_stay(parent);

	return 0;
}

/*
 * Wait until the owner's claim ends. Its end must be the last of the owner: had the kernel closed
 * /dev/uioX later, that would take the bus master bit from the next owner.
 */
static int
rival_wait_release(void)
{
	const int config = rival_open("config", O_RDONLY), claim = rival_open_claim();
	uint16_t command = 0;
	int ret = -1;

	if (config >= 0 && claim >= 0) {
		rival_say(UIO_RIVAL_IS_READY);
		alarm(RIVAL_WAIT_S);
		ret = flock(claim, LOCK_EX);
		if (ret == 0 && pread(config, &command, sizeof(command), RTE_PCI_COMMAND) !=
				sizeof(command))
			ret = -1;
		alarm(0);
	}
	close(claim);
	close(config);
	if (ret != 0)
		return RIVAL_FAILED;

	return command & RTE_PCI_COMMAND_MASTER ? RIVAL_TOO_EARLY : 0;
}

/* Whether the bit is set and stays so for some time. */
static bool
rival_keeps_bus_master(void)
{
	int ms, command;

	for (ms = 0; ms < RIVAL_WATCH_MS; ms += 5) {
		command = uio_command_sysfs(rival_pci);
		if (command < 0 || !(command & RTE_PCI_COMMAND_MASTER))
			return false;
		rte_delay_us_sleep(5000);
	}
	return true;
}

/* Map the device once more, and give that up: it is owned still, by the first map. */
static int
rival_map_again(void)
{
	if (rte_pci_map_device(rival_pci) != 0)
		return UIO_RIVAL_REFUSED;
	rte_pci_unmap_device(rival_pci);

	return 0;
}

int
uio_rival_main(const char *role, const char *device)
{
	const pid_t parent = getppid();
	char part[64];
	int ret = 0;

	rival_device = device;
	if (strcmp(role, "rival_race") == 0)
		ret = rival_wait_start();
	else if (strcmp(role, "rival_next") == 0)
		ret = rival_wait_release();
	else if (strcmp(role, "rival_nobody") == 0)
		return rival_lock_all(parent);
	if (ret != 0)
		return ret;

	uio_driver_register(rival_accept, true);
	rte_errno = 0;
	rte_bus_probe();
	if (rival_pci == NULL) {
		ret = rte_errno == EBUSY ? UIO_RIVAL_REFUSED : RIVAL_FAILED;
		snprintf(part, sizeof(part), "/%s/", device);
		return uio_count_fds(part, NULL, 0) == 0 ? ret : RIVAL_LITTERS;
	}
	if (!rival_keeps_bus_master())
		return RIVAL_LOST;
	if (strcmp(role, "rival_again") == 0)
		ret = rival_map_again();
	if (ret != 0)
		return ret;
	rival_say(UIO_RIVAL_HAS);
	if (strcmp(role, "rival") != 0 && strcmp(role, "rival_next") != 0)
		rival_stay(parent);

	return 0;
}
