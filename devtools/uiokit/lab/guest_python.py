# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The distribution's Python for a guest: the interpreter, and the files that modules load."""

import os
import pathlib

from .. import common, process

PYTHON = "/usr/bin/python3"


def take(modules):
    """(host path, guest path) pairs for vm.Options.take: Python with these modules.

    Emulated, a module takes long to compile: if there is bytecode, it stands in for the source.
    """
    program = f"import {', '.join(modules)}, sys, encodings.ascii\n" \
        "if 'argparse' in sys.modules: sys.modules['argparse'].ArgumentParser().format_help()\n" \
        "for one in list(sys.modules.values()):\n" \
        "    if file := getattr(one, '__file__', None):\n" \
        "        print(file, getattr(one, '__cached__', None) or '')"
    taken = {PYTHON: pathlib.Path(PYTHON)}
    for line in process.run([PYTHON, "-I", "-c", program]).stdout.splitlines():
        source, _, bytecode = line.partition(" ")
        if os.path.isfile(bytecode):
            taken[f"{source}c"] = pathlib.Path(bytecode)
        else:
            taken[source] = pathlib.Path(source)
    return [(path, name) for name, path in sorted(taken.items())]


def compiled(script):
    """The path of the bytecode of a script, which Python runs under any name."""
    made = common.build_dir("guest-python") / script.name
    process.run([PYTHON, "-I", "-c", "import py_compile, sys\n"
                 "py_compile.compile(*sys.argv[1:], doraise=True)", script, made])
    return made
