# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/dpdk: get a DPDK source, build its stock and patched variants, install one."""

import os

from .. import common
from . import arguments
from ..dpdk import install, source, variants

_EXITS = """exit codes: 0 success, 1 the series does not fit this DPDK, 2 usage error,
69 something needed is missing, or a build failed, 130 interrupted"""


def main(argv):
    parser = arguments.parser(
        "devtools/dpdk", "Get a DPDK source. Build its stock and its patched PCI bus driver with "
        "the part of\ndpdk-test that the autotest runs, or install DPDK with one of them. The "
        "source itself\nis never changed.", _EXITS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (("source", "print the path of the source"),
                       ("build", "build the variants and print their folders"),
                       ("install", "install one variant for a program to be built against")):
        command = commands.add_parser(name, help=text, description=text)
        arguments.add_dpdk(command)
        arguments.add_refresh(command)
        if name == "install":
            _add_install_options(command)
    options = parser.parse_args(argv)
    if options.command == "install":
        install.checked_prefix(options.prefix)
    tree = source.get(options.dpdk, options.refresh)
    if options.command == "source":
        print(tree.path)
        return
    if options.command == "install":
        _install(tree, options)
        return
    build = variants.Build(tree)
    for variant, folder in build.variants().items():
        print(f"{variant}\t{folder}")


def _add_install_options(command):
    profiles = "; ".join(f"{name}: {text}" for name, (text, _) in install.PROFILES.items())
    command.add_argument("--profile", required=True, choices=install.PROFILES, help=profiles)
    command.add_argument("--prefix", required=True, metavar="DIR",
                         help="install to DIR: a new directory, or one that an earlier install "
                         "filled")
    command.add_argument("--stock", action="store_true", help="install DPDK without the series")
    command.add_argument("--meson", action="append", default=[], metavar="OPTION",
                         help="pass OPTION to meson setup, such as --meson=-Dplatform=native; may "
                         "be repeated")


def _install(tree, options):
    variant = variants.STOCK if options.stock else variants.PATCHED
    patched = install.install(tree, options.profile, options.prefix, variant, options.meson)
    common.say(f"installed {tree} {'with' if patched else 'without'} the series. To use it:\n"
               f"  export PKG_CONFIG_PATH={os.path.abspath(options.prefix)}/lib/pkgconfig\n"
               f"  SPDK: ./configure --with-dpdk={os.path.abspath(options.prefix)}; it links "
               "statically unless --with-shared is given, so link it again after each install")
