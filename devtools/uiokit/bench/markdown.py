# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What a report on the benchmark says, as Markdown: of one run, and of two next to each other."""

from . import judge, samples
from .samples import number


def report(run, figures):
    """The report on a Run. It links to NAME.svg of each figure that was measured."""
    about = run.about
    judged = judge.all_of(run, figures)
    ratios = [one for one in judged if isinstance(one, judge.Ratio)]
    growths = {one.figure.name: one for one in judged if isinstance(one, judge.Growth)}
    outcomes = [one.outcome for one in judged if one.wanted]
    text = [f"# Benchmark of {about['date']}", "",
            *(f"- {line}" for line in machine(run)),
            f"- tree at {about['commit']}, {about['form']} form; made by:", "",
            f"      {about['command']}", "",
            "Targets: " + ", ".join(f"{outcomes.count(name)} {name}" for name in (
                judge.MET, judge.NOT_MET, judge.UNDECIDED,
                judge.NOT_MEASURED)) + ".", "",
            "## Ratios", "",
            "Each is formed of two samples of one round; median, its standard error and quartiles "
            "are of those. A target that is nearer than the error is undecided.", ""]
    text += _table(
        ["figure", "ratio", "median", "error", "quartiles", "of", "target", "verdict"], [
            [one.figure.name, one.name, *_spread(one.summary), one.note, one.wanted or "-",
             _bold(one.outcome)] for one in ratios])
    text += ["", "## Figures", ""]
    text += _table(["figure", "variant", "n", "median", "quartiles", "min", "max", "unit"], [
        _row(run, figure, variant) for figure in figures if figure.x is None
        for variant in figure.variants])
    for figure in figures:
        text += ["", f"### {figure.title}", ""]
        if not run.measured(figure):
            text.append(f"{figure.name}: {judge.NOT_MEASURED}")
            continue
        if figure.x is not None:
            text += [*_curve(run, figure), ""]
        if figure.name in growths:
            growth = growths[figure.name]
            text += [f"Found: {sentence(growth)}. Target: {growth.wanted}, "
                     f"{_bold(growth.outcome)}.", ""]
        text.append(f"![{figure.title}]({figure.name}.svg)")
    return "\n".join(text) + "\n"


def comparison(a, b, figures):
    """Two Runs, B against A, and before that what else they differ in.

    "within the spread": the ranges from quartile to quartile overlap.
    """
    differ = [f"- {name}: A {old}, B {new}" for name, old, new in _differences(a.about, b.about)]
    text = ["**Not the same conditions:**", "", *differ, ""] if differ else []
    text += [f"- {name}: {run.folder.resolve().name}, {run.about['date']}, {run.about['commit']}"
             for name, run in (("A", a), ("B", b))]
    rows = []
    for figure in figures:
        for variant in figure.variants:
            for x in sorted({*a.xs(figure, [variant]), *b.xs(figure, [variant])},
                            key=lambda x: x or 0):
                rows.append([figure.name, variant, "" if x is None else f"{x:g} {figure.x}",
                             *_change(a.at(figure, variant, x), b.at(figure, variant, x)),
                             figure.unit])
    return "\n".join([*text, "", *_table(
        ["figure", "variant", "x", "median of A", "median of B", "change", "quartiles", "unit"],
        rows)]) + "\n"


def machine(run):
    """The lines that say where a run was made."""
    host, guest = run.about["machine"], run.about["guest"]
    return (f"machine: {host['cpu']}, {host['cores']} cores, {host['memory_gib']:g} GiB, "
            f"Linux {host['kernel']}",
            f"guest: Linux {guest['kernel']}, {guest['accel']}, {guest['cpus']} processors, "
            f"QEMU {guest['qemu']}, DPDK {run.about['dpdk']}")


def sentence(one):
    """What was found of a Ratio that was measured, or of a Growth."""
    if isinstance(one, judge.Ratio):
        return f"{one.name} is {number(one.summary.median)} ({one.note})"
    if not one.halves:
        return f"growth: {one.note}"
    halves = " and ".join(f"{number(half.slope)} from {half.low:g} to {half.high:g}"
                          for half in one.halves)
    return (f"growth of {one.figure.growth[0]} per one of {one.figure.x} is "
            f"{number(one.slope)} {one.figure.unit} over all, {halves}: "
            f"{one.change * 100:+.1f} %, standard error {one.error * 100:.1f} %")


def _differences(a, b):
    for key in ("machine", "guest", "dpdk", "form"):
        if isinstance(a[key], dict):
            for name in dict.fromkeys((*a[key], *b[key])):
                old, new = (of[key].get(name, "not told") for of in (a, b))
                if old != new:
                    yield f"{key} {name}", old, new
        elif a[key] != b[key]:
            yield key, a[key], b[key]


def _change(old, new):
    if not old or not new:
        return [*(number(samples.summary(of.values()).median) if of else "not measured"
                  for of in (old, new)), "-", "-"]
    old, new = (samples.summary(of.values()) for of in (old, new))
    apart = old.q3 < new.q1 or new.q3 < old.q1
    return [number(old.median), number(new.median),
            f"{(new.median / old.median - 1) * 100:+.1f} %" if old.median else "-",
            "outside" if apart else "within the spread"]


def _row(run, figure, variant):
    of = run.at(figure, variant)
    if not of:
        return [figure.name, variant, "0", judge.NOT_MEASURED, "-", "-", "-", figure.unit]
    found = samples.summary(of.values())
    return [figure.name, variant, str(found.n), number(found.median), _quartiles(found),
            number(found.low), number(found.high), figure.unit]


def _curve(run, figure):
    rows = []
    for x in run.xs(figure):
        rows.append([f"{x:g}"])
        for variant in run.measured(figure):
            of = run.at(figure, variant, x)
            found = samples.summary(of.values()) if of else None
            rows[-1].append(f"{number(found.median)} ({_quartiles(found)}; n = {found.n})"
                            if found else "not measured")
    lacking = [f"{variant}: {judge.NOT_MEASURED}." for variant in figure.variants
               if variant not in run.measured(figure)]
    return [" ".join([f"Median (quartiles; samples), {figure.unit}.", *lacking]), "",
            *_table([figure.x, *run.measured(figure)], rows)]


def _spread(found):
    """Median, standard error and quartiles of a ratio."""
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
    """Lines of a Markdown table."""
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|",
            *(f"| {' | '.join(row)} |" for row in rows)]
