# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Put the stack on a tree, or write it as mails made for that tree."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile

from . import core, programs, stack

BRANCH = "uio-secondary"


def applied(tree, topics):
    """The topics that the tree has already, to the letter, and what it is without them."""
    with stack.workshop(tree, topics) as shop:
        found = [topic for topic in reversed(topics) if shop.undo(topic)]
        return found[::-1], shop.contents()


def apply(tree, topics):
    """Put topics on a tree, whole or not at all. Returns those that it did not have yet."""
    have, _ = applied(tree, topics)
    missing = [topic for topic in topics if topic not in have]
    if not missing:
        return []
    if tree.is_git:
        refuse_dirty(tree)
        _apply_commits(tree, missing)
    else:
        _apply_edits(tree, missing)
    return missing


def _steps(tree, topics):
    """[(topic, {path: bytes or None} that it changes)]; raises before anything is written."""
    made = []
    with stack.workshop(tree, topics) as shop:
        before = shop.contents()
        for topic in topics:
            shop.apply(topic)
            after = shop.contents()
            changed = {name: data for name, data in after.items() if data != before[name]}
            if changed:
                made.append((topic, changed))
            before = after
    return made


def _apply_edits(tree, topics):
    """Write the files of an unpacked tree; if one cannot be written, put all back."""
    final = {name: data for _, changed in _steps(tree, topics) for name, data in changed.items()}
    with contextlib.ExitStack() as undo:
        # All that needs room comes first; from there on there are only renames, also to undo.
        staged = []
        for name, data in final.items():
            target = tree.path / name
            for parent in reversed(target.relative_to(tree.path).parents):
                if not (tree.path / parent).exists():
                    (tree.path / parent).mkdir()
                    undo.callback((tree.path / parent).rmdir)
            new = target.with_name(f".{target.name}.uio-new")
            undo.callback(new.unlink, missing_ok=True)
            new.write_bytes(data)
            if target.exists():
                shutil.copymode(target, new)
            staged.append((new, target, target.with_name(f".{target.name}.uio-old")))
        for new, target, old in staged:
            if target.exists():
                os.rename(target, old)
                undo.callback(os.replace, old, target)
            else:
                undo.callback(target.unlink, missing_ok=True)
            os.rename(new, target)
        undo.pop_all()
    for _, _, old in staged:
        old.unlink(missing_ok=True)


def _apply_commits(tree, topics):
    """Make the commits beside the work tree, then move to them in one step."""
    identity = user_identity(tree.path)
    branch = tree.git("branch", "--show-current")
    target = branch if branch == BRANCH else BRANCH
    if target != branch and tree.git("branch", "--list", target):
        raise core.Usage(f"{tree.path} has a branch {target} already: switch to it, "
                         f"or delete it (git branch -D {target})")
    with tempfile.TemporaryDirectory(prefix="uio-series-") as folder:
        env = dict(os.environ, GIT_INDEX_FILE=os.path.join(folder, "index"))
        parent = tree.git("rev-parse", "HEAD")
        tree.git("read-tree", parent, env=env)
        for topic, changed in _steps(tree, topics):
            for name, data in changed.items():
                blob = pathlib.Path(folder, "blob")
                blob.write_bytes(data)
                key = tree.git("hash-object", "-w", "--no-filters", blob)
                mode = tree.git("ls-files", "--stage", "--", name, env=env)[:6] or "100644"
                tree.git("update-index", "--add", "--cacheinfo", f"{mode},{key},{name}", env=env)
            parent = tree.git("commit-tree", tree.git("write-tree", env=env), "-p", parent,
                              stdin=sign(topic.message, identity))
    if target == branch:
        tree.git("merge", "-q", "--ff-only", parent)
    else:
        tree.git("switch", "-q", "-c", target, parent)


