# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""A small stand-in for a DPDK tree, and a small series for it, so that no test needs real ones."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "devtools"))

from uiokit import common  # noqa: E402
from uiokit.series import dpdk_tree, patchset  # noqa: E402

COMMON = """\
/* pci_uio_alloc_resource() in a comment is no call */
static int
pci_uio_map_secondary(struct dev *dev)
{
	return 0;
}

int
pci_uio_map_resource(struct dev *dev)
{
	ret = pci_uio_alloc_resource(dev, &res);
	if (ret)
		return ret;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return pci_uio_map_secondary(dev);
	return 0;
}
"""

ALLOC = """\
int
pci_uio_alloc_resource(struct dev *dev,
		struct res **res)
{
"""
LINUX = ALLOC + """\
	fd = open(devname, O_RDWR);
	return 0;
}
"""

CONFIG = """\
	snprintf(cfgname, sizeof(cfgname), "%u", num);
	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return 0;

"""
NAME = """\
	snprintf(devname, sizeof(devname), "%u", num);
"""
OPEN = """\
	/* save */
	fd = open(devname, O_RDWR);
	if (fd < 0)
		goto error;

	if (rte_intr_fd_set(dev->intr, fd))
		goto error;

"""
END = """\
	return 0;
}
"""
# DPDK's code, and what SPDK's change makes of it: the open is behind the test of the process type.
PLAIN_LINUX = ALLOC + NAME + "\n" + OPEN + CONFIG + END
SPDK_LINUX = ALLOC + CONFIG + "\t/* only here, for\n\t * a reason */\n" + NAME + OPEN + END

FIX = """\
--- a/drivers/bus/pci/pci_common_uio.c
+++ b/drivers/bus/pci/pci_common_uio.c
@@ -10,2 +10,5 @@ pci_uio_map_resource(struct dev *dev)
 {
+	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
+		return pci_uio_attach_secondary(dev);
+
 	ret = pci_uio_alloc_resource(dev, &res);
"""


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def git(folder, *args):
    return subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True,
                          text=True).stdout.strip()


def commit_all(folder, subject="import"):
    """Commit all files of a folder, and make it a git repository if it is none."""
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject)


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A build directory and a git identity for this test, and no settings of the user."""
    monkeypatch.setenv("UIO_BUILD_DIR", str(tmp_path / "build"))
    monkeypatch.setenv("HOME", str(tmp_path))
    # In a hook, git's own settings would lead to the user's repository.
    for name in list(os.environ):
        if name.startswith("GIT_") or name in ("XDG_CONFIG_HOME", "LD_LIBRARY_PATH"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = A Tester\n\temail = t@example.com\n")


@pytest.fixture
def make_tree(tmp_path):
    """Make a stand-in for a DPDK tree: make_tree(version, is_git=False, files=replaced files)."""
    def make(version="22.11.11", is_git=False, files=None):
        root = tmp_path / f"dpdk-{version}{'-git' if is_git else ''}"
        write(root, {"VERSION": f"{version}\n", "meson.build": "project('DPDK', 'c')\n",
                     dpdk_tree.COMMON: COMMON, dpdk_tree.LINUX: LINUX, **(files or {})})
        if is_git:
            commit_all(root)
        return dpdk_tree.Tree(root)
    return make


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """A series of two patches, `fix` and `test`; returns its root, which a test may change."""
    root = tmp_path / "payload"
    write(root, {
        "series/order": "fixes fix\nfixes test app/test/*.c\n",
        "series/cover": "two patches\n\nText.\n",
        "series/fix.msg": "bus/pci: fix it\n\nWhy.\n\nCc: stable@dpdk.org\n",
        "series/test.msg": "test/pci: test it\n\nWhy.\n",
        f"{dpdk_tree.COMMON}.fix.diff": FIX,
        "app/test/test_it.c": "int x;\n"})
    monkeypatch.setattr(common, "TOP", root)
    monkeypatch.setattr(patchset, "SERIES", root / "series")
    return root
