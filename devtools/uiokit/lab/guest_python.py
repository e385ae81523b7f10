# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The distribution's Python for a guest: the interpreter, and the files that modules load."""

import pathlib

from .. import process

PYTHON = "/usr/bin/python3"


def take(modules):
    """(host path, guest path) pairs for vm.Options.take: Python with these modules."""
    program = f"import {', '.join(modules)}, sys, encodings.ascii\n" \
        "if 'argparse' in sys.modules: sys.modules['argparse'].ArgumentParser().format_help()\n" \
        "for one in list(sys.modules.values()): print(getattr(one, '__file__', None) or '')"
    known = process.run([PYTHON, "-I", "-c", program])
    files = {pathlib.Path(path) for path in known.stdout.split() if path.startswith("/")}
    return [(pathlib.Path(PYTHON), PYTHON), *((path, str(path)) for path in sorted(files))]
