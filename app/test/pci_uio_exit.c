/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* What a secondary opens, what it sees in config space, what its end does to the device. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_debug.h>
#include <rte_dev.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_test.h"

#define CONFIG_CONVENTIONAL 256
#define CONFIG_MAX 4096
/* Cache Line Size: PCI Express devices ignore it, and all let it be written. */
#define CONFIG_SCRATCH 0x0c
#define HOTPLUG_SECONDARIES 3
#define HOTPLUG_TIMEOUT_MS 10000

/* In a secondary. */

/* SIGALRM, which ends the process, at a chosen time after this, wherever the attach is then. */
static int
role_end_later(struct uio_peer *peer, const char *device __rte_unused)
{
	const struct itimerval timer = {
		.it_value = { .tv_sec = peer->arg / US_PER_S, .tv_usec = peer->arg % US_PER_S },
	};

	return setitimer(ITIMER_REAL, &timer, NULL);
}

static int
role_detach(struct uio_peer *peer __rte_unused, struct rte_pci_device *pci)
{
	rte_pci_unmap_device(pci);
	return 0;
}

static int
role_reattach(struct uio_peer *peer __rte_unused, struct rte_pci_device *pci)
{
	int i, ret = 0;

	for (i = 0; i < 3 && ret == 0; i++) {
		rte_pci_unmap_device(pci);
		ret = rte_pci_map_device(pci);
	}
	return ret;
}

/* Through EAL, which asks the primary and tells all secondaries. */
static int
role_hotplug_remove(struct uio_peer *peer, struct rte_pci_device *pci)
{
	peer->result[0] = rte_eal_hotplug_remove("pci", pci->name);
	return 0;
}

static int
role_read_config(struct uio_peer *peer, struct rte_pci_device *pci)
{
	peer->result[0] = rte_pci_read_config(pci, peer->view, CONFIG_MAX, 0);
	return 0;
}

/* See what the primary wrote, then write something else. */
static int
role_write_config(struct uio_peer *peer, struct rte_pci_device *pci)
{
	uint8_t value = 0;

	peer->result[0] = rte_pci_read_config(pci, &value, 1, CONFIG_SCRATCH);
	peer->result[1] = value;
	value = peer->arg;
	peer->result[2] = rte_pci_write_config(pci, &value, 1, CONFIG_SCRATCH);
	return 0;
}

static int
role_fork(struct uio_peer *peer __rte_unused, struct rte_pci_device *pci __rte_unused)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(0);
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static void
role_rte_exit(int status)
{
	rte_exit(status, "this secondary ends\n");
}

static void
role_exec(int status __rte_unused)
{
	execl("/bin/sh", "sh", "-c", "exit 7", NULL);
}

/* Another primary, which does not have the device that its secondary asks for. */
static int
role_other_primary(struct uio_peer *peer __rte_unused, const char *device)
{
	struct uio_dev dev = { .pci = NULL };

	strlcpy(dev.name, device, sizeof(dev.name));
	uio_start(&dev, 1, "return", NULL, UIO_STATE_NOT_ATTACHED);
	uio_end(1, 0);
	uio_expect_nothing_left(1);
	uio_reap();

	return uio_ok() ? 0 : -1;
}

static const struct uio_role uio_exit_roles[] = {
	{ .name = "return" },
	{ .name = "attach_init", .attach = UIO_ATTACH_INIT },
	{ .name = "attach_all", .all_devices = true },
	{ .name = "hotplug", .attach = UIO_ATTACH_HOTPLUG },
	{ .name = "hotplug_remove", .work = role_hotplug_remove },
	{ .name = "exit", .end = exit },
	{ .name = "_exit", .end = _exit },
	{ .name = "rte_exit", .end = role_rte_exit },
	{ .name = "exec", .end = role_exec },
	{ .name = "detach", .work = role_detach },
	{ .name = "reattach", .work = role_reattach },
	{ .name = "read_config", .work = role_read_config },
	{ .name = "write_config", .work = role_write_config },
	{ .name = "fork", .work = role_fork },
	{ .name = "kill_in_probe", .kill_in_probe = true },
	{ .name = "end_later", .before = role_end_later },
	{ .name = "other_primary", .primary = "--file-prefix=pci_uio_other_primary",
		.attach = UIO_ATTACH_NONE, .before = role_other_primary },
};
UIO_REGISTER_ROLES(uio_exit_roles)

