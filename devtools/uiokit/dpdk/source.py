# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The DPDK source to work with: a tree at a path, or the distribution's source package."""

import shutil

from .. import common, distro, process
from ..series import dpdk_tree


def distribution_source():
    """The distribution's DPDK source package, unpacked as it patches it, as a Tree."""
    cache = common.build_dir("source")
    known = sorted(cache.glob("dpdk-*/VERSION"), key=lambda path: path.stat().st_mtime)
    if known:
        return dpdk_tree.Tree(known[-1].parent)
    distro.need({"dpkg-source": "dpkg-dev"})
    with common.step("getting the distribution's DPDK source package"):
        with common.fresh_dir(cache / "download") as download:
            distro.apt_get("source", "--download-only", "dpdk", cwd=download)
            described, = download.glob("*.dsc")
            version = described.stem.split("_", 1)[1]
            with common.fresh_dir(cache / f"dpdk-{version}") as target:
                target.rmdir()
                process.run(["dpkg-source", "--no-copy", "-x", described, target], cwd=download)
        shutil.rmtree(cache / "download")
    return dpdk_tree.Tree(cache / f"dpdk-{version}")


def get(path=None):
    """The Tree to work with: at a path, or else the distribution's."""
    return dpdk_tree.Tree(path) if path else distribution_source()
