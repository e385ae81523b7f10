/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* What a secondary sees and does in config space. */

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <rte_byteorder.h>

#include "test.h"
#include "pci_uio_test.h"

/* Registers of the configuration header that the rte_pci.h of all releases does not name. */
#define CONFIG_STATUS 0x06
#define CONFIG_STATUS_CAP_LIST 0x10
#define CONFIG_CAP_POINTER 0x34
#define CONFIG_HEADER_SIZE 0x40
#define CONFIG_CONVENTIONAL_SIZE 256
#define CONFIG_MAX 4096
/* Cache Line Size: PCI Express devices ignore it, and all let it be written. */
#define CONFIG_SCRATCH 0x0c

/* Fills buffers: a byte that is still so was not touched. */
#define UNTOUCHED 0xa5

/* Capability as found by a walk. */
struct uio_capability {
	uint16_t id;
	uint16_t offset;
};

/* An access that is not a register's: its result, and what it did to the buffer. */
struct uio_odd_access {
	int32_t ret;
	int32_t outside; /* bytes that changed past the result */
	int32_t wrong;   /* bytes in the result that differ from a plain read */
};
#define ODD_MAX 12

/* Config space as one process sees it. */
struct uio_config_view {
	int32_t len;
	uint8_t bytes[CONFIG_MAX];
	struct uio_capability caps[48];
	struct uio_capability ext_caps[64];
	struct uio_odd_access odd[ODD_MAX];
};

static struct uio_config_view config_before, config_after;

static struct uio_config_view *
uio_peer_view(struct uio_peer *peer)
{
	RTE_BUILD_BUG_ON(sizeof(struct uio_config_view) > sizeof(peer->view));
	return (struct uio_config_view *)peer->view;
}

static void
uio_config_caps(struct rte_pci_device *pci, struct uio_config_view *view)
{
	uint16_t status = 0;
	uint8_t offset = 0;
	uint8_t cap[2];
	size_t nb = 0;

	rte_pci_read_config(pci, &status, sizeof(status), CONFIG_STATUS);
	if ((rte_le_to_cpu_16(status) & CONFIG_STATUS_CAP_LIST) != 0)
		rte_pci_read_config(pci, &offset, sizeof(offset), CONFIG_CAP_POINTER);
	/* Bounded by the room in the view: a broken list may be a loop. */
	while (offset >= CONFIG_HEADER_SIZE && nb < RTE_DIM(view->caps)) {
		if (rte_pci_read_config(pci, cap, sizeof(cap), offset) != sizeof(cap))
			break;
		view->caps[nb].id = cap[0];
		view->caps[nb].offset = offset;
		nb++;
		offset = cap[1] & ~3;
	}
}

static void
uio_config_ext_caps(struct rte_pci_device *pci, struct uio_config_view *view)
{
	off_t offset;
	uint16_t id;

	for (id = 1; id < RTE_DIM(view->ext_caps); id++) {
		offset = rte_pci_find_ext_capability(pci, id);
		view->ext_caps[id].id = offset != 0 ? id : 0;
		view->ext_caps[id].offset = offset;
		/* Each further one would fail in the same way, with an error message. */
		if (offset < 0)
			break;
	}
}

/* Accesses that are cut short, misaligned, empty or out of range, checked against plain reads. */
static void
uio_config_odd(struct rte_pci_device *pci, struct uio_config_view *view)
{
	const int end = view->len;
	const struct {
		off_t offset;
		size_t len;
	} odd[] = {
		{ 0, 0 }, { 1, 1 }, { 1, 4 }, { 2, 4 }, { 3, 2 }, { 5, 7 }, { end - 2, 4 },
		{ end - 1, 8 }, { end, 4 }, { end + 1, 1 }, { INT32_MAX, 4 }, { -1, 4 },
	};
	uint8_t buf[16];
	size_t i, j;

	RTE_BUILD_BUG_ON(RTE_DIM(odd) != ODD_MAX);
	for (i = 0; i < RTE_DIM(odd); i++) {
		struct uio_odd_access *access = &view->odd[i];

		memset(buf, UNTOUCHED, sizeof(buf));
		access->ret = rte_pci_read_config(pci, buf, odd[i].len, odd[i].offset);
		for (j = 0; j < sizeof(buf); j++) {
			if ((int)j >= access->ret)
				access->outside += buf[j] != UNTOUCHED;
			else if (odd[i].offset + (int)j < end)
				access->wrong += buf[j] != view->bytes[odd[i].offset + j];
		}
		access->outside += access->ret > (int)odd[i].len;
	}
}

