# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Install a DPDK, patched or stock, for a program that is built against it."""

import hashlib
import os
import pathlib
import re

from .. import common, distro, process
from . import variants
from ..series import patchset, scratch

# Without it some versions of DPDK do not build, and others leave NUMA out and say nothing of it.
NEED = {"/usr/include/numa.h": "libnuma-dev"}

# What every profile has in common. The headers of the driver SDK are there for programs that bring
# a PCI driver of their own; libraries are under lib/, where SPDK looks, on every distribution.
_COMMON = ["--libdir=lib", "-Dplatform=generic", "-Denable_driver_sdk=true", "-Denable_docs=false"]

# What SPDK links, by pkg-config or by full path: with its vhost, and with all power drivers,
# which librte_power needs where it was split into them (24.11).
_SPDK_DRIVERS = "bus/pci,bus/vdev,mempool/ring,power/*"
_SPDK_LIBS = ("cryptodev", "dmadev", "power", "timer", "vhost")

# Left in a prefix, so that a later install knows what it may replace.
MARK = ".dpdk-uio-secondary"


def _spdk_options(tree):
    """The libraries of SPDK's, in the words of a version: some can only disable the others."""
    libs = f"-Denable_libs={','.join(_SPDK_LIBS)}"
    if "option('enable_libs'" not in (tree.path / "meson_options.txt").read_text():
        listed = re.search(r"(?s)optional_libs = \[(.*?)\]",
                           (tree.path / "lib/meson.build").read_text())[1]
        others = set(re.findall(r"'(\w+)'", listed)) - set(_SPDK_LIBS)
        libs = f"-Ddisable_libs={','.join(sorted(others))}"
    return ["--buildtype=debugoptimized", f"-Denable_drivers={_SPDK_DRIVERS}", libs,
            "-Dtests=false", "-Ddisable_apps=*"]


PROFILES = {
    "spdk": ("what SPDK builds against, with vhost", _spdk_options),
    "test": ("dpdk-test, linked statically so that it runs from anywhere", lambda _tree: [
        *variants.MINIMAL, "-Ddefault_library=static",
        # It is for machines that are larger than the lab's guest.
        "-Dmax_lcores=default", "-Dmax_numa_nodes=default"]),
    "full": ("all that DPDK builds by default", lambda _tree: ["--buildtype=release"]),
}


def install(tree, profile, prefix, variant, more=()):
    """Build a variant of a tree and put it in the folder `prefix`, whole or not at all.

    more: further options for meson. Returns whether the series is in what was installed.
    """
    prefix = pathlib.Path(os.path.abspath(prefix))
    _may_replace(prefix)
    distro.need(NEED)
    build = variants.Build(tree)
    patch = variant == variants.PATCHED and build.diagnosis == "affected"
    if variant == variants.STOCK and len(build.patches) < len(patchset.read()):
        raise common.Usage(f"{tree} carries the series already: it cannot be built without it")
    build.options = [*_COMMON, *PROFILES[profile][1](tree), f"--prefix={prefix}", *more]
    key = hashlib.sha256("\0".join(build.options).encode()).hexdigest()[:8]
    build.objects = build.root / f"objects-{profile}-{key}"
    with build.alone():
        build.prepare(tree.fingerprint(), scratch.patched_files(
            tree, build.patches if patch else []))
        build.make(f"{profile}, {variant}", build.root / f"install-{profile}.log")
        with common.step(f"installing to {prefix}"), common.fresh_dir(prefix) as folder:
            root = folder / ".root"
            process.run(["meson", "install", "-C", build.objects, "--no-rebuild"],
                        env=dict(build.env, DESTDIR=str(root)))
            for made in root.joinpath(*prefix.parts[1:]).iterdir():
                made.rename(folder / made.name)
            _remove_empty(root, prefix)
            text = f"{tree.text} {variant} {profile}: {' '.join(build.options)}\n"
            (folder / MARK).write_text(text)
    return patch


def _may_replace(prefix):
    if prefix.exists() and (not prefix.is_dir() or any(prefix.iterdir())) \
            and not (prefix / MARK).is_file():
        raise common.Usage(f"--prefix {prefix}: there is something in it that was not installed "
                           "by this command; name a new folder")


def _remove_empty(root, prefix):
    """What is left of where the prefix was; a file outside of the prefix is none we know how to."""
    folder = root.joinpath(*prefix.parts[1:])
    while folder != root.parent:
        try:
            folder.rmdir()
        except OSError:
            raise common.Infrastructure(
                f"DPDK installs outside of --prefix: {next(root.rglob('*'))}") from None
        folder = folder.parent
