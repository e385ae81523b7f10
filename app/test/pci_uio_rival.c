/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Other primaries that want the device. They share no memory with this one: the exit code tells
 * what came of it, and a line of output that one has the device.
 */

#include <errno.h>
#include <fcntl.h>
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

/* Exit codes of a rival beside 0, which is: had the device, and bus master stayed set. */
#define RIVAL_FAILED 1
#define RIVAL_REFUSED 4   /* with EBUSY */
#define RIVAL_LOST 5      /* had the device, and bus master did not stay set */
#define RIVAL_TOO_EARLY 6 /* the claim ended before the owner's /dev/uioX was closed */
#define RIVAL_LITTERS 7   /* was refused, and has files of the device open */

/* A race costs eight lives of a process: one race for so many secondaries that come and go. */
#define RIVAL_RACE_EVERY 25

#define RIVAL_IS_READY "rival is ready"
#define RIVAL_HAS "rival has the device"

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
	rival_say(RIVAL_IS_READY);
	for (ms = 0; ms < RIVAL_WAIT_S * 1000 && rival_started == 0; ms++)
		rte_delay_us_sleep(1000);

	return rival_started != 0 ? 0 : RIVAL_FAILED;
}

/*
 * Wait until the owner's claim ends. Its end must be the last of the owner: had the kernel closed
 * /dev/uioX later, that would take the bus master bit from the next owner.
 */
