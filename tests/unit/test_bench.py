# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The benchmark's report and verdict on made-up samples."""

import pytest

from uiokit import common
from uiokit.bench import judge, report, samples


def sample(figure, variant, value, number=0, x=None):
    return {"figure": figure, "variant": variant, "x": x, "round": number, "value": value}


def rounds(figure, first=0, **variants):
    """A sample of each value of each variant, one a round."""
    return [sample(figure, variant, value, number)
            for variant, values in variants.items() for number, value in enumerate(values, first)]


def curve(cost, xs=(1, 2, 4, 8, 16, 32), figure="drives-probe", variant="patched",
          spread=(-1, 0, 1)):
    return [sample(figure, variant, cost(x) + off, number, x)
            for x in xs for number, off in enumerate(spread)]


def run(taken):
    return samples.run(["a machine"], taken)


def judged(taken):
    """{"FIGURE" or "FIGURE RATIO": Growth or Ratio} of some samples."""
    return {f"{one.figure.name} {getattr(one, 'name', '')}".strip(): one
            for one in judge.all_of(run(taken))}


@pytest.mark.parametrize("figure, below, value, outcome", [
    ("attach-instructions", "stock", 99, "met"), ("attach-instructions", "stock", 100, "met"),
    ("attach-instructions", "stock", 101, "NOT MET"),
    ("iops", "none", 91, "met"), ("iops", "none", 90, "met"), ("iops", "none", 89, "NOT MET")])
def test_a_target_is_met_or_not(figure, below, value, outcome):
    taken = rounds(figure, patched=[value] * 3, **{below: [100] * 3})
    found = judged(taken)[f"{figure} patched / {below}"]
    assert (found.outcome, found.summary.median) == (outcome, value / 100)
    assert [f"{figure}: patched / {below} is {value / 100:g} (3 pairs); target: {found.wanted}"] \
        * (outcome == "NOT MET") == report.missed(run(taken))


@pytest.mark.parametrize("off, outcome", [(-6, "met"), (-4, "undecided"), (4, "undecided"),
                                          (6, "NOT MET")])
def test_a_target_within_the_error_is_undecided(off, outcome):
    # Quartiles 10 apart, of 3 samples: a standard error of 5.4.
    taken = rounds("iops", patched=[80 - off, 90 - off, 100 - off], none=[100] * 3)
    assert judged(taken)["iops patched / none"].outcome == outcome
    assert len(report.missed(run(taken))) == (outcome == "NOT MET")


def test_a_noisy_machine_does_not_hide_a_miss():
    # A standard error of 11: a target that is missed by 10 would be undecided.
    taken = rounds("iops", patched=[60, 80, 101], none=[100] * 3)
    assert judged(taken)["iops patched / none"].outcome == "error too large"
    assert "iops: error too large" in report.unjudged(run(taken))


def test_a_ratio_is_of_rounds_and_not_of_medians():
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
def test_samples_that_make_no_pair(taken, median, n, note):
    found = judged(taken)["attach patched / stock"]
    assert (found.summary.median, found.summary.n, found.note) == (median, n, note)


def test_what_was_not_measured_is_not_met():
    taken = [one for name in ("attach", "attach-instructions")
             for one in rounds(name, patched=[1], stock=[2])]
    found = judged(taken + rounds("config-read", rte_pci_read_config=[1], pread=[0]))
    assert found["attach patched / vfio"].note == "no vfio"
    assert found["iops patched / none"].note == "no patched and no none"
    assert found["config-read rte_pci_read_config / pread"].note == "pread is 0"
    del found["attach-instructions patched / stock"]
    assert {one.outcome for one in found.values() if one.wanted} == {"not measured in this run"}
    assert report.missed(run(taken)) == []
    assert run(taken).missing()[:2] == ["attach without-uio-share", "attach vfio"]
    text = report.markdown(run(taken))
    assert "| attach | vfio |  | 0 | not measured in this run | - | - | - | ms |" in text
    assert ("Targets: 1 met, 0 NOT MET, 0 undecided, 0 error too large, "
            "11 not measured in this run.") in text
    assert len(report.unjudged(run(taken))) == 11


