# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: take raw samples for devtools/bench, one JSON object a line.

usage: measure.py attach|instructions|growth|iops|primary_killed ROUNDS. Writes /tmp/samples.jsonl.
Variants that are compared are measured alternately, in each round in another order.
"""

import json
import os
import pathlib
import random
import sys
import time

import workload

SAMPLES = open("/tmp/samples.jsonl", "a")
IOPS_MS = 3000
# Microseconds between two rounds of the primary, which also wakes up when it is paused. A time that
# is random within TICK is random within this as well.
INTERVAL = 1000
# Seconds that a secondary reads before its primary is killed, and after.
READING = 0.5
WITHOUT_SHARE = "without-uio-share"
# Runs under strace: the number of system calls hardly changes.
TRACED = 3
CONFIG_ROUNDS = 10
# Seconds between two timer interrupts of the guest's kernel: Debian's have CONFIG_HZ=250.
TICK = 0.004
DRIVES = (1, 2, 4, 8, 16, 24, 32)
SECONDARIES = (0, 1, 2, 4, 8, 16, 31)


def sample(figure, variant, number, value, x=None):
    SAMPLES.write(json.dumps({"figure": figure, "variant": variant, "x": x, "round": number,
                              "value": value}) + "\n")


def rotate(variants, number):
    """All variants, in each round starting with another one."""
    first = number % len(variants)
    return variants[first:] + variants[:first]


def progress(what, number, rounds):
    if number % 10 == 0:
        print(f"# {what}: round {number} of {rounds}", flush=True)


def facts_of(run):
    if run.code != 0:
        raise workload.NoVerdict(f"a secondary failed: {run}")
    return run.facts


def reset_conditions(primary):
    """Let the next secondary find the same conditions, whatever ran before it.

    A stock secondary clears bus mastering, and the next stock secondary would set it in its attach.
    Setting it slows down an emulated processor for some milliseconds: so run a secondary without a
    device in between.
    """
    answer = primary.ask("recover")
    if answer.get("errors") != []:
        raise workload.NoVerdict(f"the primary does not recover: {answer}")
    facts_of(workload.run_secondary(workload.PATCHED, ["--no-attach"], drives=workload.DRIVES[:1]))


def bind_to_vfio(drive):
    device = pathlib.Path("/sys/bus/pci/devices", drive)
    (device / "driver_override").write_text("vfio-pci")
    (device / "driver" / "unbind").write_text(drive)
    pathlib.Path("/sys/bus/pci/drivers_probe").write_text(drive)
    if (device / "driver").resolve().name != "vfio-pci":
        raise workload.NoVerdict(f"{drive} cannot be bound to vfio-pci")


def attach_ways():
    """A paused primary, and the (name, variant, drive, options) of the secondaries to compare."""
    # The guest's IOMMU does not remap interrupts; none are used.
    for module in ("vfio_iommu_type1 allow_unsafe_interrupts=1", "vfio-pci"):
        os.system(f"modprobe {module}")
    uio, vfio = workload.DRIVES
    bind_to_vfio(vfio)
    primary = workload.Primary(workload.PATCHED, interval=INTERVAL)
    # Without I/O, the loss of bus mastering disturbs no measurement.
    primary.ask("pause")
    return primary, (
        ("patched", workload.PATCHED, uio, []), ("stock", workload.STOCK, uio, []),
        (WITHOUT_SHARE, WITHOUT_SHARE, uio, ["--unshared"]),
        ("vfio", workload.PATCHED, vfio, ["--unshared"]),
        ("none", workload.PATCHED, uio, ["--no-attach"]))


def attach_all(rounds, primary, ways, report):
    """Call report(name, number, facts) for each way in each round."""
    for number in range(rounds):
        for name, variant, drive, options in rotate(ways, number):
            reset_conditions(primary)
            # Otherwise, where the clock counts instructions, the timer interrupt comes at the same
            # instruction in each round, and the median includes it or does not, by chance.
            time.sleep(random.uniform(0, TICK))
            secondary = workload.Secondary(variant, [*options, "--stay"], [drive])
            if not secondary.wait_for("private_kb"):
                raise workload.NoVerdict(f"{name}: no attach: {secondary.finish()}")
            report(name, number, secondary.finish().facts)
        progress("attach", number, rounds)


def config_accesses(rounds, drive):
    """Samples of accesses to config space, as secondary.c prints them."""
    # In several processes: the addresses of one process matter to an emulated processor.
    for number in range(rounds):
        run = workload.run_secondary(workload.PATCHED, ["--time-config", str(CONFIG_ROUNDS)],
                                     drives=[drive])
        facts_of(run)
        for line in run.lines:
            if "figure" in line:
                yield {**line, "round": line["round"] + number * CONFIG_ROUNDS}


def attach(rounds):
    """Attach on uio_pci_generic and on vfio-pci, and a run without attach."""
    def report(name, number, facts):
        sample("attach", name, number, facts["ms"])
        if name != "none":
            sample("attach-part", name, number, facts["part_ms"])
            sample("attach-memory", name, number, facts["private_kb"])

    primary, ways = attach_ways()
    attach_all(rounds, primary, ways, report)
    for number in range(min(TRACED, rounds)):
        for name, variant, drive, options in ways[:-1]:
            reset_conditions(primary)
            run, text = workload.run_traced(variant, "/tmp/trace", options, drives=[drive])
            sample("attach-fds", name, number, facts_of(run)["fds"])
            calls = [(call, rest) for call, phase, rest in workload.SyscallTrace(text).main
                     if phase in ("scan", "attach")
                     and not (call.name == "write" and "attach" in rest)]
            # workload_attach() takes the time of its thread before and after it maps the device.
            first, last = (at for at, (_, rest) in enumerate(calls) if "CLOCK_THREAD_CPU" in rest)
            sample("probe-syscalls", name, number, last - first - 1)
            opened = [call for call, rest in calls
                      if call.name == "openat" and " = -1 " not in rest]
            sample("syscalls", name, number, len(calls) - 2)
            sample("files", name, number, len(opened))
    for one in config_accesses(rounds, workload.DRIVES[0]):
        SAMPLES.write(json.dumps(one) + "\n")
    primary.stop()


def instructions(rounds):
    """The same in a guest whose clock advances by 1 ns with each instruction that it executes."""
    def report(name, number, facts):
        if name != "none":
            sample("attach-instructions", name, number, facts["ms"] * 1e6)
            sample("part-instructions", name, number, facts["part_ms"] * 1e6)
            sample("probe-instructions", name, number, facts["probe_ns"])
        if name == "patched":
            sample("alarm-instructions", name, number, facts["alarm_ns"])

    primary, ways = attach_ways()
    # Otherwise the first attach in a process that uses uio-share would pay for that.
    attach_all(rounds, primary, [(*way, [*options, "--alarm"]) for *way, options in ways], report)
    for one in config_accesses(rounds, workload.DRIVES[0]):
        sample(f"{one['figure']}-instructions", one["variant"], one["round"], one["value"] * 1e3)
    primary.stop()


def growth(rounds):
    """Attach and memory, by the number of drives and of attached secondaries."""
    # The guest of a short run has only some of the drives.
    drives = [x for x in DRIVES if x <= len(workload.DRIVES)]
    primary = workload.Primary(workload.PATCHED, interval=INTERVAL)
    primary.ask("pause")
    for number in range(rounds):
        for x in rotate(drives, number):
            for variant in rotate((workload.PATCHED, workload.STOCK), number):
                reset_conditions(primary)
                facts = facts_of(workload.run_secondary(variant, drives=workload.DRIVES[:x]))
                sample("drives", variant, number, facts["ms"], x)
                sample("drives-part", variant, number, facts["part_ms"], x)
                sample("drives-probe", variant, number, facts["probe_ns"] / 1e6, x)
                sample("drives-memory", variant, number, facts["private_kb"], x)
        progress("drives", number, rounds)
    rounds = max(1, rounds // 3)
    for number in range(rounds):
        attached = []
        for x in SECONDARIES[:len(drives)]:
            while len(attached) < x:
                secondary = workload.Secondary(workload.PATCHED, ["--stay"], workload.DRIVES[:1])
                if not secondary.wait_for('"attached"'):
                    raise workload.NoVerdict("a secondary did not attach")
                attached.append(secondary)
            facts = facts_of(workload.run_secondary(workload.PATCHED, drives=workload.DRIVES[:1]))
            sample("secondaries", "patched", number, facts["ms"], x)
            sample("secondaries-memory", "patched", number, primary.ask("stat")["private_kb"], x)
        for secondary in attached:
            facts_of(secondary.finish())
        progress("secondaries", number, rounds)
    primary.stop()


def iops(rounds):
    """The primary's reads while secondaries attach and exit, one after the other."""
    primary = workload.Primary(workload.PATCHED, interval=0)
    ways = (("patched", workload.PATCHED, []), ("none", workload.PATCHED, ["--no-attach"]),
            ("stock", workload.STOCK, []))
    for number in range(rounds):
        for name, variant, options in rotate(ways, number):
            primary.send(f"rate {IOPS_MS}")
            end, secondaries = time.monotonic() + IOPS_MS / 1000, 0
            while time.monotonic() < end:
                facts_of(workload.run_secondary(variant, options))
                secondaries += 1
            answer = primary.answer()
            sample("iops", name, number, answer["reads"] / answer["seconds"])
            sample("iops-secondaries", name, number, secondaries / IOPS_MS * 1000)
            if name == "stock":
                reset_conditions(primary)
        progress("iops", number, rounds)
    errors = primary.check()
    if errors:
        raise workload.NoVerdict(f"the primary: {errors}")
    primary.stop()


def primary_killed(rounds):
    """A secondary that reads while its primary is killed, or is not."""
    for number in range(rounds):
        for name in rotate(("killed", "alive"), number):
            primary = workload.Primary(workload.PATCHED, interval=INTERVAL, queues=1)
            secondary = workload.Secondary(workload.PATCHED, workload.reading(0))
            if not secondary.wait_for('"reading"'):
                raise workload.NoVerdict(f"{name}: the secondary does not read")
            time.sleep(READING)
            if name == "killed":
                primary.kill()
            time.sleep(READING)
            sample("primary-killed", name, number, facts_of(secondary.finish())["longest_ms"])
            if name == "alive":
                primary.stop()
        progress("primary_killed", number, rounds)


if __name__ == "__main__":
    {"attach": attach, "instructions": instructions, "growth": growth, "iops": iops,
     "primary_killed": primary_killed}[sys.argv[1]](int(sys.argv[2]))
    SAMPLES.close()
