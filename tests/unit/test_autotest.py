# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/autotest without a guest: the verdict, the messages, the reports, wrong calls."""

import json
import pathlib
import re
import shlex
import types
import xml.etree.ElementTree as xml

import pytest
from test_common import ended

from uiokit import arch, common, distro
from uiokit.cli import autotest as command
from uiokit.cli import ci_report
from uiokit.dpdk import source, variants
from uiokit.lab import autotest, guest_kernel, tap

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


PASSED = output("ok a", "ok b # SKIP no drive"), 0
STOCK = output("ok a", f"not ok {LOST}"), 255
BLIND = output("ok a", "not ok b: expected a secondary to start, got a timeout"), 255
ALL_SKIPPED = output("ok a # SKIP not root"), 77


# The verdict on one run

def test_cases_are_read_with_what_failed_and_why():
    assert tap.read(STOCK[0]).cases == [
        tap.Case(1, "a", "passed"), tap.Case(2, "survives exit", "failed", LOST[15:])]
    assert str(tap.read(STOCK[0]).cases[1]) == LOST
    assert tap.read(PASSED[0]).cases[1] == tap.Case(2, "b", "skipped", "no drive")


def test_plan_cases_counts_and_exit_code_agree():
    assert autotest.judge(*PASSED).passed
    stock = autotest.judge(*STOCK)
    assert not stock.broken and not stock.passed
    assert [case.claim for case in stock.lost_bus_master] == ["survives exit"]
    assert not autotest.judge(*ALL_SKIPPED).broken


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
def test_a_run_in_which_they_do_not_agree_is_broken(text, code):
    found = autotest.judge(text, code)
    assert found.broken and not found.passed


@pytest.mark.parametrize("line", [
    "bus master survives exit: expected a secondary to start, got a timeout",
    "control: the bit drops: expected it to be seen, got COMMAND 0x0107: bus master is lost"])
def test_a_failure_for_another_reason_is_not_the_bug(line):
    assert autotest.judge(output("ok a", f"not ok {line}"), 255).lost_bus_master == []


def test_the_cases_are_read_from_the_source():
    cases = autotest.known_cases()
    assert cases["fd_none"] == "a secondary never opens /dev/uio*"
    assert cases["exit_abort"] == "bus master and traffic survive a secondary that aborts"
    assert all(any(part in name + claim for name, claim in cases.items())
               for part in autotest.SHORT)


# The command, with a guest and a build that are made up

@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """run(*arguments, stock=..., patched=..., diagnosis=...): (exit code, stdout, stderr)."""
    done = []
    monkeypatch.setattr(distro, "need", lambda _: done.append("install"))
    monkeypatch.setattr(guest_kernel, "obtain", lambda *_, **__: done.append("kernel"))
    monkeypatch.setattr(source, "get", lambda path=None, *_: types.SimpleNamespace(
        text=path or "22.11.11", path=tmp_path, is_git=False))

    def run(*argv, diagnosis="affected", **outputs):
        folders = [name for name in (variants.STOCK, variants.PATCHED)
                   if name == variants.STOCK or diagnosis == "affected"]
        monkeypatch.setattr(variants, "Build", lambda *_, **__: types.SimpleNamespace(
            diagnosis=diagnosis, evidence="x.c:1", program=lambda: "dpdk-test",
            variants=lambda: {name: name for name in folders}))

        def boot(options, **_):
            text, code = outputs[options.take[0][0]]
            if callable(text):
                text, code = text(options)
            if isinstance(text, Exception):
                raise text
            return types.SimpleNamespace(stdout=text, stderr="EAL: loud\n", code=code, accel="tcg",
                                         kernel="6.1", timed_out=False, log="boot.log")
        monkeypatch.setattr(autotest.vm, "boot", boot)
        monkeypatch.setattr("sys.argv", ["autotest"])
        return ended(lambda _: command.main(list(argv))), *capsys.readouterr()
    run.done = done
    return run


def test_a_pass_reassures_and_a_failure_names_case_expected_got_and_log(run):
    stock = "stock: fails as expected (1 of 2 cases, bus master lost in 1)"
    code, out, _ = run(stock=STOCK, patched=PASSED)
    assert code == 0 and out.splitlines() == [
        stock, "patched: passes (1 of 2 cases, 1 skipped)", "autotest: PASS"]
    code, out, _ = run(stock=STOCK, patched=STOCK)
    assert code == 1 and out.splitlines() == [
        stock, "patched: fails (1 of 2 cases)", "  failed: survives exit",
        "    expected: bus master set", "    got:      COMMAND 0x0103: bus master is lost",
        f"  whole output: {common.build_dir()}/autotest-patched.txt",
        "autotest: FAIL: patched fails (1 of 2 cases)"]


