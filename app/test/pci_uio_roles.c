/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_atomic.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_interrupts.h>
#include <rte_memzone.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_test.h"

/* A secondary that is told nothing for so long ends by itself: its primary hangs. */
#define UIO_ABANDONED_MS 60000
#define UIO_POLL_US 1000

/* Exit codes beside 0. */
#define UIO_EXIT_FAILED 1
#define UIO_EXIT_ABANDONED 3

/* What a secondary does, before, after and instead of attaching. */
struct uio_role {
	const char *name;
	int (*before)(struct uio_peer *peer);
	int (*work)(struct uio_peer *peer, struct rte_pci_device *pci);
	int (*end)(void);
	bool stay_in_probe;
	bool leave_unmapped;
};

static struct uio_peer *uio_peer;
static const struct uio_role *uio_role;
static const char *uio_device_name;
static struct rte_pci_device *uio_attached;

/* What was written before is to be seen by who sees the state. */
static void
uio_set_state(enum uio_state state)
{
	rte_wmb();
	uio_peer->state = state;
}

/* Wait to be told to end; false when the primary is gone. */
static bool
uio_wait_go(void)
{
	uint64_t deadline = nvme_deadline(UIO_ABANDONED_MS * uio_settings.time_scale);
	pid_t parent = getppid();

	while (uio_peer->go == 0) {
		if (getppid() != parent || nvme_expired(deadline)) {
			printf("nobody tells this secondary to go on\n");
			return false;
		}
		rte_delay_us_sleep(UIO_POLL_US);
	}
	return true;
}

static bool
uio_accept(struct rte_pci_device *pci)
{
	if (strcmp(pci->name, uio_device_name) != 0)
		return false;
	uio_attached = pci;
	uio_set_state(UIO_STATE_ATTACHING);
	if (uio_role->stay_in_probe)
		uio_wait_go();

	return true;
}

/* Take the address of the primary's BAR, so that the BAR cannot be mapped there. */
static int
uio_take_bar(struct uio_peer *peer __rte_unused)
{
	void *addr = mmap(uio_shared->bar_addr, uio_shared->bar_len, PROT_READ,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr != uio_shared->bar_addr)
		printf("could not take %p: got %p\n", uio_shared->bar_addr, addr);
	return addr == uio_shared->bar_addr ? 0 : -1;
}

/* Have the files of the device not be found any more, now that the scan has found it. */
static int
uio_hide_config(struct uio_peer *peer __rte_unused)
{
	return setenv("SYSFS_PCI_DEVICES", UIO_NO_SYSFS, 1);
}

static int
uio_read_config(struct uio_peer *peer, struct rte_pci_device *pci)
{
	uio_config_look(pci, &peer->config);
	return 0;
}

/* See what the primary wrote, then write something else. */
static int
uio_write_config(struct uio_peer *peer, struct rte_pci_device *pci)
{
	uint8_t value = 0;

	peer->result[0] = rte_pci_read_config(pci, &value, sizeof(value), UIO_CONFIG_SCRATCH);
	peer->result[1] = value;
	value = peer->arg;
	peer->result[2] = rte_pci_write_config(pci, &value, sizeof(value), UIO_CONFIG_SCRATCH);
	return 0;
}

static int
uio_use_port(struct uio_peer *peer, struct rte_pci_device *pci)
{
	uio_port_try(pci, &peer->port);
	return 0;
}

static int
uio_read_config_on(struct uio_peer *peer, struct rte_pci_device *pci)
{
	pid_t parent = getppid();

	uio_set_state(UIO_STATE_DONE);
	while (peer->go == 0 && getppid() == parent)
		rte_pci_read_config(pci, peer->config.bytes, sizeof(peer->config.bytes), 0);
	return 0;
}

