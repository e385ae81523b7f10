# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Write the series as mails that are made for one DPDK tree."""

import email.utils
import os
import pathlib
import re
import tempfile

from .. import common, process
from . import patchset, scratch
from .apply import applied, refuse_dirty, sign, user_identity


def export(tree, patches, folder, below=()):
    """Write cover letter and mails for `git am`, made for this tree. Returns their paths.

    below: patches that the mails build on. The same tree, series and git identity give the same
    bytes.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise common.Usage(f"-o {folder}: cannot write there: {error.strerror}; "
                           "name a folder that you may write") from None
    if tree.is_git:
        refuse_dirty(tree)
    identity = user_identity(tree.path)
    moment = _moment()
    carried = applied(tree)
    name, mail = re.fullmatch(r"(.*) <(.*)>", identity).groups()
    env = dict(os.environ, GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=mail, GIT_AUTHOR_DATE=moment,
               GIT_COMMITTER_NAME=name, GIT_COMMITTER_EMAIL=mail, GIT_COMMITTER_DATE=moment)
    with scratch.repository(tree, [*carried, *below, *patches], identity) as repo:
        for patch in reversed(carried):
            repo.undo(patch)
        beneath = [patch for patch, _ in repo.put_on(below)]
        repo.git("commit", "-q", "--allow-empty", "-m", str(tree), env=env)
        mailed = []
        for patch, _ in repo.put_on(patches):
            repo.git("commit", "-q", "-F", "-", stdin=sign(patch.message, identity), env=env)
            if patch.notes:
                repo.git("notes", "add", "-m", patch.notes.removeprefix("---\n"), env=env)
            mailed.append(patch)
        repo.git("config", "branch.base.description", _cover(patches).read_text())
        out = repo.folder / ".git" / "mails"
        # git's own default context and hunk placement: what reviewers are used to.
        repo.git("format-patch", "-q", "--cover-letter", "--no-thread",
                 "--cover-from-description=subject", "--no-signature", "--zero-commit", "--notes",
                 f"--subject-prefix={_prefix(tree)}", f"-{len(mailed)}", "-o", out, env=env)
        cover, *_ = made = sorted(out.iterdir())
        cover.write_text(re.sub(r"(?m)^Date: .*", "Date: " + email.utils.formatdate(
            int(moment[1:].split()[0])), cover.read_text()))
        mails = {folder / path.name: path.read_bytes() for path in made}
    # An older mail may hold somebody's edits, and git am would take it too.
    other = sorted(path.name for path in folder.glob("*.patch")
                   if path.read_bytes() != mails.get(path))
    if other:
        raise common.Usage(f"-o {folder}: it holds other mails ({', '.join(other[:3])}); "
                           "name an empty folder")
    for path, data in mails.items():
        common.replace_file(path, data)
    common.say(f"  the mails apply to {tree}{_condition(tree, carried, beneath, mailed)}")
    return list(mails)


def _cover(patches):
    """The cover letter of the set that all patches are of, or else that of the whole series."""
    kinds = {patch.kind for patch in patches}
    own = patchset.SERIES / f"cover-{kinds.pop()}"
    return own if not kinds and own.is_file() else patchset.SERIES / "cover"


def _condition(tree, carried, beneath, mailed):
    """What else the tree must be for the mails to apply."""
    said = ""
    if tree.is_git and tree.git("rev-parse", "--show-prefix"):
        said += f" (git am --directory={tree.git('rev-parse', '--show-prefix').rstrip('/')})"
    if carried:
        said += f" without the {len(carried)} patches of the series that it carries"
    if beneath:
        said += f", after {', '.join(patch.name for patch in beneath)}"
    if scratch.TAKE_BACK in mailed:
        said += " with SPDK's change, which the first of them takes back"
    return said


def _prefix(tree):
    """Mails for a stable branch say which; those for main do not."""
    return "PATCH" if "-rc" in tree.text else "PATCH {}.{:02}".format(*tree.version)


def _moment():
    """The date of the mails: that of the series' last commit, so that a second export is equal."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return f"@{int(os.environ['SOURCE_DATE_EPOCH'])} +0000"
    # Empty where another repository around this one does not track it.
    seconds = process.run(["git", "-C", common.TOP, "log", "-1", "--format=%ct", "--", "series",
                           "drivers", "app", "doc", "*.diff"], check=False).stdout.strip()
    return f"@{seconds or int((patchset.SERIES / 'order').stat().st_mtime)} +0000"
