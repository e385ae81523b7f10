# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The benchmark's report and verdict on made-up samples."""

import json
import shutil
import xml.etree.ElementTree

import pytest

from uiokit import common
from uiokit.bench import judge, report, samples
from uiokit.cli import bench

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
    def made(taken, name="run", **changes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(json.dumps({**ABOUT, **changes}))
        (folder / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in taken))
        return folder
    return made


@pytest.fixture
def run(make):
    """Make a run and read it: run(samples, name, **changes of run.json)."""
    return lambda *args, **changes: samples.read(make(*args, **changes))


@pytest.fixture
def judged(run):
    """Judge a run of some samples: {"FIGURE" or "FIGURE RATIO": Growth or Ratio}."""
    return lambda taken: {f"{one.figure.name} {getattr(one, 'name', '')}".strip(): one
                          for one in judge.all_of(run(taken))}


@pytest.fixture
def gnuplot():
    if shutil.which("gnuplot") is None:
        pytest.skip("no gnuplot here: apt-get install gnuplot-nox")


@pytest.mark.parametrize("figure, below, value, outcome", [
    ("attach", "stock", 99, "met"), ("attach", "stock", 100, "met"),
    ("attach", "stock", 101, "NOT MET"),
    ("iops", "none", 98, "met"), ("iops", "none", 97, "met"), ("iops", "none", 96, "NOT MET")])
def test_a_target_is_met_or_not(judged, run, figure, below, value, outcome):
    taken = rounds(figure, patched=[value] * 3, **{below: [100] * 3})
    found = judged(taken)[f"{figure} patched / {below}"]
    assert (found.outcome, found.summary.median) == (outcome, value / 100)
    assert [f"{figure}: patched / {below} is {value / 100:g} (3 pairs); target: {found.wanted}"] \
        * (outcome == "NOT MET") == report.missed(run(taken))


@pytest.mark.parametrize("off, outcome", [(-6, "met"), (-4, "undecided"), (4, "undecided"),
                                          (6, "NOT MET")])
def test_a_target_within_the_error_is_undecided(judged, run, off, outcome):
    # Quartiles 10 apart, of 3 samples: a standard error of 5.4.
    taken = rounds("iops", patched=[87 - off, 97 - off, 107 - off], none=[100] * 3)
    assert judged(taken)["iops patched / none"].outcome == outcome
    assert len(report.missed(run(taken))) == (outcome == "NOT MET")


def test_a_ratio_is_of_rounds_and_not_of_medians(judged):
    # Each round is slower than the one before; patched is faster in each.
    found = judged(rounds("attach", patched=[90, 900, 9000], stock=[100, 1000, 10000],
                          vfio=[9000, 1800, 180]))
    assert found["attach patched / stock"].summary == (3, 0.9, 0.9, 0.9, 0.9, 0.9)
    assert found["attach patched / vfio"].summary == pytest.approx((3, 0.5, 0.255, 25.25, 0.01, 50))


@pytest.mark.parametrize("taken, median, n, note", [
    (rounds("attach", patched=[90, 90, 1], stock=[100, 100]), 0.9, 2,
     "2 pairs, 1 samples without a partner"),
    (rounds("attach", patched=[80, 90, 100]) + rounds("attach", 3, stock=[90, 100, 110]), 0.9, 0,
     "rounds do not pair: ratio of medians"),
    (rounds("attach", patched=[1, 1, 1], stock=[0, 2, 2]), 0.5, 0,
     "division by 0: ratio of medians")])
def test_samples_that_make_no_pair(judged, taken, median, n, note):
    found = judged(taken)["attach patched / stock"]
    assert (found.summary.median, found.summary.n, found.note) == (median, n, note)


def test_what_was_not_measured_is_not_met(judged, run):
    taken = rounds("attach", patched=[1], stock=[2])
    found = judged(taken + rounds("config-read", rte_pci_read_config=[1], pread=[0]))
    assert found["attach patched / vfio"].note == "no vfio"
    assert found["iops patched / none"].note == "no patched and no none"
    assert found["config-read rte_pci_read_config / pread"].note == "pread is 0"
    assert {one.outcome for name, one in found.items() if name != "attach patched / stock"
            and one.wanted} == {"not measured in this run"}
    assert report.missed(run(taken)) == []
    assert run(taken).missing()[:2] == ["attach vfio", "attach none"]
    text = report.markdown(run(taken))
    assert "| attach | vfio |  | 0 | not measured in this run | - | - | - | ms |" in text
    assert "attach.svg" in text and "iops.svg" not in text
    assert "Targets: 1 met, 0 NOT MET, 0 undecided, 8 not measured in this run." in text


