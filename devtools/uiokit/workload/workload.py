# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: start, query and stop processes of the workload. See workload.h."""

import collections
import dataclasses
import json
import os
import re
import select
import signal
import subprocess
import time

DRIVES = os.environ.get("LAB_NVME", "").split()
# Each variant is a folder in the guest with DPDK's libraries and app/uio_workload.
PATCHED, STOCK = "patched", "stock"
DEADLINE = 60
LAST_CPU = os.cpu_count() - 1


class NoVerdict(Exception):
    """A process hangs or fails although nothing was injected into it."""


def program(variant, kind, drives, cpu, options):
    return [f"/{variant}/app/uio_workload", f"--proc-type={kind}", "--iova-mode=pa",
            "--no-telemetry", "--log-level=error", "-l", str(cpu),
            *(word for drive in drives for word in ("-a", drive)), *options]


class Process:
    """A running process, and its output that has not been returned yet."""

    def launch(self, argv, **more):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        bufsize=0, **more)
        self.output = bytearray()

    def wait_for(self, text, within=DEADLINE):
        """Whether its output contains the text before a deadline."""
        deadline = time.monotonic() + within
        while text.encode() not in self.output:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return False
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return False
            self.output += data
        return True

    def kill(self):
        self.process.kill()
        return self.process.wait()


class Primary(Process):
    """A primary process, which reads from its drives all the time.

    interval: microseconds between two rounds of reads. A read takes 0.4 ms of an emulated
    processor, which the other processes share. wait: it attaches the drives only when a line
    arrives on its stdin. queues: queue pairs for secondaries, which go on when it ends. before:
    words before its command line, such as strace's.
    """

    def __init__(self, variant, drives=None, interval=20000, eal=(), wait=False, queues=0,
                 before=()):
        self.variant, self.eal, self.before = variant, eal, before
        self.options = ["--interval", str(interval), *["--wait"] * wait,
                        *["--queues", str(queues)] * (queues > 0)]
        self.drives = DRIVES if drives is None else drives
        self.start()

    def start(self):
        argv = [*self.before, *program(self.variant, "primary", self.drives, 0,
                                       [*self.eal, "--", *self.options])]
        # Not a pipe, which would fill up: stderr is read only if the start fails.
        errors = os.fdopen(os.memfd_create("errors"), "w+b", buffering=0)
        self.launch(argv, stderr=errors)
        answer = self.answer()
        if not answer.keys() & {"ready", "waiting"}:
            self.kill()
            errors.seek(0)
            lines = errors.read().decode(errors="replace").splitlines()
            raise NoVerdict("the primary did not start: " +
                            "; ".join([answer.get("failed", "no output"), *lines]))

    def send(self, command):
        self.process.stdin.write(f"{command}\n".encode())

    def answer(self):
        """The next line of its output; {} if none arrives in time."""
        if not self.wait_for("\n"):
            return {}
        line, _, self.output = self.output.partition(b"\n")
        return json.loads(line)

    def ask(self, command):
        """The answer to a command (primary.c); {} if there is none."""
        try:
            self.send(command)
        except BrokenPipeError:
            return {}
        return self.answer()

    def check(self, command="check"):
        """Sentences that say what is wrong with the drives; [] if nothing is."""
        answer = self.ask(command)
        if "errors" not in answer:
            return ["the primary does not answer"]
        wrong = answer["wrong_reads"]
        return answer["errors"] + [f"{wrong} reads returned wrong data"] * (wrong > 0)

    def stop(self):
        """Let it stop its drives and exit; its exit code, negative for a signal."""
        self.process.stdin.close()
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            return self.kill()


@dataclasses.dataclass
class SecondaryRun:
    """The result of a secondary. facts: all values that it printed; hung: it had to be killed."""

    code: int
    facts: dict
    lines: list
    errors: str
    hung: bool

    @property
    def released(self):
        """It detached, and no file descriptor and no mapping of a drive remained."""
        return self.facts.get("left_fds") == 0 == self.facts.get("left_maps")

    @property
    def passed(self):
        """It attached and used the drives, released everything and exited."""
        return self.code == 0 and self.released

    def __str__(self):
        what = "hangs" if self.hung else f"exit code {self.code}"
        left = f"left {self.facts.get('left_fds')} file descriptors and " \
            f"{self.facts.get('left_maps')} mappings of the drive"
        return "; ".join([what, *self.errors.strip().splitlines(), *[left] * (not self.released)])


