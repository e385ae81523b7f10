# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Kernel files: which release a vmlinuz is, how to boot it fast, what a module depends on."""

import bz2
import hashlib
import lzma
import re
import shutil
import struct
import subprocess
import zlib

from .. import common
from . import elf

DECOMPRESSORS = (
    (b"\xfd7zXZ\0", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b"\x5d\0\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    (b"\x28\xb5\x2f\xfd", lambda data: _filter("zstd", data)),
    (b"\x02\x21\x4c\x18", lambda data: _filter("lz4", data)),
)

# The note that says where a kernel is entered when it is started without its own unpacker.
PVH_NOTE = (b"Xen", 18)


def release(path):
    """The release (`uname -r`) of a vmlinuz or vmlinux; Usage if the file is neither."""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
            if head[:4] == elf.MAGIC:
                found = re.search(rb"Linux version (\d\S+) ", head + file.read())
                if found:
                    return found[1].decode()
            elif head[0x202:0x206] == b"HdrS":
                at, = struct.unpack_from("<H", head, 0x20e)
                return head[at + 0x200:].split(b" ", 1)[0].decode()
    except (OSError, struct.error, UnicodeDecodeError) as error:
        raise common.Usage(f"--kernel {path}: cannot be read: {error}") from None
    raise common.Usage(f"--kernel {path}: neither an x86 vmlinuz, nor a vmlinux, nor a .deb")


def bootable(path):
    """The file that QEMU is given for a kernel.

    A vmlinuz is unpacked here, once: emulated, its own unpacker takes longer than all the rest
    of the boot. One that cannot be started without that (CONFIG_PVH) is given as it is.
    """
    data = path.read_bytes()
    if data[:4] == elf.MAGIC:
        if not _has_pvh_entry(path):
            raise common.Usage(f"--kernel {path}: this vmlinux has no CONFIG_PVH entry, so that "
                               "QEMU cannot start it: give the vmlinuz (bzImage) built with it")
        return path
    unpacked = (common.build_dir("kernel", "unpacked")
                / f"vmlinux-{hashlib.sha256(data).hexdigest()[:16]}")
    if not unpacked.exists():
        offset, length = struct.unpack_from("<II", data, 0x248)
        start = (data[0x1f1] + 1) * 512 + offset
        if start + length > len(data):
            raise common.Usage(f"--kernel {path}: cut short: its header tells of "
                               f"{start + length} bytes, it has {len(data)}")
        vmlinux = decompress(data[start:start + length])
        if vmlinux is None or vmlinux[:4] != elf.MAGIC:
            return path
        common.replace_file(unpacked, vmlinux)
    return unpacked if _has_pvh_entry(unpacked) else path


def decompress(data):
    """Unpack what a kernel build may have packed; None if what it takes is not here."""
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


def module_depends(data):
    """The names of the modules that a module says it depends on."""
    found = re.search(rb"\0depends=([^\0]*)\0", data)
    return found[1].decode().replace("-", "_").split(",") if found and found[1] else []


def module_version(data):
    """The release of the kernel that a module was built for."""
    found = re.search(rb"\0vermagic=(\S+)", data)
    return found[1].decode() if found else "unknown"


def _has_pvh_entry(path):
    with open(path, "rb") as file:
        return PVH_NOTE in elf.notes(file)


def _filter(program, data):
    if shutil.which(program) is None:
        return None
    # A kernel build may append the unpacked size to the stream; what came before it counts.
    return subprocess.run([program, "-dcq"], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout or None
