# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/spdk, with stand-ins for SPDK and for the lab."""

import json
import re
import subprocess
import xml.etree.ElementTree as xml

import pytest
from conftest import write

from uiokit import common
from uiokit.cli import spdk
from uiokit.lab import vm

STEPS = re.findall(r"(?m)^(?:run|start) (\w+)", spdk.SETUP) + [*spdk.BESIDE_STUB] \
    + re.findall(r"(?m)^(?:run|start) (\w+)", spdk.PERFS)
DONE = "Total     :     123.00     0.48\n"


def output(**different):
    """What the guest prints if all is well, but for these steps: (text, exit code, COMMAND)."""
    steps = {name: (DONE, 0, "0507") for name in STEPS}
    steps.update({
        "doorbell_aers": ("Success: a\nSuccess: b\nSuccess: c\n", 0, "0507"),
        "killed_secondary": ("", 137, "0507"), "killed_primary": (DONE, 139, "0103"),
        "primary_last": (DONE, 0, "0103"), "lost_primary": ("", 137, "0507"),
        spdk.LAST: (DONE, 139, "0103"), **different})
    return "".join(f"# {name}: /spdk/{spdk.BESIDE_STUB.get(name, 'perf')} -t 1\n{text}\n"
                   f"spdk-step {name} {code} 10.00 12.50 {command}\n"
                   for name, (text, code, command) in steps.items())


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "spdk", {places[0]: "" for places in spdk.PROGRAMS.values()})
    return tmp_path / "spdk"


@pytest.fixture
def run(tree, tmp_path, monkeypatch):
    """Run the command on outputs of the guest; returns the exit code, checks by name, options."""
    booted = []

    def run(*outputs, args=()):
        def boot(options, on_line):
            booted.append(options)
            return vm.Result(0, False, outputs[len(booted) - 1], "", 90, "tcg", "6.1", "log")
        monkeypatch.setattr(vm, "boot", boot)
        report = tmp_path / "report.json"
        code = spdk.main([str(tree), "--json", str(report), *args])
        runs = json.loads(report.read_text())["runs"]
        return code, [{check["name"]: (check["status"], check["why"]) for check in one["checks"]}
                      for one in runs], booted
    return run


def test_all_programs_end_well(run, capsys):
    code, (checks,), (options,) = run(output())
    assert code == common.PASSED and {status for status, _ in checks.values()} == {"passed"}
    assert set(checks) == set(STEPS) and options.command[-1].startswith(spdk.SETUP)
    out = capsys.readouterr().out
    assert re.search(r"primary_last +0 +2.5 +123.00  0x0103   off", out)
    assert out.endswith("spdk: PASS\n")


@pytest.mark.parametrize("step, result, why", [
    ("sgl", ("text", 1, "0507"), "exit code 1"),
    ("killed_primary", ("text", 139, "0103"), "exit code 139"),
    (spdk.LAST, ("text", 139, "0103"), "exit code 139"),
    ("primary_last", ("No valid NVMe controllers found", 0, "0103"), "did nothing: see its output"),
    ("reset", ("", 0, "0507"), "did nothing: see its output"),
    ("multi_secondary_2", (DONE, 137, "0507"), "killed after 2 s"),
    ("killed_secondary", (DONE, 0, "0507"), "exit code 0"),
    ("primary_first_secondary", ("", 137, "0103"), "killed after 2 s"),
    ("doorbell_aers", ("Success: a\nFailure: b\nSuccess: c\n", 0, "0507"), "2 of 3 events"),
    ("identify", ("", 139, "0103"),
     "exit code 139, bus mastering is off, and the primary has the device")])
def test_what_is_wrong_fails(run, step, result, why):
    code, (checks,), _ = run(output(**{step: result}))
    assert code == common.FAILED
    assert {name: said for name, said in checks.items() if said[0] != "passed"} == {
        step: ("failed", why)}


def test_a_guest_script_that_ends_early_fails(run):
    code, (checks,), _ = run(output().rsplit("\nspdk-step", 1)[0])
    assert code == common.FAILED and [*checks] == ["all steps end"]


def test_stock_must_lose_bus_mastering(run, tree):
    stock = ["--stock-dpdk", str(tree)]
    code, (checks, _), booted = run(output(sgl=(DONE, 0, "0103")), output(), args=stock)
    assert code == common.PASSED and [*checks.values()] == [("passed", "")]
    assert [options.env["LD_LIBRARY_PATH"] for options in booted] == [
        f"{tree}/lib:{tree}/build/lib", f"{tree}/build/lib"]


def test_stock_that_loses_nothing_fails(run, tree):
    code, (checks, _), _ = run(output(sgl=("", 1, "0507")), output(),
                               args=["--stock-tree", str(tree)])
    assert code == common.FAILED and [status for status, _ in checks.values()] == ["failed"]


def test_a_program_that_is_not_built_is_skipped_by_name(run, tree):
    (tree / spdk.PROGRAMS["nvme_dp"][0]).unlink()
    code, (checks,), (options,) = run(output())
    assert code == common.PASSED and checks["e2edp"] == ("skipped", "nvme_dp is not built")
    assert "run e2edp" not in options.command[-1] and "run sgl" in options.command[-1]


def test_an_unbuilt_spdk_is_a_usage_error(tmp_path):
    with pytest.raises(common.Usage, match="perf: build SPDK there"):
        spdk.main([str(tmp_path)])


def test_junit_names_the_test(run, tree, tmp_path):
    run(output(), args=["--junit", str(tmp_path / "x.xml")])
    assert xml.parse(tmp_path / "x.xml").getroot().get("name") == "spdk"


@pytest.mark.parametrize("script, said", [
    ("run one 60 sh -c 'echo hello; exit 3'", r"hello\n\nspdk-step one 3 \S+ \S+ 0507\n"),
    ("run one 1 sleep 60", r"\nspdk-step one 137 "),
    ("start one 60 sleep 60; end one TERM 10", r"\nspdk-step one 143 "),
    ("start one 60 sh -c 'trap : TERM; echo up; while :; do sleep 1; done'\n"
     "ready grep -q up one.out; end one TERM 1", r"\nspdk-step one 137 "),
    ("ready attached; run one 60 sh -c '{ sleep 4; touch late; } &'\n"
     "sleep 5; ! test -e late", r"\nspdk-step one 0 ")])
def test_the_guest_runs_programs(tmp_path, script, said):
    (tmp_path / "config").write_bytes(b"\x86\x80\x45\x58\x07\x05")
    done = subprocess.run(["sh", "-c", f"config=config\n. {spdk.GUEST}\n{script}"], timeout=60,
                          cwd=tmp_path, capture_output=True, text=True)
    assert re.search(said, done.stdout), done.stdout
    assert done.returncode == 0
