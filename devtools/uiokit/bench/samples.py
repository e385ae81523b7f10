# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What the benchmark measures, and the samples of a run."""

import dataclasses
import statistics
import typing

from .. import common


@dataclasses.dataclass(frozen=True)
class Figure:
    """A quantity that is measured.

    variants: in the order of the table.
    ratios: (numerator, denominator, "at most" or "at least", target), or "" and None for no target.
    x: the quantity that a curve is measured over.
    growth: (variant, tolerance): the slope of the curve is judged, see judge.growth().
    """

    name: str
    title: str
    unit: str
    variants: tuple
    ratios: tuple = ()
    x: typing.Optional[str] = None
    growth: typing.Optional[tuple] = None


_WITHOUT_SHARE = "without-uio-share"
_DPDKS = ("patched", "stock", _WITHOUT_SHARE, "vfio")
_BOTH = ("patched", "stock")
_MILLIONS = "million instructions"
# The times of an attach swing with the load of the machine, so that a target would be met or missed
# by chance: they are shown, and counts are judged.
_COMPARED = (("patched", "stock", "", None), ("patched", "vfio", "", None),
             ("patched", _WITHOUT_SHARE, "", None))
_NO_MORE_THAN_STOCK = (("patched", "stock", "at most", 1.0), ("patched", "vfio", "", None))
_SHORTER = (("patched", "stock", "at most", 0.87), ("patched", "vfio", "", None),
            ("patched", _WITHOUT_SHARE, "at most", 1.03))
_FEWER_CALLS = ((_WITHOUT_SHARE, "stock", "at most", 41 / 47), ("patched", "stock", "", None))
_FEWER_FILES = (("patched", "stock", "at most", 10 / 12),)


def _config_access(function, call):
    """The figures of a DPDK function that accesses config space, beside the system call."""
    opened = f"open+{call}+close"
    what = f"{function} of 4 bytes of config space in a secondary"
    name, variants = f"config-{function}", (f"rte_pci_{function}_config", call, opened)
    return (Figure(name, what.capitalize(), "us", variants,
                   ((variants[0], call, "", None), (variants[0], opened, "", None))),
            Figure(f"{name}-instructions", f"Instructions of a {what}", "instructions", variants,
                   ((variants[0], call, "at most", 1.05),)))


FIGURES = (
    Figure("attach", "Attach of a secondary, from exec to device usable", "ms",
           (*_DPDKS, "none"), _COMPARED[:2]),
    Figure("attach-part", "The PCI part of an attach: scan, probe and map", "ms", _DPDKS,
           (*_COMPARED, (_WITHOUT_SHARE, "vfio", "", None))),
    Figure("attach-instructions", "Instructions that all processes and the kernel execute from "
           "exec until the device is usable", "instructions", _DPDKS, _NO_MORE_THAN_STOCK),
    Figure("part-instructions", "Instructions that all processes and the kernel execute during "
           "the PCI part", "instructions", _DPDKS,
           (*_COMPARED[:2], ("patched", _WITHOUT_SHARE, "at most", 1.03))),
    Figure("probe-instructions", "Instructions of the attaching thread without the scan, kernel "
           "included", "instructions", _DPDKS, _SHORTER),
    Figure("alarm-instructions", "Instructions of the first alarm of EAL in a process, which "
           "uio-share needs", "instructions", ("patched",)),
    Figure("attach-memory", "Private memory of a secondary after its attach", "kB", _DPDKS),
    Figure("attach-fds", "File descriptors that a secondary has for an attached device", "count",
           _DPDKS),
    Figure("syscalls", "System calls of the PCI part, per device", "count", _DPDKS,
           _FEWER_CALLS),
    Figure("probe-syscalls", "System calls of an attach without the scan, of a device with one BAR",
           "count", _DPDKS, (("patched", "stock", "at most", 7 / 10),
                             ("patched", "vfio", "at most", 0.5))),
    Figure("files", "Files opened in the PCI part, per device", "count", _DPDKS,
           _FEWER_FILES),
    *_config_access("read", "pread"), *_config_access("write", "pwrite"),
    # An attach also costs what is done in it: the PCI part is 4 % of a secondary's life, on the
    # same processors as the reads.
    Figure("iops", "The primary's reads per second while secondaries attach and exit", "1/s",
           ("patched", "none", "stock"),
           (("patched", "none", "at least", 0.9), ("stock", "none", "", None))),
    Figure("iops-secondaries", "Secondaries per second during these reads", "1/s",
           ("patched", "none", "stock")),
    # The guest of these counts instructions: a wait of 1 ms is a million.
    Figure("drives", "Attach of a secondary, by number of drives", _MILLIONS, _BOTH, x="drives"),
    Figure("drives-part", "The PCI part of an attach, by number of drives", _MILLIONS, _BOTH,
           x="drives"),
    Figure("drives-probe", "Instructions of the attaching thread without the scan, by number of "
           "drives", _MILLIONS, _BOTH, x="drives", growth=("patched", 0.10)),
    Figure("drives-memory", "Private memory of a secondary, by number of drives", "kB", _BOTH,
           x="drives"),
    Figure("secondaries", "Attach of one more secondary, by number of secondaries attached",
           _MILLIONS, ("patched",), x="secondaries"),
    Figure("secondaries-memory", "Private memory of the primary, by number of secondaries", "kB",
           ("patched",), x="secondaries"),
    Figure("primary-killed", "Longest time between two reads of a secondary whose primary is "
           "killed, or stays alive", "ms", ("killed", "alive"), (("killed", "alive", "", None),)),
)


class Summary(typing.NamedTuple):
    """Statistics of some values, with inclusive quartiles; all the same for a single value."""

    n: int
    median: float
    q1: float
    q3: float
    low: float
    high: float


@dataclasses.dataclass
class Run:
    """conditions: the lines that head the report.

    samples: {figure: {variant: {x (None if not a curve): {round: value}}}}.
    """

    conditions: list
    samples: dict

    def at(self, figure, variant, x=None):
        """{round: value}; {} if it was not measured."""
        return self.samples.get(figure.name, {}).get(variant, {}).get(x, {})

    def xs(self, figure, variant):
        """All x at which a variant was measured, in order; [None] if it is no curve."""
        return sorted(self.samples.get(figure.name, {}).get(variant, {}), key=lambda x: x or 0)

    def missing(self):
        """The names of all that was not measured."""
        return [f"{figure.name} {variant}" for figure in FIGURES for variant in figure.variants
                if not self.xs(figure, variant)]


def summary(values):
    values = sorted(values)
    q1, median, q3 = (statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1
                      else values * 3)
    return Summary(len(values), median, q1, q3, values[0], values[-1])


def number(value):
    """A number with at least four significant digits."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def run(conditions, taken):
    """The Run of these samples, as measure.py writes them."""
    known = {figure.name: figure for figure in FIGURES}
    found = {}
    for one in taken:
        name, variant, x, number = (one[key] for key in ("figure", "variant", "x", "round"))
        if name not in known or variant not in known[name].variants:
            raise common.Infrastructure(f"unknown: {variant} of {name}: add it to FIGURES")
        rounds = found.setdefault(name, {}).setdefault(variant, {}).setdefault(x, {})
        if number in rounds:
            raise common.Infrastructure(f"{name}: second sample of round {number} of {variant}")
        rounds[number] = one["value"]
    return Run(conditions, found)
