# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Installing a DPDK, with a stand-in for meson and ninja."""

import os
import pathlib

import pytest
from conftest import FIX, write

from uiokit import common
from uiokit.cli import dpdk
from uiokit.dpdk import install, source, variants
from uiokit.series import dpdk_tree

LIBS = """\
optional_libs = [
        'kni',
        'power',
        'vhost',
]
"""


@pytest.fixture
def tree(make_tree, payload, monkeypatch):
    """A small tree; `meson install` puts one file where DPDK puts its pkg-config file."""
    def installing(argv, **keywords):
        if argv[0] != "meson":
            return run(argv, **keywords)
        where, = (word.split("=", 1)[1] for word in made.options if word.startswith("--prefix="))
        write(pathlib.Path(keywords["env"]["DESTDIR"] + where),
              {"lib/pkgconfig/libdpdk.pc": "Name: DPDK\n"})
        return None

    class Made(variants.Build):
        def make(self, what, log, whole):
            assert whole
            nonlocal made
            made = self

    made, run = None, install.process.run
    monkeypatch.setattr(variants, "build_environment", lambda: dict(os.environ))
    monkeypatch.setattr(variants, "Build", Made)
    monkeypatch.setattr(install.process, "run", installing)
    return make_tree(files={"meson_options.txt": "", "lib/meson.build": LIBS})


def test_it_is_whole_and_marked(tree, tmp_path):
    assert install.install(tree, "spdk", tmp_path / "a" / "b", variants.PATCHED)
    folder = tmp_path / "a" / "b"
    assert sorted(os.listdir(folder)) == [install.MARK, "lib"]
    assert (folder / "lib/pkgconfig/libdpdk.pc").is_file()
    assert "patched spdk" in (folder / install.MARK).read_text()
    assert not install.install(tree, "spdk", folder, variants.STOCK)
    assert "stock spdk" in (folder / install.MARK).read_text()


@pytest.mark.parametrize("there", [{"theirs": ""}, {"lib/theirs": ""}])
def test_what_is_somebody_s_stays(tree, tmp_path, there):
    write(tmp_path / "a", there)
    with pytest.raises(common.Usage, match="not installed by this command"):
        install.install(tree, "spdk", tmp_path / "a", variants.PATCHED)
    assert [str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*")
            if path.is_file()] == list(there)


def test_stock_with_a_patch_that_the_tree_has_no_place_for(tree, payload, tmp_path):
    (payload / "series/order").write_text("fixes fix\nfixes test app/test/*.c\nfixes later\n")
    (payload / "series/later.msg").write_text("bus/pci: fix newer DPDK\n\nWhy.\n")
    (payload / f"{dpdk_tree.COMMON}.later.26.07.diff").write_text(FIX)
    assert not install.install(tree, "spdk", tmp_path / "a", variants.STOCK)


def test_a_symbolic_link_is_followed(tree, tmp_path):
    (tmp_path / "link").symlink_to("target")
    for _ in range(2):
        install.install(tree, "spdk", tmp_path / "link", variants.PATCHED)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target" / install.MARK).is_file()


@pytest.mark.parametrize("prefix", ["file", "file/below", "loop", "/", "", "/proc", "full"])
def test_a_wrong_prefix_is_found_before_anything_else(tmp_path, monkeypatch, prefix):
    write(tmp_path, {"file": "", "full/theirs": ""})
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "get", None)
    with pytest.raises(common.Usage, match="--prefix"):
        dpdk.main(["install", "--profile", "spdk", "--prefix", prefix])
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(common.Usage, match="not writable"):
        install.checked_prefix(tmp_path / "a")


def test_an_install_that_fails_leaves_the_last_one(tree, tmp_path, monkeypatch):
    def broken(argv, **keywords):
        if argv[0] == "meson":
            raise common.Infrastructure("no")
        return run(argv, **keywords)

    install.install(tree, "spdk", tmp_path / "a", variants.PATCHED)
    run = install.process.run
    monkeypatch.setattr(install.process, "run", broken)
    with pytest.raises(common.Infrastructure):
        install.install(tree, "spdk", tmp_path / "a", variants.STOCK)
    assert "patched spdk" in (tmp_path / "a" / install.MARK).read_text()


def test_libraries_in_the_words_of_the_version(tree):
    assert "-Ddisable_libs=kni" in install.PROFILES["spdk"][1](tree)
    write(tree.path, {"meson_options.txt": "option('enable_libs', type: 'string')\n"})
    assert any(option.startswith("-Denable_libs=") and "vhost" in option
               for option in install.PROFILES["spdk"][1](tree))
    write(tree.path, {"lib/meson.build": ""})
    (tree.path / "meson_options.txt").write_bytes(b"\xff")
    with pytest.raises(common.Usage, match="optional_libs"):
        install.PROFILES["spdk"][1](tree)
