# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What the benchmark's report says of made-up samples."""

import json
import shutil
import xml.etree.ElementTree

import pytest

from uiokit import common, distro
from uiokit.bench import judge as bench_judge
from uiokit.bench import markdown as bench_markdown
from uiokit.bench import plot as bench_plot
from uiokit.bench import report as bench_report
from uiokit.bench import samples as bench_samples

ABOUT = {
    "date": "2001-02-03T04:05:06+00:00", "commit": "abc", "dpdk": "1.2.3", "form": "full",
    "command": "a command",
    "machine": {"cpu": "Abacus", "cores": 1, "memory_gib": 0.5, "kernel": "9.9"},
    "guest": {"kernel": "8.8", "accel": "tcg", "cpus": 1, "qemu": "7.7"}}


def sample(figure, variant, value, number=0, x=None):
    return {"figure": figure, "variant": variant, "x": x, "round": number, "value": value}


def rounds(figure, first=0, **variants):
    """A sample of each value of each variant, one a round."""
    return [sample(figure, variant, value, number)
            for variant, values in variants.items() for number, value in enumerate(values, first)]


def curve(cost, xs=(1, 2, 4, 8, 16, 32), figure="drives-part", variant="patched",
          spread=(-1, 0, 1)):
    return [sample(figure, variant, cost(x) + off, number, x)
            for x in xs for number, off in enumerate(spread)]


@pytest.fixture
def make(tmp_path):
    """Make the folder of a run: make(samples, name, **changes of run.json)."""
    def made(samples, name="run", **changes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(json.dumps({**ABOUT, **changes}))
        (folder / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in samples))
        return folder
    return made


def read(folder):
    return bench_samples.read(folder, bench_report.FIGURES)


@pytest.fixture
def judge(make):
    """Make a run and return what is judged of it, by figure and ratio, or figure alone."""
    def judged(samples):
        found = bench_judge.all_of(read(make(samples)), bench_report.FIGURES)
        return {f"{one.figure.name} {getattr(one, 'name', '')}".strip(): one for one in found}
    return judged


@pytest.fixture
def gnuplot():
    if shutil.which("gnuplot") is None:
        pytest.skip("no gnuplot here: apt-get install gnuplot-nox")


def test_the_table_is_sound():
    names = [figure.name for figure in bench_report.FIGURES]
    assert len(set(names)) == len(names)
    for figure in bench_report.FIGURES:
        assert len(set(figure.variants)) == len(figure.variants)
        for above, below, bound, target, *limit in figure.ratios:
            assert {above, below} <= set(figure.variants) and above != below
            assert bound in ("at most", "at least") or target is None
            assert not limit or (limit[0] > target) == (bound == "at most")
        assert figure.growth is None or (figure.x and figure.growth[0] in figure.variants)


@pytest.mark.parametrize("figure, below, value, outcome", [
    ("attach", "stock", 94, "met"), ("attach", "stock", 95, "met"),
    ("attach", "stock", 96, "NOT MET"),
    ("iops", "none", 98, "met"), ("iops", "none", 97, "met"), ("iops", "none", 96, "NOT MET")])
def test_a_target_is_met_or_not(judge, make, figure, below, value, outcome):
    samples = rounds(figure, patched=[value] * 3, **{below: [100] * 3})
    found = judge(samples)[f"{figure} patched / {below}"]
    assert (found.outcome, found.summary.median) == (outcome, value / 100)
    missed = bench_report.missed(make(samples))
    assert [(f"{figure}: patched / {below} is 0.96 (3 pairs); {found.wanted} is wanted",
             figure == "iops")] * (outcome == "NOT MET") == missed


def test_a_miss_that_is_explained_fails_beyond_its_limit(make):
    for value, failure in ((105, False), (106, True)):
        assert [failed for _, failed in bench_report.missed(
            make(rounds("attach", patched=[value], stock=[100])))] == [failure]


@pytest.mark.parametrize("off, outcome", [(-6, "met"), (-4, "undecided"), (4, "undecided"),
                                          (6, "NOT MET")])
def test_a_target_within_the_error_is_undecided(judge, make, off, outcome):
    # Quartiles 10 apart, of 3 samples: a standard error of 5.4.
    samples = rounds("iops", patched=[87 - off, 97 - off, 107 - off], none=[100] * 3)
    assert judge(samples)["iops patched / none"].outcome == outcome
    assert [failure for _, failure in bench_report.missed(make(samples))] == \
        [True] * (outcome == "NOT MET")


