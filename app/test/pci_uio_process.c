/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
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
/*
 * Pause between two looks: none with traffic on a real drive, so that its queue stays full. Each
 * look takes CPU time from the secondaries, in a VM in particular, and so does an emulated drive.
 */
#define UIO_POLL_US 10000
#define UIO_POLL_EMULATED_US 2000
/* Least reads while a secondary lives: a round of the queue at its start, and three more. */
#define UIO_READS_MIN (4 * UIO_DEPTH)
/* Time for a secondary to end by itself when the case is over. */
#define UIO_END_TIMEOUT_MS 3000
#define UIO_LOG_LINES 40

struct uio_shared *uio_shared;

static struct {
	pid_t pid;          /* 0: none */
	bool ended;
	bool is_primary;    /* shares no memory with this process */
	bool show_log;      /* the case failed because of this process */
	int status;         /* as of waitpid() */
	uint32_t reads;     /* of the device when the process started */
	bool traffic;       /* was running then */
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

/*
 * Run this program again, in a role, with no file of this process but the one for its output.
 * Returns 0 or a positive errno. process_dup() of process.h cannot be used: it waits for the child,
 * and this process does I/O meanwhile. posix_spawn() copies neither page tables nor locks.
 */
static int
uio_run_again(pid_t *pid, char *const argv[], const char *role, int output)
{
	posix_spawn_file_actions_t actions;
	struct dirent *entry;
	DIR *dir;
	int ret;

	dir = opendir("/proc/self/fd");
	if (dir == NULL)
		return errno;
	ret = posix_spawn_file_actions_init(&actions);
	if (ret != 0)
		goto close;
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
	/*
	 * An inherited fd on /dev/uioX would be the primary's open file: its close does nothing,
	 * but it would hide what the secondary opens by itself.
	 */
	while ((entry = readdir(dir)) != NULL) {
		if (atoi(entry->d_name) > STDERR_FILENO)
			posix_spawn_file_actions_addclose(&actions, atoi(entry->d_name));
	}
	setenv(RECURSIVE_ENV_VAR, UIO_RECURSIVE_ACTION, 1);
	setenv(UIO_ENV_ROLE, role, 1);
	/* EAL options of this process, which has read them. */
	unsetenv("DPDK_TEST_PARAMS");
	ret = posix_spawn(pid, "/proc/self/exe", &actions, NULL, argv, environ);
	unsetenv(RECURSIVE_ENV_VAR);
	unsetenv(UIO_ENV_ROLE);
	posix_spawn_file_actions_destroy(&actions);
close:
	closedir(dir);

	return ret;
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

/* Free the slot of a process that has ended. */
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
	const char *argv[16] = {
		prgname, a->prefix != NULL ? "--proc-type=primary" : "--proc-type=secondary",
		prefix, "--iova-mode=pa", "--no-telemetry", "-l", cpu,
		"-a", a->allow != NULL ? a->allow : dev->name,
	};
	size_t nb = 9;
	int ret;

	if (a->also != NULL) {
		argv[nb++] = "-a";
		argv[nb++] = a->also;
	}
	argv[nb] = a->option;

	memset(&uio_shared->peers[slot], 0, sizeof(uio_shared->peers[slot]));
	uio_shared->peers[slot].arg = a->arg;
	snprintf(prefix, sizeof(prefix), "--file-prefix=%s",
			a->prefix != NULL ? a->prefix : uio_file_prefix());
	snprintf(cpu, sizeof(cpu), "%d", uio_other_cpu());
	snprintf(env, sizeof(env), "%s,%u,%s,%d", role, slot, dev->name, getpid());

	uio_forget(slot);
	strlcpy(uio_children[slot].role, role, sizeof(uio_children[slot].role));
	uio_children[slot].is_primary = a->prefix != NULL;
	uio_children[slot].log = tmpfile();
	/* Appended to, wherever this process reads: they share the position. */
	if (uio_children[slot].log == NULL ||
			fcntl(fileno(uio_children[slot].log), F_SETFL, O_APPEND) != 0)
		return uio_not_ok("a temporary file for the output of a secondary", "%s",
				strerror(errno));
	uio_children[slot].reads = dev->traffic.reads;
	uio_children[slot].traffic = dev->traffic.running;
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

/* "ended with exit code 1", "ended by signal 9", "still running". */
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

bool
uio_pause(uint64_t deadline)
{
	const struct uio_dev *dev = NULL;
	unsigned int pause_us = UIO_POLL_US;

	uio_traffic_poll();
	while ((dev = uio_next_device(dev)) != NULL) {
		if (dev->traffic.running)
			pause_us = RTE_MIN(pause_us, dev->emulated ? UIO_POLL_EMULATED_US : 0u);
	}
	if (pause_us > 0)
		rte_delay_us_sleep(pause_us);

	return !nvme_expired(deadline) && uio_signal() == 0;
}

/* Fail the case for what a process did or did not do, and show its output. */
static int
uio_process_failed(unsigned int slot, const char *expected, const char *got)
{
	char text[160];

	uio_show_output(slot);
	if (uio_signal() != 0)
		return uio_not_ok("no signal", "signal %d, which ends the test", uio_signal());
	snprintf(text, sizeof(text), "the secondary (%s) to %s", uio_children[slot].role, expected);
	return uio_not_ok(text, "%s%s%s", got, got[0] != '\0' ? ", " : "", uio_end_name(slot));
}

static const char *
uio_state_name(uint32_t state)
{
	static const char * const names[] = {
		[UIO_STATE_NONE] = "starting",
		[UIO_STATE_STARTED] = "started",
		[UIO_STATE_ATTACHING] = "attaching",
		[UIO_STATE_ATTACHED] = "attached",
		[UIO_STATE_DONE] = "done",
	};

	return state < RTE_DIM(names) ? names[state] : "without the device";
}

/* The probe without the device is the end of a way: it leads to no later state. */
static bool
uio_state_reached(uint32_t now, enum uio_state wanted)
{
	if (wanted == UIO_STATE_NOT_ATTACHED || now == UIO_STATE_NOT_ATTACHED)
		return now == wanted || wanted <= UIO_STATE_STARTED;
	return now >= wanted;
}

int
uio_wait_state(struct uio_dev *dev __rte_unused, unsigned int slot, enum uio_state state)
{
	struct uio_peer *peer = &uio_shared->peers[slot];
	const uint64_t deadline = uio_deadline(UIO_SPAWN_TIMEOUT_MS);
	char expected[48];
	bool last;

	do {
		/* Before the state: it may be reached just before the end. */
		last = uio_has_ended(slot);
		if (uio_state_reached(peer->state, state)) {
			/* The state before what the secondary wrote ahead of it. */
			rte_rmb();
			return TEST_SUCCESS;
		}
		if (peer->state == UIO_STATE_NOT_ATTACHED ||
				(state == UIO_STATE_NOT_ATTACHED &&
				peer->state >= UIO_STATE_ATTACHED))
			break;
	} while (!last && uio_pause(deadline));

	snprintf(expected, sizeof(expected), "be %s", uio_state_name(state));
	return uio_process_failed(slot, expected, uio_state_name(peer->state));
}

int
uio_start(struct uio_dev *dev, unsigned int slot, const char *role,
		const struct uio_spawn_args *args, enum uio_state state)
{
	int ret = uio_spawn(dev, slot, role, args);

	return ret == TEST_SUCCESS ? uio_wait_state(dev, slot, state) : ret;
}

void
uio_finish(unsigned int slot)
{
	/* What was written for the secondary to see, before it goes on. */
	rte_wmb();
	uio_shared->peers[slot].finish = 1;
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

void
uio_kill_all(void)
{
	unsigned int slot;

	for (slot = 0; slot < UIO_SLOTS; slot++) {
		if (uio_children[slot].pid != 0 && !uio_children[slot].ended)
			kill(uio_children[slot].pid, SIGKILL);
	}
}

int
uio_wait_end(struct uio_dev *dev, unsigned int slot, int end)
{
	const uint64_t deadline = uio_deadline(UIO_SPAWN_TIMEOUT_MS);
	char expected[48];
	uint32_t reads;
	int status;

	while (!uio_has_ended(slot) && uio_pause(deadline))
		;

	status = uio_children[slot].status;
	if (!uio_children[slot].ended || (end >= 0 ?
			!WIFEXITED(status) || WEXITSTATUS(status) != end :
			!WIFSIGNALED(status) || WTERMSIG(status) != -end)) {
		snprintf(expected, sizeof(expected), "end with %s %d",
				end < 0 ? "signal" : "exit code", abs(end));
		return uio_process_failed(slot, expected, uio_shared->peers[slot].what);
	}

	/* Without traffic beside the secondary the case would show little. */
	reads = dev->traffic.reads - uio_children[slot].reads;
	if (uio_children[slot].traffic && dev->traffic.running &&
			dev->traffic.error[0] == '\0' && reads < UIO_READS_MIN)
		return uio_not_ok("traffic while the secondary lived", "%u reads", reads);
	return TEST_SUCCESS;
}

int
uio_end(struct uio_dev *dev, unsigned int slot, int end)
{
	uio_finish(slot);
	return uio_wait_end(dev, slot, end);
}

int
uio_run_secondary(struct uio_dev *dev, const char *role, int end)
{
	int ret = uio_start(dev, 0, role, NULL, UIO_STATE_DONE);

	return ret == TEST_SUCCESS ? uio_end(dev, 0, end) : ret;
}

bool
uio_output_has(unsigned int slot, const char *first, const char *second, const char *third)
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
uio_wait_output(unsigned int slot, const char *text)
{
	const uint64_t deadline = uio_deadline(UIO_SPAWN_TIMEOUT_MS);
	bool last;

	do {
		/* Before the output: a line may come just before the end. */
		last = uio_has_ended(slot);
		if (text != NULL && uio_output_has(slot, text, "", ""))
			return true;
	} while (!last && uio_pause(deadline));

	return false;
}

void
uio_show_output(unsigned int slot)
{
	uio_children[slot].show_log = true;
}

/* Print the output of a secondary, away from column 0: those lines are the verdicts'. */
static void
uio_print_log(unsigned int slot)
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
 * Let the secondaries end by themselves that can: one that is killed may hold a lock in shared
 * memory, which would block this process and all that come later.
 */
static void
uio_ask_to_end(void)
{
	const uint64_t deadline = uio_deadline(UIO_END_TIMEOUT_MS);
	unsigned int slot;

	for (slot = 0; slot < UIO_SLOTS; slot++) {
		if (uio_children[slot].pid != 0 && !uio_children[slot].is_primary)
			uio_finish(slot);
	}
	for (slot = 0; slot < UIO_SLOTS; slot++) {
		while (uio_children[slot].pid != 0 && !uio_children[slot].is_primary &&
				!uio_has_ended(slot) && !nvme_expired(deadline)) {
			uio_traffic_poll();
			rte_delay_us_sleep(UIO_POLL_EMULATED_US);
		}
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
				(uio_children[slot].show_log || uio_settings.verbose))
			uio_print_log(slot);
		uio_forget(slot);
	}
}
