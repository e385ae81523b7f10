# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: a secondary is killed at, or fails in, each of its system calls in turn.

usage: sweeps.py kill|error VARIANT [--full]. Prints what came of it as one JSON object, last; each
single try goes to /tmp/tries.jsonl. Errors are tried all, with --full and without.
"""

import collections
import errno
import json
import os
import signal
import sys
import time

import workload

TRACE = "/tmp/trace"
TRIES = "/tmp/tries.jsonl"
# Elsewhere than in attach, use and detach the short form of kill tries one call of so many.
EVERY = 25
# Seconds in which the primary gets EAL's locks if they are free. Where they may be taken they often
# are, and a machine that stalls for longer than this does no harm.
IMPATIENT, PATIENT = 1, 10
LEFT_ALONE = "device lost by one left alone"
# When a secondary is about to have a device, or has it.
PARTS = ("attach", "attached", "use", "detach")
# What it does when EAL may hold a lock in shared memory, over many system calls.
STARTS_OR_ENDS = ("start", "detached", "thread")

# Calls that an attach makes, and how each may fail. Once attached it only counts its files.
FAILING_PARTS = ("attach", "use", "detach")
FAILING = ("open", "openat", "read", "pread64", "mmap", "fstat", "newfstatat", "ioctl")
ERRORS = ("EACCES", "EMFILE", "ENOMEM", "EINTR", "ENODEV")
SHORT_READS = ("read", "pread64")
# What a message calls them.
VERBS = {"open": "open", "openat": "open", "read": "read", "pread64": "read", "mmap": "map",
         "fstat": "stat", "newfstatat": "stat", "ioctl": "ioctl"}
SCAN = "Scan for (pci) bus failed"


class Sweep:
    """Tries, one after the other, on the same drives; counts what came of them."""

    def __init__(self, variant):
        self.variant, self.planned = variant, 0
        # of primaries that others have taken the place of
        self.reads = 0
        self.primary = workload.Primary(variant)
        self.counts = collections.Counter()
        self.wrong = []
        self.tries = open(TRIES, "w")
        self.began = time.monotonic()

    def traces(self):
        """Two whole traces of a secondary, as its threads do not do the same in each."""
        both = []
        for _ in range(2):
            came, text = workload.traced(self.variant, TRACE)
            if not came.right:
                raise workload.Broken(f"a secondary that is only traced: {came}")
            both.append(workload.SyscallTrace(text))
        self.left_alone("traced")
        return both

    def note(self, what, **found):
        self.counts["tries"] += 1
        self.tries.write(json.dumps({"what": what, **found}) + "\n")
        if self.counts["tries"] % 100 == 0:
            print(f"# {self.counts['tries']} of {self.planned}, "
                  f"{time.monotonic() - self.began:.0f} s", flush=True)

    def complain(self, kind, what, sentence):
        self.counts[kind] += 1
        self.wrong.append(f"{what}: {sentence}")

    def after(self, what, reached, may_lock, **found):
        """What must hold after each secondary: the drives, the locks, and the next secondary.

        reached: something was done to it. may_lock: it may have left a lock of EAL taken.
        """
        bad = self.primary.check("look")
        if bad:
            self.complain("device lost" if reached else LEFT_ALONE, what, bad[0])
        stale = workload.stale_locks()
        if stale:
            self.complain("stale file lock", what, stale[0])
        free = self.primary.ask(f"lock {IMPATIENT if may_lock else PATIENT}").get("free", False)
        if not free:
            # Who needs it then waits for good, the next secondary or the primary.
            if may_lock:
                self.counts["lock of EAL left taken"] += 1
            else:
                self.complain("lock of EAL taken by an attach", what, "it is not free")
            self.again("EAL")
        elif bad:
            self.recover()
        came = workload.run_secondary(self.variant)
        if not came.right:
            self.complain("next refused", what, f"{came}")
        self.left_alone(f"the next after: {what}")
        self.note(what, bad=bad, free=free, **found)

    def left_alone(self, what):
        """A secondary that nothing was done to has gone: on stock it took the device along, too."""
        bad = self.primary.check()
        if bad:
            self.complain(LEFT_ALONE, what, bad[0])
            self.recover()

    def recover(self):
        said = self.primary.ask("recover")
        if said.get("bad", True) or self.primary.check():
            self.again("cannot be recovered")

    def again(self, why):
        """Another primary in place of one that is of no more use."""
        self.counts[f"primary started again: {why}"] += 1
        self.reads += self.primary.ask("look").get("reads", 0)
        self.primary.kill()
        self.primary.start()

    def end(self):
        stat = self.primary.ask("check")
        code = self.primary.end()
        if code != 0:
            self.complain("primary failed", "at the end", f"exit code {code}")
        return {"variant": self.variant, "seconds": round(time.monotonic() - self.began, 1),
                "reads": self.reads + stat["reads"], "counts": dict(self.counts),
                "wrong": self.wrong}


def kill_points(both, full):
    where = {**both[1].calls, **both[0].calls}
    numbers = {**both[1].numbers, **both[0].numbers}
    points = sorted(where)
    if not full:
        rest = [call for call in points if where[call] not in PARTS]
        points = [call for call in points if where[call] in PARTS] + rest[::EVERY]
    return points, where, numbers


def kill(variant, full):
    """A secondary is killed at each system call that it makes."""
    sweep = Sweep(variant)
    points, where, numbers = kill_points(sweep.traces(), full)
    sweep.planned = len(points)
    for call in points:
        came = workload.run_injected(variant, "kill", numbers[call.name], call)
        what = f"killed at {call.name} {call.number} of thread {call.thread} ({where[call]})"
        killed = came.code == -signal.SIGKILL and not came.hung
        # Calls of threads, and those that depend on the time, are not made in every life.
        sweep.counts["killed" if killed else "not reached"] += 1
        if came.hung:
            sweep.complain("hung", what, "the secondary did not end")
        sweep.after(what, killed, where[call] in STARTS_OR_ENDS, code=came.code)
    return sweep.end()


def failures(life):
    """(call, error or "short") for each way in which a call of an attach may fail."""
    for call in life.within(*FAILING_PARTS):
        if call.name in FAILING:
            for error in ERRORS:
                yield call, error
            if call.name in SHORT_READS:
                yield call, "short"


def explained(came, call, error):
    """Whether what it says names the device, and in one line what it did and the cause."""
    cause = "fewer bytes" if error == "short" else os.strerror(getattr(errno, error))
    # "Too many open files" does not say what was done.
    return any(drive in came.errors for drive in workload.DRIVES) and any(
        VERBS[call.name] in line.replace(cause, "").lower() and cause in line
        for line in came.errors.splitlines())


def failed(variant, life, call, how):
    """A SecondaryRun one of whose calls fails, and that call; None when it made no such call."""
    if how == "short":
        came = workload.run_injected(variant, "short", life.numbers[call.name], call)
        reached = workload.SHORT in came.errors
        came.errors = came.errors.replace(workload.SHORT, "")
        return came, f"{call.name} {call.number}" if reached else None
    came, text = workload.traced(variant, TRACE, calls=call.name,
                                 inject=[f"{call.name}:error={how}:when={call.number}"])
    lines = [line for line in text.splitlines() if "(INJECTED)" in line]
    return came, lines[0].split(None, 1)[1][:120] if lines else None


def error(variant, _full):
    """Each call of an attach that can fail fails once."""
    sweep = Sweep(variant)
    life = sweep.traces()[0]
    points = list(failures(life))
    sweep.planned = len(points)
    for call, how in points:
        came, line = failed(variant, life, call, how)
        what = f"{how} from {line or call}"
        if line is None:
            sweep.counts["not reached"] += 1
        elif came.hung:
            sweep.complain("hung", what, "the secondary did not end")
        elif came.code == 0:
            # The drive is known from EAL's start: an attach does not need what this scan finds.
            sweep.counts["went on, scan failed" if SCAN in came.errors else "went on"] += 1
        elif came.code == 1:
            sweep.counts["refused"] += 1
            if not explained(came, call, how):
                sweep.complain("not explained", what, came.errors.strip() or "nothing was said")
        else:
            sweep.complain("crashed", what, f"exit code {came.code}: {came.errors}")
        if line and came.code in (0, 1) and not came.left_nothing:
            sweep.complain("left something", what, f"{came.facts}")
        sweep.after(what, line is not None, False, code=came.code, said=came.errors,
                    facts=came.facts)
    return sweep.end()


def main(argv):
    run = {"kill": kill, "error": error}[argv[0]]
    print(json.dumps(run(argv[1], "--full" in argv[2:])))


if __name__ == "__main__":
    main(sys.argv[1:])
