# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What the workload sees of a secondary, and how tests/fault judges what it found."""

import copy
import os
import pathlib
import signal
import subprocess
import sys

import pytest


TOP = pathlib.Path(__file__).resolve().parents[2]
WORKLOAD = TOP / "devtools/uiokit/workload"
sys.path[:0] = [str(WORKLOAD), str(TOP / "tests/fault")]

import verdict  # noqa: E402
import sweeps  # noqa: E402
import workload  # noqa: E402

TRACE = r"""
7 [  59] execve("/x", [], []) = 0
7 [ 257] openat(AT_FDCWD, "/lib", O_RDONLY) = 3
8 [ 257] openat(AT_FDCWD, "/thread", O_RDONLY <unfinished ...>
8 <... openat resumed>) = 4
7 [   1] write(1, "{\"at\": \"attach\"}\n", 17) = 17
7 [ 257] openat(AT_FDCWD, "/sys/bus/pci/devices/0000:00:04.0/config", O_RDWR) = 3
8 [  47] recvmsg(5) = 0
7 [   0] read(3, "x", 1) = 1
7 [   1] write(1, "{\"at\": \"attached\"}\n", 17) = 17
7 [   0] read(3, "fds", 3) = 3
7 --- SIGCHLD ---
7 [   1] write(1, "{\"at\": \"detached\"}\n", 17) = 17
7 [ 257] openat(AT_FDCWD, "/proc/self/fd", O_RDONLY) = 3
""".lstrip()


def test_calls_are_numbered_by_thread_and_placed_by_what_the_secondary_tells():
    life = workload.SyscallTrace(TRACE)
    assert life.calls[workload.Call("openat", 1)] == "start"
    assert life.calls[workload.Call("openat", 2)] == "attach"
    assert life.calls[workload.Call("openat", 3)] == "detached"
    assert life.calls[workload.Call("openat", 1, thread=1)] == "thread"
    assert life.calls[workload.Call("recvmsg", 1, thread=1)] == "thread"
    assert workload.Call("recvmsg", 1) not in life.calls
    assert [call.name for call in life.within("attach")] == ["write", "openat", "read"]
    assert life.numbers["openat"] == "257"


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
    subprocess.run([os.environ.get("CC", "cc"), WORKLOAD / "inject.c",
                    "-o", program], check=True)
    return program


@pytest.mark.parametrize("thread, written, code", [
    (1, "second ", -signal.SIGKILL), (2, "", -signal.SIGKILL), (3, "second first ", 0)])
def test_a_kill_is_of_the_thread_that_is_named(inject, thread, written, code):
    write = workload.SyscallTrace(TRACE).numbers["write"]
    came = subprocess.run([inject, "kill", write, "1", str(thread), sys.executable, "-c", THREADS],
                          stdout=subprocess.PIPE, text=True, timeout=60)
    assert (came.stdout, came.returncode) == (written, code)


def test_each_call_of_an_attach_fails_in_each_way():
    points = list(sweeps.failures(workload.SyscallTrace(TRACE)))
    assert {call for call, _ in points} == {workload.Call("openat", 2), workload.Call("read", 1)}
    assert (workload.Call("read", 1), "short") in points
    assert (workload.Call("openat", 2), "short") not in points
    assert len(points) == 2 * len(sweeps.ERRORS) + 1


@pytest.mark.parametrize("errors, error, held", [
    ("Cannot open /sys/bus/pci/devices/0000:00:04.0/config: Too many open files", "EMFILE", True),
    ("cannot open it: Too many open files\nRequested device 0000:00:04.0", "EMFILE", True),
    ("0000:00:04.0: open: fewer bytes", "short", True),
    ("Cannot open /sys/bus/pci/devices/0000:00:04.0/config", "EMFILE", False),
    ("0000:00:04.0: Too many open files", "EMFILE", False),
    ("Cannot open config: Too many open files", "EMFILE", False),
    ("0000:00:04.0: open", "short", False), ("", "EMFILE", False)])
def test_an_error_is_explained_by_device_call_and_cause(monkeypatch, errors, error, held):
    monkeypatch.setattr(workload, "DRIVES", ["0000:00:04.0"])
    came = workload.SecondaryRun(code=1, facts={}, said=[], errors=errors, hung=False)
    assert sweeps.explained(came, workload.Call("openat", 1), error) is held


