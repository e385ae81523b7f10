# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The DPDK source to work with: a tree at a path, or the distribution's source package."""

import os
import platform
import tempfile
import time

from .. import common, distro, process
from ..series import dpdk_tree

# Programs, by package, that get() runs without a path.
NEED = {"dpkg-source": "dpkg-dev"}


def get(path=None, refresh=False):
    """The Tree to work with: at a path, or else the distribution's source package.

    The package is fetched once, and again with refresh.
    """
    if path:
        return dpdk_tree.Tree(path)
    cache = common.build_dir("source")
    with common.locked(cache / "lock", "getting the DPDK source package"):
        # The time of an unpacked folder is the time when it was fetched.
        known = max(cache.glob("dpdk-*/VERSION"), default=None,
                    key=lambda file: file.parent.stat().st_mtime)
        if known and not refresh:
            tree = dpdk_tree.Tree(known.parent)
            distribution = platform.freedesktop_os_release().get("NAME", "distribution")
            common.say(f"  {tree} ({distribution} source package, fetched "
                       f"{common.age(known.parent)} ago; --refresh to fetch again)")
            return tree
        distro.need(NEED)
        if refresh:
            distro.refresh_lists()
        return dpdk_tree.Tree(_fetch(cache))


def _fetch(cache):
    """Unpack the distribution's source package with the distribution's patches; the folder."""
    with common.step("getting the distribution's DPDK source package"), \
            tempfile.TemporaryDirectory(dir=cache, prefix="download-") as download:
        distro.apt_get("source", "--download-only", "dpdk", cwd=download)
        described = [name for name in os.listdir(download) if name.endswith(".dsc")]
        if len(described) != 1:
            raise common.Infrastructure(
                f"apt-get source dpdk: expected one .dsc file, got {described or 'none'}; "
                "give a DPDK tree with --dpdk PATH")
        folder = cache / f"dpdk-{described[0].removesuffix('.dsc').split('_', 1)[-1]}"
        with common.fresh_dir(folder) as target:
            target.rmdir()
            process.run(["dpkg-source", "--no-copy", "-x", described[0], target], cwd=download)
            os.utime(target, (time.time(), time.time()))
    return folder
