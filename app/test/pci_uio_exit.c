/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_pci.h>

#include "test.h"
#include "pci_uio_test.h"

/*
 * Each case ends with uio_check(), after the secondary is gone for good: DPDK before 26.07 keeps
 * the fds of a device until the process ends, whatever rte_eal_cleanup() does.
 */

static int
uio_exit_and_check(struct uio_dev *dev, const char *role, int end)
{
	int ret = uio_come_and_go(dev, role, end);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

int
uio_case_exit_return(struct uio_dev *dev)
{
	return uio_exit_and_check(dev, "return", 0);
}

int
uio_case_exit_no_cleanup(struct uio_dev *dev)
{
	return uio_exit_and_check(dev, "exit", 0);
}

int
uio_case_exit_at_once(struct uio_dev *dev)
{
	return uio_exit_and_check(dev, "exit_at_once", 0);
}

int
uio_case_exit_abort(struct uio_dev *dev)
{
	return uio_exit_and_check(dev, "abort", -SIGABRT);
}

/* Kill a secondary as soon as it is in a state, and check. */
static int
uio_kill_and_check(struct uio_dev *dev, const char *role, enum uio_state state, uint32_t delay_us)
{
	int ret;

	ret = uio_spawn(dev, 0, role, NULL);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_state(dev, 0, state);
	if (ret != TEST_SUCCESS)
		return ret;
	if (delay_us > 0)
		rte_delay_us_sleep(delay_us);
	uio_kill(0, SIGKILL);
	ret = uio_wait_end(dev, 0, -SIGKILL);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

int
uio_case_exit_killed_attached(struct uio_dev *dev)
{
	return uio_kill_and_check(dev, "return", UIO_STATE_ATTACHED, 0);
}

int
uio_case_exit_killed_attaching(struct uio_dev *dev)
{
	static const uint32_t delays_us[] = { 0, 500, 2000 };
	size_t i;
	int ret;

	/* For sure: it stays between the mapping of its BARs and the end of the probe. */
	ret = uio_kill_and_check(dev, "stay_in_probe", UIO_STATE_ATTACHING, 0);
	/* By chance: anywhere after the start of the probe. */
	for (i = 0; i < RTE_DIM(delays_us) && ret == TEST_SUCCESS; i++)
		ret = uio_kill_and_check(dev, "return", UIO_STATE_STARTED, delays_us[i]);

	return ret;
}

int
uio_case_exit_killed_reading(struct uio_dev *dev)
{
	return uio_kill_and_check(dev, "read_config_on", UIO_STATE_DONE, 0);
}

int
uio_case_exit_detach(struct uio_dev *dev)
{
	return uio_exit_and_check(dev, "detach", 0);
}

int
uio_case_exit_fork(struct uio_dev *dev)
{
	return uio_exit_and_check(dev, "fork", 0);
}

/* An attach that must fail, in a secondary that then ends. */
static int
uio_refuse_and_check(struct uio_dev *dev, const char *role, const struct uio_spawn_args *args)
{
	int ret;

	ret = uio_spawn(dev, 0, role, args);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_state(dev, 0, UIO_STATE_REFUSED);
	if (ret != TEST_SUCCESS)
		return ret;
	uio_go(0);
	ret = uio_wait_end(dev, 0, 0);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

int
uio_case_exit_bar_taken(struct uio_dev *dev)
{
	return uio_refuse_and_check(dev, "bar_taken", NULL);
}

int
uio_case_exit_not_allowed(struct uio_dev *dev)
{
	/* An allow list that names no device that can be. */
	const struct uio_spawn_args args = { .allow = "ffff:ff:1f.7" };

	return uio_refuse_and_check(dev, "return", &args);
}

int
uio_case_exit_other_primary(struct uio_dev *dev)
{
	const struct uio_spawn_args args = { .prefix = "pci_uio_other_primary" };
	int ret;

	ret = uio_spawn(dev, 0, "other_primary", &args);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_end(dev, 0, 0);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

int
uio_case_exit_eight(struct uio_dev *dev)
{
	static const struct {
		const char *role;
		int end;
	} eight[UIO_SLOTS] = {
		{ "return", 0 }, { "exit", 0 }, { "exit_at_once", 0 }, { "abort", -SIGABRT },
		{ "detach", 0 }, { "fork", 0 }, { "read_config_on", 0 }, { "return", -SIGKILL },
	};
	int ret = TEST_SUCCESS;
	unsigned int slot;

	/*
	 * EAL comes up in one after the other. In several at once, one may clean up the runtime
	 * directory while another has made a file there but not locked it yet, which then fails
	 * with "Cannot initialize local memory map".
	 */
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++) {
		ret = uio_spawn(dev, slot, eight[slot].role, NULL);
		if (ret == TEST_SUCCESS)
			ret = uio_wait_state(dev, slot, UIO_STATE_STARTED);
	}
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++)
		ret = uio_wait_state(dev, slot, UIO_STATE_DONE);

	/* All are attached now. They leave one after the other, each in its own way. */
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++) {
		if (eight[slot].end == -SIGKILL)
			uio_kill(slot, SIGKILL);
		else
			uio_go(slot);
		ret = uio_wait_end(dev, slot, eight[slot].end);
		if (ret == TEST_SUCCESS)
			ret = uio_check_bus_master(dev);
	}

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

int
uio_case_exit_many(struct uio_dev *dev)
{
	/* A device that does no I/O here has less to lose. */
	const uint32_t repeat = dev->is_nvme ? uio_settings.repeat : uio_settings.repeat / 10 + 1;
	int ret = TEST_SUCCESS;
	uint32_t i;

	for (i = 0; i < repeat && ret == TEST_SUCCESS; i++) {
		ret = uio_come_and_go(dev, "return", 0);
		if (ret == TEST_SUCCESS)
			ret = uio_check_bus_master(dev);
	}

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

static int
uio_expect_cleared(struct uio_dev *dev, const char *when)
{
	const int command = uio_command_sysfs(dev->pci);
	char expected[96];

	snprintf(expected, sizeof(expected), "bus master as the owner left it, clear, %s", when);
	if (command < 0 || (command & RTE_PCI_COMMAND_MASTER))
		return uio_not_ok(expected, "COMMAND 0x%04x", command);

	return TEST_SUCCESS;
}

int
uio_case_owner_cleared(struct uio_dev *dev)
{
	int ret;

	/* No doorbell meanwhile: the controller could not fetch, and would say so for good. */
	dev->flowing = false;
	if (rte_pci_set_bus_master(dev->pci, false) != 0)
		return uio_not_ok("the owner to clear bus master", "an error");
	ret = uio_spawn(dev, 0, "return", NULL);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_state(dev, 0, UIO_STATE_DONE);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_cleared(dev, "with a secondary attached");
	if (ret != TEST_SUCCESS)
		return ret;

	uio_go(0);
	ret = uio_wait_end(dev, 0, 0);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_cleared(dev, "after a secondary");
	if (ret == TEST_SUCCESS && rte_pci_set_bus_master(dev->pci, true) != 0)
		ret = uio_not_ok("the owner to set bus master again", "an error");
	if (ret != TEST_SUCCESS)
		return ret;
	dev->flowing = dev->is_nvme;

	return uio_check(dev);
}

/* Open and close /dev/uioX in a child, as any careless process may: an errno, or 0. */
static int
uio_open_and_close(struct uio_dev *dev)
{
	pid_t pid = fork();
	int status, fd;

	if (pid == 0) {
		alarm(10);
		fd = open(dev->uio_path, O_RDWR);
		if (fd < 0)
			_exit(errno);
		close(fd);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return errno;

	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

/*
 * The control: the test sees a bus master that is lost. It also is the recovery that an
 * application can do: set the bit, reset the controller, make new queues, send again what had
 * not completed.
 */
int
uio_case_control(struct uio_dev *dev)
{
	int command, ret;

	dev->flowing = false;
	ret = uio_open_and_close(dev);
	if (ret != 0)
		return uio_not_ok("a child to open and close /dev/uioX", "%s", strerror(ret));
	command = uio_command_sysfs(dev->pci);
	if (command < 0 || (command & RTE_PCI_COMMAND_MASTER))
		return uio_not_ok("the kernel to clear bus master", "COMMAND 0x%04x", command);

	/* Fatal status or no answer at all: that depends on the controller. */
	if (dev->is_nvme) {
		if (nvme_identify(&dev->ctrl, NVME_CNS_CONTROLLER, 0) == 0)
			return uio_not_ok("a command to fail without bus master", "it completed");
		printf("# without bus master: %s\n", dev->ctrl.error);
	}

	if (uio_recover(dev) != 0)
		return uio_not_ok("bus master and controller reset to recover", "%s",
				dev->ctrl.error);
	return uio_check(dev);
}
