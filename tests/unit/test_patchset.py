# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import pytest
from conftest import FIX, write

from uiokit import common
from uiokit.series import dpdk_tree, patchset, scratch


def patched(tree):
    return scratch.patched_files(tree, patchset.read())


@pytest.mark.parametrize("version, wins", [
    ("22.11.6", "oldest"), ("23.11.2", "23.11"), ("24.03.0", "23.11"), ("25.11.0", "25.11")])
def test_newest_variant_not_newer_than_the_tree_wins(make_tree, payload, version, wins):
    for base in ("23.11", "25.11"):
        write(payload, {f"{dpdk_tree.COMMON}.fix.{base}.diff":
                        FIX.replace("attach_secondary", f"attach_{base}")})
    patch = patchset.read(["fix"])[0]
    chosen = patch.diffs(make_tree(version))[dpdk_tree.COMMON].name
    assert chosen == f"pci_common_uio.c.fix{'' if wins == 'oldest' else '.' + wins}.diff"


def test_file_without_a_variant_that_old_is_left_alone(make_tree, payload):
    (payload / f"{dpdk_tree.COMMON}.fix.diff").rename(
        payload / f"{dpdk_tree.COMMON}.fix.24.07.diff")
    assert sorted(patched(make_tree("22.11.6"))) == ["app/test/test_it.c"]


def test_release_notes_are_written_for_their_release_only(make_tree, payload):
    write(payload, {"doc/guides/rel_notes/release_26_11.rst.test.26.11.diff": "whatever"})
    patch = patchset.read(["test"])[0]
    assert patch.diffs(make_tree("26.11.0-rc0")) and not patch.diffs(make_tree("27.03.0"))


def test_misfit_names_diff_line_base_and_next_step(make_tree, payload):
    second = "@@ -18,1 +21,2 @@ pci_uio_map_resource(struct dev *dev)\n gone\n+x\n"
    write(payload, {f"{dpdk_tree.COMMON}.fix.diff": FIX + second})
    with pytest.raises(common.CheckFailed) as caught:
        patched(make_tree())
    for part in (f"{dpdk_tree.COMMON}.fix.diff", f"patch failed: {dpdk_tree.COMMON}:18",
                 "DPDK 22.11.11", "variant"):
        assert part in str(caught.value)


def test_hunk_that_lands_in_another_function_is_refused(make_tree, payload):
    text = FIX.replace("pci_uio_map_resource(struct dev *dev)", "pci_uio_unmap(struct dev *dev)")
    write(payload, {f"{dpdk_tree.COMMON}.fix.diff": text})
    with pytest.raises(common.CheckFailed, match="lands in another function"):
        patched(make_tree())


def test_new_file_that_exists_already_is_refused(make_tree, payload):
    with pytest.raises(common.CheckFailed, match="already exists"):
        patched(make_tree(files={"app/test/test_it.c": "int y;\n"}))


def order(payload, *lines):
    write(payload, {"series/order": "\n".join(lines) + "\n"})


def names(patches):
    return [patch.name for patch in patches]


def test_a_topic_brings_what_it_needs_and_nothing_else(payload):
    for name in ("base", "top"):
        write(payload, {f"series/{name}.msg": f"bus/pci: {name} it\n"})
    order(payload, "fixes base", "fixes fix needs=base", "fixes test", "rfc top needs=fix")
    assert names(patchset.read(["top"])) == ["base", "fix", "top"]
    assert names(patchset.read(["test"])) == ["test"]
    assert names(patchset.read([])) == []
    assert [patch.kind for patch in patchset.read()] == ["fixes", "fixes", "fixes", "rfc"]


def test_cases_of_a_patch_bring_the_fix():
    # A secondary of any case stops DMA without it.
    for patch in patchset.read():
        if patch.name.startswith("test-") and patch.needs:
            assert "uio-secondary" in names(patchset.read([patch.name])), patch.name


@pytest.mark.parametrize("lines, said", [
    (["fixes fix needs=nope", "fixes test"], "fix needs nope"),
    (["fixes fix needs=test", "fixes test"], "fix needs test"),
    (["other fix", "fixes test"], "other fix: the first word is not one of fixes, rfc"),
    (["fix", "fixes test"], "fix: no set and topic")])
def test_an_order_that_cannot_be_is_refused(payload, lines, said):
    order(payload, *lines)
    with pytest.raises(common.Usage, match=said):
        patchset.read()


def test_unknown_topic_is_a_usage_error(payload):
    with pytest.raises(common.Usage, match="no such patch: nope"):
        patchset.read(["nope"])


def test_without_a_topic_what_needs_it_is_left_out_as_well():
    left_out = {patch.name for patch in patchset.read()} - {
        patch.name for patch in patchset.without(patchset.read(), "uio-claim")}
    assert left_out == {"uio-claim", "test-uio-claim", "uio-share", "test-uio-share",
                        "uio-telemetry"}
    with pytest.raises(common.Usage, match="no such patch: nope"):
        patchset.without(patchset.read(), "nope")
