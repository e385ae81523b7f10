# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""One run of the benchmark as it lies in its folder: run.json and samples.jsonl, checked whole.

A file that is not as it must be is no run at all: what it says wrong could become a verdict.
"""

import dataclasses
import json
import pathlib
import re
import statistics
import typing

from .. import common

_AGAIN = "run devtools/bench again"
_NUMBER = (int, float)
_ABOUT = {
    "date": str, "commit": str, "dpdk": str, "form": str, "command": str,
    "machine": {"cpu": str, "cores": int, "memory_gib": _NUMBER, "kernel": str},
    "guest": {"kernel": str, "accel": str, "cpus": int, "qemu": str}}
_CHOICES = {"form": ("full", "short"), "guest.accel": ("tcg", "kvm")}
_KEYS = {"figure", "variant", "x", "round", "value"}


class Summary(typing.NamedTuple):
    """What is told of some values. The quartiles are the inclusive ones; of one value, itself."""

    n: int
    median: float
    q1: float
    q3: float
    low: float
    high: float


@dataclasses.dataclass
class Run:
    """`about` is run.json; `samples` holds figure -> variant -> x (None: no curve) -> round."""

    folder: pathlib.Path
    about: dict
    samples: dict

    def at(self, figure, variant, x=None):
        """The values of a figure by round; empty if it was not measured."""
        return self.samples.get(figure.name, {}).get(variant, {}).get(x, {})

    def xs(self, figure, variants=None):
        """All x at which one of the variants was measured, in order; (None,) if it is no curve."""
        of = self.samples.get(figure.name, {})
        found = {x for variant in variants or figure.variants for x in of.get(variant, {})}
        return sorted(found, key=lambda x: x or 0)

    def measured(self, figure):
        """The variants that have samples, in the order of the table."""
        return [variant for variant in figure.variants
                if self.samples.get(figure.name, {}).get(variant)]


def summary(values):
    values = sorted(values)
    q1, median, q3 = (statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1
                      else values * 3)
    return Summary(len(values), median, q1, q3, values[0], values[-1])


def number(value):
    """As many digits as a reader wants."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def read(folder, figures):
    """The Run in a folder. `figures` is the table; a sample of anything else is an error."""
    folder = pathlib.Path(folder)
    path = folder / "run.json"
    try:
        about = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise common.Usage(f"{path}:{error.lineno}: not JSON ({error.msg}): {_AGAIN}") from None
    why = _why_not(about, _ABOUT)
    if why:
        raise common.Usage(f"{path}: {why}: {_AGAIN}")
    known = {figure.name: figure for figure in figures}
    samples = {}
    path = folder / "samples.jsonl"
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            why = _take(line, known, samples)
            if why:
                raise common.Usage(f"{path}:{number}: {why}")
    if not samples:
        raise common.Usage(f"{path}: no sample in it: {_AGAIN}")
    return Run(folder, about, samples)


def _text(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise common.Usage(f"{path}: not UTF-8: {_AGAIN}") from None
    except OSError as error:
        raise common.Usage(f"{path}: {error.strerror}: name a folder that devtools/bench has "
                           "filled") from None


def _is(value, kind):
    return isinstance(value, kind) and not isinstance(value, bool) and \
        (isinstance(value, str) or 0 <= value < 1e100)


def _why_not(about, schema, where=""):
    """What run.json lacks, or ""."""
    if not isinstance(about, dict):
        return f"{where.rstrip('.') or 'the whole'} is no object"
    for key, kind in schema.items():
        name, value = where + key, about.get(key)
        if isinstance(kind, dict):
            why = _why_not(value, kind, f"{name}.")
            if why:
                return why
        elif not _is(value, kind):
            return f"{name} is {'no text' if kind is str else 'no number of 0 or more'}"
        elif kind is str and not (value.strip() and value.isprintable()):
            return f"{name} is not one line of text"
        elif value not in _CHOICES.get(name, (value,)):
            return f"{name} is neither {' nor '.join(_CHOICES[name])}"
    if not where and not re.match(r"\d{4}-\d\d-\d\d", about["date"]):
        return "date is no ISO date"
    return ""


def _take(line, known, samples):
    """Put a line's sample where it belongs, or say why that cannot be done and what to do."""
    try:
        sample = json.loads(line)
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg}); was the run cut off? {_AGAIN}"
    if not isinstance(sample, dict) or set(sample) != _KEYS:
        return f"not an object of {', '.join(sorted(_KEYS))}: {_AGAIN}"
    figure = known.get(sample["figure"]) if isinstance(sample["figure"], str) else None
    if figure is None or sample["variant"] not in figure.variants:
        what = f"variant {sample['variant']} of {figure.name}" if figure else \
            f"figure {sample['figure']}"
        return f"no {what} is known: add it to FIGURES in devtools/uiokit/bench/report.py"
    x = sample["x"]
    if figure.x is None and x is not None:
        return f"{figure.name} is no curve, x must be null: {_AGAIN}"
    if figure.x is not None and not _is(x, _NUMBER):
        return f"x is no number of {figure.x}: {_AGAIN}"
    if not _is(sample["round"], int):
        return f"round is no number of 0 or more: {_AGAIN}"
    if not _is(sample["value"], _NUMBER):
        return f"value is no number of 0 or more: {_AGAIN}"
    rounds = samples.setdefault(figure.name, {}).setdefault(sample["variant"], {})
    rounds = rounds.setdefault(x, {})
    if sample["round"] in rounds:
        return (f"round {sample['round']} of {sample['variant']} is here twice; two runs in one "
                f"folder? {_AGAIN}, into a folder of its own")
    rounds[sample["round"]] = sample["value"]
    return ""
