/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * A secondary process must not disturb a device on uio_pci_generic that its primary drives.
 *
 * The kernel clears the bus master bit of a device whenever a process closes its own open of
 * /dev/uioX. A secondary that opened it would therefore, when it ends, stop the DMA of the
 * primary. The test drives NVMe controllers in the primary, lets secondaries come and go in every
 * way, and checks after each that the bit is set and that data still flow.
 *
 * Run as root with hugepages, one or more drives bound to uio_pci_generic and allowed with -a:
 *   dpdk-test -l 0-1 --iova-mode=pa -a <BDF> pci_uio_secondary_autotest
 * Nothing is written to the media unless PCI_UIO_SECONDARY_WRITE=1, and then it is put back.
 * The controller is left disabled, bus master and INTx disable as they were found.
 * The environment variables are those of uio_settings_known[], in pci_uio_settings.c.
 *
 * unit_test_suite_runner() is not used: cases are per device, so that their number is known only
 * at run time, the plan must be printed before the first one, and each verdict goes on one line
 * with what was expected and what was seen (TAP, at column 0).
 */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_pci.h>

#include "test.h"
#include "pci_uio_test.h"

enum uio_need {
	UIO_NEED_DEVICE,    /* any PCI device */
	UIO_NEED_NVME,
};

struct uio_case {
	const char *name;
	const char *claim;
	int (*run)(struct uio_dev *dev);
	enum uio_need need;
};

#define EXIT(what) "bus master and data flow survive a secondary that " what

static const struct uio_case uio_cases[] = {
	{ "bring_up", "the primary brings the controller up and reads from it",
		uio_case_bring_up, UIO_NEED_NVME },

	{ "config_bytes", "a secondary reads the same config space as the primary",
		uio_case_config_bytes, UIO_NEED_DEVICE },
	{ "config_caps", "a secondary finds the same capabilities as the primary",
		uio_case_config_caps, UIO_NEED_DEVICE },
	{ "config_ext_caps", "a secondary finds the same extended capabilities as the primary",
		uio_case_config_ext_caps, UIO_NEED_DEVICE },
	{ "config_write", "primary and secondary see each other's config writes",
		uio_case_config_write, UIO_NEED_DEVICE },
	{ "config_odd", "odd config reads give an error or a byte count, never garbage",
		uio_case_config_odd, UIO_NEED_DEVICE },

	{ "fd_none", "a secondary never opens /dev/uio*",
		uio_case_fd_none, UIO_NEED_DEVICE },
	{ "fd_create_uio_dev", "a secondary never opens /dev/uio*, with --create-uio-dev",
		uio_case_fd_create_uio_dev, UIO_NEED_DEVICE },
	{ "fd_failed_attach", "a failed attach leaves no fd and no mapping of the device",
		uio_case_fd_failed_attach, UIO_NEED_DEVICE },

	{ "fd_no_config", "a secondary that cannot open config space says so, and lets go",
		uio_case_fd_no_config, UIO_NEED_DEVICE },
	{ "fd_detach", "a local detach leaves no fd and no mapping of the device",
		uio_case_fd_detach, UIO_NEED_DEVICE },
	{ "fd_detach_unmapped", "a local detach of a device that was not mapped closes nothing",
		uio_case_fd_detach_unmapped, UIO_NEED_DEVICE },
	{ "port_secondary", "a secondary with an I/O port never opens /dev/uio*",
		uio_case_port_secondary, UIO_NEED_DEVICE },
	{ "port_primary", "an I/O port of the primary closes what it opened, and no more",
		uio_case_port_primary, UIO_NEED_DEVICE },

	{ "claim_refused", "bus master and data flow survive a second primary, which is refused",
		uio_case_claim_refused, UIO_NEED_DEVICE },
	{ "claim_killed", "a device whose owner was killed goes to the next primary",
		uio_case_claim_killed, UIO_NEED_DEVICE },
	{ "claim_no_privilege", "a user who may only read config space keeps no primary away",
		uio_case_claim_no_privilege, UIO_NEED_DEVICE },
	{ "claim_again", "a primary that maps the device again, and unmaps it once, still has it",
		uio_case_claim_again, UIO_NEED_DEVICE },
	{ "claim_port", "a primary with no more than an I/O port has the device, until it lets go",
		uio_case_claim_port, UIO_NEED_DEVICE },
	{ "claim_race", "of eight primaries that want the device at once one gets it",
		uio_case_claim_race, UIO_NEED_DEVICE },

	{ "exit_return", EXIT("returns from main after rte_eal_cleanup"),
		uio_case_exit_return, UIO_NEED_DEVICE },
	{ "exit_no_cleanup", EXIT("exits without rte_eal_cleanup"),
		uio_case_exit_no_cleanup, UIO_NEED_DEVICE },
	{ "exit_at_once", EXIT("calls _exit"),
		uio_case_exit_at_once, UIO_NEED_DEVICE },
	{ "exit_abort", EXIT("aborts"),
		uio_case_exit_abort, UIO_NEED_DEVICE },
	{ "exit_killed_attached", EXIT("is killed while attached"),
		uio_case_exit_killed_attached, UIO_NEED_DEVICE },
	{ "exit_killed_attaching", EXIT("is killed while attaching"),
		uio_case_exit_killed_attaching, UIO_NEED_DEVICE },
	{ "exit_killed_reading", EXIT("is killed while reading config space"),
		uio_case_exit_killed_reading, UIO_NEED_DEVICE },
	{ "exit_detach", EXIT("detaches the device locally and exits"),
		uio_case_exit_detach, UIO_NEED_DEVICE },
	{ "exit_bar_taken", EXIT("fails to attach as the address of a BAR is taken"),
		uio_case_exit_bar_taken, UIO_NEED_DEVICE },
	{ "exit_not_allowed", EXIT("does not attach as the device is not allowed"),
		uio_case_exit_not_allowed, UIO_NEED_DEVICE },
	{ "exit_other_primary", EXIT("fails to attach as its own primary has not the device"),
		uio_case_exit_other_primary, UIO_NEED_DEVICE },
	{ "exit_fork", EXIT("forks and whose child exits"),
		uio_case_exit_fork, UIO_NEED_DEVICE },
	{ "exit_eight", EXIT("is one of eight at once"),
		uio_case_exit_eight, UIO_NEED_DEVICE },
	{ "exit_many", EXIT("comes and goes many times"),
		uio_case_exit_many, UIO_NEED_DEVICE },
	{ "owner_cleared", "bus master cleared by the owner stays clear when a secondary attaches",
		uio_case_owner_cleared, UIO_NEED_DEVICE },

	{ "flow_reads", "reads give the right data while secondaries come and go",
		uio_case_flow_reads, UIO_NEED_NVME },
	{ "flow_queues", "I/O queues are created and deleted beside and after a secondary",
		uio_case_flow_queues, UIO_NEED_NVME },
	{ "flow_no_queue", "after a secondary, a doorbell of no queue raises its event",
		uio_case_flow_no_queue, UIO_NEED_NVME },
	{ "flow_sq_tail", "after a secondary, an SQ tail beyond the queue raises its event",
		uio_case_flow_sq_tail, UIO_NEED_NVME },
	{ "flow_cq_head", "after a secondary, a CQ head beyond the queue raises its event",
		uio_case_flow_cq_head, UIO_NEED_NVME },
	{ "flow_masked", "a second error event waits until the error log is read",
		uio_case_flow_masked, UIO_NEED_NVME },
	{ "flow_aer_limit", "one event request more than AERL is refused",
		uio_case_flow_aer_limit, UIO_NEED_NVME },
	{ "flow_reset", "controller reset works with reads in flight and a secondary attached",
		uio_case_flow_reset, UIO_NEED_NVME },

	{ "io_secondary", "a secondary reads on its own queue pair, and the primary goes on",
		uio_case_io_secondary, UIO_NEED_NVME },
	{ "io_killed", "a secondary killed while reading stops neither another nor the primary",
		uio_case_io_killed, UIO_NEED_NVME },
	{ "intr_secondary", "interrupt calls in a secondary fail cleanly",
		uio_case_intr_secondary, UIO_NEED_DEVICE },
	{ "intr_primary", "the primary's INTx works after a secondary",
		uio_case_intr_primary, UIO_NEED_NVME },

	{ "control", "control: closing /dev/uioX clears bus master, and the owner can recover",
		uio_case_control, UIO_NEED_DEVICE },
};

