# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Plots of a run of the benchmark, as SVG by gnuplot. The same samples make the same bytes."""

import os
import textwrap
import xml.sax.saxutils

from .. import distro, process
from . import samples

_WIDTH = 760
_COLUMNS = 118  # of the caption, in which a line is _LINE high
_LINE = 15
_STRIP = "points: samples; bar: median; box: from quartile to quartile"
_CURVE = "small points: samples; line: medians; bars: from quartile to quartile"
_QUANTITIES = {"s": "time", "ms": "time", "us": "time", "kB": "memory", "1/s": "rate"}
# Okabe and Ito's, which stay apart for the colour-blind. A variant keeps its own in all plots.
_COLOURS = {"patched": "0072B2", "stock": "D55E00", "vfio": "009E73", "none": "707070"}
_MORE_COLOURS = ("0072B2", "E69F00", "CC79A7", "009E73", "56B4E9", "D55E00")
_POINTS = (7, 5, 9, 13, 11, 15)
_GOLDEN = 0.618034


def svg(run, figure, caption):
    """The plot of a figure that was measured: every sample, the medians and the quartiles."""
    distro.need({"gnuplot": "gnuplot-nox"})
    # -d: no settings of this user's or machine's.
    drawn = process.run(["gnuplot", "-d"], stdin=script(run, figure, caption),
                        env=dict(os.environ, LC_ALL="C.UTF-8")).stdout
    title = xml.sax.saxutils.escape(figure.title)
    return drawn.replace("<title>Gnuplot</title>", f"<title>{title}</title>", 1)


def script(run, figure, caption):
    """The same as gnuplot's commands. `caption`: lines below the plot."""
    values = [value for variant in run.measured(figure) for x in run.xs(figure, [variant])
              for value in run.at(figure, variant, x).values()]
    top = max(values) * 1.06 or 1
    log = figure.log and min(values) > 0
    marks, drawing = (_STRIP, _strips) if figure.x is None else (_CURVE, _curves)
    lines = [part for line in (marks, *caption) for part in textwrap.wrap(line, _COLUMNS)]
    below = len(lines) * _LINE + (62 if figure.x is None else 70)
    height = 350 + below
    quantity = _QUANTITIES.get(figure.unit)
    text = [
        f'set terminal svg noenhanced size {_WIDTH},{height} background "white" '
        'font "sans-serif,13"',
        'set encoding utf8',
        f'set title {_quoted(figure.title)} font "sans-serif,16"',
        f'set ylabel {_quoted(f"{quantity} ({figure.unit})" if quantity else figure.unit)}',
        'set border 3 lc rgb "#404040"',
        'set tics nomirror out',
        'set grid ytics lt 1 lw 1 lc rgb "#dddddd"',
        'set logscale y' if log else f'set yrange [0:{top:.9g}]',
        f'set format y "{"%g" if log or top < 10 else "%.0f"}"',
        f'set bmargin at screen {below / height:.4f}']
    for number, line in enumerate(reversed(lines)):
        text.append(f'set label {_quoted(line)} at screen 0.015, screen '
                    f'{(12 + _LINE * number) / height:.4f} left font "sans-serif,11" '
                    'tc rgb "#505050"')
    return "\n".join(text + drawing(run, figure)) + "\n"


def _strips(run, figure):
    """A strip of points for each variant, next to each other, on the box of its quartiles."""
    variants = run.measured(figure)
    text, tics, plots = [], [], []
    for place, variant in enumerate(variants, 1):
        values = [value for _, value in sorted(run.at(figure, variant).items())]
        found = samples.summary(values)
        median = samples.number(found.median)
        unit = "" if figure.unit == "count" else f" {figure.unit}"
        tics.append(f'"{variant}\\n{median}{unit}, n = {found.n}" {place}')
        text += [f"$box{place} << END", f"{place} {found.median:.9g} {place - 0.3} {place + 0.3} "
                 f"{found.q1:.9g} {found.q3:.9g}", "END", f"$points{place} << END"]
        # Spread evenly, and not at random, over the middle of the box.
        text += [f"{place + (index * _GOLDEN % 1 - 0.5) * 0.44:.4f} {value:.9g}"
                 for index, value in enumerate(values)]
        text += ["END"]
        colour = _colour(figure, variant)
        plots += [f'$box{place} using 1:2:3:4:5:6 with boxxyerror fs solid 0.18 noborder '
                  f'lc rgb "#{colour}"',
                  f'$box{place} using 3:2:(0.6):(0) with vectors nohead lw 2 lc rgb "#202020"',
                  f'$points{place} using 1:2 with points pt 7 ps 0.45 lc rgb "#40{colour}"']
    return text + [f'set xtics ({", ".join(tics)}) scale 0', "set key off",
                   f"set xrange [0.4:{len(variants) + 0.6}]", "plot " + ", \\\n     ".join(plots)]


def _curves(run, figure):
    """A line of medians for each variant, with bars from quartile to quartile and all samples."""
    variants, xs = run.measured(figure), run.xs(figure)
    text, plots = [], []
    width = xs[-1] - xs[0] or 1
    for place, variant in enumerate(variants):
        # Next to each other, so that no bar hides another.
        shift = (place - (len(variants) - 1) / 2) * 0.008 * width
        points, medians = [], []
        for x in run.xs(figure, [variant]):
            of = run.at(figure, variant, x)
            found = samples.summary(of.values())
            points += [f"{x + shift:.6g} {value:.9g}" for _, value in sorted(of.items())]
            medians.append(f"{x + shift:.6g} {found.median:.9g} {found.q1:.9g} {found.q3:.9g}")
        text += [f"$points{place} << END", *points, "END",
                 f"$medians{place} << END", *medians, "END"]
        colour, shape = _colour(figure, variant), _POINTS[place % len(_POINTS)]
        plots += [f'$points{place} using 1:2 with points pt 7 ps 0.25 '
                  f'lc rgb "#80{colour}" notitle',
                  f'$medians{place} using 1:3:(0):($4-$3) with vectors heads size screen 0.005,90 '
                  f'lw 1.5 lc rgb "#{colour}" notitle',
                  f'$medians{place} using 1:2 with linespoints pt {shape} ps 0.45 lw 1.5 '
                  f'lc rgb "#{colour}" title {_quoted(variant)}']
    if len(xs) <= 10:
        text.append(f"set xtics ({', '.join(f'{x:g}' for x in _apart(xs, 0.045 * width))})")
    return text + [
        f"set xlabel {_quoted(figure.x)} offset 0, 0.5",
        "set key outside right center Left reverse samplen 2",
        f"set xrange [{min(0, xs[0]) - 0.025 * width:.6g}:{xs[-1] + 0.03 * width:.6g}]",
        "plot " + ", \\\n     ".join(plots)]


def _apart(xs, gap):
    """Those x whose labels do not touch, the last one among them."""
    kept = [xs[-1]]
    for x in xs[:-1]:
        if (len(kept) < 2 or x - kept[-1] >= gap) and xs[-1] - x >= gap:
            kept.append(x)
    return sorted(kept)


def _colour(figure, variant):
    return _COLOURS.get(variant) or \
        _MORE_COLOURS[figure.variants.index(variant) % len(_MORE_COLOURS)]


def _quoted(text):
    """As gnuplot takes a string in which nothing is special."""
    return "'" + text.replace("'", "''") + "'"
