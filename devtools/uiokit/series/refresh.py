# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Take the commits of a tree on which the series was edited back into this repository."""

import os
import re
import subprocess
import tempfile

from .. import common, process
from . import apply, patchset, scratch


def refresh(tree):
    """Take the commits of the series on a git tree back into this repository. Returns changes."""
    if not tree.is_git:
        raise common.Usage(f"{tree.path} is not a git repository, and refresh reads commits; start "
                           "with git init, git add and git commit on the tree before the series")
    apply.refuse_dirty(tree)
    writes = {}
    with tempfile.NamedTemporaryFile("w") as attributes:
        attributes.write(patchset.ATTRIBUTES)
        attributes.flush()
        for patch, commit in _commits(tree):
            _read_back(tree, patch, commit, attributes.name, writes)
    writes = {path: data for path, data in writes.items()
              if data != (path.read_bytes() if path.exists() else None)}
    for path in writes:
        _refuse_unsaved(path)
    for path, data in writes.items():
        if data is None:
            path.unlink()
        else:
            common.replace_file(path, data)
    return sorted(str(path.relative_to(common.TOP)) for path in writes)


def _commits(tree):
    """[(patch, commit)] of the series at the end of the tree's history, oldest first."""
    by_subject = {patch.subject: patch for patch in patchset.read()}
    log = [line.split(" ", 1) for line in
           tree.git("log", f"-{2 * len(by_subject)}", "--format=%H %s").splitlines()
           if not line.endswith(scratch.TAKE_BACK.message.splitlines()[0])]
    found = [(by_subject[subject], commit) for commit, subject in log if subject in by_subject]
    if not found:
        raise common.Usage(f"{tree.path}: none of the last commits belongs to the series; "
                           "put the series on with `series apply` first")
    for commit, subject in log[:len(found)]:
        if subject not in by_subject:
            raise common.Usage(
                f"{tree.path}: {commit[:12]} \"{subject}\" is among the commits of the series; "
                "give it the subject of its patch (`series list`), or remove it")
    seen = [patch.name for patch, _ in found]
    if len(set(seen)) != len(seen):
        raise common.Usage(f"{tree.path}: two commits of one patch: squash them "
                           f"(git rebase -i {found[-1][1][:12]}^)")
    return found[::-1]


def _read_back(tree, patch, commit, attributes, writes):
    """Add to `writes` what a commit makes of a patch: {path in this repository: bytes or None}."""
    message = re.sub(r"(?m)^Signed-off-by: .*\n?", "",
                     tree.git("log", "-1", "--format=%B", commit)).rstrip() + "\n"
    writes[patchset.SERIES / f"{patch.name}.msg"] = (message + patch.notes).encode()
    gone = {*patch.diffs(tree).values(), *(common.TOP / name for name in patch.added(tree))}
    names = tree.git("diff-tree", "-r", "--relative", "--no-commit-id", "--name-status",
                     commit).splitlines()
    for status, name in (line.split("\t") for line in names):
        if status == "A":
            path, data = common.TOP / name, _output(tree, "cat-file", "blob", f"{commit}:./{name}")
            holder = re.escape(tree.git("log", "-1", "--format=%an", commit).encode())
            data = re.sub(rb"(Copyright\(c\) \d+ )%b$" % holder, rb"\1" + patchset.HOLDER, data,
                          count=1, flags=re.M)
        elif status == "M":
            text = patchset.carried(_output(tree, "-c", f"core.attributesFile={attributes}",
                                            *patchset.CARRIED_DIFF, f"{commit}^", commit, "--",
                                            name).decode())
            path = patch.diffs(tree).get(name, common.TOP / f"{name}.{patch.name}.diff")
            # Line numbers do not count: they are those of another base.
            if path.exists() and patchset.shape(path.read_text()) == patchset.shape(text):
                text = path.read_text()
            data = text.encode()
        else:
            raise common.Usage(f"{tree.path}: {patch.name} removes or renames {name}: "
                               "a patch here can only add and edit files")
        gone.discard(path)
        writes[path] = data
    writes.update((path, None) for path in gone)


def _output(tree, *args):
    """What git prints, to the byte."""
    return subprocess.run(["git", "-C", tree.path, *args], check=True, capture_output=True,
                          env={**os.environ, **patchset.NO_CONFIG}).stdout


def _refuse_unsaved(path):
    """What git does not have could not be restored."""
    done = process.run(["git", "-C", common.TOP, "status", "--porcelain", "--", path], check=False)
    if done.returncode == 0 and done.stdout.strip() and path.exists():
        raise common.Usage(f"{path.relative_to(common.TOP)} has changes that are not committed, "
                           "and refresh would overwrite them; commit or stash them first")