@pytest.mark.parametrize("cost, outcome", [
    (lambda x: 1000 + 50 * x, "met"),
    (lambda x: 1000 + 50 * x + 0.08 * x * x, "met"),
    (lambda x: 1000 + 50 * x + x * x, "NOT MET"),
    (lambda x: 1000 + 50 * x + 300 * (x > 16), "NOT MET"),
    (lambda x: 1000 + 400 * x ** 0.5, "NOT MET"),
    (lambda x: 1000 + 50 * x + 300 * (x > 4), "NOT MET"),
    (lambda x: 1000 + 100 * (x > 16), "NOT MET"),
    (lambda x: 1000, "not measured in this run")])
def test_growth(judged, run, cost, outcome):
    taken = curve(cost)
    assert judged(taken)["drives-part"].outcome == outcome
    missed = report.missed(run(taken))
    assert len(missed) == (outcome == "NOT MET")
    assert all("target: flat within 10%" in sentence for sentence in missed)


def test_growth_has_two_halves_and_an_error(judged):
    found = judged(curve(lambda x: 1000 + 10 * x, xs=(0, 10, 20),
                         spread=(-10, 0, 10)))["drives-part"]
    assert found.slope == pytest.approx(10)
    assert found.halves == ((0, 10, 10), (10, 20, 10))
    # Quartiles 10 apart, of 3 samples, at both ends of 10 drives, of two slopes of 10.
    assert (found.change, found.error) == pytest.approx(
        (0, 0.93 * 10 / 3 ** 0.5 * 2 ** 0.5 / 10 / 10 * 2 ** 0.5))
    assert found.outcome == "undecided"
    found = judged(curve(lambda x: x, xs=(1, 2)))["drives-part"]
    assert found.note == "2 numbers of drives, 3 are needed"


def test_quartiles():
    assert samples.summary([5]) == (1, 5, 5, 5, 5, 5)
    assert samples.summary([4, 1, 3, 2, 5]) == (5, 3, 2, 4, 1, 5)


@pytest.mark.parametrize("line, what", [
    ("{", "not JSON"),
    ("[]", "not an object of figure, round, value, variant, x"),
    ('{"figure": "attach"}', "not an object of"),
    (sample("naps", "patched", 1), "unknown figure naps: add it to FIGURES"),
    (sample("attach", "slow", 1), "unknown variant slow of attach"),
    (sample("attach", "patched", 1, x=3), "attach is not a curve, x must be null"),
    (sample("drives", "patched", 1), "x is not a number of drives"),
    (sample("attach", "patched", 1, number="1"), "round is not a number"),
    (sample("attach", "patched", -1), "value is not a number of 0 or more"),
    (sample("attach", "patched", True), "value is not a number"),
    (sample("attach", "patched", float("nan")), "value is not a number"),
    (sample("attach", "patched", 10 ** 400), "value is not a number"),
    (sample("attach", "patched", 2), "second sample of round 0 of patched")])
def test_an_ill_formed_line_is_named(make, line, what):
    folder = make([sample("attach", "patched", 1)])
    with open(folder / "samples.jsonl", "a") as file:
        file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    with pytest.raises(common.Usage) as caught:
        samples.read(folder)
    assert f"samples.jsonl:2: {what}" in str(caught.value)


@pytest.mark.parametrize("changes, what", [
    ({"machine": 1}, "machine: not an object with cpu"),
    ({"guest": {}}, "guest: not an object with kernel, accel")])
def test_ill_formed_run(make, changes, what):
    with pytest.raises(common.Usage, match=rf"run\.json: {what}.*: run devtools/bench again"):
        samples.read(make(rounds("attach", patched=[1]), **changes))


@pytest.mark.parametrize("name, text, what", [
    ("run.json", None, "run.json: No such file.*name the folder of a run"),
    ("run.json", "{\n,", "run.json:2: not JSON"),
    ("samples.jsonl", None, "samples.jsonl: No such file"),
    ("samples.jsonl", "", "samples.jsonl: no samples")])
def test_missing_and_empty_files(make, name, text, what):
    folder = make(rounds("attach", patched=[1]))
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(common.Usage, match=what):
        samples.read(folder)


def test_compare(run):
    a = run(rounds("attach", patched=[10, 20, 30], stock=[10, 11, 12], none=[0]) +
            curve(lambda x: 100), "a")
    b = run(rounds("attach", patched=[20, 24, 40], stock=[20, 22, 24], vfio=[7], none=[1]), "b")
    text = report.compare(a, b)
    assert not text.startswith("**Not the same")
    assert "| attach | patched |  | 20 | 24 | +20.0 % | within the spread | ms |" in text
    assert "| attach | stock |  | 11 | 22 | +100.0 % | outside | ms |" in text
    assert "| attach | vfio |  | not measured | 7 | - | - | ms |" in text
    assert "| attach | none |  | 0 | 1 | - | outside | ms |" in text
    assert "| drives-part | patched | 4 drives | 100 | not measured | - | - | ms |" in text
    assert "| iops | stock |  | not measured | not measured | - | - | 1/s |" in text
    assert "| attach | stock |  | 22 | 11 | -50.0 % | outside | ms |" in report.compare(b, a)


