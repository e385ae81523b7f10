# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The lab without a VM: a script stands in for QEMU and its guest."""

import concurrent.futures
import contextlib
import gzip
import io
import os
import pathlib
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time

import pytest
from conftest import wait_for, write

from uiokit import arch, common, distro, elf, process
from uiokit.cli import lab
from uiokit.lab import (accelerator, guest_files, guest_image, guest_kernel, guest_python,
                        kernel_image, protocol, qemu, vm)

RELEASE = "6.1.0-lab"
AMD64, ARM64 = arch.ALL.values()

# Found here, before a test has a build directory of its own.
BUSYBOX = guest_image.busybox()

# Writes to the lab's ports in place of a guest: port("out", b"...") and so on.
STAND_IN = f"""\
#!{sys.executable}
import os, re, sys, time
if "--version" in sys.argv:
    print("QEMU emulator version", open(__file__ + ".version").read())
    sys.exit()
fds = dict(re.findall(r"socket,id=([a-z.]+),fd=([0-9]+)", " ".join(sys.argv)))
def port(name, data):
    os.write(int(fds[name]), data)
"""

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None,
                                reason="no dpkg-deb here to read a .deb with")


@pytest.fixture
def build(tmp_path):
    return tmp_path / "build"


@pytest.fixture
def kernel(tmp_path):
    """A file that starts as a vmlinuz does, and modules beside it, all of them built in."""
    head = bytearray(4096)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20e, 0x300)
    head[0x500:0x500 + 32] = f"{RELEASE} (somebody)".encode().ljust(32, b"\0")
    path = tmp_path / "boot" / "vmlinuz"
    write(tmp_path, {"boot/modules/modules.builtin": "".join(
        f"drivers/{name}.ko\n" for name in (*guest_kernel.NEEDED, "uio_pci_generic"))})
    path.write_bytes(head)
    return path


@pytest.fixture
def guest(tmp_path, kernel, monkeypatch):
    """A function that makes options for a stand-in that does what the given Python says."""
    monkeypatch.setattr(guest_image, "busybox", lambda guest: BUSYBOX)

    qemu.version.cache_clear()
    common.say_once.cache_clear()

    def options(text, version="9.9.9", **more):
        program = tmp_path / "qemu"
        program.write_text(STAND_IN + text)
        program.chmod(0o755)
        pathlib.Path(f"{program}.version").write_text(version)
        more = {"accel": "tcg", "nvme": 0, **more}
        return vm.Options(command=["true"], kernel=str(kernel), qemu=str(program), **more)
    return options


def tar(*entries):
    """A tar file of (name, content, kind of entry), the last of which may be left out."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data, *kind in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.linkname = len(data), 0o640, "/"
            entry.type, = kind or [tarfile.REGTYPE]
            archive.addfile(entry, io.BytesIO(data))
    return stream


def unpack(image):
    """The entries of a cpio archive: name -> (mode, content)."""
    entries, at = {}, 0
    while True:
        fields = [int(image[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = image[at + 110:at + 110 + length - 1].decode()
        at += (110 + length + 3) & ~3
        if name == "TRAILER!!!":
            return entries
        assert name not in entries
        entries[name] = (mode, image[at:at + size])
        at += (size + 3) & ~3


def image_with(*take, library_path=""):
    stream = io.BytesIO()
    guest_image.write(stream, guest_kernel.Kernel(RELEASE, None, {}, {}), {"A": "b c"}, "true\n",
                      take, library_path)
    return unpack(stream.getvalue())


def gone(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


# The result of a run

def test_exit_code_and_output_are_the_commands_and_kept_apart(guest):
    lines = []
    result = vm.boot(guest("""