static void
uio_config_look(struct rte_pci_device *pci, struct uio_config_view *view)
{
	memset(view, 0, sizeof(*view));
	view->len = rte_pci_read_config(pci, view->bytes, sizeof(view->bytes), 0);
	uio_config_caps(pci, view);
	uio_config_ext_caps(pci, view);
	uio_config_odd(pci, view);
}

/* The view of a secondary, between two of the primary. */
static int
uio_config_look_both(struct uio_dev *dev)
{
	int ret;

	uio_config_look(dev->pci, &config_before);
	ret = uio_run_secondary(dev, "read_config", 0);
	uio_config_look(dev->pci, &config_after);

	return ret;
}

static int
uio_case_config_bytes(struct uio_dev *dev)
{
	const struct uio_config_view *peer = uio_peer_view(&uio_shared->peers[0]);
	char expected[64];
	int i;

	if (uio_config_look_both(dev) != TEST_SUCCESS)
		return TEST_FAILED;
	snprintf(expected, sizeof(expected), "%d bytes, as in the primary", config_before.len);
	if (peer->len != config_before.len || peer->len < CONFIG_CONVENTIONAL_SIZE)
		return uio_not_ok(expected, "%d bytes", peer->len);

	for (i = 0; i < peer->len; i++) {
		/* A byte that changes by itself proves nothing. */
		if (config_before.bytes[i] != config_after.bytes[i])
			continue;
		snprintf(expected, sizeof(expected), "0x%02x at offset 0x%03x",
				config_before.bytes[i], i);
		if (peer->bytes[i] != config_before.bytes[i])
			return uio_not_ok(expected, "0x%02x", peer->bytes[i]);
	}

	return TEST_SUCCESS;
}

static int
uio_config_compare_caps(const struct uio_capability *primary,
		const struct uio_capability *secondary, size_t nb)
{
	char expected[64];
	size_t i;

	for (i = 0; i < nb; i++) {
		snprintf(expected, sizeof(expected), "capability 0x%02x at 0x%03x", primary[i].id,
				primary[i].offset);
		if (memcmp(&primary[i], &secondary[i], sizeof(primary[i])) != 0)
			return uio_not_ok(expected, "0x%02x at 0x%03x", secondary[i].id,
					secondary[i].offset);
	}
	return TEST_SUCCESS;
}

static int
uio_case_config_caps(struct uio_dev *dev)
{
	if (uio_config_look_both(dev) != TEST_SUCCESS)
		return TEST_FAILED;
	if (config_before.caps[0].id == 0)
		return uio_skip("%s has no capability", dev->name);

	return uio_config_compare_caps(config_before.caps,
			uio_peer_view(&uio_shared->peers[0])->caps, RTE_DIM(config_before.caps));
}

static int
uio_case_config_ext_caps(struct uio_dev *dev)
{
	const struct uio_config_view *peer = uio_peer_view(&uio_shared->peers[0]);
	size_t i;

	if (uio_config_look_both(dev) != TEST_SUCCESS)
		return TEST_FAILED;
	/* Without extended config space there is no extended capability, which is no error. */
	if (config_before.len <= CONFIG_CONVENTIONAL_SIZE &&
			(peer->ext_caps[1].offset != 0 || config_before.ext_caps[1].offset != 0))
		return uio_not_ok("rte_pci_find_ext_capability to return 0 on 256 bytes",
				"0x%x, 0x%x in the primary", peer->ext_caps[1].offset,
				config_before.ext_caps[1].offset);
	for (i = 0; i < RTE_DIM(config_before.ext_caps); i++) {
		if (config_before.ext_caps[i].id != 0)
			return uio_config_compare_caps(config_before.ext_caps, peer->ext_caps,
					RTE_DIM(config_before.ext_caps));
	}

	return uio_skip("%s has no extended capability: use e1000e or an NVMe with SR-IOV",
			dev->name);
}

static int
uio_case_config_odd(struct uio_dev *dev)
{
	const struct uio_odd_access *primary, *secondary;
	char expected[96];
	size_t i;

	if (uio_config_look_both(dev) != TEST_SUCCESS)
		return TEST_FAILED;
	for (i = 0; i < ODD_MAX; i++) {
		primary = &config_before.odd[i];
		secondary = &uio_peer_view(&uio_shared->peers[0])->odd[i];
		snprintf(expected, sizeof(expected),
				"access %zu to give %d as in the primary, and no stray byte", i,
				primary->ret);
		if (memcmp(primary, secondary, sizeof(*primary)) != 0 || primary->outside != 0 ||
				(primary->wrong != 0 && primary->ret > 0))
			return uio_not_ok(expected, "%d, %d stray bytes, %d wrong bytes",
					secondary->ret, secondary->outside, secondary->wrong);
	}

	return TEST_SUCCESS;
}

