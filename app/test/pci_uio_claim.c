/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Other primaries that try to attach the device. They share no memory with this one: the exit code
 * says what happened, and a line of output that one has the device. A case may unmap the device of
 * this process: the runner maps it again.
 */

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
#include "pci_uio_claim.h"

/* Exit codes beside SECOND_FAILED; 0: had the device, and kept bus master. */
#define SECOND_REFUSED 4   /* with EBUSY */
#define SECOND_LOST 5      /* had the device, and bus master did not stay set */
#define SECOND_TOO_EARLY 6 /* the claim ended before /dev/uioX of the first primary was closed */
#define SECOND_LEAKS_FD 7  /* was refused, and has files of the device open */

/* A user and group without any privilege. */
#define UNPRIVILEGED_ID 65534

/* How long a second primary waits for its parent, and watches its own bus master bit. */
#define SECOND_WAIT_S 60
#define SECOND_WATCH_MS 50

/* A race takes eight processes: one race for so many secondaries of the repeat case. */
#define RACE_EVERY 25

static const char *second_device;
static struct rte_pci_device *second_pci;
static volatile sig_atomic_t second_started;

/* In a second primary. */

static bool
second_accept(struct rte_pci_device *pci)
{
	if (strcmp(pci->name, second_device) != 0)
		return false;
	second_pci = pci;
	return true;
}

void
second_print(const char *text)
{
	printf("%s\n", text);
	fflush(stdout);
}

static void
second_on_start(int sig __rte_unused)
{
	second_started = 1;
}

/* Wait for the signal that starts a race. */
int
second_wait_start(void)
{
	int ms;

	/* Not sigwait(): the signal may go to a thread of EAL, which does not block it. */
	signal(SIGUSR1, second_on_start);
	second_print(SECOND_IS_READY);
	for (ms = 0; ms < SECOND_WAIT_S * 1000 && second_started == 0; ms++)
		rte_delay_us_sleep(1000);

	return second_started != 0 ? 0 : SECOND_FAILED;
}

struct rte_pci_device *
second_attach(const char *device)
{
	second_device = device;
	uio_driver_register(second_accept, true);
	rte_errno = 0;
	rte_bus_probe();
	return second_pci;
}

static int
second_open(const char *file, int flags)
{
	char path[PATH_MAX];

	uio_sysfs_path(second_device, file, path, sizeof(path));
	return open(path, flags | O_CLOEXEC);
}

/* Stay until the case is over. */
void
second_stay(void)
{
	int s;

	for (s = 0; s < SECOND_WAIT_S && !uio_is_orphan(); s++)
		sleep(1);
}

/* Lock what a user without privilege may open of the device: config space, and more. */
static int
second_lock_all(void)
{
	bool has_config = false;
	struct dirent *entry;
	DIR *dir;
	int fd;

	if (setgroups(0, NULL) != 0 || setgid(UNPRIVILEGED_ID) != 0 ||
			setuid(UNPRIVILEGED_ID) != 0)
		return SECOND_FAILED;
	dir = fdopendir(second_open(".", O_RDONLY | O_DIRECTORY));
	if (dir == NULL)
		return SECOND_FAILED;
	while ((entry = readdir(dir)) != NULL) {
		/* The file stays open, and locked. */
		fd = second_open(entry->d_name, O_RDONLY);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			has_config |= strcmp(entry->d_name, "config") == 0;
	}
	closedir(dir);
	if (!has_config)
		return SECOND_FAILED;
	second_print(SECOND_IS_READY);
	second_stay();

	return 0;
}

/*
 * Wait until the claim of the first primary ends. That must be the last thing to end: if the kernel
 * closed /dev/uioX later, that would clear bus master for the next primary.
 */
