# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The bus master bit over time, from what QEMU traces."""

import os

from uiokit.lab import protocol, trace


def watch(tmp_path, lines, devices=(), report=None):
    path = tmp_path / "watch"
    with trace.recorder(str(path), devices) as recorder:
        recorder.began = 1000.0
        for line in lines:
            recorder.sink(f"7@{line}\n".encode())
        if report:
            recorder.record_command(report)
    return path.read_text().splitlines()[1:]


def test_each_transition_is_a_line(tmp_path):
    assert watch(tmp_path, [
        "1000.500000:pci_cfg_write nvme 00:04.0 @0x4 <- 0x103",   # still off
        "1001.000000:pci_cfg_write nvme 00:04.0 @0x4 <- 0x107",
        "1001.500000:pci_cfg_write nvme 00:04.0 @0x4 <- 0x507",   # INTx alone
        "1002.000000:pci_cfg_write nvme 00:05.0 @0x4 <- 0x107",
        "1002.250000:pci_cfg_write nvme 00:04.0 @0x4 <- 0x103",
    ]) == ["  1.000000 0000:00:04.0 on 0x0107", "  2.000000 0000:00:05.0 on 0x0107",
           "  2.250000 0000:00:04.0 off 0x0103"]


def test_other_registers_and_devices_are_left_out(tmp_path):
    lines = ["1001.0:pci_cfg_write nvme 00:04.0 @0x10 <- 0x107",
             "1001.0:pci_cfg_write edu 00:01.0 @0x4 <- 0x107", "a warning of QEMU"]
    assert watch(tmp_path, lines) == []
    # An old QEMU traces slot and function in decimal.
    lines.append("1001.0:pci_cfg_write nvme 29:1 @0x4 <- 0x107")
    assert watch(tmp_path, lines, ["edu,addr=1"]) == [
        "  1.000000 0000:00:01.0 on 0x0107", "  1.000000 0000:00:1d.1 on 0x0107"]


def test_nothing_is_left_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    assert watch(tmp_path, [], report=protocol.Report(start=None)) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_written_is_read_back(tmp_path):
    watch(tmp_path, ["1001.0:pci_cfg_write nvme 00:04.0 @0x4 <- 0x107",
                     "1002.0:pci_cfg_write nvme 00:04.0 @0x4 <- 0x103",
                     "1002.5:pci_cfg_write nvme 00:05.0 @0x4 <- 0x107"],
          report=protocol.Report(start=1e9))
    assert " command start" in (tmp_path / "watch").read_text()
    assert trace.transitions(tmp_path / "watch") == {
        "0000:00:04.0": ["on", "off"], "0000:00:05.0": ["on"]}
