# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: thousands of visitors, 32 at once, on all its drives.

usage: soak.py VARIANT VISITORS. In each round 32 visitors attach, each a drive of its own, one of
them all; when all are there they leave at once. The owner reads from all drives meanwhile. Prints
what came of it as one JSON object, last.
"""

import json
import os
import re
import sys
import time

import crowd

AT_ONCE = 32
# What may not grow from the first hundred visitors to the last.
FIRST = 100
# Microseconds between two rounds of reads: the owner shares two processors with all the others.
PAUSE = 20000
# Megabytes of hugepages that all of them need together, and some more. The primary has them from
# the start: else EAL gets and frees one as the crowd comes and goes, and may fail to free it:
# doc/defects.md
MEMORY = 8


def machine():
    """What EAL keeps outside of processes: files in its runtime directory, and free hugepages."""
    with open("/proc/meminfo") as file:
        free = int(re.search(r"HugePages_Free: +(\d+)", file.read())[1])
    return {"runtime_files": len(os.listdir("/run/dpdk/rte")), "hugepages_free": free}


def drives_of(index):
    return crowd.DRIVES if index == AT_ONCE - 1 else [crowd.DRIVES[index % len(crowd.DRIVES)]]


def go_round(variant, size):
    """So many visitors; a sentence for each that did not do as it should."""
    wrong, there = [], []
    for index in range(size):
        drives = drives_of(index)
        # A second one on a drive would find in config space what the first one writes there.
        options = ["--stay", *["--read-only"] * (len(drives) > 1)]
        visitor = crowd.Visitor(variant, options, drives, cpu=index % 2)
        there.append(visitor)
        # One after the other: EAL's start may remove what another one's has made: doc/defects.md
        if not visitor.wait_for('"attached"'):
            wrong.append("a visitor did not attach")
    for visitor in there:
        visitor.process.stdin.close()
        visitor.process.stdin = None
    for index, visitor in enumerate(there):
        came = visitor.end()
        for line in came.errors.splitlines():
            print(f"# visitor {index} says: {line}", flush=True)
        if not came.right or came.facts["drives"] != len(drives_of(index)):
            wrong.append(str(came))
    return wrong


def main(argv):
    variant, wanted = argv[0], int(argv[1])
    owner = crowd.Owner(variant, pause=PAUSE, eal=["-m", str(MEMORY)])
    began, done, wrong, stats = time.monotonic(), 0, [], {}
    while done < wanted:
        size = min(AT_ONCE, wanted - done)
        found = go_round(variant, size) + owner.check()
        for sentence in found:
            print(f"# {sentence}", flush=True)
        wrong += found
        done += size
        stats[done] = {**owner.ask("stat"), **machine()}
        print(f"# {done} visitors, {time.monotonic() - began:.0f} s, {len(wrong)} wrong",
              flush=True)
        if len(wrong) > 100:
            break
    reads = owner.ask("check")
    code = owner.end()
    first = next((stats[count] for count in sorted(stats) if count >= FIRST), stats[done])
    print(json.dumps({
        "variant": variant, "visitors": done, "drives": len(crowd.DRIVES), "wrong": wrong,
        "seconds": round(time.monotonic() - began, 1), "reads": reads["reads"],
        "wrong_reads": reads["wrong"], "owner": code, "first": first, "last": stats[done]}))


if __name__ == "__main__":
    main(sys.argv[1:])