# The matrix

def test_the_matrix_has_each_value_with_the_oldest_and_the_newest_of_the_others(monkeypatch):
    monkeypatch.setattr(arch.platform, "machine", lambda: "x86_64")
    old, mid, new, arm = "bookworm", "bookworm-backports", "trixie", arch.ARM64
    ends = [("a", old, old, arch.AMD64), ("c", new, mid, arch.AMD64)]
    cells = command.cells(["a", "b", "c"])
    assert len(cells) == len(set(cells)) == 14 and cells[0] == ends[0]
    for end in ends:
        for place, values in enumerate(("abc", (old, mid, new), (old, mid), (arch.AMD64, arm))):
            assert all(end[:place] + (value,) + end[place + 1:] in cells for value in values)
    assert len(command.cells(list("abcdefg"))) == 22


@pytest.mark.parametrize("trixie, code, shown", [
    (PASSED, 0, "passes (1 of 2 cases, 1 skipped)"), (STOCK, 1, "fails (1 of 2 cases)"),
    ((common.Infrastructure("no | guest\nlog"), 0), 69, "not run: no \\| guest"),
    ((common.Usage("no module"), 0), 2, "not run: no module"),
    ((common.Skip("no drive"), 0), 77, "not run: no drive")])
def test_a_cell_that_fails_or_cannot_be_run_is_a_row_and_the_worst_decides(
        run, monkeypatch, trixie, code, shown):
    monkeypatch.setattr(command.qemu, "obtain", lambda suite, _: suite)
    monkeypatch.setattr(command.qemu, "version", lambda suite: f"QEMU of {suite}")
    ended, out, _ = run(
        "--matrix", "22.11.11", "26.07.0", stock=STOCK,
        patched=(lambda options: trixie if options.kernel == "trixie" else PASSED, 0))
    assert ended == code and out == (common.build_dir() / "matrix.md").read_text()
    rows = [line[2:-2].split(" | ") for line in out.splitlines() if line.startswith("| ")][1:]
    expected = command.cells(["22.11.11", "26.07.0"])
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (dpdk, suite if "not run" in row[5] else f"QEMU of {suite}", guest.name)
        for row, (dpdk, _, suite, guest) in zip(rows, expected)]
    assert all(row[1] == "6.1" and "fails as expected" in row[4] for row in rows)
    assert [row[5] for row in rows] == [
        shown if kernel == "trixie" else "passes (1 of 2 cases, 1 skipped)"
        for _, kernel, _, _ in expected]
    logs = [path.name for path in common.build_dir().glob("autotest-stock-*-trixie-*-arm64.txt")]
    assert len(logs) == 1


def test_every_kernel_of_one_dpdk_in_one_table(run, monkeypatch):
    kernels = []
    monkeypatch.setattr(command.qemu, "version", lambda program: f"version of {program}")
    monkeypatch.setattr(guest_kernel, "obtain", lambda kernel, *_, **__: kernels.append(kernel))
    argv = ["--kernel", "all", "--dpdk", "24.11.6"]
    code, out, _ = run(*argv, stock=STOCK, patched=PASSED)
    rows = [line[2:-2].split(" | ") for line in out.splitlines() if line.startswith("| ")][1:]
    assert code == 0 and kernels == ["bookworm", "bookworm-backports", "trixie"]
    assert all("24.11.6" in row[0] and row[2] == f"version of {arch.native().qemu}"
               and "fails as expected" in row[4] and "passes" in row[5] for row in rows)
    # There is nothing to patch: the row says why.
    code, out, _ = run(*argv, diagnosis="fixed", stock=PASSED)
    assert code == 0 and out.count("| not run: this DPDK is fixed |") == len(rows) == 3


def test_an_interrupted_matrix_shows_what_it_has(run, monkeypatch):
    def interrupted(options):
        if options.kernel == "trixie":
            raise KeyboardInterrupt
        return PASSED

    monkeypatch.setattr(command.qemu, "obtain", lambda suite, _: suite)
    monkeypatch.setattr(command.qemu, "version", lambda _: "7.2")
    code, out, _ = run("--matrix", stock=STOCK, patched=(interrupted, 0))
    assert code == common.INTERRUPTED
    assert out == (common.build_dir() / "matrix.md").read_text() and "passes" in out


