/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* Secondaries: how the primary starts and ends them, and what runs in them. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_atomic.h>
#include <rte_bus.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_test.h"

/* Time for a secondary to reach a state or to end; its whole life is some tenths of a second. */
#define UIO_SPAWN_TIMEOUT_MS 30000
/* Time for files of the primary to arrive in it, and to be closed. */
#define UIO_FILES_TIMEOUT_MS 10000
/*
 * Pause between two looks: none with traffic on a real drive, so that its queue stays full. Each
 * look takes CPU time from the secondaries, in a VM in particular, and so does an emulated drive.
 */
#define UIO_POLL_US 10000
#define UIO_POLL_EMULATED_US 5000
/* The same in a secondary: eight that wait to end must leave the CPU to those that work. */
#define UIO_POLL_STEP_US 1000
#define UIO_POLL_FINISH_US 5000
/* Least reads while a secondary lives: a round of the queue at its start, and one sent then. */
#define UIO_READS_MIN (2 * UIO_DEPTH)
/* Time for a secondary to end by itself when the case is over. */
#define UIO_END_TIMEOUT_MS 3000
/* A secondary that waits so long for its primary ends by itself. */
#define UIO_ABANDONED_MS 60000
#define UIO_LOG_LINES 40

/* Exit codes beside 0. */
#define UIO_EXIT_FAILED 1
#define UIO_EXIT_ABANDONED 3

struct uio_shared *uio_shared;
static int uio_shared_fd;

static struct uio_child {
	pid_t pid;          /* 0: none */
	bool ended;
	bool show_log;      /* the case failed because of this process */
	int end;            /* exit code, or negative signal number */
	int opens;          /* inotify watch of /dev/uioX */
	const struct uio_traffic *traffic; /* that was running when the process started, or NULL */
	uint32_t reads;     /* of the traffic then */
	char role[32];
	FILE *log;          /* stdout and stderr */
} uio_children[UIO_SLOTS];

static bool
uio_shared_map(void)
{
	void *addr = mmap(NULL, sizeof(*uio_shared), PROT_READ | PROT_WRITE, MAP_SHARED,
			uio_shared_fd, 0);

	uio_shared = addr != MAP_FAILED ? addr : NULL;
	return uio_shared != NULL;
}

bool
uio_shared_reserve(void)
{
	uio_shared_fd = memfd_create("pci_uio_secondary", 0);
	return uio_expect(uio_shared_fd >= 0 &&
			ftruncate(uio_shared_fd, sizeof(*uio_shared)) == 0 && uio_shared_map(),
			"memory to share with secondaries, got %s", strerror(errno));
}

void
uio_shared_free(void)
{
	if (uio_shared == NULL)
		return;
	munmap(uio_shared, sizeof(*uio_shared));
	uio_shared = NULL;
	close(uio_shared_fd);
}

/*
 * Run this program again, in a role; returns its PID or -1. process_dup() of process.h waits for
 * the end of the process, and this one does I/O meanwhile.
 */
static pid_t
uio_run_again(char *const argv[], const char *role, int output)
{
	const struct rlimit no_core = { 0, 0 };
	const pid_t parent = getpid(), pid = fork();
	struct dirent *entry;
	DIR *dir;
	int fd;

	if (pid != 0)
		return pid;
	/* If this process is killed, nothing may go on to use the device. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(UIO_EXIT_FAILED);
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	/*
	 * An inherited fd on /dev/uioX would be the primary's open file: its close does nothing,
	 * but it would hide what the secondary opens by itself.
	 */
	dir = opendir("/proc/self/fd");
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		fd = atoi(entry->d_name);
		if (fd > STDERR_FILENO && fd != uio_shared_fd)
			fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
	setrlimit(RLIMIT_CORE, &no_core);
	setenv(RECURSIVE_ENV_VAR, UIO_RECURSIVE_ACTION, 1);
	setenv(UIO_ENV_ROLE, role, 1);
	/* EAL options of this process, which has read them. */
	unsetenv("DPDK_TEST_PARAMS");
	execv("/proc/self/exe", argv);
	_exit(UIO_EXIT_FAILED);
}

/* Free the slot of a process that has ended. */
static void
uio_forget(unsigned int slot)
{
	struct uio_child *child = &uio_children[slot];

	if (child->log != NULL) {
		fclose(child->log);
		close(child->opens);
	}
	memset(child, 0, sizeof(*child));
}

