/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* What a secondary opens, what it leaves behind, and what its end does to the device. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_pci.h>

#include "test.h"
#include "pci_uio_test.h"

/*
 * What all cases about an exit rely on: the kernel clears bus master when an open of /dev/uioX is
 * closed, and the test notices. It also is the recovery that an application can do: set the bit,
 * reset the controller, create its queues again, send again what had not completed.
 */
static int
uio_case_control(struct uio_dev *dev)
{
	const bool traffic = dev->traffic.running;
	int command, fd;

	fd = open(dev->uio_path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return uio_not_ok("/dev/uioX to be opened", "%s", strerror(errno));
	close(fd);
	command = uio_command_sysfs(dev->name);
	dev->keeps_bus_master = command >= 0 && (command & RTE_PCI_COMMAND_MASTER) != 0;
	if (dev->keeps_bus_master)
		return uio_skip("this kernel does not clear bus master when %s is closed",
				dev->uio_path);

	/* Fatal status or no answer at all: that depends on the controller. */
	while (traffic && dev->traffic.error[0] == '\0')
		uio_traffic_poll();
	if (traffic)
		printf("# without bus master: %s\n", dev->traffic.error);
	if (uio_recover(dev) != 0)
		return uio_not_ok("bus master and controller reset to recover", "%s",
				dev->ctrl.error);
	return uio_check(dev);
}

static int
uio_case_bring_up(struct uio_dev *dev)
{
	/* From a controller in any state, also when a case before has already done it. */
	if (uio_recover(dev) != 0)
		return uio_io_failed(dev, "reset, enable, Identify, queues and a read to work");
	return uio_check(dev);
}

static int
uio_check_no_fd(struct uio_dev *dev __rte_unused)
{
	const struct uio_peer *peer = &uio_shared->peers[0];

	return peer->uio_fds == 0 ? TEST_SUCCESS :
		uio_not_ok("no fd on /dev/uio*", "%s (%d in all)", peer->what, peer->uio_fds);
}

/* After a role without the device at its end: nothing of the device is left in the secondary. */
static int
uio_check_nothing_left(struct uio_dev *dev)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	int ret = uio_check_no_fd(dev);

	if (ret == TEST_SUCCESS && (peer->device_fds != 0 || peer->device_maps != 0 ||
			peer->device_bars != 0))
		ret = uio_not_ok("no fd, no mapping, no BAR address of the device",
				"%d fds, %d mappings, %d addresses", peer->device_fds,
				peer->device_maps, peer->device_bars);
	return ret;
}

static int
uio_check_no_config(struct uio_dev *dev)
{
	int ret = uio_check_nothing_left(dev);

	/* The device, the operation and the cause. */
	if (ret == TEST_SUCCESS && !uio_output_has(0, "Cannot open " UIO_NO_SYSFS, dev->name,
			strerror(ENOENT))) {
		uio_show_output(0);
		ret = uio_not_ok("the secondary to say which file it cannot open, and why",
				"no such line");
	}
	return ret;
}

static int
uio_check_detach_unmapped(struct uio_dev *dev)
{
	return uio_shared->peers[0].result[0] >= 0 ? uio_check_nothing_left(dev) :
		uio_not_ok("standard input still to be open", "it was closed");
}

/* A secondary that kills itself at chosen times after the start of an attach. */
static int
uio_case_exit_killed_attaching(struct uio_dev *dev)
{
	struct uio_spawn_args args = { 0 };
	const struct uio_peer *peer = &uio_shared->peers[0];
	uint32_t attach_us;
	int ret, tenths;

	/* The duration of an attach, and one that ends for sure when the BARs have been mapped. */
	ret = uio_run_secondary(dev, "return", 0);
	attach_us = peer->attach_us;
	if (ret == TEST_SUCCESS)
		ret = uio_spawn(dev, 0, "kill_in_probe", NULL);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_end(dev, 0, -SIGKILL);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);

	for (tenths = 1; tenths < 10 && ret == TEST_SUCCESS; tenths += 3) {
		args.arg = RTE_MAX(attach_us * tenths / 10, 1u);
		do {
			ret = uio_spawn(dev, 0, "kill_later", &args);
			if (ret == TEST_SUCCESS)
				ret = uio_wait_end(dev, 0, -SIGKILL);
			if (ret == TEST_SUCCESS)
				ret = uio_check_bus_master(dev);
			/* Too late: the attach was over. */
			args.arg /= 2;
		} while (ret == TEST_SUCCESS && peer->state > UIO_STATE_ATTACHING && args.arg > 0);
	}

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

