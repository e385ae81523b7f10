# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Rules that hold for every file of this repository."""

import ast
import fnmatch
import functools
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import write

from uiokit import common
from uiokit.series import patchset

# Files in a form of DPDK's, or without a place for a licence line.
NO_SPDX = ("LICENSE", "MAINTAINERS", "*.md", "*.diff", "*.msg", "series/cover*", ".gitignore",
           ".editorconfig", "series/order", "series/tracked")

# What each package of uiokit may import of the others. All may import the modules beside them:
# "" stands for those, which import only each other.
MAY_IMPORT = {
    "": (), "series": (), "lab": (), "bench": (), "dpdk": ("series",),
    "workload": ("dpdk", "lab"), "cli": ("series", "lab", "bench", "dpdk", "workload")}
# Not of the standard library: pyelftools, and a module that lies beside the importing one in the
# guest.
FOREIGN = ("elftools", "workload")


@functools.cache
def files():
    names = subprocess.run(["git", "-C", common.TOP, "ls-files", "--cached", "--others",
                            "--exclude-standard"], check=True, capture_output=True, text=True)
    return [name for name in names.stdout.splitlines() if (common.TOP / name).is_file()]


def matching(patterns):
    return [name for name in files() if any(fnmatch.fnmatch(name, pattern)
                                            for pattern in patterns)]


def test_every_file_names_its_licence():
    exempt = matching(NO_SPDX)
    lacking = [name for name in files() if name not in exempt
               and "SPDX-License-Identifier: BSD-3-Clause"
               not in (common.TOP / name).read_text()[:400]]
    assert lacking == []


def test_maintainers_covers_every_file_and_nothing_else():
    patterns = re.findall(r"(?m)^[FX]: (\S+)$", (common.TOP / "MAINTAINERS").read_text())
    wide = [pattern + "*" if pattern.endswith("/") else pattern for pattern in patterns]
    assert [name for name in files() if not any(fnmatch.fnmatch(name, one) for one in wide)] == []
    assert [one for one in wide if not any(fnmatch.fnmatch(name, one) for name in files())] == []


def imported(path):
    """The modules that a module of uiokit imports, in full: uiokit.common, json and so on."""
    package = path.relative_to(common.TOP / "devtools").with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[:len(package) + 1 - node.level], *(node.module or "").split(".")] \
                if node.level else node.module.split(".")
            yield from (".".join([*filter(None, base), name.name]) for name in node.names)


def wrong_imports(path):
    of = path.relative_to(common.TOP / "devtools/uiokit").parts
    own = of[0] if len(of) > 1 else ""
    for name in imported(path):
        top, *rest = name.split(".")
        if top != "uiokit":
            right = top in sys.stdlib_module_names or top in FOREIGN
        else:
            other = rest[0] if rest and rest[0] in MAY_IMPORT else ""
            right = other in (own, "", *MAY_IMPORT[own])
        if not right:
            yield name


def test_packages_import_downward_only():
    assert {path.name: bad for path in sorted((common.TOP / "devtools/uiokit").rglob("*.py"))
            if (bad := list(wrong_imports(path)))} == {}


@pytest.mark.parametrize("place, text, wrong", [
    ("lab/x.py", "from ..dpdk import source", ["uiokit.dpdk.source"]),
    ("x.py", "from . import lab", ["uiokit.lab"]), ("x.py", "from . import common", []),
    ("cli/x.py", "import fault.verdict", ["fault.verdict"]),
    ("dpdk/x.py", "def f():\n from uiokit.cli import lab", ["uiokit.cli.lab"])])
def test_a_wrong_import_is_found(tmp_path, monkeypatch, place, text, wrong):
    monkeypatch.setattr(common, "TOP", tmp_path)
    write(tmp_path / "devtools/uiokit", {place: text})
    assert list(wrong_imports(tmp_path / "devtools/uiokit" / place)) == wrong


def test_every_link_is_a_command():
    commands = [common.TOP / name for name in files() if (common.TOP / name).is_symlink()]
    launch = common.TOP / "devtools/launch"
    assert len(commands) >= 10
    for command in commands:
        module = launch.parent / "uiokit/cli" if command.parent == launch.parent else command.parent
        assert command.resolve() == launch, command
        assert (module / f"{command.name}.py").is_file(), command
        assert os.access(command, os.X_OK)


def test_a_command_leaves_no_generated_file_in_the_checkout(tmp_path):
    shutil.copytree(common.TOP / "devtools", tmp_path / "devtools", symlinks=True,
                    ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([tmp_path / "devtools/series", "--help"], check=True, capture_output=True,
                   env={name: value for name, value in os.environ.items()
                        if name != "PYTHONDONTWRITEBYTECODE"})
    assert list(tmp_path.rglob("__pycache__")) == []


def test_every_payload_file_belongs_to_one_topic():
    patches = patchset.read()
    owners = {}
    for patch in patches:
        for name in patch.new_files:
            owners.setdefault(name, []).append(patch.name)
        pattern = re.compile(rf".*\.{re.escape(patch.name)}(\.\d+\.\d+)?\.diff")
        for path in patchset.payload_diffs():
            name = str(path.relative_to(common.TOP))
            if pattern.fullmatch(name):
                owners.setdefault(name, []).append(patch.name)
    payload = matching(["app/*", "drivers/*", "doc/guides/*", "usertools/*", "*.diff"])
    assert {name: owners.get(name) for name in payload if len(owners.get(name, ())) != 1} == {}


def test_messages_belong_to_topics():
    assert sorted(path.stem for path in (common.TOP / "series").glob("*.msg")) == \
        sorted(patch.name for patch in patchset.read())


@pytest.mark.parametrize("patch", patchset.read(), ids=lambda patch: patch.name)
def test_message_has_the_form_that_dpdk_takes(patch):
    lines = patch.message.splitlines()
    assert len(lines[0]) <= 60 and re.match(r"[a-z/]+: [a-z]", lines[0])
    assert lines[1] == "" and "Signed-off-by" not in patch.message
    assert [line for line in lines if len(line) > 75 and not line.startswith("Fixes: ")] == []


def test_diffs_carry_one_line_of_context():
    wide = []
    for path in patchset.payload_diffs():
        for hunk in re.split(r"(?m)^@@.*\n", path.read_text())[1:]:
            runs = re.findall(r"(?m)(?:^ .*\n)+", hunk.replace("\n\n", "\n \n"))
            wide += [f"{path.name}: {run!r}" for run in runs if run.count("\n") > 2]
    assert wide == []
