# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import os
import signal
import subprocess

import pytest
from conftest import write

from uiokit import arch, common, process
from uiokit.dpdk import partial, variants
from uiokit.series import dpdk_tree, patchset, scratch


@pytest.fixture
def build(make_tree, payload, monkeypatch):
    """A Build of the small tree; nothing in it compiles, and nothing is compiled here."""
    monkeypatch.setattr(variants, "build_environment", lambda: dict(os.environ))
    return variants.Build(make_tree(files={"lib/a.c": "int a;\n"}))


def prepare(build, patches):
    build.prepare(scratch.patched_files(build.tree, patchset.read(patches)))


def prepared(build, name):
    return (build.source / name).read_text()


def test_prepared_tree_follows_from_variant_to_variant(build):
    os.utime(build.tree.path / dpdk_tree.COMMON, (1, 1))
    prepare(build, ["test"])
    untouched = (build.source / "lib/a.c").stat().st_mtime_ns
    assert "attach" not in prepared(build, dpdk_tree.COMMON)
    prepare(build, ["fix", "test"])
    assert "attach" in prepared(build, dpdk_tree.COMMON)
    prepare(build, ["fix"])
    assert not (build.source / "app/test/test_it.c").exists()
    prepare(build, ["test"])
    assert "attach" not in prepared(build, dpdk_tree.COMMON)
    # What is put back is newer than what was built from it; the rest keeps its time.
    assert (build.source / dpdk_tree.COMMON).stat().st_mtime > 1
    assert (build.source / "lib/a.c").stat().st_mtime_ns == untouched


def test_an_edited_base_is_noticed(build):
    prepare(build, ["fix"])
    write(build.tree.path, {"lib/a.c": "int b;\n", "lib/new.c": ""})
    prepare(build, ["fix"])
    assert prepared(build, "lib/a.c") == "int b;\n" and prepared(build, "lib/new.c") == ""
    (build.tree.path / "lib/new.c").unlink()
    prepare(build, ["fix"])
    assert not (build.source / "lib/new.c").exists()


