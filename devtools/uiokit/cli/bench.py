# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/bench: measure what the fix costs and gains, as ratios within one run."""

import json
import pathlib
import time

from .. import arch, common, distro
from ..bench import report, samples
from . import arguments
from ..dpdk import source, variants
from ..lab import qemu, vm
from ..workload import host

# The rounds of each part: (short, full). The many secondaries of growth take a third of them.
ROUNDS = {"attach": (1, 20), "instructions": (1, 10), "growth": (1, 10), "iops": (1, 30),
          "primary_killed": (1, 10)}
# The guest of each part. The IOMMU is for the second drive of attach, on vfio-pci; the first one,
# on uio_pci_generic, is passed through. With icount and several processors, Linux does not boot.
_TWO_DRIVES = {"nvme": 2, "iommu": True, "append": arch.native().iommu_args}
_COUNTING = {"accel": "icount", "cpus": 1}
GUESTS = {"attach": _TWO_DRIVES,
          "instructions": {**_TWO_DRIVES, **_COUNTING},
          "growth": {"nvme": 32, "mem": 1536, **_COUNTING},
          "iops": {}, "primary_killed": {}}
_SHORT_GUESTS = {**GUESTS, "growth": {"nvme": 2, **_COUNTING}}
TIMEOUT = 3600
MEASURE = pathlib.Path(report.__file__).with_name("measure.py")


def main(argv):
    options = parse(argv)
    tree = source.get(options.dpdk)
    folder = common.build_dir("bench", time.strftime("%Y%m%d-%H%M%S"))
    distro.need(host.NEED)
    # The targets of a short run are not judged: it can use the build of the other tests.
    folders = host.build(tree, optimize=not options.short, without="uio-share")
    if variants.PATCHED not in folders:
        raise common.Skip(f"{tree} does not have the bug: there is nothing to compare")
    taken = []
    for part, rounds in ROUNDS.items():
        with common.step(f"measuring {part}"):
            found, guest = measured(part, folders, rounds[not options.short],
                                    (_SHORT_GUESTS if options.short else GUESTS)[part])
        taken += found
        common.replace_file(folder / "samples.jsonl",
                            "".join(f"{json.dumps(one)}\n" for one in taken))
    run = samples.run([*common.conditions("devtools/bench", argv),
                       f"guest: Linux {guest.kernel}, {guest.accel}, "
                       f"QEMU {qemu.version(qemu.PROGRAM)}, {tree}"], taken)
    common.replace_file(folder / "report.md", report.markdown(run))
    print(report.markdown(run))
    common.say(f"report and raw samples: {folder}")
    if run.missing():
        raise common.Infrastructure(f"not measured: {', '.join(run.missing())}")
    if options.short:
        common.say("short run: targets are not judged")
        return common.PASSED
    missed, unjudged = report.missed(run), report.unjudged(run)
    for sentence in missed:
        common.say(f"missed: {sentence}")
    for name in unjudged:
        common.say(f"not judged: {name}")
    if missed:
        return common.FAILED
    if unjudged:
        raise common.Infrastructure("some targets were not judged: run devtools/bench with nothing "
                                    "beside it")
    return common.PASSED


def measured(part, folders, rounds, guest):
    """Measure a part in this guest: (samples, the lab's Result)."""
    given = common.build_dir("bench") / f".{part}.jsonl"
    given.unlink(missing_ok=True)
    result = vm.boot(
        host.options(folders, MEASURE, [part, str(rounds)], timeout=TIMEOUT,
                     give=[("/tmp/samples.jsonl", str(given))], **guest),
        on_line=lambda line: line.startswith("#") and common.say(f"  {line[2:]}"))
    if result.code != 0:
        raise common.Infrastructure(f"{part} was not measured:\n{result.stdout}{result.stderr}")
    taken = [json.loads(line) for line in given.read_text().splitlines()]
    given.unlink()
    return taken, result


def parse(argv):
    parser = arguments.parser(
        "devtools/bench", "Measure in the lab what the fix costs and gains: attach of a secondary, "
        "access to config\nspace, the primary's reads during attaches, growth with drives and "
        "secondaries. Writes\nreport.md and the raw samples to build/bench/DATE.",
        "exit codes: 0 measured, no target missed; 1 a target was missed; 2 usage; 69 "
        "environment missing,\nbroken or too busy for a verdict; 77 this DPDK does not have the "
        "bug; 130 interrupted")
    parser.add_argument("--short", action="store_true",
                        help="check that everything can be measured: one round on an unoptimised "
                        "build, growth with two drives; targets are not judged")
    arguments.add_dpdk(parser)
    return parser.parse_args(argv)
