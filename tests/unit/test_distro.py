# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import os
import shutil
import sys

import pytest
from conftest import write

from uiokit import common, distro

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


def test_a_key_inside_a_source_is_kept(tmp_path):
    key = "Signed-By:\n -----BEGIN PGP-----\n .\n abc\n -----END PGP-----"
    write(tmp_path, {"sources.list.d/a.sources": DEB822.split("\n\n")[0].replace(
        "Signed-By: /usr/share/keyrings/debian.gpg", key)})
    assert " abc\n -----END" in distro.machine_sources(tmp_path, "bookworm")


def test_a_disabled_source_is_left_out(tmp_path):
    write(tmp_path, {"a.sources": DEB822.replace("Types: deb\n", "Types: deb\nEnabled: no\n")})
    assert distro.machine_sources(tmp_path, "bookworm") == ""


def test_missing_program_without_root_names_the_command(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name, **_: name == "apt-get" or None)
    with pytest.raises(common.Infrastructure) as caught:
        distro.need({"meson": "meson", "ninja": "ninja-build"})
    assert "sudo apt-get install -y --no-install-recommends meson ninja-build" \
        in str(caught.value)


def test_missing_program_elsewhere_names_the_package(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, **_: None)
    with pytest.raises(common.Infrastructure, match="not Debian or Ubuntu.*ninja-build"):
        distro.need({"ninja": "ninja-build"})


def test_nothing_missing_installs_nothing(monkeypatch):
    monkeypatch.setattr(distro, "install", None)
    distro.need({"sh": "dash", "/bin/sh": "dash"})


def test_python_module_is_found_among_the_distribution_s(tmp_path, monkeypatch):
    write(tmp_path, {"of_the_distribution.py": "value = 1\n"})
    monkeypatch.setattr(distro, "_PYTHON_MODULES", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(distro, "install", None)
    assert distro.python_module("of_the_distribution", "python3-of").value == 1


def test_missing_python_module_is_installed(tmp_path, monkeypatch):
    def install(packages, why):
        assert packages == ["python3-of"] and "installed_now" in why
        write(tmp_path, {"installed_now/part.py": "value = 2\n"})

    monkeypatch.setattr(distro, "_PYTHON_MODULES", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(distro, "install", install)
    assert distro.python_module("installed_now.part", "python3-of").value == 2
    with pytest.raises(common.Infrastructure, match="no_such_module"):
        monkeypatch.setattr(distro, "install", lambda *_: None)
        distro.python_module("no_such_module", "python3-of")
