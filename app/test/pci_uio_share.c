/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * The end of a primary beside its secondaries, which read on. This process does not have the device
 * then: it starts another primary, and two secondaries of that one.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_claim.h"

#define SHARE_PREFIX "pci_uio_share"
/* Time for a detach. */
#define SHARE_WAIT_MS 10000

/* Slots. The other primary, its secondaries, and one more primary. */
enum { SHARE_PRIMARY, SHARE_FIRST, SHARE_LAST, SHARE_NEXT };

/* In the other primary. */

/* Make the device and a queue pair for each secondary ready. */
static int
role_share(struct uio_peer *peer, struct rte_pci_device *pci)
{
	static struct nvme_ctrl ctrl;
	struct nvme_qpair qp;
	uint16_t qid;
	int ret;

	ret = nvme_ctrl_init(&ctrl, pci->name, pci->mem_resource[0].addr, uio_settings.time_scale);
	if (ret == 0)
		ret = nvme_bring_up(&ctrl);
	for (qid = UIO_QID_B; ret == 0 && qid >= UIO_QID_TRAFFIC; qid--)
		ret = nvme_qpair_create(&ctrl, &qp, qid);
	/* The data that the secondaries must read, too. */
	if (ret == 0)
		ret = nvme_read(&ctrl, &qp, 0, UIO_BUF_EXPECTED + UIO_PLACE_FIXED);
	uio_shared->nsid = ctrl.nsid;
	uio_shared->block_size = ctrl.block_size;
	uio_shared->lba = 0;
	if (ret != 0)
		strlcpy(peer->what, ctrl.error, sizeof(peer->what));
	return ret;
}

/* As a primary of an older DPDK, which does not know of the request of a secondary. */
static int
role_share_old(struct uio_peer *peer, struct rte_pci_device *pci)
{
	rte_mp_action_unregister("bus_pci_uio_share");
	return role_share(peer, pci);
}

static int
role_share_detach(struct uio_peer *peer, struct rte_pci_device *pci)
{
	int ret = role_share(peer, pci);

	if (ret != 0)
		return ret;
	uio_set_state(UIO_STATE_DONE);
	if (!uio_wait_primary(&peer->step))
		return -1;
	rte_pci_unmap_device(pci);
	/* The secondaries have the lock now. */
	peer->result[0] = rte_pci_map_device(pci) == 0 ? -1 : 1;

	return 0;
}

static void
role_abort(int status __rte_unused)
{
	abort();
}

#define SHARE(id) .name = id, .primary = "--file-prefix=" SHARE_PREFIX

static const struct uio_role uio_share_roles[] = {
	{ SHARE("share_return"), .work = role_share },
	{ SHARE("share_exit"), .work = role_share, .end = exit },
	{ SHARE("share_abort"), .work = role_share, .end = role_abort },
	{ SHARE("share_detach"), .work = role_share_detach },
	{ SHARE("share_old"), .work = role_share_old },
};
UIO_REGISTER_ROLES(uio_share_roles)

/* In the process that runs the cases. */

static void
start_primary(struct uio_dev *dev, const char *role)
{
	uio_unmap(dev);
	uio_start(dev, SHARE_PRIMARY, role, NULL, UIO_STATE_DONE);
}

/* A secondary of it, which reads. */
static void
start_secondary(struct uio_dev *dev, unsigned int slot)
{
	const struct uio_spawn_args args = {
		.prefix = SHARE_PREFIX, .option = "--log-level=*:info",
		.arg = slot == SHARE_FIRST ? UIO_QID_A : UIO_QID_B,
	};

	uio_start(dev, slot, "reads", &args, UIO_STATE_DONE);
}

/* The primary keeps running. */
static void
detach_primary(void)
{
	struct uio_peer *peer = &uio_shared->peers[SHARE_PRIMARY];
	const uint64_t deadline = uio_deadline(SHARE_WAIT_MS);

	peer->step = 1;
	while (uio_ok() && peer->result[0] == 0 && uio_pause(deadline))
		;
	uio_expect(peer->result[0] > 0, "the primary to detach, and not to attach again beside its "
			"secondaries, got %s", peer->result[0] < 0 ? "an attach" : "no detach");
}

