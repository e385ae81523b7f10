# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What a program needs beside itself to run elsewhere, and the ELF notes that a boot needs."""

import os
import pathlib
import re
import struct
import sys

from .. import process

MAGIC = b"\x7fELF"
PT_DYNAMIC = 2
PT_INTERP = 3
PT_NOTE = 4
LOADER = "/lib64/ld-linux-x86-64.so.2"


def is_elf(path):
    """Whether a regular file is an ELF object; a file that cannot be read is an error."""
    with open(path, "rb") as file:
        return file.read(4) == MAGIC


def segments(file, kind):
    """The contents of the program header segments of one kind, of a 64-bit ELF."""
    file.seek(0)
    header = file.read(64)
    if len(header) < 64 or header[:5] != MAGIC + b"\x02":
        return
    table, = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    for index in range(count):
        file.seek(table + index * size)
        entry = file.read(56)
        if len(entry) == 56 and struct.unpack_from("<I", entry)[0] == kind:
            offset, = struct.unpack_from("<Q", entry, 8)
            length, = struct.unpack_from("<Q", entry, 32)
            file.seek(offset)
            yield file.read(length)


def notes(file):
    """(owner, type) of every note."""
    for data in segments(file, PT_NOTE):
        at = 0
        while at + 12 <= len(data):
            name, size, kind = struct.unpack_from("<III", data, at)
            yield data[at + 12:at + 12 + name].rstrip(b"\0"), kind
            at += 12 + (name + 3 & ~3) + (size + 3 & ~3)


def interpreter(path):
    """The loader that a program names, or None: a static one, or a library."""
    with open(path, "rb") as file:
        return next((data.rstrip(b"\0").decode() for data in segments(file, PT_INTERP)), None)


def libraries(path, library_path):
    """(found, missing): paths of all the libraries and the loader that an ELF needs, by the
    loader's own rules (RPATH, library_path, RUNPATH, the machine's cache), and the names of
    those that are nowhere. A static program has neither.
    """
    with open(path, "rb") as file:
        if not any(segments(file, PT_DYNAMIC)):
            return [], []
    loader = interpreter(path) or interpreter(sys.executable) or LOADER
    if not os.path.exists(loader):
        return [], [loader]
    # This is what ldd does, but faster. musl's loader would run the program if not told.
    listing = ["--list"] if "musl" in loader else []
    env = dict(os.environ, LC_ALL="C", LD_LIBRARY_PATH=library_path, LD_TRACE_LOADED_OBJECTS="1")
    listed = process.run([loader, *listing, path], env=env, check=False).stdout
    found, missing = [], []
    for line in listed.splitlines():
        if lost := re.match(r"\s*(\S+) => not found", line):
            missing.append(lost[1])
        elif hit := re.match(r"\s*(?:\S+ => )?(/.*) \(0x[0-9a-f]+\)$", line):
            found.append(pathlib.Path(os.path.normpath(hit[1])))
    for library in found:
        if library.name == "libc.so.6":
            # pthread_cancel() and pthread_exit() load this by name at run time.
            unwinder = library.with_name("libgcc_s.so.1")
            if unwinder.exists():
                found.append(unwinder)
            break
    return found, missing
