# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Kernel files: the release of a vmlinuz, how to boot it fast, what a module depends on."""

import bz2
import hashlib
import lzma
import re
import shutil
import struct
import subprocess
import zlib

from .. import arch, common, distro, elf, process
from . import find_program

MODINFO = find_program("modinfo") or "/sbin/modinfo"

DECOMPRESSORS = (
    (b"\xfd7zXZ\0", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b"\x5d\0\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    (b"\x28\xb5\x2f\xfd", lambda data: _filter("zstd", data)),
    (b"\x02\x21\x4c\x18", lambda data: _filter("lz4", data)),
)

# At 0x38 of a kernel for arm64; QEMU unpacks it if need be.
ARM64_MAGIC = b"ARM\x64"

# The owner and type of the note with the entry point of a kernel that QEMU starts unpacked.
PVH_NOTE = ("Xen", 18)


def release(path, guest):
    """The release (`uname -r`) of a kernel for an arch.Arch; Usage if the file is none."""
    text = b""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
            if guest is arch.ARM64:
                whole = _unpacked(head + file.read())
                if whole[0x38:0x3c] == ARM64_MAGIC:
                    text = whole
            elif head[:4] == elf.MAGIC:
                text = head + file.read()
            elif head[0x202:0x206] == b"HdrS":
                at, = struct.unpack_from("<H", head, 0x20e)
                text = b"Linux version " + head[at + 0x200:]
        if found := re.search(rb"Linux version (\d\S+) ", text):
            return found[1].decode()
    except (OSError, struct.error, UnicodeDecodeError) as error:
        raise common.Usage(f"--kernel {path}: cannot be read: {error}") from None
    raise common.Usage(f"--kernel {path}: no vmlinuz or vmlinux for {guest.machine}, nor a .deb")


def bootable(path):
    """The file that QEMU is given for a kernel.

    A vmlinuz is unpacked here, once: emulated, its own unpacker takes longer than all the rest
    of the boot. A kernel without CONFIG_PVH, which needs its unpacker, is given as it is.
    """
    data = path.read_bytes()
    if _unpacked(data)[0x38:0x3c] == ARM64_MAGIC:
        return path
    if data[:4] == elf.MAGIC:
        if not elf.has_note(path, *PVH_NOTE):
            raise common.Usage(f"--kernel {path}: this vmlinux has no CONFIG_PVH entry, so that "
                               "QEMU cannot start it: give the vmlinuz (bzImage) built with it")
        return path
    unpacked = (common.build_dir("kernel", "unpacked")
                / f"vmlinux-{hashlib.sha256(data).hexdigest()[:16]}")
    if not unpacked.exists():
        offset, length = struct.unpack_from("<II", data, 0x248)
        start = (data[0x1f1] + 1) * 512 + offset
        if start + length > len(data):
            raise common.Usage(f"--kernel {path}: incomplete: {start + length} bytes by its "
                               f"header, but the file has {len(data)}")
        vmlinux = decompress(data[start:start + length])
        if vmlinux is None or vmlinux[:4] != elf.MAGIC:
            return path
        common.replace_file(unpacked, vmlinux)
    return unpacked if elf.has_note(unpacked, *PVH_NOTE) else path


def _unpacked(data):
    """A kernel for arm64 as it is, or unpacked if it is an Image.gz, as Ubuntu has it."""
    return decompress(data) or data


def decompress(data):
    """Unpack what a kernel build may have packed; None if that fails, or its program is missing."""
    for magic, unpack in DECOMPRESSORS:
        if data.startswith(magic):
            try:
                return unpack(data)
            except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
                return None
    return None


def read_module(path):
    """A module's bytes, unpacked: not every guest can load a packed one."""
    data = path.read_bytes()
    if data[:4] != elf.MAGIC:
        data = decompress(data)
    if data is None:
        raise common.Infrastructure(f"cannot unpack {path}: install zstd, or give --modules with "
                                    "modules that are not compressed")
    return data


def about_module(path):
    """(release of its kernel, names of the modules that it depends on) of a module file."""
    distro.need({MODINFO: "kmod"})
    shown = process.run([MODINFO, path], problem=common.Usage).stdout
    found = dict(re.findall(r"(?m)^(vermagic|depends): *(.*)$", shown))
    if len(found) != 2:
        raise common.Infrastructure(f"modinfo: a field is missing from {path.name}")
    needs = found["depends"].replace("-", "_").split(",")
    return found["vermagic"].split(" ")[0], [name for name in needs if name]


def _filter(program, data):
    if shutil.which(program) is None:
        return None
    # A kernel build may append the unpacked size, so that the program fails after its output.
    return subprocess.run([program, "-dcq"], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout or None