port('lab.ctl', b'ready\\nstart\\n')
port('lab.out', b'one\\r\\ntw')
port('lab.err', b'three\\n')
port('lab.out', b'o\\n')
port('lab.ctl', b'exit 3\\nend\\n')
"""), on_line=lines.append)
    assert (result.code, result.timed_out) == (3, False)
    assert (result.kernel, result.accel) == (RELEASE, "tcg")
    assert (result.stdout, result.stderr) == ("one\r\ntwo\n", "three\n")
    assert lines == ["one\r", "two"]


def test_a_timeout_is_distinguished_from_a_kill(guest):
    text = "port('lab.ctl', b'ready\\nstart\\n%sexit 137\\nend\\n')"
    killed = vm.boot(guest(text % ""))
    late = vm.boot(guest(text % "timeout\\n", timeout=1))
    assert (killed.code, killed.timed_out) == (137, False)
    assert (late.code, late.timed_out) == (124, True)


@pytest.mark.parametrize("text, options, why", [
    ("port('console', b'Booting\\n')\ntime.sleep(60)", {},
     r"(?s)did not boot within 3 s.*    Booting.*whole boot log: \S+\.log"),
    ("port('lab.ctl', b'ready\\nstart\\n')\ntime.sleep(60)", {"timeout": 1},
     "did not end the command at its time limit"),
    ("port('lab.ctl', b'ready\\nstart\\nexit 0\\n')\ntime.sleep(60)", {},
     "stopped sending before it had sent all"),
    ("port('lab.ctl', b'ready\\nstart\\n')\nport('console', b'Kernel panic - oops\\n')", {},
     "before it could report.*: Kernel panic - oops"),
    ("port('lab.ctl', b'ready\\nfault cannot bind x\\n')\ntime.sleep(60)", {},
     "could not run the command: cannot bind x"),
    ("sys.exit('no such device: x')", {"device": ["x"]},
     "(?s)QEMU ended with 1.*no such device: x")],
    ids=["silent", "hangs", "stops sending", "dies", "fault", "qemu"])
def test_no_verdict(guest, monkeypatch, text, options, why):
    monkeypatch.setattr(vm, "STARTS_WITHIN", 3)
    monkeypatch.setattr(vm, "TCG_BOOTS_WITHIN", 0.5)
    monkeypatch.setattr(protocol, "GRACE", 0.2)
    with pytest.raises(common.Infrastructure, match=why):
        vm.boot(guest(text, **options))


def test_a_missing_file_to_give_is_an_error_only_after_success(guest, tmp_path, capfd):
    text = "port('lab.ctl', b'ready\\nstart\\nexit %d\\nmissing /x\\nend\\n')"
    give = [("/x", str(tmp_path / "x"))]
    assert vm.boot(guest(text % 4, give=give)).code == 4
    assert "not in the guest: /x" in capfd.readouterr().err
    with pytest.raises(common.Infrastructure, match="not in the guest: /x"):
        vm.boot(guest(text % 0, give=give))


def test_given_files_arrive(guest, tmp_path):
    (tmp_path / "tar").write_bytes(tar(("tmp/d/a", b"1"), ("tmp/d/b/c", b"2"), ("tmp/dd", b"3"),
                                       ("etc/f", b"4")).getvalue())
    (tmp_path / "here").mkdir()
    vm.boot(guest(f"""
port('lab.ctl', b'ready\\nstart\\nexit 0\\n')
port('lab.give', open({str(tmp_path / "tar")!r}, 'rb').read())
port('lab.ctl', b'end\\n')
""", give=[("/tmp/d", str(tmp_path / "new")), ("/etc/f", str(tmp_path / "here")),
           ("/tmp/dd", f"{tmp_path}/there/")]))
    found = {str(path.relative_to(tmp_path)): path.read_text()
             for folder in ("new", "here", "there") for path in (tmp_path / folder).rglob("*")
             if path.is_file()}
    assert found == {"new/a": "1", "new/b/c": "2", "here/f": "4", "there/dd": "3"}
    assert (tmp_path / "new/a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("guest_path", ["/", "/out"])
def test_given_files_stay_in_their_folder(tmp_path, guest_path):
    """Absolute names, .. and links in the archive write nothing outside of the target."""
    archive = tar(*((name, b"x") for name in (
        f"//{tmp_path}/evil1", "../evil2", "out/../../evil3", "out/../../../evil4",
        f"out//{tmp_path}/evil5", "out/good")),
        *(("out/link", b"", kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)),
        (f"out/link/{tmp_path}/evil6", b""))
    guest_files.put_given(archive, [(guest_path, str(tmp_path / "target"))])
    assert not [path for path in tmp_path.rglob("evil?")
                if not path.is_relative_to(tmp_path / "target")]
    assert len(list((tmp_path / "target").rglob("good"))) == 1


def test_given_files_that_are_no_archive_are_no_verdict(tmp_path):
    with pytest.raises(common.Infrastructure, match="--give: what the guest sent is no tar"):
        guest_files.put_given(io.BytesIO(b"x" * 9999), [("/x", str(tmp_path / "x"))])


# The host: KVM, QEMU, architecture

BOOTS = "port('lab.ctl', b'ready\\nstart\\nexit 0\\nend\\n')\n"
HANGS_ON_KVM = """
if "kvm" in sys.argv:
    open(__file__ + ".kvm", "a").write("x")
    time.sleep(60)
