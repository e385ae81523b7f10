# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import importlib
import pathlib
import sys

from .. import common


def launch():
    """Run main(argv) of NAME.py beside the command NAME (tests/), or else of uiokit.cli.NAME."""
    command = pathlib.Path(sys.argv[0]).absolute()
    if command.with_name(f"{command.name}.py").is_file():
        sys.path.insert(1, str(command.parent))
        common.entry(importlib.import_module(command.name).main)
    common.entry(importlib.import_module(f"uiokit.cli.{command.name}").main)