/* In the primary. */

/*
 * The kernel clears bus master when an open of /dev/uioX is closed, and the test notices. Then the
 * recovery that an application can do: set the bit, reset the controller, create its queues again,
 * send again what had not completed.
 */
static void
case_control(struct uio_dev *dev)
{
	const bool traffic = dev->traffic.running;
	uint64_t deadline;

	if (!uio_open_and_close(dev))
		return;
	uio_expect_bus_master(dev, false, "after the close");
	/* Fatal status or no answer at all: that depends on the controller. */
	deadline = nvme_deadline(2 * dev->ctrl.command_ms);
	while (uio_ok() && traffic && dev->traffic.error[0] == '\0' && uio_pause(deadline))
		;
	if (traffic && uio_ok() && uio_signal_number == 0)
		printf("# without bus master: %s\n", dev->traffic.error[0] != '\0' ?
				dev->traffic.error : "the device does DMA nevertheless");
	uio_recovered(dev);
}

static void
case_config_bytes(struct uio_dev *dev)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	const uint8_t *bytes = (const uint8_t *)peer->view;
	uint8_t before[CONFIG_MAX], after[CONFIG_MAX];
	int i, len;

	len = rte_pci_read_config(dev->pci, before, sizeof(before), 0);
	uio_run_secondary(dev, 0, "read_config");
	rte_pci_read_config(dev->pci, after, sizeof(after), 0);
	uio_expect(peer->result[0] == len && len >= CONFIG_CONVENTIONAL,
			"%d bytes, as in the primary, got %d", len, peer->result[0]);
	for (i = 0; i < len && uio_ok(); i++) {
		/* A byte that changes by itself proves nothing. */
		uio_expect(bytes[i] == before[i] || before[i] != after[i],
				"0x%02x at offset 0x%03x, got 0x%02x", before[i], i, bytes[i]);
	}
}

static void
case_config_write(struct uio_dev *dev)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	uint8_t found = 0, now = 0, by_primary, by_secondary;
	struct uio_spawn_args args = { 0 };

	if (!uio_expect(rte_pci_read_config(dev->pci, &found, 1, CONFIG_SCRATCH) == 1,
			"the primary to read Cache Line Size, got an error"))
		return;
	/* Legal sizes in dwords, in case the device looks at them, and neither what is there. */
	by_primary = found == 16 ? 8 : 16;
	by_secondary = found == 32 ? 64 : 32;
	uio_expect(rte_pci_write_config(dev->pci, &by_primary, 1, CONFIG_SCRATCH) == 1 &&
			rte_pci_read_config(dev->pci, &now, 1, CONFIG_SCRATCH) == 1,
			"the primary to write Cache Line Size, got an error");
	if (now != by_primary)
		uio_skip("%s does not let Cache Line Size be written", dev->name);

	args.arg = by_secondary;
	uio_start(dev, 0, "write_config", &args, UIO_STATE_DONE);
	uio_expect(peer->result[0] == 1 && peer->result[1] == by_primary,
			"the secondary to read what the primary wrote, got 0x%02x (%d bytes)",
			peer->result[1], peer->result[0]);
	uio_expect(rte_pci_read_config(dev->pci, &now, 1, CONFIG_SCRATCH) == 1 &&
			now == by_secondary, "the primary to read what the secondary wrote, got "
			"0x%02x (its write returned %d)", now, peer->result[2]);
	uio_end(0, 0);
	uio_expect(rte_pci_write_config(dev->pci, &found, 1, CONFIG_SCRATCH) == 1 &&
			rte_pci_read_config(dev->pci, &now, 1, CONFIG_SCRATCH) == 1 && now == found,
			"Cache Line Size to be 0x%02x as before, got 0x%02x", found, now);
}

