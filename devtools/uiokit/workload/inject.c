/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Fault injector: run a program and disturb the Nth call of one system call in one of its threads.
 *
 *   inject kill|short <number of the system call> <N> <thread> <program> [<argument> ...]
 *
 * Threads are numbered in the order of their creation; the main thread is 0.
 *
 * kill:  kill the process by SIGKILL before the call. `strace --inject=NAME:signal=SIGKILL:when=N`
 *        does the same, but stops the program twice at every system call, whatever its name. The
 *        seccomp filter used here stops the program only at the calls with the given number; with
 *        its own seccomp filter, strace loses the signals that it injects. A program with 1800
 *        system calls takes 0.15 s in the lab instead of 1 s.
 * short: reduce the length of a read() or pread() to one byte, and print "inject: short" to stderr.
 *        strace can only change the return value to 1, and then the buffer stays empty and the file
 *        offset unchanged.
 *
 * Exit status: that of the program, including its death by a signal; 2 usage error; 69 the program
 * cannot be traced.
 */

#include <elf.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define INJECT_THREADS 64

/* In struct user_regs_struct: the third argument of a system call. */
#ifdef __aarch64__
#define THIRD_ARGUMENT regs[2]
#else
#define THIRD_ARGUMENT rdx
#endif

/* In the order of their creation. */
static struct inject_thread {
	pid_t tid;
	unsigned long calls;
} threads[INJECT_THREADS];

static int
fail(const char *what)
{
	fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
	return 69;
}

/* Find a thread, or add it; NULL if there are too many. */
static struct inject_thread *
find_thread(pid_t tid)
{
	unsigned int i;

	for (i = 0; i < INJECT_THREADS; i++) {
		if (threads[i].tid == tid || threads[i].tid == 0) {
			threads[i].tid = tid;
			return &threads[i];
		}
	}
	return NULL;
}

/* In the child: stop at this system call, before and after exec(). */
static int
install_filter(unsigned int number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	/* Without it, only root may install a filter. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void
inject_kill(pid_t tid)
{
	kill(tid, SIGKILL);
}

/* The third argument of read() and pread() is the length. */
static void
inject_short(pid_t tid)
{
	struct user_regs_struct found;
	struct iovec registers = { .iov_base = &found, .iov_len = sizeof(found) };

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &registers) != 0)
		return;
	found.THIRD_ARGUMENT = 1;
	if (ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &registers) == 0)
		fprintf(stderr, "inject: short\n");
}

/* Trace the program to its end and inject on the way; return its wait status. */
static int
trace(pid_t child, unsigned long nth, unsigned long which, void (*inject)(pid_t tid))
{
	struct inject_thread *thread;
	unsigned long created;
	int status, sig;
	pid_t tid;

	find_thread(child);
	while ((tid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (tid == child)
				return status;
			continue;
		}
		sig = WSTOPSIG(status);
		thread = find_thread(tid);
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
			if (thread != NULL && ++thread->calls == nth && thread == &threads[which])
				inject(tid);
			sig = 0;
		} else if (status >> 8 == (SIGTRAP | PTRACE_EVENT_CLONE << 8)) {
			/* Number the new thread now: a later one may run before it. */
			if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &created) == 0)
				find_thread(created);
			sig = 0;
		} else if (status >> 16 != 0 || sig == SIGSTOP || sig == SIGTRAP) {
			sig = 0; /* start of a thread, or exec: not for the program */
		}
		ptrace(PTRACE_CONT, tid, NULL, (void *)(long)sig);
	}
	return -1;
}

int
main(int argc, char **argv)
{
	pid_t child;
	int status;

	if (argc < 6 || (strcmp(argv[1], "kill") != 0 && strcmp(argv[1], "short") != 0) ||
			strtoul(argv[4], NULL, 10) >= INJECT_THREADS) {
		fprintf(stderr, "usage: inject kill|short <number> <N> <thread> <program> "
				"[<argument> ...]\n");
		return 2;
	}
	child = fork();
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0 ||
				install_filter(atoi(argv[2])) != 0)
			_exit(fail("cannot be traced"));
		execv(argv[5], argv + 5);
		_exit(fail(argv[5]));
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
			ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(long)(PTRACE_O_EXITKILL |
			PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
			PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC)) != 0)
		return fail("cannot trace");
	ptrace(PTRACE_CONT, child, NULL, NULL);
	status = trace(child, strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10),
			strcmp(argv[1], "kill") == 0 ? inject_kill : inject_short);
	if (status < 0)
		return fail("lost the program");
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		kill(getpid(), WTERMSIG(status));
		pause();
	}
	return WEXITSTATUS(status);
}
