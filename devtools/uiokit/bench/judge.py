# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Judge a run of the benchmark by the targets of its figures: ratios and growth."""

import dataclasses
import math
import statistics
import typing

from . import samples

MET = "met"
NOT_MET = "NOT MET"
UNDECIDED = "undecided"
NOISY = "error too large"
NOT_MEASURED = "not measured in this run"
NO_TARGET = "no target"

# Standard error of the median, in interquartile ranges, of normal samples: 1.253 / 1.349.
_ERROR_OF_MEDIAN = 0.93
# The largest relative error with which a target is undecided. A larger one would hide a miss.
_MOST_ERROR = 0.1


@dataclasses.dataclass
class Ratio:
    """A ratio of a figure. summary: None if it was not measured; note: how it was formed."""

    figure: object
    above: str
    below: str
    bound: str
    target: typing.Optional[float]
    summary: typing.Optional[samples.Summary]
    outcome: str
    note: str

    @property
    def name(self):
        return f"{self.above} / {self.below}"

    @property
    def wanted(self):
        return "" if self.target is None else f"{self.bound} {self.target:.3g}"


@dataclasses.dataclass
class Growth:
    """The growth of a figure: its slope over all x, and (from x, to x, slope) of both halves.

    change: relative, of the slope from the first half to the second; error: its standard error.
    """

    figure: object
    outcome: str
    note: str = ""
    slope: float = 0
    halves: tuple = ()
    change: float = 0
    error: float = 0

    @property
    def wanted(self):
        return f"flat within {self.figure.growth[1]:.0%}"


def all_of(run):
    """The Ratios and Growths of all figures, in the order of the table."""
    return [one for figure in samples.FIGURES
            for one in [*ratios(run, figure), *([growth(run, figure)] if figure.growth else [])]]


def ratios(run, figure):
    """The Ratios of a figure.

    Two samples of the same round and x are a pair; the ratios of all pairs are summarised together
    and other samples are ignored. If fewer than half of the samples have a partner, or a
    denominator is 0, the ratio is that of the medians, without quartiles.
    """
    found = []
    for above, below, bound, target in figure.ratios:
        one = Ratio(figure, above, below, bound, target, *_ratio(run, figure, above, below))
        if one.summary:
            one.outcome = NO_TARGET if target is None else _against(one, target)
        found.append(one)
    return found


def _against(ratio, target):
    """Compare with the target; undecided if it is nearer than the standard error.

    That must not be large, or it says nothing.
    """
    off = ratio.summary.median - target
    if abs(off) < error(ratio.summary):
        return UNDECIDED if error(ratio.summary) <= _MOST_ERROR * target else NOISY
    return MET if (off <= 0 if ratio.bound == "at most" else off >= 0) else NOT_MET


def error(summary):
    """The standard error of the median, estimated from the quartiles; 0 for a ratio of medians."""
    return _ERROR_OF_MEDIAN * (summary.q3 - summary.q1) / math.sqrt(summary.n) if summary.n else 0


def _ratio(run, figure, above, below):
    upper, lower = ({(x, number): value for x in run.xs(figure, variant)
                     for number, value in run.at(figure, variant, x).items()}
                    for variant in (above, below))
    if not upper or not lower:
        missing = [name for name, of in ((above, upper), (below, lower)) if not of]
        return None, NOT_MEASURED, f"no {' and no '.join(missing)}"
    pairs = sorted(upper.keys() & lower.keys())
    most = max(len(upper), len(lower))
    if 2 * len(pairs) >= most and all(lower[pair] for pair in pairs):
        found = samples.summary([upper[pair] / lower[pair] for pair in pairs])
        alone = len(upper) + len(lower) - 2 * len(pairs)
        note = f"{len(pairs)} pairs" + (f", {alone} samples without a partner" if alone else "")
    else:
        divisor = statistics.median(lower.values())
        if divisor == 0:
            return None, NOT_MEASURED, f"{below} is 0"
        median = statistics.median(upper.values()) / divisor
        found = samples.Summary(0, median, median, median, median, median)
        why = "division by 0" if 2 * len(pairs) >= most else "rounds do not pair"
        note = f"{why}: ratio of medians"
    return found, "", note


def growth(run, figure):
    """The Growth of a figure with a (variant, tolerance): is the cost of one more x constant?

    A straight line is fitted by least squares to the medians of each half of the curve, which meet
    at the measured x nearest to the middle. Its slope is the cost of one more x without the fixed
    cost. The target is met if both slopes are the same within the tolerance. A cost that grows
    faster than x makes the second half steeper; a cost that occurs once, at some x, makes one of
    them steeper. Slopes between neighbouring x would be dominated by the noise of two medians.
    """
    variant, tolerance = figure.growth
    points = [(x, samples.summary(run.at(figure, variant, x).values()))
              for x in run.xs(figure, variant)]
    if not points:
        return Growth(figure, NOT_MEASURED, f"no {variant}")
    if len(points) < 3:
        return Growth(figure, NOT_MEASURED, f"{len(points)} numbers of {figure.x}, 3 are needed")
    slope, _ = _line(points)
    if slope <= 0:
        return Growth(figure, NOT_MEASURED, f"{variant} does not grow with {figure.x}")
    middle = (points[0][0] + points[-1][0]) / 2
    at = min(range(1, len(points) - 1), key=lambda index: abs(points[index][0] - middle))
    halves = points[:at + 1], points[at:]
    (first, first_error), (second, second_error) = (_line(half) for half in halves)
    if first <= 0:
        return Growth(figure, NOT_MET, f"{variant} does not grow in the first half", slope)
    change = second / first - 1
    off = math.hypot(first_error * second / first, second_error) / first
    outcome = (MET if abs(change) <= tolerance else NOT_MET) \
        if abs(abs(change) - tolerance) >= off else UNDECIDED if off <= _MOST_ERROR else NOISY
    return Growth(figure, outcome, "", slope, tuple(
        (half[0][0], half[-1][0], steep) for half, steep in zip(halves, (first, second))),
        change, off)


def _line(points):
    """The slope of the least-squares line through the medians, and its standard error."""
    mean = statistics.fmean(x for x, _ in points)
    square = sum((x - mean) ** 2 for x, _ in points)
    slope = sum((x - mean) * found.median for x, found in points) / square
    off = math.sqrt(sum(((x - mean) * error(found)) ** 2 for x, found in points)) / square
    return slope, off
