# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: kill a process at, or fail, each of its system calls but access() in turn.

usage: sweeps.py VARIANT kill|kill_primary|error full|short|probe. Prints the results as one JSON
object on the last line; each try is one line of /tmp/tries.jsonl.
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
# The phases in which a secondary has the device, gets it or gives it back.
DEVICE_PHASES = ("attach", "attached", "use", "detach")
# Every Nth point is tried: of the kills in these phases, of the other kills, of the errors, of the
# kills of a primary. probe: enough for a DPDK that has the bug to lose the device.
STEPS = {"full": (1, 1, 1, 1), "short": (1, 25, 1, 7), "probe": (10, 250, 40, 60)}
# The phases in which EAL may hold a lock in shared memory over several system calls.
LOCKING_PHASES = ("start", "detached", "thread")
# Seconds within which the primary must get EAL's locks: a kill in one of these phases often leaves
# one taken. Elsewhere none may be, and a slow machine must not look like a lock.
LOCK_DEADLINE, LOCK_DEADLINE_ELSEWHERE = 1, 10
# Secondaries that read; seconds for one to start, beside a primary and without one.
READERS, READER_DEADLINE, ORPHAN_DEADLINE = 2, 20, 5
LOST_UNINJURED = "device lost by an uninjured run"

# Once attached, a secondary only counts its file descriptors: errors of these calls do not matter.
# The series does not touch the scan.
FAILING_PHASES = ("attach", "use", "detach")
FAILING = ("open", "openat", "read", "pread64", "mmap", "fstat", "newfstatat", "ioctl")
ERRORS = ("EACCES", "EMFILE", "ENOMEM", "EINTR", "ENODEV")
SHORT_READS = ("read", "pread64")
# The words for the calls in messages.
VERBS = {"open": "open", "openat": "open", "read": "read", "pread64": "read", "mmap": "map",
         "fstat": "stat", "newfstatat": "stat", "ioctl": "ioctl"}
SCAN = "Scan for (pci) bus failed"
# A secondary that may not write to config space attaches with a warning.
WARNINGS = ["--log-level=warning"]


class Sweep:
    """Tries one after the other with the same drives; counts their results."""

    def __init__(self, variant, primary):
        self.variant, self.planned, self.primary = variant, 0, primary
        # Reads of other processes than this primary.
        self.reads = 0
        self.counts = collections.Counter()
        # Milliseconds between two reads of a secondary.
        self.longest = 0
        self.wrong = []
        self.tries = open(TRIES, "w")
        self.began = time.monotonic()

    def traces(self):
        """Two SyscallTraces: threads do not make the same calls in each run."""
        both = []
        for _ in range(2):
            run, text = workload.run_traced(self.variant, TRACE,
                                            calls=workload.WITHOUT_ACCESS)
            if not run.passed:
                raise workload.NoVerdict(f"a secondary under strace failed: {run}")
            both.append(workload.SyscallTrace(text))
            names = both[-1].unsteady()
            if names:
                raise workload.NoVerdict("calls cannot be numbered, as a wait makes them as well: "
                                         f"{', '.join(sorted(names))}; let it use others")
        self.check_uninjured("under strace")
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
        """Check the drives, the locks and another secondary after a try.

        reached: the fault was injected. may_lock: the secondary may have left a lock of EAL taken.
        """
        errors = self.primary.check("examine")
        if errors:
            self.complain("device lost" if reached else LOST_UNINJURED, what, errors[0])
        stale = workload.stale_locks()
        if stale:
            self.complain("stale file lock", what, stale[0])
        deadline = LOCK_DEADLINE if may_lock else LOCK_DEADLINE_ELSEWHERE
        free = self.primary.ask(f"lock {deadline}").get("free", False)
        if not free:
            # The next process that needs the lock would wait for ever.
            if may_lock:
                self.counts["lock of EAL left taken"] += 1
            else:
                self.complain("lock of EAL taken by an attach", what, "it is not free")
            self.restart_primary("EAL")
        elif errors:
            self.recover()
        run = workload.run_secondary(self.variant)
        if not run.passed:
            self.complain("next secondary failed", what, f"{run}")
        self.check_uninjured(f"the next secondary after: {what}")
        self.note(what, errors=errors, free=free, **found)

    def check_uninjured(self, what):
        """Check the drives after a run into which nothing was injected: stock loses them too."""
        errors = self.primary.check()
        if errors:
            self.complain(LOST_UNINJURED, what, errors[0])
            self.recover()

    def recover(self):
        answer = self.primary.ask("recover")
        if answer.get("errors", True) or self.primary.check():
            self.restart_primary("cannot be recovered")

    def restart_primary(self, why):
        self.counts[f"primary restarted: {why}"] += 1
        self.reads += self.primary.ask("examine").get("reads", 0)
        self.primary.kill()
        self.primary.start()

    def results(self):
        if self.primary:
            self.reads += self.primary.ask("check")["reads"]
            code = self.primary.stop()
            if code != 0:
                self.complain("primary failed", "at the end", f"exit code {code}")
        return {"variant": self.variant, "seconds": round(time.monotonic() - self.began, 1),
                "reads": self.reads, "counts": dict(self.counts), "wrong": self.wrong}


