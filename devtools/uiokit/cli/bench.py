# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/bench: what the fix costs and gains, as ratios inside one run. Raw samples are kept."""

import argparse
import json
import os
import pathlib
import platform
import re
import shlex
import time

from .. import common, distro, process
from ..bench import report
from . import arguments
from ..dpdk import source, variants
from ..lab import autotest, qemu, vm
from ..workload import host

# Rounds of each part: name: (short, full). In growth, a third as many with many secondaries.
ROUNDS = {"attach": (5, 60), "growth": (3, 30), "iops": (2, 30), "verdict": (1, 7)}
# A guest for each part. The second drive is bound to vfio-pci; behind an IOMMU that lets others by.
GUESTS = {"attach": {"nvme": 2, "iommu": True, "append": "intel_iommu=on iommu=pt"},
          "growth": {"nvme": 32, "mem": 1536},
          "iops": {}}
LIMIT = 3600
MEASURE = pathlib.Path(report.__file__).with_name("measure.py")


def main(argv):
    options = parse(argv)
    if options.compare:
        print(report.compare(*options.compare))
        return common.PASSED
    distro.need({**host.NEED, "gnuplot": "gnuplot-nox"})
    tree = source.get(options.dpdk)
    folder = pathlib.Path(options.output or common.build_dir(
        "bench", time.strftime("%Y%m%d-%H%M%S")))
    folder.mkdir(parents=True, exist_ok=True)
    folders = host.build(tree, optimize=True)
    if variants.PATCHED not in folders:
        raise common.Skip(f"{tree} is not affected: there is nothing to compare")
    samples = []
    for part, rounds in ROUNDS.items():
        with common.step(f"measuring {part}"):
            measure = verdict if part == "verdict" else measured
            found, guest = measure(part, tree, folders, rounds[not options.short])
        samples += found
        common.replace_file(folder / "samples.jsonl",
                            "".join(f"{json.dumps(one)}\n" for one in samples))
    common.replace_file(folder / "run.json",
                        json.dumps(about(tree, options, guest, argv), indent=1))
    print(report.write(folder).read_text())
    common.say(f"report, plots and raw samples: {folder}")
    lacking = report.not_measured(folder)
    if lacking:
        raise common.Infrastructure(f"not measured: {', '.join(lacking)}")
    missed = report.missed(folder)
    for sentence, failure in missed:
        common.say(f"{'FAILED' if failure else 'missed'}: {sentence}")
    if options.short:
        common.say("a short run is no ground to judge targets on: not judged")
    return common.FAILED if any(failure for _, failure in missed) and not options.short else \
        common.PASSED


def measured(part, _tree, folders, rounds):
    """Samples of a part that is measured inside the guest; the lab's Result."""
    given = common.build_dir("bench") / f".{part}.jsonl"
    given.unlink(missing_ok=True)
    result = vm.boot(
        host.options(folders, MEASURE, [part, str(rounds)], timeout=LIMIT,
                     give=[("/tmp/samples.jsonl", str(given))], **GUESTS[part]),
        on_line=lambda line: line.startswith("#") and common.say(f"  {line[2:]}"))
    if result.code != 0:
        raise common.Infrastructure(f"{part} was not measured:\n{result.stdout}{result.stderr}")
    samples = [json.loads(line) for line in given.read_text().splitlines()]
    given.unlink()
    return samples, result


def verdict(_part, tree, _folders, rounds):
    """How long it takes from a built tree to a verdict, and what of it is what."""
    build = variants.Build(tree)
    folder = build.variants()[variants.PATCHED]
    samples = []
    for number in range(rounds):
        began = time.monotonic()
        result, found = autotest.run(autotest.Options(), folder, build.program())
        if not found.passed:
            raise common.Infrastructure(f"the test did not pass: "
                                        f"{found.broken or found.of('failed')[0]}")
        for variant, seconds in (("boot", result.boot_seconds), ("bind", result.bind_seconds),
                                 ("suite", result.command_seconds),
                                 ("whole", time.monotonic() - began)):
            samples.append({"figure": "verdict", "variant": variant, "x": None, "round": number,
                            "value": seconds})
    return samples, result


def about(tree, options, result, argv):
    """run.json: on what this was measured."""
    with open("/proc/cpuinfo") as file:
        cpu = re.search(r"model name\s*: (.*)", file.read())
    commit = process.run(["git", "-C", common.TOP, "describe", "--always", "--dirty"], check=False)
    return {
        "date": time.strftime("%Y-%m-%d"), "commit": commit.stdout.strip() or "unknown",
        "machine": {"cpu": cpu[1] if cpu else platform.machine(), "cores": os.cpu_count(),
                    "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
                                        / 2 ** 30),
                    "kernel": platform.release()},
        "guest": {"kernel": result.kernel, "accel": result.accel, "cpus": 2,
                  "qemu": qemu.version(qemu.PROGRAM)},
        "dpdk": tree.text, "form": "short" if options.short else "full",
        "command": shlex.join(["devtools/bench", *argv])}


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="devtools/bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure, in the lab, what the fix costs and gains: attach of a secondary, "
        "access to config\nspace, the primary's reads meanwhile, growth with drives and "
        "secondaries. Writes report.md,\nplots and raw samples to a folder.",
        epilog="exit codes: 0 measured, targets met; 1 a target was not met; 2 usage; 69 could "
        "not be\nmeasured; 77 this DPDK has no bug to compare with")
    parser.add_argument("--short", action="store_true",
                        help="a few rounds, to see that all is measured; targets are not judged")
    parser.add_argument("--output", metavar="DIR", help="where to (default: build/bench/DATE)")
    arguments.add_dpdk(parser)
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"),
                        help="compare two such folders, and measure nothing")
    return parser.parse_args(argv)