def export(tree, topics, folder):
    """Write cover letter and mails for `git am`, made for this tree. Returns their paths.

    The same tree, payload and git identity give the same bytes.
    """
    if tree.is_git:
        refuse_dirty(tree)
    identity = user_identity(tree.path)
    moment = _moment()
    have, base = applied(tree, topics)
    name, mail = re.fullmatch(r"(.*) <(.*)>", identity).groups()
    env = dict(os.environ, GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=mail, GIT_AUTHOR_DATE=moment,
               GIT_COMMITTER_NAME=name, GIT_COMMITTER_EMAIL=mail, GIT_COMMITTER_DATE=moment,
               **stack.NO_CONFIG)
    with stack.workshop(tree, topics) as shop:
        for topic in reversed(have):
            shop.undo(topic)
        shop.git("add", "-A", "-f")
        shop.git("commit", "-q", "--allow-empty", "-m", str(tree), env=env)
        for topic in topics:
            shop.apply(topic)
            if shop.git("diff", "--cached", "--quiet", check=False).returncode:
                shop.git("commit", "-q", "-F", "-", stdin=sign(topic.message, identity), env=env)
        count = shop.git("rev-list", "--count", "HEAD").stdout.strip()
        shop.git("config", "branch.base.description", (stack.SERIES / "cover").read_text())
        out = shop.folder / ".git" / "mails"
        # git's own default context and hunk placement: what reviewers are used to.
        programs.run(["git", "format-patch", "-q", "--cover-letter", "--no-thread",
                      "--cover-from-description=subject", "--no-signature", "--zero-commit",
                      f"--subject-prefix={_prefix(tree)}", f"-{int(count) - 1}", "-o", out],
                     cwd=shop.folder, env=env)
        folder = pathlib.Path(folder)
        mails = sorted(out.iterdir())
        folder.mkdir(parents=True, exist_ok=True)
        mine = {mail.name for mail in mails}
        strange = [path.name for path in folder.glob("*.patch") if path.name not in mine]
        if strange:
            raise core.Usage(f"{folder} holds other patches ({', '.join(sorted(strange)[:3])}): "
                             "name an empty folder, git am would take them too")
        cover = mails[0].read_text()
        mails[0].write_text(re.sub(r"(?m)^Date: .*", f"Date: {_mail_date(moment)}", cover))
        for mail in mails:
            core.replace_file(folder / mail.name, mail.read_bytes())
    return [folder / mail.name for mail in mails]


def user_identity(path):
    """`Name <mail>` as git knows the user; never made up."""
    done = programs.run(["git", "-C", path, "-c", "user.useConfigOnly=true",
                         "var", "GIT_AUTHOR_IDENT"], check=False)
    match = re.match(r"(.+ <.+>) \d+ ", done.stdout)
    if done.returncode != 0 or not match:
        raise core.Usage("git does not know who signs off: run git config --global user.name and "
                         "user.email with your own")
    return match[1]


def sign(message, identity):
    """The message with the user's sign-off, a blank line after Fixes and Cc as DPDK wants it."""
    return f"{message.rstrip()}\n\nSigned-off-by: {identity}\n"


def refuse_dirty(tree):
    changed = tree.git("status", "--porcelain", "--untracked-files=no")
    if changed:
        raise core.Usage(f"{tree.path} has uncommitted changes (first: {changed.splitlines()[0]}); "
                         "commit or stash them first")


def _prefix(tree):
    """Mails for a stable branch say which; those for main do not."""
    return "PATCH" if "-rc" in tree.text else "PATCH {}.{:02}".format(*tree.version)


def _moment():
    """The time that mails bear: of the payload's last commit, so that a second export is equal."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return f"@{int(os.environ['SOURCE_DATE_EPOCH'])} +0000"
    with contextlib.suppress(core.Infrastructure):
        said = programs.run(["git", "-C", core.TOP, "log", "-1", "--format=%ct +0000",
                             "--", "series", "drivers", "app", "doc", "*.diff"]).stdout
        return "@" + said.strip()
    return f"@{int((stack.SERIES / 'order').stat().st_mtime)} +0000"


def _mail_date(moment):
    import email.utils
    return email.utils.formatdate(int(moment[1:].split()[0]))
