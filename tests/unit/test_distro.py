# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import concurrent.futures
import os
import pathlib
import re
import shutil
import sys
import time

import pytest
from conftest import write
from test_common import ended

from uiokit import arch, common, distro, process
from uiokit.cli import arguments
from uiokit.dpdk import source, variants
from uiokit.lab import qemu

DEB822 = """\
# a comment
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://vendor.example/apt
Suites: nodistro
Components: main
"""

ONE_LINE = """\
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/security bookworm-security main contrib
deb-src http://mirror.example/debian bookworm main
deb http://vendor.example/apt bookworm stable
# deb http://mirror.example/old bookworm main
"""


def test_sources_of_the_distribution_get_source_packages(tmp_path):
    write(tmp_path, {"sources.list": ONE_LINE, "sources.list.d/debian.sources": DEB822})
    stanzas = distro.machine_sources(tmp_path, "bookworm").strip().split("\n\n")
    assert len(stanzas) == 2 and all("Types: deb deb-src" in stanza for stanza in stanzas)
    assert "Suites: bookworm bookworm-updates" in stanzas[0]
    assert "Architectures: amd64" in stanzas[1] and "Signed-By: /k.gpg" in stanzas[1]


@pytest.mark.parametrize("suite, suites", [
    ("bookworm", "bookworm bookworm-updates"),
    ("bookworm-backports", "bookworm bookworm-updates bookworm-backports"),
    ("trixie", "trixie trixie-updates")])
def test_another_suite_comes_from_the_same_mirrors_and_keys(tmp_path, suite, suites):
    write(tmp_path, {"sources.list": ONE_LINE, "sources.list.d/debian.sources": DEB822})
    stanzas = distro.machine_sources(tmp_path, "bookworm", suite).strip().split("\n\n")
    assert f"Suites: {suites}\n" in stanzas[0] and "Signed-By: /usr/share" in stanzas[0]
    assert f"Suites: {suites.split()[0]}-security\n" in stanzas[1]


def test_the_qemu_of_a_suite_runs_with_what_came_with_it(tmp_path, monkeypatch):
    guest, wanted = arch.AMD64, []
    write(tmp_path, {f"usr/bin/{guest.qemu}": '#!/bin/sh\necho "$LD_LIBRARY_PATH $@"\n',
                     "usr/lib/x86_64-linux-gnu/libx.so": ""})
    (tmp_path / "usr/bin" / guest.qemu).chmod(0o755)
    monkeypatch.setattr(distro, "depending", lambda names, _pattern, suite: names)
    monkeypatch.setattr(distro, "unpacked", lambda *args: wanted.append(args) or tmp_path)
    program = qemu.obtain("trixie", guest)
    assert wanted == [("qemu-trixie", [guest.qemu_package], "trixie")]
    shown = process.run([program, "-version"]).stdout
    assert shown.startswith(f"{tmp_path}/usr/lib/x86_64-linux-gnu:{tmp_path}/lib/")
    assert shown.endswith(f" -L {tmp_path}/usr/share/seabios -version\n")
    assert qemu.obtain("/usr/bin/mine", guest) == "/usr/bin/mine"


def test_packages_and_what_they_need_are_unpacked_once(tmp_path, monkeypatch):
    depends = {"prog": "  Depends: liba1\n |Depends: libb\n  Depends: libc6\n", "liba1": ""}
    fetched = []
    monkeypatch.setattr(distro, "apt_cache", lambda _what, _important, *names, **_: "".join(
        depends.get(name, "  PreDepends: liba1\n") for name in names))
    monkeypatch.setattr(distro, "apt_get", lambda _what, *names, cwd, suite, guest: fetched.append(
        (names, suite)))
    for _ in range(2):
        packages = distro.depending(["prog"], "lib[ab].*", "trixie")
        folder = distro.unpacked("prog", packages, "trixie")
    assert fetched == [(("liba1", "libb", "prog"), "trixie")] and folder.is_dir()
    # With other files wanted, what was unpacked is not enough.
    distro.unpacked("prog", ["prog"], "trixie", re.compile("x"))
    assert len(fetched) == 2


