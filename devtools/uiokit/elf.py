# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""ELF files: the loader and the libraries that a program needs, and the notes of a kernel."""

import contextlib
import os
import pathlib
import re
import sys

from . import arch, distro, process

MAGIC = b"\x7fELF"


def is_elf(path):
    """Whether a regular file is an ELF object; a file that cannot be read is an error."""
    with open(path, "rb") as file:
        return file.read(4) == MAGIC


def segments(path, kind):
    """The segments of one kind, such as PT_NOTE, of an ELF file; none if it is damaged."""
    distro.python_module("elftools", "python3-pyelftools")
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    with open(path, "rb") as file, contextlib.suppress(ELFError):
        yield from (found for found in ELFFile(file).iter_segments() if found.header.p_type == kind)


def arch_of(path):
    """The arch.Arch of an ELF file; the machine's own if it is of another one."""
    with open(path, "rb") as file:
        machine = int.from_bytes(file.read(20)[18:], "little")
    return next((one for one in arch.ALL.values() if one.elf == machine), arch.native())


def place(library):
    """The path in a guest of a library that libraries() has found."""
    for one in arch.ALL.values():
        if library.is_relative_to(one.root) and not one.is_native:
            return f"/{library.relative_to(one.root)}"
    return str(library)


def has_note(path, owner, kind):
    return any((note["n_name"], note["n_type"]) == (owner, kind)
               for segment in segments(path, "PT_NOTE") for note in segment.iter_notes())


def interpreter(path):
    """The loader that a program names, or None: a static program, or a library."""
    return next((found.get_interp_name() for found in segments(path, "PT_INTERP")), None)


def libraries(path, library_path):
    """(found, missing): paths of the loader and of all libraries that an ELF needs, by the loader's
    own rules (RPATH, library_path, RUNPATH, the machine's cache), and the names of libraries that
    the loader does not find. A static program has neither.
    """
    if not any(segments(path, "PT_DYNAMIC")):
        return [], []
    target = arch_of(path)
    found, missing = (_loaded if target.is_native else _searched)(path, library_path, target)
    for library in found:
        if library.name == "libc.so.6":
            # pthread_cancel() and pthread_exit() load this by name at run time.
            unwinder = library.with_name("libgcc_s.so.1")
            if unwinder.exists():
                found.append(unwinder)
            break
    return found, missing


def _loaded(path, library_path, target):
    loader = interpreter(path) or interpreter(sys.executable) or target.loader
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
    return found, missing


def _searched(path, library_path, target):
    """The same for a loader that does not run on this machine; it has no cache."""
    names = [os.path.basename(interpreter(path) or target.loader)]
    found, missing, todo = {}, [], [path]
    while todo:
        folders = library_path.split(":")
        program = todo.pop()
        for segment in segments(program, "PT_DYNAMIC"):
            names += [tag.needed for tag in segment.iter_tags("DT_NEEDED")]
            for tag in segment.iter_tags("DT_RUNPATH"):
                folders += tag.runpath.replace("$ORIGIN", os.path.dirname(program)).split(":")
        for name in names:
            places = [pathlib.Path(os.path.normpath(folder), name)
                      for folder in filter(None, [*folders, str(target.root / "lib")])]
            hit = next(filter(os.path.exists, places), None)
            if name not in found and hit:
                found[name] = hit
                todo.append(hit)
            elif name not in found:
                missing.append(name)
        names = []
    return list(found.values()), missing