def test_a_tampered_or_interrupted_preparation_is_put_right(build, monkeypatch):
    def interrupted(path, data, mode=None):
        changed = real(path, data, mode)
        if str(path).endswith("pci_common_uio.c"):
            raise KeyboardInterrupt
        return changed

    prepare(build, ["test"])
    real = common.replace_file
    monkeypatch.setattr(common, "replace_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(build, ["fix", "test"])
    monkeypatch.setattr(common, "replace_file", real)
    prepare(build, ["test"])
    assert "attach" not in prepared(build, dpdk_tree.COMMON)
    write(build.source, {dpdk_tree.COMMON: "tampered\n"})
    prepare(build, ["fix"])
    assert "tampered" not in prepared(build, dpdk_tree.COMMON)
    # A record that is no JSON counts as none.
    write(build.root, {"prepared.json": "{"})
    prepare(build, ["test"])
    assert "attach" not in prepared(build, dpdk_tree.COMMON)


def test_untracked_files_of_a_checkout_are_named(build, make_tree, capsys):
    build = variants.Build(make_tree(is_git=True))
    write(build.tree.path, {"lib/new.c": ""})
    prepare(build, ["fix"])
    assert "1 untracked files are left out, such as lib/new.c" in capsys.readouterr().err
    assert not (build.source / "lib/new.c").exists()


NINJA = """\
rule c_COMPILER
  command = cc -I../tree/lib/eal -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule c_LIBRARY
  command = cc -shared -Wl,-soname,$$(basename $out) $in -o $out
rule c_LINKER
  command = cc $in lib/librte_eal.so.1 lib/librte_acl.so.1 -Wl,-rpath,$$ORIGIN/../lib -o $out
rule generate
  command = touch build.ninja
  generator = 1
build build.ninja: generate
"""
SOURCES = {
    "test.c": "#include <rte_eal.h>\nint test_a(void), other(void);\nint main(int argc)\n{\n"
              "\treturn test_a() + rte_eal_init() + (argc > 1 ? other() : 0);\n}\n",
    "commands.c": "int commands;\n",
    "test_a.c": "int helper(void);\nint\ntest_a(void)\n{\n\treturn helper();\n}\n",
    "helper.c": "int\nhelper(void)\n{\n\treturn 0;\n}\n",
    "other.c": "static int\nhelper(void)\n{\n\treturn 1;\n}\n"
               "int\nother(void)\n{\n\treturn helper();\n}\n"}


@pytest.fixture
def objects(tmp_path):
    """A build directory as meson makes one for dpdk-test, with two libraries; nothing is built."""
    write(tmp_path / "tree/app/test", SOURCES)
    write(tmp_path / "tree/lib", {"eal/rte_eal.h": "int rte_eal_init(void);\n", "acl/acl.c": "",
                                  "eal/eal.c": "int rte_eal_init(void) { return 0; }\n",
                                  "eal/version.map": "DPDK_23 {\n\trte_eal_init;\n};\n"})
    text, made = NINJA, []
    for name in (name for name in SOURCES if name.endswith(".c")):
        made.append(f"app/test/{name}.o")
        text += f"build {made[-1]}: c_COMPILER ../tree/app/test/{name}\n"
    for name in ("eal", "acl"):
        text += f"build lib/librte_{name}.so.1: c_LIBRARY ../tree/lib/{name}/{name}.c\n"
    text += f"build app/dpdk-test: c_LINKER {' '.join(made)} | lib/librte_eal.so.1 " \
        "lib/librte_acl.so.1\n"
    write(tmp_path / "objects", {"build.ninja": text})
    return tmp_path / "objects"


def ninja_in(objects):
    return lambda targets: process.run(["ninja", "-C", objects, *targets])


def test_the_part_of_dpdk_test_that_the_tests_need(objects, monkeypatch):
    monkeypatch.setenv("CC", "env cc")  # Such as `ccache gcc`.
    assert partial.build(objects, ninja_in(objects), ["test_a.c", "test_not_in_this_one.c"],
                         arch.native().compiler)
    subprocess.run(["app/dpdk-test"], cwd=objects, check=True)
    other = subprocess.run(["app/dpdk-test", "other"], cwd=objects)
    assert other.returncode == -signal.SIGABRT
    assert not (objects / "app/test/other.c.o").exists()
    assert not (objects / "lib/librte_acl.so.1").exists()
    # The whole is added to it.
    done = ninja_in(objects)([]).stdout
    assert "-c ../tree/app/test/test.c" not in done and "other.c.o" in done
    symbols = subprocess.run(["nm", objects / "app/dpdk-test"], capture_output=True, text=True)
    assert "T other" in symbols.stdout


@pytest.mark.parametrize("name, found, by", [
    ("objects/build.ninja", "test/commands.c\n", "test/other.c\n"),
    ("objects/build.ninja", "dpdk-test:", "dpdk-tests:"),
    # A definition in another style than DPDK's is not found.
    ("tree/app/test/helper.c", "int\nhelper(", "int helper(")])
def test_a_dpdk_test_that_is_built_in_another_way_is_not_built_in_part(objects, name, found, by):
    text = (objects.parent / name).read_text()
    assert found in text
    write(objects.parent, {name: text.replace(found, by)})
    assert not partial.build(objects, ninja_in(objects), ["test_a.c"], ["cc"])


@pytest.mark.parametrize("whole, can_part, ran", [
    (False, True, ["meson"]), (False, False, ["meson", "ninja"]), (True, True, ["meson", "ninja"])])
def test_all_is_built_when_asked_or_if_a_part_cannot(build, monkeypatch, whole, can_part, ran):
    def run(argv, **_keywords):
        if argv[0] == "meson":
            build.objects.mkdir(exist_ok=True)
        programs.append(argv[0])

    programs = []
    monkeypatch.setattr(variants.process, "run", run)
    monkeypatch.setattr(partial, "build", lambda *_: can_part)
    build.make("stock", build.root / "log", whole)
    assert programs == ran


def test_the_libraries_that_dpdk_test_needs_are_laid_out(build, objects):
    ninja_in(objects)([])
    partial.build(objects, ninja_in(objects), ["test_a.c"], arch.native().compiler)
    eal = objects / "lib/librte_eal.so.1"
    eal.rename(f"{eal}.0")
    eal.symlink_to(f"{eal.name}.0")
    # The build directory may be a symbolic link.
    build.objects = objects.with_name("link")
    build.objects.symlink_to(objects)
    write(build.root / "stock", {f"{variants.LIBRARY}.1": "stock"})
    folder = build.lay_out("stock")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) \
        == ["app/dpdk-test", f"drivers/{variants.LIBRARY}.1", "lib/librte_eal.so.1",
            "lib/librte_eal.so.1.0"]


