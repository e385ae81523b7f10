# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The guest's only file system: busybox, init, modules, the job, and the files of --take."""

import os
import pathlib
import shlex
import shutil
import stat

from .. import arch, common, distro, elf
from . import find_program
from .cpio import Archive

INIT = pathlib.Path(__file__).with_name("guest-init")
# Mounted by init, before and after /dev is filled. Some kernels have no hugetlbfs.
MOUNTS = {
    "/lab/fstab": """\
sysfs /sys sysfs defaults 0 0
devtmpfs /dev devtmpfs defaults 0 0
tmpfs /run tmpfs mode=755 0 0
""",
    "/lab/fstab.dev": """\
tmpfs /dev/shm tmpfs mode=1777 0 0
devpts /dev/pts devpts mode=620,ptmxmode=666 0 0
hugetlbfs /dev/hugepages hugetlbfs defaults 0 0
"""}

DEV_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}

# Where the loader looks for libraries by default.
DEFAULT_LIBRARY_DIRS = {f"{top}/lib{end}" for top in ("", "/usr")
                        for end in ("", "64", *(f"/{one.triplet}" for one in arch.ALL.values()))}


def write(stream, kernel, job, command, take, library_path, guest=arch.native()):
    """Write the whole image to a binary stream, for a guest of an arch.Arch.

    job: variables for the guest's init, as a dict; command: the text of the script it runs.
    take: (host path, guest path) pairs; library_path: the LD_LIBRARY_PATH to find libraries with.
    """
    archive = Archive(stream)
    # Not a mount, which would hide files that are taken to it. The root is in memory as well.
    archive.folder("/tmp", 0o1777)
    _take_all(archive, take, library_path)
    archive.file("/init", INIT, 0o755)
    for name in ("/dev", "/proc", "/sys", "/run", "/root"):
        archive.folder(name)
    # DPDK keeps its runtime files in /var/run.
    archive.link("/var/run", "/run")
    # SPDK keeps its locks in /var/tmp.
    archive.link("/var/tmp", "/tmp")
    # The kernel opens it for init, before init can mount the real /dev.
    archive.device("/dev/console", 5, 1)
    for name, target in DEV_LINKS.items():
        archive.link(f"/lab/dev/{name}", target)
    for name in ("shm", "pts", "hugepages"):
        archive.folder(f"/lab/dev/{name}")
    for name, text in MOUNTS.items():
        archive.file(name, text)
    archive.file("/bin/busybox", busybox(guest), 0o755)
    _add_modules(archive, kernel)
    archive.file("/lab/job", "".join(f"{name}={shlex.quote(str(value))}\n"
                                     for name, value in job.items()))
    archive.file("/lab/command", command, 0o755)
    archive.file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    archive.file("/etc/group", "root:x:0:\n")
    archive.close()


def command_script(argv, env):
    """The script that runs a command with these additions to its environment."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    return "\n".join([*lines, f"exec {shlex.join(argv)}", ""])


def busybox(guest=arch.native()):
    """A busybox that needs no libraries: the machine's, or one unpacked in the build directory.

    Debian's usual package is linked dynamically, and cannot be installed beside the static one.
    """
    name = f"busybox-static{guest.suffix}"
    installed = find_program("busybox") if guest.is_native else None
    known = [pathlib.Path(path)
             for path in (installed, common.build_dir() / name / "bin/busybox")
             if path and os.path.isfile(path)]
    for path in known:
        if elf.is_elf(path) and not elf.interpreter(path):
            return path
    if shutil.which("apt-get") is None:
        raise common.Infrastructure(
            f"busybox: {'not found' if not known else f'{known[0]} needs shared libraries'}: "
            "install a statically linked busybox (Fedora, Arch and Alpine: package busybox or "
            "busybox-static)")
    return distro.unpacked(name, ["busybox-static"], guest=guest) / "bin/busybox"


def _add_modules(archive, kernel):
    """Add the modules, the list that init loads, and what modprobe needs for the others."""
    folder = f"/lib/modules/{kernel.release}"
    for name, data in kernel.modules.items():
        archive.file(f"{folder}/{name}.ko", data)
    archive.file("/lab/modules", "".join(f"{folder}/{name}.ko\n"
                                         for name in kernel.closure(kernel.wanted)))
    archive.file(f"{folder}/modules.dep", "".join(
        f"{name}.ko: {' '.join(f'{other}.ko' for other in kernel.closure([name])[-2::-1])}\n"
        for name in kernel.modules))


def _take_all(archive, take, library_path):
    elves, taken = [], {}
    for host, guest in take:
        for path, name in _walk(host, guest):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                archive.link(name, os.readlink(path))
            elif stat.S_ISDIR(mode):
                archive.folder(name, stat.S_IMODE(mode))
            elif stat.S_ISREG(mode):
                archive.file(name, path, stat.S_IMODE(mode))
                taken[path.resolve()] = name
                if elf.is_elf(path):
                    elves.append((path, name, path == host.resolve()))
    added = set()
    for path, name, named in elves:
        if path not in added:
            libraries = _libraries(path, named, library_path)
            _take_libraries(archive, path, name, libraries, taken)
            added.update(libraries)
    cache = pathlib.Path("/etc/ld.so.cache")
    if cache.is_file() and any(elf.arch_of(path).is_native for path in added):
        # For libraries that only the machine's ldconfig configuration leads to.
        archive.file("/etc/ld.so.cache", cache)


def _walk(host, guest):
    """(host path, guest path) of a file, or of a folder and everything in it.

    A symbolic link to a file outside of the folder is replaced by that file.
    """
    if not host.is_dir():
        yield host.resolve(), guest
        return
    top = host.resolve()
    for path in [top, *sorted(top.rglob("*"))]:
        inside = os.path.normpath(f"{guest}/{path.relative_to(top)}")
        target = path.resolve()
        if path.is_symlink() and target.is_file() and (
                os.path.isabs(os.readlink(path)) or not target.is_relative_to(top)):
            path = target
        yield path, inside


def _libraries(path, named, library_path):
    """The libraries of one ELF. If some are missing: Usage if --take names it, else a warning."""
    found, missing = elf.libraries(path, library_path)
    if missing:
        text = (f"{path} needs {', '.join(missing)}, which the loader does not find: "
                "set LD_LIBRARY_PATH to the folder that has it")
        if named:
            raise common.Usage(text)
        common.say(f"  {text}")
    return found


def _take_libraries(archive, path, name, libraries, taken):
    """Add the libraries of one ELF at the paths where the loader found them."""
    for library in libraries:
        place = elf.place(library)
        if library.resolve() in taken:
            archive.link(place, taken[library.resolve()])
        else:
            archive.file(place, library, 0o755)
        # A program that finds libraries relative to itself ($ORIGIN) does so in the guest, too.
        beside = os.path.relpath(library.parent, path.parent)
        moved = os.path.normpath(f"{os.path.dirname(name)}/{beside}/{library.name}")
        if moved != place and os.path.dirname(place) not in DEFAULT_LIBRARY_DIRS:
            archive.link(moved, place)
