# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import os
import pathlib

import pytest
from conftest import FIX, PLAIN_LINUX, SPDK_LINUX, commit_all, git, write

from uiokit import common
from uiokit.cli import series
from uiokit.series import apply, dpdk_tree, export, patchset, refresh


TESTS = pathlib.Path(__file__).resolve().parents[1] / "series"

MORE = f"""\
--- a/{dpdk_tree.COMMON}
+++ b/{dpdk_tree.COMMON}
@@ -12,2 +12,3 @@ pci_uio_map_resource(struct dev *dev)
 \t\treturn pci_uio_attach_secondary(dev);
+\tmore();
 \n"""


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*"))
            if path.is_file() and ".git" not in path.parts}


@pytest.fixture
def applied(make_tree, payload):
    """A git tree with the series on it."""
    tree = make_tree(is_git=True)
    apply.apply(tree, patchset.read())
    return tree


def test_an_unpacked_tree_is_edited_once_and_gets_the_files_of_a_git_tree(make_tree, applied):
    plain = make_tree()
    os.chmod(plain.path / dpdk_tree.COMMON, 0o640)
    assert [patch.name for patch in apply.apply(plain, patchset.read(["fix"]))] == ["fix"]
    assert [patch.name for patch in apply.apply(plain, patchset.read())] == ["test"]
    for tree in (plain, applied):
        assert apply.apply(tree, patchset.read()) == []
    assert contents(plain.path) == contents(applied.path)
    assert (plain.path / dpdk_tree.COMMON).stat().st_mode & 0o777 == 0o640


def test_apply_commits_on_a_branch_of_a_git_tree(applied):
    assert git(applied.path, "branch", "--show-current") == "uio-secondary"
    assert git(applied.path, "log", "--format=%s|%an", "main..").splitlines() == [
        "test/pci: test it|A Tester", "bus/pci: fix it|A Tester"]
    assert git(applied.path, "log", "-1", "--format=%B", "HEAD^").endswith(
        "Cc: stable@dpdk.org\n\nSigned-off-by: A Tester <t@example.com>")
    assert git(applied.path, "status", "--porcelain") == ""


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
    tree = make_tree(is_git=is_git)
    before = contents(tree.path)
    with pytest.raises(common.CheckFailed):
        apply.apply(tree, patchset.read())
    assert contents(tree.path) == before
    if is_git:
        assert git(tree.path, "log", "--all", "--format=%s") == "import"


@pytest.mark.parametrize("call, nth", [("rename", 1), ("rename", 2), ("rename", 3),
                                       ("mkdir", 2)])
def test_a_write_that_fails_halfway_is_undone(make_tree, payload, monkeypatch, call, nth):
    tree = make_tree()
    before = contents(tree.path)
    real = getattr(os, call)
    calls = []

    def full_disk(source, *rest):
        calls.extend([source] * (tree.path in pathlib.Path(source).parents))
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
    assert apply.apply(make_tree(), patchset.read())


