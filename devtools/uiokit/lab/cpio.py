# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Write a cpio archive in the format that a Linux kernel unpacks as its first file system."""

import io
import os
import pathlib
import shutil
import stat


class Archive:
    """An archive, written to a binary stream entry by entry; parent folders are added.

    It needs no root and no cpio program, also for device nodes. Names are absolute guest paths.
    Of several entries with one name, the first counts.
    """

    def __init__(self, stream):
        self._stream = stream
        self._names = set()
        # The kernel's own root is writable by all, and EAL loads no plugin from such a folder.
        self._write(".", stat.S_IFDIR | 0o755, None, 0, (0, 0))

    def folder(self, name, mode=0o755):
        self._entry(name, stat.S_IFDIR | mode)

    def file(self, name, source, mode=0o644):
        """Add a file whose content is bytes, text, or that of the file at a pathlib.Path."""
        if isinstance(source, pathlib.Path):
            with open(source, "rb") as file:
                self._entry(name, stat.S_IFREG | mode, file, os.fstat(file.fileno()).st_size)
        else:
            data = source.encode() if isinstance(source, str) else source
            self._entry(name, stat.S_IFREG | mode, io.BytesIO(data), len(data))

    def link(self, name, target):
        data = os.fsencode(target)
        self._entry(name, stat.S_IFLNK | 0o777, io.BytesIO(data), len(data))

    def device(self, name, major, minor):
        self._entry(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def close(self):
        """End the archive; without this the kernel takes it for a truncated one."""
        self._write("TRAILER!!!", 0, None, 0, (0, 0))

    def _entry(self, name, mode, file=None, size=0, device=(0, 0)):
        name = os.path.normpath(name).lstrip("/")
        if name in self._names or name in ("", "."):
            return
        parent = os.path.dirname(name)
        if parent:
            self._entry(parent, stat.S_IFDIR | 0o755)
        self._names.add(name)
        self._write(name, mode, file, size, device)

    def _write(self, name, mode, file, size, device):
        raw = os.fsencode(name) + b"\0"
        fields = (len(self._names), mode, 0, 0, 1, 0, size, 0, 0, *device, len(raw), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + raw
        self._stream.write(header + bytes(-len(header) % 4))
        if file is not None:
            shutil.copyfileobj(file, self._stream, 1 << 20)
            self._stream.write(bytes(-size % 4))