class Secondary(Process):
    """A running secondary process. before: words before its command line, such as strace's."""

    def __init__(self, variant, options=(), drives=None, before=(), eal=(), cpu=LAST_CPU, **more):
        argv = [*before, *program(variant, "secondary", DRIVES if drives is None else drives, cpu,
                                  [*eal, "--", "--started", str(time.monotonic_ns()), *options])]
        self.launch(argv, stderr=subprocess.PIPE, start_new_session=True, **more)

    def finish(self):
        """Close its stdin, which ends --stay, and return its SecondaryRun."""
        hung = False
        try:
            out, err = self.process.communicate(b"", timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            hung = True
            os.killpg(self.process.pid, signal.SIGKILL)
            out, err = self.process.communicate()
        lines = []
        for line in (self.output + out).decode(errors="replace").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                pass  # cut off by SIGKILL
        facts = {key: value for line in lines for key, value in line.items() if key != "phase"}
        return SecondaryRun(self.process.returncode, facts, lines, err.decode(errors="replace"),
                            hung)


def reading(number):
    """The options of a secondary that reads on one of the queue pairs of its primary, from 0 on."""
    # workload.h: WORKLOAD_QID
    return ["--read", f"{3 + number}", "--read-only"]


def run_secondary(variant, options=(), **more):
    """Run a secondary to its end."""
    return Secondary(variant, options, **more).finish()


def stale_locks():
    """The lines of /proc/locks whose process does not exist any more."""
    found = []
    with open("/proc/locks") as file:
        for line in file:
            match = re.match(r"\d+: (?:FLOCK|POSIX) +\S+ +\S+ +(\d+) ", line)
            if match and not os.path.exists(f"/proc/{match[1]}"):
                found.append(line.strip())
    return found


@dataclasses.dataclass(frozen=True, order=True)
class Call:
    """A system call of a secondary: the Nth of its name in a thread, as strace counts.

    Threads are numbered in the order of their creation; the main thread is 0.
    """

    name: str
    number: int
    thread: int = 0


class SyscallTrace:
    """All system calls of a secondary, from the output of strace.

    phases: {Call: phase of the main thread, or "thread"}; during: {Call: phase of the main thread};
    the phase attach is divided into scan, of EAL, and attach.
    main: (Call, phase, rest of the line) of the main thread, in order; numbers: {name of a system
    call: its number}.
    """

    # "12 [ 257] openat(AT_FDCWD, "/dev/uio0", O_RDWR) = 3", or "... <unfinished ...>"
    _LINE = re.compile(r"(\d+) +\[ *(\d+)\] (\w+)\((.*)")

    def __init__(self, text):
        self.phases, self.during, self.main, self.numbers = {}, {}, [], {}
        counts, phase = collections.Counter(), "start"
        lines = [match.groups() for match in map(self._LINE.match, text.splitlines()) if match]
        # Thread ids grow in the order of creation; the first lines come in order of scheduling.
        threads = sorted({int(thread) for thread, *_ in lines})
        for thread, number, name, rest in lines:
            self.numbers[name] = number
            counts[thread, name] += 1
            call = Call(name, counts[thread, name], threads.index(int(thread)))
            self.during[call] = phase
            if call.thread:
                self.phases[call] = "thread"
                continue
            marker = re.match(r'1, "\{\\"phase\\": \\"(\w+)\\"', rest)
            if name == "write" and marker:
                phase = "scan" if marker[1] == "attach" else marker[1]
            elif phase == "scan" and "CLOCK_THREAD_CPUTIME_ID" in rest:
                phase = "attach"  # see workload_attach()
            self.phases[call] = self.during[call] = phase
            self.main.append((call, phase, rest))

    def calls_in(self, *phases):
        """The calls of the main thread in these phases, in order."""
        return [call for call, phase, _ in self.main if phase in phases]

    def unsteady(self):
        """The names whose numbers differ between runs: calls in a wait that others come after."""
        waited, names = set(), set()
        for call, phase, _ in self.main:
            # The output is written once, however long the wait is.
            if phase == "wait" and call.name != "write":
                waited.add(call.name)
            elif call.name in waited:
                names.add(call.name)
        return names


SHORT = "inject: short\n"


# In rte_eal_cpu_init() EAL looks for a thousand processors that do not exist, one after another, by
# access(): half of all calls of a secondary.
WITHOUT_ACCESS = "!access"


def strace(cpu, trace, calls="all"):
    """The words before a command line that trace a process which runs on this processor.

    trace: the file to write; calls: the expression of strace's option trace=. strace runs on the
    same processor: to wake it on another emulated one, at each call, takes half as long again.
    """
    # To stop at the traced calls only takes a third of the time.
    quick = ["--seccomp-bpf"] if calls != "all" else []
    return ["taskset", "-c", str(cpu), "/strace", "-f", "-qq", "-n", "-s", "200", *quick,
            "-e", f"trace={calls}", "-o", trace]


def injector(variant, how, number, call):
    """The words before a command line that inject "kill" or "short" at a Call (inject.c)."""
    return [f"/{variant}/app/inject", how, number, str(call.number), str(call.thread)]


def run_injected(variant, how, number, call, **more):
    """Run a secondary and inject."""
    return run_secondary(variant, before=injector(variant, how, number, call), **more)


def run_traced(variant, trace, options=(), calls="all", inject=(), **more):
    """Run a secondary under strace: (SecondaryRun, output of strace).

    calls, inject: the expressions of strace's trace= and --inject options.
    """
    argv = [*strace(LAST_CPU, trace, calls), *(f"--inject={one}" for one in inject)]
    ended = run_secondary(variant, options, before=argv, **more)
    with open(trace, errors="replace") as file:
        return ended, file.read()
