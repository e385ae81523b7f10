# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Take the fix apart, a statement at a time, and see which case of the test misses it.

For each statement that the series adds to the bus driver, and each that it removes: build the
driver without that one change, and run the cases that are about it. Prints a Markdown table.
"""

import argparse
import difflib
import re

from uiokit import common
from uiokit.cli import arguments, autotest
from uiokit.dpdk import source, variants
from uiokit.series import scratch

FILES = ("drivers/bus/pci/linux/pci_uio.c", "drivers/bus/pci/linux/pci_uio_claim.c",
         "drivers/bus/pci/pci_common.c", "drivers/bus/pci/pci_common_uio.c")
# All that looks at what the bus driver does to a device; the rest looks at the drive.
CASES = ("config_,fd_,port_,claim_,exit_return,exit_detach,exit_reattach,exit_bar_taken,"
         "exit_killed_,primary_cleared,hotplug_,intr_")

# Nothing to take out: comments, braces, labels, declarations, what starts at column 0, returns.
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
                    # What is in braces is taken out by itself, too.
                    if "{" in "".join(patched[start:over]):
                        over = start + 1
                start = over


def short(text):
    line = " ".join(re.sub(r"(?s)/\*.*?\*/", "", text).split())
    line = line if len(line) <= 70 else line[:67] + "..."
    return "`" + line.replace("|", "\\|").replace("`", "'") + "`"


def verdict_on(build, fingerprint, overlay, options):
    try:
        build.build("mutant", fingerprint, overlay)
    except common.Infrastructure as problem:
        said = re.search(r"error: .*|undefined .*", str(problem))
        return f"the compiler: {said[0] if said else 'it does not build'}"
    _, found = autotest.test(options, build, build.lay_out("mutant"))
    if found.broken:
        return f"the run: {found.broken}"
    more = f", and {len(found.failed) - 1} more" if len(found.failed) > 1 else ""
    return found.failed[0].split(": expected")[0] + more if found.failed else "**nothing**"


def earlier(patches, first):
    """The patches before that of the name `first`, none without a name."""
    if not first:
        return []
    names = [patch.name for patch in patches]
    if first not in names:
        raise common.Usage(f"--from {first}: it is one of {', '.join(names)}")
    return patches[:names.index(first)]


def source_of(tree, overlay, name):
    """A file of a patched tree; empty where the tree has none of that name."""
    if name in overlay:
        return overlay[name].decode()
    path = tree.path / name
    return path.read_text() if path.exists() else ""


def main(argv):
    parser = argparse.ArgumentParser(prog="tests/mutate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_dpdk(parser)
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    parser.add_argument("--topic", help="only what this patch changes")
    parser.add_argument("--from", dest="first", metavar="TOPIC", help="only what this patch of the "
                        "series and those after it change")
    parser.add_argument("--cases", metavar="TEXTS", default=CASES, help="run only cases with one "
                        "of these, comma-separated, in name or claim (default: what the bus driver "
                        "does)")
    parser.add_argument("-k", metavar="TEXT", default="", help="only mutants with TEXT in them")
    called = parser.parse_args(argv)
    build = variants.Build(source.get(called.dpdk))
    if not called.list:
        build.variants()
    options = autotest.parse(["--all", "-k", called.cases, "--timeout", "120"])
    fingerprint = build.tree.fingerprint()
    overlay = scratch.patched_files(build.tree, build.patches)
    before = scratch.patched_files(build.tree, earlier(build.patches, called.first))
    print("| where | change undone | caught by |\n| --- | --- | --- |", flush=True)
    with build.alone():
        for name in FILES:
            for line, what, text in mutants(source_of(build.tree, before, name),
                                            overlay[name].decode()):
                if called.k not in what:
                    continue
                where = f"| {name.split('pci/', 1)[1]}:{line} | {short(what)} |"
                if called.list:
                    print(where)
                    continue
                changed = {**overlay, name: text.encode()}
                print(where, verdict_on(build, fingerprint, changed, options), "|", flush=True)
