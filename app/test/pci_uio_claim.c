/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Who owns a device: other primaries want it. They share no memory with this one: the exit code
 * tells what came of it, and a line of output that one has the device.
 */

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <rte_pci.h>

#include "test.h"
#include "pci_uio_test.h"

/* A race costs eight lives of a process: one race for so many secondaries that come and go. */
#define RIVAL_RACE_EVERY 25

/* A primary of its own, in the same place; it keeps to itself what it need not share. */
static int
rival_spawn(struct uio_dev *dev, unsigned int slot, const char *role)
{
	const struct uio_spawn_args args = {
		.prefix = "pci_uio_rival", .option = "--in-memory",
	};

	return uio_spawn(dev, slot, role, &args);
}

/* The same, and wait until it has said something. */
static int
rival_start(struct uio_dev *dev, unsigned int slot, const char *role, const char *text)
{
	int ret = rival_spawn(dev, slot, role);

	if (ret == TEST_SUCCESS && !uio_wait_said(dev, slot, text))
		ret = uio_wait_end(dev, slot, -SIGKILL);

	return ret;
}

/* Refused, and told by whom. */
static int
rival_expect_refused(struct uio_dev *dev, unsigned int slot, pid_t owner)
{
	char process[32];
	int ret;

	ret = uio_wait_end(dev, slot, UIO_RIVAL_REFUSED);
	snprintf(process, sizeof(process), "process %d,", owner);
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
	if (ret == TEST_SUCCESS && opens < 0)
		ret = uio_not_ok("open() of /dev/uio* to be watched", "no watch");
	if (ret == TEST_SUCCESS && opens > 0)
		ret = uio_not_ok("no open() of /dev/uio*", "%d of %s", opens, dev->uio_path);

	return ret;
}

/* One has the device, and is killed; another one waits for that. */
static int
rival_succeed(struct uio_dev *dev)
{
	int ret = rival_start(dev, 0, "rival_hold", UIO_RIVAL_HAS);

	if (ret == TEST_SUCCESS)
		ret = rival_spawn(dev, 1, "rival");
	if (ret == TEST_SUCCESS)
		ret = rival_expect_refused(dev, 1, uio_pid(0));
	if (ret == TEST_SUCCESS)
		ret = rival_spawn(dev, 2, "rival_next");
	if (ret == TEST_SUCCESS && uio_wait_said(dev, 2, UIO_RIVAL_IS_READY))
		uio_kill(0, SIGKILL);

	return ret == TEST_SUCCESS ? uio_wait_end(dev, 2, 0) : ret;
}

/* A user who may read config space locks it: that is no claim. */
static int
rival_meet_nobody(struct uio_dev *dev)
{
	int ret = rival_start(dev, 0, "rival_nobody", UIO_RIVAL_IS_READY);

	if (ret == TEST_SUCCESS)
		ret = rival_spawn(dev, 1, "rival");

	return ret == TEST_SUCCESS ? uio_wait_end(dev, 1, 0) : ret;
}

/* One has the device, and has mapped it twice, and unmapped once. */
static int
rival_meet_again(struct uio_dev *dev)
{
	int ret = rival_start(dev, 0, "rival_again", UIO_RIVAL_HAS);

	if (ret == TEST_SUCCESS)
		ret = rival_spawn(dev, 1, "rival");

	return ret == TEST_SUCCESS ? rival_expect_refused(dev, 1, uio_pid(0)) : ret;
}

/* We have an I/O port of the device, the BARs are not mapped; then we have not even that. */
static int
rival_meet_port(struct uio_dev *dev)
{
	struct rte_pci_ioport port = { .dev = dev->pci };
	int ret;

	if (rte_pci_ioport_map(dev->pci, uio_first_bar(dev->pci), &port) != 0)
		return uio_not_ok("rte_pci_ioport_map to work", "an error");
	ret = rival_spawn(dev, 0, "rival");
	if (ret == TEST_SUCCESS)
		ret = rival_expect_refused(dev, 0, getpid());
	rte_pci_ioport_unmap(&port);
	if (ret == TEST_SUCCESS)
		ret = rival_spawn(dev, 1, "rival");

	return ret == TEST_SUCCESS ? uio_wait_end(dev, 1, 0) : ret;
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
		if (!uio_wait_said(dev, slot, UIO_RIVAL_IS_READY))
			ret = uio_wait_end(dev, slot, 0);
	}
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++)
		uio_kill(slot, SIGUSR1);
	for (slot = 0; slot < UIO_SLOTS && ret == TEST_SUCCESS; slot++) {
		if (uio_wait_said(dev, slot, UIO_RIVAL_HAS))
			winners++;
		else if (uio_wait_end(dev, slot, UIO_RIVAL_REFUSED) == TEST_SUCCESS)
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
uio_case_claim_no_privilege(struct uio_dev *dev)
{
	return rival_without_us(dev, rival_meet_nobody, 1);
}

int
uio_case_claim_again(struct uio_dev *dev)
{
	return rival_without_us(dev, rival_meet_again, 1);
}

int
uio_case_claim_port(struct uio_dev *dev)
{
	return rival_without_us(dev, rival_meet_port, 1);
}

int
uio_case_claim_race(struct uio_dev *dev)
{
	return rival_without_us(dev, rival_race,
			(uio_settings.repeat + RIVAL_RACE_EVERY - 1) / RIVAL_RACE_EVERY);
}
