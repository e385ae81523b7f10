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


# The function that our fix adds, by which a tree that carries the fix is known.
FIX = "pci_uio_attach_secondary"

# SPDK's change moves the open of /dev/uioX behind the opening of config space and the test of the
# process type. What is moved: from the name of the device to the storing of its FD.
_SPDK_CHANGE = re.compile(
    r"""(?mx) (^pci_uio_alloc_resource\((?:(?!^\}).|\n)*?)
    (^\tsnprintf\(cfgname\b (?:(?!^\}).|\n)*?
     ^\tif\ \(rte_eal_process_type\(\)\ !=\ RTE_PROC_PRIMARY\)\n \t\treturn\ 0;\n \n)
    (?:\t/\* (?:(?!\*/).|\n)* \*/\n)?
    (\tsnprintf\(devname\b[^;]*;\n) \n?
    ((?:\t/\*.*\n)? \tfd\ =\ open\(devname\b (?:(?!^\}).|\n)*?
     ^\tif\ \(rte_intr_fd_set\([^;]*;\n \n)""")


class Tree:
    """A DPDK tree at a path: its version, and whether git tracks it."""

    def __init__(self, path, part=False, base=None):
        """part: a copy of the bus driver in another project is enough.

        base: YY.MM, the release that such a copy was made of; in place of its VERSION
        """
        self.path = pathlib.Path(path).resolve()
        if not self.path.is_dir():
            raise common.Usage(f"{path}: no such folder")
        self.text = self.read("VERSION").strip().partition("\n")[0]
        self.is_whole = bool(self.text and re.search(r"project\('DPDK'",
                                                     self.read("meson.build")))
        lacking = [name for name in (COMMON, LINUX) if not (self.path / name).is_file()]
        if not self.is_whole and (lacking or not part):
            raise common.Usage(f"{path} is not a DPDK source tree "
                               "(no VERSION beside a meson.build of project 'DPDK')")
        if lacking:
            raise common.Usage(f"{path}: DPDK {self.text} without {lacking[0]}: "
                               "this tree is incomplete")
        self.text = base or self.text
        match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", self.text, re.ASCII)
        if self.text and not match:
            raise common.Usage(f"{path}/VERSION: {ascii(self.text[:40])} is not a version "
                               "such as 24.11.6")
        self._version = match and tuple(int(part or 0) for part in match.groups())
        # A folder that merely lies in somebody's git repository is not part of it.
        self.is_git = (self.path / ".git").exists() or (
            any((parent / ".git").exists() for parent in self.path.parents)
            and bool(self.git("ls-files", "--", COMMON, check=False)))

    def __str__(self):
        return f"DPDK {self.text or 'of unknown version'}"

    def read(self, name):
        """The text of a file of the tree; empty if there is none."""
        path = self.path / name
        return path.read_text(errors="replace") if path.is_file() else ""

    @property
    def version(self):
        """(year, month, minor)"""
        if self._version is None:
            raise common.Usage(f"{self.path} has no VERSION; name the DPDK release that it was "
                               "copied from with --base YY.MM")
        return self._version

    def has_place(self, name):
        """Whether a file belongs here: a copy of a part of DPDK may have no such folder."""
        path = self.path / name
        return self.is_whole or path.exists() or (path.parent != self.path
                                                  and path.parent.is_dir())

    def git(self, *args, **keywords):
        """Run git in the tree and return its standard output, stripped."""
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
    """Whether a source has the bug, and the evidence.

    The first is "affected", "fixed", "fixed by SPDK's change" or "not-affected". `read` maps a path
    in the tree to its text. The code decides, not the version: branches and forks have other fixes.
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
        if _find(mapping, rf"\b{FIX}\s*\(") is not None:
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
        by = " by SPDK's change" if without_spdk_change(read(LINUX)) else ""
        return f"fixed{by}", (f"{LINUX}:{guard[1]}: a secondary leaves before "
                              f"the open of /dev/uioX in line {opened[1]}")
    return "affected", (f"{COMMON}:{call[1]} runs in secondaries, where "
                        f"{LINUX}:{opened[1]} opens /dev/uioX")


def without_spdk_change(text):
    """The text of LINUX with SPDK's change taken back, or None where the change is not in it."""
    text, count = _SPDK_CHANGE.subn(r"\1\3\n\4\2", text)
    return text if count else None


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
