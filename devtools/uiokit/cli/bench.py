# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/bench: measure what the fix costs and gains, as ratios within one run."""

import argparse
import json
import os
import pathlib
import platform
import re
import shlex
import time

from .. import common, distro, process
from ..bench import report, samples
from . import arguments
from ..dpdk import source, variants
from ..lab import autotest, qemu, vm
from ..workload import host

# The rounds of each part: (short, full). The many secondaries of growth take a third of them.
ROUNDS = {"attach": (2, 60), "growth": (1, 30), "iops": (1, 30), "verdict": (1, 7)}
# The guest of each part. The IOMMU is for the second drive of attach, on vfio-pci; the first one,
# on uio_pci_generic, is passed through.
GUESTS = {"attach": {"nvme": 2, "iommu": True, "append": "intel_iommu=on iommu=pt"},
          "growth": {"nvme": 32, "mem": 1536},
          "iops": {}}
TIMEOUT = 3600
MEASURE = pathlib.Path(report.__file__).with_name("measure.py")


def main(argv):
    options = parse(argv)
    if options.compare:
        print(report.compare(*map(samples.read, options.compare)))
        return common.PASSED
    tree = source.get(options.dpdk)
    folder = options.output or common.build_dir("bench", time.strftime("%Y%m%d-%H%M%S"))
    folder.mkdir(parents=True, exist_ok=True)
    distro.need({**host.NEED, "gnuplot": "gnuplot-nox"})
    # The targets of a short run are not judged: it can use the build of the other tests.
    folders = host.build(tree, optimize=not options.short)
    if variants.PATCHED not in folders:
        raise common.Skip(f"{tree} does not have the bug: there is nothing to compare")
    taken = []
    for part, rounds in ROUNDS.items():
        with common.step(f"measuring {part}"):
            measure = verdict if part == "verdict" else measured
            found, guest = measure(part, tree, folders, rounds[not options.short])
        taken += found
        common.replace_file(folder / samples.SAMPLES,
                            "".join(f"{json.dumps(one)}\n" for one in taken))
    common.replace_file(folder / samples.RUN,
                        json.dumps(about(tree, options, guest, argv), indent=1))
    run = samples.read(folder)
    print(report.write(run).read_text())
    common.say(f"report, plots and raw samples: {folder}")
    if run.missing():
        raise common.Infrastructure(f"not measured: {', '.join(run.missing())}")
    if options.short:
        common.say("short run: targets are not judged")
        return common.PASSED
    missed = report.missed(run)
    for sentence in missed:
        common.say(f"missed: {sentence}")
    return common.FAILED if missed else common.PASSED


def measured(part, _tree, folders, rounds):
    """Measure a part in the guest: (samples, the lab's Result)."""
    given = common.build_dir("bench") / f".{part}.jsonl"
    given.unlink(missing_ok=True)
    result = vm.boot(
        host.options(folders, MEASURE, [part, str(rounds)], timeout=TIMEOUT,
                     give=[("/tmp/samples.jsonl", str(given))], **GUESTS[part]),
        on_line=lambda line: line.startswith("#") and common.say(f"  {line[2:]}"))
    if result.code != 0:
        raise common.Infrastructure(f"{part} was not measured:\n{result.stdout}{result.stderr}")
    taken = [json.loads(line) for line in given.read_text().splitlines()]
    given.unlink()
    return taken, result


def verdict(_part, tree, _folders, rounds):
    """Time devtools/autotest from a built tree to its verdict: (samples, the lab's Result)."""
    build = variants.Build(tree)
    folder = build.variants()[variants.PATCHED]
    taken = []
    for number in range(rounds):
        began = time.monotonic()
        result, found = autotest.run(autotest.Options(), folder, build.program())
        if not found.passed:
            raise common.Infrastructure(f"the test did not pass: "
                                        f"{found.broken or found.of('failed')[0]}")
        for variant, seconds in (("boot", result.boot_seconds), ("bind", result.bind_seconds),
                                 ("suite", result.command_seconds),
                                 ("whole", time.monotonic() - began)):
            taken.append({"figure": "verdict", "variant": variant, "x": None, "round": number,
                          "value": seconds})
    return taken, result


def about(tree, options, result, argv):
    """The contents of run.json: the conditions of a run."""
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


def new_folder(text):
    """The type of --output: a folder that does not contain a run."""
    folder = pathlib.Path(text)
    if folder.exists() and not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: not a folder")
    for name in (samples.RUN, samples.SAMPLES):
        if (folder / name).exists():
            raise argparse.ArgumentTypeError(f"{text}: contains a run ({name}); name a new folder")
    return folder


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="devtools/bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure in the lab what the fix costs and gains: attach of a secondary, "
        "access to config\nspace, the primary's reads during attaches, growth with drives and "
        "secondaries. Writes\nreport.md, plots and raw samples to a folder.",
        epilog="exit codes: 0 measured, targets met; 1 a target was missed; 2 usage; 69 "
        "environment missing\nor broken; 77 this DPDK does not have the bug; 130 interrupted")
    parser.add_argument("--short", action="store_true",
                        help="check that everything can be measured: one or two rounds on an "
                        "unoptimised build, targets are not judged")
    parser.add_argument("--output", metavar="DIR", type=new_folder,
                        help="folder for the run, without an older run in it "
                        "(default: build/bench/DATE)")
    arguments.add_dpdk(parser)
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"),
                        help="compare the runs in two folders; measure nothing")
    options = parser.parse_args(argv)
    if options.compare and (options.short or options.output or options.dpdk):
        parser.error("--compare measures nothing: leave out --short, --output and --dpdk")
    return options
