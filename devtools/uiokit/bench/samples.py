# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What the benchmark measures, and the files of a run: run.json and samples.jsonl.

Each sample is checked when it is read, because any error could change a verdict.
"""

import dataclasses
import json
import pathlib
import statistics
import typing

from .. import common

RUN, SAMPLES = "run.json", "samples.jsonl"

_AGAIN = "run devtools/bench again"
_NUMBER = (int, float)
# The keys of run.json, and of the objects in it.
_ABOUT = {"": ("date", "commit", "dpdk", "form", "command", "machine", "guest"),
          "machine": ("cpu", "cores", "memory_gib", "kernel"),
          "guest": ("kernel", "accel", "cpus", "qemu")}
_KEYS = {"figure", "variant", "x", "round", "value"}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A quantity that is measured.

    variants: in the order of tables and plots.
    ratios: (numerator, denominator, "at most" or "at least", target), or "" and None for no target.
    x: the quantity on the x axis, for a curve.
    growth: (variant, tolerance): the slope of the curve is judged, see judge.growth().
    """

    name: str
    title: str
    unit: str
    variants: tuple
    ratios: tuple = ()
    x: typing.Optional[str] = None
    growth: typing.Optional[tuple] = None


_DPDKS = ("patched", "stock", "vfio")
_BOTH = ("patched", "stock")
# Times swing from run to run, and EAL's start takes nearly all of an attach; the counts do not.
_NO_SLOWER = (("patched", "stock", "at most", 1.0), ("patched", "vfio", "", None))
_PART_FASTER = (("patched", "stock", "at most", 0.95), ("patched", "vfio", "at most", 0.5))
_FEWER_CALLS = (("patched", "stock", "at most", 41 / 47),)
_FEWER_FILES = (("patched", "stock", "at most", 10 / 12),)

