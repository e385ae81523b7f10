# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The workload in the lab's guest: start, ask and end primaries and secondaries. See workload.h."""

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
# Names of variants; each is a folder in the guest with DPDK's libraries and app/uio_workload.
PATCHED, STOCK = "patched", "stock"
SILENT = 60


class Broken(Exception):
    """There is no verdict: a process hangs or fails that nothing was done to."""


def program(variant, kind, drives, cpu, options):
    return [f"/{variant}/app/uio_workload", f"--proc-type={kind}", "--iova-mode=pa",
            "--no-telemetry", "--log-level=error", "-l", str(cpu),
            *(word for drive in drives for word in ("-a", drive)), *options]


class Primary:
    """The primary. It reads from the drives all the time.

    wait: it starts, and wants the drives only when told to go.
    """

    def __init__(self, variant, drives=None, pause=1000, eal=(), wait=False):
        self.variant, self.pause, self.eal, self.wait = variant, pause, eal, wait
        self.drives = DRIVES if drives is None else drives
        self.start()

    def start(self):
        argv = program(self.variant, "primary", self.drives, 0,
                       [*self.eal, "--", "--pause", str(self.pause), *["--wait"] * self.wait])
        # Not a pipe: nobody reads it as long as all is well.
        errors = os.fdopen(os.memfd_create("errors"), "w+b", buffering=0)
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=errors, bufsize=0)
        self.rest = b""
        said = self.hear(SILENT)
        if not (said or {}).keys() & {"ready", "waiting"}:
            said = (said or {}).get("failed", "it says nothing")
            self.kill()
            errors.seek(0)
            lines = errors.read().decode(errors="replace").splitlines()
            raise Broken(f"the primary did not start: {'; '.join([said, *lines])}")

    def ask(self, line, within=SILENT):
        """What it answers; nothing when it does not within that many seconds."""
        try:
            self.process.stdin.write(f"{line}\n".encode())
        except BrokenPipeError:
            return {}
        return self.hear(within) or {}

    def hear(self, within):
        deadline = time.monotonic() + within
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return None
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return None
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def check(self, how="check"):
        """What is wrong with the drives, sentences; nothing when all is well."""
        said = self.ask(how)
        if "bad" not in said:
            return ["the primary does not answer"]
        wrong = [f"{said['wrong']} reads gave wrong data"] if said["wrong"] else []
        return said["bad"] + wrong

    def end(self):
        """End it as it should; its exit code, negative for a signal."""
        self.process.stdin.close()
        try:
            return self.process.wait(SILENT)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self):
        self.process.kill()
        return self.process.wait()


@dataclasses.dataclass
class SecondaryRun:
    """What came of a secondary. hung: it did not end by itself."""

    code: int
    facts: dict
    said: list
    errors: str
    hung: bool

    @property
    def left_nothing(self):
        """It came as far as the detach, and had no file and no mapping of a drive then."""
        return self.facts.get("left_fds") == 0 == self.facts.get("left_maps")

    @property
    def right(self):
        """It attached, used the drives, left nothing, and ended."""
        return self.code == 0 and self.left_nothing


class Secondary:
    """A secondary, from its start to its end."""

    def __init__(self, variant, options=(), drives=None, before=(), eal=(), cpu=1, **more):
        argv = [*before, *program(variant, "secondary", DRIVES if drives is None else drives, cpu,
                                  [*eal, "--", "--began", str(time.monotonic_ns()), *options])]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, start_new_session=True,
                                        bufsize=0, **more)
        self.heard = b""

    def wait_for(self, text, within=SILENT):
        """Whether it says that."""
        deadline = time.monotonic() + within
        while text.encode() not in self.heard:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return False
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return False
            self.heard += data
        return True

    def kill(self):
        self.process.kill()
        return self.process.wait()

    def end(self, within=SILENT):
        """Let it end, if it waits for that; the SecondaryRun."""
        hung = False
        try:
            out, err = self.process.communicate(b"", timeout=within)
        except subprocess.TimeoutExpired:
            hung = True
            os.killpg(self.process.pid, signal.SIGKILL)
            out, err = self.process.communicate()
        said = []
        for line in (self.heard + out).decode(errors="replace").splitlines():
            try:
                said.append(json.loads(line))
            except ValueError:
                pass  # cut off by a kill
        facts = {key: value for one in said for key, value in one.items() if key != "at"}
        return SecondaryRun(self.process.returncode, facts, said, err.decode(errors="replace"),
                            hung)


def run_secondary(variant, options=(), **more):
    """A whole SecondaryRun."""
    return Secondary(variant, options, **more).end()


def stale_locks():
    """Locks on files whose process is gone, as /proc/locks has them."""
    found = []
    with open("/proc/locks") as file:
        for line in file:
            match = re.match(r"\d+: (?:FLOCK|POSIX) +\S+ +\S+ +(\d+) ", line)
            if match and not os.path.exists(f"/proc/{match[1]}"):
                found.append(line.strip())
    return found


@dataclasses.dataclass(frozen=True, order=True)
class Call:
    """A system call of a secondary: the Nth of its name in a thread, which is what strace counts.

    thread: 0 is the main one, the others are numbered in the order in which they are made.
    """

    name: str
    number: int
    thread: int = 0


class SyscallTrace:
    """All system calls of a secondary, as strace tells them."""

    # "12 [ 257] openat(AT_FDCWD, "/dev/uio0", O_RDWR) = 3", or "... <unfinished ...>"
    _LINE = re.compile(r"(\d+) +\[ *(\d+)\] (\w+)\((.*)")

    def __init__(self, text):
        self.calls, self.main, self.numbers = {}, [], {}
        counts, where = collections.Counter(), "start"
        lines = [match.groups() for match in map(self._LINE.match, text.splitlines()) if match]
        # The kernel's numbers grow; the order of first lines is that in which they came to run.
        threads = sorted({int(thread) for thread, *_ in lines})
        for thread, number, name, rest in lines:
            self.numbers[name] = number
            counts[thread, name] += 1
            call = Call(name, counts[thread, name], threads.index(int(thread)))
            if call.thread:
                self.calls[call] = "thread"
                continue
            at = re.match(r'1, "\{\\"at\\": \\"(\w+)\\"', rest)
            if name == "write" and at:
                where = at[1]
            self.calls[call] = where
            self.main.append((call, where, rest))

    def within(self, *parts):
        """Calls of its main thread in these parts of its life, in order."""
        return [call for call, where, _ in self.main if where in parts]


SHORT = "inject: short\n"


def run_injected(variant, how, number, call):
    """A SecondaryRun that is killed, or reads one byte, at a Call; number: the system call's."""
    return run_secondary(variant, before=[f"/{variant}/app/inject", how, number, str(call.number),
                                          str(call.thread)])


def traced(variant, trace, options=(), calls="all", inject=(), **more):
    """A SecondaryRun under strace, and what strace wrote. inject: its --inject expressions."""
    # To stop at the calls in question alone takes a third of the time.
    quick = ["--seccomp-bpf"] if calls != "all" else []
    argv = ["/strace", "-f", "-qq", "-n", *quick, "-s", "200", "-e", f"trace={calls}",
            "-o", trace, *(f"--inject={one}" for one in inject)]
    came = run_secondary(variant, options, before=argv, **more)
    with open(trace, errors="replace") as file:
        return came, file.read()
