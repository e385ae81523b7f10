# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Files of the guest outside its image: the drives, and the files that it gives back."""

import os
import pathlib
import shutil
import struct
import tarfile

from .. import common

BLOCK = 512
DRIVE_SIZE = 16 << 20


def fill_drive(file, index):
    """Make an open file a drive of which each block has other content.

    Each block starts with its own number (8 bytes, little-endian), then the drive's (8 bytes).
    """
    file.write(b"".join(struct.pack(f"<QQ{BLOCK - 16}x", number, index)
                        for number in range(DRIVE_SIZE // BLOCK)))
    file.flush()


def check_writable(option, text):
    """Raise Usage unless the file or folder that an option names could be written."""
    path = pathlib.Path(text).absolute()
    while not path.exists():
        path = path.parent
        if path.exists() and not path.is_dir():
            raise common.Usage(f"{option} {text}: cannot be written: {path} is not a folder")
    if not os.access(path, os.W_OK):
        raise common.Usage(f"{option} {text}: cannot be written: {path}: permission denied")


def put_given(archive, give):
    """Write the files that the guest gave, an open tar file, to the host.

    give: (guest path, host path) pairs. As with cp, a host path that is a folder, or ends in a
    slash, gets the file or folder under its own name; otherwise the host path becomes its name.
    Links, and entries outside of the guest path, are left out. So a guest can write nothing else on
    the host.
    """
    archive.seek(0, os.SEEK_END)
    if archive.tell() == 0:
        return
    archive.seek(0)
    try:
        with tarfile.open(fileobj=archive) as tar:
            for guest, host in give:
                top = _absolute(guest)
                target = pathlib.Path(host)
                if host.endswith("/") or target.is_dir():
                    target = target / top.name
                for member in tar:
                    path = _absolute(member.name)
                    if path.is_relative_to(top):
                        _put(tar, member, target / path.relative_to(top))
    except tarfile.TarError as error:
        raise common.Infrastructure(f"--give: what the guest sent is no tar archive: {error}")


def _absolute(name):
    """A name in an archive, or a guest path, without `..` and doubled slashes."""
    return pathlib.PurePath(os.path.normpath("/" + name.lstrip("/")))


def _put(tar, member, target):
    try:
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
        elif member.isfile():
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as file:
                shutil.copyfileobj(tar.extractfile(member), file)
            target.chmod(member.mode & 0o777)
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise common.Usage(f"--give: cannot write {target}: {error.strerror}") from None
