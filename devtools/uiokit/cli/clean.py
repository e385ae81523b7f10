# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/clean: empty the build directory. All that is in it can be made again."""

import shutil

from .. import common
from . import arguments


def main(argv):
    arguments.parser(
        "devtools/clean", "Remove what the other commands fetched, built and measured: all that is "
        "in build/,\nor in $UIO_BUILD_DIR if a command of this project made that directory.",
        "exit codes: 0 success, 2 the directory is not ours to empty").parse_args(argv)
    folder = common.build_path()
    paths = list(folder.iterdir()) if folder.is_dir() else []
    if paths and not common.is_build_dir(folder):
        raise common.Usage(f"{folder}: not made by this project; remove it yourself")
    size = 0
    for path in paths:
        size += sum(file.lstat().st_blocks * 512 for file in [path, *path.rglob("*")])
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    print(f"removed {size / 2**20:.0f} MiB from {folder}")