@pytest.mark.parametrize("facts, code, right", [
    ({"left_fds": 0, "left_maps": 0}, 0, True), ({"left_fds": 1, "left_maps": 0}, 0, False),
    ({"left_fds": 0, "left_maps": 1}, 0, False), ({}, 0, False),
    ({"left_fds": 0, "left_maps": 0}, 1, False)])
def test_a_run_is_right_only_when_it_left_nothing(facts, code, right):
    assert workload.SecondaryRun(code, facts, [], "", False).right is right


def sweep(**counts):
    return {"counts": {"tries": 100, "killed": 100, **counts}, "wrong": []}


def test_a_sweep_holds_only_without_a_victim():
    assert verdict.sweep(sweep(), False) == []
    assert verdict.sweep(sweep(**{"lock of EAL left taken": 2}), False) == []
    for kind in ("device lost", "stale file lock", "next refused", "hung", "not explained",
                 "left something", "device lost by one left alone",
                 "lock of EAL taken by an attach", "primary started again: cannot be recovered"):
        assert verdict.sweep(sweep(**{kind: 1}), False) == [f"{kind}: 1 of 100"]
    assert verdict.sweep({**sweep(), "wrong": ["so"]}, False) == ["so"]


def test_a_sweep_that_reaches_little_says_little():
    assert verdict.sweep(sweep(**{"not reached": 5}), False) == []
    assert "not reached" in verdict.sweep(sweep(**{"not reached": 6}), False)[0]


def test_a_sweep_of_stock_must_see_the_bug():
    assert verdict.sweep(sweep(**{"device lost": 1}), True) == []
    assert "does not see" in verdict.sweep(sweep(), True)[0]


STAT = {"fds": 9, "maps": 4, "heap_bytes": 5, "heap_count": 2, "heap_total": 8, "runtime_files": 3,
        "private_kb": 1000, "hugepages_free": 7}
SOAK = {"wrong": [], "wrong_reads": 0, "reads": 5, "primary": 0, "drives": 1, "first": STAT,
        "last": STAT}
ONCE = {"0000:00:04.0": ["on", "off"]}


def test_a_soak_holds():
    assert verdict.soak(SOAK, ONCE) == []
    less = {**STAT, "private_kb": 1100, "heap_bytes": 4}
    assert verdict.soak({**SOAK, "last": less}, ONCE) == []


@pytest.mark.parametrize("change, states", [
    ({"wrong": ["a secondary did not attach"]}, ONCE), ({"wrong_reads": 1}, ONCE),
    ({"reads": 0}, ONCE), ({"primary": -9}, ONCE),
    *(({"last": {**STAT, name: STAT[name] + 1}}, ONCE) for name in verdict.GROWING),
    ({"last": {**STAT, "private_kb": 1200}}, ONCE), ({"last": {**STAT, "hugepages_free": 6}}, ONCE),
    ({}, {"0000:00:04.0": ["on", "off", "on", "off"]}), ({}, {})])
def test_a_soak_does_not_hold(change, states):
    assert len(verdict.soak({**copy.deepcopy(SOAK), **change}, states)) == 1


@pytest.mark.parametrize("output, code, wrong", [
    ("1..2\nok 1 - a\nok 2 - b\n", 0, []), ("1..2\nok 1 - a\nnot ok 2 - b: x\n", 1,
                                            ["not ok 2 - b: x"]),
    ("1..2\nok 1 - a\n", 0, None), ("ok 1 - a\n", 0, None), ("1..1\nok 1 - a\n", 1, None),
    ("1..1\nnot ok 1 - a\n", 0, None)])
def test_trouble_is_judged_by_plan_lines_and_code_together(output, code, wrong):
    assert verdict.trouble(output, code) == wrong


def test_trouble_on_stock_must_be_a_lost_device():
    lost, other = "not ok 7 - a: not so: bus master is off: COMMAND 0x0103", "not ok 8 - b: not so"
    assert verdict.trouble_held([other, lost], True)
    assert not verdict.trouble_held([other], True)
    assert not verdict.trouble_held([], True)
    assert verdict.trouble_held([], False)
    assert not verdict.trouble_held([lost], False)
