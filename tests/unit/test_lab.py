# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The lab, as far as it goes without a VM: a script stands in for QEMU and its guest."""

import contextlib
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

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "devtools"))

from uiokit import common  # noqa: E402
from uiokit.cli import lab  # noqa: E402
from uiokit.lab import (accelerator, elf, guest_files, guest_image, guest_kernel,  # noqa: E402
                        kernel_image, protocol, vm)

RELEASE = "6.1.0-lab"

# Speaks on the lab's ports in place of a guest: port("out", b"...") and so on.
# Found here, before a test has a build directory of its own.
BUSYBOX = guest_image.busybox()

STAND_IN = f"""\
#!{sys.executable}
import os, re, sys, time
if "--version" in sys.argv:
    print("QEMU emulator version 9.9.9")
    sys.exit()
fds = dict(re.findall(r"socket,id=([a-z.]+),fd=([0-9]+)", " ".join(sys.argv)))
def port(name, data):
    os.write(int(fds[name]), data)
"""


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    monkeypatch.setenv("UIO_BUILD_DIR", str(tmp_path / "build"))
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    return tmp_path / "build"


@pytest.fixture
def kernel(tmp_path):
    """A file that starts as a vmlinuz does, and modules beside it, all of them built in."""
    head = bytearray(4096)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20e, 0x300)
    head[0x500:0x500 + 32] = f"{RELEASE} (somebody)".encode().ljust(32, b"\0")
    path = tmp_path / "boot" / "vmlinuz"
    path.parent.mkdir()
    path.write_bytes(head)
    (path.parent / "modules").mkdir()
    (path.parent / "modules" / "modules.builtin").write_text(
        "".join(f"kernel/drivers/{name}.ko\n" for name in guest_kernel.NEEDED))
    return path


@pytest.fixture
def guest(tmp_path, kernel, monkeypatch):
    """A function that makes options for a stand-in that does what the given Python says."""
    monkeypatch.setattr(guest_image, "busybox", lambda: BUSYBOX)

    def options(text, **more):
        program = tmp_path / "qemu"
        program.write_text(STAND_IN + text)
        program.chmod(0o755)
        more.setdefault("accel", "tcg")
        return vm.Options(command=["true"], kernel=str(kernel), qemu=str(program), **more)
    return options


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


def image_with(take, library_path=""):
    stream = io.BytesIO()
    guest_image.write(stream, guest_kernel.Kernel(RELEASE, None, {}, {}), {"A": "b c"}, "true\n",
                      take, library_path)
    return unpack(stream.getvalue())