@pytest.mark.parametrize("name, of, by, kept", [
    ("a.sources", "/usr/share/keyrings/debian.gpg", "\n -----BEGIN PGP-----\n .\n abc\n",
     "-----\n .\n abc"),
    ("a.sources", "Types: deb\n", "Types: deb\nEnabled: no\n", ""),
    ("sources.list.d/a.sources", "Types: deb", "X: \udcff\nTypes: deb", "Types: deb deb-src"),
    ("sources.list.d/a.list", DEB822, "deb \udcff bookworm main\n", "Types: deb deb-src")],
    ids=["key in it", "disabled", "not UTF-8", "not UTF-8 either"])
def test_a_source_is_kept_as_it_is_or_left_out(tmp_path, name, of, by, kept):
    (tmp_path / "sources.list.d").mkdir()
    text = DEB822.replace(of, by, 1).split("\n\n")[0] + "\n"
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    found = distro.machine_sources(tmp_path, "bookworm")
    assert kept in found and bool(found) == bool(kept)


@pytest.mark.parametrize("there, said", [
    (["apt-get"], "sudo apt-get install -y --no-install-recommends meson ninja-build"),
    ([], "not Debian or Ubuntu.*meson ninja-build")])
def test_a_missing_program_names_the_command_or_the_package(monkeypatch, there, said):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name, **_: name in there or None)
    with pytest.raises(common.Infrastructure, match=said):
        distro.need({"meson": "meson", "ninja": "ninja-build"})


def test_nothing_missing_installs_nothing(monkeypatch):
    monkeypatch.setattr(distro, "install", None)
    distro.need({"sh": "dash", "/bin/sh": "dash"})


