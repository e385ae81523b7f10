# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What DPDK changed in the code that the series edits or relies on, and whether it still fits."""

import os
import tempfile

from .. import common, process
from . import dpdk_tree, patchset, scratch

# In EAL: interrupts, the channel between processes, hotplug through it, and the layout of memory,
# which decides where BARs are mapped.
_WATCHED = ["drivers/bus/pci", *(f":(glob)lib/eal/*/{name}" for name in (
    "*interrupts*", "*_proc.c", "*_mp.[ch]", "eal_common_memory.c", "eal_common_dynmem.c",
    "eal_common_fbarray.c", "eal_memory.c"))]


def track(tree, since=None):
    """(commits, first misfit) of a git tree since a commit, by default that of series/tracked.

    commits: `id subject` of each that touches code that the series edits or relies on. First
    misfit: None, or (`id subject` of the first commit that the series does not fit, why).
    """
    since = since or (patchset.SERIES / "tracked").read_text().split()[0]
    if not tree.is_git or process.run(["git", "-C", tree.path, "merge-base", "--is-ancestor",
                                       since, "HEAD"], check=False).returncode != 0:
        raise common.Usage(f"--since {since}: not a commit that {tree.path} descends from; "
                           "fetch more of its history, or name another")
    commits = tree.git("log", "--reverse", "--format=%h %s", f"{since}..HEAD", "--", *_WATCHED)
    return commits.splitlines(), _first_misfit(tree, since)


def _first_misfit(tree, since):
    bad, why = "HEAD", _misfit(tree, "HEAD")
    if not why:
        return None
    if _misfit(tree, since):
        raise common.Usage(f"--since {since}: the series does not fit that commit either; "
                           "name one that it fits")
    good = [f"^{since}"]
    while middle := tree.git("rev-list", "--bisect", bad, *good):
        here = _misfit(tree, middle)
        if not here:
            good.append(f"^{middle}")
        elif middle == bad:
            break
        else:
            bad, why = middle, here
    return tree.git("log", "-1", "--format=%h %s", bad), why


def _misfit(tree, commit):
    """Why the series cannot be applied to a commit, or None."""
    with tempfile.TemporaryDirectory(prefix="uio-series-") as folder:
        env = dict(os.environ, GIT_INDEX_FILE=os.path.join(folder, "index"))
        tree.git("read-tree", commit, env=env)

        def take(*names):
            # Names that the commit does not have give an error, which is of no interest.
            tree.git("checkout-index", f"--prefix={folder}/", "--", *names, env=env, check=False)

        take("VERSION", "meson.build", dpdk_tree.COMMON, dpdk_tree.LINUX)
        try:
            part, series = dpdk_tree.Tree(folder), patchset.read()
            take(*patchset.paths(series, part))
            scratch.patched_files(part, series)
        except (common.CheckFailed, common.Usage) as problem:
            return str(problem)
    return None
