# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/check: run the tests of this repository through `meson test`, and count the results."""

import json
import os
import re
import shutil
import subprocess

from .. import common, distro, process
from . import arguments
from ..dpdk import source, variants
from ..lab import guest_image
from ..series import dpdk_tree
from ..workload import host

_NEED = {
    "lint": {"shellcheck": "shellcheck", "flake8": "flake8", "codespell": "codespell"},
    "unit": {"spin": "spin"},
    "series": {"abidiff": "abigail-tools", "gdb": "gdb", "perl": "perl", "gawk": "gawk",
               "codespell": "codespell"},
    "lab": {**host.NEED, "/sbin/apparmor_parser": "apparmor"},
    "fault": host.NEED,
    "bench": host.NEED}


def main(argv):
    options = parse(argv)
    dpdk = dpdk_tree.Tree(options.dpdk).path if options.dpdk else ""
    known = known_tests()
    suites = {known[name] for name in options.test} or set(options.suite or _NEED)
    needs_dpdk = suites - {"lint", "unit"}
    distro.need({**variants.NEED, **(source.NEED if needs_dpdk and not dpdk else {}),
                 **{name: package for suite in suites for name, package in _NEED[suite].items()}})
    if suites & {"lint", "unit"}:
        _need_pytest()
    if suites - {"lint"}:
        guest_image.busybox()
    if needs_dpdk and not dpdk:
        # Tests that run in parallel would each fetch it.
        source.get()
    folder = common.build_dir("check")
    setup = ["meson", "setup", folder, common.TOP, f"-Ddpdk={dpdk}",
             f"-Dfull={str(options.full).lower()}"]
    if (folder / "build.ninja").exists():
        setup.insert(2, "--reconfigure")
    else:
        shutil.rmtree(folder)
    with common.step("setting up the tests"):
        process.run(setup)
    logs = folder / "meson-logs"
    for name in ("testlog.json", "testlog.junit.xml"):
        (logs / name).unlink(missing_ok=True)
    code = _follow(["meson", "test", "-C", str(folder), "--print-errorlogs",
                    "--num-processes", str(options.jobs or os.cpu_count() + (not options.full)),
                    "--timeout-multiplier", str(options.timeout_multiplier),
                    *(word for suite in options.suite or () for word in ("--suite", suite)),
                    *options.test])
    log = logs / "testlog.json"
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if code and not any(result["result"] in ("FAIL", "TIMEOUT", "ERROR", "INTERRUPT")
                        for result in results):
        raise common.CheckFailed(f"meson test ended with {code}, after {len(results)} tests: "
                                 "see its output above")
    return _count(results, logs / "testlog.junit.xml")


def known_tests():
    """{test: suite} of all tests in meson.build, which has one suite a paragraph."""
    tests = {}
    for paragraph in (common.TOP / "meson.build").read_text().split("\n\n"):
        suite = re.search(r"suite: '(\w+)'", paragraph)
        if not suite:
            continue
        lists = re.findall(r"(?s)foreach \w+ : \[(.*?)\]", paragraph)
        names = re.findall(r"\btest\('(\w+)'", paragraph) + re.findall(r"'(\w+)'", " ".join(lists))
        tests.update(dict.fromkeys(names, suite[1]))
    return tests


def _need_pytest():
    """Debian calls the program pytest-3; elsewhere it is pytest, or only a module."""
    if not (shutil.which("pytest-3") or shutil.which("pytest")) and process.run(
            ["python3", "-c", "import pytest"], check=False).returncode:
        distro.install(["python3-pytest"], "missing: pytest")


def _follow(command):
    """Run with output straight to ours, and return its exit code; an interrupt ends it."""
    with process.running(command, stdin=subprocess.DEVNULL) as child:
        return child.wait()


def _count(results, junit):
    """Print what was not passed and why, and the counts; return the exit code they come to."""
    kinds = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    codes = set()
    for result in results:
        kind = kinds.get(result["result"], "failed")
        counts[kind] += 1
        if kind == "failed":
            codes.add(result["returncode"])
        if kind != "passed":
            text = result.get("stdout", "") + result.get("stderr", "")
            # Progress and details are indented: they are shown if nothing else was printed.
            said = (re.findall(r"(?m)^\S.*", text) or text.strip().split("\n"))[-1].strip()
            print(f"{kind}: {re.sub(r'.* / ', '', result['name'])}: {said}")
    print(f"JUnit XML: {junit}")
    print(", ".join(f"{number} {kind}" for kind, number in counts.items()))
    if not counts["failed"]:
        return common.PASSED if counts["passed"] else common.SKIPPED
    return common.INFRASTRUCTURE if codes == {common.INFRASTRUCTURE} else common.FAILED


def parse(argv):
    parser = arguments.parser(
        "devtools/check", "Run the tests of this repository.",
        "suites: lint; unit; series: patches, commits, ABI, DPDK's style checks; lab: the\n"
        "autotest and programs built on DPDK, in a guest; fault: kills, errors, device faults,\n"
        "soak; bench: costs and gains\n\n"
        "The last line counts the results. The line before it names the JUnit XML file.\n\n"
        "exit codes: 0 no test failed; 1 some failed; 2 usage error; 69 all that failed lacked\n"
        "something; 77 all were skipped; 130 interrupted")
    parser.add_argument("--suite", action="append", choices=list(_NEED),
                        help="run only this suite; may be repeated")
    parser.add_argument("--test", action="append", default=[], choices=list(known_tests()),
                        metavar="NAME", help="run only this test, such as autotest; may be "
                        "repeated")
    parser.add_argument("--full", action="store_true", help="run the long form: the suites fault "
                        "and bench whole, the autotest on other kernels, QEMU versions and "
                        "architectures, consume and all cases of the autotest on stock as well, "
                        "these on the commit that adds them, and the default ones on each commit "
                        "after the fix; more than an hour")
    # Many tests wait for a time, or for the build of another one. With --full, soak takes the
    # longest, and takes longer beside two others.
    parser.add_argument("--jobs", type=arguments.number(1, 1024), metavar="N",
                        help="number of tests that run at a time, of those that can (default: one "
                        "more than there are processors; with --full as many)")
    parser.add_argument("--timeout-multiplier", type=arguments.number(1, 1000), default=1,
                        metavar="N", help="multiply the time limit of each test by N, for a slow "
                        "machine (default 1)")
    arguments.add_dpdk(parser)
    options = parser.parse_args(argv)
    if options.suite and options.test:
        parser.error("--suite and --test: give one of them")
    return options
