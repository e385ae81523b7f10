# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Reports on the raw samples of a benchmark: of one run, and of two next to each other.

Ratios are formed within one run, round by round, of samples that were taken in turn in one guest:
what slows a round down slows both. What was not measured is said to be so, and never met.
"""

import dataclasses
import typing

from .. import common
from . import judge, markdown, plot, samples


@dataclasses.dataclass(frozen=True)
class Figure:
    """What is measured.

    variants: in the order of tables and plots.
    ratios: (numerator, denominator, "at most" or "at least", target; or "" and None). A limit may
        follow: a miss of the target is explained in doc/measurements.md, and beyond it is a defect.
    x: what it is a curve over, if it is one; it may be judged as judge.growth tells.
    growth: (variant, tolerance).
    log: the plot's y axis.
    """

    name: str
    title: str
    unit: str
    variants: tuple
    ratios: tuple = ()
    x: typing.Optional[str] = None
    growth: typing.Optional[tuple] = None
    log: bool = False


_DPDKS = ("patched", "stock", "vfio")
_BOTH = ("patched", "stock")
# Nearly all of it is EAL's, whoever attaches what.
_FASTER = (("patched", "stock", "at most", 0.95, 1.05), ("patched", "vfio", "at most", 0.5, 1.05))
_PART_FASTER = (("patched", "stock", "at most", 0.95), ("patched", "vfio", "at most", 0.5, 0.6))
_FEWER = (("patched", "stock", "", None),)

FIGURES = (
    Figure("attach", "Attach of a secondary, from exec to device usable", "ms",
           (*_DPDKS, "none"), _FASTER),
    Figure("attach-part", "The PCI part of an attach: scan, probe and map", "ms", _DPDKS,
           _PART_FASTER),
    Figure("syscalls", "System calls of the PCI part, per device", "count", _DPDKS, _FEWER),
    Figure("files", "Files opened in the PCI part, per device", "count", _DPDKS, _FEWER),
    Figure("config-read", "Read of 4 bytes of config space in a secondary", "us",
           ("rte_pci_read_config", "pread", "open+pread+close"),
           (("rte_pci_read_config", "pread", "at most", 1.05),
            ("rte_pci_read_config", "open+pread+close", "", None))),
    Figure("config-write", "Write of 4 bytes of config space in a secondary", "us",
           ("rte_pci_write_config", "pwrite", "open+pwrite+close"),
           (("rte_pci_write_config", "pwrite", "at most", 1.05),
            ("rte_pci_write_config", "open+pwrite+close", "", None))),
    Figure("iops", "The primary's reads per second while secondaries come and go", "1/s",
           ("patched", "none", "stock"),
           (("patched", "none", "at least", 0.97), ("stock", "none", "", None))),
    Figure("iops-visits", "Secondaries that came and went meanwhile", "1/s",
           ("patched", "none", "stock")),
    Figure("drives", "Attach of a secondary, by number of drives", "ms", _BOTH, x="drives"),
    Figure("drives-part", "The PCI part of an attach, by number of drives", "ms", _BOTH,
           x="drives", growth=("patched", 0.10)),
    Figure("drives-memory", "Memory of a secondary (private), by number of drives", "kB", _BOTH,
           x="drives"),
    Figure("crowd", "Attach of one more secondary, by number of secondaries attached", "ms",
           ("patched",), x="secondaries"),
    Figure("crowd-memory", "Memory of the primary, by number of secondaries attached", "kB",
           ("patched",), x="secondaries"),
    Figure("verdict", "From a built tree to a verdict", "s",
           ("boot", "bind", "suite", "whole")),
)


def write(folder):
    """Write report.md, and NAME.svg for each figure that was measured, next to a run's samples.

    Returns the path of the report.
    """
    run = samples.read(folder, FIGURES)
    machine, guest = markdown.machine(run)
    caption = (machine, f"{guest}; {run.about['date']}")
    for figure in FIGURES:
        if run.measured(figure):
            common.replace_file(run.folder / f"{figure.name}.svg",
                                plot.svg(run, figure, caption))
    common.replace_file(run.folder / "report.md", markdown.report(run, FIGURES))
    return run.folder / "report.md"


def missed(folder):
    """(sentence, whether it is a failure) for each target that was not met."""
    run = samples.read(folder, FIGURES)
    return [(f"{one.figure.name}: {markdown.sentence(one)}; {one.wanted} is wanted",
             one.failed)
            for one in judge.all_of(run, FIGURES) if one.outcome == judge.NOT_MET]


def not_measured(folder):
    """What a run lacks."""
    run = samples.read(folder, FIGURES)
    return [f"{figure.name} {variant}" for figure in FIGURES for variant in figure.variants
            if variant not in run.measured(figure)]


def compare(folder_a, folder_b):
    """Two runs in a Markdown table, B against A, and before it what else they differ in."""
    return markdown.comparison(*(samples.read(folder, FIGURES)
                                 for folder in (folder_a, folder_b)), FIGURES)
