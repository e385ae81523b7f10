# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/series: the series of patches, and what it does to a DPDK tree."""

import argparse

from .. import common
from ..series import apply, dpdk_tree, export, patchset, refresh

_EXITS = """exit codes: 0 done (status: the tree is safe), 1 the series does not fit
(status: the tree is affected), 2 usage (status: no DPDK)"""


def main(argv):
    parser = argparse.ArgumentParser(
        prog="devtools/series", description="The patch series: list it, ask whether a DPDK tree "
        "needs it, put it on.", epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _command(commands, _list, "the series, one line a topic")
    _command(commands, _status, "whether a tree has the bug, and by what evidence", "tree")
    _command(commands, _apply, "put the series on: commits on a branch of a git tree, plain edits "
             "of an unpacked one", "tree", "topic")
    command = _command(commands, _export, "write mails for git am, made for this tree and signed "
                       "off by you; the tree is not changed", "tree", "topic")
    command.add_argument("-o", dest="folder", required=True, metavar="DIR", help="where to")
    _command(commands, _refresh, "take an edited, applied git tree back into the payload", "tree")
    options = parser.parse_args(argv)
    return options.function(options)


def _command(commands, function, text, *arguments):
    command = commands.add_parser(function.__name__[1:], help=text, description=text + ".")
    command.set_defaults(function=function)
    if "tree" in arguments:
        command.add_argument("tree", metavar="TREE", help="a DPDK source tree or git checkout")
    if "topic" in arguments:
        command.add_argument("--topic", action="append", metavar="TOPIC",
                             help="only this patch (repeatable)")
    return command


def _list(_options):
    patches = patchset.read()
    width = max(len(patch.name) for patch in patches)
    for patch in patches:
        print(f"{patch.name.ljust(width)}  {patch.subject}")


def _status(options):
    tree = dpdk_tree.Tree(options.tree)
    state, evidence = dpdk_tree.diagnose(
        lambda name: (tree.path / name).read_text(errors="replace"))
    patches = patchset.read()
    have, _ = apply.applied(tree, patches)
    carried = f"; carries {len(have)} of {len(patches)} topics" if have else ""
    print(f"{tree}: {state}: {evidence}{carried}")
    return common.FAILED if state == "affected" else common.PASSED


def _apply(options):
    tree = dpdk_tree.Tree(options.tree)
    made = apply.apply(tree, patchset.read(options.topic))
    if not made:
        print(f"{tree}: all patches are applied already")
        return
    where = f"committed on branch {tree.git('branch', '--show-current')}" if tree.is_git \
        else "edited in place"
    for patch in made:
        print(f"{patch.name}: {where}")


def _export(options):
    tree = dpdk_tree.Tree(options.tree)
    for path in export.export(tree, patchset.read(options.topic), options.folder):
        print(path)


def _refresh(options):
    tree = dpdk_tree.Tree(options.tree)
    changed = refresh.refresh(tree)
    for name in changed:
        print(name)
    if not changed:
        print(f"{tree}: the payload says the same already")
