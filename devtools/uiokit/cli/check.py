# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/check: everything that CI runs, through `meson test`, counted in one last line."""

import argparse
import json
import re
import shutil
import subprocess

from .. import common, distro, process
from . import arguments
from ..dpdk import variants
from ..lab import guest_image, vm
from ..series import dpdk_tree
from ..workload import host

_NEED = {
    "lint": {"shellcheck": "shellcheck", "flake8": "flake8", "codespell": "codespell"},
    "unit": {},
    "series": {"abidiff": "abigail-tools", "gdb": "gdb", "perl": "perl", "gawk": "gawk",
               "codespell": "codespell"},
    "lab": vm.NEED,
    "fault": host.NEED,
    "bench": {**host.NEED, "gnuplot": "gnuplot-nox"}}
_NEED_ALWAYS = {**variants.NEED, "pytest-3": "python3-pytest"}


def main(argv):
    parser = argparse.ArgumentParser(
        prog="devtools/check", description="Run the tests of this repository.",
        epilog="exit codes: 0 none failed, 1 some failed, 2 usage,\n"
        "69 what failed did so for lack of infrastructure alone",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="append", choices=list(_NEED),
                        help="only this suite (repeatable)")
    parser.add_argument("--full", action="store_true", help="the long form of the suites fault and "
                        "bench: about an hour")
    arguments.add_dpdk(parser)
    options = parser.parse_args(argv)
    dpdk = dpdk_tree.Tree(options.dpdk).path if options.dpdk else ""
    suites = options.suite or list(_NEED)
    distro.need({name: package for suite in suites
                 for name, package in {**_NEED_ALWAYS, **_NEED[suite]}.items()})
    guest_image.busybox()
    folder = common.build_dir("check")
    setup = ["meson", "setup", folder, common.TOP, f"-Ddpdk={dpdk}",
             f"-Dfull={str(options.full).lower()}"]
    if (folder / "build.ninja").exists():
        setup.insert(2, "--reconfigure")
    else:
        shutil.rmtree(folder)
    with common.step("setting up the tests"):
        process.run(setup)
    log = folder / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    command = ["meson", "test", "-C", str(folder), "--print-errorlogs", "--num-processes", "2"]
    for suite in options.suite or ():
        command += ["--suite", suite]
    code = _follow(command)
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if code and not any(result["result"] in ("FAIL", "TIMEOUT", "ERROR", "INTERRUPT")
                        for result in results):
        raise common.CheckFailed(f"meson test ended with {code}, after {len(results)} tests: "
                                 "see its output above")
    return _count(results)


def _follow(command):
    """Run with output straight to ours, and return its exit code; an interrupt ends it."""
    with process.running(command, stdin=subprocess.DEVNULL) as child:
        return child.wait()


def _count(results):
    """Print what was skipped and why, then the counts; the exit code they come to."""
    kinds = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    codes = set()
    for result in results:
        kind = kinds.get(result["result"], "failed")
        counts[kind] += 1
        if kind == "failed":
            codes.add(result["returncode"])
        if kind != "passed":
            said = (result.get("stdout", "") + result.get("stderr", "")).strip().splitlines()
            print(f"{kind}: {re.sub(r'.* / ', '', result['name'])}: {said[-1] if said else ''}")
    print(", ".join(f"{number} {kind}" for kind, number in counts.items()))
    if not counts["failed"]:
        return common.PASSED if counts["passed"] else common.SKIPPED
    return common.INFRASTRUCTURE if codes == {common.INFRASTRUCTURE} else common.FAILED