/* A secondary that ends at chosen times after the start of an attach. */
static void
case_exit_killed_attaching(struct uio_dev *dev)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	struct uio_spawn_args args = { 0 };
	uint32_t attach_us;
	int tenths;

	/* The duration of an attach, and one that ends for sure when the BARs have been mapped. */
	uio_run_secondary(dev, 0, "return");
	attach_us = peer->attach_us;
	uio_spawn(dev, 0, "kill_in_probe", NULL);
	uio_wait_end(0, -SIGKILL);
	uio_check_bus_master(dev);

	for (tenths = 1; tenths < 10; tenths += 3) {
		args.arg = RTE_MAX(attach_us * tenths / 10, 1u);
		do {
			uio_spawn(dev, 0, "end_later", &args);
			uio_wait_end(0, -SIGALRM);
			uio_check_bus_master(dev);
			/* Too late: the attach was over. */
			args.arg /= 2;
		} while (uio_ok() && peer->state > UIO_STATE_ATTACHING && args.arg > 0);
	}
}

/* One secondary with this device and another one that is tested. */
static void
case_exit_two_devices(struct uio_dev *dev)
{
	struct uio_dev *other = dev == uio_devices ? dev + 1 : uio_devices;
	char option[64];
	const struct uio_spawn_args args = { .option = option };

	if (uio_devices_nb < 2) {
		uio_skip("one device only: name two, with -a");
		return;
	}
	snprintf(option, sizeof(option), "--allow=%s", other->name);
	uio_ready(other);
	uio_start(dev, 0, "attach_all", &args, UIO_STATE_DONE);
	uio_expect(uio_shared->peers[0].result[0] == 1,
			"the secondary to attach %s as well, got no probe of it", other->name);
	uio_end(0, 0);
	uio_check(other);
	/* Without the fix the exit breaks it. Its own cases start with a device that works. */
	if (other->mapped && !other->dead && uio_look(other) != 0)
		other->dead = uio_recover(other) != 0;
}

static void
case_exit_eight(struct uio_dev *dev)
{
	static const struct {
		const char *role;
		int end;
	} eight[UIO_SLOTS] = {
		{ "return", 0 }, { "exit", 0 }, { "_exit", 0 }, { "return", -SIGABRT },
		{ "detach", 0 }, { "fork", 0 }, { "reattach", 0 }, { "return", -SIGKILL },
	};
	unsigned int slot;

	/*
	 * EAL starts in one after the other. In several at once, one may clean up the runtime
	 * directory while another has made a file there but not locked it yet, which then fails
	 * with "Cannot initialize local memory map".
	 */
	for (slot = 0; slot < UIO_SLOTS; slot++)
		uio_start(dev, slot, eight[slot].role, NULL, UIO_STATE_STARTED);
	for (slot = 0; slot < UIO_SLOTS; slot++)
		uio_wait_state(slot, UIO_STATE_DONE);

	/* All are attached now. They end one after the other, each in its own way. */
	for (slot = 0; slot < UIO_SLOTS; slot++) {
		if (eight[slot].end < 0)
			uio_kill(slot, -eight[slot].end);
		uio_end(slot, eight[slot].end);
		uio_check_bus_master(dev);
	}
}

static void
case_exit_many(struct uio_dev *dev)
{
	/* A device without I/O needs fewer: nothing but the bit can be lost. */
	const uint32_t repeat = dev->is_nvme ? uio_settings.repeat : uio_settings.repeat / 10 + 1;
	uint32_t i;

	for (i = 0; i < repeat && uio_ok(); i++) {
		uio_run_secondary(dev, 0, "return");
		uio_check_bus_master(dev);
	}
}