def test_mails_give_the_same_tree(make_tree, applied, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    mailed = make_tree("22.11.10", True)
    (mailed.path / "VERSION").write_text("22.11.11\n")
    git(mailed.path, "commit", "-qam", "import")
    cover, *mails = export.export(mailed, patchset.read(), tmp_path / "out")
    for text in ("[PATCH 22.11 0/2] two patches", "\nDate: Tue, 14 Nov 2023 22:13:20 "):
        assert text in cover.read_text()
    git(mailed.path, "am", "-q", *map(str, mails))
    assert git(mailed.path, "rev-parse", "HEAD^{tree}") == \
        git(applied.path, "rev-parse", "HEAD^{tree}")


def test_the_copyright_holder_of_a_new_file_is_the_user(make_tree, payload, tmp_path):
    ours = "/*\n * Copyright(c) 2026 the dpdk-uio-secondary authors\n */\nint x;\n"
    write(payload, {"app/test/test_it.c": ours})
    tree = make_tree(is_git=True)
    *_, mail = export.export(tree, patchset.read(), tmp_path / "out")
    apply.apply(tree, patchset.read())
    for path in (mail, tree.path / "app/test/test_it.c"):
        assert "* Copyright(c) 2026 A Tester\n" in path.read_text()
        assert "the dpdk-uio-secondary authors" not in path.read_text()
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Other\n\temail = o@example.com\n")
    assert [patch.name for patch in apply.applied(tree)] == ["fix", "test"]
    assert apply.apply(tree, patchset.read()) == []
    assert refresh.refresh(tree) == []
    git(tree.path, "commit", "-q", "--amend", "--no-edit")
    assert refresh.refresh(tree) == [] and (payload / "app/test/test_it.c").read_text() == ours
    *_, mail = export.export(tree, patchset.read(), tmp_path / "again")
    assert "* Copyright(c) 2026 Other\n" in mail.read_text()


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


def test_export_does_not_overwrite_other_mails(make_tree, payload, tmp_path):
    write(tmp_path / "other", {"0001-other.patch": ""})
    with pytest.raises(common.Usage, match="other mails.*0001-other"):
        export.export(make_tree(), patchset.read(), tmp_path / "other")
    first = export.export(make_tree("22.11.11"), patchset.read(), tmp_path / "out")
    before = contents(tmp_path / "out")
    assert export.export(make_tree("22.11.11"), patchset.read(), tmp_path / "out") == first
    with pytest.raises(common.Usage, match="other mails"):
        export.export(make_tree("23.11.2"), patchset.read(), tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_export_to_an_impossible_folder_names_it(make_tree, payload, tmp_path):
    write(tmp_path, {"file": ""})
    with pytest.raises(common.Usage, match=f"-o {tmp_path}/file/out: cannot write there: Not a"):
        export.export(make_tree(), patchset.read(), tmp_path / "file" / "out")


def test_a_set_has_a_cover_letter_of_its_own(make_tree, payload, tmp_path):
    # This repository may also be an untracked copy inside another one.
    git(payload, "init", "-q", ".")
    write(payload, {"series/cover-fixes": "only the fixes\n\nText.\n"})
    cover, *_ = export.export(make_tree(), patchset.read(), tmp_path / "out")
    assert "[PATCH 22.11 0/2] only the fixes" in cover.read_text()


@pytest.fixture
def three(payload):
    """A third patch, `more`, of the set rfc, on top of `fix`; `test` stands alone."""
    write(payload, {"series/order": "fixes fix\nfixes test app/test/*.c\nrfc more needs=fix\n",
                    "series/more.msg": "bus/pci: do more\n\nWhy.\n",
                    f"{dpdk_tree.COMMON}.more.diff": MORE})
    return payload


def run(capsys, *argv):
    """(exit code, standard output, standard error) of devtools/series."""
    code = series.main([str(word) for word in argv])
    return (code or common.PASSED, *capsys.readouterr())


def test_apply_of_a_topic_on_a_tree_with_the_series_changes_nothing(make_tree, three, capsys):
    tree = make_tree()
    apply.apply(tree, patchset.read())
    before = contents(tree.path)
    assert run(capsys, "apply", tree.path, "--topic", "fix") == (
        common.PASSED, "DPDK 22.11.11: carries fix already\n", "")
    assert contents(tree.path) == before


def test_export_of_a_topic_from_a_tree_with_the_series(make_tree, three, capsys, tmp_path):
    plain, carrying = make_tree("22.11.11"), make_tree("22.11.12")
    apply.apply(carrying, patchset.read())
    write(carrying.path, {"VERSION": "22.11.11\n"})
    assert len(export.export(plain, patchset.read(["fix"]), tmp_path / "plain")) == 2
    code, _, said = run(capsys, "export", carrying.path, "--topic", "fix", "-o", tmp_path / "two")
    assert code == common.PASSED and "without the 3 patches of the series that it carries" in said
    assert contents(tmp_path / "plain") == contents(tmp_path / "two")


def test_apply_and_export_bring_what_a_topic_needs_and_say_so(make_tree, three, capsys, tmp_path):
    _, out, said = run(capsys, "export", make_tree().path, "--topic", "more", "-o", tmp_path / "m")
    assert "more: needs fix; exporting these as well" in said and out.count("\n") == 3
    _, out, _ = run(capsys, "apply", make_tree().path, "--topic", "more")
    assert out.splitlines() == ["more: needs fix; applying these as well",
                                "fix: edited in place", "more: edited in place"]


def test_a_set_is_applied_with_its_needs_and_mailed_without(make_tree, three, capsys, tmp_path):
    tree = make_tree(is_git=True)
    code, out, said = run(capsys, "export", tree.path, "--set", "rfc", "-o", tmp_path / "m")
    assert "apply to DPDK 22.11.11, after fix" in said and out.count("\n") == 2
    run(capsys, "apply", tree.path, "--set", "fixes")
    git(tree.path, "am", "-q", str(tmp_path / "m" / "0001-bus-pci-do-more.patch"))
    assert len(apply.applied(tree)) == 3
    assert "do more" not in run(capsys, "list", "--set", "fixes")[1]
    assert "rfc    more  fix  bus/pci: do more\n" in run(capsys, "list")[1]


def test_a_branch_can_be_named(make_tree, three, capsys):
    tree = make_tree(is_git=True)
    for branch in ("on-22.11", "again"):
        git(tree.path, "switch", "-q", "main")
        run(capsys, "apply", tree.path, "--branch", branch)
        assert git(tree.path, "branch", "--show-current") == branch
    git(tree.path, "switch", "-q", "main")
    with pytest.raises(common.Usage, match="has a branch again already.*--branch"):
        run(capsys, "apply", tree.path, "--branch", "again")
    with pytest.raises(common.Usage, match="a..b"):
        run(capsys, "apply", tree.path, "--branch", "a..b")
    with pytest.raises(common.Usage, match="not a git repository"):
        run(capsys, "apply", make_tree().path, "--branch", "again")


@pytest.mark.parametrize("is_git", [False, True])
def test_spdk_change_gives_way_to_the_fix(make_tree, three, capsys, is_git):
    plain = make_tree(files={dpdk_tree.LINUX: PLAIN_LINUX})
    apply.apply(plain, patchset.read())
    tree = make_tree("22.11.12", is_git, {dpdk_tree.LINUX: SPDK_LINUX})
    write(tree.path, {"VERSION": "22.11.11\n"})
    if is_git:
        git(tree.path, "commit", "-qam", "import")
    assert "fixed by SPDK's change" in run(capsys, "status", tree.path)[1]
    run(capsys, "apply", tree.path, "--topic", "test")
    assert "fixed by SPDK's change" in run(capsys, "status", tree.path)[1]
    out = run(capsys, "apply", tree.path)[1]
    assert out.startswith(f"SPDK's change of {dpdk_tree.LINUX} is taken back")
    assert contents(tree.path) == contents(plain.path)
    assert "carries these patches already" in run(capsys, "apply", tree.path)[1]
    if is_git:
        assert refresh.refresh(tree) == []


def test_mails_for_a_tree_with_spdk_change_apply_to_it(make_tree, three, capsys, tmp_path):
    tree = make_tree(is_git=True, files={dpdk_tree.LINUX: SPDK_LINUX})
    _, out, said = run(capsys, "export", tree.path, "-o", tmp_path / "out")
    assert "with SPDK's change, which the first of them takes back" in said
    git(tree.path, "am", "-q", *out.split()[1:])
    assert (tree.path / dpdk_tree.LINUX).read_text() == PLAIN_LINUX
    assert len(apply.applied(tree)) == 3


def test_a_copy_of_the_bus_driver_below_another_repository(make_tree, three, capsys, tmp_path):
    path = make_tree().path
    (path / "VERSION").unlink()
    write(tmp_path, {".gitignore": "/*\n!/dpdk-*\n"})
    commit_all(tmp_path)
    code, out, _ = run(capsys, "status", path)
    assert code == common.FAILED and out.startswith("DPDK of unknown version: affected: ")
    with pytest.raises(common.Usage, match="--base YY.MM"):
        run(capsys, "apply", path)
    with pytest.raises(common.CheckFailed, match="none of the files"):
        run(capsys, "apply", path, "--topic", "test", "--base", "24.07")
    _, out, said = run(capsys, "export", path, "--base", "24.07", "-o", tmp_path / "out")
    assert f"git am --directory={path.name}" in said
    _, out, said = run(capsys, "apply", path, "--base", "24.07")
    assert "left out" in said and "app/test" in said
    assert out.splitlines() == [f"{name}: committed on branch uio-secondary"
                                for name in ("fix", "more")]
    assert git(tmp_path, "diff", "--stat", "main").count(dpdk_tree.COMMON) == 1
    assert git(tmp_path, "status", "--porcelain") == ""
    tree = dpdk_tree.Tree(path, part=True, base="24.07")
    assert tree.version == (24, 7, 0) and refresh.refresh(tree) == []
    (path / dpdk_tree.COMMON).write_text(
        (path / dpdk_tree.COMMON).read_text().replace("more();", "most();"))
    git(path, "commit", "-qa", "--amend", "--no-edit")
    assert refresh.refresh(tree) == [f"{dpdk_tree.COMMON}.more.diff"]


def test_mutation_of_one_patch_leaves_the_others_alone(monkeypatch):
    monkeypatch.syspath_prepend(TESTS)
    import mutate
    base, through = "int f()\n{\n\ta();\n}\n", "int f()\n{\n\ta();\n\tb();\n}\n"
    whole = through.replace("\ta();", "\tc();\n\ta();")
    assert [what for _, what, _ in mutate.changes(base, whole, through)] == ["without: \tb();\n"]
    assert len(mutate.changes(base, whole)) == 2


def test_the_check_of_maintainers_gets_the_sections_of_the_series(monkeypatch):
    monkeypatch.syspath_prepend(TESTS)
    import prove
    text = "Bus\nM: A <a@b>\nF: drivers/bus/\n\nNet\nF: drivers/net/\n\nT\nF: a/*.c\n"
    assert prove.own_sections(text, ["drivers/bus/pci/x.c", "a/y.c"]) == \
        "Bus\nM: A <a@b>\nF: drivers/bus/\n\nT\nF: a/*.c\n\n"


def test_refresh_takes_edits_and_messages_back(applied, payload):
    before = contents(payload)
    assert refresh.refresh(applied) == []
    assert contents(payload) == before
    (applied.path / "app/test/test_it.c").write_text("int z;\n\n")
    git(applied.path, "commit", "-qa", "--amend", "-m", "test/pci: test it\n\nBetter.\n\n"
        "Signed-off-by: A Tester <t@example.com>")
    assert refresh.refresh(applied) == ["app/test/test_it.c", "series/test.msg"]
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


def test_refresh_refuses_a_commit_of_no_patch_among_those_of_the_series(applied):
    git(applied.path, "commit", "-q", "--amend", "-m", "test/pci: another subject")
    with pytest.raises(common.Usage, match="another subject.*series list"):
        refresh.refresh(applied)


def test_refresh_refuses_to_overwrite_uncommitted_changes(applied, payload):
    (applied.path / "app/test/test_it.c").write_text("int z;\n")
    git(applied.path, "commit", "-qa", "--amend", "--no-edit")
    commit_all(payload)
    (payload / "app/test/test_it.c").write_text("int unsaved;\n")
    with pytest.raises(common.Usage, match="not committed"):
        refresh.refresh(applied)
    assert (payload / "app/test/test_it.c").read_text() == "int unsaved;\n"


def test_refresh_needs_commits(make_tree, payload):
    with pytest.raises(common.Usage, match="git init"):
        refresh.refresh(make_tree())


def test_track_lists_commits_and_finds_the_first_that_does_not_fit(make_tree, payload, capsys):
    tree = make_tree(is_git=True)
    write(payload, {"series/tracked": git(tree.path, "rev-parse", "HEAD")})

    def commit(subject, name, text):
        write(tree.path, {name: text})
        commit_all(tree.path, subject)

    assert run(capsys, "track", tree.path) == (
        common.PASSED, "DPDK 22.11.11: 0 commits to look at; the series fits\n", "")
    commit("net/x: say more", "drivers/net/x.c", "int x;\n")
    assert run(capsys, "track", tree.path)[0] == common.PASSED
    fitting = (tree.path / dpdk_tree.COMMON).read_text()
    for subject, name, text in (
            ("eal: change interrupts", "lib/eal/linux/eal_interrupts.c", "int i;\n"),
            ("bus/pci: a comment", dpdk_tree.COMMON, "/* */\n" + fitting),
            ("bus/pci: rewrite", dpdk_tree.COMMON, fitting.replace("ret = ", "result = ")),
            ("bus/pci: rewrite again", dpdk_tree.COMMON, fitting.replace("ret = ", "error = "))):
        if subject.endswith("rewrite"):
            code, out, _ = run(capsys, "track", tree.path)
            assert code == common.FAILED and "2 commits to look at; the series fits\n" in out
        commit(subject, name, text)
    code, out, _ = run(capsys, "track", tree.path)
    assert code == common.FAILED
    assert [line.split(" ", 1)[1] for line in out.splitlines()[:4]] == [
        "eal: change interrupts", "bus/pci: a comment", "bus/pci: rewrite",
        "bus/pci: rewrite again"]
    assert f"not fit since {git(tree.path, 'log', '-1', '--format=%h %s', 'HEAD^')}:" in out
    assert f"{dpdk_tree.COMMON}.fix.diff does not fit {dpdk_tree.COMMON} in DPDK" in out
    for since in ("nowhere", "HEAD"):
        with pytest.raises(common.Usage, match=f"--since {since}: "):
            series.main(["track", str(tree.path), "--since", since])


def test_status_exit_codes(make_tree, payload, capsys):
    tree = make_tree()
    assert run(capsys, "status", tree.path)[0] == common.FAILED
    apply.apply(tree, patchset.read())
    code, out, _ = run(capsys, "status", tree.path)
    assert code == common.PASSED and "fixed" in out and "carries 2 of 2 patches" in out
