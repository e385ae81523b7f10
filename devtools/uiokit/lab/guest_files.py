# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Files that the guest reads and writes beside its image: drives, and what it gives back."""

import os
import pathlib
import shutil
import tarfile

from .. import common

BLOCK = 512
DRIVE_SIZE = 16 << 20


def fill_drive(file, index):
    """Make an open file a drive on which every block tells which one it is.

    Each block starts with its own number (8 bytes, little-endian), then the drive's (8 bytes).
    """
    blocks = DRIVE_SIZE // BLOCK
    data = bytearray(DRIVE_SIZE)
    for byte in range(8):
        data[byte::BLOCK] = bytes(number >> 8 * byte & 0xff for number in range(blocks))
        data[8 + byte::BLOCK] = bytes([index >> 8 * byte & 0xff]) * blocks
    file.write(data)
    file.flush()


def put_given(archive, give):
    """Put what the guest gave, an open tar file, where it was asked for.

    give: (guest path, host path) pairs. As with cp, a host path that is a folder, or ends in a
    slash, gets it under its own name; any other becomes the file or folder itself.
    """
    archive.seek(0, os.SEEK_END)
    if archive.tell() == 0:
        return
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        for guest, host in give:
            name = os.path.normpath(guest).lstrip("/")
            target = pathlib.Path(host)
            if host.endswith("/") or target.is_dir():
                target = target / os.path.basename(name)
            for member in tar:
                path = os.path.normpath(member.name)
                if path == name:
                    _put(tar, member, target)
                elif path.startswith(f"{name}/"):
                    _put(tar, member, target / path[len(name) + 1:])


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