def gone(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# The result of a run

def test_the_exit_code_is_the_commands(guest):
    result = vm.boot(guest("port('lab.ctl', b'ready\\nstart\\nexit 3\\nend\\n')"))
    assert (result.code, result.timed_out) == (3, False)
    assert (result.kernel, result.accel) == (RELEASE, "tcg")


def test_output_is_kept_apart_and_exact(guest):
    lines = []
    result = vm.boot(guest("""
port('lab.ctl', b'ready\\nstart\\n')
port('lab.out', b'one\\r\\ntw')
port('lab.err', b'three\\n')
port('lab.out', b'o\\n')
port('lab.ctl', b'exit 0\\nend\\n')
"""), on_line=lines.append)
    assert (result.stdout, result.stderr) == ("one\r\ntwo\n", "three\n")
    assert lines == ["one\r", "two"]


def test_a_timeout_is_told_apart_from_a_kill(guest):
    text = "port('lab.ctl', b'ready\\nstart\\n%sexit 137\\nend\\n')"
    killed = vm.boot(guest(text % ""))
    late = vm.boot(guest(text % "timeout\\n", timeout=1))
    assert (killed.code, killed.timed_out) == (137, False)
    assert (late.code, late.timed_out) == (124, True)


def test_a_silent_guest_is_no_verdict(guest, monkeypatch):
    monkeypatch.setattr(vm, "STARTS_WITHIN", 0.5)
    monkeypatch.setattr(vm, "TCG_SPEAKS_WITHIN", 0.5)
    with pytest.raises(common.Infrastructure) as raised:
        vm.boot(guest("port('console', b'Booting\\n')\ntime.sleep(60)"))
    text = str(raised.value)
    assert raised.value.code == 69
    assert "did not start the command within" in text and "    Booting" in text
    log = pathlib.Path(text.rsplit("whole boot log: ", 1)[1])
    assert "Booting\n" in log.read_text()


def test_a_guest_that_hangs_past_its_time_limit_is_no_verdict(guest, monkeypatch):
    monkeypatch.setattr(protocol, "GRACE", 0.2)
    with pytest.raises(common.Infrastructure, match="did not end the command at its time limit"):
        vm.boot(guest("port('lab.ctl', b'ready\\nstart\\n')\ntime.sleep(60)", timeout=1))


def test_a_guest_that_falls_silent_at_the_end_is_no_verdict(guest, monkeypatch):
    monkeypatch.setattr(protocol, "GRACE", 0.2)
    with pytest.raises(common.Infrastructure, match="fell silent before it had sent everything"):
        vm.boot(guest("port('lab.ctl', b'ready\\nstart\\nexit 0\\n')\ntime.sleep(60)"))


def test_a_guest_that_dies_is_no_verdict(guest):
    with pytest.raises(common.Infrastructure,
                       match="before it could report.*: Kernel panic - oops"):
        vm.boot(guest("""
port('lab.ctl', b'ready\\nstart\\n')
port('console', b'Kernel panic - oops\\n')
"""))


def test_a_fault_in_the_guest_is_no_verdict(guest):
    with pytest.raises(common.Infrastructure, match="could not run the command: cannot bind x"):
        vm.boot(guest("port('lab.ctl', b'ready\\nfault cannot bind x\\n')\ntime.sleep(60)"))


def test_what_qemu_complains_of_is_shown(guest):
    with pytest.raises(common.Infrastructure, match="(?s)QEMU ended with 1.*no such device: x"):
        vm.boot(guest("sys.exit('no such device: x')", device=["x"]))


def test_a_file_that_is_not_there_to_give_spoils_success_only(guest, tmp_path, capfd):
    text = "port('lab.ctl', b'ready\\nstart\\nexit %d\\nmissing /x\\nend\\n')"
    give = [("/x", str(tmp_path / "x"))]
    assert vm.boot(guest(text % 4, give=give)).code == 4
    assert "not given: /x" in capfd.readouterr().err
    with pytest.raises(common.Infrastructure, match="not given: /x"):
        vm.boot(guest(text % 0, give=give))


def test_given_files_arrive(guest, tmp_path):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in (("tmp/d/a", b"1"), ("tmp/d/b/c", b"2"), ("tmp/dd", b"3"),
                           ("etc/f", b"4")):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o640
            tar.addfile(member, io.BytesIO(data))
    (tmp_path / "tar").write_bytes(archive.getvalue())
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


# KVM

def test_kvm_is_only_believed_when_the_guest_speaks(guest, monkeypatch, capfd):
    monkeypatch.setattr(accelerator.os, "access", lambda *_: True)
    monkeypatch.setattr(vm, "KVM_SPEAKS_WITHIN", 0.5)
    hanging = guest("""
if "kvm" in sys.argv:
    open(__file__ + ".kvm", "a").write("x")
    time.sleep(60)
port('lab.ctl', b'ready\\nstart\\nexit 0\\nend\\n')
""", accel="auto")
    tried = pathlib.Path(hanging.qemu + ".kvm")
    assert vm.boot(hanging).accel == "tcg"
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert vm.boot(hanging).accel == "tcg"
    assert tried.read_text() == "x"
    hanging.accel = "kvm"
    with pytest.raises(common.Infrastructure):
        vm.boot(hanging)
    assert tried.read_text() == "xx"


def test_a_guest_that_never_speaks_is_started_once_more(guest, monkeypatch):
    monkeypatch.setattr(vm, "TCG_SPEAKS_WITHIN", 0.5)
    silent = guest("""
open(__file__ + ".tried", "a").write("x")
if len(open(__file__ + ".tried").read()) == 1:
    time.sleep(60)
port('lab.ctl', b'ready\\nstart\\nexit 0\\nend\\n')
""", accel="tcg")
    assert vm.boot(silent).code == 0
    assert pathlib.Path(silent.qemu + ".tried").read_text() == "xx"


def test_a_guest_that_never_speaks_says_nothing_about_kvm(guest, monkeypatch, build):
    monkeypatch.setattr(accelerator.os, "access", lambda *_: True)
    with pytest.raises(common.Infrastructure):
        vm.boot(guest("sys.exit('bad --device')", accel="auto"))
    assert [path.suffix for path in (build / "lab").iterdir()] == [".log", ".log"]


# What is left behind

@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 130),
                                          (signal.SIGKILL, -signal.SIGKILL)])
