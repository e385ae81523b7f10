# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""QEMU: its version, its command line, one builder per concern, and its process."""

import contextlib
import ctypes
import functools
import os
import re
import signal
import socket
import subprocess

from .. import arch, common, distro, process

PROGRAM = arch.native().qemu
OLDEST = (5, 2)
OLDEST_SRIOV = (7, 1)

# The guest's ports to the host. The console is serial, and needs no module; tty is a terminal.
PORTS = ("console", "tty", "lab.ctl", "lab.out", "lab.err", "lab.give")

# Drives start here, a slot each while there are enough. Lower slots are for --device, higher ones
# for the lab itself.
NVME_FIRST_SLOT = 0x4
NVME_SLOTS = 23
UNPLUG_SLOT = 0x1b
SRIOV_SLOT = 0x1c
VIRTIO_SLOT = 0x1d
MAX_NVME = 64

# End on panic instead of a reset. The rest switches off what takes long when emulated:
# clearing new pages (a third of the boot), mitigations, self-tests, calibration.
KERNEL_ARGS = ("quiet panic=-1 init_on_alloc=0 mitigations=off rodata=off random.trust_cpu=on "
               "cryptomgr.notests")

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def machine_args(program, guest, accel, cpus, mem):
    """guest: its arch.Arch. accel "icount": the guest's clock counts instructions, 1 ns each."""
    how = {"kvm": ["kvm"], "tcg": ["tcg,thread=multi"],
           "icount": ["tcg,thread=single", "-icount", "shift=0"]}[accel]
    return [program, *guest.board, "-accel", *how,
            "-cpu", "host" if accel == "kvm" else guest.emulated_cpu,
            "-smp", str(cpus), "-m", str(mem), "-nodefaults", "-no-user-config",
            "-display", "none", "-net", "none", "-no-reboot",
            # Keeps the firmware from enabling drives that it does not boot from.
            "-boot", "strict=on"]


def kernel_args(guest, image, initrd, hugepages, append):
    words = [f"console={guest.console}", KERNEL_ARGS, guest.kernel_args, f"hugepages={hugepages}",
             append]
    return ["-kernel", str(image), "-initrd", _inherited(initrd),
            "-append", " ".join(filter(None, words))]


def port_args(ends):
    """ends: the socket of each port, by port name."""
    args = ["-device", f"virtio-serial-pci,id=lab,addr={VIRTIO_SLOT:#x}"]
    for name, end in ends.items():
        args += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
        if name == "console":
            args += ["-serial", f"chardev:{name}"]
        elif name == "tty":
            args += ["-device", f"virtconsole,bus=lab.0,chardev={name}"]
        elif name == "monitor":
            args += ["-mon", "chardev=monitor,mode=readline"]
        else:
            args += ["-device", f"virtserialport,bus=lab.0,chardev={name},name={name}"]
    return args


def drives_args(options, images):
    """images: one open file for each drive of vm.Options, in the order of its fields."""
    others = iter(images[options.nvme:])
    return (nvme_args(images[:options.nvme])
            + (sriov_args(next(others)) if options.nvme_sriov else [])
            + (unplug_args(next(others)) if options.nvme_unplug else []))


