# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""A scratch git repository in which patches are put on the files of a DPDK tree that they touch."""

import contextlib
import os
import pathlib
import re
import tempfile

from .. import common, process
from . import patchset
from .patchset import ATTRIBUTES, CARRIED_DIFF, NO_CONFIG, carried, shape


class ScratchRepository:
    """The files that a series touches, taken out of a tree into a scratch git repository."""

    def __init__(self, tree, series, folder):
        self.tree = tree
        self.folder = pathlib.Path(folder)
        self.paths = patchset.paths(series, tree.version)
        self.git("init", "-q", "--template=", "-b", "base", ".")
        # As in DPDK: without it a label counts as the start of a function.
        common.replace_file(self.folder / ".git/info/attributes", ATTRIBUTES)
        for name in self.paths:
            source = tree.path / name
            if source.is_file():
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
        self.git("add", "-A", "-f")

    def git(self, *args, check=True, problem=common.Infrastructure, stdin=None, env=None):
        return process.run(["git", *args], cwd=self.folder, check=check, problem=problem,
                           stdin=stdin, env={**(env or os.environ), **NO_CONFIG})

    def contents(self):
        """{path: bytes, or None for no such file} as the files stand now."""
        return {name: (self.folder / name).read_bytes() if (self.folder / name).is_file() else None
                for name in self.paths}

    def apply(self, patch):
        """Do what a patch does. A diff must land in the function that it was made for."""
        for name in patch.new_files:
            target = self.folder / name
            if target.exists():
                raise common.CheckFailed(
                    f"{patch.name}: {name} already exists in {self.tree}, and differs: the tree "
                    "carries another version of this patch; start from the base without it")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((common.TOP / name).read_bytes())
        for name, diff in patch.diffs(self.tree.version).items():
            if not (self.folder / name).is_file():
                raise common.CheckFailed(
                    f"{diff.relative_to(common.TOP)}: {self.tree} has no {name}")
            self.git("add", "-A", "-f")
            done = self.git("apply", "--whitespace=nowarn", diff, check=False)
            if done.returncode != 0:
                raise common.CheckFailed(self._misfit(name, diff, done.stderr))
            landed = self.edit(name)
            if shape(landed) != shape(diff.read_text()):
                raise common.CheckFailed(
                    f"{diff.relative_to(common.TOP)}: a hunk lands in another function of {name} "
                    f"in {self.tree} than it was made for:\n{_headings(diff.read_text(), landed)}\n"
                    "  make a variant for this base: doc/new-release.md")
        self.git("add", "-A", "-f")

    def undo(self, patch):
        """Undo a patch if it is applied to the letter; otherwise change nothing. Returns which."""
        before = self.contents()
        for name in patch.new_files:
            if before.get(name) != (common.TOP / name).read_bytes():
                return False
        diffs = patch.diffs(self.tree.version)
        for name, diff in diffs.items():
            if self.git("apply", "-R", "--whitespace=nowarn", diff, check=False).returncode != 0:
                for path in diffs:
                    if before[path] is not None:
                        (self.folder / path).write_bytes(before[path])
                return False
        for name in patch.new_files:
            (self.folder / name).unlink()
        return bool(patch.new_files or diffs)

    def edit(self, name):
        """The carried form of what is unstaged in a file: one line of context, no blob ids."""
        return carried(self.git(*CARRIED_DIFF, "--", name).stdout)

    def _misfit(self, name, diff, git_says):
        """Which hunk does not fit, named so that a person can go there."""
        header, *hunks = re.split(r"(?m)^(?=@@ )", diff.read_text())
        for number, hunk in enumerate(hunks, 1):
            if self.git("apply", "--check", "-", check=False,
                        stdin=header + hunk).returncode != 0:
                quoted = "\n".join(f"    {line}" for line in hunk.splitlines()[:8])
                return (f"{diff.relative_to(common.TOP)}: hunk {number} of {len(hunks)} does not "
                        f"fit {name} in {self.tree}:\n{quoted}\n"
                        "  make a variant for this base: doc/new-release.md")
        return f"{diff.relative_to(common.TOP)} does not fit {name} in {self.tree}: {git_says}"


@contextlib.contextmanager
def repository(tree, series):
    """A ScratchRepository that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="uio-series-") as folder:
        yield ScratchRepository(tree, series, folder)


def patched_files(tree, series):
    """{path: bytes} of the files that differ from the tree once the series is on it."""
    with repository(tree, series) as repo:
        before = repo.contents()
        for patch in series:
            repo.apply(patch)
        return {name: data for name, data in repo.contents().items() if data != before[name]}


def _headings(*diffs):
    wanted, got = (re.findall(r"(?m)^@@ -\S+ \+\S+ @@ ?(.*)$", diff) for diff in diffs)
    return "\n".join(f"    made for: {w or '(top of file)'}\n    landed in: {g or '(top of file)'}"
                     for w, g in zip(wanted, got) if w != g) or "    (the hunks differ)"