/* The last secondary that has the device ends: the kernel closes the device then. */
static void
end_last(struct uio_dev *dev)
{
	uio_kill(SHARE_LAST, SIGKILL);
	uio_wait_end(SHARE_LAST, -SIGKILL);
	uio_expect_bus_master(dev, false, "after the last secondary");
	/* Its queues are in memory of processes that have ended: before it may do DMA again. */
	if (uio_ok())
		uio_stop_stale(dev);
	uio_run_secondary(dev, SHARE_NEXT, "second_primary");
}

/* The primary of a row ends, or detaches. */
static void
case_share_end(struct uio_dev *dev)
{
	const struct uio_case *c = uio_current;

	start_primary(dev, c->role);
	start_secondary(dev, SHARE_FIRST);
	start_secondary(dev, SHARE_LAST);
	/* The files of the primary arrive some time after the attach. */
	uio_wait_files(SHARE_FIRST, "/dev/uio*", true);
	uio_wait_files(SHARE_LAST, "/dev/uio*", true);
	if (c->flags & UIO_CASE_KILL)
		uio_kill(SHARE_PRIMARY, -c->end);
	if (strcmp(c->role, "share_detach") == 0)
		detach_primary();
	else
		uio_end(SHARE_PRIMARY, c->end);
	uio_expect_bus_master(dev, true, "after the primary");
	uio_expect_reads(SHARE_FIRST);
	claim_expect_refused(dev, SHARE_NEXT, uio_pid(SHARE_FIRST));

	uio_end(SHARE_FIRST, 0);
	uio_expect_bus_master(dev, true, "after the first secondary");
	uio_expect_reads(SHARE_LAST);
	end_last(dev);
}

/*
 * A primary that does not answer, as it is stopped or old: the secondary attaches and reads, and
 * says so later.
 */
static void
case_share_no_answer(struct uio_dev *dev)
{
	const char *role = uio_current->role;
	const bool stopped = strcmp(role, "share_old") != 0;

	start_primary(dev, role);
	if (stopped)
		uio_kill(SHARE_PRIMARY, SIGSTOP);
	start_secondary(dev, SHARE_LAST);
	uio_expect_output(SHARE_LAST, "*shares no open UIO device*");
	if (stopped) {
		/* The primary gets the request now. EAL drops its reply, with the files in it. */
		uio_kill(SHARE_PRIMARY, SIGCONT);
		uio_expect_output(SHARE_LAST, "*Drop mp reply: bus_pci_uio_share*");
		uio_wait_files(SHARE_LAST, "/dev/uio*", false);
	}
	uio_expect_reads(SHARE_LAST);
	/* It has no file of the primary, so it could not read on. */
	uio_kill(SHARE_LAST, SIGSTOP);
	uio_end(SHARE_PRIMARY, 0);
	uio_expect_bus_master(dev, false, "after the primary");
	end_last(dev);
}

#define READ_ON "secondaries read on after their primary "
#define SHARE_END(more) .run = case_share_end, .queues = UIO_QID_B, \
	.flags = UIO_CASE_NVME | UIO_CASE_EXIT | (more)

static const struct uio_case uio_share_cases[] = {
	{ .name = "share_return", SHARE_END(0), .role = "share_return",
		.claim = READ_ON "returns from main" },
	{ .name = "share_exit", SHARE_END(0), .role = "share_exit",
		.claim = READ_ON "exits without rte_eal_cleanup" },
	{ .name = "share_abort", SHARE_END(0), .role = "share_abort", .end = -SIGABRT,
		.claim = READ_ON "aborts" },
	{ .name = "share_killed", SHARE_END(UIO_CASE_KILL), .role = "share_return",
		.end = -SIGKILL, .claim = READ_ON "is killed" },
	{ .name = "share_detach", SHARE_END(0), .role = "share_detach",
		.claim = READ_ON "detaches the device" },
	{ .name = "share_old", .flags = UIO_CASE_NVME | UIO_CASE_EXIT,
		.queues = UIO_QID_B, .run = case_share_no_answer, .role = "share_old",
		.claim = "a secondary works with a primary that does not share its files" },
	{ .name = "share_stopped", .flags = UIO_CASE_NVME | UIO_CASE_EXIT,
		.queues = UIO_QID_B, .run = case_share_no_answer, .role = "share_return",
		.claim = "a secondary attaches and reads while its primary is stopped" },
};
UIO_REGISTER_CASES(55, uio_share_cases)