def test_the_log_holds_output_and_errors_separately(run):
    run(stock=STOCK, patched=PASSED)
    log = (common.build_dir() / "autotest-stock.txt").read_text()
    assert "boot log: boot.log" in log.splitlines()[0]
    out, errors = log.split("# standard error:\n")
    assert STOCK[0] in out.split("# standard output:\n")[1] and errors == "EAL: loud\n"


@pytest.mark.parametrize("stock, patched, argv, code, last", [
    (BLIND, PASSED, [], 1, "the test did not detect it"),
    (PASSED, PASSED, [], 1, "the test did not detect it"),
    (PASSED, PASSED, ["-k", "fd_"], 0, "PASS"),
    (BLIND, PASSED, ["-k", "fd_"], 0, "PASS"),
    (STOCK, ALL_SKIPPED, [], 77, "SKIP: patched is not tested (1 of 1 cases skipped): not root"),
    (STOCK, PASSED, ["--only", "stock"], 1, "FAIL: stock fails (1 of 2 cases)"),
    (STOCK, PASSED, ["--only", "patched"], 0, "PASS"),
    (STOCK, (output("ok a", plan=2), 139), [], 1,
     "FAIL: patched gives no verdict: 1 of 2 cases reported, exit code 139")])
def test_both_halves_are_needed(run, stock, patched, argv, code, last):
    ended, out, _ = run(*argv, stock=stock, patched=patched)
    assert ended == code and out.splitlines()[-1].endswith(last)


def test_a_kernel_is_checked_for_the_guest_that_boots_it(run, tmp_path):
    path = tmp_path / "Image"
    path.write_bytes(bytes(0x38) + b"ARM\x64Linux version 6.1.0 (somebody)")
    argv = ["--arch", "arm64", "--kernel", str(path), "--modules", str(tmp_path)]
    assert run(*argv, stock=STOCK, patched=PASSED)[0] == 0


def test_a_base_without_the_bug_must_pass_as_it_is(run):
    assert run(diagnosis="fixed", stock=PASSED)[0] == 0
    assert run(diagnosis="fixed", stock=STOCK)[0] == 1
    assert "left out: cases about config space" in run(diagnosis="not-affected", stock=PASSED)[1]
    assert run("--only", "patched", diagnosis="fixed", stock=PASSED)[0] == 77


def test_a_guest_that_runs_no_case_is_no_verdict(run):
    code, out, errors = run(stock=("", 1), patched=PASSED)
    assert code == 69 and "0 plans" in errors and "autotest-stock.txt" in errors
    assert "    | EAL: loud" in out and "autotest:" not in out


# Reports

def test_json(run, tmp_path):
    code, out, errors = run("--json", "-", stock=STOCK, patched=PASSED)
    report = json.loads(out)
    assert "autotest: PASS" in errors
    assert (report["test"], report["result"], report["why"]) == (autotest.TEST, "PASS", "")
    assert report["dpdk"]["diagnosis"] == "affected"
    stock, patched = report["runs"]
    assert stock["cases"][1] == {"number": 2, "claim": "survives exit", "status": "failed",
                                 "why": LOST[15:]}
    assert [check["status"] for check in stock["checks"] + patched["checks"]] == \
        ["passed", "passed", "skipped"]


def test_junit(run, tmp_path):
    path = tmp_path / "junit.xml"
    assert run("--junit", str(path), stock=STOCK, patched=PASSED)[0] == 0
    stock, patched = xml.parse(path).getroot()
    assert {**stock.attrib, "time": 0} == {"name": "stock", "tests": "1", "failures": "0",
                                           "errors": "0", "skipped": "0", "time": 0}
    assert patched.attrib["skipped"] == "1" and patched[1][0].attrib["message"] == "no drive"
    bad = output("not ok x: expected <a>, got \x1b[1m&"), 255
    assert run("--junit", str(path), stock=STOCK, patched=bad)[0] == 1
    _, patched = xml.parse(path).getroot()
    assert patched.attrib["failures"] == "1"
    assert patched[0][0].tag == "failure" and patched[0][0].text == "expected <a>, got ?[1m&"