static int
uio_case_exit_other_primary(struct uio_dev *dev)
{
	const struct uio_spawn_args args = { .prefix = "pci_uio_other_primary" };
	int ret = uio_spawn(dev, 0, "other_primary", &args);

	if (ret == TEST_SUCCESS)
		ret = uio_wait_end(dev, 0, 0);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

/* One secondary with this device and another one that is tested. */
static int
uio_case_exit_two_devices(struct uio_dev *dev)
{
	struct uio_spawn_args args = { 0 };
	struct uio_dev *other = uio_next_device(NULL);
	int ret;

	if (other == dev)
		other = uio_next_device(dev);
	if (other == NULL)
		return uio_skip("one device only: name two, with -a");
	args.also = other->name;
	ret = uio_ready(other);
	if (ret == TEST_SUCCESS)
		ret = uio_start(dev, 0, "attach_all", &args, UIO_STATE_DONE);
	if (ret == TEST_SUCCESS)
		ret = uio_end(dev, 0, 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check(other);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

static int
uio_case_exit_eight(struct uio_dev *dev)
{
	static const struct {
		const char *role;
		int end;
	} eight[UIO_SLOTS] = {
		{ "return", 0 }, { "exit", 0 }, { "_exit", 0 }, { "abort", -SIGABRT },
		{ "detach", 0 }, { "fork", 0 }, { "reattach", 0 }, { "return", -SIGKILL },
	};
	int ret = TEST_SUCCESS;
	unsigned int slot;

	/*
	 * EAL starts in one after the other. In several at once, one may clean up the runtime
	 * directory while another has made a file there but not locked it yet, which then fails
	 * with "Cannot initialize local memory map".
	 */
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++)
		ret = uio_start(dev, slot, eight[slot].role, NULL, UIO_STATE_STARTED);
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++)
		ret = uio_wait_state(dev, slot, UIO_STATE_DONE);

	/* All are attached now. They end one after the other, each in its own way. */
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++) {
		if (eight[slot].end == -SIGKILL)
			uio_kill(slot, SIGKILL);
		else
			uio_finish(slot);
		ret = uio_wait_end(dev, slot, eight[slot].end);
		if (ret == TEST_SUCCESS)
			ret = uio_check_bus_master(dev);
	}

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

static int
uio_case_exit_many(struct uio_dev *dev)
{
	/* A device without I/O needs fewer: nothing but the bit can be lost. */
	const uint32_t repeat = dev->is_nvme ? uio_settings.repeat : uio_settings.repeat / 10 + 1;
	int ret = TEST_SUCCESS;
	uint32_t i;

	for (i = 0; i < repeat && ret == TEST_SUCCESS; i++) {
		ret = uio_run_secondary(dev, "return", 0);
		if (ret == TEST_SUCCESS)
			ret = uio_check_bus_master(dev);
	}

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

static int
uio_expect_cleared(struct uio_dev *dev, const char *when)
{
	const int command = uio_command_sysfs(dev->name);
	char expected[96];

	snprintf(expected, sizeof(expected), "bus master to stay clear %s", when);
	if (command < 0 || (command & RTE_PCI_COMMAND_MASTER))
		return uio_not_ok(expected, "COMMAND 0x%04x", command);

	return TEST_SUCCESS;
}

static int
uio_case_primary_cleared(struct uio_dev *dev)
{
	int ret;

	/* No doorbell meanwhile: the controller could not fetch, and would have a fatal status. */
	if (uio_traffic_stop(dev) != 0)
		return uio_io_failed(dev, "reads to complete");
	if (rte_pci_set_bus_master(dev->pci, false) != 0)
		return uio_not_ok("the primary to clear bus master", "an error");
	ret = uio_start(dev, 0, "return", NULL, UIO_STATE_DONE);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_cleared(dev, "with a secondary attached");
	if (ret == TEST_SUCCESS)
		ret = uio_end(dev, 0, 0);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_cleared(dev, "after a secondary");
	if (ret != TEST_SUCCESS)
		return ret;

	ret = uio_ready(dev);
	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

/* A secondary attaches by hotplug, which the primary and another secondary hear of. */
static int
uio_case_hotplug_add(struct uio_dev *dev)
{
	int ret = uio_start(dev, 1, "return", NULL, UIO_STATE_DONE);

	if (ret == TEST_SUCCESS)
		ret = uio_run_secondary(dev, "hotplug", 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_end(dev, 1, 0);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

/* The driver of the primary keeps the device: EAL attaches it again in the secondaries. */
static int
uio_case_hotplug_busy(struct uio_dev *dev)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	int ret;

	uio_remove_answer = -EBUSY;
	ret = uio_start(dev, 1, "return", NULL, UIO_STATE_DONE);
	if (ret == TEST_SUCCESS)
		ret = uio_run_secondary(dev, "hotplug_remove", 0);
	uio_remove_answer = 0;
	if (ret == TEST_SUCCESS && peer->result[0] >= 0)
		ret = uio_not_ok("the removal to be refused", "%d", peer->result[0]);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_end(dev, 1, 0);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

/* Stop the device, have it removed in all processes by @p remove, attach it again. */
static int
uio_remove_and_add(struct uio_dev *dev, int (*remove)(struct uio_dev *dev))
{
	int ret, added;

	uio_traffic_stop(dev);
	if (dev->is_nvme && nvme_disable(&dev->ctrl) != 0)
		return uio_io_failed(dev, "the controller to stop");
	ret = uio_start(dev, 1, "return", NULL, UIO_STATE_DONE);
	if (ret == TEST_SUCCESS) {
		dev->mapped = false;
		dev->ctrl.bar = NULL;
		ret = remove(dev);
	}
	if (ret == TEST_SUCCESS && uio_command_sysfs(dev->name) & RTE_PCI_COMMAND_MASTER)
		ret = uio_not_ok("bus master clear after the removal", "it is set");
	/* The driver of this process finds the device again, and sets dev->pci and dev->mapped. */
	added = rte_eal_hotplug_add("pci", dev->name, "");
	dev->ctrl.bar = dev->mapped ? dev->pci->mem_resource[0].addr : NULL;
	if (ret == TEST_SUCCESS && added != 0)
		ret = uio_not_ok("the primary to attach the device again", "%d", added);
	if (ret == TEST_SUCCESS)
		ret = uio_ready(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_end(dev, 1, 0);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

static int
uio_remove_in_secondary(struct uio_dev *dev)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	int ret = uio_run_secondary(dev, "hotplug_remove", 0);

	if (ret == TEST_SUCCESS && peer->result[0] != 0)
		ret = uio_not_ok("the removal to work", "%d", peer->result[0]);
	return ret == TEST_SUCCESS ? uio_check_nothing_left(dev) : ret;
}

static int
uio_remove_in_primary(struct uio_dev *dev)
{
	const int ret = rte_eal_hotplug_remove("pci", dev->name);

	return ret == 0 ? TEST_SUCCESS : uio_not_ok("the removal to work", "%d", ret);
}

static int
uio_case_hotplug_secondary(struct uio_dev *dev)
{
	return uio_remove_and_add(dev, uio_remove_in_secondary);
}

static int
uio_case_hotplug_primary(struct uio_dev *dev)
{
	return uio_remove_and_add(dev, uio_remove_in_primary);
}

#define SURVIVES "bus master and traffic survive "
#define EXIT_FLAGS(id, more, what) .name = "exit_" id, .flags = UIO_CASE_EXIT | (more), \
	.claim = SURVIVES "a secondary that " what
#define EXIT(id, what) EXIT_FLAGS(id, 0, what)
#define END(id, what) EXIT_FLAGS(id, UIO_CASE_END, what)

static const struct uio_case uio_exit_cases[] = {
	{ EXIT("return", "returns from main after rte_eal_cleanup"), .role = "return" },
	{ EXIT("init", "attaches inside rte_eal_init"), .role = "attach_init" },
	{ END("no_cleanup", "exits without rte_eal_cleanup"), .role = "exit" },
	{ END("rte_exit", "calls rte_exit"), .role = "rte_exit" },
	{ END("at_once", "calls _exit"), .role = "_exit" },
	{ END("exec", "executes another program"), .role = "exec", .end = 7 },
	{ END("abort", "aborts"), .role = "abort", .end = -SIGABRT },
	{ END("sigterm", "ends by SIGTERM"), .role = "sigterm", .end = -SIGTERM },
	{ END("sigsegv", "ends by SIGSEGV"), .role = "sigsegv", .end = -SIGSEGV },
	{ EXIT_FLAGS("killed_attached", UIO_CASE_KILL, "is killed while attached"),
		.role = "return", .end = -SIGKILL },
	{ EXIT("killed_attaching", "is killed while attaching"),
		.run = uio_case_exit_killed_attaching },
	{ EXIT("detach", "detaches the device locally and exits"), .role = "detach" },
	{ EXIT("reattach", "detaches and attaches again, and exits"), .role = "reattach" },
	{ EXIT_FLAGS("bar_taken", UIO_CASE_FAILS, "cannot map a BAR at its address"),
		.role = "bar_taken" },
	/* An allow list with a device that cannot exist. */
	{ EXIT_FLAGS("not_allowed", UIO_CASE_FAILS | UIO_CASE_END, "is not allowed the device"),
		.role = "return", .allow = "ffff:ff:1f.7" },
	{ END("other_primary", "attaches what its own primary does not have"),
		.run = uio_case_exit_other_primary },
	{ END("fork", "forks and whose child exits"), .role = "fork" },
	{ EXIT("two_devices", "has two devices"), .run = uio_case_exit_two_devices },
	{ END("eight", "is one of eight at once"), .run = uio_case_exit_eight },
	{ .name = "exit_many", .flags = UIO_CASE_EXIT | UIO_CASE_REPEAT, .run = uio_case_exit_many,
		.claim = SURVIVES "many secondaries in a row" },
	{ .name = "primary_cleared", .run = uio_case_primary_cleared,
		.claim = "bus master that the primary cleared stays clear with a secondary" },
	{ .name = "hotplug_add", .flags = UIO_CASE_EXIT, .run = uio_case_hotplug_add,
		.claim = SURVIVES "a hotplug attach in a secondary" },
	{ .name = "hotplug_busy", .flags = UIO_CASE_EXIT, .run = uio_case_hotplug_busy,
		.claim = SURVIVES "a hotplug removal that the primary refuses" },
	{ .name = "hotplug_secondary", .run = uio_case_hotplug_secondary,
		.claim = "a hotplug removal in a secondary removes the device in all processes" },
	{ .name = "hotplug_primary", .run = uio_case_hotplug_primary,
		.claim = "a hotplug removal in the primary removes the device in all processes" },
};
UIO_REGISTER_CASES(30, uio_exit_cases)

static const struct uio_case uio_fd_cases[] = {
	{ .name = "control", .run = uio_case_control,
		.claim = "control: closing /dev/uioX clears bus master; the primary can recover" },
	{ .name = "bring_up", .flags = UIO_CASE_NVME, .run = uio_case_bring_up,
		.claim = "the primary enables the controller and reads from it" },
	{ .name = "fd_none", .role = "return", .flags = UIO_CASE_NO_OPEN, .check = uio_check_no_fd,
		.claim = "a secondary never opens /dev/uio*" },
	{ .name = "fd_init", .role = "attach_init", .flags = UIO_CASE_NO_OPEN,
		.check = uio_check_no_fd,
		.claim = "a secondary never opens /dev/uio* when it attaches inside rte_eal_init" },
	{ .name = "fd_create_uio_dev", .role = "return", .option = "--create-uio-dev",
		.flags = UIO_CASE_NO_OPEN, .check = uio_check_no_fd,
		.claim = "a secondary never opens /dev/uio* with --create-uio-dev" },
	{ .name = "fd_failed_attach", .role = "bar_taken", .flags = UIO_CASE_FAILS,
		.check = uio_check_nothing_left,
		.claim = "a failed attach leaves no fd and no mapping of the device" },
	{ .name = "fd_no_config", .role = "no_config", .flags = UIO_CASE_FAILS,
		.check = uio_check_no_config,
		.claim = "a secondary that cannot open config space says so and cleans up" },
	{ .name = "fd_detach", .role = "detach", .check = uio_check_nothing_left,
		.claim = "a local detach leaves no fd and no mapping of the device" },
	{ .name = "fd_detach_unmapped", .role = "detach_unmapped",
		.check = uio_check_detach_unmapped,
		.claim = "a local detach of a device that was not mapped closes nothing" },
};
UIO_REGISTER_CASES(10, uio_fd_cases)
