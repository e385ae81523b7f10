# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""A scratch git repository in which patches are put on the files of a DPDK tree that they touch."""

import contextlib
import os
import pathlib
import re
import tempfile
import types

from .. import common, process
from . import dpdk_tree, patchset
from .patchset import ATTRIBUTES, CARRIED_DIFF, NO_CONFIG, carried, shape


# Before the patch that brings our fix, on a tree that has SPDK's: a separate commit.
TAKE_BACK = types.SimpleNamespace(
    name=f"SPDK's change of {dpdk_tree.LINUX} is taken back, since the series replaces it",
    message="""bus/pci: take back SPDK's change of UIO open

SPDK's copy of DPDK opens /dev/uioX later in pci_uio_alloc_resource(),
so that a secondary process does not get there. The next patches replace
that change. Restore the order that DPDK has.
""", notes="")


class ScratchRepository:
    """The files that a series touches, taken out of a tree into a scratch git repository."""

    def __init__(self, tree, series, folder, identity=None):
        """identity: `Name <mail>`, the copyright holder of new files"""
        self.tree = tree
        self.holder = identity.partition(" <")[0].encode() if identity else patchset.HOLDER
        self.folder = pathlib.Path(folder)
        self.paths = sorted({dpdk_tree.LINUX, *patchset.paths(series, tree)})
        self.git("init", "-q", "--template=", "-b", "base", ".")
        # As in DPDK: without it a label counts as the start of a function.
        common.replace_file(self.folder / ".git/info/attributes", ATTRIBUTES)
        for name in self.paths:
            source = tree.path / name
            if source.is_file():
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())

    def git(self, *args, env=None, **keywords):
        return process.run(["git", *args], cwd=self.folder,
                           env={**(env or os.environ), **NO_CONFIG}, **keywords)

    def contents(self):
        """{path: bytes, or None for no such file} as the files stand now."""
        return {name: (self.folder / name).read_bytes() if (self.folder / name).is_file() else None
                for name in self.paths}

    def put_on(self, patches):
        """Apply patches in turn. Yields (patch, {path: bytes} that it changed) of each that did."""
        self.git("add", "-A", "-f")
        before = self.contents()
        for patch in [TAKE_BACK, *patches]:
            if patch is TAKE_BACK:
                self._take_back(patches)
            else:
                self.apply(patch)
            after = self.contents()
            changed = {name: data for name, data in after.items() if data != before[name]}
            if changed:
                yield patch, changed
            before = after

    def _take_back(self, patches):
        """Undo SPDK's change, unless the tree would be left without any fix."""
        path = self.folder / dpdk_tree.LINUX
        text = dpdk_tree.without_spdk_change(path.read_text(errors="surrogateescape"))
        if text and any(patch.brings_fix(self.tree) for patch in patches):
            path.write_text(text, errors="surrogateescape")
            self.git("add", "-A", "-f")

    def apply(self, patch):
        """Do what a patch does. A diff must land in the function that it was made for."""
        for name in patch.added(self.tree):
            target = self.folder / name
            if target.exists():
                raise common.CheckFailed(
                    f"{patch.name}: {name} already exists in {self.tree}, and differs: the tree "
                    "carries another version of this patch; start from the base without it")
            target.parent.mkdir(parents=True, exist_ok=True)
            data = (common.TOP / name).read_bytes()
            target.write_bytes(data.replace(patchset.HOLDER, self.holder))
        for name, diff in patch.diffs(self.tree).items():
            done = self.git("apply", "-v", "--whitespace=nowarn", diff, check=False)
            if done.returncode != 0:
                raise common.CheckFailed(
                    f"{diff.relative_to(common.TOP)} does not fit {name} in {self.tree}:\n"
                    f"{done.stderr}  make a variant for this base: doc/new-release.md")
            landed = carried(self.git(*CARRIED_DIFF, "--", name).stdout)
            if shape(landed) != shape(diff.read_text()):
                raise common.CheckFailed(
                    f"{diff.relative_to(common.TOP)}: a hunk lands in another function of {name} "
                    f"in {self.tree} than it was made for:\n{_headings(diff.read_text(), landed)}\n"
                    "  make a variant for this base: doc/new-release.md")
        self.git("add", "-A", "-f")

    def undo(self, patch):
        """Undo a patch if it is applied to the letter; otherwise change nothing. Returns which.

        The copyright holder of a new file may be anybody: it depends on who applied the patch.
        """
        before = self.contents()
        added = patch.added(self.tree)
        for name in added:
            known = (common.TOP / name).read_bytes()
            if before[name] is None or _without_holder(before[name]) != _without_holder(known):
                return False
        # In one go, so that git applies all of them or none.
        diffs = "".join(diff.read_text() for diff in patch.diffs(self.tree).values())
        if diffs and self.git("apply", "-R", "--whitespace=nowarn", stdin=diffs,
                              check=False).returncode != 0:
            return False
        for name in added:
            (self.folder / name).unlink()
        return bool(added or diffs)


@contextlib.contextmanager
def repository(tree, series, identity=None):
    """A ScratchRepository that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="uio-series-") as folder:
        yield ScratchRepository(tree, series, folder, identity)


def patched_files(tree, series):
    """{path: bytes} of the files that differ from the tree once the series is on it."""
    with repository(tree, series) as repo:
        return {name: data for _, changed in repo.put_on(series) for name, data in changed.items()}


def _without_holder(data):
    return re.sub(rb"(?<=Copyright\(c\) )(\d+) .*", rb"\1", data, count=1)


def _headings(*diffs):
    wanted, got = (re.findall(r"(?m)^@@ -\S+ \+\S+ @@ ?(.*)$", diff) for diff in diffs)
    return "\n".join(f"    made for: {w or '(top of file)'}\n    landed in: {g or '(top of file)'}"
                     for w, g in zip(wanted, got) if w != g) or "    (the hunks differ)"