FIGURES = (
    Figure("attach", "Attach of a secondary, from exec to device usable", "ms",
           (*_DPDKS, "none"), _NO_SLOWER),
    Figure("attach-part", "The PCI part of an attach: scan, probe and map", "ms", _DPDKS,
           _PART_FASTER),
    Figure("syscalls", "System calls of the PCI part, per device", "count", _DPDKS,
           _FEWER_CALLS),
    Figure("files", "Files opened in the PCI part, per device", "count", _DPDKS,
           _FEWER_FILES),
    Figure("config-read", "Read of 4 bytes of config space in a secondary", "us",
           ("rte_pci_read_config", "pread", "open+pread+close"),
           (("rte_pci_read_config", "pread", "at most", 1.05),
            ("rte_pci_read_config", "open+pread+close", "", None))),
    Figure("config-write", "Write of 4 bytes of config space in a secondary", "us",
           ("rte_pci_write_config", "pwrite", "open+pwrite+close"),
           (("rte_pci_write_config", "pwrite", "at most", 1.05),
            ("rte_pci_write_config", "open+pwrite+close", "", None))),
    Figure("iops", "The primary's reads per second while secondaries attach and exit", "1/s",
           ("patched", "none", "stock"),
           (("patched", "none", "at least", 0.97), ("stock", "none", "", None))),
    Figure("iops-secondaries", "Secondaries per second during these reads", "1/s",
           ("patched", "none", "stock")),
    Figure("drives", "Attach of a secondary, by number of drives", "ms", _BOTH, x="drives"),
    Figure("drives-part", "The PCI part of an attach, by number of drives", "ms", _BOTH,
           x="drives", growth=("patched", 0.10)),
    Figure("drives-memory", "Private memory of a secondary, by number of drives", "kB", _BOTH,
           x="drives"),
    Figure("secondaries", "Attach of one more secondary, by number of secondaries attached", "ms",
           ("patched",), x="secondaries"),
    Figure("secondaries-memory", "Private memory of the primary, by number of secondaries", "kB",
           ("patched",), x="secondaries"),
    Figure("verdict", "From a built tree to a verdict", "s",
           ("boot", "bind", "suite", "whole")),
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
    """about: run.json; samples: {figure: {variant: {x (None if not a curve): {round: value}}}}."""

    folder: pathlib.Path
    about: dict
    samples: dict

    def at(self, figure, variant, x=None):
        """{round: value}; {} if it was not measured."""
        return self.samples.get(figure.name, {}).get(variant, {}).get(x, {})

    def xs(self, figure, variants=None):
        """All x at which one of the variants was measured, in order; [None] if it is no curve."""
        of = self.samples.get(figure.name, {})
        found = {x for variant in variants or figure.variants for x in of.get(variant, {})}
        return sorted(found, key=lambda x: x or 0)

    def measured(self, figure):
        """The variants that have samples, in the order of the table."""
        return [variant for variant in figure.variants
                if self.samples.get(figure.name, {}).get(variant)]

    def missing(self):
        """The names of all that was not measured."""
        return [f"{figure.name} {variant}" for figure in FIGURES for variant in figure.variants
                if variant not in self.measured(figure)]


def summary(values):
    values = sorted(values)
    q1, median, q3 = (statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1
                      else values * 3)
    return Summary(len(values), median, q1, q3, values[0], values[-1])


def number(value):
    """A number with at least four significant digits."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def read(folder):
    """The Run in a folder."""
    folder = pathlib.Path(folder)
    path = folder / RUN
    try:
        about = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise common.Usage(f"{path}:{error.lineno}: not JSON ({error.msg}): {_AGAIN}") from None
    for name, keys in _ABOUT.items():
        of = about.get(name) if name else about
        if not isinstance(of, dict) or not of.keys() >= set(keys):
            raise common.Usage(f"{path}: {name or 'run'}: not an object with {', '.join(keys)}: "
                               f"{_AGAIN}")
    known = {figure.name: figure for figure in FIGURES}
    samples = {}
    path = folder / SAMPLES
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            why = _add(line, known, samples)
            if why:
                raise common.Usage(f"{path}:{number}: {why}")
    if not samples:
        raise common.Usage(f"{path}: no samples: {_AGAIN}")
    return Run(folder, about, samples)


def _text(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise common.Usage(f"{path}: not UTF-8: {_AGAIN}") from None
    except OSError as error:
        raise common.Usage(f"{path}: {error.strerror}: name the folder of a run of "
                           "devtools/bench") from None


def _is(value, kind):
    return isinstance(value, kind) and not isinstance(value, bool) and \
        (isinstance(value, str) or 0 <= value < 1e100)


def _add(line, known, samples):
    """Add the sample in a line, or return why it is invalid and what to do."""
    try:
        sample = json.loads(line)
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg}), perhaps cut off: {_AGAIN}"
    if not isinstance(sample, dict) or set(sample) != _KEYS:
        return f"not an object of {', '.join(sorted(_KEYS))}: {_AGAIN}"
    figure = known.get(sample["figure"]) if isinstance(sample["figure"], str) else None
    if figure is None or sample["variant"] not in figure.variants:
        what = f"variant {sample['variant']} of {figure.name}" if figure else \
            f"figure {sample['figure']}"
        return f"unknown {what}: add it to FIGURES in devtools/uiokit/bench/samples.py"
    x = sample["x"]
    if figure.x is None and x is not None:
        return f"{figure.name} is not a curve, x must be null: {_AGAIN}"
    if figure.x is not None and not _is(x, _NUMBER):
        return f"x is not a number of {figure.x}: {_AGAIN}"
    for key, kind in (("round", int), ("value", _NUMBER)):
        if not _is(sample[key], kind):
            return f"{key} is not a number of 0 or more: {_AGAIN}"
    rounds = samples.setdefault(figure.name, {}).setdefault(sample["variant"], {})
    rounds = rounds.setdefault(x, {})
    if sample["round"] in rounds:
        return (f"second sample of round {sample['round']} of {sample['variant']}, perhaps of "
                f"another run: {_AGAIN}, with a new folder")
    rounds[sample["round"]] = sample["value"]
    return ""