static void
case_primary_cleared(struct uio_dev *dev)
{
	/* No doorbell meanwhile: the controller could not fetch, and would have a fatal status. */
	uio_expect_io(dev, uio_traffic_stop(dev), "reads to complete");
	uio_expect(rte_pci_set_bus_master(dev->pci, false) == 0,
			"the primary to clear bus master, got an error");
	uio_start(dev, 0, "return", NULL, UIO_STATE_DONE);
	uio_expect_bus_master(dev, false, "with a secondary");
	uio_end(0, 0);
	uio_expect_bus_master(dev, false, "after a secondary");
	uio_recovered(dev);
}

/*
 * The primary, or one of three secondaries, has the device removed in all of them. If the driver of
 * the primary refuses, EAL attaches the device again where it had removed it.
 */
static void
case_hotplug_removal(struct uio_dev *dev)
{
	const char *role = uio_current->role;
	const int answer = -(int)uio_current->args.arg;
	const uint64_t deadline = uio_deadline(HOTPLUG_TIMEOUT_MS);
	int added, removed = answer;
	char files[32];
	unsigned int i;

	if (answer == 0)
		uio_stop(dev);
	for (i = role != NULL ? 1 : 0; i < HOTPLUG_SECONDARIES; i++)
		uio_start(dev, i, "return", NULL, UIO_STATE_DONE);
	if (!uio_ok())
		return;
	uio_remove_answer = answer;
	if (answer == 0)
		uio_set_mapped(dev, false);
	if (role == NULL)
		removed = rte_eal_hotplug_remove("pci", dev->name);
	else if (uio_start(dev, 0, role, NULL, UIO_STATE_DONE))
		removed = uio_shared->peers[0].result[0];
	uio_remove_answer = -EBUSY;
	uio_expect(removed == answer, "%d from the removal, got %d", answer, removed);
	snprintf(files, sizeof(files), "*/%s/*", dev->name);
	for (i = 0; i < HOTPLUG_SECONDARIES; i++) {
		uio_wait_files(i, files, answer != 0);
		if (answer == 0)
			uio_wait_files(i, "/dev/uio*", false);
	}

	if (answer == 0) {
		if (role != NULL)
			uio_expect_nothing_left(0);
		/* A file may be on its way to a secondary, which closes it. */
		while (uio_ok() && (uio_command_sysfs(dev->name) & RTE_PCI_COMMAND_MASTER) &&
				uio_pause(deadline))
			;
		uio_expect_bus_master(dev, false, "after the removal");
		/* A removal that has not ended must not meet the attach. */
		if (!uio_ok())
			uio_reap();
		/* The driver of this process finds the device again, and sets dev->pci. */
		added = rte_eal_hotplug_add("pci", dev->name, "");
		/* It was not removed. */
		if (!dev->mapped && (added == 0 || added == -EEXIST))
			uio_set_mapped(dev, true);
		dev->dead = !dev->mapped;
		uio_expect(added == 0, "the primary to attach the device again, got %d", added);
		uio_ready(dev);
	}
	for (i = 0; i < HOTPLUG_SECONDARIES; i++) {
		uio_end(i, 0);
		uio_check_bus_master(dev);
	}
}

#define SURVIVES "bus master and traffic survive "
#define EXIT_FLAGS(id, more, what) .name = "exit_" id, .flags = UIO_CASE_EXIT | (more), \
	.claim = SURVIVES "a secondary that " what
#define EXIT(id, what) EXIT_FLAGS(id, 0, what)
#define END(id, what) EXIT_FLAGS(id, UIO_CASE_END, what)
#define HOTPLUG(id, answer) .name = id, .flags = UIO_CASE_EXIT, .run = case_hotplug_removal, \
	.args.arg = answer
#define SIGNAL(id, what) EXIT_FLAGS(id, UIO_CASE_END | UIO_CASE_KILL, what), .role = "return"