def test_tap(run, tmp_path):
    path = tmp_path / "out.tap"
    assert run("--tap", str(path), stock=STOCK, patched=PASSED)[0] == 0
    assert path.read_text().splitlines() == [
        "TAP version 13", "1..3", "ok 1 - stock: a secondary's exit clears bus master",
        "ok 2 - patched: a", "ok 3 - patched: b # SKIP no drive"]
    run("--tap", str(path), stock=STOCK, patched=BLIND)
    assert path.read_text().splitlines()[-2:] == [
        "not ok 3 - patched: b", "# expected a secondary to start, got a timeout"]


@pytest.mark.parametrize("stock, result, tag, line", [
    ((common.Infrastructure("no guest\n  log"), 0), "ERROR", "error",
     f"Bail out! {autotest.TEST}: "),
    (("", 1), "ERROR", "error", "Bail out! stock: the test runs to its end: 0 plans"),
    ((common.CheckFailed("no fit"), 0), "FAIL", "failure", f"not ok 1 - {autotest.TEST}: "),
    ((common.Skip("no guest"), 0), "SKIP", "skipped",
     f"ok 1 - {autotest.TEST}: the test runs # SKIP")])
def test_reports_say_when_there_is_no_verdict(run, tmp_path, stock, result, tag, line):
    names = [str(tmp_path / name) for name in ci_report.FORMATS]
    argv = [word for pair in zip(("--json", "--junit", "--tap"), names) for word in pair]
    assert run(*argv, stock=stock, patched=PASSED)[0] in (1, 69, 77)
    assert json.loads(pathlib.Path(names[0]).read_text())["result"] == result
    assert len(list(xml.parse(names[1]).getroot().iter(tag))) == 1
    assert line in pathlib.Path(names[2]).read_text()


@pytest.mark.parametrize("name", ci_report.FORMATS)
@pytest.mark.parametrize("path", ["/no/such", ""])
def test_a_report_that_cannot_be_written_is_found_first(run, tmp_path, name, path):
    code, _, errors = run(f"--{name}", f"{tmp_path}{path}")
    assert code == 2 and f"--{name} {tmp_path}{path}: cannot write: " in errors and run.done == []


# Wrong calls

@pytest.mark.parametrize("argv, complaint", [
    (["--timeout", "-5"], "-5: not a number from 1"),
    (["--timeout", "0"], "0: not a number from 1"),
    (["--repeat", "-3"], "-3: not a number from 1"),
    (["--nvme", "9"], "9: not a number from 1 to 8"),
    (["--uio", "junk"], "junk: not VENDOR:DEVICE"),
    (["--qemu", "/no/such"], "/no/such: no such program"),
    (["--matrix", "--tap", "x"], "--matrix: without"),
    (["--matrix", "--arch", "arm64"], "--matrix: without"),
    (["--kernel", "all", "--json", "x"], "--kernel all: without"),
    (["--modules", "/lib"], "without --kernel"),
    (["--json", "-", "--tap", "-"], "--json and --tap: only one can be -"),
    (["-k", "no-such-case"], "names: claim_refused, ")])
def test_wrong_calls_are_named_before_anything_is_done(run, argv, complaint):
    code, _, errors = run(*argv)
    assert code == 2 and complaint in errors and run.done == []


def test_a_wrong_tree_is_named_before_anything_is_installed(monkeypatch):
    monkeypatch.setattr(distro, "install", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(common.Usage, match="/no/such: no such"):
        command.main(["--dpdk", "/no/such"])


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml", "Containerfile"])
def test_the_examples_for_ci_call_it_rightly(name):
    call, = re.findall(r"(?m)devtools/autotest( --.*)$", (common.TOP / "doc/ci" / name).read_text())
    assert command.parse(shlex.split(call)).dpdk


def test_full_means_all_cases_and_more_secondaries(monkeypatch):
    # Options do not need QEMU to be installed.
    monkeypatch.setenv("PATH", "")
    options = command.parse(["--full"])
    assert (options.all, options.repeat, options.qemu) == (True, autotest.REPEAT_FULL, None)
    assert command.parse(["--full", "--repeat", "7"]).repeat == 7


def test_what_is_asked_for_reaches_the_guest(run):
    guests = []

    def runs(options):
        guests.append(options)
        return PASSED
    run("--no-aslr", "--nvme", "2", "--only", "patched", patched=(runs, 0))
    assert [(guest.aslr, guest.drives) for guest in guests] == [(False, 2)]
