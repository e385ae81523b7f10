# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The multi-process I/O workload on the host: build it, and describe a guest that runs it."""

import os
import pathlib
import shutil
import tempfile

from .. import arch, common, process
from ..dpdk import variants
from ..lab import guest_python, vm

HERE = pathlib.Path(__file__).parent
_SOURCES = [HERE / "workload.c", HERE / "primary.c", HERE / "secondary.c",
            common.TOP / "app/test/nvme_ctrl.c"]
_MODULES = ("contextlib", "ctypes", "dataclasses", "glob", "json", "pathlib", "random", "re",
            "select", "signal", "statistics", "subprocess", "traceback")
NEED = {**variants.NEED, **vm.NEED, "pkg-config": "pkg-config", "strace": "strace"}


def build(tree, **more):
    """Build uio_workload; {variant: folder}, which differ in the bus driver only.

    more: as variants.Build takes it.
    """
    made = variants.Build(tree, **more)
    laid_out = made.variants()
    folders = {variant: made.root / f"workload-{variant}" for variant in laid_out}
    with made.alone(), tempfile.TemporaryDirectory(dir=made.root) as programs:
        process.run([*arch.native().compiler, "-Wall", "-Wextra", "-Werror", "-O2",
                     HERE / "inject.c", "-o", f"{programs}/inject"], problem=common.CheckFailed)
        made.compile(_SOURCES, f"{programs}/uio_workload", [f"-I{common.TOP / 'app/test'}"])
        for variant, folder in folders.items():
            with common.fresh_dir(folder, keep_same=True) as fresh:
                for part, origin in (("lib", laid_out[variant] / "lib"), ("app", programs),
                                     ("drivers", laid_out[variant] / "drivers")):
                    shutil.copytree(origin, fresh / part, symlinks=True, copy_function=os.link)
    return folders


def options(folders, script, arguments, **more):
    """The vm.Options of a guest that runs a Python script of this host with the workload."""
    take = [(folder, f"/{variant}") for variant, folder in folders.items()]
    take += [(path, f"/workload/{path.name}") for path in (HERE / "workload.py", script)]
    take += [(pathlib.Path(shutil.which("strace")), "/strace"), *guest_python.take(_MODULES)]
    return vm.Options(command=["python3", f"/workload/{script.name}", *arguments],
                      take=take + more.pop("take", []), **{"aslr": False, **more})