def test_an_end_of_the_lab_ends_qemu(guest, build, number, code):
    options = guest("open(__file__ + '.pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(60)")
    pid_file = pathlib.Path(options.qemu + ".pid")
    process = subprocess.Popen(
        [sys.executable, TOP / "devtools/lab", "run", "--accel", "tcg", "--qemu", options.qemu,
         "--kernel", options.kernel, "--", "true"], stderr=subprocess.DEVNULL)
    wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    process.send_signal(number)
    assert process.wait(timeout=20) == code
    wait_for(lambda: gone(int(pid_file.read_text())))
    assert [path.suffix for path in (build / "lab").iterdir()] == [".log"]


def test_only_the_last_boot_logs_are_kept(guest, build):
    options = guest("port('lab.ctl', b'ready\\nstart\\nexit 0\\nend\\n')", nvme=0)
    (build / "lab").mkdir(parents=True)
    for number in range(30):
        (build / "lab" / f"boot-2000{number:02}.log").touch()
    result = vm.boot(options)
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


def test_too_little_memory_is_named_before_the_boot(guest):
    with pytest.raises(common.Usage, match=r"--mem 256: \d+ MiB are needed"):
        vm.boot(guest("", mem=256, hugepages=256))


# Kernels

def test_unreadable_kernels_are_named(tmp_path, kernel):
    junk = tmp_path / "junk"
    junk.write_text("not a kernel")
    with pytest.raises(common.Usage, match="--kernel .*/nope: No such file"):
        guest_kernel.obtain(str(tmp_path / "nope"))
    with pytest.raises(common.Usage, match="--kernel .*/junk: neither"):
        guest_kernel.obtain(str(junk))
    with pytest.raises(common.Usage, match="--kernel .*: not a file"):
        guest_kernel.obtain(str(tmp_path))
    with pytest.raises(common.Usage, match="--modules .*/nope: No such file"):
        guest_kernel.obtain(str(kernel), str(tmp_path / "nope"))


def test_a_kernel_that_is_cut_short_is_named(kernel):
    with open(kernel, "r+b") as file:
        file.seek(0x248)
        file.write(struct.pack("<II", 0x1000, 1 << 20))
    with pytest.raises(common.Usage, match="cut short"):
        guest_kernel.obtain(str(kernel))


def test_a_deb_that_is_none_is_named(tmp_path):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb here to read a .deb with")
    deb = tmp_path / "linux.deb"
    deb.write_text("not a package")
    with pytest.raises(common.Usage, match="linux.deb"):
        guest_kernel.obtain(str(deb))


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


def test_modules_come_in_load_order_and_of_the_same_release(kernel):
    folder = kernel.parent / "modules"
    (folder / "modules.builtin").write_text("a/virtio_pci.ko\na/virtio_console.ko\na/core.ko\n")

    def module(name, depends, release=RELEASE):
        (folder / f"{name}.ko").write_bytes(
            elf.MAGIC + f"\0depends={depends}\0vermagic={release} SMP\0".encode())

    module("uio", "")
    module("uio_pci_generic", "uio,core")
    found = guest_kernel.obtain(str(kernel))
    assert found.closure(guest_kernel.NEEDED) == ["uio", "uio_pci_generic"]
    module("uio", "", "6.1.0-other")
    with pytest.raises(common.Usage, match="is for kernel 6.1.0-other, not for 6.1.0-lab"):
        guest_kernel.obtain(str(kernel))


@pytest.mark.parametrize("program", ["xz", "gzip", "bzip2", "zstd", "lz4 -l"])
def test_packed_kernels_and_modules_are_unpacked(program):
    argv = [*program.split(), "-c"]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]} here to pack with")
    packed = subprocess.run(argv, input=b"module" * 99, stdout=subprocess.PIPE).stdout
    assert kernel_image.decompress(packed) == b"module" * 99
    assert kernel_image.decompress(b"neither") is None


# The guest's image

