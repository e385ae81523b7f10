# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Take a tree on which the stack was edited back into the payload."""

import os
import re
import subprocess
import tempfile

from . import core, programs, series, stack

_SIGN_OFF = re.compile(r"(?m)^Signed-off-by: .*\n?")


def refresh(tree):
    """Take the commits of the stack on a git tree back into the payload. Returns what changed."""
    if not tree.is_git:
        raise core.Usage(f"{tree.path}: refresh reads the commits that apply makes; make this an "
                         "unpacked tree's git repository first: git init, git add, git commit")
    series.refuse_dirty(tree)
    writes = {}
    with tempfile.NamedTemporaryFile("w") as attributes:
        attributes.write(stack.ATTRIBUTES)
        attributes.flush()
        for topic, commit in _commits(tree):
            _read_back(tree, topic, commit, attributes.name, writes)
    writes = {path: data for path, data in writes.items()
              if data != (path.read_bytes() if path.exists() else None)}
    for path in writes:
        _refuse_unsaved(path)
    for path, data in writes.items():
        if data is None:
            path.unlink()
        else:
            core.replace_file(path, data)
    return sorted(str(path.relative_to(core.TOP)) for path in writes)


def _commits(tree):
    """[(topic, commit)] of the stack at the end of the tree's history, oldest first."""
    by_subject = {topic.subject: topic for topic in stack.topics()}
    log = [line.split(" ", 1) for line in
           tree.git("log", f"-{2 * len(by_subject)}", "--format=%H %s").splitlines()]
    found = [(by_subject[subject], commit) for commit, subject in log if subject in by_subject]
    if not found:
        raise core.Usage(f"{tree.path}: none of the last commits is the stack's; "
                         "put the stack on with `series apply` first")
    for commit, subject in log[:len(found)]:
        if subject not in by_subject:
            raise core.Usage(f"{tree.path}: {commit[:12]} \"{subject}\" stands among the stack's "
                             "commits; give it its topic's subject (`series list`), or take it out")
    seen = [topic.name for topic, _ in found]
    if len(set(seen)) != len(seen):
        raise core.Usage(f"{tree.path}: two commits of one topic: squash them "
                         f"(git rebase -i {found[-1][1][:12]}^)")
    return found[::-1]


def _read_back(tree, topic, commit, attributes, writes):
    """Add to `writes` what a commit says that a topic is: {payload path: bytes or None}."""
    message = _SIGN_OFF.sub("", tree.git("log", "-1", "--format=%B", commit)).rstrip() + "\n"
    writes[stack.SERIES / f"{topic.name}.msg"] = message.encode()
    gone = {*topic.diffs(tree.version).values(), *(core.TOP / name for name in topic.new_files)}
    names = tree.git("diff-tree", "-r", "--no-commit-id", "--name-status", commit).splitlines()
    for status, name in (line.split("\t") for line in names):
        if status == "A":
            path, data = core.TOP / name, _output(tree, "cat-file", "blob", f"{commit}:{name}")
        elif status == "M":
            text = stack.carried(_output(tree, "-c", f"core.attributesFile={attributes}",
                                         *stack.CARRIED_DIFF, f"{commit}^", commit, "--",
                                         name).decode())
            path = topic.diffs(tree.version).get(name, core.TOP / f"{name}.{topic.name}.diff")
            if path.exists() and not _shape_differs(path, text):
                text = path.read_text()
            data = text.encode()
        else:
            raise core.Usage(f"{tree.path}: {topic.name} removes or renames {name}: "
                             "the payload has no form for that")
        gone.discard(path)
        writes[path] = data
    writes.update((path, None) for path in gone)


def _output(tree, *args):
    """What git prints, to the byte."""
    return subprocess.run(["git", "-C", tree.path, *args], check=True, capture_output=True,
                          env={**os.environ, **stack.NO_CONFIG}).stdout


def _refuse_unsaved(path):
    """An edit of the payload that git does not have would be lost for good."""
    done = programs.run(["git", "-C", core.TOP, "status", "--porcelain", "--", path], check=False)
    if done.returncode == 0 and done.stdout.strip() and path.exists():
        raise core.Usage(f"{path.relative_to(core.TOP)} has changes that are not committed, and "
                         "refresh would overwrite them; commit or stash them first")


def _shape_differs(known, text):
    """Line numbers alone are no change: they are another base's."""
    return stack.shape(known.read_text()) != stack.shape(text)
