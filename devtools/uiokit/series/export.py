# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Write the series as mails made for one DPDK tree."""

import contextlib
import os
import pathlib
import re

from .. import common, process
from . import patchset, scratch
from .apply import applied, refuse_dirty, sign, user_identity


def export(tree, patches, folder):
    """Write cover letter and mails for `git am`, made for this tree. Returns their paths.

    The same tree, payload and git identity give the same bytes.
    """
    if tree.is_git:
        refuse_dirty(tree)
    identity = user_identity(tree.path)
    moment = _moment()
    have, base = applied(tree, patches)
    name, mail = re.fullmatch(r"(.*) <(.*)>", identity).groups()
    env = dict(os.environ, GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=mail, GIT_AUTHOR_DATE=moment,
               GIT_COMMITTER_NAME=name, GIT_COMMITTER_EMAIL=mail, GIT_COMMITTER_DATE=moment,
               **patchset.NO_CONFIG)
    with scratch.repository(tree, patches) as repo:
        for patch in reversed(have):
            repo.undo(patch)
        repo.git("add", "-A", "-f")
        repo.git("commit", "-q", "--allow-empty", "-m", str(tree), env=env)
        for patch in patches:
            repo.apply(patch)
            if repo.git("diff", "--cached", "--quiet", check=False).returncode:
                repo.git("commit", "-q", "-F", "-", stdin=sign(patch.message, identity), env=env)
                if patch.notes:
                    repo.git("notes", "add", "-m", patch.notes.removeprefix("---\n"), env=env)
        count = repo.git("rev-list", "--count", "HEAD").stdout.strip()
        repo.git("config", "branch.base.description", (patchset.SERIES / "cover").read_text())
        out = repo.folder / ".git" / "mails"
        # git's own default context and hunk placement: what reviewers are used to.
        process.run(["git", "format-patch", "-q", "--cover-letter", "--no-thread",
                     "--cover-from-description=subject", "--no-signature", "--zero-commit",
                     "--notes", f"--subject-prefix={_prefix(tree)}", f"-{int(count) - 1}",
                     "-o", out],
                    cwd=repo.folder, env=env)
        folder = pathlib.Path(folder)
        mails = sorted(out.iterdir())
        folder.mkdir(parents=True, exist_ok=True)
        mine = {mail.name for mail in mails}
        strange = [path.name for path in folder.glob("*.patch") if path.name not in mine]
        if strange:
            raise common.Usage(f"{folder} holds other patches ({', '.join(sorted(strange)[:3])}): "
                               "name an empty folder, git am would take them too")
        cover = mails[0].read_text()
        mails[0].write_text(re.sub(r"(?m)^Date: .*", f"Date: {_mail_date(moment)}", cover))
        for mail in mails:
            common.replace_file(folder / mail.name, mail.read_bytes())
    return [folder / mail.name for mail in mails]


def _prefix(tree):
    """Mails for a stable branch say which; those for main do not."""
    return "PATCH" if "-rc" in tree.text else "PATCH {}.{:02}".format(*tree.version)


def _moment():
    """The time that mails bear: of the payload's last commit, so that a second export is equal."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return f"@{int(os.environ['SOURCE_DATE_EPOCH'])} +0000"
    with contextlib.suppress(common.Infrastructure):
        said = process.run(["git", "-C", common.TOP, "log", "-1", "--format=%ct +0000",
                            "--", "series", "drivers", "app", "doc", "*.diff"]).stdout
        return "@" + said.strip()
    return f"@{int((patchset.SERIES / 'order').stat().st_mtime)} +0000"


def _mail_date(moment):
    import email.utils
    return email.utils.formatdate(int(moment[1:].split()[0]))
