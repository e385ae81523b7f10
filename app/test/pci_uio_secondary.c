/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* In a secondary: how it attaches, what it does then, and how it ends. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_atomic.h>
#include <rte_bus.h>
#include <rte_cycles.h>
#include <rte_debug.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_memzone.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_test.h"

/* A secondary that waits so long for its primary ends by itself. */
#define UIO_ABANDONED_MS 60000
/* Eight that wait must leave the CPU, an emulated one in particular, to those that work. */
#define UIO_POLL_US 5000

/* Exit codes beside 0. */
#define UIO_EXIT_FAILED 1
#define UIO_EXIT_ABANDONED 3

static struct uio_peer *uio_peer;
static const struct uio_role *uio_role;
static char uio_device_name[PCI_PRI_STR_SIZE + 1];
static struct rte_pci_device *uio_attached;
static pid_t uio_parent;

bool
uio_is_orphan(void)
{
	return getppid() != uio_parent;
}

void
uio_set_state(enum uio_state state)
{
	/* What was written before must be visible to the primary when it sees the state. */
	rte_wmb();
	uio_peer->state = state;
}

/* Find what the environment says that this process is: "role,slot,device,parent". */
static int
uio_find_role_and_peer(const char *text)
{
	const struct rte_memzone *mz = rte_memzone_lookup(UIO_SHARED_MZ);
	char name[32];
	unsigned int slot;
	int found;

	found = sscanf(text, "%31[^,],%u,%17[^,],%d", name, &slot, uio_device_name, &uio_parent);
	uio_role = found == 4 ? uio_find_role(name) : NULL;
	if (uio_role == NULL || slot >= UIO_SLOTS) {
		printf(UIO_ENV_ROLE "=%s is not \"role,slot,device,parent\"\n", text);
		return -1;
	}
	if (uio_role->program != NULL)
		return 0;
	if (mz == NULL) {
		printf("no memzone " UIO_SHARED_MZ "\n");
		return -1;
	}
	uio_shared = mz->addr;
	uio_peer = &uio_shared->peers[slot];

	return 0;
}

/* Wait for the primary to set a flag; false when the primary has ended or hangs. */
static bool
uio_wait_primary(const volatile uint32_t *flag)
{
	const uint64_t deadline = uio_deadline(UIO_ABANDONED_MS);

	while (*flag == 0) {
		if (uio_is_orphan() || nvme_expired(deadline)) {
			printf("timed out waiting for the primary\n");
			return false;
		}
		rte_delay_us_sleep(UIO_POLL_US);
	}
	return true;
}

