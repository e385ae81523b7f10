# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The workload, the verdicts of tests/fault, the arguments of tests/fault and tests/consumer."""

import copy
import signal
import subprocess
import sys

import pytest

from uiokit import arch, common, distro
from uiokit.dpdk import variants

WORKLOAD = common.TOP / "devtools/uiokit/workload"
sys.path[:0] = map(str, (WORKLOAD, common.TOP / "tests/fault", common.TOP / "tests/consumer"))

import consume  # noqa: E402
import fault  # noqa: E402
import verdict  # noqa: E402
import sweeps  # noqa: E402
import workload  # noqa: E402

TRACE = r"""
7 [  59] execve("/x", [], []) = 0
7 [ 257] openat(AT_FDCWD, "/lib", O_RDONLY) = 3
8 [ 257] openat(AT_FDCWD, "/thread", O_RDONLY <unfinished ...>
8 <... openat resumed>) = 4
7 [   1] write(1, "{\"phase\": \"attach\"}\n", 20) = 20
7 [ 257] openat(AT_FDCWD, "/sys/bus/pci/devices", O_RDONLY) = 3
7 [ 228] clock_gettime(CLOCK_THREAD_CPUTIME_ID, {tv_sec=0, tv_nsec=1}) = 0
7 [ 257] openat(AT_FDCWD, "/sys/bus/pci/devices/0000:00:04.0/config", O_RDWR) = 3
8 [  47] recvmsg(5) = 0
7 [   0] read(3, "x", 1) = 1
7 [   1] write(1, "{\"phase\": \"attached\"}\n", 22) = 22
7 [   0] read(3, "fds", 3) = 3
7 --- SIGCHLD ---
7 [   1] write(1, "{\"phase\": \"detached\"}\n", 22) = 22
7 [ 257] openat(AT_FDCWD, "/proc/self/fd", O_RDONLY) = 3
""".lstrip()


def test_calls_are_numbered_by_thread_and_sorted_into_phases():
    trace = workload.SyscallTrace(TRACE)
    assert trace.phases[workload.Call("openat", 1)] == "start"
    assert trace.phases[workload.Call("openat", 2)] == "scan"
    assert trace.phases[workload.Call("openat", 3)] == "attach"
    assert trace.phases[workload.Call("openat", 4)] == "detached"
    assert trace.phases[workload.Call("openat", 1, thread=1)] == "thread"
    assert trace.phases[workload.Call("recvmsg", 1, thread=1)] == "thread"
    assert workload.Call("recvmsg", 1) not in trace.phases
    assert [call.name for call in trace.calls_in("attach")] == \
        ["clock_gettime", "openat", "read"]
    assert trace.numbers["openat"] == "257"


def test_calls_whose_number_depends_on_a_wait_are_named():
    wait = r"""7 [   1] write(1, "{\"phase\": \"wait\"}\n", 18) = 18
7 [   0] read(3, "fds", 3) = 3
7 [ 217] getdents64(3) = 0
"""
    after = TRACE.splitlines(keepends=True)[-2:]
    assert workload.SyscallTrace(TRACE + wait + "".join(after)).unsteady() == set()
    after.append('7 [   0] read(3, "x", 1) = 1\n')
    assert workload.SyscallTrace(TRACE + wait + "".join(after)).unsteady() == {"read"}


THREADS = """
import os, threading
other = threading.Event()
def first():
    other.wait(5)
    os.write(1, b"first ")
def second():
    os.write(1, b"second ")
    other.set()
both = [threading.Thread(target=one) for one in (first, second)]
for one in both: one.start()
for one in both: one.join()
"""


@pytest.fixture(scope="module")
def inject(tmp_path_factory):
    program = tmp_path_factory.mktemp("inject") / "inject"
    subprocess.run([*arch.native().compiler, WORKLOAD / "inject.c",
                    "-o", program], check=True)
    return program


@pytest.mark.parametrize("thread, written, code", [
    (1, "second ", -signal.SIGKILL), (2, "", -signal.SIGKILL), (3, "second first ", 0)])
