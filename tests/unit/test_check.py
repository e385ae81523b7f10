# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/check, .ci/run and tests/lint, with made-up tests."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import commit_all, git, write

from uiokit import common, distro, process
from uiokit.cli import check
from uiokit.dpdk import source
from uiokit.lab import guest_image

RESULTS = [{"name": "lint / a", "result": "OK", "returncode": 0},
           {"name": "lab / b", "result": "SKIP", "returncode": 77, "stdout": "noise\nno network\n"}]


@pytest.fixture
def run(monkeypatch):
    """run(*arguments): main() without meson; .command is meson's command line."""
    def follow(command):
        run.command = command
        write(common.build_dir("check"), {"meson-logs/testlog.json": "".join(
            f"{json.dumps(result)}\n" for result in run.results)})
        return 0

    def run(*argv):
        run.needs = []
        monkeypatch.setattr(distro, "need", lambda programs: run.needs.extend(programs))
        monkeypatch.setattr(distro, "install", lambda packages, _: run.needs.extend(packages))
        monkeypatch.setattr(process, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 1))
        monkeypatch.setattr(guest_image, "busybox", lambda: None)
        monkeypatch.setattr(source, "get", lambda: run.needs.append("source"))
        monkeypatch.setattr(check, "_follow", follow)
        return check.main(list(argv))
    run.results = RESULTS
    return run


def test_known_tests_are_those_of_meson(tmp_path):
    subprocess.run(["meson", "setup", tmp_path / "m", common.TOP], check=True, capture_output=True)
    listed = json.loads(subprocess.run(["meson", "introspect", "--tests", tmp_path / "m"],
                                       check=True, capture_output=True).stdout)
    assert check.known_tests() == {
        test["name"]: test["suite"][0].split(":")[1] for test in listed}
    assert set(check.known_tests().values()) == set(check._NEED)
    assert {path.stem for path in (common.TOP / "tests/unit").glob("test_*.py")} <= \
        set(check.known_tests())


def test_results_are_counted_and_the_junit_file_is_named(run, capsys):
    assert run("--suite", "lint") == 0
    assert capsys.readouterr().out.splitlines() == [
        "skipped: b: no network",
        f"JUnit XML: {common.build_dir('check')}/meson-logs/testlog.junit.xml",
        "1 passed, 0 failed, 1 skipped"]


@pytest.mark.parametrize("out, err, said", [
    ("a: x\nkill: FAILED, 3 s\n", "  building ...\n  ok 12 - last\n", "kill: FAILED, 3 s"),
    ("a: x\n", "  building ...\nkill: no verdict:\n    boot log\n", "kill: no verdict:"),
    ("", "  building ...\n  booting ...\n", "booting ..."), ("", "", "")])
def test_the_summary_of_a_failure_shows_its_message_before_progress(run, capsys, out, err, said):
    run.results = [{"name": "fault / kill", "result": "FAIL", "returncode": 1, "stdout": out,
                    "stderr": err}]
    assert run() == common.FAILED
    assert capsys.readouterr().out.splitlines()[0] == f"failed: kill: {said}"


@pytest.mark.parametrize("codes, code", [([1], 1), ([69], 69), ([1, 69], 1), ([], 0)])
def test_lack_of_infrastructure_is_no_failure(run, codes, code):
    run.results = RESULTS + [{"name": "x", "result": "FAIL", "returncode": one} for one in codes]
    assert run() == code


def test_options_reach_meson(run):
    run("--test", "autotest", "--jobs", "3", "--timeout-multiplier", "4")
    assert run.command[-5:] == ["--num-processes", "3", "--timeout-multiplier", "4", "autotest"]
    assert "qemu-system-x86_64" in run.needs and "shellcheck" not in run.needs
    assert "source" in run.needs
    run("--suite", "lint")
    assert run.command[-2:] == ["--suite", "lint"] and "source" not in run.needs
    for argv, more in ((), 1), (["--full"], 0):
        run(*argv)
        at = run.command.index("--num-processes") + 1
        assert run.command[at] == str(os.cpu_count() + more)


