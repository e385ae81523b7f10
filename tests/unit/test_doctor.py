# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""uio-doctor on made-up machines: which sentence for what."""

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from uiokit import common

BDF = "0000:00:04.0"
# A file that any machine has, in the place of /dev/uio0.
NODE, NUMBER = "/dev/null", "1:3"
FIXED = b"\x7fELF %s/%.4x:%.2x:%.2x.%x/config"
OLD = b"\x7fELF Cannot mmap device resource file"


class Machine:
    def __init__(self, path, command=0x107):
        self.root = path
        device = path / "sys/bus/pci/drivers/uio_pci_generic" / BDF
        (device / "uio/uio0").mkdir(parents=True)
        (path / "sys/bus/pci/devices").mkdir()
        (path / "sys/bus/pci/devices" / BDF).symlink_to(device)
        self.config = device / "config"
        self.config.write_bytes(bytes(4) + command.to_bytes(2, "little") + bytes(58))
        self.resource = device / "resource2"  # the first that it has
        self.resource.touch()
        (device / "resource4").touch()
        (path / "sys/class/uio/uio0").mkdir(parents=True)
        (path / "sys/class/uio/uio0/dev").write_text(f"{NUMBER}\n")
        (path / "proc").mkdir()
        (path / "proc/locks").write_text("")

    def process(self, pid, comm="spdk_tgt", uio=True, mapped=True, library=FIXED, arguments=(),
                parent=1, version="22.11.11"):
        folder = self.root / "proc" / str(pid)
        (folder / "fd").mkdir(parents=True)
        if uio:
            (folder / "fd/7").symlink_to(NODE)
        (folder / "comm").write_text(f"{comm}\n")
        (folder / "status").write_text(f"Name: {comm}\nPPid:\t{parent}\n")
        (folder / "cmdline").write_bytes(b"\0".join([comm.encode(), *arguments]) + b"\0")
        (folder / "exe").symlink_to(f"/usr/bin/{comm}")
        maps = f"7f00-7f01 rw-s 0 00:16 1 /sys/devices/x/{BDF}/resource0\n" if mapped else ""
        if library:
            where = self.root / f"lib{version}"
            (where / "pkgconfig").mkdir(parents=True, exist_ok=True)
            (where / "pkgconfig/libdpdk.pc").write_text(f"Name: DPDK\nVersion: {version}\n")
            (where / "librte_bus_pci.so.23").write_bytes(library)
            maps += f"7e00-7e01 r-xp 00000000 08:01 2 {where}/librte_bus_pci.so.23\n"
        (folder / "maps").write_text(maps)
        (folder / "root").symlink_to("/")

    def claim(self, pid, path=None):
        status = os.stat(path or self.resource)
        with open(self.root / "proc/locks", "a", encoding="ascii") as locks:
            locks.write(f"1: FLOCK  ADVISORY  WRITE {pid} {os.major(status.st_dev):02x}:"
                        f"{os.minor(status.st_dev):02x}:{status.st_ino} 0 EOF\n")

    def doctor(self, *args):
        return subprocess.run([sys.executable, common.TOP / "devtools/uio-doctor", "--root",
                               self.root, *args], capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def secondary(machine, pid=200, **keywords):
    machine.process(pid, "perf", arguments=[b"--proc-type=secondary"], **keywords)


def test_no_device(tmp_path):
    (tmp_path / "sys/bus/pci").mkdir(parents=True)
    done = Machine.doctor(type("", (), {"root": tmp_path}))
    assert done.returncode == 77 and "no device is bound" in done.stderr


def test_nobody(machine):
    done = machine.doctor()
    assert done.returncode == 0 and "idle: nobody has the device" in done.stdout


def test_healthy(machine):
    machine.process(100)
    secondary(machine, uio=False)
    machine.claim(100)
    done = machine.doctor()
    assert done.returncode == 0
    assert "healthy: primary 100 (spdk_tgt) owns the device, 1 attached beside it" in done.stdout
    assert "its DPDK has the fix" in done.stdout and "claimed by 100" in done.stdout


@pytest.mark.parametrize("version, said", [
    ("22.11.11", True), ("22.11.5", False), ("23.11.1", False), ("23.11.2", True),
    ("24.03.0", False), ("24.07.0", True), ("26.03.0", True), ("21.11.8", True)])
def test_affected_version(machine, version, said):
    machine.process(100, library=OLD, version=version)
    done = machine.doctor()
    assert done.returncode == 0 and "healthy" in done.stdout
    assert ("is an affected version" in done.stdout) == said


def test_a_secondary_with_the_device_open(machine):
    machine.process(100, library=OLD)
    secondary(machine, library=OLD)
    done = machine.doctor()
    assert done.returncode == 1
    assert "at risk: secondary 200 (perf) has /dev/uio0 open" in done.stdout


def test_igb_uio_counts_its_openers(machine):
    drivers = machine.root / "sys/bus/pci/drivers"
    (drivers / "uio_pci_generic").rename(drivers / "igb_uio")
    machine.process(100, library=OLD)
    secondary(machine, library=OLD)
    done = machine.doctor()
    assert done.returncode == 0 and "would stop DMA" not in done.stdout


def test_an_opener_that_is_not_dpdk(machine):
    machine.process(100)
    machine.process(300, "cat", library=None, mapped=False)
    done = machine.doctor()
    assert done.returncode == 1 and "300 (cat), not DPDK, has /dev/uio0 open as well" in done.stdout


def test_a_forked_process_is_no_second_opener(machine):
    machine.process(100)
    machine.process(101, parent=100)
    assert machine.doctor().returncode == 0


def test_lost_and_restored(tmp_path):
    machine = Machine(tmp_path, command=0x103)
    machine.process(100)
    done = machine.doctor()
    assert done.returncode == 1
    assert "lost: bus mastering is OFF while primary 100 (spdk_tgt) has the device" in done.stdout
    assert f"next: --restore {BDF} sets the bit" in done.stdout
    done = machine.doctor("--restore", BDF)
    assert done.returncode == 2 and "--yes" in done.stderr
    done = machine.doctor("--restore", BDF, "--yes")
    assert done.returncode == 0 and "needs a reset" in done.stdout
    assert machine.config.read_bytes()[4:6] == b"\x07\x01"
    assert "nothing to restore" in machine.doctor("--restore", BDF, "--yes").stdout


def test_nobody_to_restore_it_for(tmp_path):
    machine = Machine(tmp_path, command=0x103)
    secondary(machine, uio=False)
    done = machine.doctor()
    assert done.returncode == 1 and "lost: its owner has ended, secondary 200" in done.stdout
    done = machine.doctor("--restore", BDF, "--yes")
    assert done.returncode == 1 and "nobody owns it" in done.stderr
    assert machine.config.read_bytes()[4:6] == b"\x03\x01"


def test_a_secondary_that_its_primary_started_is_seen(machine):
    machine.process(100, library=OLD)
    secondary(machine, library=OLD, parent=100)
    assert "at risk: secondary 200" in machine.doctor().stdout


def test_the_claim_tells_the_owner(machine):
    machine.process(90, "intruder")
    machine.process(100)
    machine.claim(100)
    assert "at risk: primary 90 (intruder) has /dev/uio0 open as well" in machine.doctor().stdout


def test_a_lock_of_config_space_is_no_claim(machine):
    machine.process(100)
    machine.claim(300, machine.config)
    assert "claimed by" not in machine.doctor().stdout


def test_a_device_without_a_resource_has_no_claim(machine):
    for path in machine.config.parent.glob("resource*"):
        path.unlink()
    machine.process(100)
    done = machine.doctor()
    assert done.returncode == 0 and "claimed by" not in done.stdout


def test_names_that_are_no_text(machine):
    machine.process(100)
    with open(machine.root / "proc/100/maps", "ab") as maps:
        maps.write(b"7f00-7f01 r--p 0 08:01 9 /tmp/\xff\xfe\n")
    assert machine.doctor().returncode == 0


def test_restore_of_another_device(machine):
    done = machine.doctor("--restore", "0000:00:09.0", "--yes")
    assert done.returncode == 2 and BDF in done.stderr


def test_a_process_that_vanishes(machine):
    machine.process(100)
    (machine.root / "proc/150/fd").mkdir(parents=True)  # and no more of it
    done = machine.doctor()
    assert done.returncode == 0 and done.stderr == ""


def test_json(machine):
    machine.process(100)
    facts = json.loads(machine.doctor("--json").stdout)["devices"][BDF]
    assert facts["state"] == "healthy" and facts["bus_master"] is True
    assert facts["openers"][0]["pid"] == 100 and facts["openers"][0]["role"] == "primary"


@pytest.mark.parametrize("library, verdict", [(FIXED, "fixed"), (OLD, "affected")])
def test_installed(machine, library, verdict):
    folder = machine.root / "usr/lib/x86_64-linux-gnu"
    (folder / "pkgconfig").mkdir(parents=True)
    (folder / "pkgconfig/libdpdk.pc").write_text("Version: 24.11.2\n")
    (folder / "librte_bus_pci.so.25").write_bytes(library)
    assert f"installed in {folder}: DPDK 24.11.2: {verdict}" in machine.doctor().stdout


def test_without_root_it_cannot_be_sure(machine, monkeypatch, capsys):
    program = str(common.TOP / "devtools/uio-doctor")
    loader = importlib.machinery.SourceFileLoader("uio_doctor", program)
    doctor = importlib.util.module_from_spec(importlib.util.spec_from_loader("uio_doctor", loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(doctor)
    machine.process(100)

    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("/fd"):
            raise PermissionError
        return listdir(path)
    monkeypatch.setattr(doctor.os, "listdir", refuse)
    monkeypatch.setattr(sys, "argv", ["uio-doctor", "--root", str(machine.root)])
    assert doctor.main() == 69
    assert "1 processes cannot be looked into: run it as root" in capsys.readouterr().err


def test_watch_prints_changes(machine):
    watching = subprocess.Popen([sys.executable, common.TOP / "devtools/uio-doctor", "--root",
                                 machine.root, "--watch", "0.05"], stdout=subprocess.PIPE,
                                text=True)
    try:
        seen = [watching.stdout.readline() for _ in range(3)]
        machine.config.write_bytes(bytes(4) + b"\x03\x01" + bytes(58))
        seen.append(watching.stdout.readline())
    finally:
        watching.kill()
        watching.communicate()
    assert f"{BDF} bus master on" in seen[0] and f"{BDF} bus master off" in seen[3]
