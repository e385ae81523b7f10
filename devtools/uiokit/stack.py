# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The stack: topics, what each does to a file of DPDK, and what a tree becomes under them.

A new file stands whole at its DPDK path; series/order names it beside its topic. An edit of a file
that DPDK owns is `<file>.<topic>.diff`, or a variant `<file>.<topic>.<YY.MM>.diff` of which the
newest one not newer than the tree wins. A file with no variant that old is left alone.
"""

import contextlib
import functools
import os
import pathlib
import re
import tempfile

from . import core, programs

SERIES = core.TOP / "series"
# The user's own git settings must not decide how a diff looks, nor whether it fits.
NO_CONFIG = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
             "GIT_CONFIG_NOSYSTEM": "1"}
ATTRIBUTES = "*.c diff=cpp\n*.h diff=cpp\n"
CARRIED_DIFF = ["diff", "-U1", "--no-color", "--no-ext-diff", "--no-indent-heuristic"]


class Topic:
    """One commit of the stack."""

    def __init__(self, name, globs):
        self.name = name
        path = SERIES / f"{name}.msg"
        if not path.is_file():
            raise core.Usage(f"series/order names {name}, but series/{name}.msg is missing")
        self.message = path.read_text()
        self.subject = self.message.splitlines()[0]
        self.new_files = sorted({str(path.relative_to(core.TOP)) for glob in globs
                                 for path in core.TOP.glob(glob) if path.suffix != ".diff"})

    def diffs(self, version):
        """{DPDK path: diff file} for a tree of that version."""
        chosen = {}
        pattern = re.compile(rf"(.+)\.{re.escape(self.name)}(?:\.(\d+)\.(\d+))?\.diff")
        for path in payload_diffs():
            match = pattern.fullmatch(str(path.relative_to(core.TOP)))
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
        return any(pattern.fullmatch(str(path.relative_to(core.TOP))) for path in payload_diffs())


@functools.lru_cache(maxsize=None)
def payload_diffs():
    """All diffs of the payload, whatever their topic."""
    found = [path for folder in ("app", "doc", "drivers", "usertools")
             for path in core.TOP.joinpath(folder).rglob("*.diff")]
    return sorted([*found, *core.TOP.glob("*.diff")])


def topics(names=None):
    """The stack in order, or those of it that are named."""
    stack = []
    for line in (SERIES / "order").read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            stack.append(Topic(words[0], words[1:]))
    if names:
        unknown = set(names) - {topic.name for topic in stack}
        if unknown:
            raise core.Usage(f"no such topic: {', '.join(sorted(unknown))}; see `series list`")
        stack = [topic for topic in stack if topic.name in names]
    return stack


def paths(stack, version):
    """Every DPDK path that the topics may touch in a tree of that version."""
    found = set()
    for topic in stack:
        found.update(topic.new_files, topic.diffs(version))
    return sorted(found)


class Workshop:
    """The files that a stack touches, taken out of a tree into a scratch git repository."""

    def __init__(self, tree, stack, folder):
        self.tree = tree
        self.folder = pathlib.Path(folder)
        self.paths = paths(stack, tree.version)
        self.git("init", "-q", "--template=", "-b", "base", ".")
        # As in DPDK: without it a label counts as the start of a function.
        core.replace_file(self.folder / ".git/info/attributes", ATTRIBUTES)
        for name in self.paths:
            source = tree.path / name
            if source.is_file():
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
        self.git("add", "-A", "-f")

    def git(self, *args, check=True, problem=core.Infrastructure, stdin=None, env=None):
        return programs.run(["git", *args], cwd=self.folder, check=check, problem=problem,
                            stdin=stdin, env={**(env or os.environ), **NO_CONFIG})

    def contents(self):
        """{path: bytes, or None for no such file} as the files stand now."""
        return {name: (self.folder / name).read_bytes() if (self.folder / name).is_file() else None
                for name in self.paths}

    def apply(self, topic):
        """Do what a topic does. A diff must land in the function that it was made for."""
        for name in topic.new_files:
            target = self.folder / name
            if target.exists():
                raise core.NotHeld(
                    f"{topic.name}: {name} already exists in {self.tree}, and differs: the tree "
                    "carries another version of this topic; start from the base without it")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((core.TOP / name).read_bytes())
        for name, diff in topic.diffs(self.tree.version).items():
            if not (self.folder / name).is_file():
                raise core.NotHeld(f"{diff.relative_to(core.TOP)}: {self.tree} has no {name}")
            self.git("add", "-A", "-f")
            done = self.git("apply", "--whitespace=nowarn", diff, check=False)
            if done.returncode != 0:
                raise core.NotHeld(self._misfit(name, diff, done.stderr))
            landed = self.edit(name)
            if shape(landed) != shape(diff.read_text()):
                raise core.NotHeld(
                    f"{diff.relative_to(core.TOP)}: a hunk lands in another function of {name} in "
                    f"{self.tree} than it was made for:\n{_headings(diff.read_text(), landed)}\n"
                    "  make a variant for this base: doc/new-release.md")
        self.git("add", "-A", "-f")

    def undo(self, topic):
        """Undo a topic if it is applied to the letter; otherwise change nothing. Returns which."""
        before = self.contents()
        for name in topic.new_files:
            if before.get(name) != (core.TOP / name).read_bytes():
                return False
        diffs = topic.diffs(self.tree.version)
        for name, diff in diffs.items():
            if self.git("apply", "-R", "--whitespace=nowarn", diff, check=False).returncode != 0:
                for path in diffs:
                    if before[path] is not None:
                        (self.folder / path).write_bytes(before[path])
                return False
        for name in topic.new_files:
            (self.folder / name).unlink()
        return bool(topic.new_files or diffs)

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
                return (f"{diff.relative_to(core.TOP)}: hunk {number} of {len(hunks)} does not fit "
                        f"{name} in {self.tree}:\n{quoted}\n"
                        "  make a variant for this base: doc/new-release.md")
        return f"{diff.relative_to(core.TOP)} does not fit {name} in {self.tree}: {git_says}"


@contextlib.contextmanager
def workshop(tree, stack):
    """A Workshop that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="uio-series-") as folder:
        yield Workshop(tree, stack, folder)


def overlay(tree, stack):
    """{path: bytes} of the files that differ from the tree once the stack is on it."""
    with workshop(tree, stack) as shop:
        before = shop.contents()
        for topic in stack:
            shop.apply(topic)
        return {name: data for name, data in shop.contents().items() if data != before[name]}


def carried(diff):
    """A diff without git's own lines, which add blob ids that differ from base to base."""
    return re.sub(r"(?m)^(?:diff --git|index) .*\n", "", diff)


def shape(diff):
    """What must be the same wherever a diff lands: all but line numbers.

    In C the heading of a hunk, the function that it is in, counts as well.
    """
    heading = "" if re.search(r"(?m)^\+\+\+ .*\.c$", diff) else ".*"
    return re.sub(rf"(?m)^@@ -\S+ \+\S+ @@{heading}", "@@", diff)


def _headings(*diffs):
    wanted, got = (re.findall(r"(?m)^@@ -\S+ \+\S+ @@ ?(.*)$", diff) for diff in diffs)
    return "\n".join(f"    made for: {w or '(top of file)'}\n    landed in: {g or '(top of file)'}"
                     for w, g in zip(wanted, got) if w != g) or "    (the hunks differ)"
