# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Put the stack on a tree, write it as mails, take an edited tree back into the payload."""

import contextlib
import os
import pathlib
import re
import tempfile

from . import core, stack

BRANCH = "uio-secondary"
_SIGN_OFF = re.compile(r"(?m)^Signed-off-by: .*\n?")


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
        _refuse_dirty(tree)
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
    before = {name: (tree.path / name).read_bytes() if (tree.path / name).exists() else None
              for name in final}
    written = []
    try:
        for name, data in final.items():
            written.append(name)
            core.replace_file(tree.path / name, data)
    except BaseException:
        for name in written:
            if before[name] is None:
                (tree.path / name).unlink(missing_ok=True)
            else:
                core.replace_file(tree.path / name, before[name])
        raise


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
    identity = user_identity(tree.path)
    moment = _moment()
    have, base = applied(tree, topics)
    name, mail = re.fullmatch(r"(.*) <(.*)>", identity).groups()
    env = dict(os.environ, GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=mail, GIT_AUTHOR_DATE=moment,
               GIT_COMMITTER_NAME=name, GIT_COMMITTER_EMAIL=mail, GIT_COMMITTER_DATE=moment,
               GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
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
        core.run(["git", "format-patch", "-q", "--cover-letter", "--cover-from-description=subject",
                  "--no-signature", "--zero-commit", "--no-thread",
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


def refresh(tree):
    """Take the commits of the stack on a git tree back into the payload. Returns what changed."""
    if not tree.is_git:
        raise core.Usage(f"{tree.path}: refresh reads the commits that apply makes; make this an "
                         "unpacked tree's git repository first: git init, git add, git commit")
    _refuse_dirty(tree)
    by_subject = {topic.subject: topic for topic in stack.topics()}
    commits = []
    for line in tree.git("log", f"-{3 * len(by_subject)}", "--format=%H %s").splitlines():
        commit, subject = line.split(" ", 1)
        if subject not in by_subject:
            break
        commits.insert(0, (by_subject[subject], commit))
    if not commits:
        raise core.Usage(f"{tree.path}: the last commit is none of the stack's; "
                         "put the stack on with `series apply` first")
    seen = [topic.name for topic, _ in commits]
    if len(set(seen)) != len(seen):
        raise core.Usage(f"{tree.path}: two commits of one topic: squash them "
                         f"(git rebase -i {commits[0][1][:12]}^)")
    writes = {}
    for topic, commit in commits:
        _read_back(tree, topic, commit, writes)
    return sorted(str(path.relative_to(core.TOP)) for path, data in writes.items()
                  if _write_or_remove(path, data))


def _read_back(tree, topic, commit, writes):
    """Add to `writes` what a commit says that a topic is: {payload path: text, None to remove}."""
    message = _SIGN_OFF.sub("", tree.git("log", "-1", "--format=%B", commit)).rstrip() + "\n"
    writes[stack.SERIES / f"{topic.name}.msg"] = message
    before = topic.diffs(tree.version)
    names = tree.git("diff-tree", "-r", "--no-commit-id", "--name-status", commit).splitlines()
    for status, name in (line.split("\t") for line in names):
        if status == "A":
            writes[core.TOP / name] = core.run(
                ["git", "-C", tree.path, "cat-file", "blob", f"{commit}:{name}"]).stdout
        elif status == "M":
            diff = core.run(["git", "-C", tree.path, *stack.PLAIN_DIFF, "diff", "-U1",
                             "--no-color", "--no-ext-diff", f"{commit}^", commit, "--", name])
            text = stack.carried(diff.stdout)
            known = before.pop(name, None)
            if known is None or _shape_differs(known, text):
                writes[known or core.TOP / f"{name}.{topic.name}.diff"] = text
        else:
            raise core.Usage(f"{tree.path}: {topic.name} removes or renames {name}: "
                             "the payload has no form for that")
    for path in before.values():
        writes[path] = None


def _shape_differs(known, text):
    """Line numbers alone are no change: they are another base's."""
    return stack.shape(known.read_text()) != stack.shape(text)


def _write_or_remove(path, data):
    if data is None:
        path.unlink()
        return True
    return core.replace_file(path, data)


def user_identity(path):
    """`Name <mail>` as git knows the user; never made up."""
    done = core.run(["git", "-C", path, "-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT"],
                    check=False)
    match = re.match(r"(.+ <.+>) \d+ ", done.stdout)
    if done.returncode != 0 or not match:
        raise core.Usage("git does not know who signs off: run git config --global user.name and "
                         "user.email with your own")
    return match[1]


def sign(message, identity):
    """The message with the user's sign-off, a blank line after Fixes and Cc as DPDK wants it."""
    return f"{message.rstrip()}\n\nSigned-off-by: {identity}\n"


def _refuse_dirty(tree):
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
        return "@" + core.run(["git", "-C", core.TOP, "log", "-1",
                               "--format=%ct +0000"]).stdout.strip()
    return f"@{int((stack.SERIES / 'order').stat().st_mtime)} +0000"


def _mail_date(moment):
    import email.utils
    return email.utils.formatdate(int(moment[1:].split()[0]))
