# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""ELF files: the loader and the libraries that a program needs, and the notes of a kernel."""

import os
import pathlib
import re
import sys

from .. import distro, process

MAGIC = b"\x7fELF"
LOADER = "/lib64/ld-linux-x86-64.so.2"


def is_elf(path):
    """Whether a regular file is an ELF object; a file that cannot be read is an error."""
    with open(path, "rb") as file:
        return file.read(4) == MAGIC


def segments(file, kind):
    """The segments of one kind, such as PT_NOTE, of an open ELF file; none if it is damaged."""
    distro.python_module("elftools", "python3-pyelftools")
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    try:
        return [found for found in ELFFile(file).iter_segments() if found.header.p_type == kind]
    except ELFError:
        return []


def has_note(path, owner, kind):
    with open(path, "rb") as file:
        return any((note["n_name"], note["n_type"]) == (owner, kind)
                   for segment in segments(file, "PT_NOTE") for note in segment.iter_notes())


def interpreter(path):
    """The loader that a program names, or None: a static program, or a library."""
    with open(path, "rb") as file:
        return next((found.get_interp_name() for found in segments(file, "PT_INTERP")), None)


def libraries(path, library_path):
    """(found, missing): paths of the loader and of all libraries that an ELF needs, by the loader's
    own rules (RPATH, library_path, RUNPATH, the machine's cache), and the names of libraries that
    the loader does not find. A static program has neither.
    """
    with open(path, "rb") as file:
        if not segments(file, "PT_DYNAMIC"):
            return [], []
    loader = interpreter(path) or interpreter(sys.executable) or LOADER
    if not os.path.exists(loader):
        return [], [loader]
    # This is what ldd does, but faster. Without --list, musl's loader would run the program.
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