""" + BOOTS


@pytest.fixture
def kvm(tmp_path, monkeypatch):
    """A device node that may be opened."""
    monkeypatch.setattr(accelerator, "KVM", tmp_path / "kvm")
    accelerator.KVM.touch()
    return accelerator.KVM


def test_kvm_is_only_believed_when_a_guest_boots(guest, kvm, monkeypatch, capfd):
    monkeypatch.setattr(accelerator, "KVM_BOOTS_WITHIN", 3)
    hanging = guest(HANGS_ON_KVM, accel="auto")
    tried = pathlib.Path(hanging.qemu + ".kvm")
    assert vm.boot(hanging).accel == "tcg"
    said, = capfd.readouterr().err.splitlines()
    assert "KVM is present, but no guest booted on it within 3 s; using software" in said
    assert "for a day (retry now: --accel kvm)" in said
    assert vm.boot(hanging).accel == "tcg"
    assert tried.read_text() == "x"
    hanging.accel = "kvm"
    with pytest.raises(common.Infrastructure):
        vm.boot(hanging)
    assert tried.read_text() == "xx"


def test_a_failure_of_kvm_is_forgotten_after_a_day(guest, kvm):
    assert accelerator.candidates("auto", guest("").qemu, AMD64) == ["kvm", "tcg"]
    accelerator.remember(False, guest("").qemu)
    failure, = common.build_dir("lab").iterdir()
    for hours, expected in ((23, ["tcg"]), (25, ["kvm", "tcg"])):
        os.utime(failure, (0, time.time() - hours * 3600))
        assert accelerator.candidates("auto", guest("").qemu, AMD64) == expected


def test_a_guest_that_boots_on_kvm_ends_the_fallback(guest, kvm):
    works = guest(BOOTS, accel="kvm")
    accelerator.remember(False, works.qemu)
    assert vm.boot(works).accel == "kvm"
    assert accelerator.candidates("auto", works.qemu, AMD64) == ["kvm", "tcg"]


def test_kvm_without_permission_names_the_group_once(guest, kvm, monkeypatch, capfd):
    access = os.access
    monkeypatch.setattr(accelerator.os, "access", lambda path, *more, **options:
                        path != kvm and access(path, *more, **options))
    for _ in range(2):
        assert vm.boot(guest(BOOTS, accel="auto")).accel == "tcg"
    said, = capfd.readouterr().err.splitlines()
    assert "permission denied; using software emulation (TCG); add yourself to group kvm" in said


def test_another_architecture_is_emulated(guest, kvm):
    assert accelerator.candidates("auto", guest("").qemu, ARM64) == ["tcg"]
    words = qemu.machine_args("qemu", ARM64, "tcg", 2, 512)
    assert ("virt,gic-version=max" in words and "cortex-a72" in words
            and "ttyAMA0" in qemu.kernel_args(ARM64, "Image", open(os.devnull), 64, "")[-1])


def test_a_kernel_of_another_architecture(guest, kernel):
    with pytest.raises(common.Usage, match="no vmlinuz or vmlinux for aarch64, nor a .deb"):
        guest_kernel.obtain(str(kernel), guest=ARM64)
    data = bytearray(kernel.read_bytes())
    data[0x38:0x3c], data[0x202:0x206] = b"ARM\x64", b"none"
    data += f"Linux version {RELEASE} (somebody)".encode()
    for packed in (data, gzip.compress(data)):
        kernel.write_bytes(packed)
        found = guest_kernel.obtain(str(kernel), guest=ARM64)
        assert (found.release, found.image) == (RELEASE, kernel)


def test_an_architecture_that_dpdk_cannot_be_built_for_is_refused(monkeypatch):
    monkeypatch.setattr(arch.platform, "machine", lambda: "aarch64")
    assert list(arch.guests()) == ["arm64"]
    monkeypatch.setattr(arch.platform, "machine", lambda: "x86_64")
    assert list(arch.guests()) == ["amd64", "arm64"]


def test_an_old_qemu_is_named(guest):
    with pytest.raises(common.Infrastructure, match="is version 4.2.1: the lab needs 5.2"):
        vm.boot(guest(BOOTS, version="4.2.1"))


def qemu_args(options):
    text = "open(__file__ + '.args', 'w').write(' '.join(sys.argv))\n" + BOOTS
    with open(options.qemu, "a") as program:
        program.write(text)
    vm.boot(options)
    return pathlib.Path(options.qemu + ".args").read_text()


@pytest.mark.parametrize("version, sriov", [("7.0.9", False), ("7.1.0", True), ("git", True)])
def test_qemu_without_sriov_gets_a_plain_drive(guest, version, sriov, capfd):
    args = qemu_args(guest("", version=version, nvme_sriov=True))
    assert ("sriov_max_vfs" in args, "nvme,drive=drive0" in args) == (sriov, not sriov)
    assert ("QEMU 7.0.9 has no SR-IOV" in capfd.readouterr().err) != sriov


def test_the_iommu_has_enough_address_bits_for_virtual_addresses(guest):
    assert "intel-iommu,intremap=off,aw-bits=48" in qemu_args(guest("", iommu=True))


@pytest.mark.parametrize("aslr", [True, False])
def test_a_guest_has_random_addresses_unless_told_otherwise(guest, aslr):
    assert ("norandmaps" in qemu_args(guest("", aslr=aslr))) != aslr


def test_a_guest_that_does_not_boot_is_started_once_more(guest, monkeypatch):
    monkeypatch.setattr(vm, "TCG_BOOTS_WITHIN", 3)
    silent = guest("""
