# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What a run of the benchmark says of the targets of a figure: its ratios, and its growth."""

import dataclasses
import math
import statistics
import typing

from . import samples

MET = "met"
NOT_MET = "NOT MET"
UNDECIDED = "undecided"
NOT_MEASURED = "not measured in this run"
NO_TARGET = "no target"

# Standard error of a median over its quartile range, of normal samples: 1.253 / 1.349.
_ERROR_OF_MEDIAN = 0.93


@dataclasses.dataclass
class Ratio:
    """One ratio of a figure. summary: of the ratios, None if not measured; note: how they came."""

    figure: object
    above: str
    below: str
    bound: str
    target: typing.Optional[float]
    limit: typing.Optional[float]
    summary: typing.Optional[samples.Summary]
    outcome: str
    note: str

    @property
    def name(self):
        return f"{self.above} / {self.below}"

    @property
    def wanted(self):
        return "" if self.target is None else f"{self.bound} {self.target:g}"

    @property
    def failed(self):
        """It is worse than it may be: than its limit, where a miss of the target is explained."""
        limit = self.target if self.limit is None else self.limit
        return self.outcome == NOT_MET and _against(self, limit) == NOT_MET


class Half(typing.NamedTuple):
    """The slope from one x to another."""

    low: float
    high: float
    slope: float


@dataclasses.dataclass
class Growth:
    """The growth of a figure: the slope over all, and in its halves, none if it was not measured.

    change: of the slope, from the first half to the second, relative; error: its standard error.
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

    @property
    def failed(self):
        return self.outcome == NOT_MET


def all_of(run, figures):
    """The Ratios and Growths of all figures, in the order of the table."""
    return [one for figure in figures
            for one in [*ratios(run, figure), *([growth(run, figure)] if figure.growth else [])]]


def ratios(run, figure):
    """The Ratio of each line in the figure's table.

    A pair is one round at one x; the ratios of all pairs are summarised together. What has no
    partner is left out. Where fewer than half have one, or a partner is 0, the medians are divided
    instead, and there are no quartiles.
    """
    found = []
    for above, below, bound, *targets in figure.ratios:
        target, limit = (*targets, None)[:2]
        one = Ratio(figure, above, below, bound, target, limit, *_ratio(run, figure, above, below))
        if one.summary:
            one.outcome = NO_TARGET if target is None else _against(one, target)
        found.append(one)
    return found


def _against(ratio, target):
    """Whether the target is met, not met, or nearer than the ratio's standard error."""
    off = ratio.summary.median - target
    if abs(off) < error(ratio.summary):
        return UNDECIDED
    return MET if (off <= 0 if ratio.bound == "at most" else off >= 0) else NOT_MET


def error(summary):
    """The standard error of the median that the quartiles let expect; of a single value, none."""
    return _ERROR_OF_MEDIAN * (summary.q3 - summary.q1) / math.sqrt(summary.n) if summary.n else 0


def _ratio(run, figure, above, below):
    upper, lower = ({(x, number): value for x in run.xs(figure, [variant])
                     for number, value in run.at(figure, variant, x).items()}
                    for variant in (above, below))
    if not upper or not lower:
        lacking = [name for name, of in ((above, upper), (below, lower)) if not of]
        return None, NOT_MEASURED, f"no {' and no '.join(lacking)}"
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
        why = "some divide by 0" if 2 * len(pairs) >= most else "rounds do not pair"
        note = f"{why}: ratio of medians"
    return found, "", note


def growth(run, figure):
    """The Growth of a figure that has a rule for it, (variant, tolerance).

    Is the cost per x flat? Fit a straight line to the medians of each half of the x, by least
    squares: up to the measured one nearest to the middle, and from it on. A slope is the cost per
    x, and a fixed cost has no part in it. The rule is met if the second half's is as steep as the
    first's, within the tolerance. What grows faster than x is steeper in the second half, what is
    paid once, at some x, in one of them. Slopes between neighbours would say the same, but where x
    are close the noise of two medians would drown their difference.
    """
    variant, tolerance = figure.growth
    points = [(x, samples.summary(run.at(figure, variant, x).values()))
              for x in run.xs(figure, [variant])]
    if not points:
        return Growth(figure, NOT_MEASURED, f"no {variant}")
    if len(points) < 3:
        return Growth(figure, NOT_MEASURED, f"{len(points)} {figure.x} are too few, 3 are needed")
    slope, _ = _line(points)
    if slope <= 0:
        return Growth(figure, NOT_MEASURED, f"{variant} does not grow with {figure.x}")
    middle = (points[0][0] + points[-1][0]) / 2
    at = min(range(1, len(points) - 1), key=lambda index: abs(points[index][0] - middle))
    halves = points[:at + 1], points[at:]
    (first, first_error), (second, second_error) = (_line(half) for half in halves)
    if first <= 0:
        return Growth(figure, NOT_MET, f"{variant} does not grow at first", slope)
    change = second / first - 1
    off = math.hypot(first_error * second / first, second_error) / first
    outcome = UNDECIDED if abs(abs(change) - tolerance) < off else \
        MET if abs(change) <= tolerance else NOT_MET
    return Growth(figure, outcome, "", slope, tuple(
        Half(half[0][0], half[-1][0], steep) for half, steep in zip(halves, (first, second))),
        change, off)


def _line(points):
    """Slope of the least-squares line through the medians, and its standard error."""
    mean = statistics.fmean(x for x, _ in points)
    square = sum((x - mean) ** 2 for x, _ in points)
    slope = sum((x - mean) * found.median for x, found in points) / square
    off = math.sqrt(sum(((x - mean) * error(found)) ** 2 for x, found in points)) / square
    return slope, off