/* Append the options -d of this process: its secondaries need the same drivers. */
static void
uio_add_plugins(const char **argv, size_t nb, size_t max)
{
	static char cmdline[4096];
	const char *arg, *before = "";
	size_t len = 0;
	FILE *f;

	f = fopen("/proc/self/cmdline", "r");
	if (f != NULL) {
		len = fread(cmdline, 1, sizeof(cmdline) - 1, f);
		fclose(f);
	}
	for (arg = cmdline; arg < cmdline + len && nb < max; arg += strlen(arg) + 1) {
		if (strncmp(arg, "-d", 2) == 0 || strcmp(before, "-d") == 0)
			argv[nb++] = arg;
		before = arg;
	}
}

bool
uio_spawn(struct uio_dev *dev, unsigned int slot, const char *role,
		const struct uio_spawn_args *args)
{
	static const struct uio_spawn_args none;
	const struct uio_spawn_args *a = args != NULL ? args : &none;
	struct uio_child *child = &uio_children[slot];
	const char *primary = uio_find_role(role)->primary;
	const char *prefix = a->prefix != NULL ? a->prefix :
		strrchr(rte_eal_get_runtime_dir(), '/') + 1;
	/* Another CPU than this thread's, if there is one. */
	const unsigned int lcore = rte_get_next_lcore(-1, 1, 0);
	char prefix_arg[PATH_MAX], cpu[16], env[128];
	const char *argv[32] = {
		prgname, primary != NULL ? "--proc-type=primary" : "--proc-type=secondary",
		primary != NULL ? primary : prefix_arg, "--iova-mode=pa", "--no-telemetry",
		"-l", cpu, "-a", a->allow != NULL ? a->allow : dev->name,
	};
	size_t nb = 9;

	if (!uio_ok())
		return false;
	if (a->option != NULL)
		argv[nb++] = a->option;
	uio_add_plugins(argv, nb, RTE_DIM(argv) - 1);
	snprintf(prefix_arg, sizeof(prefix_arg), "--file-prefix=%s", prefix);
	snprintf(cpu, sizeof(cpu), "%d",
			rte_lcore_to_cpu_id(lcore < RTE_MAX_LCORE ? (int)lcore : -1));
	snprintf(env, sizeof(env), "%s,%u,%s,%d", role, slot, dev->name, uio_shared_fd);

	memset(&uio_shared->peers[slot], 0, sizeof(uio_shared->peers[slot]));
	uio_shared->peers[slot].arg = a->arg;
	uio_forget(slot);
	child->opens = -1;
	strlcpy(child->role, role, sizeof(child->role));
	child->log = tmpfile();
	/* Appended to, wherever this process reads: they share the position. */
	if (!uio_expect(child->log != NULL && fcntl(fileno(child->log), F_SETFL, O_APPEND) == 0,
			"a temporary file for the output of a secondary, got %s", strerror(errno)))
		return false;
	child->opens = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (inotify_add_watch(child->opens, dev->uio_path, IN_OPEN) < 0) {
		close(child->opens);
		child->opens = -1;
	}
	child->traffic = dev->traffic.running ? &dev->traffic : NULL;
	child->reads = dev->traffic.reads;
	child->pid = uio_run_again((char *const *)(uintptr_t)argv, env, fileno(child->log));
	if (child->pid > 0)
		return true;
	child->pid = 0;
	return uio_expect(false, "a secondary to start, got %s", strerror(errno));
}

static bool
uio_has_ended(unsigned int slot)
{
	struct uio_child *child = &uio_children[slot];
	int status;

	if (!child->ended && waitpid(child->pid, &status, WNOHANG) == child->pid) {
		child->end = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
		child->ended = true;
	}
	return child->ended;
}

bool
uio_pause(uint64_t deadline)
{
	const struct uio_dev *dev;
	unsigned int pause_us = UIO_POLL_US;

	uio_traffic_poll();
	UIO_FOREACH_DEVICE(dev) {
		if (dev->traffic.running)
			pause_us = RTE_MIN(pause_us, dev->emulated ? UIO_POLL_EMULATED_US : 0u);
	}
	if (pause_us > 0)
		rte_delay_us_sleep(pause_us);

	return !nvme_expired(deadline) && uio_signal_number == 0;
}