static bool
uio_accept(struct rte_pci_device *pci)
{
	/* With UIO_ATTACH_INIT this is before uio_role_main(). */
	if (uio_peer == NULL && uio_find_role_and_peer(getenv(UIO_ENV_ROLE)) != 0)
		return false;
	if (strcmp(pci->name, uio_device_name) != 0)
		return uio_role->all_devices;
	uio_attached = pci;
	/* Hotplug may attach the device again later, in another thread. */
	if (uio_peer->state < UIO_STATE_ATTACHING)
		uio_set_state(UIO_STATE_ATTACHING);
	if (uio_role->kill_in_probe)
		raise(SIGKILL);

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

/* Hide the files of the device, now that the scan has found it. */
static int
uio_hide_config(struct uio_peer *peer __rte_unused)
{
	return setenv("SYSFS_PCI_DEVICES", UIO_NO_SYSFS, 1);
}

/* Report what this process has of the device. */
static void
uio_report_resources(struct uio_peer *peer)
{
	const struct rte_pci_device *pci = uio_find_pci(uio_device_name);
	char part[64];

	peer->uio_fds = uio_count_fds("/dev/uio", peer->what, sizeof(peer->what));
	snprintf(part, sizeof(part), "/%s/", uio_device_name);
	peer->device_fds = uio_count_fds(part, NULL, 0);
	peer->device_maps = uio_count_maps(part);
	peer->device_bars = pci != NULL ? uio_count_bars(pci) : 0;
}

static int
uio_detach(struct uio_peer *peer, struct rte_pci_device *pci)
{
	rte_pci_unmap_device(pci);
	uio_report_resources(peer);
	return 0;
}

static int
uio_reattach(struct uio_peer *peer, struct rte_pci_device *pci)
{
	int i, ret = 0;

	for (i = 0; i < 3 && ret == 0; i++) {
		rte_pci_unmap_device(pci);
		ret = rte_pci_map_device(pci);
	}
	uio_report_resources(peer);
	return ret;
}

/* Through EAL, which asks the primary and tells all secondaries. */
static int
uio_hotplug_remove(struct uio_peer *peer, struct rte_pci_device *pci __rte_unused)
{
	peer->result[0] = rte_eal_hotplug_remove("pci", uio_device_name);
	uio_report_resources(peer);
	return 0;
}

static void
uio_on_timer(int sig __rte_unused)
{
	kill(getpid(), SIGKILL);
}

/* SIGKILL at a chosen time after this, wherever the attach is then. */
static int
uio_kill_later(struct uio_peer *peer)
{
	const struct itimerval timer = { .it_value.tv_usec = peer->arg };

	signal(SIGALRM, uio_on_timer);
	return setitimer(ITIMER_REAL, &timer, NULL);
}

/* What a driver does that maps no BAR: the device has nothing to close. */
static int
uio_detach_unmapped(struct uio_peer *peer, struct rte_pci_device *pci)
{
	/* The fds of an interrupt handle that no attach has set read 0: fd 0 must be open. */
	if (fcntl(STDIN_FILENO, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != STDIN_FILENO)
		return -1;
	rte_pci_unmap_device(pci);
	peer->result[0] = fcntl(STDIN_FILENO, F_GETFD);
	uio_report_resources(peer);
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

static int
uio_end_sigterm(void)
{
	return raise(SIGTERM);
}

static int
uio_end_sigsegv(void)
{
	const struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	/* AddressSanitizer would make an exit code of it. */
	signal(SIGSEGV, SIG_DFL);
	return raise(SIGSEGV);
}

static int
uio_end_rte_exit(void)
{
	rte_exit(EXIT_SUCCESS, "this secondary ends\n");
}

static int
uio_end_exec(void)
{
	return execl("/bin/sh", "sh", "-c", "exit 7", NULL);
}

/* Another primary, which does not have the device that its secondary asks for. */
static int
uio_other_primary(const char *role __rte_unused, const char *device)
{
	struct uio_dev dev = { .pci = NULL };
	int ret;

	strlcpy(dev.name, device, sizeof(dev.name));
	ret = uio_shared_reserve();
	if (ret == TEST_SUCCESS)
		ret = uio_start(&dev, 0, "return", NULL, UIO_STATE_NOT_ATTACHED);
	if (ret == TEST_SUCCESS)
		ret = uio_end(&dev, 0, 0);
	uio_reap();

	return ret == TEST_SUCCESS ? 0 : UIO_EXIT_FAILED;
}

static const struct uio_role uio_roles[] = {
	{ .name = "return" },
	{ .name = "attach_init", .attach = UIO_ATTACH_INIT },
	{ .name = "attach_all", .all_devices = true },
	{ .name = "hotplug", .attach = UIO_ATTACH_HOTPLUG },
	{ .name = "hotplug_remove", .work = uio_hotplug_remove },
	{ .name = "exit", .end = uio_end_exit },
	{ .name = "_exit", .end = uio_end_at_once },
	{ .name = "rte_exit", .end = uio_end_rte_exit },
	{ .name = "abort", .end = uio_end_abort },
	{ .name = "sigterm", .end = uio_end_sigterm },
	{ .name = "sigsegv", .end = uio_end_sigsegv },
	{ .name = "exec", .end = uio_end_exec },
	{ .name = "detach", .work = uio_detach },
	{ .name = "detach_unmapped", .work = uio_detach_unmapped, .leave_unmapped = true },
	{ .name = "reattach", .work = uio_reattach },
	{ .name = "fork", .work = uio_fork },
	{ .name = "kill_in_probe", .kill_in_probe = true },
	{ .name = "kill_later", .before = uio_kill_later },
	{ .name = "no_config", .before = uio_hide_config },
	{ .name = "bar_taken", .before = uio_take_bar },
	{ .name = "other_primary", .program = uio_other_primary },
};

UIO_REGISTER_ROLES(uio_roles)

/* A driver that is linked in registers before rte_eal_init(), which then attaches. */
RTE_INIT(uio_register_before_init)
{
	const char *role = getenv(UIO_ENV_ROLE);

	if (role != NULL && strncmp(role, "attach_init", strlen("attach_init")) == 0)
		uio_driver_register(uio_accept, true);
}

static int
uio_attach(void)
{
	const uint64_t start = rte_get_timer_cycles();
	int ret = 0;

	if (uio_role->attach != UIO_ATTACH_INIT) {
		uio_driver_register(uio_accept, !uio_role->leave_unmapped);
		if (uio_role->attach == UIO_ATTACH_HOTPLUG)
			ret = rte_eal_hotplug_add("pci", uio_device_name, "");
		else
			rte_bus_probe();
	}
	uio_peer->attach_us = (rte_get_timer_cycles() - start) * 1000000 / rte_get_timer_hz();
	uio_report_resources(uio_peer);
	uio_set_state(uio_attached != NULL ? UIO_STATE_ATTACHED : UIO_STATE_NOT_ATTACHED);

	return ret;
}

int
uio_role_main(const char *text)
{
	if (uio_peer == NULL && uio_find_role_and_peer(text) != 0)
		return UIO_EXIT_FAILED;
	if (uio_role->program != NULL)
		return uio_role->program(uio_role->name, uio_device_name);

	if (uio_role->before != NULL && uio_role->before(uio_peer) != 0)
		return UIO_EXIT_FAILED;
	if (uio_attached == NULL)
		uio_set_state(UIO_STATE_STARTED);
	if (uio_attach() != 0)
		return UIO_EXIT_FAILED;
	if (uio_attached != NULL) {
		if (uio_role->work != NULL && uio_role->work(uio_peer, uio_attached) != 0)
			return UIO_EXIT_FAILED;
		uio_set_state(UIO_STATE_DONE);
	}

	if (!uio_wait_primary(&uio_peer->finish))
		return UIO_EXIT_ABANDONED;
	return uio_role->end != NULL ? uio_role->end() : 0;
}
