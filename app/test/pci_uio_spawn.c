/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_atomic.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_memzone.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_test.h"

/* Time for a secondary to reach a state or to end; its whole life is some tenths of a second. */
#define UIO_SPAWN_TIMEOUT_MS 30000
/* How often to look. Each time takes CPU time from the secondaries, in a VM in particular. */
#define UIO_POLL_US 10000
/* Time for a secondary to end when the case is over, whatever it was doing. */
#define UIO_END_TIMEOUT_MS 3000
#define UIO_LOG_LINES 40

struct uio_shared *uio_shared;

static struct {
	pid_t pid;          /* 0: nobody */
	bool ended;
	bool apart;         /* shares no memory with this process */
	bool blamed;        /* did not do what was waited for: its output tells why */
	int status;         /* as of waitpid() */
	char role[32];
	FILE *log;          /* stdout and stderr */
} uio_children[UIO_SLOTS];

int
uio_shared_reserve(void)
{
	const struct rte_memzone *mz = rte_memzone_lookup(UIO_SHARED_MZ);

	if (mz == NULL)
		mz = rte_memzone_reserve(UIO_SHARED_MZ, sizeof(*uio_shared), SOCKET_ID_ANY, 0);
	if (mz == NULL)
		return uio_not_ok("a memzone for " UIO_SHARED_MZ, "%s", rte_strerror(rte_errno));
	uio_shared = mz->addr;

	return TEST_SUCCESS;
}

void
uio_shared_free(void)
{
	rte_memzone_free(rte_memzone_lookup(UIO_SHARED_MZ));
	uio_shared = NULL;
}

/* File prefix of this process: last part of its runtime directory. */
static const char *
uio_file_prefix(void)
{
	const char *dir = rte_eal_get_runtime_dir();
	const char *slash = strrchr(dir, '/');

	return slash != NULL ? slash + 1 : dir;
}

/* CPU for a secondary: another one than this thread's, if there is one. */
static int
uio_other_cpu(void)
{
	unsigned int lcore = rte_get_next_lcore(-1, 1, 0);

	return rte_lcore_to_cpu_id(lcore < RTE_MAX_LCORE ? (int)lcore : -1);
}

/* Forget a child that is gone. */
static void
uio_forget(unsigned int slot)
{
	if (uio_children[slot].log != NULL)
		fclose(uio_children[slot].log);
	memset(&uio_children[slot], 0, sizeof(uio_children[slot]));
}

int
uio_spawn(struct uio_dev *dev, unsigned int slot, const char *role,
		const struct uio_spawn_args *args)
{
	static const struct uio_spawn_args none;
	const struct uio_spawn_args *a = args != NULL ? args : &none;
	char prefix[PATH_MAX], cpu[16], env[128];
	const char *const argv[] = {
		prgname, a->prefix != NULL ? "--proc-type=primary" : "--proc-type=secondary",
		prefix, "--iova-mode=pa", "--no-telemetry", "-l", cpu,
		"-a", a->allow != NULL ? a->allow : dev->pci->name,
		a->option, /* which is the last one, or already the end */
		NULL,
	};
	int ret;

	memset(&uio_shared->peers[slot], 0, sizeof(uio_shared->peers[slot]));
	uio_shared->peers[slot].arg = a->arg;
	snprintf(prefix, sizeof(prefix), "--file-prefix=%s",
			a->prefix != NULL ? a->prefix : uio_file_prefix());
	snprintf(cpu, sizeof(cpu), "%d", uio_other_cpu());
	snprintf(env, sizeof(env), UIO_ENV_ROLE "=%s,%u,%s", role, slot, dev->pci->name);

	uio_forget(slot);
	strlcpy(uio_children[slot].role, role, sizeof(uio_children[slot].role));
	uio_children[slot].apart = a->prefix != NULL;
	uio_children[slot].log = tmpfile();
	/* Appended to, wherever this process reads: they share the position. */
	if (uio_children[slot].log == NULL ||
			fcntl(fileno(uio_children[slot].log), F_SETFL, O_APPEND) != 0)
		return uio_not_ok("a temporary file for the output of a secondary", "%s",
				strerror(errno));
	ret = uio_run_again(&uio_children[slot].pid, (char *const *)(uintptr_t)argv, env,
			fileno(uio_children[slot].log));
	if (ret != 0) {
		uio_children[slot].pid = 0;
		return uio_not_ok("a secondary to start", "%s", strerror(ret));
	}

	return TEST_SUCCESS;
}

