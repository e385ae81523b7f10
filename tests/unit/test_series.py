# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import os

import pytest
from conftest import FIX, git, write

from uiokit import common
from uiokit.cli import series
from uiokit.series import apply, dpdk_tree, export, patchset, refresh


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*"))
            if path.is_file() and ".git" not in path.parts}


def test_apply_edits_an_unpacked_tree_once(make_tree, payload):
    tree = make_tree()
    assert [patch.name for patch in apply.apply(tree, patchset.read())] == ["fix", "test"]
    after = contents(tree.path)
    assert apply.apply(tree, patchset.read()) == []
    assert contents(tree.path) == after


def test_apply_commits_on_a_branch_of_a_git_tree(make_tree, payload):
    tree = make_tree(is_git=True)
    apply.apply(tree, patchset.read())
    assert git(tree.path, "branch", "--show-current") == "uio-secondary"
    assert git(tree.path, "log", "--format=%s|%an", "main..").splitlines() == [
        "test/pci: test it|A Tester", "bus/pci: fix it|A Tester"]
    assert git(tree.path, "log", "-1", "--format=%B", "HEAD^").endswith(
        "Cc: stable@dpdk.org\n\nSigned-off-by: A Tester <t@example.com>")
    assert git(tree.path, "status", "--porcelain") == ""


def test_both_kinds_of_tree_get_the_same_files(make_tree, payload):
    plain, tracked = make_tree(), make_tree(is_git=True)
    for tree in (plain, tracked):
        apply.apply(tree, patchset.read())
    assert contents(plain.path) == contents(tracked.path)


def test_a_rest_of_the_stack_is_added(make_tree, payload):
    tree = make_tree(is_git=True)
    apply.apply(tree, patchset.read(["fix"]))
    assert [patch.name for patch in apply.apply(tree, patchset.read())] == ["test"]


def test_dirty_tree_is_refused_and_untouched(make_tree, payload):
    tree = make_tree(is_git=True)
    (tree.path / "VERSION").write_text("22.11.12\n")
    before = contents(tree.path)
    with pytest.raises(common.Usage, match="uncommitted changes"):
        apply.apply(dpdk_tree.Tree(tree.path), patchset.read())
    assert contents(tree.path) == before
    assert git(tree.path, "branch", "--list", "uio-secondary") == ""


@pytest.mark.parametrize("is_git", [False, True])
def test_a_failure_leaves_the_tree_as_it_was(make_tree, payload, is_git):
    write(payload, {f"{dpdk_tree.COMMON}.test.diff": FIX.replace("ret = ", "gone = ")})
    patchset.payload_diffs.cache_clear()
    tree = make_tree(is_git=is_git)
    before = contents(tree.path)
    with pytest.raises(common.CheckFailed):
        apply.apply(tree, patchset.read())
    assert contents(tree.path) == before
    if is_git:
        assert git(tree.path, "log", "--all", "--format=%s") == "import"


@pytest.mark.parametrize("call, nth", [("rename", 1), ("rename", 2), ("rename", 3),
                                       ("mkdir", 2)])
def test_a_write_that_fails_halfway_is_taken_back(make_tree, payload, monkeypatch, call, nth):
    tree = make_tree()
    before = contents(tree.path)
    real = getattr(os, call)
    calls = []

    def full_disk(source, *rest):
        calls.append(source)
        if len(calls) == nth:
            raise OSError(28, "No space left on device")
        return real(source, *rest)

    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(OSError):
        apply.apply(tree, patchset.read())
    assert contents(tree.path) == before and not (tree.path / "app").exists()


def test_without_an_identity_nothing_is_signed(make_tree, payload, tmp_path):
    tree = make_tree(is_git=True)
    (tmp_path / ".gitconfig").write_text("")
    with pytest.raises(common.Usage, match="user.name"):
        apply.apply(tree, patchset.read())


