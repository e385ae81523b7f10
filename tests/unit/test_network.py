# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import collections
import re
import struct
import sys

import pytest

from uiokit import common

sys.path.append(str(common.TOP / "tests/consumer"))
import network  # noqa: E402

ON, OFF = "0107", "0103"
SECONDARIES = "".join(f"{name}: exit code 0, ...\n" for name in network.PROGRAMS[1:])


def wrong(variant, commands, counts, secondaries=SECONDARIES, devices=3):
    """What judge() finds wrong if all devices have these COMMANDs and packets in each phase."""
    phases = "".join(f"{phase}: COMMAND  {command}\n"
                     for phase, command in zip(network.PHASES, commands))
    sent = collections.Counter(dict(zip(network.PHASES.values(), counts)))
    output = "".join(f"# 0000:00:0{n}.0\n{phases}{secondaries}" for n in range(devices))
    return list(network.judge(variant, output, [sent] * 3))


def test_stock_must_stop_and_patched_must_go_on():
    assert wrong("stock", [ON, OFF, OFF], [9999, 0, 0]) == []
    assert wrong("patched", [ON, ON, ON], [9999] * 3) == []


@pytest.mark.parametrize("variant, commands, counts, found", [
    ("stock", [ON, ON, ON], [9999] * 3, "exited"),
    ("stock", [ON, OFF, OFF], [9999, 9999, 9999], "exited"),
    ("stock", [OFF, OFF, OFF], [0, 0, 0], "before"),
    ("patched", [ON, OFF, OFF], [9999, 0, 0], "exited"),
    ("patched", [ON, ON, ON], [9999, 9999, 0], "pdump has exited"),
    ("patched", [ON, ON, OFF], [9999, 9999, 9999], "pdump has exited"),
    ("patched", [ON], [9999], "exited"), ("patched", [], [], "before")])
def test_what_is_wrong_is_found_on_each_device(variant, commands, counts, found):
    text = " ".join(wrong(variant, commands, counts))
    assert all(re.search(f"{re.escape(name)}: [^:]*{found}", text) for name in network.DEVICES)


@pytest.mark.parametrize("different, found", [
    ({"secondaries": SECONDARIES.replace("pdump: exit code 0", "pdump: x")}, "dpdk-pdump failed"),
    ({"devices": 2}, "e1000e: before")])
def test_a_secondary_that_fails_and_a_device_that_was_not_tested_are_found(different, found):
    assert found in " ".join(wrong("patched", [ON] * 3, [9999] * 3, **different))


def test_packets_are_counted_by_their_length(tmp_path):
    def record(kept, length):
        return struct.pack("<IIII", 0, 0, kept, length) + b"x" * kept

    (tmp_path / "dump").write_bytes(b"h" * 24 + record(1, 100) * 3 + record(0, 200) + b"cut off")
    assert network.sent(tmp_path / "dump") == {100: 3, 200: 1}
