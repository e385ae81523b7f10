/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Other primaries that try to attach the device. A case may unmap the device of this process: the
 * runner maps it again.
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

#include <rte_cycles.h>
#include <rte_pci.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_claim.h"

/* A user and group without any privilege. */
#define UNPRIVILEGED_ID 65534

/* How long a second primary waits for a lock, and watches its bus master bit. */
#define SECOND_WAIT_S 60
#define SECOND_WATCH_MS 50

/* A race takes eight processes: one race for so many secondaries of the repeat case. */
#define RACE_EVERY 25
#define RACE_TIMEOUT_MS 30000

/* In a second primary. */

static int
second_open(const char *device, const char *file, int flags)
{
	char path[PATH_MAX];

	uio_sysfs_path(device, file, path, sizeof(path));
	return open(path, flags | O_CLOEXEC);
}

/* Wait for the others of a race. */
static int
role_wait_step(struct uio_peer *peer, const char *device __rte_unused)
{
	uio_set_state(UIO_STATE_STARTED);
	return uio_wait_primary(&peer->step) ? 0 : -1;
}

/* Lock what a user without privilege may open of the device: config space, and more. */
static int
role_lock_all(struct uio_peer *peer __rte_unused, const char *device)
{
	bool has_config = false;
	struct dirent *entry;
	DIR *dir;
	int fd;

	if (setgroups(0, NULL) != 0 || setgid(UNPRIVILEGED_ID) != 0 ||
			setuid(UNPRIVILEGED_ID) != 0)
		return -1;
	dir = fdopendir(second_open(device, ".", O_RDONLY | O_DIRECTORY));
	if (dir == NULL)
		return -1;
	while ((entry = readdir(dir)) != NULL) {
		/* The file stays open, and locked. */
		fd = second_open(device, entry->d_name, O_RDONLY);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			has_config |= strcmp(entry->d_name, "config") == 0;
	}
	closedir(dir);

	return has_config ? 0 : -1;
}

/*
 * Wait until the claim of the first primary ends. That must be the last thing to end: if the kernel
 * closed /dev/uioX later, that would clear bus master for the next primary.
 */
static int
role_wait_release(struct uio_peer *peer, const char *device)
{
	char file[] = "resource0";
	uint16_t command = 0;
	int config, claim = -1, ret = -1;

	for (; claim < 0 && file[8] < '0' + PCI_MAX_RESOURCE; file[8]++)
		claim = second_open(device, file, O_RDWR);
	config = second_open(device, "config", O_RDONLY);
	if (config >= 0 && claim >= 0) {
		uio_set_state(UIO_STATE_STARTED);
		alarm(SECOND_WAIT_S * uio_settings.time_scale);
		ret = flock(claim, LOCK_EX);
		if (ret == 0 && pread(config, &command, sizeof(command), RTE_PCI_COMMAND) !=
				sizeof(command))
			ret = -1;
		alarm(0);
	}
	close(claim);
	close(config);
	if (command & RTE_PCI_COMMAND_MASTER) {
		strlcpy(peer->what, "a claim that ended before /dev/uioX of the first primary",
				sizeof(peer->what));
		ret = -1;
	}
	return ret;
}

/* It has the device, and the controller is disabled: watch what could still clear bus master. */
static int
role_watch(struct uio_peer *peer, struct rte_pci_device *pci)
{
	const struct nvme_ctrl ctrl = { .bar = pci->mem_resource[0].addr };
	int ms, command;

	if (pci->id.class_id == NVME_PCI_CLASS &&
			(nvme_reg_read(&ctrl, NVME_REG_CC) & NVME_CC_EN)) {
		strlcpy(peer->what, "a controller that may do DMA with the queues of another "
				"process", sizeof(peer->what));
		return -1;
	}
	for (ms = 0; ms < SECOND_WATCH_MS; ms += 5) {
		command = uio_command_sysfs(pci->name);
		if (command < 0 || !(command & RTE_PCI_COMMAND_MASTER)) {
			snprintf(peer->what, sizeof(peer->what),
					"COMMAND 0x%04x after its attach: bus master is lost",
					command);
			return -1;
		}
		rte_delay_us_sleep(5000);
	}
	return 0;
}

/* Mapped twice and unmapped once, the device is still claimed. */
static int
role_map_again(struct uio_peer *peer, struct rte_pci_device *pci)
{
	if (role_watch(peer, pci) != 0 || rte_pci_map_device(pci) != 0)
		return -1;
	rte_pci_unmap_device(pci);
	return 0;
}