static int
rival_wait_release(void)
{
	uint16_t command = 0;
	char path[128];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/%s/config", rte_pci_get_sysfs_path(), rival_device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return RIVAL_FAILED;
	rival_say(RIVAL_IS_READY);
	alarm(RIVAL_WAIT_S);
	ret = flock(fd, LOCK_EX);
	if (ret == 0 && pread(fd, &command, sizeof(command), RTE_PCI_COMMAND) != sizeof(command))
		ret = -1;
	alarm(0);
	close(fd);
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

int
uio_rival_main(const char *role, const char *device)
{
	const pid_t parent = getppid();
	char part[64];
	int s, ret = 0;

	rival_device = device;
	if (strcmp(role, "rival_race") == 0)
		ret = rival_wait_start();
	else if (strcmp(role, "rival_next") == 0)
		ret = rival_wait_release();
	if (ret != 0)
		return ret;

	uio_driver_register(rival_accept, true);
	rte_errno = 0;
	rte_bus_probe();
	if (rival_pci == NULL) {
		ret = rte_errno == EBUSY ? RIVAL_REFUSED : RIVAL_FAILED;
		snprintf(part, sizeof(part), "/%s/", device);
		return uio_count_fds(part, NULL, 0) == 0 ? ret : RIVAL_LITTERS;
	}
	if (!rival_keeps_bus_master())
		return RIVAL_LOST;
	rival_say(RIVAL_HAS);
	if (strcmp(role, "rival_hold") == 0 || strcmp(role, "rival_race") == 0) {
		for (s = 0; s < RIVAL_WAIT_S && getppid() == parent; s++)
			sleep(1);
	}

	return 0;
}

/* A primary of its own, in the same place; it keeps to itself what it need not share. */
static int
rival_spawn(struct uio_dev *dev, unsigned int slot, const char *role)
{
	const struct uio_spawn_args args = {
		.prefix = "pci_uio_rival", .option = "--in-memory",
	};

	return uio_spawn(dev, slot, role, &args);
}

/* Refused, and told by whom. */
static int
rival_expect_refused(struct uio_dev *dev, unsigned int slot, pid_t owner)
{
	char process[32];
	int ret;

	ret = uio_wait_end(dev, slot, RIVAL_REFUSED);
	snprintf(process, sizeof(process), "process %d (", owner);
	if (ret == TEST_SUCCESS && !uio_has_said(slot, dev->pci->name, "is in use by", process)) {
		uio_blame(slot);
		ret = uio_not_ok("the rival to say who has the device", "no such line");
	}

	return ret;
}

int
uio_case_claim_refused(struct uio_dev *dev)
{
	const int watch = uio_watch_opens(dev->uio_path);
	int opens, ret;

	ret = rival_spawn(dev, 0, "rival");
	if (ret == TEST_SUCCESS)
		uio_wait_said(dev, 0, NULL);
	opens = uio_count_opens(watch);
	/* What it did to the device, before what it was to do. */
	if (ret == TEST_SUCCESS)
		ret = uio_check(dev);
	if (ret == TEST_SUCCESS)
		ret = rival_expect_refused(dev, 0, getpid());
	if (ret == TEST_SUCCESS && opens > 0)
		ret = uio_not_ok("no open() of /dev/uio*", "%d of %s", opens, dev->uio_path);

	return ret;
}

/* One has the device, and is killed; another one waits for that. */
static int
rival_succeed(struct uio_dev *dev)
{
	int ret;

	ret = rival_spawn(dev, 0, "rival_hold");
	if (ret == TEST_SUCCESS && !uio_wait_said(dev, 0, RIVAL_HAS))
		ret = uio_wait_end(dev, 0, -SIGKILL);
	if (ret == TEST_SUCCESS)
		ret = rival_spawn(dev, 1, "rival");
	if (ret == TEST_SUCCESS)
		ret = rival_expect_refused(dev, 1, uio_pid(0));
	if (ret == TEST_SUCCESS)
		ret = rival_spawn(dev, 2, "rival_next");
	if (ret == TEST_SUCCESS && uio_wait_said(dev, 2, RIVAL_IS_READY))
		uio_kill(0, SIGKILL);

	return ret == TEST_SUCCESS ? uio_wait_end(dev, 2, 0) : ret;
}

/* All want the device at the same time: one gets it. */
static int
rival_race(struct uio_dev *dev)
{
	unsigned int slot, winners = 0, refused = 0;
	int command, ret = TEST_SUCCESS;

	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++)
		ret = rival_spawn(dev, slot, "rival_race");
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++) {
		if (!uio_wait_said(dev, slot, RIVAL_IS_READY))
			ret = uio_wait_end(dev, slot, 0);
	}
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++)
		uio_kill(slot, SIGUSR1);
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++) {
		if (uio_wait_said(dev, slot, RIVAL_HAS))
			winners++;
		else if (uio_wait_end(dev, slot, RIVAL_REFUSED) == TEST_SUCCESS)
			refused++;
	}
	if (ret == TEST_SUCCESS && (winners != 1 || refused != UIO_SLOTS - 1))
		ret = uio_not_ok("one rival to get the device", "%u, and %u were refused", winners,
				refused);
	/* The winner lives, all others have gone. */
	command = uio_command_sysfs(dev->pci);
	if (ret == TEST_SUCCESS && (command < 0 || !(command & RTE_PCI_COMMAND_MASTER)))
		ret = uio_not_ok("COMMAND with bus master set", "COMMAND 0x%04x: bus master is lost",
				command);
	uio_reap();

	return ret;
}

/* Without the device, which the flow needs; it is taken back whatever came of that. */
static int
rival_without_us(struct uio_dev *dev, int (*run)(struct uio_dev *dev), unsigned int times)
{
	int ret, back;

	ret = uio_let_go(dev);
	if (ret != TEST_SUCCESS)
		return ret;
	while (ret == TEST_SUCCESS && times-- > 0)
		ret = run(dev);
	uio_reap();
	back = uio_take_back(dev);
	if (back == TEST_SUCCESS)
		back = uio_ready(dev);

	return ret == TEST_SUCCESS ? back : ret;
}

int
uio_case_claim_killed(struct uio_dev *dev)
{
	return rival_without_us(dev, rival_succeed, 1);
}

int
uio_case_claim_race(struct uio_dev *dev)
{
	return rival_without_us(dev, rival_race,
			(uio_settings.repeat + RIVAL_RACE_EVERY - 1) / RIVAL_RACE_EVERY);
}
