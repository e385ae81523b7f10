# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The series as it lies in this repository: its patches in order, and their files.

A new file stands whole at its DPDK path; series/order names it beside its topic. An edit of a file
that DPDK owns is `<file>.<topic>.diff`, or a variant `<file>.<topic>.<YY.MM>.diff` of which the
newest one not newer than the tree wins. A file with no variant that old is left alone.
"""

import functools
import os
import re

from .. import common

SERIES = common.TOP / "series"
# The user's own git settings must not decide how a diff looks, nor whether it fits.
NO_CONFIG = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
             "GIT_CONFIG_NOSYSTEM": "1"}
ATTRIBUTES = "*.c diff=cpp\n*.h diff=cpp\n"
CARRIED_DIFF = ["diff", "-U1", "--no-color", "--no-ext-diff", "--no-indent-heuristic"]


class Patch:
    """One commit of the series."""

    def __init__(self, name, globs):
        self.name = name
        path = SERIES / f"{name}.msg"
        if not path.is_file():
            raise common.Usage(f"series/order names {name}, but series/{name}.msg is missing")
        # What follows a line "---" is for the mail, and not committed.
        self.message, cut, notes = path.read_text().partition("---\n")
        self.notes = cut + notes
        self.subject = self.message.splitlines()[0]
        self.new_files = sorted({str(path.relative_to(common.TOP)) for glob in globs
                                 for path in common.TOP.glob(glob) if path.suffix != ".diff"})

    def diffs(self, version):
        """{DPDK path: diff file} for a tree of that version."""
        chosen = {}
        pattern = re.compile(rf"(.+)\.{re.escape(self.name)}(?:\.(\d+)\.(\d+))?\.diff")
        for path in payload_diffs():
            match = pattern.fullmatch(str(path.relative_to(common.TOP)))
            if not match:
                continue
            target, year, month = match.groups()
            base = (int(year), int(month)) if year else (0, 0)
            notes = re.fullmatch(r"doc/guides/rel_notes/release_(\d+)_(\d+)\.rst", target)
            if notes and tuple(map(int, notes.groups())) != version[:2]:
                continue  # Release notes are written for the release in the making only.
            if base <= version[:2] and base >= chosen.get(target, ((-1, -1), None))[0]:
                chosen[target] = (base, path)
        return {target: path for target, (_, path) in sorted(chosen.items())}

    def touches_library(self):
        """Whether it changes the bus driver, rather than tests and documents around it."""
        pattern = re.compile(rf"drivers/.*\.{re.escape(self.name)}\.(?:\d+\.\d+\.)?diff")
        return any(pattern.fullmatch(str(path.relative_to(common.TOP))) for path in payload_diffs())


@functools.lru_cache(maxsize=None)
def payload_diffs():
    """All diffs of the payload, whatever their patch."""
    found = [path for folder in ("app", "doc", "drivers", "usertools")
             for path in common.TOP.joinpath(folder).rglob("*.diff")]
    return sorted([*found, *common.TOP.glob("*.diff")])


def read(names=None):
    """The series in order, or those of it that are named."""
    series = []
    for line in (SERIES / "order").read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            series.append(Patch(words[0], words[1:]))
    if names:
        unknown = set(names) - {patch.name for patch in series}
        if unknown:
            raise common.Usage(f"no such patch: {', '.join(sorted(unknown))}; see `series list`")
        series = [patch for patch in series if patch.name in names]
    return series


def paths(series, version):
    """Every DPDK path that the patches may touch in a tree of that version."""
    found = set()
    for patch in series:
        found.update(patch.new_files, patch.diffs(version))
    return sorted(found)


def carried(diff):
    """A diff without git's own lines, which add blob ids that differ from base to base."""
    return re.sub(r"(?m)^(?:diff --git|index) .*\n", "", diff)


def shape(diff):
    """What must be the same wherever a diff lands: all but line numbers.

    In C the heading of a hunk, the function that it is in, counts as well.
    """
    heading = "" if re.search(r"(?m)^\+\+\+ .*\.c$", diff) else ".*"
    return re.sub(rf"(?m)^@@ -\S+ \+\S+ @@{heading}", "@@", diff)