open(__file__ + ".tried", "a").write("x")
if len(open(__file__ + ".tried").read()) == 1:
    time.sleep(60)
""" + BOOTS)
    assert vm.boot(silent).code == 0
    assert pathlib.Path(silent.qemu + ".tried").read_text() == "xx"


def test_a_guest_that_boots_on_neither_is_not_held_against_kvm(guest, kvm, build):
    with pytest.raises(common.Infrastructure):
        vm.boot(guest("sys.exit('bad --device')", accel="auto"))
    assert [path.suffix for path in (build / "lab").iterdir()] == [".log", ".log"]


# What is left behind

@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 130),
                                          (signal.SIGKILL, -signal.SIGKILL)])
def test_qemu_ends_with_the_lab(guest, build, number, code):
    options = guest("open(__file__ + '.pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(60)")
    pid_file = pathlib.Path(options.qemu + ".pid")
    process = subprocess.Popen(
        [sys.executable, common.TOP / "devtools/lab", "run", "--accel", "tcg", "--qemu",
         options.qemu, "--kernel", options.kernel, "--", "true"], stderr=subprocess.DEVNULL,
        env=dict(os.environ, PATH=f"{BUSYBOX.parent}:{os.environ['PATH']}"))
    wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    process.send_signal(number)
    assert process.wait(timeout=20) == code
    wait_for(lambda: gone(int(pid_file.read_text())))
    assert [path.suffix for path in (build / "lab").iterdir()] == [".log"]


def test_only_the_last_boot_logs_are_kept(guest, build):
    write(build, {f"lab/boot-2000{number:02}.log": "" for number in range(30)})
    result = vm.boot(guest(BOOTS))
    kept = sorted((build / "lab").iterdir())
    assert len(kept) == vm.LOGS_KEPT and kept[-1] == result.log


# Wrong calls

@pytest.mark.parametrize("args, complaint", [
    ([], "required"),
    (["run"], "COMMAND"),
    (["run", "--nvme", "many", "--", "true"], "many: not a number from 0"),
    (["run", "--timeout", "0", "--", "true"], "0: not a number from 1"),
    (["run", "--take", "/no/such", "--", "true"], "/no/such: no such file or folder"),
    (["run", "--take", "/etc/passwd:etc", "--", "true"], "etc: not an absolute path"),
    (["run", "--give", "/tmp/x", "--", "true"], "/tmp/x: not GUEST:HOST"),
    (["run", "--env", "A-B=1", "--", "true"], "A-B=1: not NAME=VALUE"),
    (["run", "--uio", "e1000e", "--", "true"], "e1000e: not VENDOR:DEVICE"),
    (["run", "--accel", "xen", "--", "true"], "invalid choice"),
])
def test_wrong_calls_are_named(args, complaint, capsys):
    with pytest.raises(SystemExit) as raised:
        lab.main(args)
    assert raised.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("args, complaint", [
    (["--modules", "."], "--modules . without --kernel"),
    (["--kernel", "nope"], "--kernel .*/nope: no such file"),
    (["--kernel", "file"], "--kernel .*/file: no vmlinuz"),
    (["--kernel", "."], "--kernel .*: not a file"),
    (["--kernel", "boot/vmlinuz", "--modules", "nope"], "--modules .*/nope: no such file"),
    pytest.param(["--kernel", "file.deb"], "file.deb", marks=needs_dpkg),
    (["--give", "/x:file/x"], "--give file/x: cannot be written: .*/file is not a folder"),
    (["--give", "/x:locked/x"], "--give locked/x: cannot be written: .*/locked: permission denied"),
    (["--watch", "file/x"], "--watch file/x: cannot be written"),
    (["--watch", "."], "--watch .: is a folder"),
    (["--bind", "vfio-pci"], "--bind vfio-pci needs --iommu"),
    (["--mem", "256", "--hugepages", "256"], r"--mem 256: \d+ MiB are needed"),
])
def test_wrong_arguments_are_named_before_anything_is_fetched(args, complaint, tmp_path,
                                                              kernel, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"file": "text", "file.deb": "text"})
    (tmp_path / "locked").mkdir()
    access = os.access
    monkeypatch.setattr(guest_files.os, "access", lambda path, mode:
                        "locked" not in str(path) and access(path, mode))
    for module, name in ((distro, "need"), (distro, "apt_get"), (guest_kernel, "obtain")):
        monkeypatch.setattr(module, name, None)
    with pytest.raises(common.Usage, match=complaint):
        lab.main(["run", *args, "--", "true"])


def test_too_little_memory_for_the_files_is_named_before_the_boot(guest, tmp_path):
    (tmp_path / "big").write_bytes(bytes(8 << 20))
    with pytest.raises(common.Usage, match=r"--mem 200: \d+ MiB are needed"):
        vm.boot(guest("", mem=200, hugepages=0, take=[(tmp_path / "big", "/big")]))


# Kernels

def test_an_incomplete_kernel_is_named(kernel):
    with open(kernel, "r+b") as file:
        file.seek(0x248)
        file.write(struct.pack("<II", 0x1000, 1 << 20))
    with pytest.raises(common.Usage, match="incomplete"):
        guest_kernel.obtain(str(kernel))


def test_modules_are_looked_for_beside_the_kernel(kernel):
    assert guest_kernel.obtain(str(kernel)).release == RELEASE
    (kernel.parent / "modules").rename(kernel.parent / "elsewhere")
    with pytest.raises(common.Usage, match="no modules of 6.1.0-lab found beside it"):
        guest_kernel.obtain(str(kernel))
    guest_kernel.obtain(str(kernel), str(kernel.parent / "elsewhere"))


def test_a_missing_module_is_named_with_its_option(kernel):
    (kernel.parent / "modules/modules.builtin").write_text("kernel/drivers/virtio_pci.ko\n"
                                                           "kernel/drivers/virtio_console.ko\n")
    with pytest.raises(common.Usage, match="no module uio_pci_generic .CONFIG_UIO_PCI_GENERIC."):
        guest_kernel.obtain(str(kernel))


@pytest.fixture
def module(kernel):
    """A function that makes a module of the kernel fixture."""
    def make(name, depends, release=RELEASE):
        text = f'const char info[] __attribute__((section(".modinfo"))) = ' \
            f'"depends={depends}\\0vermagic={release} SMP";'
        subprocess.run(["gcc", "-x", "c", "-c", "-", "-o", kernel.parent / f"modules/{name}.ko"],
                       input=text, text=True, check=True)
    return make


def test_modules_come_in_load_order_and_of_the_same_release(kernel, module):
    (kernel.parent / "modules/modules.builtin").write_text(
        "a/virtio_pci.ko\na/virtio_console.ko\na/core.ko\n")
    module("uio", "")
    module("uio_pci_generic", "uio,core")
    found = guest_kernel.obtain(str(kernel))
    assert found.closure(found.wanted) == ["uio", "uio_pci_generic"]
    module("uio", "", "6.1.0-other")
    with pytest.raises(common.Usage, match="is for kernel 6.1.0-other, not for 6.1.0-lab"):
        guest_kernel.obtain(str(kernel))


def test_modules_are_loaded_for_the_driver_alone_that_needs_them(kernel, module):
    module("vfio_iommu_type1", "vfio")
    module("vfio", "")
    with pytest.raises(common.Usage, match="no module vfio_pci .CONFIG_VFIO_PCI."):
        guest_kernel.obtain(str(kernel), driver="vfio-pci")
    module("vfio-pci", "vfio-pci-core,vfio")
    module("vfio-pci-core", "vfio")
    module("nvme", "nvme-core")
    module("nvme-core", "")
    loads = {driver: (found := guest_kernel.obtain(str(kernel), driver=driver)).closure(
        found.wanted) for driver in guest_kernel.DRIVERS}
    assert loads == {"uio_pci_generic": [], "nvme": ["nvme_core", "nvme"],
                     "vfio-pci": ["vfio", "vfio_pci_core", "vfio_pci", "vfio_iommu_type1"]}


def test_an_optional_module_without_its_dependency_is_left_out(kernel, module):
    module("vfio-pci", "vfio-pci-core")
    assert guest_kernel.obtain(str(kernel)).modules == {}


def test_modinfo_is_found_where_path_lacks_the_system_folders():
    program = ("import sys; sys.path[0] = sys.argv[1]\n"
               "from uiokit.lab import kernel_image; print(kernel_image.MODINFO)")
    shown = subprocess.run([sys.executable, "-c", program, common.TOP / "devtools"], check=True,
                           env={"PATH": "/nonexistent"}, stdout=subprocess.PIPE, text=True).stdout
    assert os.access(shown.strip(), os.X_OK)


def make_deb(path, *members):
    """A package of the entries of tar()."""
    control = b"Package: p\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n"
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, data in (("debian-binary", b"2.0\n"),
                           ("control.tar", tar(("./control", control)).getvalue()),
                           ("data.tar", tar(*members).getvalue())):
            file.write(f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(data):<10}`\n".encode())
            file.write(data + b"\n" * (len(data) % 2))


@needs_dpkg
def test_a_package_writes_nothing_outside_of_its_folder(tmp_path, kernel, build):
    builtin = (kernel.parent / "modules/modules.builtin").read_bytes()
    up, uio = "../" * 3, f"lib/modules/{RELEASE}/kernel/drivers/uio"
    make_deb(tmp_path / "evil.deb", *((name, b"") for name in (
        f"./{up}kernel/drivers/uio/evil1", f"./{uio}/{up * 3}evil2",
        f"{tmp_path}/kernel/drivers/uio/evil3", f"./boot/vmlinuz-x/{up}evil4",
        "./boot/vmlinuz-evil5/evil6", f"x/{uio}/evil7")),
        ("./boot/vmlinuz-evil5", b"", tarfile.SYMTYPE),
        (f"./boot/vmlinuz-{RELEASE}", kernel.read_bytes()),
        (f"./lib/modules/{RELEASE}/modules.builtin", builtin))
    assert guest_kernel.obtain(str(tmp_path / "evil.deb")).release == RELEASE
    assert not [path for path in tmp_path.rglob("evil[1-7]")]
    unpacked, = (build / "kernel").glob("evil.deb-*")
    assert sorted(path.name for path in unpacked.rglob("*") if path.is_file()) == [
        "modules.builtin", f"vmlinuz-{RELEASE}"]


@needs_dpkg
def test_a_fetched_kernel_is_used_with_its_age_until_refresh(kernel, build, monkeypatch, capfd):
    def download(*packages, cwd, suite, guest):
        fetched.append((packages[1:], suite))
        make_deb(pathlib.Path(cwd, "x.deb"), (f"./boot/vmlinuz-{RELEASE}", kernel.read_bytes()), (
            f"./lib/modules/{RELEASE}/modules.builtin",
            (kernel.parent / "modules/modules.builtin").read_bytes()))

    fetched = []
    monkeypatch.setattr(distro, "apt_get", download)
    monkeypatch.setattr(distro, "apt_cache", lambda _what, _important, *names, suite, guest: {
        "linux-image-generic": "  Depends: linux-image-6.1.0\n",
        "linux-image-6.1.0": "  Depends: kmod\n  Depends: linux-modules-6.1.0\n"}.get(names[0], ""))
    for _ in range(2):
        assert guest_kernel.obtain().release == RELEASE
    assert "ago" not in capfd.readouterr().err
    stamp, = build.glob("linux-*/.unpacked")
    os.utime(stamp, (0, time.time() - 50 * 3600))
    for _ in range(2):
        guest_kernel.obtain()
    assert capfd.readouterr().err == (f"  kernel {RELEASE} (fetched 2 days ago; --refresh to fetch "
                                      "the newest)\n")
    packages = ("linux-image-6.1.0", "linux-image-generic", "linux-modules-6.1.0")
    assert fetched == [(packages, None)]
    guest_kernel.obtain("trixie")
    guest_kernel.obtain(refresh=True)
    assert fetched == [(packages, None), (packages, "trixie"), (packages, None)]


@pytest.mark.parametrize("program", ["xz", "gzip", "bzip2", "zstd", "lz4 -l"])
def test_packed_kernels_and_modules_are_unpacked(program):
    argv = [*program.split(), "-c"]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]} here to pack with")
    packed = subprocess.run(argv, input=b"module" * 99, stdout=subprocess.PIPE).stdout
    assert kernel_image.decompress(packed) == b"module" * 99
    assert kernel_image.decompress(b"neither") is None


# busybox

def test_a_static_busybox_in_path_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(distro, "apt_get", None)
    shutil.copy(BUSYBOX, tmp_path / "busybox")
    assert guest_image.busybox() == tmp_path / "busybox"


def test_without_apt_the_program_to_install_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(guest_image, "find_program", lambda _: None)
    with pytest.raises(common.Infrastructure, match="busybox: not found: install a statically"):
        guest_image.busybox()
    monkeypatch.setattr(guest_image, "find_program", lambda _: sys.executable)
    with pytest.raises(common.Infrastructure, match="busybox: /.* needs shared libraries"):
        guest_image.busybox()


def test_a_second_process_waits_for_busybox_and_says_so(monkeypatch, build, capfd):
    monkeypatch.setattr(guest_image, "find_program", lambda _: None)
    monkeypatch.setattr(distro, "apt_get", None)
    monkeypatch.setattr(guest_image.shutil, "which", lambda _: "/usr/bin/apt-get")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with common.locked(common.build_dir() / "busybox-static.lock", ""):
            second = pool.submit(guest_image.busybox)
            wait_for(lambda: "waiting for another command" in capfd.readouterr().err)
            write(build, {"busybox-static/bin/busybox": "", "busybox-static/.unpacked": ""})
        assert second.result() == build / "busybox-static/bin/busybox"


# The guest's image

def test_bytecode_stands_in_for_the_source_of_a_module_in_the_guest(tmp_path, monkeypatch):
    write(tmp_path, {"a.pyc": ""})
    listed = f"/lib/a.py {tmp_path}/a.pyc\n/lib/b.py {tmp_path}/b.pyc\n/lib/c.so \n"
    monkeypatch.setattr(guest_python.process, "run",
                        lambda argv: subprocess.CompletedProcess(argv, 0, listed))
    assert guest_python.take(("a", "b", "c")) == [
        (tmp_path / "a.pyc", "/lib/a.pyc"), (pathlib.Path("/lib/b.py"), "/lib/b.py"),
        (pathlib.Path("/lib/c.so"), "/lib/c.so"),
        (pathlib.Path(guest_python.PYTHON), guest_python.PYTHON)]


def test_a_compiled_script_runs_under_any_name(tmp_path):
    write(tmp_path, {"script": "import sys\nprint(__name__, sys.argv[1:])\n"})
    made = guest_python.compiled(tmp_path / "script")
    (tmp_path / "script").unlink()
    assert made.name == "script" and b"print(__name__" not in made.read_bytes()
    assert process.run([guest_python.PYTHON, made, "a"]).stdout == "__main__ ['a']\n"


def test_the_image_holds_init_tools_and_job(guest):
    image = image_with()
    assert image["init"] == (0o100755, guest_image.INIT.read_bytes())
    assert image["bin/busybox"] == (0o100755, BUSYBOX.read_bytes())
    assert image["lab/job"][1] == b"A='b c'\n"
    assert image["dev/console"][0] == 0o020600


def test_taken_files_have_their_place_their_mode_and_the_links_among_them(guest, tmp_path):
    write(tmp_path, {"folder/sub/a": "a", "outside": "o", "sh": "mine"})
    for name, target in (("folder/in", "sub/a"), ("folder/out", "../outside"), ("link", "outside")):
        (tmp_path / name).symlink_to(target)
    image = image_with((tmp_path / "folder", "/f"), (tmp_path / "link", "/l"),
                       (tmp_path / "sh", "/bin/sh"), (tmp_path / "sh", "/tmp/b/a"))
    assert image["f/in"] == (0o120777, b"sub/a") and image["f/sub/a"][1] == b"a"
    # A link that leads out of what is taken is replaced by the file.
    assert image["f/out"] == image["l"] == (0o100644, b"o")
    # They come before the tools, and no mount hides them.
    assert image["bin/sh"] == (0o100644, b"mine")
    assert image["tmp"][0] == 0o041777 and image["tmp/b/a"][1] == b"mine"
    assert b" /tmp " not in image["lab/fstab"][1]


def test_the_command_and_its_environment_are_quoted():
    argv = ["sh", "-c", "echo '$A' \"b\"\n", ""]
    script = guest_image.command_script(argv, {"A": "it's\n$HOME"})
    shown = subprocess.run(["sh", "-c", script.replace("exec ", "printf '%s|' \"$A\" ")],
                           stdout=subprocess.PIPE, text=True).stdout
    assert shown.split("|")[:-1] == ["it's\n$HOME", *argv]
    assert shlex.join(argv) in script


def test_blocks_of_a_drive_start_with_their_number():
    file = io.BytesIO()
    guest_files.fill_drive(file, 7)
    data = file.getvalue()
    assert len(data) == guest_files.DRIVE_SIZE
    for block in (0, 1, 255, 256, 32767):
        assert struct.unpack_from("<QQ", data, block * 512) == (block, 7)


# Libraries

def test_a_program_brings_libc_the_loader_and_the_unwinder():
    found, missing = elf.libraries(pathlib.Path(sys.executable).resolve(), "")
    names = {path.name for path in found}
    assert not missing
    assert "libc.so.6" in names and any(name.startswith("ld-") for name in names)
    if pathlib.Path("/lib/x86_64-linux-gnu/libgcc_s.so.1").exists():
        assert "libgcc_s.so.1" in names


def test_a_static_or_damaged_program_needs_nothing(guest, tmp_path):
    assert elf.libraries(BUSYBOX, "") == ([], [])
    assert elf.interpreter(BUSYBOX) is None
    for length in (4, 40, 64, 200):
        (tmp_path / "damaged").write_bytes(BUSYBOX.read_bytes()[:length])
        assert elf.libraries(tmp_path / "damaged", "") == ([], [])


@pytest.fixture
def program(tmp_path):
    """A folder with lib/libf.so.1, and two programs that need it: one has a RUNPATH to it."""
    write(tmp_path, {"f.c": "int f(void) { return 0; }\n", "p/lib/x": "", "p/bin/x": "",
                     "m.c": "int f(void);\nint main(void) { return f(); }\n"})
    for command in ("gcc -shared -fPIC f.c -o p/lib/libf.so.1 -Wl,-soname,libf.so.1",
                    "gcc m.c p/lib/libf.so.1 -o p/bin/finds -Wl,-rpath,$ORIGIN/../lib",
                    "gcc m.c p/lib/libf.so.1 -o p/bin/lost"):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    return tmp_path / "p"


def test_libraries_come_along_to_where_the_program_looks(guest, program):
    image = image_with((program / "bin/finds", "/opt/x/finds"))
    library = str(program / "lib/libf.so.1")
    assert image[library.lstrip("/")][1] == (program / "lib/libf.so.1").read_bytes()
    assert image["opt/lib/libf.so.1"] == (0o120777, library.encode())


def test_a_library_in_a_taken_folder_comes_once(guest, program):
    image = image_with((program, "/p"))
    data = (program / "lib/libf.so.1").read_bytes()
    assert [name for name, entry in image.items() if entry[1] == data] == ["p/lib/libf.so.1"]


def test_a_library_that_is_not_found_is_named(guest, program, capfd):
    with pytest.raises(common.Usage, match="bin/lost needs libf.so.1, which"):
        image_with((program / "bin/lost", "/lost"))
    image_with((program / "bin", "/bin"))
    assert "bin/lost needs libf.so.1, which" in capfd.readouterr().err
    image_with((program / "bin/lost", "/lost"), library_path=str(program / "lib"))
    assert os.environ.get("LD_LIBRARY_PATH") is None


@pytest.fixture
def cross(tmp_path, monkeypatch):
    """No architecture is this machine's; below this folder are the libraries of all."""
    here, _ = elf.libraries(pathlib.Path(sys.executable).resolve(), "")
    write(tmp_path, {"cross/lib/x": ""})
    for library in here:
        shutil.copy(library, tmp_path / "cross/lib")
    for name, value in (("is_native", False), ("root", tmp_path / "cross")):
        monkeypatch.setattr(arch.Arch, name, value)
    return tmp_path / "cross"


def test_libraries_of_another_architecture(cross, program):
    found, missing = elf.libraries(program / "bin/finds", "")
    assert not missing and program / "lib/libf.so.1" in found
    assert {"libc.so.6", "libgcc_s.so.1"} < {path.name for path in found}
    assert elf.place(cross / "lib/libc.so.6") == "/lib/libc.so.6"
    assert elf.libraries(program / "bin/lost", "")[1] == ["libf.so.1"]
    assert elf.libraries(program / "bin/lost", str(program / "lib"))[1] == []
