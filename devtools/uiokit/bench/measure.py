# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: raw samples for devtools/bench, a JSON object each, in /tmp/samples.jsonl.

usage: measure.py attach|growth|iops ROUNDS. Variants that are compared are measured in turn, in
each round in another order.
"""

import json
import os
import pathlib
import sys
import time

import workload

SAMPLES = open("/tmp/samples.jsonl", "a")
IOPS_MS = 3000
# Lives that are traced: the number of system calls hardly changes.
TRACED = 3
CONFIG_ROUNDS = 5
DRIVES = (1, 2, 4, 8, 16, 24, 32)
CROWD = (0, 1, 2, 4, 8, 16, 31)


def sample(figure, variant, number, value, x=None):
    SAMPLES.write(json.dumps({"figure": figure, "variant": variant, "x": x, "round": number,
                              "value": value}) + "\n")


def turns(variants, number):
    """All of them, in each round another one first."""
    first = number % len(variants)
    return variants[first:] + variants[:first]


def progress(what, number, rounds):
    if number % 10 == 0:
        print(f"# {what}: round {number} of {rounds}", flush=True)


def right(came):
    if came.code != 0:
        raise workload.Broken(f"a secondary failed: {came}")
    return came.facts


def set_anew(primary):
    """Let the next secondary find all as it would beside a primary that works.

    Stock takes bus mastering along, and the next of stock would set it in its attach. What sets it
    again leaves an emulated processor slow for some milliseconds: somebody comes in between.
    """
    said = primary.ask("recover")
    if said.get("bad") != []:
        raise workload.Broken(f"the primary does not recover: {said}")
    right(workload.run_secondary(workload.PATCHED, ["--nothing"], drives=workload.DRIVES[:1]))


def bind_to_vfio(drive):
    device = pathlib.Path("/sys/bus/pci/devices", drive)
    (device / "driver_override").write_text("vfio-pci")
    (device / "driver" / "unbind").write_text(drive)
    pathlib.Path("/sys/bus/pci/drivers_probe").write_text(drive)
    if (device / "driver").resolve().name != "vfio-pci":
        raise workload.Broken(f"{drive} cannot be bound to vfio-pci")


def attach(rounds):
    """An attach on uio_pci_generic, stock and patched, and on vfio-pci; and none at all."""
    # The guest's IOMMU does not remap interrupts, and none are used.
    for module in ("vfio_iommu_type1 allow_unsafe_interrupts=1", "vfio-pci"):
        os.system(f"modprobe {module}")
    uio, vfio = workload.DRIVES
    bind_to_vfio(vfio)
    primary = workload.Primary(workload.PATCHED)
    # What takes bus mastering away, as stock does, matters to no I/O here.
    primary.ask("rest")
    ways = (("patched", workload.PATCHED, uio, []), ("stock", workload.STOCK, uio, []),
            ("vfio", workload.PATCHED, vfio, []), ("none", workload.PATCHED, uio, ["--nothing"]))
    for number in range(rounds):
        for name, variant, drive, options in turns(ways, number):
            set_anew(primary)
            secondary = workload.Secondary(variant, [*options, "--stay"], [drive])
            if not secondary.wait_for("private_kb"):
                raise workload.Broken(f"{name}: no attach: {secondary.end()}")
            if name == "vfio":
                # Its detach waits some seconds for the primary, which is not what is measured.
                secondary.process.kill()
            facts = secondary.end().facts
            sample("attach", name, number, facts["ms"])
            if name != "none":
                sample("attach-part", name, number, facts["part_ms"])
        progress("attach", number, rounds)
    for number in range(TRACED):
        for name, variant, drive, _ in ways[:3]:
            set_anew(primary)
            came, text = workload.traced(variant, "/tmp/trace", drives=[drive])
            right(came)
            calls = [(call, rest) for call, where, rest in workload.SyscallTrace(text).main
                     if where == "attach" and not (call.name == "write" and "attach" in rest)]
            opened = [call for call, rest in calls
                      if call.name == "openat" and " = -1 " not in rest]
            sample("syscalls", name, number, len(calls))
            sample("files", name, number, len(opened))
    # Not all in one process: its addresses matter to an emulated processor.
    for first in range(0, rounds, CONFIG_ROUNDS):
        came = workload.run_secondary(workload.PATCHED, ["--time-config", str(CONFIG_ROUNDS)],
                                      drives=[uio])
        right(came)
        for one in came.said:
            if "figure" in one:
                SAMPLES.write(json.dumps({**one, "round": one["round"] + first}) + "\n")
    primary.end()


def growth(rounds):
    """Attach and memory by the number of drives, and of secondaries that are there."""
    primary = workload.Primary(workload.PATCHED)
    primary.ask("rest")
    for number in range(rounds):
        for x in turns(DRIVES, number):
            for variant in turns((workload.PATCHED, workload.STOCK), number):
                set_anew(primary)
                facts = right(workload.run_secondary(variant, drives=workload.DRIVES[:x]))
                sample("drives", variant, number, facts["ms"], x)
                sample("drives-part", variant, number, facts["part_ms"], x)
                sample("drives-memory", variant, number, facts["private_kb"], x)
        progress("drives", number, rounds)
    for number in range(rounds // 3):
        there = []
        for x in CROWD:
            while len(there) < x:
                secondary = workload.Secondary(workload.PATCHED, ["--stay"], workload.DRIVES[:1])
                if not secondary.wait_for('"attached"'):
                    raise workload.Broken("a secondary did not attach")
                there.append(secondary)
            facts = right(workload.run_secondary(workload.PATCHED, drives=workload.DRIVES[:1]))
            sample("workload", "patched", number, facts["ms"], x)
            sample("workload-memory", "patched", number, primary.ask("stat")["private_kb"], x)
        for secondary in there:
            right(secondary.end())
        progress("secondaries", number, rounds // 3)
    primary.end()


def iops(rounds):
    """The primary's reads while secondaries come and go, one after the other."""
    primary = workload.Primary(workload.PATCHED, pause=0)
    ways = (("patched", workload.PATCHED, []), ("none", workload.PATCHED, ["--nothing"]),
            ("stock", workload.STOCK, []))
    for number in range(rounds):
        for name, variant, options in turns(ways, number):
            primary.process.stdin.write(f"rate {IOPS_MS}\n".encode())
            until, visits = time.monotonic() + IOPS_MS / 1000, 0
            while time.monotonic() < until:
                right(workload.run_secondary(variant, options))
                visits += 1
            said = primary.hear(workload.SILENT)
            sample("iops", name, number, said["reads"] / said["seconds"])
            sample("iops-visits", name, number, visits / IOPS_MS * 1000)
            if name == "stock":
                set_anew(primary)
        progress("iops", number, rounds)
    if primary.check():
        raise workload.Broken(f"the primary: {primary.check()}")
    primary.end()


if __name__ == "__main__":
    {"attach": attach, "growth": growth, "iops": iops}[sys.argv[1]](int(sys.argv[2]))
    SAMPLES.close()