def test_the_image_holds_init_tools_and_job(guest):
    image = image_with([])
    assert image["init"] == (0o100755, guest_image.INIT.read_bytes())
    assert image["bin/sh"] == (0o120777, b"/bin/busybox")
    assert image["lab/job"][1] == b"A='b c'\n"
    assert image["dev/console"][0] == 0o020600


def test_a_taken_file_comes_before_the_tools(guest, tmp_path):
    (tmp_path / "sh").write_text("mine")
    assert image_with([(tmp_path / "sh", "/bin/sh")])["bin/sh"] == (0o100644, b"mine")


def test_a_taken_folder_keeps_its_links_as_far_as_they_stay_in_it(guest, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a").write_text("a")
    (tmp_path / "outside").write_text("o")
    (folder / "in").symlink_to("sub/a")
    (folder / "out").symlink_to("../outside")
    image = image_with([(folder, "/f")])
    assert image["f/in"] == (0o120777, b"sub/a")
    assert image["f/out"] == (0o100644, b"o")
    assert image["f/sub/a"][1] == b"a"


def test_of_a_link_that_is_taken_the_target_is(tmp_path):
    (tmp_path / "target").write_text("t")
    (tmp_path / "link").symlink_to("target")
    assert image_with([(tmp_path / "link", "/l")])["l"] == (0o100644, b"t")


def test_what_is_taken_to_tmp_is_not_hidden_by_a_mount(tmp_path):
    (tmp_path / "a").write_text("a")
    image = image_with([(tmp_path / "a", "/tmp/b/a")])
    assert image["tmp"][0] == 0o041777 and image["tmp/b/a"][1] == b"a"
    assert b" /tmp " not in image["lab/fstab"][1]


def test_the_command_and_its_environment_are_quoted():
    argv = ["sh", "-c", "echo '$A' \"b\"\n", ""]
    script = guest_image.command_script(argv, {"A": "it's\n$HOME"})
    shown = subprocess.run(["sh", "-c", script.replace("exec ", "printf '%s|' \"$A\" ")],
                           stdout=subprocess.PIPE, text=True).stdout
    assert shown.split("|")[:-1] == ["it's\n$HOME", *argv]
    assert shlex.join(argv) in script


def test_blocks_of_a_drive_tell_which_they_are():
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


def test_a_static_program_needs_nothing(guest):
    assert elf.libraries(BUSYBOX, "") == ([], [])
    assert elf.interpreter(BUSYBOX) is None


@pytest.fixture
def program(tmp_path):
    """A folder with lib/libf.so.1, and two programs that need it: one finds it by itself."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here to build a program with")
    for name in ("lib", "bin"):
        (tmp_path / "p" / name).mkdir(parents=True)
    (tmp_path / "f.c").write_text("int f(void) { return 0; }\n")
    (tmp_path / "m.c").write_text("int f(void);\nint main(void) { return f(); }\n")
    for command in ("gcc -shared -fPIC f.c -o p/lib/libf.so.1 -Wl,-soname,libf.so.1",
                    "gcc m.c p/lib/libf.so.1 -o p/bin/finds -Wl,-rpath,$ORIGIN/../lib",
                    "gcc m.c p/lib/libf.so.1 -o p/bin/lost"):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    return tmp_path / "p"


def test_libraries_come_along_to_where_the_program_looks(guest, program):
    image = image_with([(program / "bin/finds", "/opt/x/finds")])
    library = str(program / "lib/libf.so.1")
    assert image[library.lstrip("/")][1] == (program / "lib/libf.so.1").read_bytes()
    assert image["opt/lib/libf.so.1"] == (0o120777, library.encode())


def test_a_library_in_a_taken_folder_comes_once(guest, program):
    image = image_with([(program, "/p")])
    data = (program / "lib/libf.so.1").read_bytes()
    assert [name for name, entry in image.items() if entry[1] == data] == ["p/lib/libf.so.1"]


def test_a_library_that_is_nowhere_is_named(guest, program, capfd):
    with pytest.raises(common.Usage, match="bin/lost needs libf.so.1, which"):
        image_with([(program / "bin/lost", "/lost")])
    image_with([(program / "bin", "/bin")])
    assert "bin/lost needs libf.so.1, which" in capfd.readouterr().err
    image_with([(program / "bin/lost", "/lost")], library_path=str(program / "lib"))
    assert os.environ.get("LD_LIBRARY_PATH") is None