def test_a_ratio_is_of_rounds_and_not_of_medians(judge):
    # Each round is slower than the one before; patched is faster in each.
    found = judge(rounds("attach", patched=[90, 900, 9000], stock=[100, 1000, 10000],
                         vfio=[9000, 1800, 180]))
    assert found["attach patched / stock"].summary == (3, 0.9, 0.9, 0.9, 0.9, 0.9)
    assert found["attach patched / vfio"].summary == pytest.approx((3, 0.5, 0.255, 25.25, 0.01, 50))


def test_what_has_no_partner_is_left_out_and_told(judge):
    found = judge(rounds("attach", patched=[90, 90, 1], stock=[100, 100]))
    assert found["attach patched / stock"].summary.high == 0.9
    assert found["attach patched / stock"].note == "2 pairs, 1 samples without a partner"


def test_rounds_that_do_not_pair(judge):
    found = judge(rounds("attach", patched=[80, 90, 100]) +
                  rounds("attach", 3, stock=[90, 100, 110]))["attach patched / stock"]
    assert found.note == "rounds do not pair: ratio of medians"
    assert (found.outcome, found.summary.median, found.summary.n) == ("met", 0.9, 0)


def test_division_by_zero(judge):
    found = judge(rounds("files", patched=[1, 1, 1], stock=[0, 2, 2]))["files patched / stock"]
    assert found.summary.median == 0.5 and "ratio of medians" in found.note
    found = judge(rounds("attach", patched=[1], stock=[0]))["attach patched / stock"]
    assert found.outcome == "not measured in this run"


def test_what_was_not_measured_is_not_met(judge, make):
    samples = rounds("attach", patched=[1], stock=[2])
    found = judge(samples)
    assert found["attach patched / vfio"].note == "no vfio"
    assert found["iops patched / none"].note == "no patched and no none"
    assert {one.outcome for name, one in found.items() if name != "attach patched / stock"
            and one.wanted} == {"not measured in this run"}
    assert bench_report.missed(make(samples)) == []
    assert bench_report.not_measured(make(samples))[:2] == ["attach vfio", "attach none"]
    text = bench_markdown.report(read(make(samples)), bench_report.FIGURES)
    assert "| attach | vfio | 0 | not measured in this run | - | - | - | ms |" in text
    assert "\niops: not measured in this run\n" in text and "iops.svg" not in text
    assert "Targets: 1 met, 0 NOT MET, 0 undecided, 7 not measured in this run." in text


@pytest.mark.parametrize("cost, outcome", [
    (lambda x: 1000 + 50 * x, "met"),
    (lambda x: 1000 + 50 * x + 0.08 * x * x, "met"),
    (lambda x: 1000 + 50 * x + x * x, "NOT MET"),
    (lambda x: 1000 + 50 * x + 300 * (x > 16), "NOT MET"),
    (lambda x: 1000 + 400 * x ** 0.5, "NOT MET"),
    (lambda x: 1000 + 50 * x + 300 * (x > 4), "NOT MET"),
    (lambda x: 1000 + 100 * (x > 16), "NOT MET"),
    (lambda x: 1000, "not measured in this run")])
def test_growth(judge, make, cost, outcome):
    samples = curve(cost)
    assert judge(samples)["drives-part"].outcome == outcome
    missed = bench_report.missed(make(samples))
    assert len(missed) == (outcome == "NOT MET")
    assert all("flat within 10% is wanted" in sentence and failure for sentence, failure in missed)


def test_growth_tells_its_halves_and_the_error(judge):
    found = judge(curve(lambda x: 1000 + 10 * x, xs=(0, 10, 20),
                        spread=(-10, 0, 10)))["drives-part"]
    assert found.slope == pytest.approx(10)
    assert [tuple(half) for half in found.halves] == [(0, 10, 10), (10, 20, 10)]
    # Quartiles 10 apart, of 3 samples, at both ends of 10 drives, of two slopes of 10.
    assert (found.change, found.error) == pytest.approx(
        (0, 0.93 * 10 / 3 ** 0.5 * 2 ** 0.5 / 10 / 10 * 2 ** 0.5))
    assert found.outcome == "undecided"


def test_growth_that_is_too_little_in_one_half_alone(judge):
    found = judge(curve(lambda x: 999 + 100 * x - 80 * (x > 0), xs=(0, 4, 20)))["drives-part"]
    assert found.change == pytest.approx(0.25)
    assert found.outcome == "NOT MET"


