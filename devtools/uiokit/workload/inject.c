/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Run a program, and inject when one of its threads is about to make its Nth system call of a kind:
 *
 *   inject kill|short <number of the system call> <N> <thread> <program> [<argument> ...]
 *
 * Threads are numbered in the order in which they are made, the first one is 0.
 *
 * kill:  by SIGKILL, as does `strace --inject=NAME:signal=SIGKILL:when=N`, which stops the program
 *        twice at each and every system call. A seccomp filter stops it at those in question alone:
 *        strace can have one, too, but then its signals are lost. In the lab a program of 1800
 *        system calls takes 0.15 s instead of 1.
 * short: by asking for one byte where it reads more; says "inject: short" on stderr. strace can only
 *        tell of one byte, and then leaves both the buffer and the place in the file as they were.
 *
 * It ends as the program does, by SIGKILL as well; 2: usage, 69: no way to trace.
 */

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
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define INJECT_THREADS 64

/* In the order in which they were made. */
static struct inject_thread {
	pid_t tid;
	unsigned long calls;
} threads[INJECT_THREADS];

static int
broken(const char *what)
{
	fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
	return 69;
}

/* A thread, be it a new one; NULL when there are too many. */
static struct inject_thread *
thread_of(pid_t tid)
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

/* In the child: stop at that system call, in this program and in what it executes. */
static int
filter(unsigned int number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	/* Without this only root may have a filter. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void
inject_dead(pid_t tid)
{
	kill(tid, SIGKILL); /* with all threads of its process */
}

/* Of read() and pread(): let it ask for a single byte. */
static void
inject_short(pid_t tid)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, tid, NULL, &regs) != 0)
		return;
	regs.rdx = 1;
	if (ptrace(PTRACE_SETREGS, tid, NULL, &regs) == 0)
		fprintf(stderr, "inject: short\n");
}

/* Let it run, and inject; the status of waitpid() it ended with. */
static int
follow(pid_t child, unsigned long nth, unsigned long which, void (*inject)(pid_t tid))
{
	struct inject_thread *thread;
	unsigned long made;
	int status, sig;
	pid_t tid;

	thread_of(child);
	while ((tid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (tid == child)
				return status;
			continue;
		}
		sig = WSTOPSIG(status);
		thread = thread_of(tid);
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
			if (thread != NULL && ++thread->calls == nth && thread == &threads[which])
				inject(tid);
			sig = 0;
		} else if (status >> 8 == (SIGTRAP | PTRACE_EVENT_CLONE << 8)) {
			/* Before its maker goes on and makes another one, which may run first. */
			if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &made) == 0)
				thread_of(made);
			sig = 0;
		} else if (status >> 16 != 0 || sig == SIGSTOP || sig == SIGTRAP) {
			sig = 0; /* a thread's start, or an exec: nothing that the program should see */
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
				filter(atoi(argv[2])) != 0)
			_exit(broken("cannot be traced"));
		execv(argv[5], argv + 5);
		_exit(broken(argv[5]));
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
			ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(long)(PTRACE_O_EXITKILL |
			PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
			PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC)) != 0)
		return broken("cannot trace");
	ptrace(PTRACE_CONT, child, NULL, NULL);
	status = follow(child, strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10),
			strcmp(argv[1], "kill") == 0 ? inject_dead : inject_short);
	if (status < 0)
		return broken("lost the program");
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		kill(getpid(), WTERMSIG(status));
		pause();
	}
	return WEXITSTATUS(status);
}