def kill_points(phases, depth):
    """The calls, of {call: phase}, at which a secondary is killed."""
    # How often a secondary looks while it waits differs in every run.
    calls = sorted(call for call in phases if phases[call] != "wait")
    with_device, elsewhere = STEPS[depth][:2]
    return [call for call in calls if phases[call] in DEVICE_PHASES][::with_device] + \
        [call for call in calls if phases[call] not in DEVICE_PHASES][::elsewhere]


def kill(variant, depth):
    """Kill a secondary at the system calls that it makes."""
    sweep = Sweep(variant, workload.Primary(variant))
    first, second = sweep.traces()
    phases = {**second.phases, **first.phases}
    numbers = {**second.numbers, **first.numbers}
    points = kill_points(phases, depth)
    sweep.planned = len(points)
    for call in points:
        run = workload.run_injected(variant, "kill", numbers[call.name], call)
        what = f"killed at {call.name} {call.number} of thread {call.thread} ({phases[call]})"
        killed = run.code == -signal.SIGKILL and not run.hung
        # Calls of threads, and calls that depend on the time, are not made in every run.
        sweep.counts["killed" if killed else "not reached"] += 1
        if run.hung:
            sweep.complain("hung", what, "the secondary did not exit")
        sweep.after(what, killed, phases[call] in LOCKING_PHASES, code=run.code)
    return sweep.results()


def run_readers(variant, before):
    """Run a primary and two secondaries that read; the primary ends first.

    The exit code of the primary, None if it was killed before a secondary read, and
    [(SecondaryRun, whether it read)].
    """
    readers = []
    try:
        primary = workload.Primary(variant, queues=READERS, before=before)
    except workload.NoVerdict:
        return None, readers
    for number in range(READERS):
        if primary.process.poll() is not None:
            break
        secondary = workload.Secondary(variant, workload.reading(number))
        # Without a primary it may wait for an answer for ever.
        within = READER_DEADLINE if primary.process.poll() is None else ORPHAN_DEADLINE
        readers.append((secondary, secondary.wait_for('"reading"', within)))
    code = primary.stop()
    runs = []
    for secondary, reads in readers:
        if not reads:
            secondary.kill()
        runs.append((secondary.finish(), reads))
    return (code if any(reads for _, reads in runs) else None), runs


def primary_points(trace, depth):
    """The calls at which a primary is killed: one in 20 of the loop in which it reads."""
    calls = trace.calls_in("stop") + trace.calls_in("ready")[::20] + \
        sorted(call for call, phase in trace.during.items() if call.thread and phase != "start")
    return calls[::STEPS[depth][3]]