/* Fail the case for what a process did or did not do, and show its output. */
static bool
uio_process_failed(unsigned int slot, const char *expected, const char *got)
{
	struct uio_child *child = &uio_children[slot];
	char end[48] = "still running";

	child->show_log = true;
	if (child->ended)
		snprintf(end, sizeof(end), "ended %s %d",
				child->end < 0 ? "by signal" : "with exit code", abs(child->end));
	return uio_expect(false, "the secondary (%s) to %s, got %s%s%s", child->role, expected,
			got, got[0] != '\0' ? ", " : "", end);
}

bool
uio_wait_state(unsigned int slot, enum uio_state wanted)
{
	static const char * const names[] = {
		"starting", "started", "attaching", "attached", "without the device",
	};
	const struct uio_peer *peer = &uio_shared->peers[slot];
	const uint64_t deadline = uio_deadline(UIO_SPAWN_TIMEOUT_MS);
	char expected[48];
	enum uio_state now;
	bool last;

	if (!uio_ok())
		return false;
	do {
		/* Before the state: it may be reached just before the end. */
		last = uio_has_ended(slot);
		now = peer->state;
		if (now == wanted || (now > wanted && now != UIO_STATE_NOT_ATTACHED)) {
			/* The state before what the secondary wrote ahead of it. */
			rte_rmb();
			return true;
		}
		/* No other state follows these. */
	} while (now < UIO_STATE_DONE && !last && uio_pause(deadline));

	snprintf(expected, sizeof(expected), "be %s", names[wanted]);
	/* The role may have said why it ended. */
	return uio_process_failed(slot, expected, last && peer->what[0] != '\0' ? peer->what :
			names[now]);
}

bool
uio_start(struct uio_dev *dev, unsigned int slot, const char *role,
		const struct uio_spawn_args *args, enum uio_state state)
{
	return uio_spawn(dev, slot, role, args) && uio_wait_state(slot, state);
}

/* Let a secondary end. */
static void
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
	if (uio_children[slot].pid != 0 && !uio_has_ended(slot))
		kill(uio_children[slot].pid, sig);
}

bool
uio_wait_end(unsigned int slot, int end)
{
	const struct uio_child *child = &uio_children[slot];
	const uint64_t deadline = uio_deadline(UIO_SPAWN_TIMEOUT_MS);
	char expected[48];
	uint32_t reads;

	if (!uio_ok())
		return false;
	while (!uio_has_ended(slot) && uio_pause(deadline))
		;
	if (!child->ended || child->end != end) {
		snprintf(expected, sizeof(expected), "end with %s %d",
				end < 0 ? "signal" : "exit code", abs(end));
		return uio_process_failed(slot, expected, uio_shared->peers[slot].what);
	}

	/* Without traffic beside the secondary the case would show little. */
	if (child->traffic == NULL || !child->traffic->running || child->traffic->error[0] != '\0')
		return true;
	reads = child->traffic->reads - child->reads;
	return uio_expect(reads >= UIO_READS_MIN, "traffic while the secondary lived, got %u reads",
			reads);
}

bool
uio_end(unsigned int slot, int end)
{
	uio_finish(slot);
	return uio_wait_end(slot, end);
}

bool
uio_run_secondary(struct uio_dev *dev, unsigned int slot, const char *role)
{
	return uio_start(dev, slot, role, NULL, UIO_STATE_DONE) && uio_end(slot, 0);
}

bool
uio_expect_nothing_left(unsigned int slot)
{
	const struct uio_peer *peer = &uio_shared->peers[slot];

	uio_expect(peer->uio_fds == 0, "no fd on /dev/uio*, got %s", peer->uio_file);
	return uio_expect(peer->device_fds == 0 && peer->device_maps == 0 && peer->device_bars == 0,
			"no fd, no mapping, no BAR address of the device, got %d fds, %d "
			"mappings, %d addresses", peer->device_fds, peer->device_maps,
			peer->device_bars);
}

bool
uio_expect_no_open(unsigned int slot)
{
	/* A watch on a file, not on a directory: no name follows an event. */
	struct inotify_event events[32];
	ssize_t len = read(uio_children[slot].opens, events, sizeof(events));

	return uio_expect(len < 0 && errno == EAGAIN, "no open() of /dev/uioX, got %s",
			len < 0 ? "no watch" : "at least one");
}