static int
second_wait_release(void)
{
	char file[] = "resource0";
	uint16_t command = 0;
	int config, claim = -1, ret = -1;

	for (; claim < 0 && file[8] < '0' + PCI_MAX_RESOURCE; file[8]++)
		claim = second_open(file, O_RDWR);
	config = second_open("config", O_RDONLY);
	if (config >= 0 && claim >= 0) {
		second_print(SECOND_IS_READY);
		alarm(SECOND_WAIT_S);
		ret = flock(claim, LOCK_EX);
		if (ret == 0 && pread(config, &command, sizeof(command), RTE_PCI_COMMAND) !=
				sizeof(command))
			ret = -1;
		alarm(0);
	}
	close(claim);
	close(config);
	if (ret != 0)
		return SECOND_FAILED;

	return command & RTE_PCI_COMMAND_MASTER ? SECOND_TOO_EARLY : 0;
}

static bool
second_keeps_bus_master(void)
{
	int ms, command;

	for (ms = 0; ms < SECOND_WATCH_MS; ms += 5) {
		command = uio_command_sysfs(second_device);
		if (command < 0 || !(command & RTE_PCI_COMMAND_MASTER))
			return false;
		rte_delay_us_sleep(5000);
	}
	return true;
}

static int
second_main(const char *role, const char *device)
{
	char part[64];
	int ret = 0;

	second_device = device;
	if (strcmp(role, "second_primary_race") == 0)
		ret = second_wait_start();
	else if (strcmp(role, "second_primary_next") == 0)
		ret = second_wait_release();
	else if (strcmp(role, "second_primary_lock") == 0)
		return second_lock_all();
	if (ret != 0)
		return ret;

	if (second_attach(device) == NULL) {
		ret = rte_errno == EBUSY ? SECOND_REFUSED : SECOND_FAILED;
		snprintf(part, sizeof(part), "/%s/", device);
		return uio_count_fds(part, NULL, 0) == 0 ? ret : SECOND_LEAKS_FD;
	}
	if (!second_keeps_bus_master())
		return SECOND_LOST;
	if (strcmp(role, "second_primary_again") == 0) {
		/* Mapped twice and unmapped once, it is still claimed. */
		if (rte_pci_map_device(second_pci) != 0)
			return SECOND_REFUSED;
		rte_pci_unmap_device(second_pci);
	}
	second_print(SECOND_HAS_DEVICE);
	if (strcmp(role, "second_primary") != 0 && strcmp(role, "second_primary_next") != 0)
		second_stay();

	return 0;
}

static const struct uio_role uio_claim_roles[] = {
	{ .name = "second_primary", .program = second_main },
	{ .name = "second_primary_hold", .program = second_main },
	{ .name = "second_primary_again", .program = second_main },
	{ .name = "second_primary_lock", .program = second_main },
	{ .name = "second_primary_next", .program = second_main },
	{ .name = "second_primary_race", .program = second_main },
};
UIO_REGISTER_ROLES(uio_claim_roles)

/* In the primary. */

/* Start a second primary. It keeps to itself what it need not share. */
static void
spawn(struct uio_dev *dev, unsigned int slot, const char *role)
{
	const struct uio_spawn_args args = {
		.prefix = "pci_uio_second_primary", .option = "--in-memory",
	};

	uio_spawn(dev, slot, role, &args);
}

/* The same, and wait for a line of its output. */
static void
start(struct uio_dev *dev, unsigned int slot, const char *role, const char *text)
{
	spawn(dev, slot, role);
	if (!uio_wait_output(slot, text))
		uio_wait_end(slot, -SIGKILL);
}

/* Start one that gets the device and ends. */
void
claim_expect_success(struct uio_dev *dev, unsigned int slot)
{
	spawn(dev, slot, "second_primary");
	uio_wait_end(slot, 0);
}

/* Wait for the end of one that is refused, and prints which process has the device. */
static void
wait_refused(struct uio_dev *dev, unsigned int slot, pid_t holder)
{
	char process[32];

	snprintf(process, sizeof(process), "process %d\n", holder);
	uio_wait_end(slot, SECOND_REFUSED);
	uio_expect_output(slot, "is in use by", dev->name, process);
}

void
claim_expect_refused(struct uio_dev *dev, unsigned int slot, pid_t holder)
{
	spawn(dev, slot, "second_primary");
	wait_refused(dev, slot, holder);
}

