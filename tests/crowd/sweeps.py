# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: a visitor is killed at, or fails in, each of its system calls in turn.

usage: sweeps.py kill|error VARIANT [--full]. Prints what came of it as one JSON object, last; each
single try goes to /tmp/tries.jsonl.
"""

import collections
import errno
import json
import os
import signal
import sys
import time

import crowd

TRACE = "/tmp/trace"
TRIES = "/tmp/tries.jsonl"
# Elsewhere than in attach, use and detach the short form tries one call of so many.
EVERY = 25
# Seconds in which a visitor that nothing is done to has come and gone, and in which the owner tells
# of EAL's locks. It takes a quarter of a second, and up to one.
WITHIN = 10
# What a visitor does of interest; at the end it only counts its files.
PARTS = ("attach", "attached", "use", "detach")

# Calls that an attach makes, and how each may fail.
FAILING = ("open", "openat", "read", "pread64", "mmap", "fstat", "newfstatat", "ioctl")
ERRORS = ("EACCES", "EMFILE", "ENOMEM", "EINTR", "ENODEV")
SHORT_READS = ("read", "pread64")


def lives(variant):
    """What an undisturbed visitor does, of two lives, since threads do not always do the same."""
    both = []
    for _ in range(2):
        came, text = crowd.traced(variant, TRACE)
        if not came.right:
            raise crowd.Broken(f"a visitor that is only traced: {came}")
        both.append(crowd.Life(text))
    return both


class Sweep:
    """Tries, one after the other, on the same drives; counts what came of them."""

    def __init__(self, variant):
        self.variant, self.planned = variant, 0
        # of owners that others have taken the place of
        self.reads = 0
        self.owner = crowd.Owner(variant)
        self.counts = collections.Counter()
        self.wrong = []
        self.tries = open(TRIES, "w")
        self.began = time.monotonic()

    def note(self, what, **found):
        self.counts["tries"] += 1
        self.tries.write(json.dumps({"what": what, **found}) + "\n")
        if self.counts["tries"] % 100 == 0:
            print(f"# {self.counts['tries']} of {self.planned}, "
                  f"{time.monotonic() - self.began:.0f} s", flush=True)

    def complain(self, kind, what, sentence):
        self.counts[kind] += 1
        self.wrong.append(f"{what}: {sentence}")

    def after(self, what):
        """What must hold after each visitor: the drives, the locks, and the next visitor."""
        bad = self.owner.check("look")
        if bad:
            self.complain("device lost", what, bad[0])
        stale = crowd.stale_locks()
        if stale:
            self.complain("stale file lock", what, stale[0])
        if not self.owner.ask("lock", WITHIN).get("free"):
            # Not the bus driver's: EAL holds them while it starts and ends, over many system calls,
            # and who needs them then waits for good, the next visitor or the owner.
            self.counts["lock of EAL left taken"] += 1
            self.again("EAL")
        elif bad:
            self.recover()
        came = crowd.Visitor(self.variant).end(WITHIN)
        if not came.right:
            self.complain("next refused", what, f"{came}")
        # On stock this one takes bus mastering along as well: that is not counted again.
        if self.owner.check():
            if not bad:
                self.complain("lost by the next", what, "by a visitor that nothing was done to")
            self.recover()
        return bad

    def recover(self):
        said = self.owner.ask("recover")
        if said.get("bad", True) or self.owner.check():
            self.again("cannot be recovered")

    def again(self, why):
        """Another owner in place of one that is of no more use."""
        self.counts[f"owner started again: {why}"] += 1
        self.reads += self.owner.ask("look", WITHIN).get("reads", 0)
        self.owner.kill()
        self.owner.start()

    def end(self):
        stat = self.owner.ask("check")
        code = self.owner.end()
        if code != 0:
            self.complain("owner failed", "at the end", f"exit code {code}")
        return {"variant": self.variant, "seconds": round(time.monotonic() - self.began, 1),
                "reads": self.reads + stat["reads"], "counts": dict(self.counts),
                "wrong": self.wrong}


def kill_points(variant, full):
    both = lives(variant)
    where = {**both[1].calls, **both[0].calls}
    numbers = {**both[1].numbers, **both[0].numbers}
    points = sorted(where)
    if not full:
        rest = [call for call in points if where[call] not in PARTS]
        points = [call for call in points if where[call] in PARTS] + rest[::EVERY]
    return points, where, numbers


def kill(variant, full):
    """A visitor is killed at each system call that it makes."""
    sweep = Sweep(variant)
    points, where, numbers = kill_points(variant, full)
    sweep.planned = len(points)
    for call in points:
        came = crowd.struck(variant, numbers[call.name], call.number)
        what = f"killed at {call.name} {call.number} ({where[call]})"
        if came.code == -signal.SIGKILL and not came.hung:
            sweep.counts["killed"] += 1
        else:
            # Calls of threads, and those that depend on the time, are not made in every life.
            sweep.counts["not reached"] += 1
        if came.hung:
            sweep.complain("hung", what, "the visitor did not end")
        sweep.note(what, code=came.code, bad=sweep.after(what))
    return sweep.end()


def failures(life):
    """(call, error or "short") for each way in which a call of an attach may fail."""
    for call in life.within(*PARTS):
        if call.name in FAILING:
            for error in ERRORS:
                yield call, error
            if call.name in SHORT_READS:
                yield call, "short"


def explained(came, error):
    """Whether what it says names the device, what it did, and the cause."""
    device = any(drive in came.errors for drive in crowd.DRIVES)
    return device and (error == "short" or os.strerror(getattr(errno, error)) in came.errors)


def error(variant, full):
    """Each call of an attach that can fail fails once."""
    sweep = Sweep(variant)
    life = lives(variant)[0]
    points = list(failures(life))
    if not full:
        # Those on the device's own files come last in an attach; of the scan before, some.
        own = [call for call, _, rest in life.main if "/config" in rest or "/resource" in rest]
        points = [point for index, point in enumerate(points)
                  if point[0] in own or index % EVERY == 0]
    sweep.planned = len(points)
    for call, how in points:
        way = "retval=1" if how == "short" else f"error={how}"
        came, text = crowd.traced(variant, TRACE, calls=call.name,
                                  inject=[f"{call.name}:{way}:when={call.number}"])
        line = next((line for line in text.splitlines() if "(INJECTED)" in line), "")
        what = f"{how} from {line.split(None, 1)[-1][:120] or call}"
        if not line:
            sweep.counts["not reached"] += 1
        elif came.hung:
            sweep.complain("hung", what, "the visitor did not end")
        elif came.code == 0:
            sweep.counts["went on"] += 1
        elif came.code == 1:
            sweep.counts["refused"] += 1
            if not explained(came, how):
                sweep.complain("not explained", what, came.errors.strip() or "nothing was said")
        else:
            sweep.complain("crashed", what, f"exit code {came.code}: {came.errors}")
        if line and not came.hung and (came.facts.get("left_fds") or came.facts.get("left_maps")):
            sweep.complain("left something", what, f"{came.facts}")
        sweep.note(what, code=came.code, bad=sweep.after(what), said=came.errors, facts=came.facts)
    return sweep.end()


def main(argv):
    run = {"kill": kill, "error": error}[argv[0]]
    print(json.dumps(run(argv[1], "--full" in argv[2:])))


if __name__ == "__main__":
    main(sys.argv[1:])