bool
uio_expect_output(unsigned int slot, const char *pattern)
{
	const uint64_t deadline = uio_deadline(UIO_SPAWN_TIMEOUT_MS);
	struct uio_child *child = &uio_children[slot];
	char line[256];
	bool last;

	if (!uio_ok())
		return false;
	do {
		/* Before the output: a line may come just before the end. */
		last = uio_has_ended(slot);
		rewind(child->log);
		while (fgets(line, sizeof(line), child->log) != NULL) {
			if (fnmatch(pattern, line, 0) == 0)
				return true;
		}
	} while (!last && uio_pause(deadline));

	child->show_log = true;
	return uio_expect(false, "%s to be printed, got no such line", pattern);
}

bool
uio_wait_files(unsigned int slot, const char *pattern, bool some)
{
	const uint64_t deadline = uio_deadline(UIO_FILES_TIMEOUT_MS);
	char process[16];

	snprintf(process, sizeof(process), "%d", uio_pid(slot));
	while (uio_ok() && (uio_count_fds(process, pattern, NULL, 0) > 0) != some) {
		if (uio_has_ended(slot) || !uio_pause(deadline))
			uio_process_failed(slot, some ? "have a file open" : "close a file",
					pattern);
	}
	return uio_ok();
}

void
uio_reap(void)
{
	const uint64_t deadline = uio_deadline(UIO_END_TIMEOUT_MS);
	unsigned int slot, lines;
	struct uio_child *child;
	char line[256];

	for (slot = 0; slot < UIO_SLOTS; slot++) {
		if (uio_children[slot].pid != 0)
			uio_finish(slot);
	}
	for (slot = 0; slot < UIO_SLOTS; slot++) {
		child = &uio_children[slot];
		/*
		 * Let it end by itself if it can: a secondary that is killed may hold a lock in
		 * shared memory, which would block this process and all that come later.
		 */
		while (child->pid != 0 && !uio_has_ended(slot) && !nvme_expired(deadline))
			uio_pause(deadline);
		uio_kill(slot, SIGKILL);
		/* SIGKILL ends it for sure: this wait is short. */
		if (child->pid != 0 && !child->ended)
			waitpid(child->pid, NULL, 0);
		if (child->show_log)
			rewind(child->log);
		for (lines = 0; child->show_log && lines < UIO_LOG_LINES &&
				fgets(line, sizeof(line), child->log) != NULL; lines++) {
			/* Away from column 0: those lines are the verdicts'. */
			line[strcspn(line, "\n")] = '\0';
			printf("#   %s[%u]: %s\n", child->role, slot, line);
		}
		uio_forget(slot);
	}
}

/* In a secondary. */

static struct uio_peer *uio_peer;
static const struct uio_role *uio_role;
static char uio_device_name[PCI_PRI_STR_SIZE + 1];
static struct rte_pci_device *uio_attached;

void
uio_set_state(enum uio_state state)
{
	/* What was written before must be visible to the primary when it sees the state. */
	rte_wmb();
	uio_peer->state = state;
}

/* Find what the environment says that this process is. */
static bool
uio_find_role_and_peer(void)
{
	const char *text = getenv(UIO_ENV_ROLE);
	unsigned int slot = UIO_SLOTS;
	char name[32];

	if (sscanf(text, "%31[^,],%u,%17[^,],%d", name, &slot, uio_device_name,
			&uio_shared_fd) == 4)
		uio_role = uio_find_role(name);
	if (uio_role == NULL || slot >= UIO_SLOTS || !uio_shared_map()) {
		printf(UIO_ENV_ROLE "=%s is not \"role,slot,device,shared memory\"\n", text);
		return false;
	}
	uio_peer = &uio_shared->peers[slot];
	return true;
}

static bool
uio_accept(struct rte_pci_device *pci)
{
	/* With UIO_ATTACH_INIT this is before uio_role_main(). */
	if (uio_peer == NULL && !uio_find_role_and_peer())
		return false;
	if (strcmp(pci->name, uio_device_name) != 0) {
		uio_peer->result[0] += uio_role->all_devices;
		return uio_role->all_devices;
	}
	uio_attached = pci;
	/* Hotplug may attach the device again later, in another thread. */
	if (uio_peer->state < UIO_STATE_ATTACHING)
		uio_set_state(UIO_STATE_ATTACHING);
	if (uio_role->kill_in_probe)
		raise(SIGKILL);

	return true;
}