def test_mails_give_the_same_tree_and_the_same_bytes(make_tree, payload, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    applied, mailed = make_tree("22.11.11", True), make_tree("22.11.10", True)
    (mailed.path / "VERSION").write_text("22.11.11\n")
    git(mailed.path, "commit", "-qam", "import")
    first, second = (export.export(mailed, patchset.read(), tmp_path / name)
                     for name in ("one", "two"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert "[PATCH 22.11 0/2] two patches" in first[0].read_text()
    git(mailed.path, "am", "-q", *map(str, first[1:]))
    apply.apply(applied, patchset.read())
    assert git(mailed.path, "rev-parse", "HEAD^{tree}") == \
        git(applied.path, "rev-parse", "HEAD^{tree}")


def test_notes_of_a_message_are_mailed_and_kept_but_not_committed(make_tree, payload, tmp_path):
    text = "bus/pci: fix it\n\nWhy.\n---\nNot run.\n"
    (payload / "series/fix.msg").write_text(text)
    tree = make_tree("26.11.0-rc0", is_git=True)
    _, mail, *_ = export.export(tree, patchset.read(), tmp_path / "out")
    message, below = mail.read_text().split("\n---\n", 1)
    assert "Not run." not in message and "Not run." in below.split("diff --git")[0]
    apply.apply(tree, patchset.read())
    assert "Not run." not in git(tree.path, "log", "--format=%B")
    refresh.refresh(tree)
    assert (payload / "series/fix.msg").read_text() == text


def test_export_refuses_a_folder_with_other_patches(make_tree, payload, tmp_path):
    write(tmp_path / "out", {"0001-other.patch": ""})
    with pytest.raises(common.Usage, match="other patches"):
        export.export(make_tree(), patchset.read(), tmp_path / "out")


def test_refresh_of_an_unedited_tree_changes_nothing(make_tree, payload):
    tree = make_tree(is_git=True)
    apply.apply(tree, patchset.read())
    before = contents(payload)
    assert refresh.refresh(tree) == []
    assert contents(payload) == before


def test_refresh_takes_edits_and_messages_back(make_tree, payload):
    tree = make_tree(is_git=True)
    apply.apply(tree, patchset.read())
    path = tree.path / "app/test/test_it.c"
    path.write_text("int z;\n\n")
    git(tree.path, "commit", "-qa", "--amend", "-m", "test/pci: test it\n\nBetter.\n\n"
        "Signed-off-by: A Tester <t@example.com>")
    assert refresh.refresh(tree) == ["app/test/test_it.c", "series/test.msg"]
    assert (payload / "app/test/test_it.c").read_text() == "int z;\n\n"
    assert (payload / "series/test.msg").read_text() == "test/pci: test it\n\nBetter.\n"


def test_refresh_drops_a_new_file_that_the_commit_lacks(make_tree, payload):
    (payload / "app/test/test_more.c").write_text("int more;\n")
    tree = make_tree(is_git=True)
    apply.apply(tree, patchset.read())
    git(tree.path, "rm", "-q", "app/test/test_more.c")
    git(tree.path, "commit", "-q", "--amend", "--no-edit")
    assert refresh.refresh(tree) == ["app/test/test_more.c"]
    assert not (payload / "app/test/test_more.c").exists()


def test_refresh_refuses_a_commit_of_no_topic_in_the_stack(make_tree, payload):
    tree = make_tree(is_git=True)
    apply.apply(tree, patchset.read())
    git(tree.path, "commit", "-q", "--amend", "-m", "test/pci: another subject")
    with pytest.raises(common.Usage, match="another subject.*series list"):
        refresh.refresh(tree)


def test_refresh_refuses_to_overwrite_unsaved_payload(make_tree, payload):
    tree = make_tree(is_git=True)
    apply.apply(tree, patchset.read())
    (tree.path / "app/test/test_it.c").write_text("int z;\n")
    git(tree.path, "commit", "-qa", "--amend", "--no-edit")
    git(payload, "init", "-q")
    git(payload, "add", "-A")
    git(payload, "commit", "-q", "-m", "payload")
    (payload / "app/test/test_it.c").write_text("int unsaved;\n")
    with pytest.raises(common.Usage, match="not committed"):
        refresh.refresh(tree)
    assert (payload / "app/test/test_it.c").read_text() == "int unsaved;\n"


def test_refresh_needs_commits(make_tree, payload):
    with pytest.raises(common.Usage, match="git init"):
        refresh.refresh(make_tree())


def test_status_exit_codes(make_tree, payload, tmp_path, capsys):
    tree = make_tree()
    assert series.main(["status", str(tree.path)]) == common.FAILED
    apply.apply(tree, patchset.read())
    assert series.main(["status", str(tree.path)]) == common.PASSED
    assert "fixed" in capsys.readouterr().out
    with pytest.raises(common.Usage, match="not a DPDK source tree"):
        series.main(["status", str(tmp_path)])


def test_mode_of_an_edited_file_is_kept(make_tree, payload):
    tree = make_tree()
    os.chmod(tree.path / dpdk_tree.COMMON, 0o640)
    apply.apply(tree, patchset.read())
    assert (tree.path / dpdk_tree.COMMON).stat().st_mode & 0o777 == 0o640