static bool
uio_has_ended(unsigned int slot)
{
	if (!uio_children[slot].ended && waitpid(uio_children[slot].pid,
			&uio_children[slot].status, WNOHANG) == uio_children[slot].pid)
		uio_children[slot].ended = true;

	return uio_children[slot].ended;
}

/* "exit code 1", "signal 9", "still there". */
static const char *
uio_end_name(unsigned int slot)
{
	static char name[32];

	if (!uio_children[slot].ended)
		snprintf(name, sizeof(name), "still running");
	else if (WIFSIGNALED(uio_children[slot].status))
		snprintf(name, sizeof(name), "ended by signal %d",
				WTERMSIG(uio_children[slot].status));
	else
		snprintf(name, sizeof(name), "ended with exit code %d",
				WEXITSTATUS(uio_children[slot].status));

	return name;
}

/* Whether a state was reached; one who refused the device never attaches. */
static bool
uio_state_reached(uint32_t now, enum uio_state wanted)
{
	if (wanted == UIO_STATE_REFUSED || now == UIO_STATE_REFUSED)
		return now == wanted || wanted <= UIO_STATE_STARTED;
	return now >= wanted;
}

int
uio_wait_state(struct uio_dev *dev, unsigned int slot, enum uio_state state)
{
	static const char * const names[] = {
		[UIO_STATE_NONE] = "starting",
		[UIO_STATE_STARTED] = "started",
		[UIO_STATE_ATTACHING] = "attaching",
		[UIO_STATE_REFUSED] = "refused the device",
		[UIO_STATE_ATTACHED] = "attached",
		[UIO_STATE_DONE] = "done",
	};
	struct uio_peer *peer = &uio_shared->peers[slot];
	uint64_t deadline = nvme_deadline(UIO_SPAWN_TIMEOUT_MS * uio_settings.time_scale);
	bool last = false;
	char expected[96];

	do {
		/* Both before the state: it may be reached just now, or just before the end. */
		last = uio_has_ended(slot) || nvme_expired(deadline);
		if (uio_state_reached(peer->state, state)) {
			/* The state before what the secondary wrote ahead of it. */
			rte_rmb();
			return TEST_SUCCESS;
		}
		if (peer->state == UIO_STATE_REFUSED ||
				(state == UIO_STATE_REFUSED && peer->state > state))
			break;
		uio_flow_step(dev);
		rte_delay_us_sleep(UIO_POLL_US);
	} while (!last);

	uio_children[slot].blamed = true;
	snprintf(expected, sizeof(expected), "the secondary (%s) to be %s",
			uio_children[slot].role, names[state]);
	return uio_not_ok(expected, "%s, %s", names[peer->state], uio_end_name(slot));
}

void
uio_go(unsigned int slot)
{
	/* What was written for the secondary to see, before it is told to go on. */
	rte_wmb();
	uio_shared->peers[slot].go = 1;
}

pid_t
uio_pid(unsigned int slot)
{
	return uio_children[slot].pid;
}

void
uio_kill(unsigned int slot, int sig)
{
	if (!uio_has_ended(slot))
		kill(uio_children[slot].pid, sig);
}

