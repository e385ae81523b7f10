# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Rules that hold for every file of this repository."""

import fnmatch
import re
import subprocess

import pytest

from uiokit import common
from uiokit.series import patchset

# Copies of DPDK's form, or files in which a licence line has no place.
NO_SPDX = ("LICENSE", "MAINTAINERS", "*.md", "*.diff", "*.msg", "series/cover", ".gitignore",
           ".editorconfig", "series/order", "*.svg", "doc/guides/*.txt")


def files():
    names = subprocess.run(["git", "-C", common.TOP, "ls-files", "--cached", "--others",
                            "--exclude-standard"], check=True, capture_output=True, text=True)
    return [name for name in names.stdout.splitlines() if (common.TOP / name).is_file()]


def matching(patterns):
    return [name for name in files() if any(fnmatch.fnmatch(name, pattern)
                                            for pattern in patterns)]


def test_every_file_names_its_licence():
    lacking = [name for name in files() if name not in matching(NO_SPDX)
               and "SPDX-License-Identifier: BSD-3-Clause"
               not in (common.TOP / name).read_text()[:400]]
    assert lacking == []


def test_maintainers_covers_every_file_and_nothing_else():
    patterns = re.findall(r"(?m)^[FX]: (\S+)$", (common.TOP / "MAINTAINERS").read_text())
    wide = [pattern + "*" if pattern.endswith("/") else pattern for pattern in patterns]
    assert [name for name in files() if not any(fnmatch.fnmatch(name, one) for one in wide)] == []
    assert [one for one in wide if not any(fnmatch.fnmatch(name, one) for name in files())] == []


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
