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
from ..lab import protocol, qemu, vm

DESCRIPTION = """\
Boot a small guest with emulated NVMe drives bound to uio_pci_generic, and run a command in it.
Nothing is installed in or read from the machine's own system; no root is needed."""

EPILOG = """\
In the guest: LAB_NVME lists the PCI addresses of the drives, LAB_UIO those of the --uio devices.
Each 512-byte block of a drive starts with its own number, then the drive's, 8 bytes each,
little-endian. The command's stdin is empty; its stdout and stderr come out as they are.

Exit code: the command's own (127 if it is not there); 124 if it was killed at its time limit;
2 for a wrong call; 69 if the guest could not report how the command ended.

  devtools/lab run -- sh -c 'uname -r; echo $LAB_NVME'
  devtools/lab run --nvme 2 --take build/prog --give /tmp/log:. --timeout 20 -- build/prog
  devtools/lab shell --take build/prog"""


def main(argv):
    parser = argparse.ArgumentParser(prog="devtools/lab", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="what", required=True)
    for name, text in (("run", "run a command in a guest"),
                       ("shell", "an interactive shell in a guest")):
        command = commands.add_parser(
            name, help=text, description=DESCRIPTION, epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter)
        _add_options(command)
        if name == "run":
            command.add_argument("command", nargs="+", metavar="COMMAND",
                                 help="the command and its arguments, after --")
    args = vars(parser.parse_args(argv))
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
    add("--kernel", metavar="PATH",
        help="a vmlinuz, or a kernel's .deb (default: the distribution's newest, not installed)")
    add("--modules", metavar="PATH",
        help="folder or .deb with the kernel's modules (default: looked for beside the kernel)")
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto",
        help="auto: KVM where a guest really lives on it, else TCG (default)")
    add("--nvme", metavar="N", type=arguments.number(0, qemu.MAX_NVME), default=1,
        help=f"number of NVMe drives of 16 MiB, up to {qemu.MAX_NVME} (default 1)")
    add("--nvme-sriov", action="store_true",
        help="one more drive, the only kind with extended capabilities: ARI and SR-IOV")
    add("--nvme-unplug", action="store_true",
        help="one more drive, that QEMU's monitor can unplug: device_del unplug")
    add("--monitor", action="store_true",
        help="QEMU's monitor, in the guest: the virtio port of the name vm.monitor")
    add("--iommu", action="store_true", help="an Intel IOMMU; see also --append intel_iommu=on")
    add("--device", action="append", default=[], metavar="ARGS",
        help="a further device, as QEMU's -device takes it; may be repeated")
    add("--uio", action="append", default=[], metavar="VENDOR:DEVICE", type=arguments.pci_id,
        help="bind devices with this id to uio_pci_generic, such as 8086:10d3; may be repeated")
    add("--cpus", metavar="N", type=arguments.number(1, 64), default=2,
        help="processors (default 2)")
    add("--mem", metavar="MIB", type=arguments.number(128, 1 << 20),
        help=f"memory (default {vm.DEFAULT_MEMORY}, or more if pages and files need it)")
    add("--hugepages", metavar="N", type=arguments.number(0, 1 << 19), default=64,
        help="hugepages of 2 MiB (default 64)")
    add("--take", action="append", default=[], metavar="HOST[:GUEST]", type=_taken,
        help="take a file or folder in, with the libraries that programs in it need; "
        "to the same path unless given; may be repeated")
    add("--give", action="append", default=[], metavar="GUEST:HOST", type=_given,
        help="bring a file or folder out when the command has ended; may be repeated")
    add("--env", action=_Variable, default={}, metavar="NAME=VALUE",
        help="set a variable for the command; may be repeated")
    add("--timeout", metavar="SECONDS", type=arguments.number(1, 1 << 20),
        help="kill the command, for good, when it has run this long")
    add("--watch", metavar="FILE", help="write each change of a device's bus master bit to FILE, "
        "with the time, as it comes; - is stderr")
    add("--append", metavar="WORDS", default="", help="words for the kernel's command line")
    add("--verbose", action="store_true", help="the guest's console on stderr")
    add("--qemu", metavar="PATH", default=qemu.PROGRAM, help=f"QEMU (default {qemu.PROGRAM})")


class _Variable(argparse.Action):
    def __call__(self, parser, namespace, value, option=None):
        name, equals, text = value.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            parser.error(f"{option} {value}: not NAME=VALUE")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), name: text})


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
    return os.path.normpath(text)


def _shell(options):
    with _terminal_for_guest() as made_raw:
        write = protocol.to_stream(sys.stdout)
        return vm.boot(options, keyboard=sys.stdin.fileno(),
                       sinks={"tty": lambda data: made_raw() or write(data)}).code


@contextlib.contextmanager
def _terminal_for_guest():
    """A function to call when the guest's shell is there: every key, Ctrl-C too, is then its.

    Before that, Ctrl-C still ends a boot. Without a terminal on stdin the function does nothing.
    """
    if not sys.stdin.isatty():
        yield lambda: None
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield lambda: tty.setraw(sys.stdin, termios.TCSADRAIN)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
