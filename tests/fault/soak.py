# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: thousands of secondaries, 32 at once, on all its drives.

usage: soak.py VARIANT SECONDARIES. In each round 32 secondaries attach, each a drive, one of
them all; when all are there they leave at once. The primary reads from all drives meanwhile. Prints
what came of it as one JSON object, last.
"""

import json
import os
import re
import sys
import time

import workload

AT_ONCE = 32
# What may not grow from the first hundred secondaries to the last.
FIRST = 100
# Microseconds between two rounds of reads: the primary shares two processors with all the others.
PAUSE = 20000
# Megabytes of hugepages that all of them need together, and some more. The primary has them from
# the start: else EAL gets and frees one as the workload comes and goes, and may fail to free it:
# doc/defects.md
MEMORY = 8


def machine():
    """What EAL keeps outside of processes: files in its runtime directory, and free hugepages."""
    with open("/proc/meminfo") as file:
        free = int(re.search(r"HugePages_Free: +(\d+)", file.read())[1])
    return {"runtime_files": len(os.listdir("/run/dpdk/rte")), "hugepages_free": free}


def drives_of(index):
    drives = workload.DRIVES
    return drives if index == AT_ONCE - 1 else [drives[index % len(drives)]]


def go_round(variant, size):
    """So many secondaries; a sentence for each that did not do as it should."""
    wrong, there = [], []
    for index in range(size):
        drives = drives_of(index)
        # A second one on a drive would find in config space what the first one writes there.
        options = ["--stay", *["--read-only"] * (len(drives) > 1)]
        secondary = workload.Secondary(variant, options, drives, cpu=index % 2)
        there.append(secondary)
        # One after the other: EAL's start may remove what another one's has made: doc/defects.md
        if not secondary.wait_for('"attached"'):
            wrong.append("a secondary did not attach")
    for secondary in there:
        secondary.process.stdin.close()
        secondary.process.stdin = None
    for index, secondary in enumerate(there):
        came = secondary.end()
        for line in came.errors.splitlines():
            print(f"# secondary {index} says: {line}", flush=True)
        if not came.right or came.facts["drives"] != len(drives_of(index)):
            wrong.append(str(came))
    return wrong


def main(argv):
    variant, wanted = argv[0], int(argv[1])
    primary = workload.Primary(variant, pause=PAUSE, eal=["-m", str(MEMORY)])
    began, done, wrong, stats = time.monotonic(), 0, [], {}
    while done < wanted:
        size = min(AT_ONCE, wanted - done)
        found = go_round(variant, size) + primary.check()
        for sentence in found:
            print(f"# {sentence}", flush=True)
        wrong += found
        done += size
        stats[done] = {**primary.ask("stat"), **machine()}
        print(f"# {done} secondaries, {time.monotonic() - began:.0f} s, {len(wrong)} wrong",
              flush=True)
        if len(wrong) > 100:
            break
    reads = primary.ask("check")
    code = primary.end()
    first = next((stats[count] for count in sorted(stats) if count >= FIRST), stats[done])
    print(json.dumps({
        "variant": variant, "secondaries": done, "drives": len(workload.DRIVES), "wrong": wrong,
        "seconds": round(time.monotonic() - began, 1), "reads": reads["reads"],
        "wrong_reads": reads["wrong"], "primary": code, "first": first, "last": stats[done]}))


if __name__ == "__main__":
    main(sys.argv[1:])
