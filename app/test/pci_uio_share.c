/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * The end of a primary beside its secondaries, which read on. This process does not have the device
 * then: it starts another primary, and two secondaries of that one.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>

#include "test.h"
#include "pci_uio_claim.h"

#define SHARE_PREFIX "pci_uio_share"
/* Reads of a secondary between two lines of its output. */
#define SHARE_READS 20
/* Time for the files of the primary to arrive. */
#define SHARE_WAIT_MS 2000

/* Lines of output. */
#define SHARE_READS_ON "the secondary reads, "
#define SHARE_DETACHED "the primary has detached"

/* Slots. The other primary, its secondaries, and one more primary. */
enum { SHARE_PRIMARY, SHARE_FIRST, SHARE_LAST, SHARE_NEXT };

/* In the other primary: make the device and a queue pair for each secondary ready. */
static int
share_bring_up(struct rte_pci_device *pci)
{
	static struct nvme_ctrl ctrl;
	struct nvme_qpair qp;
	uint16_t qid;
	int ret;

	if (!uio_shared_reserve())
		return -1;
	ret = nvme_ctrl_init(&ctrl, pci->name, pci->mem_resource[0].addr, uio_settings.time_scale);
	if (ret == 0)
		ret = nvme_bring_up(&ctrl);
	for (qid = UIO_QID_B; ret == 0 && qid >= UIO_QID_TRAFFIC; qid--)
		ret = nvme_qpair_create(&ctrl, &qp, qid);
	/* The data that the secondaries must read, too. */
	if (ret == 0)
		ret = nvme_read(&ctrl, &qp, 0, UIO_BUF_EXPECTED);
	uio_shared->nsid = ctrl.nsid;
	uio_shared->block_size = ctrl.block_size;
	if (ret != 0)
		second_print(ctrl.error);
	return ret;
}

static int
share_primary_main(const char *role, const char *device)
{
	const struct rlimit no_core = { 0, 0 };
	struct rte_pci_device *pci = second_attach(device);

	if (pci == NULL || share_bring_up(pci) != 0)
		return SECOND_FAILED;
	if (strcmp(role, "share_old") == 0)
		rte_mp_action_unregister("bus_pci_uio_share");
	if (second_wait_start() != 0)
		return SECOND_FAILED;
	if (strcmp(role, "share_exit") == 0)
		exit(0);
	if (strcmp(role, "share_abort") == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		abort();
	}
	if (strcmp(role, "share_detach") == 0) {
		rte_pci_unmap_device(pci);
		/* The secondaries have the lock now. */
		if (rte_pci_map_device(pci) == 0)
			return SECOND_FAILED;
		second_print(SHARE_DETACHED);
		second_stay();
	}
	return 0;
}

/* In a secondary of it. */

static volatile sig_atomic_t share_asked, share_stop;

static void
share_on_signal(int sig)
{
	if (sig == SIGUSR1)
		share_asked++;
	else
		share_stop = 1;
}

/* Read and check the data until SIGUSR2. Say so at the start, and after each SIGUSR1. */
static int
share_secondary_main(const char *role, const char *device)
{
	const uint16_t qid = strcmp(role, "share_first") == 0 ? UIO_QID_A : UIO_QID_B;
	struct rte_pci_device *pci = second_attach(device);
	struct nvme_ctrl ctrl;
	struct nvme_qpair qp;
	uint32_t reads;
	int ms, ret, said = 0;
	char line[32];

	if (pci == NULL || !uio_shared_reserve())
		return SECOND_FAILED;
	signal(SIGUSR1, share_on_signal);
	signal(SIGUSR2, share_on_signal);
	for (ms = 0; ms < SHARE_WAIT_MS && uio_count_fds("/dev/uio", NULL, 0) == 0; ms++)
		rte_delay_us_sleep(1000);
	ret = nvme_ctrl_init(&ctrl, pci->name, pci->mem_resource[0].addr, uio_settings.time_scale);
	ctrl.nsid = uio_shared->nsid;
	ctrl.block_size = uio_shared->block_size;
	if (ret == 0)
		ret = nvme_qpair_init(&ctrl, &qp, qid);
	for (reads = 1; ret == 0 && !share_stop && !uio_is_orphan(); reads++) {
		ret = nvme_read_expected(&ctrl, &qp, 0, UIO_BUF_SECONDARY + qid, UIO_BUF_EXPECTED);
		if (ret == 0 && reads % SHARE_READS == 0 && said <= share_asked) {
			snprintf(line, sizeof(line), SHARE_READS_ON "%d", said++);
			second_print(line);
		}
	}
	if (ret != 0)
		second_print(ctrl.error);
	return ret == 0 ? 0 : SECOND_FAILED;
}

static const struct uio_role uio_share_roles[] = {
	{ .name = "share_return", .program = share_primary_main },
	{ .name = "share_exit", .program = share_primary_main },
	{ .name = "share_abort", .program = share_primary_main },
	{ .name = "share_detach", .program = share_primary_main },
	{ .name = "share_old", .program = share_primary_main },
	{ .name = "share_first", .program = share_secondary_main },
	{ .name = "share_last", .program = share_secondary_main },
};
UIO_REGISTER_ROLES(uio_share_roles)

/* In the process that runs the cases. */