static struct uio_dev uio_devices[UIO_DEVICES_MAX];
static unsigned int uio_devices_nb;
static char uio_why[512]; /* of the verdict of the current case */
static unsigned int uio_passed, uio_failed, uio_skipped;

int
uio_not_ok(const char *expected, const char *got, ...)
{
	va_list ap;
	int len;

	/* The first failure is the cause of those that follow. */
	if (uio_why[0] != '\0')
		return TEST_FAILED;
	len = snprintf(uio_why, sizeof(uio_why), "expected %s, got ", expected);
	va_start(ap, got);
	if (len < (int)sizeof(uio_why))
		vsnprintf(uio_why + len, sizeof(uio_why) - len, got, ap);
	va_end(ap);

	return TEST_FAILED;
}

int
uio_skip(const char *reason, ...)
{
	va_list ap;

	va_start(ap, reason);
	vsnprintf(uio_why, sizeof(uio_why), reason, ap);
	va_end(ap);

	return TEST_SKIPPED;
}

/* Whether a case is asked for. */
static bool
uio_case_is_wanted(const struct uio_case *c, const struct uio_dev *dev)
{
	char *list, *part, *save = NULL;
	bool wanted = false;

	if (c->need == UIO_NEED_NVME && !dev->is_nvme)
		return false;
	if (uio_settings.cases == NULL)
		return true;
	list = strdup(uio_settings.cases);
	for (part = strtok_r(list, ",", &save); part != NULL; part = strtok_r(NULL, ",", &save))
		wanted |= strstr(c->name, part) != NULL || strstr(c->claim, part) != NULL;
	free(list);

	return wanted;
}

