# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/series: the patch series, and what it does to a DPDK tree."""

import argparse
import os
import re

from .. import common
from . import arguments
from ..series import apply, dpdk_tree, export, patchset, refresh, track

_EXITS = """exit codes: 0 done (status: the tree does not have the bug; track: no such commits),
1 the series does not fit (status: the tree has the bug; track: commits to look at), 2 usage error
(status: no DPDK), 69 environment missing or broken (status: unknown code), 130 interrupted"""


def main(argv):
    parser = arguments.parser("devtools/series", "The patch series: list it, ask whether a DPDK "
                              "tree needs it, apply it.", _EXITS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _command(commands, _list, "the patches: set, topic, needs, subject", "set")
    _command(commands, _status, "whether a tree has the bug, and by what evidence", "tree")
    command = _command(commands, _apply, "put the series on: commits on a branch of a git tree, "
                       "plain edits of an unpacked one", "tree", "set")
    command.add_argument("--branch", metavar="NAME", help="the branch to make, or to go on with if "
                         f"it is the current one (default: {apply.BRANCH})")
    command = _command(commands, _export, "write mails for git am, made for this tree and signed "
                       "off by you; the tree is not changed", "tree", "set")
    command.add_argument("-o", dest="folder", required=True, metavar="DIR",
                         help="the folder for the mails, made if missing")
    _command(commands, _refresh, "read the series, edited in the commits of a git tree, back into "
             "this repository", "tree")
    command = _command(commands, _track, "the DPDK commits that touch what the series edits or "
                       "relies on, and the first one that it does not fit")
    command.add_argument("tree", metavar="TREE", help="a git checkout of DPDK")
    command.add_argument("--since", metavar="REV", help="a commit that the series fits (default: "
                         "the last one it was moved to, series/tracked)")
    options = parser.parse_args(argv)
    return options.function(options)


def _command(commands, function, text, *options):
    command = commands.add_parser(function.__name__[1:], help=text, description=text + ".",
                                  epilog=_EXITS,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    command.set_defaults(function=function, topic=None)
    if "tree" in options:
        command.add_argument("tree", metavar="TREE", help="a DPDK source tree or git checkout, or "
                             "another project's copy of one")
        command.add_argument("--base", type=_base, metavar="YY.MM", help="the DPDK release that "
                             "TREE was made of (default: as its VERSION says)")
    if "set" in options:
        choice = command.add_mutually_exclusive_group()
        choice.add_argument("--set", choices=[*patchset.SETS, "all"], default="all",
                            help="only the patches of this set: fixes (for stable branches), or "
                            "rfc (for discussion) (default: all)")
        if "tree" in options:
            choice.add_argument("--topic", action="append", metavar="TOPIC", help="only this patch "
                                "and those that it needs (repeatable)")
    return command


def _base(text):
    if not re.fullmatch(r"[0-9]{2}\.[0-9]{2}", text):
        raise argparse.ArgumentTypeError(f"{text}: not a release such as 24.11")
    return text


def _tree(options):
    return dpdk_tree.Tree(options.tree, part=True, base=options.base)


def _asked(options):
    """The patches that the command line names."""
    return [patch for patch in patchset.read() if options.set in ("all", patch.kind)
            and (not options.topic or patch.name in options.topic)]


def _chosen(options, tree):
    """The patches that the command line names, and those that they need, by what the tree takes."""
    patches = patchset.read(options.topic or [patch.name for patch in _asked(options)])
    left_out = sorted({os.path.dirname(name) or name for patch in patches
                       for name in patch.files(tree) if not tree.has_place(name)})
    if left_out:
        common.say(f"  left out, since {tree.path} has no such folder: {', '.join(left_out)}")
    kept = [patch for patch in patches if patch.added(tree) or patch.diffs(tree)]
    if not kept:
        raise common.CheckFailed(f"{tree.path} has none of the files that these patches change")
    return kept


def _needed(asked, patches):
    """Those of the patches that were not asked for."""
    return [patch for patch in patches if patch.name not in [one.name for one in asked]]


def _names(patches):
    return ", ".join(patch.name for patch in patches)


def _list(options):
    rows = [(patch.kind, patch.name, ",".join(patch.needs) or "-", patch.subject)
            for patch in _asked(options)]
    widths = [max(map(len, column)) for column in zip(*rows)][:3]
    for row in rows:
        print(*(text.ljust(width) for text, width in zip(row, widths)), row[3], sep="  ")


def _status(options):
    tree = _tree(options)
    state, evidence = dpdk_tree.diagnose(tree.read)
    carried = ""
    if tree.text:
        found = apply.applied(tree)
        all_of_it = patchset.read_for(tree)
        carried = f"; carries {len(found)} of {len(all_of_it)} patches" if found else ""
    print(f"{tree}: {state}: {evidence}{carried}")
    return common.FAILED if state == "affected" else common.PASSED


def _apply(options):
    tree = _tree(options)
    if options.branch and not tree.is_git:
        raise common.Usage(f"--branch {options.branch}: {tree.path} is not a git repository")
    patches = _chosen(options, tree)
    made = apply.apply(tree, patches, options.branch or apply.BRANCH)
    asked = _asked(options)
    if not made:
        print(f"{tree}: carries {_names(asked) if options.topic else 'these patches'} already")
        return
    needed = _needed(asked, [patch for patch in made if patch in patches])
    if needed:
        print(f"{_names(asked)}: needs {_names(needed)}; applying these as well")
    where = f"committed on branch {tree.git('branch', '--show-current')}" if tree.is_git \
        else "edited in place"
    for patch in made:
        print(f"{patch.name}: {where}")


def _export(options):
    tree = _tree(options)
    patches, asked = _chosen(options, tree), _asked(options)
    needed = _needed(asked, patches)
    below = []
    if needed and options.topic:
        common.say(f"  {_names(asked)}: needs {_names(needed)}; exporting these as well")
    elif needed:
        patches, below = [patch for patch in patches if patch not in needed], needed
    for path in export.export(tree, patches, options.folder, below):
        print(path)


def _refresh(options):
    tree = _tree(options)
    changed = refresh.refresh(tree)
    for name in changed:
        print(name)
    if not changed:
        print(f"{tree}: this repository has the same already")


def _track(options):
    tree = dpdk_tree.Tree(options.tree)
    commits, misfit = track.track(tree, options.since)
    for line in commits:
        print(line)
    print(f"{tree}: {len(commits)} commits to look at; the series " + (
        f"does not fit since {misfit[0]}:\n{misfit[1]}" if misfit else "fits"))
    return common.FAILED if commits or misfit else common.PASSED