def test_growth_needs_three(judge):
    found = judge(curve(lambda x: x, xs=(1, 2)))["drives-part"]
    assert found.note.startswith("2 drives are too few")


def test_quartiles():
    assert bench_samples.summary([5]) == (1, 5, 5, 5, 5, 5)
    assert bench_samples.summary([4, 1, 3, 2, 5]) == (5, 3, 2, 4, 1, 5)


@pytest.mark.parametrize("line, what", [
    ("{", "not JSON"),
    ("[]", "not an object of figure, round, value, variant, x"),
    ('{"figure": "attach"}', "not an object of"),
    (sample("naps", "patched", 1), "no figure naps is known: add it to FIGURES"),
    (sample("attach", "slow", 1), "no variant slow of attach is known"),
    (sample("attach", "patched", 1, x=3), "attach is no curve, x must be null"),
    (sample("drives", "patched", 1), "x is no number of drives"),
    (sample("attach", "patched", 1, number="1"), "round is no number"),
    (sample("attach", "patched", -1), "value is no number of 0 or more"),
    (sample("attach", "patched", True), "value is no number"),
    (sample("attach", "patched", float("nan")), "value is no number"),
    (sample("attach", "patched", 10 ** 400), "value is no number"),
    (sample("attach", "patched", 2), "round 0 of patched is here twice")])
def test_an_ill_formed_line_is_named(make, line, what):
    folder = make([sample("attach", "patched", 1)])
    with open(folder / "samples.jsonl", "a") as file:
        file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    with pytest.raises(common.Usage) as caught:
        bench_report.missed(folder)
    assert f"samples.jsonl:2: {what}" in str(caught.value)


@pytest.mark.parametrize("changes, what", [
    ({"date": "yesterday"}, "date is no ISO date"),
    ({"commit": None}, "commit is no text"),
    ({"command": "two\nlines"}, "command is not one line of text"),
    ({"form": "long"}, "form is neither full nor short"),
    ({"machine": 1}, "machine is no object"),
    ({"guest": {**ABOUT["guest"], "accel": "hvf"}}, "guest.accel is neither tcg nor kvm"),
    ({"machine": {**ABOUT["machine"], "cores": 1.5}}, "machine.cores is no number")])
def test_ill_formed_run(make, changes, what):
    with pytest.raises(common.Usage, match=rf"run\.json: {what}.*: run devtools/bench again"):
        bench_report.missed(make(rounds("attach", patched=[1]), **changes))


def test_files_that_are_not_there_or_empty(make, tmp_path):
    with pytest.raises(common.Usage, match="run.json: No such file.*name a folder"):
        bench_report.write(tmp_path)
    folder = make([])
    with pytest.raises(common.Usage, match="samples.jsonl: no sample in it"):
        bench_report.missed(folder)
    (folder / "samples.jsonl").unlink()
    with pytest.raises(common.Usage, match="samples.jsonl: No such file"):
        bench_report.missed(folder)
    (folder / "run.json").write_text("{\n,")
    with pytest.raises(common.Usage, match="run.json:2: not JSON"):
        bench_report.missed(folder)


def test_compare(make, monkeypatch):
    monkeypatch.setattr(distro, "need", None)   # plots alone need gnuplot
    a = make(rounds("attach", patched=[10, 20, 30], stock=[10, 11, 12], none=[0]) +
             curve(lambda x: 100), "a")
    b = make(rounds("attach", patched=[20, 24, 40], stock=[20, 22, 24], vfio=[7], none=[1]), "b")
    text = bench_report.compare(a, b)
    assert not text.startswith("**Not the same")
    assert "| attach | patched |  | 20 | 24 | +20.0 % | within the spread | ms |" in text
    assert "| attach | stock |  | 11 | 22 | +100.0 % | outside | ms |" in text
    assert "| attach | vfio |  | not measured | 7 | - | - | ms |" in text
    assert "| attach | none |  | 0 | 1 | - | outside | ms |" in text
    assert "| drives-part | patched | 4 drives | 100 | not measured | - | - | ms |" in text
    assert "iops" not in text
    assert "| attach | stock |  | 22 | 11 | -50.0 % | outside | ms |" in bench_report.compare(b, a)