def kill_primary(variant, depth):
    """Kill a primary at its system calls, while two secondaries read."""
    sweep = Sweep(variant, None)
    code, runs = run_readers(variant, workload.strace(0, TRACE, workload.WITHOUT_ACCESS))
    if code != 0 or not all(reads for _, reads in runs):
        raise workload.NoVerdict(f"under strace: primary: {code}, secondaries: {runs}")
    with open(TRACE, errors="replace") as file:
        trace = workload.SyscallTrace(file.read())
    points = primary_points(trace, depth)
    sweep.planned = len(points)
    for call in points:
        what = f"primary killed at {call.name} {call.number} of thread {call.thread} " \
            f"({trace.during[call]})"
        code, runs = run_readers(variant, workload.injector(variant, "kill",
                                                            trace.numbers[call.name], call))
        killed = code == -signal.SIGKILL
        sweep.counts["killed" if killed else "not reached" if code == 0 else "too early"] += 1
        for run, reads in runs:
            sweep.reads += run.facts.get("reads", 0)
            sweep.longest = max(sweep.longest, run.facts.get("longest_ms", 0))
            if not reads:
                sweep.counts["secondary without the device"] += 1
            elif run.passed:
                sweep.counts["secondary read on"] += 1
            else:
                sweep.complain("device lost", what, f"{run}")
        if workload.stale_locks():
            sweep.complain("stale file lock", what, workload.stale_locks()[0])
        sweep.note(what, code=code, runs=[[run.facts, run.errors, reads] for run, reads in runs])
    return {**sweep.results(), "longest_ms": sweep.longest}


def failures(trace, depth):
    """(call, error or "short") for each way in which a call of the device phases may fail."""
    phases = [*FAILING_PHASES, *["scan"] * (depth == "full")]
    points = [(call, error) for call in trace.calls_in(*phases) if call.name in FAILING
              for error in (*ERRORS, *["short"] * (call.name in SHORT_READS))]
    return points[::STEPS[depth][2]]


def explained(run, call, error):
    """Whether the messages name the device and, in one line, the call and the cause."""
    cause = "fewer bytes" if error == "short" else os.strerror(getattr(errno, error))
    # Without the cause: "Too many open files" does not mean that an open failed.
    return any(drive in run.errors for drive in workload.DRIVES) and any(
        VERBS[call.name] in line.replace(cause, "").lower() and cause in line
        for line in run.errors.splitlines())


def run_failing(variant, trace, call, how):
    """Run a secondary one of whose calls fails: (SecondaryRun, that call or None if not made)."""
    if how == "short":
        run = workload.run_injected(variant, "short", trace.numbers[call.name], call, eal=WARNINGS)
        reached = workload.SHORT in run.errors
        run.errors = run.errors.replace(workload.SHORT, "")
        return run, f"{call.name} {call.number}" if reached else None
    run, text = workload.run_traced(variant, TRACE, calls=call.name, eal=WARNINGS,
                                    inject=[f"{call.name}:error={how}:when={call.number}"])
    lines = [line for line in text.splitlines() if "(INJECTED)" in line]
    return run, lines[0].split(None, 1)[1][:120] if lines else None


def error(variant, depth):
    """Let each call of an attach that can fail fail once."""
    sweep = Sweep(variant, workload.Primary(variant))
    trace = sweep.traces()[0]
    points = failures(trace, depth)
    sweep.planned = len(points)
    for call, how in points:
        run, line = run_failing(variant, trace, call, how)
        what = f"{how} from {line or call}"
        if line is None:
            sweep.counts["not reached"] += 1
        elif run.hung:
            sweep.complain("hung", what, "the secondary did not exit")
        elif run.code == 0:
            # EAL's start has found the drive: the attach works when its own scan fails.
            sweep.counts["went on, scan failed" if SCAN in run.errors else "went on"] += 1
        elif run.code == 1:
            sweep.counts["refused"] += 1
            if not explained(run, call, how):
                sweep.complain("not explained", what, run.errors.strip() or "no message")
        else:
            sweep.complain("crashed", what, f"{run}")
        if line and run.code in (0, 1) and not run.released:
            sweep.complain("not released", what, f"{run.facts}")
        sweep.after(what, line is not None, False, code=run.code, stderr=run.errors,
                    facts=run.facts)
    return sweep.results()


def main(argv):
    variant, what, depth = argv
    print(json.dumps({"kill": kill, "kill_primary": kill_primary, "error": error}[what](
        variant, depth)))


if __name__ == "__main__":
    main(sys.argv[1:])
