# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Command-line options that several commands share, and the types of their values."""

import argparse
import re
import shutil


def add_dpdk(parser):
    parser.add_argument("--dpdk", metavar="PATH", help="a DPDK source tree or git checkout "
                        "(default: the distribution's source package)")


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


def program(text):
    """The type of an option that takes a program, by name or path."""
    if shutil.which(text) is None:
        raise argparse.ArgumentTypeError(f"{text}: no such program")
    return text
