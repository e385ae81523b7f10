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

# Without it some versions of DPDK do not build, and others leave NUMA out silently.
NEED = {"/usr/include/numa.h": "libnuma-dev"}

# What every profile has in common. The headers of the driver SDK serve programs with a PCI driver
# of their own; libraries are under lib/, where SPDK looks, on every distribution.
_COMMON = ["--libdir=lib", "-Dplatform=generic", "-Denable_driver_sdk=true", "-Denable_docs=false"]

# What SPDK links, by pkg-config or by full path, vhost included. Since 24.11 librte_power needs the
# power drivers.
_SPDK_DRIVERS = "bus/pci,bus/vdev,mempool/ring,power/*"
_SPDK_LIBS = ("cryptodev", "dmadev", "power", "timer", "vhost")

# Left in a prefix: a later install may replace it.
MARK = ".dpdk-uio-secondary"


def _spdk_options(tree):
    """Enable SPDK's libraries; a DPDK without enable_libs (22.11) can only disable the others."""
    libs = f"-Denable_libs={','.join(_SPDK_LIBS)}"
    if "option('enable_libs'" not in tree.read("meson_options.txt"):
        listed = re.search(r"(?s)optional_libs = \[(.*?)\]", tree.read("lib/meson.build"))
        if not listed:
            raise common.Usage(f"{tree.path}: neither an option enable_libs in meson_options.txt "
                               "nor a list optional_libs in lib/meson.build; use --profile full")
        others = set(re.findall(r"'(\w+)'", listed[1])) - set(_SPDK_LIBS)
        libs = f"-Ddisable_libs={','.join(sorted(others))}"
    return ["--buildtype=debugoptimized", f"-Denable_drivers={_SPDK_DRIVERS}", libs,
            "-Dtests=false", "-Ddisable_apps=*"]


PROFILES = {
    "spdk": ("what SPDK builds against, with vhost", _spdk_options),
    "test": ("dpdk-test, linked statically so that it runs from anywhere", lambda _tree: [
        *variants.MINIMAL, "-Ddefault_library=static",
        # It may run on a machine with more CPUs than the lab's guest.
        "-Dmax_lcores=default", "-Dmax_numa_nodes=default"]),
    "full": ("all that DPDK builds by default", lambda _tree: ["--buildtype=release"]),
}


def install(tree, profile, prefix, variant, more=()):
    """Build a variant of a tree and put it in the folder `prefix`, whole or not at all.

    more: further options for meson. Returns whether the series is in what was installed.
    """
    prefix = checked_prefix(prefix)
    options = [*_COMMON, *PROFILES[profile][1](tree), f"--prefix={prefix}", *more]
    distro.need(NEED)
    # Not the tree of the other commands, which may run at the same time and want both variants.
    build = variants.Build(tree, kind="-install")
    patch = variant == variants.PATCHED and build.diagnosis == "affected"
    if variant == variants.STOCK and len(build.patches) < len(patchset.read_for(tree)):
        raise common.Usage(f"{tree} carries the series already: it cannot be built without it")
    build.options = options
    key = hashlib.sha256("\0".join(build.options).encode()).hexdigest()[:8]
    build.objects = build.root / f"objects-{profile}-{key}"
    with build.alone():
        build.prepare(scratch.patched_files(tree, build.patches if patch else []))
        build.make(f"{profile}, {variant}", build.root / f"install-{profile}.log", whole=True)
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


def checked_prefix(text):
    """The absolute path of a prefix, symbolic links followed, if an install there can succeed."""
    try:
        prefix = pathlib.Path(text).resolve()
        parent = next(folder for folder in [*prefix.parents, prefix] if os.path.lexists(folder))
        if not text or os.path.ismount(prefix):
            problem = "is empty or a mount point, which cannot be replaced as a whole"
        elif not parent.is_dir():
            problem = f"{parent} is not a directory"
        elif not os.access(parent, os.W_OK | os.X_OK):
            problem = f"{parent} is not writable"
        elif prefix.exists() and not (prefix / MARK).is_file() and (
                not prefix.is_dir() or any(prefix.iterdir())):
            problem = "it holds files that were not installed by this command"
        else:
            return prefix
    except (OSError, RuntimeError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
    raise common.Usage(f"--prefix {text}: {problem}; name a new directory")


def _remove_empty(root, prefix):
    """Remove the folders above the prefix; a file outside of the prefix has no place to go to."""
    folder = root.joinpath(*prefix.parts[1:])
    while folder != root.parent:
        try:
            folder.rmdir()
        except OSError:
            raise common.Infrastructure(
                f"DPDK installs outside of --prefix: {next(root.rglob('*'))}") from None
        folder = folder.parent
