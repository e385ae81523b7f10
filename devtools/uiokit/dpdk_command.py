# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/dpdk: get a DPDK source, build its stock and patched variants."""

import argparse

from . import dpdk_build

_EXITS = """exit codes: 0 done, 1 the series does not fit this DPDK, 2 usage,
69 something needed is missing or a build broke"""


def main(argv):
    parser = argparse.ArgumentParser(
        prog="devtools/dpdk", description="Get a DPDK source and build dpdk-test with a stock and "
        "a patched PCI bus driver. The source itself is never changed.", epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (("source", "print the path of the source"),
                       ("build", "build the variants and print their folders")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--dpdk", metavar="PATH", help="a DPDK source tree or git checkout "
                             "(default: the distribution's source package)")
    options = parser.parse_args(argv)
    tree = dpdk_build.source(options.dpdk)
    if options.command == "source":
        print(tree.path)
        return
    build = dpdk_build.Build(tree)
    for variant, folder in build.variants().items():
        print(f"{variant}\t{folder}")
