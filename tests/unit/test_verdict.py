# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import pytest

from uiokit.cli import autotest
from uiokit.lab import verdict

LOST = "survives exit: expected bus master set, got COMMAND 0x0103: bus master is lost"


def output(*cases, plan=None, last=None):
    """What dpdk-test prints for cases of the form "ok x", "not ok x" or "ok x # SKIP why"."""
    lines = ["EAL: noise", f"1..{len(cases) if plan is None else plan}"]
    for number, case in enumerate(cases, 1):
        head, claim = case.split("ok ", 1)
        lines += [f"{head}ok {number} - {claim}", "noise"]
    skipped = sum("# SKIP" in case for case in cases)
    failed = sum(case.startswith("not") for case in cases)
    counts = last or (len(cases) - failed - skipped, failed, skipped)
    lines.append("pci_uio_secondary: {} passed, {} failed, {} skipped".format(*counts))
    return "\n".join(lines)


PASSED = verdict.judge(output("ok a", "ok b # SKIP no drive"), 0)
STOCK = verdict.judge(output("ok a", f"not ok {LOST}"), 255)


def test_all_three_agree():
    assert PASSED.held and PASSED.skipped == ["b: no drive"]
    assert not STOCK.broken and not STOCK.held and STOCK.lost_bus_master == [LOST]


@pytest.mark.parametrize("text, code", [
    ("", 0),
    (output("ok a"), 1),
    (output("not ok a"), 0),
    (output("ok a", plan=2), 0),
    (output("ok a", "ok b").replace("ok 2", "ok 3"), 0),
    (output("ok a", last=(2, 0, 0)), 0),
    (output("ok a").replace("pci_uio_secondary: ", ""), 0),
    (output("ok a") + "\n" + output("ok a"), 0),
    ("1..0 # SKIP no NVMe device", 77),
    ("1..0", 0),
    (output("ok a # SKIP x"), 0)])
def test_anything_less_is_no_verdict(text, code):
    found = verdict.judge(text, code)
    assert found.broken and not found.held


def why_not(diagnosis="affected", only=None, **verdicts):
    return autotest.why_not(verdicts, diagnosis, only)


def test_pass_needs_both_halves():
    assert why_not(stock=STOCK, patched=PASSED) == ""
    assert "no longer sees it" in why_not(stock=PASSED, patched=PASSED)
    assert why_not(stock=STOCK, patched=STOCK).startswith("patched: lost bus master")


def test_only_stock_fails_and_names_the_loss():
    assert why_not(only="stock", stock=STOCK) == f"stock: {LOST}"


def test_chosen_cases_need_not_fail_on_stock():
    assert autotest.why_not({"stock": PASSED, "patched": PASSED}, "affected", None,
                            filtered=True) == ""


def test_safe_base_must_pass_as_it_is():
    assert why_not("not-affected", stock=PASSED) == ""
    assert why_not("fixed", stock=STOCK).startswith("stock, fixed")


@pytest.mark.parametrize("line", [
    "bus master survives exit: expected a secondary to start, got a timeout",
    "control: the bit drops: expected it to be seen, got COMMAND 0x0107: bus master is lost"])
def test_a_failure_for_another_reason_is_not_the_bug(line):
    stock = verdict.judge(output("ok a", f"not ok {line}"), 255)
    assert stock.lost_bus_master == []
    assert "no longer sees it" in why_not(stock=stock, patched=PASSED)


def test_broken_run_never_passes():
    broken = verdict.judge("", 0)
    assert "0 plans" in why_not(stock=broken, patched=PASSED)
    assert "0 plans" in why_not("fixed", stock=broken)