def test_compare_says_first_what_differs(make):
    samples = rounds("attach", patched=[1])
    a = make(samples, "a")
    for changes, line in (
            ({"dpdk": "1.2.4"}, "- dpdk: A 1.2.3, B 1.2.4"),
            ({"form": "short"}, "- form: A full, B short"),
            ({"machine": {**ABOUT["machine"], "cores": 64}}, "- machine cores: A 1, B 64"),
            ({"guest": {**ABOUT["guest"], "accel": "kvm"}}, "- guest accel: A tcg, B kvm")):
        lines = bench_report.compare(a, make(samples, "b", **changes)).splitlines()
        assert lines[0] == "**Not the same conditions:**" and lines[2:4] == [line, ""]


ALL = [one for figure in bench_report.FIGURES for place, variant in enumerate(figure.variants, 1)
       for one in (rounds(figure.name, **{variant: [place, place * 2, place * 3]})
                   if figure.x is None else
                   curve(lambda x: 5 * place * x, figure=figure.name, variant=variant))]


def test_report(make, gnuplot):
    cpu = "It's \"50 %\" <fast> & `sure` @10 $GHz {_^} \\n"
    folder = make(ALL, machine={**ABOUT["machine"], "cpu": cpu})
    assert bench_report.write(folder) == folder / "report.md"
    report = (folder / "report.md").read_text()
    assert cpu in report and "      a command\n" in report and "tcg" in report
    assert ("| attach | patched / stock | 0.5 | 0.000 | 0.5 to 0.5 | 3 pairs | at most 0.95 | "
            "met |") in report
    assert ("| iops | patched / none | 0.5 | 0.000 | 0.5 to 0.5 | 3 pairs | at least 0.97 | "
            "**NOT MET** |") in report
    assert "| attach | stock | 3 | 4 | 3 to 5 | 2 | 6 | ms |" in report
    assert "| drives | patched | stock |" in report
    assert "| 8 | 40 (39.5 to 40.5; n = 3) | 80 (79.5 to 80.5; n = 3) |" in report
    assert "Target: flat within 10%, met." in report
    for figure in bench_report.FIGURES:
        assert f"({figure.name}.svg)" in report
        svg = xml.etree.ElementTree.parse(folder / f"{figure.name}.svg").getroot()
        text = [" ".join("".join(one.itertext()).split()) for one in svg.iter() if
                one.tag.endswith("}text")]
        unit = figure.unit if figure.unit == "count" else f"({figure.unit})"
        assert figure.title in text and any(one.endswith(unit) for one in text)
        assert set(figure.variants) <= set(text)
        assert any(cpu in one for one in text) and any(ABOUT["date"] in one for one in text)
        assert figure.x is None or figure.x in text


def test_the_same_samples_make_the_same_bytes(make, gnuplot):
    first, second = make(ALL, "first"), make(ALL[::-1], "second")
    for folder in (first, second):
        bench_report.write(folder)
    names = sorted(path.name for path in first.iterdir() if path.name != "samples.jsonl")
    assert len(names) == len(bench_report.FIGURES) + 2
    assert [name for name in names
            if (first / name).read_bytes() != (second / name).read_bytes()] == []


@pytest.mark.parametrize("samples", [
    rounds("files", patched=[0, 0]), rounds("attach", vfio=[1]), curve(lambda x: 7, xs=(5,)),
    curve(lambda x: 1, xs=(0,), spread=(0,))])
def test_a_plot_of_next_to_nothing(make, gnuplot, samples):
    folder = make(samples)
    bench_report.write(folder)
    assert len(list(folder.glob("*.svg"))) == 1


def test_every_sample_is_a_point_and_zero_is_on_the_axis(make):
    run = read(make(ALL))
    figures = {figure.name: figure for figure in bench_report.FIGURES}
    script = bench_plot.script(run, figures["attach"], ["somewhere"])
    points = script.split("$points2 << END\n")[1].split("END")[0].splitlines()
    assert [point.split()[1] for point in points] == ["2", "4", "6"]
    assert len({point.split()[0] for point in points}) == 3
    assert "set yrange [0:" in script and "logscale" not in script


def test_a_log_axis_where_there_is_no_zero(make):
    figure = bench_report.Figure("attach", "t", "ms", ("patched",), log=True)
    for value, log in ((1, True), (0, False)):
        run = read(make(rounds("attach", patched=[value, 1000])))
        assert ("set logscale y" in bench_plot.script(run, figure, [])) == log
