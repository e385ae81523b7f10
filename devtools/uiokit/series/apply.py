# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Put the series on a tree: commits on a branch, or edits of an unpacked tree."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile

from .. import common, process
from . import patchset, scratch

BRANCH = "uio-secondary"


def applied(tree):
    """The patches that the tree carries unedited.

    Looked for in the whole series, the last first: those after a patch are on top of it.
    """
    series = patchset.read()
    with scratch.repository(tree, series) as repo:
        return [patch for patch in reversed(series) if repo.undo(patch)][::-1]


def apply(tree, patches, branch=BRANCH):
    """Put patches on a tree, whole or not at all. Returns those that changed it."""
    carried = {patch.name for patch in applied(tree)}
    missing = [patch for patch in patches if patch.name not in carried]
    if missing and tree.is_git:
        refuse_dirty(tree)
        process.run(["git", "check-ref-format", "--branch", branch], problem=common.Usage)
    identity = user_identity(tree.path, needed=missing and tree.is_git)
    with scratch.repository(tree, missing, identity) as repo:
        steps = list(repo.put_on(missing))
    if steps and tree.is_git:
        _apply_commits(tree, steps, branch, identity)
    elif steps:
        _apply_edits(tree, steps)
    return [patch for patch, _ in steps]


def _apply_edits(tree, steps):
    """Write the files of an unpacked tree; if one cannot be written, restore all."""
    final = {name: data for _, changed in steps for name, data in changed.items()}
    with tempfile.TemporaryDirectory(dir=tree.path, prefix=".uio-series-") as folder, \
            contextlib.ExitStack() as undo:
        new, old = ([pathlib.Path(folder, f"{kind}{number}") for number in range(len(final))]
                    for kind in ("new", "old"))
        # All that needs disk space comes first; what follows, and its undoing, only renames.
        for path, data in zip(new, final.values()):
            path.write_bytes(data)
        for name, made, kept in zip(final, new, old):
            target = tree.path / name
            for parent in reversed(target.relative_to(tree.path).parents):
                if not (tree.path / parent).exists():
                    (tree.path / parent).mkdir()
                    undo.callback((tree.path / parent).rmdir)
            if target.exists():
                shutil.copymode(target, made)
                os.rename(target, kept)
                undo.callback(os.replace, kept, target)
            else:
                undo.callback(target.unlink, missing_ok=True)
            os.rename(made, target)
        undo.pop_all()


def _apply_commits(tree, steps, target, identity):
    """Make the commits beside the work tree, then move to them in one step."""
    branch = tree.git("branch", "--show-current")
    if target != branch and tree.git("branch", "--list", target):
        raise common.Usage(f"{tree.path} has a branch {target} already: switch to it, delete it "
                           f"(git branch -D {target}), or name another with --branch")
    prefix = tree.git("rev-parse", "--show-prefix")
    with tempfile.TemporaryDirectory(prefix="uio-series-") as folder:
        env = dict(os.environ, GIT_INDEX_FILE=os.path.join(folder, "index"))
        parent = tree.git("rev-parse", "HEAD")
        tree.git("read-tree", parent, env=env)
        for patch, changed in steps:
            for name, data in changed.items():
                blob = pathlib.Path(folder, "blob")
                blob.write_bytes(data)
                key = tree.git("hash-object", "-w", "--no-filters", blob)
                mode = tree.git("ls-files", "--stage", "--", name, env=env)[:6] or "100644"
                tree.git("update-index", "--add", "--cacheinfo", f"{mode},{key},{prefix}{name}",
                         env=env)
            parent = tree.git("commit-tree", tree.git("write-tree", env=env), "-p", parent,
                              stdin=sign(patch.message, identity))
    if target == branch:
        tree.git("merge", "-q", "--ff-only", parent)
    else:
        tree.git("switch", "-q", "-c", target, parent)


def user_identity(path, needed=True):
    """`Name <mail>` as git knows the user; never made up. None if unknown and not needed."""
    done = process.run(["git", "-C", path, "-c", "user.useConfigOnly=true",
                        "var", "GIT_AUTHOR_IDENT"], check=False)
    match = re.match(r"(.+ <.+>) \d+ ", done.stdout)
    if done.returncode != 0 or not match:
        if not needed:
            return None
        raise common.Usage("git has no user.name and user.email for the sign-off; "
                           "set both with git config --global")
    return match[1]


def sign(message, identity):
    """The message with the user's sign-off, a blank line after Fixes and Cc as DPDK wants it."""
    return f"{message.rstrip()}\n\nSigned-off-by: {identity}\n"


def refuse_dirty(tree):
    changed = tree.git("status", "--porcelain", "--untracked-files=no", "--", ".")
    if changed:
        raise common.Usage(f"{tree.path} has uncommitted changes "
                           f"(first: {changed.splitlines()[0]}); commit or stash them first")