def nvme_args(images):
    """images: one open file per drive. Their PCI addresses ascend in this order."""
    args = []
    per_slot = -(-len(images) // NVME_SLOTS)
    for index, image in enumerate(images):
        slot = NVME_FIRST_SLOT + index // per_slot
        address = f"addr={slot:#x}.{index % per_slot},multifunction=on"
        args += _drive_args(f"drive{index}", image)
        args += ["-device", f"nvme,drive=drive{index},serial=lab{index},{address}"]
    return args


def sriov_args(image):
    """A drive with the extended capabilities ARI and SR-IOV: a plain drive has none."""
    return ["-device", "nvme-subsys,id=sriov-subsys,nqn=lab-sriov",
            "-device", f"nvme,id=sriov,serial=labsriov,subsys=sriov-subsys,addr={SRIOV_SLOT:#x},"
            "sriov_max_vfs=1,sriov_vq_flexible=2,sriov_vi_flexible=1,max_ioqpairs=8,msix_qsize=8",
            *_drive_args("sriov-drive", image),
            "-device", "nvme-ns,drive=sriov-drive,bus=sriov"]


def unplug_args(image):
    """A drive behind a root port, which the monitor can unplug by its id: a plain one it cannot."""
    return ["-device", f"pcie-root-port,id=unplug-port,chassis=1,addr={UNPLUG_SLOT:#x}",
            *_drive_args("unplug-drive", image),
            "-device", "nvme,id=unplug,drive=unplug-drive,serial=labunplug,bus=unplug-port"]


def _drive_args(name, image):
    return ["-drive", f"if=none,id={name},format=raw,cache=unsafe,file.locking=off,"
            f"file={_inherited(image)}"]


def _inherited(file):
    """A path by which QEMU opens a file that it inherits and that has no name."""
    return f"/proc/self/fd/{file.fileno()}"


@functools.cache
def obtain(spec, guest):
    """The program for --qemu: itself, or a script that runs the QEMU of one of distro.SUITES.

    That QEMU is unpacked, not installed, with all libraries that are not part of libc.
    """
    if spec not in distro.SUITES:
        return spec
    packages = distro.depending(
        [guest.qemu_package], r"(?!libc6$|libgcc)(?:lib|qemu-system-|seabios|ipxe-)\S*", spec)
    folder = distro.unpacked(f"qemu-{spec}{guest.suffix}", packages, spec)
    programs, share = folder / "usr/bin", folder / "usr/share"
    libraries, = (folder / "usr/lib").glob("*-linux-gnu")
    script = folder / guest.qemu
    common.replace_file(script, f"""#!/bin/sh
LD_LIBRARY_PATH={libraries}:{folder}/lib/{libraries.name} QEMU_MODULE_DIR={libraries}/qemu \\
exec {programs / guest.qemu} -L {share}/qemu -L {share}/seabios "$@"
""", 0o755)
    return str(script)


@functools.cache
def version(program):
    """QEMU's version, as one word."""
    shown = process.run([program, "--version"]).stdout
    found = re.search(r"version (\S+)", shown)
    return found[1] if found else "unknown"


def is_at_least(program, oldest):
    """Whether QEMU's version is (major, minor) or later; assumed of a version that is no number."""
    found = re.match(r"(\d+)\.(\d+)", version(program))
    return not found or tuple(map(int, found.groups())) >= oldest


def trace_args(pipe):
    """Trace every write to config space, with the time, to the write end of a pipe."""
    return ["-msg", "timestamp=on", "-trace", "pci_cfg_write", "-D", _inherited(pipe)]


def running(argv, files, errors):
    """Run QEMU as long as the block lasts. The kernel kills QEMU if this process or thread ends.

    files: the open files that it inherits; errors: an open file for its own messages.
    """
    parent = os.getpid()

    def die_with_parent():
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return process.running(argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                           pass_fds=[file.fileno() for file in files], preexec_fn=die_with_parent)


@contextlib.contextmanager
def ports(monitor=False):
    """Pairs of connected sockets for all ports: (ends of this process, ends of QEMU), by port name.

    monitor: connect QEMU's own monitor to the guest's port lab.monitor; both ends are QEMU's.
    """
    with contextlib.ExitStack() as stack:
        def pair():
            return [stack.enter_context(end) for end in socket.socketpair()]

        host_ends, qemu_ends = {}, {}
        for name in PORTS:
            host_ends[name], qemu_ends[name] = pair()
        if monitor:
            qemu_ends["monitor"], qemu_ends["lab.monitor"] = pair()
        yield host_ends, qemu_ends
