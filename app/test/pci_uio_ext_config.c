/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* What does not fit in config space: short and odd reads, and capabilities that are not there. */

#include <stdio.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_pci.h>

#include "test.h"
#include "pci_uio_test.h"

#define CONFIG_CONVENTIONAL 256
/* Fills buffers: a byte that is still so was not touched. */
#define UNTOUCHED 0xa5
#define ODD_MAX 12

/* As one process sees it. */
struct config_view {
	int32_t len;
	int32_t ext_caps[64]; /* offset of each capability ID */
	int32_t ret[ODD_MAX];
	int32_t stray;        /* bytes that changed past a result, or are wrong in it */
};

/* Accesses that are cut short, misaligned, empty or out of range, checked against plain reads. */
static void
look_odd(struct rte_pci_device *pci, struct config_view *view, const uint8_t *bytes)
{
	const int end = view->len;
	const struct {
		off_t offset;
		size_t len;
	} odd[ODD_MAX] = {
		{ 0, 0 }, { 1, 1 }, { 1, 4 }, { 2, 4 }, { 3, 2 }, { 5, 7 }, { end - 2, 4 },
		{ end - 1, 8 }, { end, 4 }, { end + 1, 1 }, { INT32_MAX, 4 }, { -1, 4 },
	};
	uint8_t buf[16];
	int i, j, ret;

	for (i = 0; i < ODD_MAX; i++) {
		memset(buf, UNTOUCHED, sizeof(buf));
		ret = rte_pci_read_config(pci, buf, odd[i].len, odd[i].offset);
		view->ret[i] = ret;
		view->stray += ret > (int)odd[i].len;
		for (j = 0; j < (int)sizeof(buf); j++) {
			if (j >= ret)
				view->stray += buf[j] != UNTOUCHED;
			else if (odd[i].offset + j < end)
				view->stray += buf[j] != bytes[odd[i].offset + j];
		}
	}
}

static void
look(struct rte_pci_device *pci, struct config_view *view)
{
	uint8_t bytes[4096];
	size_t i;

	memset(view, 0, sizeof(*view));
	view->len = rte_pci_read_config(pci, bytes, sizeof(bytes), 0);
	/* After an error each further one would fail in the same way, with an error message. */
	for (i = 1; i < RTE_DIM(view->ext_caps) && view->ext_caps[i - 1] >= 0; i++)
		view->ext_caps[i] = rte_pci_find_ext_capability(pci, i);
	look_odd(pci, view, bytes);
}

static int
role_look(struct uio_peer *peer, struct rte_pci_device *pci)
{
	RTE_BUILD_BUG_ON(sizeof(struct config_view) > sizeof(peer->view));
	look(pci, (struct config_view *)peer->view);
	return 0;
}

static const struct uio_role uio_ext_config_roles[] = {
	{ .name = "look", .work = role_look },
};
UIO_REGISTER_ROLES(uio_ext_config_roles)

/* Whether the device has extended capabilities. Each must have been found (PCI Express, 7.6). */
static bool
expect_ext_caps(struct uio_dev *dev, const struct config_view *view)
{
	off_t offset = CONFIG_CONVENTIONAL;
	bool found = false;
	uint32_t header, id;
	int ttl = RTE_DIM(view->ext_caps);

	while (ttl-- > 0 && offset >= CONFIG_CONVENTIONAL) {
		header = 0;
		if (rte_pci_read_config(dev->pci, &header, sizeof(header), offset) !=
				sizeof(header) || header == 0)
			break;
		header = rte_le_to_cpu_32(header);
		id = RTE_PCI_EXT_CAP_ID(header);
		/* ID 0 is that of no capability. */
		if (id > 0 && id < RTE_DIM(view->ext_caps))
			uio_expect(view->ext_caps[id] > 0,
					"capability 0x%02x, which is at 0x%03x, to be found, got %d",
					id, (int)offset, view->ext_caps[id]);
		found = true;
		offset = RTE_PCI_EXT_CAP_NEXT(header);
	}
	return found;
}

static void
check_ext_caps(struct uio_dev *dev)
{
	const struct config_view *peer = (const struct config_view *)uio_shared->peers[0].view;
	struct config_view own;
	size_t i;

	look(dev->pci, &own);
	/* Without extended config space there is no extended capability, which is no error. */
	uio_expect(own.len > CONFIG_CONVENTIONAL || own.ext_caps[1] == 0,
			"rte_pci_find_ext_capability to return 0 on 256 bytes, got 0x%x",
			own.ext_caps[1]);
	for (i = 1; i < RTE_DIM(own.ext_caps); i++)
		uio_expect(peer->ext_caps[i] == own.ext_caps[i],
				"capability 0x%02zx at 0x%03x, got 0x%03x", i, own.ext_caps[i],
				peer->ext_caps[i]);
	if (!expect_ext_caps(dev, &own))
		uio_skip("%s has no extended capability: use e1000e or an NVMe with SR-IOV",
				dev->name);
}

static void
check_odd(struct uio_dev *dev)
{
	const struct config_view *peer = (const struct config_view *)uio_shared->peers[0].view;
	struct config_view own;
	int i;

	look(dev->pci, &own);
	uio_expect(own.stray == 0 && peer->stray == 0, "no stray byte, got %d, %d in the primary",
			peer->stray, own.stray);
	for (i = 0; i < ODD_MAX; i++)
		uio_expect(peer->ret[i] == own.ret[i],
				"access %d to give %d as in the primary, got %d", i, own.ret[i],
				peer->ret[i]);
}

static const struct uio_case uio_ext_config_cases[] = {
	{ .name = "config_ext_caps", .role = "look", .check = check_ext_caps,
		.claim = "a secondary finds the same extended capabilities as the primary" },
	{ .name = "config_odd", .role = "look", .check = check_odd,
		.claim = "unaligned or out-of-range config reads give an error or a short count" },
};
UIO_REGISTER_CASES(20, uio_ext_config_cases)
