# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import pytest
from conftest import COMMON, LINUX, PLAIN_LINUX, SPDK_LINUX, git

from uiokit import common
from uiokit.series import dpdk_tree


GUARD = "\tif (rte_eal_process_type() != RTE_PROC_PRIMARY)\n"


def diagnose(common=COMMON, linux=LINUX):
    files = {dpdk_tree.COMMON: common, dpdk_tree.LINUX: linux}
    return dpdk_tree.diagnose(files.__getitem__)


def moved_up(name):
    """The test of the process type before the allocation, as before the bug and after the fix."""
    common = COMMON.replace(f"{GUARD}\t\treturn pci_uio_map_secondary(dev);\n", "")
    return common.replace("\tret =", f"{GUARD}\t\treturn {name}(dev);\n\tret =")


def before_open(code):
    return LINUX.replace("\tfd =", f"{code}\tfd =")


@pytest.mark.parametrize("common, linux, state", [
    (COMMON, LINUX, "affected"),
    (moved_up("pci_uio_map_secondary"), LINUX, "not-affected"),
    (moved_up("pci_uio_attach_secondary"), LINUX, "fixed"),
    (COMMON, before_open(f"{GUARD}\t\treturn 0;\n"), "fixed"),
    (COMMON, SPDK_LINUX, "fixed by SPDK's change"),
    (COMMON, PLAIN_LINUX, "affected"),
    (COMMON, before_open("\tif (rte_eal_process_type() == RTE_PROC_SECONDARY)\n\t\tnote();\n"),
     "affected"),
    (COMMON, before_open("\t/* rte_eal_process_type() */\n"), "affected")])
def test_the_code_decides_whether_a_tree_has_the_bug(common, linux, state):
    assert diagnose(common, linux)[0] == state


def test_the_evidence_names_the_lines():
    assert f"{dpdk_tree.COMMON}:11 " in diagnose()[1] and f"{dpdk_tree.LINUX}:5 " in diagnose()[1]
    evidence = diagnose(linux=SPDK_LINUX)[1]
    assert f"{dpdk_tree.LINUX}:6:" in evidence and "line 13" in evidence


def test_code_that_has_moved_gives_no_diagnosis():
    with pytest.raises(common.Infrastructure, match="unknown.*newer than this project"):
        diagnose(COMMON.replace("pci_uio_alloc_resource(dev", "pci_uio_other(dev"))
    with pytest.raises(common.Infrastructure, match="unknown"):
        diagnose(linux=LINUX.replace("devname", "name"))


def test_folder_that_is_no_dpdk(make_tree, tmp_path):
    with pytest.raises(common.Usage, match="not a DPDK source tree"):
        dpdk_tree.Tree(tmp_path, part=True)
    with pytest.raises(common.Usage, match="no such folder"):
        dpdk_tree.Tree(tmp_path / "nowhere")
    copy = make_tree().path
    (copy / "VERSION").unlink()
    with pytest.raises(common.Usage, match="not a DPDK source tree"):
        dpdk_tree.Tree(copy)


def test_version_in_another_encoding_gives_one_line(make_tree):
    tree = make_tree()
    (tree.path / "VERSION").write_bytes(b"\xff\xfe24.11\n")
    with pytest.raises(common.Usage, match="VERSION: .* is not a version such as") as caught:
        dpdk_tree.Tree(tree.path)
    assert str(caught.value).isascii() and "\n" not in str(caught.value)


def test_git_further_up_counts_only_if_it_tracks_the_tree(make_tree, tmp_path):
    path = make_tree().path
    git(tmp_path, "init", "-q")
    assert not dpdk_tree.Tree(path).is_git
    git(tmp_path, "add", path.name)
    assert dpdk_tree.Tree(path).is_git


def test_fingerprint_follows_the_source_and_not_a_build_in_it(make_tree):
    tree = make_tree()
    before = tree.fingerprint()
    (tree.path / "build").mkdir()
    (tree.path / "build" / "build.ninja").write_text("")
    assert tree.fingerprint() == before
    (tree.path / "meson.build").write_text("project('DPDK', 'c') #\n")
    assert tree.fingerprint() != before