/* They keep to themselves what they need not share. */
#define SECOND(id) .name = id, .primary = "--in-memory"

static const struct uio_role uio_claim_roles[] = {
	{ SECOND("second_primary"), .work = role_watch },
	{ SECOND("second_primary_again"), .work = role_map_again },
	{ SECOND("second_primary_lock"), .before = role_lock_all, .attach = UIO_ATTACH_NONE },
	{ SECOND("second_primary_next"), .before = role_wait_release, .work = role_watch },
	{ SECOND("second_primary_race"), .before = role_wait_step, .work = role_watch },
};
UIO_REGISTER_ROLES(uio_claim_roles)

/* In the primary. */

/* After its end. */
static void
expect_refused(unsigned int slot)
{
	const struct uio_peer *peer = &uio_shared->peers[slot];

	uio_expect(peer->state == UIO_STATE_NOT_ATTACHED && peer->probe_errno == EBUSY,
			"the second primary to be refused with EBUSY, got %s, rte_errno %d",
			peer->state == UIO_STATE_NOT_ATTACHED ? "no device" : "the device",
			peer->probe_errno);
	uio_expect_nothing_left(slot);
}

/* It prints which process has the device. */
static void
expect_holder(struct uio_dev *dev, unsigned int slot, pid_t holder)
{
	char pattern[64];

	snprintf(pattern, sizeof(pattern), "*%s is in use by process %d\n", dev->name, holder);
	uio_expect_output(slot, pattern);
}

void
claim_expect_refused(struct uio_dev *dev, unsigned int slot, pid_t holder)
{
	uio_spawn(dev, slot, "second_primary", NULL);
	uio_end(slot, 0);
	expect_refused(slot);
	expect_holder(dev, slot, holder);
}

static void
case_claim_refused(struct uio_dev *dev)
{
	uio_spawn(dev, 0, "second_primary", NULL);
	uio_end(0, 0);
	/* The state of the device first: it says more. */
	uio_check(dev);
	expect_refused(0);
	expect_holder(dev, 0, getpid());
	uio_expect_no_open(0);
}

/* One has the device, and is killed; another one waits for that. */
static void
case_claim_killed(struct uio_dev *dev)
{
	uio_unmap(dev);
	uio_start(dev, 0, "second_primary", NULL, UIO_STATE_DONE);
	claim_expect_refused(dev, 1, uio_pid(0));
	uio_start(dev, 2, "second_primary_next", NULL, UIO_STATE_STARTED);
	uio_kill(0, SIGKILL);
	uio_wait_state(2, UIO_STATE_DONE);
	uio_end(2, 0);
}

static void
case_claim_lock(struct uio_dev *dev)
{
	uio_unmap(dev);
	uio_start(dev, 0, "second_primary_lock", NULL, UIO_STATE_NOT_ATTACHED);
	uio_run_secondary(dev, 1, "second_primary");
}

static void
case_claim_again(struct uio_dev *dev)
{
	uio_unmap(dev);
	uio_start(dev, 0, "second_primary_again", NULL, UIO_STATE_DONE);
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
	uio_run_secondary(dev, 1, "second_primary");
}

static void
race(struct uio_dev *dev)
{
	const uint64_t deadline = uio_deadline(RACE_TIMEOUT_MS);
	unsigned int slot, winners = 0;

	for (slot = 0; slot < UIO_SLOTS; slot++)
		uio_spawn(dev, slot, "second_primary_race", NULL);
	for (slot = 0; slot < UIO_SLOTS; slot++)
		uio_wait_state(slot, UIO_STATE_STARTED);
	for (slot = 0; slot < UIO_SLOTS; slot++)
		uio_shared->peers[slot].step = 1;
	for (slot = 0; slot < UIO_SLOTS; slot++) {
		const struct uio_peer *peer = &uio_shared->peers[slot];

		while (uio_ok() && peer->state < UIO_STATE_DONE)
			uio_expect(uio_pause(deadline), "each second primary to have the device, "
					"or to be refused, got state %u, %s", peer->state,
					peer->what);
		if (peer->state == UIO_STATE_DONE) {
			winners++;
		} else {
			uio_end(slot, 0);
			expect_refused(slot);
		}
	}
	uio_expect(winners == 1, "one second primary to get the device, got %u", winners);
	/* The winner still runs, all others have ended. */
	uio_expect_bus_master(dev, true, "after the others");
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
	{ .name = "claim_killed", .flags = UIO_CASE_EXIT, .run = case_claim_killed,
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