def test_inject_kills_at_a_call_of_the_named_thread(inject, thread, written, code):
    write = workload.SyscallTrace(TRACE).numbers["write"]
    ended = subprocess.run([inject, "kill", write, "1", str(thread), sys.executable, "-c", THREADS],
                           stdout=subprocess.PIPE, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == (written, code)


def test_each_call_of_an_attach_fails_in_each_way_in_the_full_form_also_of_the_scan():
    trace = workload.SyscallTrace(TRACE)
    full, short, probe = (sweeps.failures(trace, depth) for depth in sweeps.STEPS)
    scan, opened, read = (workload.Call(*call) for call in (
        ("openat", 2), ("openat", 3), ("read", 1)))
    assert sorted(full) == sorted([*((call, error) for call in (scan, opened, read)
                                     for error in sweeps.ERRORS), (read, "short")])
    assert [point for point in full if point not in short] == [
        (scan, error) for error in sweeps.ERRORS]
    assert len(probe) == 1


@pytest.mark.parametrize("affected, full, on_stock, on_patched", [
    (True, False, "probe", "short"), (True, True, "short", "full"),
    (False, False, "short", "short"), (False, True, "full", "full")])
def test_a_dpdk_with_the_bug_gets_fewer_faults(affected, full, on_stock, on_patched):
    run = fault.Run("kill", {}, full, affected)
    assert [run.depth(variant) for variant in (variants.STOCK, variants.PATCHED)] == [
        on_stock, on_patched]


def test_the_short_form_of_kill_tries_each_call_while_a_secondary_has_the_device():
    phases = {workload.Call("read", number): phase for number, phase in
              enumerate(["start"] * 60 + ["attach"] * 20 + ["use"] * 5 + ["detached"] * 80)}
    counts = {depth: len(sweeps.kill_points(phases, depth)) for depth in sweeps.STEPS}
    assert counts == {"full": 165, "short": 25 + 6, "probe": 3 + 1}
    assert {phases[call] for call in sweeps.kill_points(phases, "short")} == set(phases.values())


def test_a_primary_is_killed_at_its_end_in_its_threads_and_sometimes_in_its_loop():
    text = TRACE.replace('\\"attached', '\\"stop').replace('\\"attach', '\\"ready')
    trace = workload.SyscallTrace(text)
    tried = {(call.name, call.thread, trace.during[call])
             for call in sweeps.primary_points(trace, "full")}
    assert tried == {("write", 0, "stop"), ("read", 0, "stop"), ("write", 0, "ready"),
                     ("recvmsg", 1, "ready")}


@pytest.mark.parametrize("errors, error, is_explained", [
    ("Cannot open /sys/bus/pci/devices/0000:00:04.0/config: Too many open files", "EMFILE", True),
    ("cannot open it: Too many open files\nRequested device 0000:00:04.0", "EMFILE", True),
    ("0000:00:04.0: open: fewer bytes", "short", True),
    ("Cannot open /sys/bus/pci/devices/0000:00:04.0/config", "EMFILE", False),
    ("0000:00:04.0: Too many open files", "EMFILE", False),
    ("Cannot open config: Too many open files", "EMFILE", False),
    ("0000:00:04.0: open", "short", False), ("", "EMFILE", False)])
def test_an_error_is_explained_by_device_call_and_cause(monkeypatch, errors, error, is_explained):
    monkeypatch.setattr(workload, "DRIVES", ["0000:00:04.0"])
    run = workload.SecondaryRun(code=1, facts={}, lines=[], errors=errors, hung=False)
    assert sweeps.explained(run, workload.Call("openat", 1), error) is is_explained


@pytest.mark.parametrize("fds, maps, code, errors, hung, passed, text", [
    (0, 0, 0, "", False, True, "exit code 0"),
    (1, 0, 1, "a: no\nb: no\n", False, False, "exit code 1; a: no; b: no; left 1 file descriptors "
     "and 0 mappings of the drive"),
    (0, 1, 0, "", False, False, "exit code 0; left 0 file descriptors and 1 mappings of the drive"),
    (None, None, 0, "", False, False, "exit code 0; left None file descriptors and None mappings "
     "of the drive"),
    (0, 0, -9, "", True, False, "hangs")])
def test_a_run_passes_only_if_it_released_everything(fds, maps, code, errors, hung, passed, text):
    facts = {} if fds is None else {"left_fds": fds, "left_maps": maps}
    run = workload.SecondaryRun(code, facts, [], errors, hung)
    assert (run.passed, str(run)) == (passed, text)


HARM = ("device lost", "stale file lock", "next secondary failed", "hung", "not explained",
        "not released", "device lost by an uninjured run", "lock of EAL taken by an attach",
        "primary restarted: cannot be recovered")


@pytest.mark.parametrize("counts, must_lose, wrong", [
    ({}, False, []), ({"lock of EAL left taken": 2}, False, []), ({"not reached": 5}, False, []),
    *(({kind: 1}, False, [f"{kind}: 1 of 100"]) for kind in HARM),
    ({"not reached": 6}, False, ["6 of 100 system calls were not reached"]),
    ({"too early": 50}, False, []),
    ({"too early": 51}, False, ["51 of 100 primaries were killed before a secondary read: too few "
                                "show anything"]),
    ({"device lost": 1}, True, []),
    ({}, True, ["no try lost the device: this DPDK has the bug, but the sweep did not detect it"])])
def test_a_sweep_passes_only_if_no_try_did_harm_and_stock_lost_the_device(counts, must_lose, wrong):
    found = {"counts": {"tries": 100, "killed": 100, **counts}, "wrong": []}
    assert verdict.sweep(found, must_lose) == wrong
    assert must_lose or verdict.sweep({**found, "wrong": ["a"]}, False) == [*wrong, "a"]


STAT = {"fds": 9, "maps": 4, "heap_bytes": 5, "heap_count": 2, "heap_total": 8, "runtime_files": 3,
        "private_kb": 1000, "hugepages_free": 7}
SOAK = {"wrong": [], "wrong_reads": 0, "reads": 5, "primary": 0, "drives": 1, "secondaries": 64,
        "first_after": 32, "first": STAT, "last": STAT}
ONCE = {"0000:00:04.0": ["on", "off"]}


def test_a_soak_passes():
    assert verdict.soak(SOAK, ONCE) == []
    less = {**STAT, "private_kb": 1100, "heap_bytes": 4}
    assert verdict.soak({**SOAK, "last": less}, ONCE) == []


@pytest.mark.parametrize("change, states", [
    ({"wrong": ["a secondary did not attach"]}, ONCE), ({"wrong_reads": 1}, ONCE),
    ({"reads": 0}, ONCE), ({"primary": -9}, ONCE), ({"first_after": 64}, ONCE),
    *(({"last": {**STAT, name: STAT[name] + 1}}, ONCE) for name in verdict.GROWING),
    ({"last": {**STAT, "private_kb": 1200}}, ONCE), ({"last": {**STAT, "hugepages_free": 6}}, ONCE),
    ({}, {"0000:00:04.0": ["on", "off", "on", "off"]}), ({}, {})])
def test_a_soak_fails(change, states):
    assert len(verdict.soak({**copy.deepcopy(SOAK), **change}, states)) == 1


@pytest.mark.parametrize("output, code, wrong", [
    ("1..2\nok 1 - a\nok 2 - b\n", 0, []), ("1..2\nok 1 - a\nnot ok 2 - b: x\n", 1,
                                            ["not ok 2 - b: x"]),
    ("1..2\nok 1 - a\n", 0, None), ("ok 1 - a\n", 0, None), ("1..1\nok 1 - a\n", 1, None),
    ("1..1\nnot ok 1 - a\n", 0, None)])
def test_device_faults_are_judged_by_plan_lines_and_exit_code_together(output, code, wrong):
    assert verdict.device_faults(output, code) == wrong


def test_device_faults_on_stock_must_lose_the_device():
    lost, other = "not ok 7 - a: expected b: bus mastering is off: COMMAND 0x0103", "not ok 8 - b"
    assert verdict.device_faults_passed([other, lost], True)
    assert not verdict.device_faults_passed([other], True)
    assert not verdict.device_faults_passed([], True)
    assert verdict.device_faults_passed([], False)
    assert not verdict.device_faults_passed([lost], False)


@pytest.mark.parametrize("main, argv, why", [
    (fault.main, ["kill"], "no such folder"), (consume.main, [], "no such folder"),
    (consume.main, ["--watch", "/missing"], "/missing: not a writable folder")])
def test_arguments_are_checked_before_anything_is_installed_or_built(monkeypatch, capsys, main,
                                                                     argv, why):
    monkeypatch.setattr(distro, "need", None)
    with pytest.raises((common.Usage, SystemExit)) as ended:
        main([*argv, "--dpdk", "/missing"])
    assert ended.value.code == common.USAGE
    assert why in capsys.readouterr().err + str(ended.value)


@pytest.mark.parametrize("full, both, more", [([], 1, []), (["--full"], 2, ["stock-static.txt"])])
def test_consume_watches_each_variant_and_linking_and_runs_all_on_stock_if_asked(
        monkeypatch, make_tree, tmp_path, full, both, more):
    watched, ran = [], []
    monkeypatch.setattr(distro, "need", lambda programs: None)
    monkeypatch.setattr(consume.install, "install", lambda *args: None)
    monkeypatch.setattr(consume, "compile_pair", lambda prefix, linking, folder: folder / linking)
    monkeypatch.setattr(consume, "run", lambda program, prefix, scenario, watch=None, **_:
                        (watched.append(watch), ran.append(scenario)))
    monkeypatch.setattr(consume, "judge", lambda *args: True)
    monkeypatch.setattr(consume, "judge_steps", lambda *args: True)
    monkeypatch.setattr(consume.confined, "judge", lambda *args: True)
    tree = make_tree(files={"usertools/dpdk-telemetry.py": ""})
    assert consume.main(["--dpdk", str(tree.path), "--watch", str(tmp_path), *full]) == 0
    assert [ran.count(name) for name in ("scenario", "ownership", "primaries", "confinement")] == [
        3 + len(more), both, both, both]
    assert sorted(path.name for path in watched if path) == [
        "patched-shared.txt", "patched-static.txt", "stock-shared.txt", *more]
