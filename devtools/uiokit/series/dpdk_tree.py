# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""A DPDK source tree: what it is, and whether it has the bug. Nothing here changes a tree."""

import hashlib
import os
import pathlib
import re

from .. import common, process

COMMON = "drivers/bus/pci/pci_common_uio.c"
LINUX = "drivers/bus/pci/linux/pci_uio.c"


class Tree:
    """A DPDK tree at a path: its version, and whether git tracks it."""

    def __init__(self, path):
        self.path = pathlib.Path(path).resolve()
        if not self.path.is_dir():
            raise common.Usage(f"{path}: no such folder")
        try:
            text = (self.path / "VERSION").read_text().strip()
            project = (self.path / "meson.build").read_text(errors="replace")
        except OSError:
            text = project = ""
        match = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
        if not match or not re.search(r"project\('DPDK'", project):
            raise common.Usage(f"{path} is not a DPDK source tree "
                               "(no VERSION beside a meson.build of project 'DPDK')")
        for name in (COMMON, LINUX):
            if not (self.path / name).is_file():
                raise common.Usage(f"{path}: DPDK {text} without {name}: this tree is incomplete")
        self.text = text
        self.version = tuple(int(part) for part in match.groups())
        self.is_git = (self.path / ".git").exists()

    def __str__(self):
        return f"DPDK {self.text}"

    def git(self, *args, **keywords):
        """Run git in the tree and return its standard output, stripped."""
        keywords.setdefault("problem", common.Infrastructure)
        return process.run(["git", "-C", self.path, *args], **keywords).stdout.strip()

    def files(self):
        """The paths that make up the source, relative; a build folder in it is left out."""
        if self.is_git:
            names = self.git("ls-files", "-z").split("\0")
            return sorted(name for name in names if name and (self.path / name).is_file())
        found = []
        for folder, folders, names in os.walk(self.path):
            here = pathlib.Path(folder)
            folders[:] = [name for name in folders
                          if name != ".pc" and not (here / name / "build.ninja").exists()]
            found += [str((here / name).relative_to(self.path)) for name in names]
        return sorted(found)

    def fingerprint(self):
        """Changes whenever the source changes."""
        digest = hashlib.sha256(self.text.encode())
        for name in self.files():
            status = (self.path / name).lstat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return digest.hexdigest()


def diagnose(read):
    """Whether a source has the bug: ("affected" | "fixed" | "not-affected", evidence).

    `read` maps a path in the tree to its text. The code decides, not the version: branches and
    forks carry fixes of their own.
    """
    mapping = _function(read(COMMON), "pci_uio_map_resource")
    alloc = _function(read(LINUX), "pci_uio_alloc_resource")
    call = _find(mapping, r"\bpci_uio_alloc_resource\s*\(")
    if call is None or alloc is None:
        raise common.Infrastructure(
            f"unknown: pci_uio_map_resource() in {COMMON} no longer calls "
            f"pci_uio_alloc_resource(), or {LINUX} lacks it: "
            "this DPDK is newer than this project; see doc/new-release.md")
    secondary = _find(mapping, r"rte_eal_process_type\s*\(\s*\)\s*!=\s*RTE_PROC_PRIMARY")
    if secondary is not None and secondary[0] < call[0]:
        where = f"{COMMON}:{secondary[1]}: a secondary leaves before pci_uio_alloc_resource()"
        if _find(mapping, r"\bpci_uio_attach_secondary\s*\(") is not None:
            return "fixed", f"{where} and opens config space through sysfs"
        return "not-affected", f"{where}, and has no config space: older than the bug"
    opened = _find(alloc, r"\bopen\s*\(\s*devname\b")
    # Only what surely keeps a secondary from the open counts: to leave the function before it.
    guard = _find(alloc, r"if \(rte_eal_process_type\(\) != RTE_PROC_PRIMARY\)\s*"
                  r"(?:return|goto)\b")
    if opened is None:
        raise common.Infrastructure(f"unknown: {LINUX}: no open(devname) in "
                                    "pci_uio_alloc_resource(); read it: does a secondary get to "
                                    "open /dev/uioX?")
    if guard is not None and guard[0] < opened[0]:
        return "fixed", (f"{LINUX}:{guard[1]}: a secondary leaves before "
                         f"the open of /dev/uioX in line {opened[1]}")
    return "affected", (f"{COMMON}:{call[1]} runs in secondaries, where "
                        f"{LINUX}:{opened[1]} opens /dev/uioX")


def _function(text, name):
    """(offset of its line, body) of a function defined in DPDK style, comments blanked."""
    text = re.sub(r"/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match.group()), text,
                  flags=re.S)
    match = re.search(rf"^{name}\([^;{{]*\)\n\{{\n.*?^\}}", text, flags=re.M | re.S)
    return match and (text.count("\n", 0, match.start()), match.group())


def _find(function, pattern):
    """(offset, line number) of the first match in a function."""
    match = function and re.search(pattern, function[1])
    if not match:
        return None
    return match.start(), function[0] + function[1].count("\n", 0, match.start()) + 1