int
uio_wait_end(struct uio_dev *dev, unsigned int slot, int end)
{
	uint64_t deadline = nvme_deadline(UIO_SPAWN_TIMEOUT_MS * uio_settings.time_scale);
	char expected[96];
	int status;

	while (!uio_has_ended(slot) && !nvme_expired(deadline)) {
		uio_flow_step(dev);
		rte_delay_us_sleep(UIO_POLL_US);
	}

	status = uio_children[slot].status;
	if (uio_children[slot].ended && end >= 0 && WIFEXITED(status) &&
			WEXITSTATUS(status) == end)
		return TEST_SUCCESS;
	if (uio_children[slot].ended && end < 0 && WIFSIGNALED(status) &&
			WTERMSIG(status) == -end)
		return TEST_SUCCESS;

	uio_children[slot].blamed = true;
	snprintf(expected, sizeof(expected), "the secondary (%s) to end with %s %d",
			uio_children[slot].role, end < 0 ? "signal" : "exit code", abs(end));
	return uio_not_ok(expected, "%s", uio_end_name(slot));
}

int
uio_come_and_go(struct uio_dev *dev, const char *role, int end)
{
	int ret;

	ret = uio_spawn(dev, 0, role, NULL);
	if (ret == TEST_SUCCESS)
		ret = uio_wait_state(dev, 0, UIO_STATE_DONE);
	if (ret != TEST_SUCCESS)
		return ret;
	uio_go(0);

	return uio_wait_end(dev, 0, end);
}

bool
uio_has_said(unsigned int slot, const char *first, const char *second, const char *third)
{
	char line[256];

	rewind(uio_children[slot].log);
	while (fgets(line, sizeof(line), uio_children[slot].log) != NULL) {
		if (strstr(line, first) != NULL && strstr(line, second) != NULL &&
				strstr(line, third) != NULL)
			return true;
	}
	return false;
}

bool
uio_wait_said(struct uio_dev *dev, unsigned int slot, const char *text)
{
	uint64_t deadline = nvme_deadline(UIO_SPAWN_TIMEOUT_MS * uio_settings.time_scale);
	bool last;

	do {
		/* Before what was said: it may be said just before the end. */
		last = uio_has_ended(slot) || nvme_expired(deadline);
		if (text != NULL && uio_has_said(slot, text, "", ""))
			return true;
		uio_flow_step(dev);
		rte_delay_us_sleep(UIO_POLL_US);
	} while (!last);

	return false;
}

void
uio_blame(unsigned int slot)
{
	uio_children[slot].blamed = true;
}

/* Print what a secondary said, away from column 0: those lines are the verdicts'. */
static void
uio_show_log(unsigned int slot)
{
	unsigned int lines = 0;
	char line[256];

	rewind(uio_children[slot].log);
	while (lines++ < UIO_LOG_LINES &&
			fgets(line, sizeof(line), uio_children[slot].log) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		printf("#   %s[%u]: %s\n", uio_children[slot].role, slot, line);
	}
}

/*
 * Let those end by themselves that can: one that is killed may hold a lock in shared memory, which
 * would block this process and all that come later.
 */
static void
uio_ask_to_end(void)
{
	uint64_t deadline = nvme_deadline(UIO_END_TIMEOUT_MS * uio_settings.time_scale);
	unsigned int slot;

	for (slot = 0; slot < UIO_SLOTS; slot++) {
		if (uio_children[slot].pid != 0 && !uio_children[slot].apart)
			uio_go(slot);
	}
	for (slot = 0; slot < UIO_SLOTS; slot++) {
		while (uio_children[slot].pid != 0 && !uio_children[slot].apart &&
				!uio_has_ended(slot) && !nvme_expired(deadline))
			rte_delay_us_sleep(UIO_POLL_US);
	}
}

void
uio_reap(void)
{
	unsigned int slot;

	uio_ask_to_end();
	for (slot = 0; slot < UIO_SLOTS; slot++) {
		if (uio_children[slot].pid != 0 && !uio_has_ended(slot)) {
			kill(uio_children[slot].pid, SIGKILL);
			/* SIGKILL ends it for sure: this wait is short. */
			waitpid(uio_children[slot].pid, &uio_children[slot].status, 0);
		}
		if (uio_children[slot].log != NULL &&
				(uio_children[slot].blamed || uio_settings.verbose))
			uio_show_log(slot);
		uio_forget(slot);
	}
}