/* Tell what this process has of the device. */
static void
uio_look_around(struct uio_peer *peer)
{
	struct rte_dev_iterator iterator;
	struct rte_device *dev;
	char part[64];

	peer->uio_fds = uio_count_fds("/dev/uio", peer->what, sizeof(peer->what));
	snprintf(part, sizeof(part), "/%s/", uio_device_name);
	peer->device_fds = uio_count_fds(part, NULL, 0);
	peer->device_maps = uio_count_maps(part);
	peer->device_bars = 0;
	RTE_DEV_FOREACH(dev, "bus=pci", &iterator) {
		if (strcmp(dev->name, uio_device_name) == 0)
			peer->device_bars = uio_count_bars(container_of(dev,
					struct rte_pci_device, device));
	}
}

static int
uio_detach(struct uio_peer *peer, struct rte_pci_device *pci)
{
	rte_pci_unmap_device(pci);
	uio_look_around(peer);
	return 0;
}

/* As a driver does that maps no BAR: nothing of the device is there to be closed. */
static int
uio_detach_unmapped(struct uio_peer *peer, struct rte_pci_device *pci)
{
	/* The FDs of an interrupt handle that no attach has set read 0: have that one open. */
	if (fcntl(STDIN_FILENO, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != STDIN_FILENO)
		return -1;
	rte_pci_unmap_device(pci);
	peer->result[0] = fcntl(STDIN_FILENO, F_GETFD);
	uio_look_around(peer);
	return 0;
}

static int
uio_fork(struct uio_peer *peer __rte_unused, struct rte_pci_device *pci __rte_unused)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static void
uio_on_interrupt(void *arg __rte_unused)
{
}

/* Each of these must be refused: interrupts belong to the primary. */
static int
uio_try_interrupts(struct uio_peer *peer, struct rte_pci_device *pci)
{
	peer->result[0] = rte_intr_enable(pci->intr_handle);
	peer->result[1] = rte_intr_callback_register(pci->intr_handle, uio_on_interrupt, NULL);
	peer->result[2] = rte_intr_disable(pci->intr_handle);
	return 0;
}

/* Read on the queue pair that the primary made for this slot, until told to end. */
static int
uio_do_reads(struct uio_peer *peer, struct rte_pci_device *pci)
{
	const uint16_t qid = peer->arg;
	struct nvme_mem data, reference;
	struct nvme_qpair qp;
	struct nvme_ctrl ctrl;
	int ret;

	ret = nvme_ctrl_init(&ctrl, pci->name, pci->mem_resource[0].addr,
			uio_settings.time_scale);
	ctrl.nsid = uio_shared->nsid;
	ctrl.block_size = uio_shared->block_size;
	if (ret == 0)
		ret = nvme_qpair_init(&ctrl, &qp, qid);
	if (ret == 0)
		ret = nvme_mem_get(&ctrl, &data, "uio_data", qid, NVME_BUF_SIZE);
	if (ret == 0)
		ret = nvme_mem_get(&ctrl, &reference, "uio_ref", 0, NVME_BUF_SIZE);

	while (ret == 0 && peer->go == 0) {
		memset(data.addr, ~*(uint8_t *)reference.addr, NVME_BUF_SIZE);
		ret = nvme_io(&ctrl, &qp, NVME_NVM_READ, uio_shared->lba, &data);
		if (ret == 0 && memcmp(data.addr, reference.addr, NVME_BUF_SIZE) != 0)
			ret = nvme_fail(&ctrl, -1, "queue %u: wrong data after %u reads", qid,
					peer->reads);
		if (ret == 0 && ++peer->reads == 1)
			uio_set_state(UIO_STATE_DONE);
	}
	if (ret != 0)
		strlcpy(peer->what, ctrl.error, sizeof(peer->what));

	return ret;
}

static int
uio_end_exit(void)
{
	exit(0);
}

static int
uio_end_at_once(void)
{
	_exit(0);
}

static int
uio_end_abort(void)
{
	const struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	abort();
}

static const struct uio_role uio_roles[] = {
	{ .name = "return" },
	{ .name = "exit", .end = uio_end_exit },
	{ .name = "exit_at_once", .end = uio_end_at_once },
	{ .name = "abort", .end = uio_end_abort },
	{ .name = "detach", .work = uio_detach },
	{ .name = "detach_unmapped", .work = uio_detach_unmapped, .leave_unmapped = true },
	{ .name = "fork", .work = uio_fork },
	{ .name = "stay_in_probe", .stay_in_probe = true },
	{ .name = "no_config", .before = uio_hide_config },
	{ .name = "bar_taken", .before = uio_take_bar },
	{ .name = "read_config", .work = uio_read_config },
	{ .name = "port", .work = uio_use_port },
	{ .name = "read_config_on", .work = uio_read_config_on },
	{ .name = "write_config", .work = uio_write_config },
	{ .name = "interrupts", .work = uio_try_interrupts },
	{ .name = "reads", .work = uio_do_reads },
};

/* A primary of its own, which does not have the device that its secondary asks for. */
static int
uio_other_primary(void)
{
	struct rte_pci_device pci = { .kdrv = RTE_PCI_KDRV_UIO_GENERIC };
	struct uio_dev dev = { .pci = &pci };
	int ret;

	strlcpy(pci.name, uio_device_name, sizeof(pci.name));
	ret = uio_shared_reserve();
	if (ret == TEST_SUCCESS)
		ret = uio_spawn(&dev, 0, "return", NULL);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_state(&dev, 0, UIO_STATE_REFUSED);
	if (ret == TEST_SUCCESS) {
		uio_go(0);
		ret = uio_wait_end(&dev, 0, 0);
	}
	uio_reap();

	return ret == TEST_SUCCESS ? 0 : UIO_EXIT_FAILED;
}

/* Attach and say what came of it. */
static void
uio_attach(void)
{
	uio_driver_register(uio_accept, !uio_role->leave_unmapped);
	rte_bus_probe();
	uio_look_around(uio_peer);
	uio_set_state(uio_attached != NULL ? UIO_STATE_ATTACHED : UIO_STATE_REFUSED);
}

int
uio_role_main(const char *text)
{
	const struct rte_memzone *mz;
	static char name[32], device[32];
	unsigned int slot;
	size_t i;

	if (uio_settings_read() != 0 ||
			sscanf(text, "%31[^,],%u,%31s", name, &slot, device) != 3 ||
			slot >= UIO_SLOTS) {
		printf(UIO_ENV_ROLE "=%s is not \"role,slot,device\"\n", text);
		return UIO_EXIT_FAILED;
	}
	uio_device_name = device;
	if (strcmp(name, "other_primary") == 0)
		return uio_other_primary();
	if (strncmp(name, "rival", strlen("rival")) == 0)
		return uio_rival_main(name, device);

	for (i = 0; i < RTE_DIM(uio_roles) && uio_role == NULL; i++) {
		if (strcmp(uio_roles[i].name, name) == 0)
			uio_role = &uio_roles[i];
	}
	mz = rte_memzone_lookup(UIO_SHARED_MZ);
	if (mz == NULL || uio_role == NULL) {
		printf("%s %s\n", mz == NULL ? "no memzone for" : "no such role as", name);
		return UIO_EXIT_FAILED;
	}
	uio_shared = mz->addr;
	uio_peer = &uio_shared->peers[slot];

	if (uio_role->before != NULL && uio_role->before(uio_peer) != 0)
		return UIO_EXIT_FAILED;
	uio_set_state(UIO_STATE_STARTED);
	uio_attach();
	if (uio_attached != NULL) {
		if (uio_role->work != NULL && uio_role->work(uio_peer, uio_attached) != 0)
			return UIO_EXIT_FAILED;
		uio_set_state(UIO_STATE_DONE);
	}

	if (!uio_wait_go())
		return UIO_EXIT_ABANDONED;
	return uio_role->end != NULL ? uio_role->end() : 0;
}