static unsigned int
uio_count_wanted(void)
{
	unsigned int d, count = 0;
	size_t i;

	for (d = 0; d < uio_devices_nb; d++) {
		for (i = 0; i < RTE_DIM(uio_cases); i++)
			count += uio_case_is_wanted(&uio_cases[i], &uio_devices[d]);
	}
	return count;
}

/* Run one case; the line with its verdict is all that goes to column 0. */
static void
uio_run_case(const struct uio_case *c, struct uio_dev *dev, unsigned int number)
{
	char on[32] = "";
	int ret;

	/* Of several devices, the line says which. */
	if (uio_devices_nb > 1)
		snprintf(on, sizeof(on), " [%s]", dev->pci->name);
	uio_why[0] = '\0';
	ret = uio_ready(dev);
	if (ret == TEST_SUCCESS)
		ret = c->run(dev);
	uio_reap();
	/* A case that failed may leave queues behind: the next one starts with a recovery. */
	if (ret == TEST_FAILED)
		dev->flowing = false;

	if (ret == TEST_SUCCESS) {
		uio_passed++;
		printf("ok %u - %s%s\n", number, c->claim, on);
	} else if (ret == TEST_SKIPPED) {
		uio_skipped++;
		printf("ok %u - %s%s # SKIP %s\n", number, c->claim, on, uio_why);
	} else {
		uio_failed++;
		printf("not ok %u - %s%s: %s\n", number, c->claim, on, uio_why);
	}
	fflush(stdout);
}

static int
uio_run_all(void)
{
	const unsigned int planned = uio_count_wanted();
	unsigned int d, number = 0;
	size_t i;

	if (planned == 0) {
		printf("# no case has \"%s\" in its name or claim; names are:\n",
				uio_settings.cases);
		for (i = 0; i < RTE_DIM(uio_cases); i++)
			printf("#   %-22s %s\n", uio_cases[i].name, uio_cases[i].claim);
		return TEST_FAILED;
	}

	uio_passed = uio_failed = uio_skipped = 0;
	printf("1..%u\n", planned);
	for (d = 0; d < uio_devices_nb; d++) {
		for (i = 0; i < RTE_DIM(uio_cases); i++) {
			if (uio_case_is_wanted(&uio_cases[i], &uio_devices[d]))
				uio_run_case(&uio_cases[i], &uio_devices[d], ++number);
		}
	}

	/* The devices before the verdict: it is the last line, and what they say may change it. */
	for (d = 0; d < uio_devices_nb; d++)
		uio_release(&uio_devices[d]);
	printf("pci_uio_secondary: %u passed, %u failed, %u skipped\n", uio_passed, uio_failed,
			uio_skipped);
	fflush(stdout);
	if (uio_failed > 0)
		return TEST_FAILED;
	return uio_passed > 0 ? TEST_SUCCESS : TEST_SKIPPED;
}

static void
uio_print_device(const struct uio_dev *dev)
{
	printf("# device %s %04x:%04x %s COMMAND 0x%04x\n", dev->pci->name, dev->pci->id.vendor_id,
			dev->pci->id.device_id, dev->uio_path, dev->command_found);
}

/* Say what a secondary of this DPDK does to the device when it attaches. */
static void
uio_print_base(struct uio_dev *dev)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	int ret;

	uio_why[0] = '\0';
	uio_shared->bar_addr = NULL;
	ret = uio_come_and_go(dev, "return", 0);
	if (ret != TEST_SUCCESS)
		printf("# base: not known, %s\n", uio_why);
	else if (peer->uio_fds > 0)
		printf("# base: a secondary opens /dev/uio* (%s), its end clears bus master: "
				"COMMAND 0x%04x\n", peer->what, uio_command_sysfs(dev->pci));
	else
		printf("# base: a secondary does not open /dev/uio*, bus master is left alone: "
				"COMMAND 0x%04x\n", uio_command_sysfs(dev->pci));
	uio_reap();
	fflush(stdout);
}

int
test_pci_uio_secondary(void)
{
	const char *role = getenv(UIO_ENV_ROLE);
	unsigned int d;
	int ret;

	if (role != NULL)
		return uio_role_main(role);
	if (uio_settings_read() != 0)
		return TEST_FAILED;

	uio_why[0] = '\0';
	ret = uio_devices_attach(uio_devices, &uio_devices_nb);
	if (ret == TEST_SUCCESS)
		ret = uio_shared_reserve();
	if (ret == TEST_SUCCESS) {
		for (d = 0; d < uio_devices_nb; d++)
			uio_print_device(&uio_devices[d]);
		uio_print_base(&uio_devices[0]);
		ret = uio_run_all();
	} else if (ret == TEST_SKIPPED) {
		printf("1..0 # SKIP %s\n", uio_why);
	} else {
		printf("# %s\n", uio_why);
	}
	for (d = 0; d < uio_devices_nb; d++)
		uio_release(&uio_devices[d]);
	uio_shared_free();
	uio_driver_unregister();

	return ret;
}

REGISTER_DRIVER_TEST(pci_uio_secondary_autotest, test_pci_uio_secondary);
