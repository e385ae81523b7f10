# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The lab with many processes on its drives: tests/crowd, built and taken into a guest."""

import os
import pathlib
import shutil

from . import core, dpdk_build, guest_python, lab, programs

HERE = core.TOP / "tests" / "crowd"
_SOURCES = [HERE / "crowd.c", HERE / "owner.c", HERE / "visitor.c",
            core.TOP / "app/test/nvme_command.c", core.TOP / "app/test/nvme_flow.c"]
_MODULES = ("contextlib", "ctypes", "dataclasses", "glob", "json", "pathlib", "re", "select",
            "signal", "statistics", "subprocess", "traceback")
NEED = {**dpdk_build.NEED, **lab.NEED, "pkg-config": "pkg-config", "strace": "strace"}


def build(tree, optimize=False):
    """{variant: folder} with uio_crowd and DPDK's libraries; variants differ in the bus driver."""
    made = dpdk_build.Build(tree, optimize=optimize)
    folders = {}
    for variant, laid_out in made.variants().items():
        folders[variant] = made.root / f"crowd-{variant}"
        with made.alone(), core.fresh_dir(folders[variant]) as folder:
            for part in ("lib", "drivers"):
                shutil.copytree(laid_out / part, folder / part, symlinks=True,
                                copy_function=os.link)
            (folder / "app").mkdir()
            programs.run([os.environ.get("CC", "cc"), "-Wall", "-Wextra", "-Werror", "-O2",
                          HERE / "strike.c", "-o", folder / "app/strike"], problem=core.NotHeld)
            made.compile(_SOURCES, folder / "app/uio_crowd", [f"-I{core.TOP / 'app/test'}"])
    return folders


def options(folders, script, arguments, **more):
    """lab.Options for a guest that runs one of the Python scripts of tests/crowd."""
    take = [(folder, f"/{variant}") for variant, folder in folders.items()]
    take += [(path, f"/crowd/{path.name}") for path in HERE.glob("*.py")]
    take += [(pathlib.Path(shutil.which("strace")), "/strace"), *guest_python.take(_MODULES)]
    return lab.Options(command=["python3", f"/crowd/{script}", *arguments],
                       take=take + more.pop("take", []), **more)