/* Writes and reads of both processes; the caller restores the register. */
static int
uio_config_write_both(struct uio_dev *dev, uint8_t from_primary, uint8_t from_secondary)
{
	const struct uio_peer *peer = &uio_shared->peers[0];
	const struct uio_spawn_args args = { .arg = from_secondary };
	uint8_t value = from_primary;
	char expected[64];
	int ret;

	if (rte_pci_write_config(dev->pci, &value, sizeof(value), CONFIG_SCRATCH) < 0 ||
			rte_pci_read_config(dev->pci, &value, sizeof(value),
				CONFIG_SCRATCH) != sizeof(value))
		return uio_not_ok("the primary to access Cache Line Size", "an error");
	if (value != from_primary)
		return uio_skip("%s does not let Cache Line Size be written", dev->name);

	ret = uio_start(dev, 0, "write_config", &args, UIO_STATE_DONE);
	if (ret != TEST_SUCCESS)
		return ret;
	snprintf(expected, sizeof(expected), "the secondary to read 0x%02x", from_primary);
	if (peer->result[0] != 1 || peer->result[1] != from_primary)
		return uio_not_ok(expected, "0x%02x (%d bytes)", peer->result[1], peer->result[0]);
	if (rte_pci_read_config(dev->pci, &value, sizeof(value), CONFIG_SCRATCH) != 1 ||
			value != from_secondary) {
		snprintf(expected, sizeof(expected), "the primary to read 0x%02x", from_secondary);
		return uio_not_ok(expected, "0x%02x (the secondary's write returned %d)", value,
				peer->result[2]);
	}
	return uio_end(dev, 0, 0);
}

static int
uio_case_config_write(struct uio_dev *dev)
{
	uint8_t found = 0;
	int ret;

	if (rte_pci_read_config(dev->pci, &found, sizeof(found), CONFIG_SCRATCH) != 1)
		return uio_not_ok("the primary to read Cache Line Size", "an error");
	/* Legal sizes in dwords, in case the device looks at them, and neither what is there. */
	ret = uio_config_write_both(dev, found == 16 ? 8 : 16, found == 32 ? 64 : 32);
	rte_pci_write_config(dev->pci, &found, sizeof(found), CONFIG_SCRATCH);

	return ret;
}

static int
uio_read_config(struct uio_peer *peer, struct rte_pci_device *pci)
{
	uio_config_look(pci, uio_peer_view(peer));
	return 0;
}

static int
uio_read_config_loop(struct uio_peer *peer, struct rte_pci_device *pci)
{
	struct uio_config_view *view = uio_peer_view(peer);

	uio_set_state(UIO_STATE_DONE);
	while (peer->finish == 0 && !uio_is_orphan())
		rte_pci_read_config(pci, view->bytes, sizeof(view->bytes), 0);
	return 0;
}

/* See what the primary wrote, then write something else. */
static int
uio_write_config(struct uio_peer *peer, struct rte_pci_device *pci)
{
	uint8_t value = 0;

	peer->result[0] = rte_pci_read_config(pci, &value, sizeof(value), CONFIG_SCRATCH);
	peer->result[1] = value;
	value = peer->arg;
	peer->result[2] = rte_pci_write_config(pci, &value, sizeof(value), CONFIG_SCRATCH);
	return 0;
}

static const struct uio_role uio_config_roles[] = {
	{ .name = "read_config", .work = uio_read_config },
	{ .name = "read_config_loop", .work = uio_read_config_loop },
	{ .name = "write_config", .work = uio_write_config },
};
UIO_REGISTER_ROLES(uio_config_roles)

static const struct uio_case uio_config_cases[] = {
	{ .name = "config_bytes", .run = uio_case_config_bytes,
		.claim = "a secondary reads the same config space as the primary" },
	{ .name = "config_caps", .run = uio_case_config_caps,
		.claim = "a secondary finds the same capabilities as the primary" },
	{ .name = "config_ext_caps", .run = uio_case_config_ext_caps,
		.claim = "a secondary finds the same extended capabilities as the primary" },
	{ .name = "config_write", .run = uio_case_config_write,
		.claim = "primary and secondary see each other's config writes" },
	{ .name = "config_odd", .run = uio_case_config_odd,
		.claim = "unaligned or out-of-range config reads give an error or a short count" },
	{ .name = "exit_killed_reading", .flags = UIO_CASE_EXIT | UIO_CASE_KILL,
		.role = "read_config_loop", .end = -SIGKILL,
		.claim = "bus master and traffic survive a secondary that is killed while it reads "
			"config space" },
};
UIO_REGISTER_CASES(20, uio_config_cases)
