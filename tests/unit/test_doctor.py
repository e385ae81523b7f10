# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""uio-doctor on made-up machines: which sentence for which situation."""

import importlib.machinery
import importlib.util
import json
import os
import pty
import resource
import subprocess
import sys
import types

import pytest

from uiokit import common

PROGRAM = str(common.TOP / "devtools/uio-doctor")
BDF = "0000:00:04.0"
# A file that any machine has, in the place of /dev/uio0.
NODE, NUMBER = "/dev/null", "1:3"
EAL = b"\x7fELF Detected CPU lcores: %u"
FIXED = b"\x7fELF %s/%.4x:%.2x:%.2x.%x/config"
OLD = b"\x7fELF Cannot mmap device resource file"
INITIAL = "pid:[4026531836]"
BUS = "librte_bus_pci.so.23"


def identity(path):
    status = os.stat(path)
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", status.st_ino


class Machine:
    def __init__(self, path, command=0x107, bdf=BDF):
        self.root, self.proc = path, path / "proc"
        (path / "sys/bus/pci/devices").mkdir(parents=True)
        (self.proc / "1/ns").mkdir(parents=True)
        (self.proc / "1/ns/pid").symlink_to(INITIAL)
        (self.proc / "locks").touch()
        (path / "dev").mkdir()
        self.device(0, bdf, command)
        (path / "dev/uio0").symlink_to(NODE)

    def device(self, number, bdf, command=0x107):
        folder = self.root / "sys/bus/pci/drivers/uio_pci_generic" / bdf
        (folder / f"uio/uio{number}").mkdir(parents=True)
        (self.root / "sys/bus/pci/devices" / bdf).symlink_to(folder)
        self.bdf, self.config = bdf, folder / "config"
        self.config.write_bytes(bytes(4) + command.to_bytes(2, "little") + bytes(58))
        self.resource = folder / "resource2"  # the first that it has
        for bar in (self.resource, folder / "resource4", folder / "resource4_wc"):
            bar.touch()
        (self.root / f"sys/class/uio/uio{number}").mkdir(parents=True)
        (self.root / f"sys/class/uio/uio{number}/dev").write_text(f"{NUMBER}\n")

    def process(self, pid, comm="spdk_tgt", uio=True, bar=None, library=FIXED, secondary=False,
                prefix="rte", parent=1, version="22.11.11", files=()):
        """bar: (device, inode) of the BAR that it has mapped, False for none.
        library: the text of its bus driver, if it has one of its own; prefix: None without EAL.
        """
        folder = self.proc / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "fdinfo").mkdir()
        (folder / "root").symlink_to("/")
        (folder / "comm").write_text(f"{comm}\n")
        (folder / "cmdline").write_bytes(f"{comm}\0--proc-type\0auto\0".encode())
        (folder / "status").write_text(f"Name: {comm}\nPPid:\t{parent}\n")
        (folder / "maps").touch()
        (folder / "fd/0").symlink_to("/dev/zero")
        if uio:
            (folder / "fd/7").symlink_to(self.root / "dev/uio0")
        if bar is not False:
            self.map(pid, f"/sys/devices/x/{self.bdf}/resource2",
                     bar or identity(self.resource), "rw-s")
        if library:
            where = self.root / f"lib{version}"
            if version:
                (where / "pkgconfig").mkdir(parents=True, exist_ok=True)
                (where / "pkgconfig/libdpdk.pc").write_text(f"Name: DPDK\nVersion: {version}\n")
            self.map_file(pid, where / BUS, library)
        if prefix:
            config = self.root / f"run/dpdk/{prefix}/config"
            self.map_file(pid, config, b"", "rw-s")
            if not secondary:
                (folder / "fd/8").symlink_to(config)

    def map(self, pid, path, where=("08:01", 2), flags="r-xp"):
        with open(self.proc / str(pid) / "maps", "a", encoding="utf-8") as maps:
            maps.write(f"7f00-7f01 {flags} 00000000 {where[0]} {where[1]}   {path}\n")

    def map_file(self, pid, path, text, flags="r-xp"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if text or not path.exists():
            path.write_bytes(text)
        self.map(pid, path, identity(path), flags)

    def secondary(self, pid=200, uio=False, **keywords):
        self.process(pid, "perf", uio, secondary=True, **keywords)

    def claim(self, pid, path=None, taker=None, where=None):
        device, inode = where or identity(path or self.resource)
        lock = f"1: FLOCK  ADVISORY  WRITE {taker or pid} {device}:{inode} 0 EOF\n"
        with open(self.proc / "locks", "a", encoding="ascii") as locks:
            locks.write(lock)
        if pid:
            (self.proc / str(pid) / "fd/9").symlink_to(path or self.resource)
            (self.proc / str(pid) / "fdinfo/9").write_text(f"pos:\t0\nlock:\t{lock}")

    def doctor(self, *args, **keywords):
        keywords = {"capture_output": True, "text": True, "check": False, **keywords}
        return subprocess.run([sys.executable, PROGRAM, "--root", self.root, *args], **keywords)

    def says(self, code, *texts):
        done = self.doctor()
        assert "Traceback" not in done.stderr
        for text in texts:
            assert text in done.stdout
        assert done.returncode == code

    def refuses_to_restore(self, code, text):
        before = self.config.read_bytes()
        done = self.doctor("--restore", self.bdf, "--yes")
        assert done.returncode == code and text in done.stderr
        assert self.config.read_bytes() == before


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def stopped(tmp_path):
    """A machine whose device has bus mastering off."""
    return Machine(tmp_path, command=0x103)


@pytest.fixture
def module(monkeypatch):
    loader = importlib.machinery.SourceFileLoader("uio_doctor", PROGRAM)
    doctor = importlib.util.module_from_spec(importlib.util.spec_from_loader("uio_doctor", loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(doctor)
    return doctor


def test_no_device(tmp_path):
    (tmp_path / "sys/bus/pci").mkdir(parents=True)
    done = Machine.doctor(types.SimpleNamespace(root=tmp_path))
    assert done.returncode == 77 and "no device is bound" in done.stderr


def test_bus_mastering_that_no_process_accounts_for(machine):
    machine.says(69, "unknown: bus mastering is on, and no process is visible that has the device",
                 f"next: if no process is to have it, setpci -s {BDF} COMMAND=0:4 clears the bit")


def test_healthy_in_words_and_in_json(machine):
    machine.process(100)
    machine.secondary()
    machine.claim(100)
    machine.says(0, "healthy: primary process 100 (spdk_tgt) has the device, 1 secondary process "
                 "attached, none with /dev/uio0 open; its DPDK has the fix",
                 "claimed by process 100\n")
    facts = json.loads(machine.doctor("--json").stdout)["devices"][BDF]
    assert facts["state"] == "healthy" and facts["bus_master"] is True and facts["claim"] == 100
    assert facts["openers"][0]["pid"] == 100 and facts["openers"][0]["role"] == "primary"


def test_a_primary_that_attaches(machine):
    machine.process(100, uio=False, bar=False)
    machine.claim(100)
    machine.says(0, "idle: primary process 100 (spdk_tgt) claims the device and has not opened it")
    own_namespace(machine)
    machine.says(69, "unknown: cannot tell whether a primary process has the device (primary proc")


def test_a_device_that_does_not_respond(tmp_path):
    machine = Machine(tmp_path, command=0xffff)
    machine.process(100)
    machine.says(1, "lost: the device does not respond")
    machine.refuses_to_restore(1, "the device does not respond")


@pytest.mark.parametrize("version, said", [
    ("22.11.11", True), ("22.11.5", False), ("23.11.1", False), ("23.11.2", True),
    ("24.03.0", False), ("24.07.0", True), ("26.03.0", True), ("21.11.8", True)])
def test_affected_version(machine, version, said):
    machine.process(100, library=OLD, version=version)
    machine.says(said, *[f"at risk: primary process 100 (spdk_tgt) has the device; its DPDK "
                         f"{version} is an affected version, and no fix was found in it"] * said)


def test_no_secondary_can_attach_without_a_shared_configuration(machine):
    machine.process(100, library=OLD, prefix=None)
    machine.says(0, "healthy: primary process 100")


@pytest.mark.parametrize("library, said", [
    ("librte_bus_pci.so.20.0", None), ("librte_bus_pci.so.22.0", "unknown"),
    ("librte_bus_pci.so.23", "unknown"), ("librte_bus_pci.so.23.0", "unknown"),
    ("librte_bus_pci.so.24.1", None), ("librte_bus_pci.so.24.2", "24.07 is an affected version"),
    ("librte_bus_pci.so.26.1", "26.03 is an affected version")])
def test_version_by_the_number_of_the_abi(machine, library, said):
    machine.process(100, library=None)
    machine.map_file(100, machine.root / "lib" / library, OLD)
    if said == "unknown":
        said = "cannot tell whether its DPDK 2"
    machine.says(int(bool(said)), *[said] * bool(said))


def test_version_by_the_text_in_the_program(machine):
    machine.process(100, library=None)
    machine.map_file(100, machine.root / "usr/bin/app", EAL + b"\0DPDK 24.11.3\0")
    machine.says(1, "its DPDK 24.11.3 is an affected version")


def test_version_by_the_shared_configuration_without_which_it_is_an_unknown_risk(machine):
    machine.process(100, library=None)
    machine.map_file(100, machine.root / "usr/bin/app", EAL)
    machine.says(1, "at risk: ", "cannot tell whether its DPDK of unknown version is an affected")
    config = machine.root / "run/dpdk/rte/config"
    for version, said in (((25, 11, 2, 99), "25.11.2"), ((26, 11, 0, 3), "26.11.0-rc3")):
        number = int.from_bytes(version, "big")
        config.write_bytes(b"".join(part.to_bytes(4, sys.byteorder) for part in (19820526, number)))
        machine.says(1, f"its DPDK {said} is an affected version")


def test_a_plugin_with_dpdk_inside(machine):
    machine.process(100, "vpp", library=None, prefix=None)
    machine.map_file(100, machine.root / "vpp_plugins/dpdk_plugin.so", EAL + FIXED)
    machine.says(0, "healthy: primary process 100 (vpp) has the device; its DPDK has the fix")


def test_who_claims_a_device_is_dpdk(machine):
    machine.process(100, "vpp", library=None, prefix=None)
    machine.claim(100)
    machine.says(0, "healthy: primary process 100 (vpp) has the device")


def test_a_library_that_was_replaced_on_disk(machine):
    machine.process(100, library=None)
    machine.map(100, f"/usr/lib/{BUS} (deleted)")
    kept = machine.proc / "100/map_files"
    kept.mkdir()
    (kept / "7f00-7f01").write_bytes(FIXED)
    machine.says(0, "its DPDK has the fix")


def test_another_fix_shows_by_a_secondary_without_the_device_open(machine):
    machine.process(100, library=OLD, version="26.03.0")
    machine.secondary(library=OLD, version="26.03.0")
    machine.says(0, "mapped by secondary process 200 (perf), DPDK 26.03.0: fixed",
                 "healthy: ", "none with /dev/uio0 open; its DPDK has the fix")


@pytest.fixture
def kernel(machine, module, monkeypatch, capsys):
    """Run the doctor where the kernel tells which open file of /dev/uio0 each process has."""
    looks = module.Machine

    def says(files, code, text):
        def compares(root):
            one = looks(root)
            one.same_file = lambda pid, _, other, __: files[pid] == files[other]
            return one
        monkeypatch.setattr(module, "Machine", compares)
        monkeypatch.setattr(sys, "argv", ["uio-doctor", "--root", str(machine.root)])
        assert module.main() == code
        assert text in capsys.readouterr().out
    return says


def test_secondaries_that_share_the_open_file(machine, kernel):
    machine.process(300)  # a primary, whatever its number
    machine.secondary(200, uio=True)
    machine.secondary(201, uio=True, parent=300)
    machine.secondary(202)
    kernel({300: "a", 200: "a", 201: "a"}, 0, "healthy: primary process 300 (spdk_tgt) has the "
           "device, 3 secondary processes attached, its open /dev/uio0 is shared by 3 processes "
           "and ends with the last of them; its DPDK has the fix\n")
    kernel({300: "a", 200: "a", 201: "b"}, 1, "at risk: secondary process 201 (perf) has /dev/uio0 "
           "open: when it ends, the kernel clears bus mastering")


def test_a_forked_process_is_a_second_opener_if_it_opens_the_file_again(machine, kernel):
    machine.process(100)
    machine.process(101, parent=100)
    machine.says(0, "healthy: primary process 100")
    kernel({100: "a", 101: "a"}, 0, "healthy: primary process 100")
    kernel({100: "a", 101: "b"}, 1, "at risk: primary process 101 (spdk_tgt) has /dev/uio0 open as")


def test_the_claim_shows_sharing_where_the_kernel_does_not(machine):
    machine.process(100)
    machine.secondary(uio=True)
    machine.says(1, "at risk: secondary process 200 (perf) has /dev/uio0 open")
    machine.claim(100)
    machine.claim(200, taker=100)
    machine.says(0, "its open /dev/uio0 is shared by 2 processes and ends with the last of them")


def test_secondaries_go_on_without_their_primary(machine):
    machine.secondary(uio=True)
    machine.claim(200, taker=100)
    machine.says(0, "healthy: the primary process 100 has ended or detached the device, secondary "
                 "process 200 (perf) still shares its open /dev/uio0: I/O goes on, and a new "
                 "primary process is refused, until the last of them ends")
    machine.secondary(201, uio=True)
    machine.claim(201, taker=100)
    machine.says(0, "secondary processes 200 (perf), 201 (perf) still share its open /dev/uio0")
    assert "nothing to restore" in machine.doctor("--restore", BDF, "--yes").stdout
    own_namespace(machine)
    machine.says(69, "unknown: cannot tell whether a primary process has the device")


def test_secondaries_that_are_left_need_the_bit(stopped):
    stopped.secondary(uio=True)
    stopped.claim(200, taker=100)
    stopped.says(1, "lost: bus mastering is OFF while secondary process 200 (perf) has the device",
                 "if I/O does not go on, end secondary process 200 (perf), and start the primary")
    assert stopped.doctor("--restore", BDF, "--yes").returncode == 0
    assert stopped.config.read_bytes()[4:6] == b"\x07\x01"


def test_kcmp(module, tmp_path):
    """The kernel of this machine must tell a shared open file from a second one."""
    path = tmp_path / "file"
    path.touch()
    with open(path, "rb") as first, open(path, "rb") as second:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=first)
        same = [module.same_file(os.getpid(), file.fileno(), child.pid, 1)
                for file in (first, second)]
        child.communicate()
        assert module.same_file(os.getpid(), first.fileno(), os.getpid(), 1 << 20) is None
        if module.same_file(os.getpid(), first.fileno(), os.getpid(), first.fileno()) is None:
            pytest.skip("kcmp(2) is not permitted here: CONFIG_KCMP or CAP_SYS_PTRACE is missing")
        assert same == [True, False]


def test_a_secondary_with_the_device_open_is_a_risk_unless_igb_uio_counts_its_openers(machine):
    machine.process(100, library=OLD)
    machine.secondary(uio=True, library=OLD)
    machine.says(1, "at risk: secondary process 200 (perf) has /dev/uio0 open: when it ends, the "
                 "kernel clears bus mastering, and I/O of primary process 100 (spdk_tgt) hangs")
    drivers = machine.root / "sys/bus/pci/drivers"
    (drivers / "uio_pci_generic").rename(drivers / "igb_uio")
    machine.says(0, "healthy: ")


def test_an_opener_that_is_not_dpdk(machine):
    machine.process(100)
    machine.process(300, "cat", library=None, bar=False, prefix=None)
    machine.says(1, "at risk: process 300 (cat, not DPDK) has /dev/uio0 open as well")


def test_a_program_that_has_a_bar_mapped(machine):
    machine.process(300, "peek", uio=False, library=None, prefix=None)
    machine.says(1, "at risk: process 300 (peek, not DPDK) has BARs mapped, and no primary process")


def test_a_program_that_is_left_with_the_device_open(stopped):
    stopped.process(300, "sh", bar=False, library=None, prefix=None)
    stopped.says(1, "at risk: process 300 (sh, not DPDK) has /dev/uio0 open, and no primary")
    stopped.refuses_to_restore(1, "no primary process has the device")


def test_a_driver_that_is_not_dpdk(stopped):
    stopped.process(300, "nvmed", library=None, prefix=None)
    stopped.says(1, "lost: bus mastering is OFF while process 300 (nvmed, not DPDK) has the device")
    assert stopped.doctor("--restore", BDF, "--yes").returncode == 0
    stopped.says(0, "healthy: process 300 (nvmed, not DPDK) has the device")


def test_lost_and_restored(stopped):
    stopped.process(100)
    stopped.says(1, "lost: bus mastering is OFF while primary process 100 (spdk_tgt) has the",
                 f"next: --restore {BDF} sets the bit")
    done = stopped.doctor("--restore", BDF, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "--yes" in done.stderr
    done = stopped.doctor("--restore", BDF, "--yes")
    assert done.returncode == 0 and "must reset" in done.stdout
    assert stopped.config.read_bytes()[4:6] == b"\x07\x01"
    assert "nothing to restore" in stopped.doctor("--restore", BDF, "--yes").stdout


@pytest.mark.parametrize("answer, code", [(b"\x04", 1), (b"n\n", 1), (b"y\n", 0)])
def test_the_question_of_restore(stopped, answer, code):
    stopped.process(100)
    terminal, stdin = pty.openpty()
    with os.fdopen(terminal, "r+b", buffering=0) as keyboard:
        keyboard.write(answer)
        done = stopped.doctor("--restore", BDF, stdin=stdin)
        os.close(stdin)
    assert done.returncode == code and "Traceback" not in done.stderr
    assert ("nothing was changed" in done.stderr) == (code == 1)


@pytest.mark.parametrize("is_stock", [False, True])
def test_a_secondary_whose_primary_ended(stopped, is_stock):
    stopped.secondary(uio=is_stock, library=OLD if is_stock else FIXED)
    if is_stock:
        stopped.process(300, "cat", library=None, bar=False, prefix=None)
    stopped.says(1, "lost: the primary process has ended, secondary process 200 (perf) is left")
    stopped.refuses_to_restore(1, "the primary process has ended")


def test_a_secondary_of_another_primary(machine):
    machine.process(100, prefix="b")
    machine.secondary(prefix="a")
    machine.says(1, "at risk: secondary process 200 (perf) belongs to another primary process "
                 f"({machine.root}/run/dpdk/a/config) and still has BARs mapped",
                 "next: end process 200")


def test_a_secondary_that_its_primary_started_is_seen(machine):
    machine.process(100, library=OLD)
    machine.secondary(uio=True, library=OLD, parent=100)
    machine.says(1, "at risk: secondary process 200")


def test_the_claim_tells_the_owner(machine):
    machine.process(90, "intruder")
    machine.process(100)
    machine.claim(100)
    machine.says(1, "at risk: primary process 90 (intruder) has /dev/uio0 open as well")


@pytest.mark.parametrize("file, claim", [("resource4", 100), ("config", None)])
def test_a_lock_of_any_resource_and_of_nothing_else_is_a_claim(machine, file, claim):
    machine.process(100)
    machine.claim(100, machine.config.with_name(file))
    facts = json.loads(machine.doctor("--json").stdout)["devices"][BDF]
    assert (facts["claim"], facts["claim_in_other_sysfs"]) == (claim, False)


def test_a_claim_that_a_forked_process_has_kept(stopped):
    stopped.process(101, parent=1)
    stopped.claim(101, taker=100)
    stopped.says(1, "claimed by process 100, held by primary process 101 (spdk_tgt)",
                 "at risk: primary process 101 (spdk_tgt) holds the claim of process 100, which "
                 "has ended or detached the device", "next: end process 101")
    stopped.refuses_to_restore(1, "holds the claim of process 100")


def test_a_claim_in_another_mount_of_sysfs(machine):
    machine.process(100, bar=("00:99", machine.resource.stat().st_ino))
    machine.claim(100, where=("00:99", machine.resource.stat().st_ino))
    machine.says(0, "claimed by process 100 in another mount of sysfs: a primary process that uses "
                 "this mount is not refused", "mapped by primary process 100", "healthy: ")


def test_a_device_without_a_resource_has_no_claim(machine):
    for path in machine.config.parent.glob("resource*"):
        path.unlink()
    machine.process(100, bar=("00:16", 1))
    done = machine.doctor()
    assert done.returncode == 0 and "claimed by" not in done.stdout


def test_a_file_of_the_name_and_inode_of_a_bar(stopped):
    stopped.process(100, "browser", uio=False, bar=False, library=None, prefix=None)
    stopped.map(100, "/usr/share/resources.pak", ("08:01", stopped.resource.stat().st_ino))
    stopped.says(0, "idle: ")


def test_a_bar_mapped_write_combining(machine):
    machine.process(100)
    machine.secondary(bar=identity(machine.resource.with_name("resource4_wc")))
    machine.says(0, "1 secondary process attached")


@pytest.fixture
def replugged(stopped):
    """Process 100 has the device open that had this address before."""
    deleted = stopped.root / "dev/uio0 (deleted)"
    deleted.symlink_to(NODE)
    (stopped.root / "dev/uio0").unlink()
    stopped.process(100, uio=False, bar=("00:16", 1))
    (stopped.proc / "100/fd/7").symlink_to(deleted)
    return stopped


def test_an_open_file_of_an_earlier_device(replugged):
    replugged.says(0, "idle: ", "an earlier device at this address is still in use by primary "
                   "process 100 (spdk_tgt)")
    replugged.refuses_to_restore(1, "no process has the device open")


def test_an_earlier_device_in_another_dev(replugged):
    (replugged.proc / "100/fd/7").unlink()
    (replugged.proc / "100/fd/7").symlink_to(NODE)
    replugged.says(0, "idle: ")


@pytest.mark.parametrize("node, deleted, maps_it, maps_stale, current", [
    ((5, 77), False, False, True, True), ((5, 76), True, True, False, False),
    ((5, 76), False, False, False, True), ((6, 1), True, True, False, True),
    ((6, 1), True, False, False, False), ((6, 1), False, False, True, False),
    ((6, 1), False, False, False, True)])
def test_whose_open_file(module, node, deleted, maps_it, maps_stale, current):
    device = types.SimpleNamespace(node=(5, 77))
    status = types.SimpleNamespace(st_dev=node[0], st_ino=node[1])
    assert module.Device.is_open_file_of(device, status, deleted, maps_it, maps_stale) == current


def own_namespace(machine):
    (machine.proc / "1/ns/pid").unlink()
    (machine.proc / "1/ns/pid").symlink_to("pid:[4026532200]")


def hidepid(machine):
    (machine.proc / "1/ns/pid").unlink()


def unseen_claim(machine):
    machine.claim(None, taker=777)


@pytest.mark.parametrize("hide, why", [
    (own_namespace, "this is not the initial PID namespace"), (hidepid, "/proc hides processes"),
    (unseen_claim, "process 777, which claims the device, is not visible")])
def test_where_not_all_processes_are_visible(machine, hide, why):
    hide(machine)
    machine.says(69, "unknown: cannot tell whether a primary process has the device (bus mastering "
                 f"is on): {why}")
    machine.config.write_bytes(bytes(64))
    machine.says(69, f"cannot tell whether a primary process has the device: {why}")
    machine.secondary()
    machine.says(69, "(secondary process 200 (perf) uses it): ", why)
    machine.refuses_to_restore(69, why)
    machine.process(100)
    machine.says(1, "lost: ")
    assert machine.doctor("--restore", BDF, "--yes").returncode == 0
    machine.says(69, "unknown: primary process 100 (spdk_tgt) has the device, 1 secondary process "
                 "attached, none with /dev/uio0 open; cannot tell whether other processes have it")


def test_without_root_it_cannot_be_sure(machine, module, monkeypatch, capsys):
    machine.process(100)
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("/fd"):
            raise PermissionError
        return listdir(path)
    monkeypatch.setattr(module.os, "listdir", refuse)
    monkeypatch.setattr(sys, "argv", ["uio-doctor", "--root", str(machine.root)])
    assert module.main() == 69
    assert "2 processes cannot be looked into" in capsys.readouterr().out


def test_names_that_are_no_text(machine):
    machine.process(100)
    with open(machine.proc / "100/maps", "ab") as maps:
        maps.write(b"7f00-7f01 r-xp 0 08:01 9 /tmp/\xff\xfe\n")
    machine.says(0, "healthy: ")


def test_a_process_that_vanishes(machine):
    machine.process(100)
    (machine.proc / "150/fd").mkdir(parents=True)  # and no more of it
    done = machine.doctor()
    assert done.returncode == 0 and done.stderr == ""


def test_a_process_whose_first_thread_ended(machine):
    machine.process(100)
    thread = machine.proc / "100/task/105"
    thread.mkdir(parents=True)
    for entry in ("fd", "maps", "status", "cmdline", "root"):
        (machine.proc / "100" / entry).rename(thread / entry)
    (machine.proc / "100/fd").mkdir()
    machine.says(0, "healthy: primary process 100 (spdk_tgt)")


@pytest.mark.parametrize("bdf, short", [
    ("0000:04:00.0", "04:00.0"), ("0000:04:00.0", "0:4:0.0"), ("10002:01:00.0", "10002:01:00.0"),
    ("389c:00:00.0", "389C:00:00.0")])
def test_addresses(tmp_path, bdf, short):
    machine = Machine(tmp_path, command=0x103, bdf=bdf)
    machine.process(100)
    machine.says(1, f"{bdf} uio_pci_generic /dev/uio0", "mapped by primary process 100")
    assert machine.doctor("--restore", short, "--yes").returncode == 0
    assert machine.config.read_bytes()[4:6] == b"\x07\x01"


@pytest.mark.parametrize("args, text", [
    (["--restore", "00:09.0", "--yes"], f"not a device on uio_pci_generic or igb_uio (here: {BDF}"),
    (["--restore", "4"], "4: not a PCI address"), (["--yes"], "--yes: only for --restore"),
    (["--watch", "1", "--restore", BDF], "not allowed with"),
    *((["--watch", bad], f"{bad}: not a number of seconds")
      for bad in ("-1", "0", "nan", "inf", "1e30", "soon"))])
def test_usage_errors(machine, args, text):
    done = machine.doctor(*args)
    assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("library, verdict", [(FIXED, "fixed"), (OLD, "affected")])
def test_installed(stopped, library, verdict):
    folder = stopped.root / "usr/lib/x86_64-linux-gnu"
    (folder / "pkgconfig").mkdir(parents=True)
    (folder / "pkgconfig/libdpdk.pc").write_text("Version: 24.11.2\n")
    (folder / "librte_bus_pci.so.25").write_bytes(library)
    stopped.says(0, "idle: no process has the device open, mapped or claimed",
                 f"installed in {folder}: DPDK 24.11.2: {verdict}")


@pytest.mark.parametrize("args, lines, changed", [
    ([], 3, f" {BDF} bus master off\n"), (["--json"], 1, '"bus master": "off"')])
def test_watch_prints_changes(machine, args, lines, changed):
    watching = subprocess.Popen([sys.executable, PROGRAM, "--root", machine.root, "--watch", "0.05",
                                 *args], stdout=subprocess.PIPE, text=True)
    try:
        seen = [watching.stdout.readline() for _ in range(lines)]
        machine.config.write_bytes(bytes(4) + b"\x03\x01" + bytes(58))
        seen.append(watching.stdout.readline())
    finally:
        watching.kill()
        watching.communicate()
    assert changed.replace("off", "on") in seen[0].replace("open by", "") and changed in seen[-1]
    if args:
        assert {json.loads(line)["device"] for line in seen} == {BDF}


@pytest.mark.parametrize("args", [[], ["--json"], ["--watch", "0.01"]])
def test_a_reader_that_has_gone(machine, args):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        done = machine.doctor(*args, capture_output=False, stdout=stdout, stderr=subprocess.PIPE)
    assert done.returncode == 141 and done.stderr == ""


def test_sixty_four_devices_and_two_thousand_processes(machine):
    for number in range(1, 64):
        machine.device(number, f"0000:{number:02x}:00.0")
        for pid in range(1000 + 4 * number, 1004 + 4 * number):
            machine.process(pid, uio=False)
    other = "".join(f"7f{number:010x}-7f{number + 1:010x} r-xp 00000000 08:01 {number}   "
                    f"/usr/lib/x86_64-linux-gnu/libother{number}.so.1\n" for number in range(60))
    for pid in range(2000, 3750):
        (machine.proc / str(pid) / "fd").mkdir(parents=True)
        (machine.proc / str(pid) / "maps").write_text(other)
        for fd, target in enumerate(("/dev/null", "socket:[1]", "pipe:[2]", "/var/log/x") * 2):
            (machine.proc / str(pid) / f"fd/{fd}").symlink_to(target)
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert machine.doctor().stdout.count("has BARs mapped") == 63
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Of the processor, not of the clock: the machine may have other things to do.
    assert min(seconds) < 1