static const struct uio_case uio_exit_cases[] = {
	{ EXIT("return", "returns from main after rte_eal_cleanup"), .role = "return" },
	{ END("no_cleanup", "exits without rte_eal_cleanup"), .role = "exit" },
	{ END("rte_exit", "calls rte_exit"), .role = "rte_exit" },
	{ END("at_once", "calls _exit"), .role = "_exit" },
	{ END("exec", "executes another program"), .role = "exec", .end = 7 },
	{ SIGNAL("abort", "aborts"), .end = -SIGABRT },
	{ SIGNAL("sigterm", "ends by SIGTERM"), .end = -SIGTERM },
	{ SIGNAL("sigsegv", "ends by SIGSEGV"), .end = -SIGSEGV },
	{ EXIT_FLAGS("killed_attached", UIO_CASE_KILL, "is killed while attached"),
		.role = "return", .end = -SIGKILL },
	{ EXIT("killed_attaching", "is killed while attaching"),
		.run = case_exit_killed_attaching },
	{ EXIT("reattach", "detaches and attaches again, and exits"), .role = "reattach" },
	/* An allow list with a device that cannot exist. */
	{ EXIT_FLAGS("not_allowed", UIO_CASE_FAILS | UIO_CASE_END, "is not allowed the device"),
		.role = "return", .args.allow = "ffff:ff:1f.7" },
	{ EXIT_FLAGS("other_primary", UIO_CASE_FAILS | UIO_CASE_END,
			"attaches what its own primary does not have"), .role = "other_primary" },
	{ END("fork", "forks and whose child exits"), .role = "fork" },
	{ EXIT("two_devices", "has two devices"), .run = case_exit_two_devices },
	{ END("eight", "is one of eight at once"), .run = case_exit_eight },
	{ .name = "exit_many", .flags = UIO_CASE_EXIT | UIO_CASE_REPEAT, .run = case_exit_many,
		.claim = SURVIVES "many secondaries in a row" },
	{ .name = "primary_cleared", .run = case_primary_cleared,
		.claim = "bus master that the primary cleared stays clear with a secondary" },
	{ .name = "hotplug_add", .flags = UIO_CASE_EXIT | UIO_CASE_BESIDE, .role = "hotplug",
		.claim = SURVIVES "a hotplug attach in a secondary" },
	{ HOTPLUG("hotplug_busy_secondary", EBUSY), .role = "hotplug_remove",
		.claim = SURVIVES "a hotplug removal in a secondary that the primary refuses" },
	{ HOTPLUG("hotplug_busy_primary", EBUSY),
		.claim = SURVIVES "a hotplug removal in the primary that its driver refuses" },
	{ HOTPLUG("hotplug_secondary", 0), .role = "hotplug_remove",
		.claim = "a hotplug removal in a secondary removes the device in all processes" },
	{ HOTPLUG("hotplug_primary", 0),
		.claim = "a hotplug removal in the primary removes the device in all processes" },
};
UIO_REGISTER_CASES(30, uio_exit_cases)

/* Beside what they check, these show the same as those about an exit: uio_check() ends them. */
static const struct uio_case uio_fd_cases[] = {
	{ .name = "control", .flags = UIO_CASE_EXIT, .run = case_control,
		.claim = "control: closing /dev/uioX clears bus master; the primary can recover" },
	{ .name = "fd_none", .role = "return", .flags = UIO_CASE_NO_OPEN,
		.claim = "a secondary never opens /dev/uio*" },
	{ .name = "fd_init", .role = "attach_init", .flags = UIO_CASE_NO_OPEN,
		.claim = "a secondary never opens /dev/uio* when it attaches inside rte_eal_init" },
	{ .name = "fd_create_uio_dev", .role = "return", .args.option = "--create-uio-dev",
		.flags = UIO_CASE_NO_OPEN,
		.claim = "a secondary never opens /dev/uio* with --create-uio-dev" },
	{ .name = "config_bytes", .run = case_config_bytes,
		.claim = "a secondary reads the same config space as the primary" },
	{ .name = "config_write", .run = case_config_write,
		.claim = "primary and secondary see each other's config writes" },
};
UIO_REGISTER_CASES(10, uio_fd_cases)