def test_a_fixed_tree_gets_only_the_tests_of_what_it_has(build, payload):
    write(payload, {"series/order": "fixes fix\nfixes test app/test/test_it.c\n"
                                    "rfc more needs=test,fix app/test/more.c\n",
                    "series/more.msg": "test/pci: test more\n\nWhy.\n", "app/test/more.c": ""})
    build.patches = patchset.read()
    assert [patch.name for patch in build.tests(True)] == ["test", "more"]
    assert [patch.name for patch in build.tests(False)] == ["test"]


def test_a_bus_driver_of_another_source_is_stale(build, monkeypatch):
    monkeypatch.setattr(build, "make", lambda *_: None)
    overlay = {"drivers/bus/pci/a.c": b"1", "app/test/a.c": b"1"}
    build.build("some", overlay)
    assert build.is_current("some", {**overlay, "app/test/a.c": b"2"})
    (build.root / "some").rename(build.root / "away")
    assert not build.is_current("some", overlay)
    (build.root / "away").rename(build.root / "some")
    assert not build.is_current("some", {**overlay, "drivers/bus/pci/a.c": b"2"})
    write(build.tree.path, {"lib/a.c": "int changed;\n"})
    assert not build.is_current("some", overlay)
    monkeypatch.setattr(build, "make", lambda *_: write(
        build.tree.path, {"lib/a.c": "int changed_while_it_is_built;\n"}))
    build.build("some", overlay)
    assert not build.is_current("some", overlay)


def test_a_bus_driver_whose_build_was_interrupted_is_stale(build, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "make", lambda *_: None)
    build.build("some", {})
    monkeypatch.setattr(build, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.build("some", {"drivers/bus/pci/a.c": b"1"})
    assert not build.is_current("some", {})


def test_only_what_is_stale_is_built(build, monkeypatch):
    def make(variant, *_):
        write(build.objects, {f"drivers/{variants.LIBRARY}": variant})
        made.append(variant)

    made = []
    monkeypatch.setattr(build, "make", make)
    monkeypatch.setattr(build, "lay_out", lambda variant: variant)
    build.patched = {"without-more": patchset.read(["test"]), **build.patched}
    for expected in (["stock", "without-more", "patched"], ["patched"]):
        build.variants()
        assert made == expected
        made.clear()


def test_variants_must_have_different_bus_drivers(build, monkeypatch):
    texts = {variants.STOCK: "a", variants.PATCHED: "b"}
    monkeypatch.setattr(build, "build", lambda variant, _overlay: write(
        build.root / variant, {variants.LIBRARY: texts[variant]}))
    monkeypatch.setattr(build, "lay_out", lambda variant: variant)
    assert list(build.variants()) == [variants.STOCK, variants.PATCHED]
    texts[variants.PATCHED] = "a"
    with pytest.raises(common.Infrastructure, match="stock and patched have the same bus driver"):
        build.variants()