@pytest.mark.parametrize("changes, what", [
    ({"dpdk": "1.2.4"}, "DPDK 1.2.4"), ({"form": "short"}, "short form"),
    ({"machine": {**ABOUT["machine"], "cores": 64}}, "64 cores")])
def test_compare_starts_with_different_conditions(run, changes, what):
    taken = rounds("attach", patched=[1])
    lines = report.compare(run(taken, "a"), run(taken, "b", **changes)).splitlines()
    assert lines[0] == "**Not the same conditions:**"
    assert what not in lines[2] and what in lines[3]


ALL = [one for figure in samples.FIGURES for place, variant in enumerate(figure.variants, 1)
       for one in (rounds(figure.name, **{variant: [place, place * 2, place * 3]})
                   if figure.x is None else
                   curve(lambda x: 5 * place * x, figure=figure.name, variant=variant))]


def test_report(make, gnuplot):
    cpu = "It's \"50 %\" <fast> & `sure` @10 $GHz {_^} \\n"
    folder = make(ALL, machine={**ABOUT["machine"], "cpu": cpu})
    assert report.write(samples.read(folder)) == folder / "report.md"
    text = (folder / "report.md").read_text()
    assert cpu in text and "      a command\n" in text and "tcg" in text
    assert ("| attach | patched / stock | 0.5 | 0.000 | 0.5 to 0.5 | 3 pairs | at most 1 | "
            "met |") in text
    assert ("| iops | patched / none | 0.5 | 0.000 | 0.5 to 0.5 | 3 pairs | at least 0.97 | "
            "**NOT MET** |") in text
    assert "| attach | stock |  | 3 | 4 | 3 to 5 | 2 | 6 | ms |" in text
    assert "| drives | stock | 8 drives | 3 | 80 | 79.5 to 80.5 | 79 | 81 | ms |" in text
    assert "; target: flat within 10%, met." in text
    for figure in samples.FIGURES:
        assert f"({figure.name}.svg)" in text
        svg = xml.etree.ElementTree.parse(folder / f"{figure.name}.svg").getroot()
        words = [" ".join("".join(one.itertext()).split()) for one in svg.iter() if
                 one.tag.endswith("}text")]
        unit = figure.unit if figure.unit == "count" else f"({figure.unit})"
        assert figure.title in words and any(one.endswith(unit) for one in words)
        assert set(figure.variants) <= set(words)
        assert any(cpu in one for one in words) and any(ABOUT["date"] in one for one in words)
        assert figure.x is None or figure.x in words
    script = report.plot_script(samples.read(folder), samples.FIGURES[0], ["somewhere"])
    points = script.split("$points1 << END\n")[1].split("END")[0].splitlines()
    assert [point.split()[1] for point in points] == ["2", "4", "6"]
    assert len({point.split()[0] for point in points}) == 3 and "set yrange [0:" in script


def test_the_same_samples_make_the_same_bytes(make, gnuplot):
    first, second = make(ALL, "first"), make(ALL[::-1], "second")
    for folder in (first, second):
        report.write(samples.read(folder))
    names = sorted(path.name for path in first.iterdir() if path.name != "samples.jsonl")
    assert len(names) == len(samples.FIGURES) + 2
    assert [name for name in names
            if (first / name).read_bytes() != (second / name).read_bytes()] == []


@pytest.mark.parametrize("taken", [
    rounds("files", patched=[0, 0]), rounds("attach", vfio=[1]), curve(lambda x: 7, xs=(5,)),
    curve(lambda x: 1, xs=(0,), spread=(0,))])
def test_a_plot_of_very_few_samples(run, gnuplot, taken):
    folder = report.write(run(taken)).parent
    assert len(list(folder.glob("*.svg"))) == 1


@pytest.mark.parametrize("name", [samples.RUN, samples.SAMPLES])
def test_output_refuses_a_folder_with_a_run_before_all_else(tmp_path, name, capsys):
    (tmp_path / name).write_text("old")
    for output, why in ((tmp_path, "contains a run"), (tmp_path / name, "not a folder")):
        with pytest.raises(SystemExit) as ended:
            bench.main(["--output", str(output), "--dpdk", "/missing"])
        assert ended.value.code == common.USAGE and why in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "old"


@pytest.mark.parametrize("option", [["--short"], ["--output", "new"], ["--dpdk", "tree"]])
def test_compare_takes_no_other_option(option, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.parse(["--compare", "a", "b", *option])
    assert ended.value.code == common.USAGE
    assert "--compare measures nothing" in capsys.readouterr().err
