# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Mutation testing of the fix: which case of the autotest notices a missing statement.

For each statement that the series adds to the bus driver, and each that it removes, build the
driver without that change and run the cases about the bus driver. Prints a Markdown table.
"""

import difflib
import re
import time

from uiokit import common
from uiokit.cli import arguments
from uiokit.dpdk import source, variants
from uiokit.lab import autotest, tap
from uiokit.series import patchset, scratch

FILES = ("drivers/bus/pci/linux/pci_uio.c", "drivers/bus/pci/linux/pci_uio_claim.c",
         "drivers/bus/pci/pci_common.c", "drivers/bus/pci/pci_common_uio.c")
# The cases about the bus driver; the others are about the drive.
CASES = ("config_,fd_,port_,claim_,share_,exit_return,exit_reattach,exit_killed_,primary_cleared,"
         "hotplug_,intr_")

# Lines that are no mutant: comments, braces, labels, declarations, column 0, returns.
IDLE = re.compile(r"\S.*|\s+([{}]|/?\*.*|.*\*/|((struct|char|int|unsigned|uint\w+|FILE)\s[^(]*|"
                  r"return.*);)|\s*")


def balance(text, opening, closing):
    return sum(map(text.count, opening)) - sum(map(text.count, closing))


def statement(lines, start):
    """The end of the statement that starts on a line: with its block, or what it controls."""
    end = start
    while balance("".join(lines[start:end + 1]), "(", ")") > 0:
        end += 1
    if lines[end].rstrip().endswith("{"):
        while balance("".join(lines[start:end + 1]), "{", "}") > 0:
            end += 1
        return end + 1
    if re.match(r"\s*(if|for|while|else)\b", lines[start]):
        return statement(lines, end + 1)
    while not lines[end].rstrip().endswith(";"):
        end += 1
    return end + 1


def mutants(stock, patched):
    """(line in the patched file, what is undone, the file then) for each single change."""
    stock, patched = (text.splitlines(keepends=True) for text in (stock, patched))
    for kind, i, j, k, end in difflib.SequenceMatcher(a=stock, b=patched,
                                                      autojunk=False).get_opcodes():
        removed = "".join(stock[i:j])
        if kind in ("delete", "replace") and not re.fullmatch(r"\s*(int [^(]*;)?\s*", removed):
            yield k + 1, f"as before: {removed}", "".join(
                [*patched[:k], *stock[i:j], *patched[end:]])
        if kind in ("insert", "replace"):
            start = k
            while start < end:
                line = patched[start].rstrip()
                over = start + 1
                if not IDLE.fullmatch(line):
                    over = statement(patched, start)
                    yield start + 1, "without: " + "".join(patched[start:over]), "".join(
                        [*patched[:start], *patched[over:]])
                    # The statements in its braces are mutants as well.
                    if "{" in "".join(patched[start:over]):
                        over = start + 1
                start = over


def short(text):
    line = " ".join(re.sub(r"(?s)/\*.*?\*/", "", text).split())
    line = line if len(line) <= 70 else line[:67] + "..."
    return "`" + line.replace("|", "\\|").replace("`", "'") + "`"


class Noticed(Exception):
    """A case has failed: the others need not run."""


def stop_at_failure(line):
    for case in tap.read(line).of(tap.FAILED):
        raise Noticed(case.claim)


def verdict_on(build, overlay, options):
    try:
        build.build("mutant", overlay)
    except common.Infrastructure as problem:
        said = re.search(r"error: .*|undefined .*", str(problem))
        return f"the compiler: {said[0] if said else 'it does not build'}"
    try:
        _, found = autotest.run(options, build.lay_out("mutant"), build.program(), stop_at_failure)
    except Noticed as noticed:
        return noticed
    return f"the run: {found.broken}" if found.broken else "**nothing**"


def before(patches, topic):
    """The patches before that of a topic; none without a topic."""
    names = [patch.name for patch in patches]
    if topic and topic not in names:
        raise common.Usage(f"{topic}: no patch of that name; there are {', '.join(names)}")
    return patches[:names.index(topic)] if topic else []


def changes(base, patched, through=None):
    """The mutants of a file; with `through`, only of what is changed between the base and that."""
    only = {what for _, what, _ in mutants(base, patched if through is None else through)}
    return [mutant for mutant in mutants(base, patched) if mutant[1] in only]


def source_of(tree, overlay, name):
    """A file of a patched tree; empty where the tree has no such file."""
    if name in overlay:
        return overlay[name].decode()
    path = tree.path / name
    return path.read_text() if path.exists() else ""


def main(argv):
    parser = arguments.parser("tests/series/mutate", __doc__)
    arguments.add_dpdk(parser)
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    parser.add_argument("--topic", metavar="TOPIC", help="only what this patch changes")
    parser.add_argument("--cases", metavar="TEXTS", default=CASES, help="run only cases with one "
                        "of these comma-separated texts in their name or claim (default: those "
                        "about the bus driver)")
    parser.add_argument("-k", metavar="TEXT", default="", help="only mutants with TEXT in them")
    called = parser.parse_args(argv)
    before(patchset.read(), called.topic)
    build = variants.Build(source.get(called.dpdk))
    options = autotest.Options(all=True, filter=called.cases, aslr=False, cpus=1)
    if not called.list:
        folder, began = build.variants()[variants.PATCHED], time.monotonic()
        _, found = autotest.run(options, folder, build.program())
        if not found.passed:
            raise common.CheckFailed(f"the driver without a change does not pass: {found.broken}")
        # A change that makes the test hang is noticed, too; a busy machine is none.
        options.timeout = round(5 * (time.monotonic() - began))
    overlay = scratch.patched_files(build.tree, build.patches)
    earlier = before(build.patches, called.topic)
    base = scratch.patched_files(build.tree, earlier)
    through = scratch.patched_files(build.tree, build.patches[:len(earlier) + 1])
    print("| where | change undone | caught by |\n| --- | --- | --- |", flush=True)
    with build.alone():
        for name in FILES:
            for line, what, text in changes(
                    source_of(build.tree, base, name), overlay[name].decode(),
                    source_of(build.tree, through, name) if called.topic else None):
                if called.k not in f"{name}:{line} {what}":
                    continue
                where = f"| {name.split('pci/', 1)[1]}:{line} | {short(what)} |"
                if called.list:
                    print(where)
                    continue
                changed = {**overlay, name: text.encode()}
                print(where, verdict_on(build, changed, options), "|", flush=True)
