# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Command-line options that several commands share, and the types of their values."""

import argparse
import os
import pathlib
import re
import shutil

from .. import arch, distro


def parser(prog, description, epilog=None):
    """A parser of a command line whose help has these texts as they are."""
    return argparse.ArgumentParser(prog=prog, description=description, epilog=epilog,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)


def add_dpdk(parser):
    """Options of a command that builds DPDK."""
    parser.add_argument("--dpdk", metavar="PATH", help="a DPDK source tree or git checkout "
                        "(default: the distribution's source package)")
    add_no_install(parser)


def add_no_install(parser):
    """The option of a command that may install packages; see distro.install()."""
    parser.add_argument("--no-install", action=_NoInstall, nargs=0,
                        help="install no package: if one is missing, say which and end with 69 "
                        "(also: UIO_NO_INSTALL=1 in the environment)")


class _NoInstall(argparse.Action):
    def __call__(self, *_):
        # The tests that a command starts must not install anything either.
        os.environ["UIO_NO_INSTALL"] = "1"


def add_refresh(parser):
    """The option of a command that keeps what it fetched of the distribution."""
    parser.add_argument("--refresh", action="store_true", help="fetch again what was fetched of "
                        "the distribution before (default: use it, and say how old it is)")


def number(least, most):
    """The type of an option that takes a whole number in a range."""
    def parse(text):
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: not a number from {least} to {most}")
        return int(text)
    return parse


def pci_id(text):
    """The type of an option that takes VENDOR:DEVICE."""
    if not re.fullmatch(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", text):
        raise argparse.ArgumentTypeError(f"{text}: not VENDOR:DEVICE, such as 8086:10d3")
    return text


def add_kernel_and_qemu(parser, more=""):
    """The options of a command that boots guests, as lab.guest_kernel and lab.qemu take them.

    more: further values of --kernel that this command takes.
    """
    suites = ", ".join(distro.SUITES)
    parser.add_argument("--kernel", metavar="KERNEL", help="the guest's kernel: a vmlinuz, a "
                        "kernel .deb, or the suite whose newest kernel package is fetched, one of "
                        f"{suites}{more} (default: the newest of this distribution when it was "
                        "first fetched; never installed)")
    parser.add_argument("--modules", metavar="PATH", help="folder or .deb with the modules of "
                        "--kernel (default: the .deb itself, or a folder found beside a vmlinuz)")
    parser.add_argument("--qemu", metavar="QEMU", type=program, help="the QEMU program, or the "
                        f"suite whose package is unpacked and not installed, one of {suites} "
                        "(default: the qemu-system program in PATH)")
    parser.add_argument("--arch", dest="guest", type=_arch, metavar="ARCH", default=arch.native(),
                        help=f"the guest's architecture: {' or '.join(arch.guests())}; one that is "
                        "not the machine's is emulated, and programs for it are cross-built "
                        f"(default {arch.native().name})")


def _arch(text):
    if text not in arch.guests():
        raise argparse.ArgumentTypeError(f"{text}: not one of {', '.join(arch.guests())}")
    return arch.guests()[text]


def program(text):
    """The type of an option that takes a program, by name or path, or the suite that has it."""
    if text not in distro.SUITES and shutil.which(text) is None:
        raise argparse.ArgumentTypeError(f"{text}: no such program, nor one of "
                                         f"{', '.join(distro.SUITES)}")
    return text


def folder(text):
    """The type of an argument that names a folder; its absolute path."""
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return pathlib.Path(os.path.abspath(text))