/* Wait for a line of output. */
static void
expect_output(unsigned int slot, const char *text)
{
	uio_wait_output(slot, text);
	uio_expect_output(slot, text, "", "");
}

static void
expect_reads(unsigned int slot)
{
	uio_kill(slot, SIGUSR1);
	expect_output(slot, SHARE_READS_ON "1");
}

static void
expect_bus_master(struct uio_dev *dev, bool set, const char *when)
{
	const int command = uio_command_sysfs(dev->name);

	uio_expect(command >= 0 && !(command & RTE_PCI_COMMAND_MASTER) == !set,
			"bus master %s %s, got COMMAND 0x%04x", set ? "set" : "clear", when,
			command);
}

static void
start_primary(struct uio_dev *dev, const char *role)
{
	const struct uio_spawn_args args = { .prefix = SHARE_PREFIX };

	uio_unmap(dev);
	uio_spawn(dev, SHARE_PRIMARY, role, &args);
	expect_output(SHARE_PRIMARY, SECOND_IS_READY);
}

static void
start_secondary(struct uio_dev *dev, unsigned int slot)
{
	const struct uio_spawn_args args = {
		.prefix = SHARE_PREFIX, .secondary = true, .option = "--log-level=*:info",
	};

	uio_spawn(dev, slot, slot == SHARE_FIRST ? "share_first" : "share_last", &args);
	expect_output(slot, SHARE_READS_ON "0");
}

/* The last secondary that has the device ends: the kernel closes the device then. */
static void
end_last(struct uio_dev *dev)
{
	uio_kill(SHARE_LAST, SIGKILL);
	uio_wait_end(SHARE_LAST, -SIGKILL);
	expect_bus_master(dev, false, "after the last secondary");
	claim_expect_success(dev, SHARE_NEXT);
}

/* The primary of a row gets a signal, and ends as its role does then. */
static void
case_share_end(struct uio_dev *dev)
{
	const struct uio_case *c = uio_current;

	start_primary(dev, c->role);
	start_secondary(dev, SHARE_FIRST);
	start_secondary(dev, SHARE_LAST);
	uio_kill(SHARE_PRIMARY, c->args.arg);
	if (strcmp(c->role, "share_detach") == 0)
		expect_output(SHARE_PRIMARY, SHARE_DETACHED);
	else
		uio_wait_end(SHARE_PRIMARY, c->end);
	expect_bus_master(dev, true, "after the primary");
	expect_reads(SHARE_FIRST);
	claim_expect_refused(dev, SHARE_NEXT, uio_pid(SHARE_FIRST));

	uio_kill(SHARE_FIRST, SIGUSR2);
	uio_wait_end(SHARE_FIRST, 0);
	expect_bus_master(dev, true, "after the first secondary");
	expect_reads(SHARE_LAST);
	end_last(dev);
}

/* A primary that does not answer: the secondary attaches and reads, and says so later. */
static void
without_answer(struct uio_dev *dev, const char *role, bool stop)
{
	start_primary(dev, role);
	if (stop)
		uio_kill(SHARE_PRIMARY, SIGSTOP);
	start_secondary(dev, SHARE_LAST);
	expect_output(SHARE_LAST, "shares no open UIO device");
	/* The primary gets the request now, and its reply is too late. */
	uio_kill(SHARE_PRIMARY, SIGCONT);
	expect_reads(SHARE_LAST);
	/* It has no file of the primary, so it could not read on. */
	uio_kill(SHARE_LAST, SIGSTOP);
	uio_kill(SHARE_PRIMARY, SIGUSR1);
	uio_wait_end(SHARE_PRIMARY, 0);
	expect_bus_master(dev, false, "after the primary");
	end_last(dev);
}

static void
case_share_old(struct uio_dev *dev)
{
	without_answer(dev, "share_old", false);
}

static void
case_share_stopped(struct uio_dev *dev)
{
	without_answer(dev, "share_return", true);
}

#define READ_ON "secondaries read on after their primary "
#define SHARE_END(sig) .run = case_share_end, .queues = UIO_QID_B, .args.arg = sig, \
		.flags = UIO_CASE_NVME | UIO_CASE_EXIT

static const struct uio_case uio_share_cases[] = {
	{ .name = "share_return", SHARE_END(SIGUSR1), .role = "share_return",
		.claim = READ_ON "returns from main" },
	{ .name = "share_exit", SHARE_END(SIGUSR1), .role = "share_exit",
		.claim = READ_ON "exits without rte_eal_cleanup" },
	{ .name = "share_abort", SHARE_END(SIGUSR1), .role = "share_abort", .end = -SIGABRT,
		.claim = READ_ON "aborts" },
	{ .name = "share_killed", SHARE_END(SIGKILL), .role = "share_return", .end = -SIGKILL,
		.claim = READ_ON "is killed" },
	{ .name = "share_detach", SHARE_END(SIGUSR1), .role = "share_detach",
		.claim = READ_ON "detaches the device" },
	{ .name = "share_old", .flags = UIO_CASE_NVME, .run = case_share_old,
		.queues = UIO_QID_B,
		.claim = "a secondary works with a primary that does not share its files" },
	{ .name = "share_stopped", .flags = UIO_CASE_NVME, .run = case_share_stopped,
		.queues = UIO_QID_B,
		.claim = "a secondary attaches and reads while its primary is stopped" },
};
UIO_REGISTER_CASES(55, uio_share_cases)