def test_a_python_module_is_found_among_the_distribution_s_or_installed(tmp_path, monkeypatch):
    def install(packages, why):
        assert packages == ["python3-of"] and "installed_now" in why
        write(tmp_path, {"installed_now/part.py": "value = 2\n"})

    write(tmp_path, {"of_the_distribution.py": "value = 1\n"})
    monkeypatch.setattr(distro, "_PYTHON_MODULES", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(distro, "install", install)
    assert distro.python_module("of_the_distribution", "python3-of").value == 1
    assert distro.python_module("installed_now.part", "python3-of").value == 2
    with pytest.raises(common.Infrastructure, match="no_such_module"):
        monkeypatch.setattr(distro, "install", lambda *_: None)
        distro.python_module("no_such_module", "python3-of")


@pytest.fixture
def apt_get(tmp_path, monkeypatch):
    """An apt-get that does what a test says; returns a function that sets it."""
    def set_to(script):
        path = tmp_path / "bin/apt-get"
        write(tmp_path, {"bin/apt-get": f"#!/bin/sh\ncd {tmp_path}\n{script}\n"})
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return set_to


@pytest.mark.parametrize("suite, guest, preferred", [
    ("bookworm-backports", arch.AMD64, 'APT::Default-Release "bookworm-backports";'),
    ("trixie", arch.ARM64, 'APT::Architecture "arm64";')])
def test_apt_takes_what_a_suite_and_an_architecture_have(
        apt_get, monkeypatch, suite, guest, preferred):
    sources = "Architectures: amd64\nSuites: x\n"
    monkeypatch.setattr(distro, "machine_sources", lambda suite: sources)
    monkeypatch.setattr(arch.platform, "machine", lambda: "x86_64")
    apt_get('[ "$1" = update ] || cat "$APT_CONFIG" "${APT_CONFIG%/*}"/sources.list.d/*')
    shown = distro.apt_get("download", "x", suite=suite, guest=guest).splitlines()
    assert preferred in shown and ("Architectures: amd64" in shown) == (guest is arch.AMD64)


def test_old_package_lists_are_used_and_said_so(apt_get, monkeypatch, capsys):
    monkeypatch.setattr(distro, "machine_sources", lambda suite: "Suites: x\n")
    apt_get('[ "$1" != update ] || { echo "E: x Failed to fetch" >&2; exit 100; }')
    with pytest.raises(common.Infrastructure, match="cannot fetch package lists:\nE: x Failed"):
        distro.apt_get("download", "x")
    write(common.build_dir("apt/state/lists"), {"x_Sources": ""})
    distro.apt_get("download", "x")
    assert "E: x Failed to fetch; using the old ones" in capsys.readouterr().err


def test_what_will_be_installed_is_said_first(apt_get, tmp_path, capsys):
    apt_get('echo "$@" >>said')
    distro.need({"no-such-program": "a-package"})
    said = capsys.readouterr().err.splitlines()[0]
    assert "no-such-program" in said and "installing a-package" in said and "--no-install" in said
    assert "install -y --no-install-recommends a-package" in (tmp_path / "said").read_text()


def test_no_install_names_the_command_and_does_not_run_it(apt_get, tmp_path, monkeypatch):
    monkeypatch.setenv("UIO_NO_INSTALL", "")
    apt_get("touch ran")
    parser = arguments.parser("", "")
    arguments.add_dpdk(parser)
    parser.parse_args(["--no-install"])
    with pytest.raises(common.Infrastructure) as caught:
        distro.need({"no-such-program": "a-package"})
    assert "run: apt-get update && apt-get install -y --no-install-recommends a-package" \
        in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_an_interrupted_install_goes_on_to_its_end(apt_get, tmp_path, capsys):
    apt_get("kill -INT $PPID; sleep 0.3; touch installed")
    assert ended(lambda _argv: distro.install(["a-package"], "missing: it")) == common.INTERRUPTED
    assert (tmp_path / "installed").exists()
    assert "waiting for the package manager" in capsys.readouterr().err


@pytest.fixture
def fetched(make_tree, monkeypatch):
    """A stand-in for apt-get and dpkg-source; returns the list of what was fetched."""
    def download(*args, cwd):
        time.sleep(0.2)
        fetched.append(args)
        write(pathlib.Path(cwd), {"dpdk_22.11.11-1.dsc": ""})

    fetched, tree = [], make_tree().path
    monkeypatch.setattr(distro, "apt_get", download)
    monkeypatch.setattr(distro, "need", lambda _programs: None)
    monkeypatch.setattr(source.process, "run",
                        lambda argv, cwd: shutil.copytree(tree, argv[-1]))
    return fetched


def test_a_cached_source_is_said_to_be_one(fetched, capsys):
    folder = source.get().path
    assert folder.name == "dpdk-22.11.11-1" and "--refresh" not in capsys.readouterr().err
    os.utime(folder, (time.time() - 3 * 86400,) * 2)
    assert source.get().path == folder and len(fetched) == 1
    said = capsys.readouterr().err
    assert "DPDK 22.11.11 (" in said and "fetched 3 days ago; --refresh to fetch again" in said


def test_refresh_fetches_the_source_and_the_lists_again(fetched):
    folder = source.get().path
    os.utime(folder, (1, 1))
    (common.build_dir("apt") / "updated").touch()
    source.get(refresh=True)
    assert len(fetched) == 2 and folder.stat().st_mtime > 1
    assert not (common.build_dir("apt") / "updated").exists()


def test_two_commands_at_once_fetch_the_source_once(fetched):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first, second = (pool.submit(source.get) for _ in range(2))
    assert first.result().path == second.result().path and len(fetched) == 1


def test_a_source_package_without_description_is_no_traceback(fetched, monkeypatch):
    monkeypatch.setattr(distro, "apt_get", lambda *_, **__: None)
    with pytest.raises(common.Infrastructure, match="expected one .dsc file"):
        source.get()


def test_a_given_tree_needs_nothing_of_debian(make_tree, monkeypatch):
    monkeypatch.setattr(distro, "need", None)
    assert source.get(make_tree().path).text == "22.11.11"
    assert not set(source.NEED) & set(variants.NEED)