@pytest.mark.parametrize("argv, complaint", [
    (["--suite", "typo"], "invalid choice"), (["--test", "typo"], "choose from 'shellcheck'"),
    (["--jobs", "0"], "0: not a number from 1"), (["--timeout-multiplier", "-1"], "not a number"),
    (["--suite", "lab", "--test", "autotest"], "give one of them")])
def test_wrong_calls_are_named_before_anything_is_done(run, argv, complaint, capsys):
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    assert ended.value.code == 2 and complaint in capsys.readouterr().err and run.needs == []
    with pytest.raises(common.Usage):
        run("--dpdk", "/no/such")
    assert run.needs == []


@pytest.mark.parametrize("programs, module, installed", [
    (["pytest-3"], False, []), (["pytest"], False, []), ([], True, []),
    ([], False, ["python3-pytest"])])
def test_pytest_is_taken_by_any_name(monkeypatch, programs, module, installed):
    monkeypatch.setattr(shutil, "which", lambda name, **_: name in programs or None)
    wanted = []
    monkeypatch.setattr(distro, "install", lambda packages, _: wanted.extend(packages))
    monkeypatch.setattr(process, "run",
                        lambda argv, **_: subprocess.CompletedProcess(argv, 0 if module else 1))
    check._need_pytest()
    assert wanted == installed


# .ci/run

@pytest.fixture
def ci(tmp_path):
    """ci(script): .ci/run, started in a repository where that is devtools/check."""
    def start(script):
        repository = tmp_path / "repository"
        write(repository, {"devtools/check": f"#!/bin/sh\n{script}\n",
                           ".ci/run": (common.TOP / ".ci/run").read_text()})
        for name in ("devtools/check", ".ci/run"):
            (repository / name).chmod(0o755)
        commit_all(repository)
        (tmp_path / "tmp").mkdir()
        # A program that nohup starts ignores SIGHUP, and so does what it starts.
        return subprocess.Popen([repository / ".ci/run"], stdout=subprocess.PIPE, text=True,
                                env=dict(os.environ, TMPDIR=str(tmp_path / "tmp")),
                                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    return start


MAKE = ("mkdir -p build/lab build/dpdk/x/objects; echo log >build/lab/boot.log;"
        "echo big >build/dpdk/x/objects/o.log; echo big >build/o.bin; ln -s o.bin build/link;")


@pytest.mark.parametrize("script, code, kept", [
    (f"{MAKE} echo $PWD/build/lab/boot.log; exit 1", 1, True), (f"{MAKE} exit 0", 0, False),
    (f"{MAKE} echo $PWD/build/lab/boot.log; exit 69", 69, True), ("exit 3", 3, False)])
def test_ci_keeps_the_logs_of_a_failure_in_place(ci, tmp_path, script, code, kept):
    child = ci(script)
    path, *last = child.communicate(timeout=30)[0].splitlines() or [""]
    assert child.returncode == code
    assert [str(one) for one in tmp_path.glob("tmp/**/*") if not one.is_dir()] == [path] * kept
    assert last == [f"the logs are kept in {path.removesuffix('/lab/boot.log')}"] * kept
    assert kept or path == ""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_ci_and_its_tests_and_keeps_the_logs(ci, tmp_path, number):
    # `timeout` sends the signal twice: to its child, and to the group.
    child = ci(f"{MAKE} trap 'trap : TERM; echo ended; exit 130' TERM; echo on;"
               "while :; do sleep 0.1; done")
    assert child.stdout.readline() == "on\n"
    child.send_signal(number)
    started = time.monotonic()
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 130 and time.monotonic() - started < 20
    assert out.startswith("ended\nthe logs are kept in ")


# tests/lint

def test_lint_finds_a_script_below_a_folder_with_a_dot(tmp_path):
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here")
    write(tmp_path, {"tests/lint": (common.TOP / "tests/lint").read_text(),
                     ".ci/run": "#!/bin/sh\necho $1\n"})
    (tmp_path / "tests/lint").chmod(0o755)
    git(tmp_path, "init", "-q")
    done = subprocess.run([tmp_path / "tests/lint", "shellcheck"], capture_output=True, text=True)
    assert done.returncode != 0 and ".ci/run line 2" in done.stdout
