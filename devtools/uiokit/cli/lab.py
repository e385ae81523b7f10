# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The command line of devtools/lab."""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import sys
import termios
import tty

from .. import common
from . import arguments
from ..lab import guest_kernel, protocol, qemu, vm

DESCRIPTION = """\
Boot a small guest with emulated NVMe drives bound to uio_pci_generic, and run a command in it.
It needs Linux, but no root, no KVM and no NVMe drive.

The guest has the kernel of the distribution and a static busybox: both are downloaded once and
unpacked in the build directory, not installed. The guest gets only the files that --take names, and
the libraries that they need. The lab itself needs QEMU 5.2 or later, modinfo and pyelftools: if one
is missing, root or passwordless sudo installs its package (--no-install prevents this); other users
get the command to run."""

EPILOG = """\
In the guest, LAB_NVME lists the PCI addresses of the drives, LAB_UIO those of the --uio devices.
Each 512-byte block of a drive starts with its own number, then the drive's, 8 bytes each,
little-endian. The command's stdin is empty; its stdout and stderr are passed on unchanged.

Exit code: the command's own (127 if there is no such command); 124 if it was killed at its time
limit; 2 usage error; 69 if the guest could not report how the command ended; 130 interrupted.

  devtools/lab run -- sh -c 'uname -r; echo $LAB_NVME'
  devtools/lab run --nvme 2 --take build/prog:/prog --give /tmp/log:. --timeout 20 -- /prog
  devtools/lab run --iommu --append "intel_iommu=on iommu=pt" --bind vfio-pci -- lsmod
  devtools/lab shell --take build/prog:/prog"""


def main(argv):
    parser = argparse.ArgumentParser(prog="devtools/lab", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="what", required=True)
    for name, text in (("run", "run a command in a guest"),
                       ("shell", "run an interactive shell in a guest")):
        command = commands.add_parser(
            name, help=text, description=DESCRIPTION, epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter)
        _add_options(command)
        if name == "run":
            command.add_argument("command", nargs="+", metavar="COMMAND",
                                 help="the command and its arguments, after --")
    args = vars(parser.parse_args(argv))
    args["env"] = dict(args["env"])
    del args["no_install"]
    if args.pop("what") == "shell":
        size = shutil.get_terminal_size()
        setup = f"stty rows {size.lines} cols {size.columns}; exec sh -l"
        return _shell(vm.Options(**args, command=["sh", "-c", setup]))
    result = vm.boot(vm.Options(**args), sinks={
        "lab.out": protocol.to_stream(sys.stdout),
        "lab.err": protocol.to_stream(sys.stderr)})
    if result.timed_out:
        common.say(f"lab: killed at its time limit of {args['timeout']} s")
    return result.code


def _add_options(parser):
    add = parser.add_argument
    arguments.add_refresh(parser)
    arguments.add_no_install(parser)
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto",
        help="auto: KVM if a guest boots on it, else software emulation, TCG (default auto)")
    add("--nvme", metavar="N", type=arguments.number(0, qemu.MAX_NVME), default=1,
        help=f"number of NVMe drives of 16 MiB, up to {qemu.MAX_NVME} (default 1)")
    add("--nvme-sriov", action="store_true",
        help="add a drive with extended capabilities, ARI and SR-IOV (a plain drive before "
        "QEMU 7.1)")
    add("--nvme-unplug", action="store_true",
        help="add a drive that QEMU's monitor can unplug: device_del unplug")
    add("--monitor", action="store_true",
        help="connect QEMU's monitor to the guest's virtio port lab.monitor")
    add("--iommu", action="store_true", help="add an IOMMU: Intel's of 48 address bits, which "
        "--append intel_iommu=on switches on, or arm64's SMMUv3")
    add("--bind", choices=list(guest_kernel.DRIVERS), default="uio_pci_generic",
        help="the driver of the drives and the --uio devices; vfio-pci needs --iommu; nvme is the "
        "kernel's own (default uio_pci_generic)")
    add("--device", action="append", default=[], metavar="ARGS",
        help="add a device, as QEMU's -device takes it; may be repeated")
    add("--uio", action="append", default=[], metavar="VENDOR:DEVICE", type=arguments.pci_id,
        help="bind devices with this id, such as 8086:10d3, too; may be repeated")
    add("--cpus", metavar="N", type=arguments.number(1, 64), default=2,
        help="number of processors (default 2)")
    add("--mem", metavar="MIB", type=arguments.number(128, 1 << 20),
        help=f"memory (default {vm.DEFAULT_MEMORY}, or more if hugepages and files need it)")
    add("--hugepages", metavar="N", type=arguments.number(0, 1 << 19), default=64,
        help="number of hugepages of 2 MiB (default 64)")
    add("--take", action="append", default=[], metavar="HOST[:GUEST]", type=_taken,
        help="copy a file or folder into the guest, with the libraries that programs in it need "
        "(default: to the same absolute path); the command starts in /; may be repeated")
    add("--give", action="append", default=[], metavar="GUEST:HOST", type=_given,
        help="copy a file or folder out when the command has ended; may be repeated")
    add("--env", action="append", default=[], metavar="NAME=VALUE", type=_variable,
        help="set a variable for the command; may be repeated")
    add("--timeout", metavar="SECONDS", type=arguments.number(1, 1 << 20),
        help="kill the command after this time (default: no limit)")
    add("--watch", metavar="FILE", help="write each change of a device's bus master bit to FILE, "
        "with a timestamp, when it happens; - is stderr")
    add("--append", metavar="WORDS", default="", help="add words to the kernel's command line")
    add("--verbose", action="store_true", help="show the guest's console on stderr")
    arguments.add_kernel_and_qemu(parser)


def _variable(text):
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise argparse.ArgumentTypeError(f"{text}: not NAME=VALUE")
    return name, value


def _taken(text):
    host, _, guest = text.partition(":")
    path = pathlib.Path(os.path.abspath(host))
    if not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(
            f"{host}: {'not readable' if path.exists() else 'no such file or folder'}")
    if guest.endswith("/"):
        guest += path.name
    return path, _guest_path(guest or str(path))


def _given(text):
    guest, _, host = text.partition(":")
    if not host:
        raise argparse.ArgumentTypeError(f"{text}: not GUEST:HOST")
    return _guest_path(guest), host


def _guest_path(text):
    if not text.startswith("/") or "\n" in text:
        raise argparse.ArgumentTypeError(f"{text}: not an absolute path in the guest")
    return os.path.normpath(f"/{text.lstrip('/')}")


def _shell(options):
    with _terminal_for_guest() as made_raw:
        write = protocol.to_stream(sys.stdout)
        return vm.boot(options, keyboard=sys.stdin.fileno(),
                       sinks={"tty": lambda data: made_raw() or write(data)}).code


@contextlib.contextmanager
def _terminal_for_guest():
    """A function to call when the guest's shell is up: it then gets every key, Ctrl-C too.

    Before that, Ctrl-C ends the boot. Without a terminal on stdin the function does nothing.
    """
    if not sys.stdin.isatty():
        yield lambda: None
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield lambda: tty.setraw(sys.stdin, termios.TCSADRAIN)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
