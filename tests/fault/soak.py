# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: thousands of secondaries, 32 at the same time, on all drives.

usage: soak.py VARIANT SECONDARIES. In each round 32 secondaries attach, one of them all drives, the
others one drive each; when all have attached, all detach at the same time. Meanwhile the primary
reads from all drives. Prints the results as one JSON object on the last line.
"""

import json
import os
import re
import sys
import time

import workload

AT_ONCE = 32
# Resources must not grow between this many secondaries, or half of all if that is less, and all.
FIRST = 100
# Microseconds between two rounds of reads. A round is a read from each of 32 drives.
INTERVAL = 100000
# Megabytes of hugepages for all processes. The primary reserves them at its start: else EAL
# allocates and frees pages as secondaries start and exit, and may fail to free them:
# doc/defects.md
MEMORY = 8


def machine():
    """EAL's resources outside of processes: files in its runtime directory, free hugepages."""
    with open("/proc/meminfo") as file:
        free = int(re.search(r"HugePages_Free: +(\d+)", file.read())[1])
    return {"runtime_files": len(os.listdir("/run/dpdk/rte")), "hugepages_free": free}


def drives_of(index):
    drives = workload.DRIVES
    return drives if index == AT_ONCE - 1 else [drives[index % len(drives)]]


def run_round(variant, size):
    """Run so many secondaries; a sentence for each failure."""
    wrong, secondaries = [], []
    for index in range(size):
        drives = drives_of(index)
        # Two secondaries must not write and read back the same register at the same time.
        options = ["--stay", *["--read-only"] * (len(drives) > 1)]
        secondary = workload.Secondary(variant, options, drives)
        secondaries.append(secondary)
        # One at a time: EAL's start may remove files of another EAL's start: doc/defects.md
        if not secondary.wait_for('"attached"'):
            wrong.append("a secondary did not attach")
    for secondary in secondaries:
        secondary.process.stdin.close()
        secondary.process.stdin = None
    for index, secondary in enumerate(secondaries):
        run = secondary.finish()
        for line in run.errors.splitlines():
            print(f"# secondary {index}: {line}", flush=True)
        if not run.passed or run.facts["drives"] != len(drives_of(index)):
            wrong.append(f"{run}: {run.facts}")
    return wrong


def main(argv):
    variant, wanted = argv[0], int(argv[1])
    primary = workload.Primary(variant, interval=INTERVAL, eal=["-m", str(MEMORY)])
    began, done, wrong, stats = time.monotonic(), 0, [], {}
    while done < wanted:
        size = min(AT_ONCE, wanted - done)
        found = run_round(variant, size) + primary.check()
        for sentence in found:
            print(f"# {sentence}", flush=True)
        wrong += found
        done += size
        stats[done] = {**primary.ask("stat"), **machine()}
        print(f"# {done} secondaries, {time.monotonic() - began:.0f} s, {len(wrong)} wrong",
              flush=True)
        if len(wrong) > 100:
            break
    answer = primary.ask("check")
    code = primary.stop()
    first = next((count for count in stats if count >= min(FIRST, wanted // 2)), done)
    print(json.dumps({
        "variant": variant, "secondaries": done, "drives": len(workload.DRIVES), "wrong": wrong,
        "seconds": round(time.monotonic() - began, 1), "reads": answer["reads"],
        "wrong_reads": answer["wrong_reads"], "primary": code,
        "first_after": first, "first": stats[first], "last": stats[done]}))


if __name__ == "__main__":
    main(sys.argv[1:])
