# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import os

import pytest
from conftest import write

from uiokit import common
from uiokit.dpdk import variants
from uiokit.series import dpdk_tree, patchset, scratch


@pytest.fixture
def build(make_tree, payload, monkeypatch):
    """A Build of the small tree; nothing in it compiles, and nothing is compiled here."""
    monkeypatch.setattr(variants, "build_environment", lambda: dict(os.environ))
    return variants.Build(make_tree(files={"lib/a.c": "int a;\n"}))


def prepare(build, patches):
    build.prepare(build.tree.fingerprint(),
                  scratch.patched_files(build.tree, patchset.read(patches)))


def prepared(build, name):
    return (build.source / name).read_text()


def test_prepared_tree_follows_from_variant_to_variant(build):
    prepare(build, ["test"])
    assert "attach" not in prepared(build, dpdk_tree.COMMON)
    prepare(build, ["fix", "test"])
    assert "attach" in prepared(build, dpdk_tree.COMMON)
    prepare(build, ["fix"])
    assert not (build.source / "app/test/test_it.c").exists()
    prepare(build, ["test"])
    assert "attach" not in prepared(build, dpdk_tree.COMMON)


def test_a_file_put_back_is_newer_than_what_was_built_from_it(build):
    origin = build.tree.path / dpdk_tree.COMMON
    os.utime(origin, (1, 1))
    prepare(build, ["fix"])
    prepare(build, ["test"])
    assert (build.source / dpdk_tree.COMMON).stat().st_mtime > 1


def test_untouched_files_keep_their_time(build):
    prepare(build, ["test"])
    before = (build.source / "lib/a.c").stat().st_mtime_ns
    prepare(build, ["fix", "test"])
    assert (build.source / "lib/a.c").stat().st_mtime_ns == before


def test_an_edited_base_is_noticed(build):
    prepare(build, ["fix"])
    write(build.tree.path, {"lib/a.c": "int b;\n", "lib/new.c": ""})
    prepare(build, ["fix"])
    assert prepared(build, "lib/a.c") == "int b;\n" and prepared(build, "lib/new.c") == ""
    (build.tree.path / "lib/new.c").unlink()
    prepare(build, ["fix"])
    assert not (build.source / "lib/new.c").exists()


def test_a_tampered_prepared_tree_is_put_right(build):
    prepare(build, ["fix"])
    write(build.source, {dpdk_tree.COMMON: "tampered\n"})
    prepare(build, ["fix"])
    assert "tampered" not in prepared(build, dpdk_tree.COMMON)


def test_an_interrupted_preparation_is_put_right(build, monkeypatch):
    prepare(build, ["test"])
    real = common.replace_file

    def interrupted(path, data, mode=None):
        changed = real(path, data, mode)
        if str(path).endswith("pci_common_uio.c"):
            raise KeyboardInterrupt
        return changed

    monkeypatch.setattr(common, "replace_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(build, ["fix", "test"])
    monkeypatch.setattr(common, "replace_file", real)
    prepare(build, ["test"])
    assert "attach" not in prepared(build, dpdk_tree.COMMON)


def test_stock_library_of_another_base_is_stale(build):
    fingerprint = build.tree.fingerprint()
    write(build.root / "stock", {"stamp": build.stock_key(fingerprint)})
    assert build.stock_is_current(fingerprint)
    write(build.tree.path, {"lib/a.c": "int changed;\n"})
    assert not build.stock_is_current(build.tree.fingerprint())


@pytest.mark.parametrize("stock, patched, held", [
    ({"drivers/librte_bus_pci.so.23": "a"}, {"drivers/librte_bus_pci.so.23": "b"}, True),
    ({"drivers/librte_bus_pci.so.23": "a"}, {"drivers/librte_bus_pci.so.23": "a"}, False),
    ({"drivers/librte_bus_pci.so.23": "a", "lib/x.so": "a"},
     {"drivers/librte_bus_pci.so.23": "b", "lib/x.so": "b"}, False)])
def test_variants_must_differ_in_the_bus_driver_alone(build, tmp_path, stock, patched, held):
    write(tmp_path / "s", stock)
    write(tmp_path / "p", patched)
    folders = {variants.STOCK: tmp_path / "s", variants.PATCHED: tmp_path / "p"}
    if held:
        build.differ_in_one_file(folders)
    else:
        with pytest.raises(common.Infrastructure, match="bus driver alone"):
            build.differ_in_one_file(folders)