@pytest.mark.parametrize("cost, outcome", [
    (lambda x: 1000 + 50 * x, "met"),
    (lambda x: 1000 + 50 * x + 0.08 * x * x, "met"),
    (lambda x: 1000 + 50 * x + x * x, "NOT MET"),
    (lambda x: 1000 + 50 * x + 300 * (x > 16), "NOT MET"),
    (lambda x: 1000 + 400 * x ** 0.5, "NOT MET"),
    (lambda x: 1000 + 50 * x + 300 * (x > 4), "NOT MET"),
    (lambda x: 1000 + 100 * (x > 16), "NOT MET"),
    (lambda x: 1000, "not measured in this run")])
def test_growth(cost, outcome):
    taken = curve(cost)
    assert judged(taken)["drives-probe"].outcome == outcome
    missed = report.missed(run(taken))
    assert len(missed) == (outcome == "NOT MET")
    assert all("target: flat within 10%" in sentence for sentence in missed)


def test_growth_has_two_halves_and_an_error():
    found = judged(curve(lambda x: 1000 + 10 * x, xs=(0, 10, 20),
                         spread=(-10, 0, 10)))["drives-probe"]
    assert found.slope == pytest.approx(10)
    assert found.halves == ((0, 10, 10), (10, 20, 10))
    # Quartiles 10 apart, of 3 samples, at both ends of 10 drives, of two slopes of 10.
    assert (found.change, found.error) == pytest.approx(
        (0, 0.93 * 10 / 3 ** 0.5 * 2 ** 0.5 / 10 / 10 * 2 ** 0.5))
    assert found.outcome == "error too large"
    # The second half is 9 % steeper, with an error of 8 %.
    found = judged(curve(lambda x: 15 * x + 1.35 * max(x - 10, 0), xs=(0, 10, 20),
                         spread=(-10, 0, 10)))["drives-probe"]
    assert found.outcome == "undecided"
    found = judged(curve(lambda x: x, xs=(1, 2)))["drives-probe"]
    assert found.note == "2 numbers of drives, 3 are needed"


def test_quartiles():
    assert samples.summary([5]) == (1, 5, 5, 5, 5, 5)
    assert samples.summary([4, 1, 3, 2, 5]) == (5, 3, 2, 4, 1, 5)


@pytest.mark.parametrize("wrong, what", [
    (sample("naps", "patched", 1), "unknown: patched of naps: add it to FIGURES"),
    (sample("attach", "slow", 1), "unknown: slow of attach"),
    (sample("attach", "patched", 2), "attach: second sample of round 0 of patched")])
def test_a_sample_that_would_be_lost_is_named(wrong, what):
    with pytest.raises(common.Infrastructure, match=what):
        run([sample("attach", "patched", 1), wrong])


def test_report():
    text = report.markdown(run([
        one for figure in samples.FIGURES for place, variant in enumerate(figure.variants, 1)
        for one in (rounds(figure.name, **{variant: [place, place * 2, place * 3]})
                    if figure.x is None else
                    curve(lambda x: 5 * place * x, figure=figure.name, variant=variant))]))
    assert "- a machine\n" in text
    assert ("| attach-instructions | patched / stock | 0.5 | 0.000 | 0.5 to 0.5 | 3 pairs | "
            "at most 1 | met |") in text
    assert ("| iops | patched / none | 0.5 | 0.000 | 0.5 to 0.5 | 3 pairs | at least 0.9 | "
            "**NOT MET** |") in text
    assert "| attach | stock |  | 3 | 4 | 3 to 5 | 2 | 6 | ms |" in text
    assert ("| drives-probe | stock | 8 drives | 3 | 80 | 79.5 to 80.5 | 79 | 81 | "
            "million instructions |") in text
    assert "; target: flat within 10%, met." in text
