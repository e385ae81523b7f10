# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The report on a run of the benchmark, in Markdown.

Ratios are formed within one run, round by round, from samples that were taken alternately in one
guest, so that a disturbance slows down both. What was not measured is reported and never met.
"""

from . import judge, samples
from .samples import number


def missed(run):
    """A sentence for each missed target."""
    return [f"{one.figure.name}: {_sentence(one)}; target: {one.wanted}"
            for one in judge.all_of(run) if one.outcome == judge.NOT_MET]


def unjudged(run):
    """The names of the targets that were not measured, or only with too large an error."""
    return [f"{one.figure.name}: {one.outcome}" for one in judge.all_of(run)
            if one.wanted and one.outcome in (judge.NOT_MEASURED, judge.NOISY)]


def markdown(run):
    """The report on a Run."""
    judged = judge.all_of(run)
    outcomes = [one.outcome for one in judged if one.wanted]
    text = ["# Benchmark", "", *(f"- {line}" for line in run.conditions), "",
            "Targets: " + ", ".join(f"{outcomes.count(name)} {name}" for name in (
                judge.MET, judge.NOT_MET, judge.UNDECIDED, judge.NOISY,
                judge.NOT_MEASURED)) + ".", "",
            "## Ratios", "",
            "The median, its standard error and the quartiles are of the ratios of two samples of "
            "the same round. A target that is nearer than the error is undecided, or not judged if "
            "the error is above 10 %.", ""]
    text += _table(
        ["figure", "ratio", "median", "error", "quartiles", "of", "target", "verdict"], [
            [one.figure.name, one.name, *_spread(one.summary), one.note, one.wanted or "-",
             _bold(one.outcome)] for one in judged if isinstance(one, judge.Ratio)])
    text += ["", *(f"{one.figure.name}: {_sentence(one)}; target: {one.wanted}, "
                   f"{_bold(one.outcome)}." for one in judged if isinstance(one, judge.Growth)),
             "", "## Figures", "",
             *(f"- {figure.name}: {figure.title}" for figure in samples.FIGURES), ""]
    text += _table(["figure", "variant", "x", "n", "median", "quartiles", "min", "max", "unit"], [
        [*place, *_row(run.at(figure, place[1], x)), figure.unit]
        for figure, x, place in _places(run)])
    return "\n".join(text) + "\n"


def _places(run):
    """(figure, x, [name, variant, x in words]) of each row of the table."""
    for figure in samples.FIGURES:
        for variant in figure.variants:
            for x in run.xs(figure, variant) or [None]:
                yield figure, x, [figure.name, variant, "" if x is None else f"{x:g} {figure.x}"]


def _sentence(one):
    """The result of a measured Ratio or of a Growth."""
    if isinstance(one, judge.Ratio):
        return f"{one.name} is {number(one.summary.median)} ({one.note})"
    if not one.halves:
        return f"growth: {one.note}"
    halves = " and ".join(f"{number(slope)} from {low:g} to {high:g}"
                          for low, high, slope in one.halves)
    return (f"growth of {one.figure.growth[0]} per one of {one.figure.x} is "
            f"{number(one.slope)} {one.figure.unit} over all, {halves}: "
            f"{one.change * 100:+.1f} %, standard error {one.error * 100:.1f} %")


def _row(of):
    if not of:
        return ["0", judge.NOT_MEASURED, "-", "-", "-"]
    found = samples.summary(of.values())
    return [str(found.n), number(found.median), _quartiles(found), number(found.low),
            number(found.high)]


def _spread(found):
    """The median, standard error and quartiles of a ratio."""
    if not found:
        return "-", "-", "-"
    if not found.n:
        return number(found.median), "-", "-"
    return number(found.median), f"{judge.error(found):.3f}", _quartiles(found)


def _quartiles(found):
    return f"{number(found.q1)} to {number(found.q3)}"


def _bold(outcome):
    return f"**{outcome}**" if outcome == judge.NOT_MET else outcome


def _table(head, rows):
    """The lines of a Markdown table."""
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|",
            *(f"| {' | '.join(row)} |" for row in rows)]
