# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The series as this repository stores it: its patches in order, and their files.

A line of series/order is a patch: its set, its topic, `needs=TOPIC,...` if it needs patches before
it, and the files that it adds, which stand whole at their DPDK path. An edit of a file of DPDK is
`<file>.<topic>.diff`, or a variant `<file>.<topic>.<YY.MM>.diff`, of which the newest one not newer
than the tree is used. A file without a variant that old is not edited.
"""

import os
import re

from .. import common
from . import dpdk_tree

SERIES = common.TOP / "series"
SETS = ("fixes", "rfc")
# The user's own git settings must not decide how a diff looks, nor whether it fits.
NO_CONFIG = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
             "GIT_CONFIG_NOSYSTEM": "1"}
ATTRIBUTES = "*.c diff=cpp\n*.h diff=cpp\n"
# The copyright holder of new files as they stand here; a tree gets the user's name instead.
HOLDER = b"the dpdk-uio-secondary authors"
CARRIED_DIFF = ["diff", "--relative", "-U1", "--no-color", "--no-ext-diff", "--no-indent-heuristic"]


class Patch:
    """One commit of the series."""

    def __init__(self, diffs, kind, name, *words):
        self.kind = kind
        self.name = name
        if kind not in SETS:
            raise common.Usage(f"series/order: {kind} {name}: the first word is not one of "
                               f"{', '.join(SETS)}")
        path = SERIES / f"{name}.msg"
        if not path.is_file():
            raise common.Usage(f"series/order names {name}, but series/{name}.msg is missing")
        # What follows a line "---" is for the mail, and not committed.
        self.message, cut, notes = path.read_text().partition("---\n")
        self.notes = cut + notes
        self.subject = self.message.splitlines()[0]
        self.needs = [need for word in words if word.startswith("needs=")
                      for need in word[len("needs="):].split(",")]
        self.new_files = sorted({str(path.relative_to(common.TOP)) for glob in words
                                 if not glob.startswith("needs=")
                                 for path in common.TOP.glob(glob) if path.suffix != ".diff"})
        pattern = re.compile(rf"(.+)\.{re.escape(name)}(?:\.(\d+)\.(\d+))?\.diff")
        found = [(pattern.fullmatch(str(path.relative_to(common.TOP))), path) for path in diffs]
        # (DPDK path, release of the variant, its path here); of a file the oldest variant first
        self.variants = sorted((match[1], (int(match[2] or 0), int(match[3] or 0)), path)
                               for match, path in found if match)

    def files(self, tree):
        """{DPDK path: its diff, or None for a new file} for a tree of that version."""
        chosen = dict.fromkeys(self.new_files)
        for target, release, path in self.variants:
            notes = re.fullmatch(r"doc/guides/rel_notes/release_(\d+)_(\d+)\.rst", target)
            # Release notes are written for the release in the making only.
            if release <= tree.version[:2] and (
                    not notes or tuple(map(int, notes.groups())) == tree.version[:2]):
                chosen[target] = path
        return chosen

    def diffs(self, tree):
        """{DPDK path: diff} of the edits that this tree has a place for."""
        return {name: diff for name, diff in self.files(tree).items()
                if diff and tree.has_place(name)}

    def added(self, tree):
        """The new files that this tree has a place for."""
        return [name for name in self.new_files if tree.has_place(name)]

    def brings_fix(self, tree):
        """Whether this is the patch that takes the secondary off /dev/uioX."""
        return any(re.search(rf"(?m)^\+.*\b{dpdk_tree.FIX}\(", diff.read_text())
                   for diff in self.diffs(tree).values())

    def touches_library(self):
        """Whether it changes the bus driver, rather than tests and documents around it."""
        return any(target.startswith("drivers/") for target, *_ in self.variants)


def payload_diffs():
    """All diffs of this repository, of every patch."""
    found = [path for folder in ("app", "doc", "drivers", "usertools")
             for path in common.TOP.joinpath(folder).rglob("*.diff")]
    return sorted([*found, *common.TOP.glob("*.diff")])


def read(names=None):
    """The series in order; or the patches of these names, with all that they need."""
    series, diffs = {}, payload_diffs()
    for line in (SERIES / "order").read_text().splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) < 2:
            raise common.Usage(f"series/order: {line}: no set and topic")
        patch = Patch(diffs, *words)
        wrong = [need for need in patch.needs if need not in series]
        if wrong:
            raise common.Usage(f"series/order: {patch.name} needs {', '.join(wrong)}: "
                               "no patch of that name comes before it")
        series[patch.name] = patch
    unknown = set(names or ()) - set(series)
    if unknown:
        raise common.Usage(f"no such patch: {', '.join(sorted(unknown))}; see `series list`")
    wanted = set(series if names is None else names)
    for patch in reversed(series.values()):
        if patch.name in wanted:
            wanted.update(patch.needs)
    return [patch for patch in series.values() if patch.name in wanted]


def read_for(tree):
    """The patches of the series that this tree has a place for."""
    return [patch for patch in read() if patch.added(tree) or patch.diffs(tree)]


def without(series, topic):
    """The patches but the one of a topic and those that need it."""
    left_out = {patch.name for patch in series if patch.name == topic}
    if not left_out:
        raise common.Usage(f"no such patch: {topic}; see `series list`")
    for patch in series:
        if left_out.intersection(patch.needs):
            left_out.add(patch.name)
    return [patch for patch in series if patch.name not in left_out]


def paths(series, tree):
    """Every DPDK path that the patches may touch in a tree."""
    return sorted({name for patch in series for name in (*patch.added(tree), *patch.diffs(tree))})


def carried(diff):
    """A diff without git's own lines, which add blob ids that differ from base to base."""
    return re.sub(r"(?m)^(?:diff --git|index) .*\n", "", diff)


def shape(diff):
    """What must be the same wherever a diff lands: all but line numbers.

    In C the heading of a hunk, the function that it is in, counts as well.
    """
    heading = "" if re.search(r"(?m)^\+\+\+ .*\.c$", diff) else ".*"
    return re.sub(rf"(?m)^@@ -\S+ \+\S+ @@{heading}", "@@", diff)
