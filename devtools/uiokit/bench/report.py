# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Reports on runs of the benchmark: Markdown of one run and of two side by side, plots by gnuplot.

Ratios are formed within one run, round by round, from samples that were taken alternately in one
guest, so that a disturbance slows down both. What was not measured is reported and never met. The
same samples give the same bytes.
"""

import os
import textwrap
import xml.sax.saxutils

from .. import common, process
from . import judge, samples
from .samples import number

_MARKS = "small points: samples; large points: medians; bars: from quartile to quartile"
_QUANTITIES = {"s": "time (s)", "ms": "time (ms)", "us": "time (us)", "kB": "memory (kB)",
               "1/s": "rate (1/s)"}
# The palette of Okabe and Ito, for colour-blind readers. A variant has one colour in all plots.
_COLOURS = {"patched": "0072B2", "stock": "D55E00", "vfio": "009E73", "none": "707070"}
_MORE_COLOURS = ("0072B2", "E69F00", "CC79A7", "009E73")
_GOLDEN = 0.618034


def write(run):
    """Write report.md and the plot NAME.svg of each measured figure; the path of the report."""
    machine, guest = _machine(run)
    for figure in samples.FIGURES:
        if run.measured(figure):
            common.replace_file(run.folder / f"{figure.name}.svg",
                                _svg(run, figure, (machine, f"{guest}; {run.about['date']}")))
    common.replace_file(run.folder / "report.md", markdown(run))
    return run.folder / "report.md"


def missed(run):
    """A sentence for each missed target."""
    return [f"{one.figure.name}: {_sentence(one)}; target: {one.wanted}"
            for one in judge.all_of(run) if one.outcome == judge.NOT_MET]


def markdown(run):
    """The report on a Run. It links to NAME.svg of each measured figure."""
    about = run.about
    judged = judge.all_of(run)
    outcomes = [one.outcome for one in judged if one.wanted]
    text = [f"# Benchmark of {about['date']}", "",
            *(f"- {line}" for line in _machine(run)),
            f"- commit {about['commit']}, {about['form']} form; command:", "",
            f"      {about['command']}", "",
            "Targets: " + ", ".join(f"{outcomes.count(name)} {name}" for name in (
                judge.MET, judge.NOT_MET, judge.UNDECIDED,
                judge.NOT_MEASURED)) + ".", "",
            "## Ratios", "",
            "The median, its standard error and the quartiles are of the ratios of two samples of "
            "the same round. A target that is nearer than the error is undecided.", ""]
    text += _table(
        ["figure", "ratio", "median", "error", "quartiles", "of", "target", "verdict"], [
            [one.figure.name, one.name, *_spread(one.summary), one.note, one.wanted or "-",
             _bold(one.outcome)] for one in judged if isinstance(one, judge.Ratio)])
    text += ["", *(f"{one.figure.name}: {_sentence(one)}; target: {one.wanted}, "
                   f"{_bold(one.outcome)}." for one in judged if isinstance(one, judge.Growth)),
             "", "## Figures", ""]
    text += _table(["figure", "variant", "x", "n", "median", "quartiles", "min", "max", "unit"], [
        [*place, *_row(run.at(figure, place[1], x)), figure.unit]
        for figure, x, place in _places(run)])
    text += [f"\n![{figure.title}]({figure.name}.svg)" for figure in samples.FIGURES
             if run.measured(figure)]
    return "\n".join(text) + "\n"


def _places(*runs):
    """(figure, x, [name, variant, x in words]) of each row of a table of these runs."""
    for figure in samples.FIGURES:
        for variant in figure.variants:
            for x in sorted({x for run in runs for x in run.xs(figure, [variant])},
                            key=lambda x: x or 0) or [None]:
                yield figure, x, [figure.name, variant, "" if x is None else f"{x:g} {figure.x}"]


def compare(a, b):
    """A Markdown table of two Runs, B against A, below their conditions.

    "within the spread": the ranges between the quartiles overlap.
    """
    conditions = [[*_machine(run), f"{run.about['form']} form"] for run in (a, b)]
    text = ["**Not the same conditions:**", ""] if conditions[0] != conditions[1] else []
    for name, run, lines in zip("AB", (a, b), conditions):
        text.append(f"- {name}: {run.folder.resolve().name}, {run.about['date']}, "
                    f"{run.about['commit']}; {'; '.join(lines)}")
    rows = [[*place, *_change(*(run.at(figure, place[1], x) for run in (a, b))), figure.unit]
            for figure, x, place in _places(a, b)]
    return "\n".join([*text, "", *_table(
        ["figure", "variant", "x", "median of A", "median of B", "change", "quartiles", "unit"],
        rows)]) + "\n"


def _machine(run):
    """Two lines about the machine and the guest of a run."""
    host, guest = run.about["machine"], run.about["guest"]
    return (f"machine: {host['cpu']}, {host['cores']} cores, {host['memory_gib']} GiB, "
            f"Linux {host['kernel']}",
            f"guest: Linux {guest['kernel']}, {guest['accel']}, {guest['cpus']} processors, "
            f"QEMU {guest['qemu']}, DPDK {run.about['dpdk']}")


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


def _change(old, new):
    if not old or not new:
        return [*(number(samples.summary(of.values()).median) if of else "not measured"
                  for of in (old, new)), "-", "-"]
    old, new = (samples.summary(of.values()) for of in (old, new))
    apart = old.q3 < new.q1 or new.q3 < old.q1
    return [number(old.median), number(new.median),
            f"{(new.median / old.median - 1) * 100:+.1f} %" if old.median else "-",
            "outside" if apart else "within the spread"]


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


def _svg(run, figure, caption):
    """The plot of a measured figure: every sample, the medians and the quartiles."""
    # -d: ignore the settings of the user and the machine.
    drawn = process.run(["gnuplot", "-d"], stdin=plot_script(run, figure, caption),
                        env=dict(os.environ, LC_ALL="C.UTF-8")).stdout
    title = xml.sax.saxutils.escape(figure.title)
    return drawn.replace("<title>Gnuplot</title>", f"<title>{title}</title>", 1)


def plot_script(run, figure, caption):
    """The commands for gnuplot. caption: lines below the plot."""
    text, plots, tics, everything = [], [], [], []
    for place, variant in enumerate(run.measured(figure)):
        points, medians = [], []
        for x in run.xs(figure, [variant]):
            values = [value for _, value in sorted(run.at(figure, variant, x).items())]
            found, at = samples.summary(values), place if x is None else x
            everything += values
            # Without an x, spread the samples evenly, not at random.
            points += [f"{at + (x is None) * (index * _GOLDEN % 1 - 0.5) * 0.4:.4f} {value:.9g}"
                       for index, value in enumerate(values)]
            medians.append(f"{at:.6g} {found.median:.9g} {found.q1:.9g} {found.q3:.9g}")
        text += [f"$points{place} << END", *points, "END",
                 f"$medians{place} << END", *medians, "END"]
        colour = _COLOURS.get(variant, _MORE_COLOURS[place % len(_MORE_COLOURS)])
        plots += [f'$points{place} using 1:2 with points pt 7 ps 0.3 lc rgb "#80{colour}" notitle',
                  f'$medians{place} using 1:2:3:4 with yerrorbars pt 5 lw 1.5 lc rgb "#{colour}" '
                  'notitle',
                  f'$medians{place} using 1:2 with lines lw 1.5 lc rgb "#{colour}" '
                  f'title {_quoted(variant)}']
        tics.append(f"{_quoted(variant)} {place}")
    if figure.x is None:
        text += ["set key off", f"set xtics ({', '.join(tics)})",
                 f"set xrange [-0.6:{place + 0.6}]"]
    lines = [part for line in (figure.x or "", _MARKS, *caption)
             for part in textwrap.wrap(line, 110) or [""]]
    return "\n".join([
        'set terminal svg noenhanced size 760,440 background "white" font "sans-serif,13"',
        "set encoding utf8", f"set title {_quoted(figure.title)}",
        f"set ylabel {_quoted(_QUANTITIES.get(figure.unit, figure.unit))}",
        # In apostrophes nothing is special, a line break included.
        'set xlabel ' + '."\\n".'.join(map(_quoted, lines)) + ' font "sans-serif,11"',
        "set border 3", "set tics nomirror out", "set grid ytics", "set offsets graph 0.03, 0.03",
        "set key outside right center Left reverse samplen 2",
        f"set yrange [0:{max(everything) * 1.06 or 1:.9g}]", *text,
        "plot " + ", \\\n     ".join(plots), ""])


def _quoted(text):
    """A string for gnuplot without special characters."""
    return "'" + text.replace("'", "''") + "'"