/* A driver that is linked in registers before rte_eal_init(), which then attaches. */
RTE_INIT(uio_register_before_init)
{
	const char *role = getenv(UIO_ENV_ROLE);

	if (role != NULL && strncmp(role, "attach_init", strlen("attach_init")) == 0)
		uio_driver_register(uio_accept, true);
}

/* The device on the bus, or NULL. */
static struct rte_pci_device *
uio_find_pci(const char *name)
{
	struct rte_pci_device *found = NULL;
	struct rte_dev_iterator iterator;
	struct rte_device *dev;

	RTE_DEV_FOREACH(dev, "bus=pci", &iterator) {
		if (strcmp(dev->name, name) == 0)
			found = container_of(dev, struct rte_pci_device, device);
	}
	return found;
}

/* Report what this process has of the device. */
static void
uio_report_resources(void)
{
	const struct rte_pci_device *pci = uio_find_pci(uio_device_name);
	const uint64_t deadline = uio_deadline(1000);
	char part[32], file[40];

	snprintf(part, sizeof(part), "/%s/", uio_device_name);
	snprintf(file, sizeof(file), "*%s*", part);
	uio_peer->device_maps = uio_count_maps(part);
	uio_peer->device_bars = pci != NULL ? uio_count_bars(pci) : 0;
	/* After a detach, EAL closes files of the primary that arrive late. */
	do {
		uio_peer->uio_fds = uio_count_fds("self", "/dev/uio*", uio_peer->uio_file,
				sizeof(uio_peer->uio_file));
		uio_peer->device_fds = uio_count_fds("self", file, NULL, 0);
		rte_delay_us_sleep(1000);
	} while (uio_role->work != NULL && uio_peer->uio_fds + uio_peer->device_fds > 0 &&
			uio_peer->device_bars == 0 && !nvme_expired(deadline));
}

static int
uio_attach(void)
{
	const uint64_t start = rte_get_timer_cycles();
	int ret = 0;

	if (uio_role->attach == UIO_ATTACH_NONE)
		return 0;
	if (uio_role->attach != UIO_ATTACH_INIT)
		uio_driver_register(uio_accept, !uio_role->leave_unmapped);
	if (uio_role->attach == UIO_ATTACH_HOTPLUG)
		ret = rte_eal_hotplug_add("pci", uio_device_name, "");
	if (uio_role->attach == UIO_ATTACH_PROBE) {
		rte_errno = 0;
		rte_bus_probe();
		uio_peer->probe_errno = rte_errno;
	}
	uio_peer->attach_us = (rte_get_timer_cycles() - start) * 1000000 / rte_get_timer_hz();

	return ret;
}

bool
uio_wait_primary(const volatile uint32_t *flag)
{
	const uint64_t deadline = uio_deadline(UIO_ABANDONED_MS);

	while (*flag == 0 && uio_peer->finish == 0 && !nvme_expired(deadline))
		rte_delay_us_sleep(flag == &uio_peer->finish ? UIO_POLL_FINISH_US :
				UIO_POLL_STEP_US);
	/* The flag before what the primary wrote ahead of it. */
	rte_rmb();

	return *flag != 0;
}

static int
uio_role_failed(const char *step)
{
	printf("%s: role %s failed %s\n", uio_device_name, uio_role->name, step);
	return UIO_EXIT_FAILED;
}

int
uio_role_main(void)
{
	if (uio_peer == NULL && !uio_find_role_and_peer())
		return UIO_EXIT_FAILED;
	if (uio_role->before != NULL && uio_role->before(uio_peer, uio_device_name) != 0)
		return uio_role_failed("before the attach");
	if (uio_attached == NULL)
		uio_set_state(UIO_STATE_STARTED);
	if (uio_attach() != 0)
		return uio_role_failed("to attach");
	if (uio_attached != NULL && uio_role->work != NULL &&
			uio_role->work(uio_peer, uio_attached) != 0)
		return uio_role_failed("after the attach");
	uio_report_resources();
	uio_set_state(uio_attached != NULL ? UIO_STATE_DONE : UIO_STATE_NOT_ATTACHED);

	if (!uio_wait_primary(&uio_peer->finish)) {
		printf("timed out waiting for the primary\n");
		return UIO_EXIT_ABANDONED;
	}
	if (uio_role->end != NULL)
		uio_role->end(EXIT_SUCCESS);
	return EXIT_SUCCESS;
}