static void
case_claim_refused(struct uio_dev *dev)
{
	spawn(dev, 0, "second_primary");
	uio_wait_output(0, NULL);
	/* The state of the device first: it says more than an exit code. */
	uio_check(dev);
	wait_refused(dev, 0, getpid());
	uio_expect_no_open(0);
}

/* One has the device, and is killed; another one waits for that. */
static void
case_claim_killed(struct uio_dev *dev)
{
	uio_unmap(dev);
	start(dev, 0, "second_primary_hold", SECOND_HAS_DEVICE);
	claim_expect_refused(dev, 1, uio_pid(0));
	start(dev, 2, "second_primary_next", SECOND_IS_READY);
	uio_kill(0, SIGKILL);
	uio_wait_end(2, 0);
}

static void
case_claim_lock(struct uio_dev *dev)
{
	uio_unmap(dev);
	start(dev, 0, "second_primary_lock", SECOND_IS_READY);
	claim_expect_success(dev, 1);
}

static void
case_claim_again(struct uio_dev *dev)
{
	uio_unmap(dev);
	start(dev, 0, "second_primary_again", SECOND_HAS_DEVICE);
	claim_expect_refused(dev, 1, uio_pid(0));
}

/* This process has an I/O port of the device, and no BAR mapped; then not even that. */
static void
case_claim_port(struct uio_dev *dev)
{
	struct rte_pci_ioport port = { .dev = dev->pci };

	if (!uio_unmap(dev))
		return;
	if (uio_expect(rte_pci_ioport_map(dev->pci, uio_first_bar(dev->pci), &port) == 0,
			"rte_pci_ioport_map to work, got an error")) {
		claim_expect_refused(dev, 0, getpid());
		rte_pci_ioport_unmap(&port);
	}
	claim_expect_success(dev, 1);
}

static void
race(struct uio_dev *dev)
{
	unsigned int slot, winners = 0;
	int command;

	for (slot = 0; slot < UIO_SLOTS; slot++)
		spawn(dev, slot, "second_primary_race");
	for (slot = 0; slot < UIO_SLOTS; slot++)
		uio_wait_output(slot, SECOND_IS_READY);
	for (slot = 0; slot < UIO_SLOTS; slot++)
		uio_kill(slot, SIGUSR1);
	for (slot = 0; slot < UIO_SLOTS; slot++) {
		if (uio_wait_output(slot, SECOND_HAS_DEVICE))
			winners++;
		else
			uio_wait_end(slot, SECOND_REFUSED);
	}
	uio_expect(winners == 1, "one second primary to get the device, got %u", winners);
	/* The winner still runs, all others have ended. */
	command = uio_command_sysfs(dev->name);
	uio_expect(command >= 0 && (command & RTE_PCI_COMMAND_MASTER),
			"COMMAND with bus master set, got COMMAND 0x%04x: bus master is lost",
			command);
	uio_reap();
}

static void
case_claim_race(struct uio_dev *dev)
{
	uint32_t i;

	uio_unmap(dev);
	for (i = 0; i < (uio_settings.repeat + RACE_EVERY - 1) / RACE_EVERY && uio_ok(); i++)
		race(dev);
}

static const struct uio_case uio_claim_cases[] = {
	{ .name = "claim_refused", .run = case_claim_refused,
		.claim = "bus master and traffic survive a second primary, which is refused" },
	{ .name = "claim_killed", .run = case_claim_killed,
		.claim = "after its primary is killed, the next primary can claim the device" },
	{ .name = "claim_unprivileged_lock", .run = case_claim_lock,
		.claim = "an unprivileged lock on config space does not block a primary" },
	{ .name = "claim_again", .run = case_claim_again,
		.claim = "a primary that maps the device twice and unmaps it once still has it" },
	{ .name = "claim_port", .flags = UIO_CASE_PORT, .run = case_claim_port,
		.claim = "a primary with only an I/O port has the device until it unmaps that" },
	{ .name = "claim_race", .flags = UIO_CASE_REPEAT, .run = case_claim_race,
		.claim = "of eight primaries that attach the device at once, one gets it" },
};
UIO_REGISTER_CASES(50, uio_claim_cases)
