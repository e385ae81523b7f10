# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/autotest: run the test with a stock and a patched bus driver, and compare."""

import argparse
import itertools
import operator
import pathlib
import re
import sys
import time

from .. import arch, common, distro
from . import arguments, ci_report
from ..dpdk import source, variants
from ..lab import autotest, guest_kernel, qemu, tap

_EPILOG = """\
The last line is `autotest: PASS` or `autotest: FAIL: WHY`. The whole output of each run is kept in
build/autotest-VARIANT.txt (--all: autotest-VARIANT-all.txt; --matrix and --kernel all: one with the
cell in its name). doc/ci.md describes the files of --json, --junit and --tap, in which a failure
that is expected of stock is not a failure.

exit codes: 0 patched passes, and stock fails as expected; 1 otherwise; 2 usage error; 69 something
needed is missing, or the guest did not report; 77 nothing could be tested; 130 interrupted"""

# The value of --kernel for the kernel of each suite in turn.
_ALL_KERNELS = "all"

# The suites whose QEMU the matrix has: 7.2 and 10.0. Debian 13's needs a newer libc than 12's.
_QEMU_SUITES = ("bookworm", "bookworm-backports")

# The number of last lines that are shown of a run that cannot be judged.
_TAIL = 20


def main(argv):
    options = parse(argv)
    if options.matrix is not None:
        return _table(options, argv, cells([source.get(path) for path in options.matrix or [None]]))
    if options.kernel == _ALL_KERNELS:
        tree = source.get(options.dpdk, options.refresh)
        return _table(options, argv, [(tree, suite, options.qemu, options.guest)
                                      for suite in distro.SUITES])
    if options.dpdk:
        source.get(options.dpdk)
    guest_kernel.check(options.kernel, options.modules, options.guest)
    report = ci_report.Report()
    with ci_report.written(options, report) as show:
        return _main(options, report, show)


def cells(trees):
    """The cells of the matrix, as tuples: DPDK, suite of the kernel, suite of QEMU, arch.Arch.

    Each value of an axis is combined with the oldest of all others, and with the newest. Of the
    architectures, the machine's own stands for both.
    """
    axes = trees, distro.SUITES, _QEMU_SUITES, arch.guests().values()
    oldest, newest = ((trees[end], distro.SUITES[end], _QEMU_SUITES[end], arch.native())
                      for end in (0, -1))
    return [cell for cell in itertools.product(*axes)
            if any(sum(map(operator.ne, cell, end)) <= 1 for end in (oldest, newest))]


def _table(options, argv, chosen):
    """Run cells of the matrix, write the table of build/matrix.md, return the worst exit code.

    chosen: tuples as cells() returns them, with QEMU as --qemu takes it. Each row is written as
    soon as it is known. A cell that cannot be run does not keep the others from being run.
    """
    codes = []
    with open(common.build_dir() / "matrix.md", "w", encoding="utf-8") as page:
        def show(line):
            for file in (sys.stdout, page):
                print(line, file=file, flush=True)

        for line in common.conditions("devtools/autotest", argv):
            show(f"{line}\n")
        show("| DPDK | kernel | QEMU | arch | stock | patched | seconds with builds |\n"
             "|---|---|---|---|---|---|---|")
        for tree, kernel, program, guest in chosen:
            cell = "-".join(("", tree.path.name, kernel,
                             pathlib.PurePath(program or guest.qemu).name, guest.name))
            report, began = ci_report.Report(), time.monotonic()
            version, why = program or guest.qemu, ""
            try:
                codes.append(_main(argparse.Namespace(**{
                    **vars(options), "dpdk": str(tree.path), "kernel": kernel, "qemu": program,
                    "guest": guest, "cell": cell}), report, common.say))
                version = qemu.version(qemu.obtain(version, guest))
                if report.dpdk["diagnosis"] != "affected":
                    why = f": this DPDK is {report.dpdk['diagnosis']}"
            except common.Problem as problem:
                common.say(f"autotest{cell}: {problem}")
                codes.append(problem.code)
                why = f": {problem}".partition("\n")[0].replace("|", "\\|")
            shown = {run.variant: run.summary for run in report.runs}
            commit = f" ({tree.git('rev-parse', '--short', 'HEAD')})" if tree.is_git else ""
            row = (f"{tree.text}{commit}", report.runs[-1].kernel if report.runs else kernel,
                   version, guest.name,
                   *(shown.get(variant, f"not run{why}") for variant in
                     (variants.STOCK, variants.PATCHED)), f"{time.monotonic() - began:.0f}")
            show(f"| {' | '.join(row)} |")
    return next((code for code in (common.FAILED, common.INFRASTRUCTURE, common.USAGE,
                                   common.SKIPPED) if code in codes), common.PASSED)


def _main(options, report, show):
    guest = options.guest
    distro.need({**variants.NEED, **guest.compiler_need, **({} if options.dpdk else source.NEED),
                 **({} if options.qemu else {guest.qemu: guest.qemu_package})})
    guest_kernel.obtain(options.kernel, options.modules, options.refresh, guest=guest)
    tree = source.get(options.dpdk, options.refresh)
    build = variants.Build(tree, options.sanitize, guest=guest)
    common.say(f"{tree}: {build.diagnosis} ({build.evidence})")
    report.dpdk = {"version": tree.text, "path": str(tree.path), "diagnosis": build.diagnosis,
                   "evidence": build.evidence}
    folders = build.variants()
    if options.only == variants.PATCHED and variants.PATCHED not in folders:
        raise common.Skip(f"{tree} is {build.diagnosis}: there is nothing to patch")
    if options.only:
        folders = {options.only: folders[options.only]}
    # The kernel has been fetched, and --verbose shows the test alone.
    lab_options = autotest.Options(
        config_space=build.diagnosis != "not-affected",
        **{name: value for name, value in vars(options).items() if value is not None
           and name in autotest.Options.__dataclass_fields__.keys() - {"refresh", "verbose"}})
    for variant, folder in folders.items():
        run, never_ran = _run(variant, folder, build, options, lab_options, show)
        report.runs.append(run)
        show(f"{variant}: {common.coloured(run.summary, not _unmet(run))}")
        _show_details(run, options.verbose, show)
        if never_ran:
            raise common.Infrastructure(f"{variant}: {run.checks[0].why}; whole output: {run.log}")
    report.result, report.why = _result(report.runs)
    report.ended = True
    if build.diagnosis == "not-affected":
        show("  left out: cases about config space, which a secondary of this DPDK does not have")
    show(f"autotest: {common.coloured(report.result, report.result == 'PASS')}"
         f"{': ' if report.why else ''}{report.why}")
    return {"PASS": common.PASSED, "FAIL": common.FAILED, "SKIP": common.SKIPPED}[report.result]


def _run(variant, folder, build, options, lab_options, show):
    """(Run, whether no case was started) of one variant."""
    started = time.monotonic()
    with common.step(f"running {autotest.TEST} on {variant}"):
        result, verdict = autotest.run(lab_options, folder, build.program(),
                                       show if options.verbose else None)
    log = common.build_dir() / f"autotest-{variant}{'-all' * options.all}{options.cell}.txt"
    common.replace_file(log, f"# dpdk-test exited with {result.code}; boot log: {result.log}\n"
                        f"# standard output:\n{result.stdout}\n"
                        f"# standard error:\n{result.stderr}")
    must_fail = variant == variants.STOCK and build.diagnosis == "affected" and not options.only
    summary, checks = judge(verdict, must_fail, bool(options.filter))
    return ci_report.Run(variant, summary, checks, verdict.cases, result.kernel, result.accel,
                         time.monotonic() - started, str(log)), verdict.never_ran


def judge(verdict, must_fail, chosen):
    """(summary, checks): what a Verdict means for its variant.

    must_fail: this variant has the bug, and the test must detect it. chosen: -k chose the cases,
    so they need not detect it.
    """
    failed, lost = verdict.of(tap.FAILED), verdict.lost_bus_master
    skipped = len(verdict.of(tap.SKIPPED))
    total = f"of {len(verdict.cases)} cases"
    more = f", {skipped} skipped" if skipped else ""
    if verdict.broken:
        return f"gives no verdict: {verdict.broken}", [
            ci_report.Check("the test runs to its end", ci_report.ERROR, verdict.broken)]
    if failed:
        summary = f"fails ({len(failed)} {total}{more})"
    elif verdict.passed:
        summary = f"passes ({len(verdict.of(tap.PASSED))} {total}{more})"
    else:
        summary = f"is not tested ({skipped} {total} skipped)"
    if must_fail and lost:
        return (f"fails as expected ({len(failed)} {total}, bus master lost in {len(lost)}{more})",
                [ci_report.Check("a secondary's exit clears bus master", tap.PASSED)])
    if must_fail and chosen:
        return f"{summary}; not judged, because -k chose the cases", [
            ci_report.Check("the chosen cases run to their end",
                            tap.PASSED if failed or verdict.passed else tap.SKIPPED, summary)]
    if must_fail:
        summary += ", but no case saw bus master lost: stock has the bug, but the test did not " \
                   "detect it"
        return summary, [ci_report.Check("a secondary's exit clears bus master", tap.FAILED,
                                         "expected bus master lost, got " + summary)]
    return summary, [ci_report.Check(case.claim, case.status, case.why) for case in verdict.cases]


def _result(runs):
    """(PASS, FAIL or SKIP, why) of all runs."""
    for run in runs:
        if _unmet(run):
            return "FAIL", f"{run.variant} {run.summary}"
    for run in runs:
        if all(check.status == tap.SKIPPED for check in run.checks):
            return "SKIP", f"{run.variant} {run.summary}: {run.checks[0].why}"
    return "PASS", ""


def _unmet(run):
    return [check for check in run.checks if check.status in (tap.FAILED, ci_report.ERROR)]


def _show_details(run, verbose, show):
    for check in _unmet(run):
        show(f"  {check.status}: {check.name}")
        match = re.fullmatch("expected (.*?), got (.*)", check.why)
        show(f"    expected: {match[1]}\n    got:      {match[2]}" if match else f"    {check.why}")
        if check.status == ci_report.ERROR:
            show("\n".join(f"    | {line}" for line in
                           pathlib.Path(run.log).read_text().splitlines()[-_TAIL:]))
    if verbose:
        for check in run.checks:
            if check.status == tap.SKIPPED:
                show(f"  skipped: {check.name}: {check.why}")
        show(f"  kernel {run.kernel}, {run.accel}, {run.seconds:.1f} s")
    if verbose or _unmet(run):
        show(f"  whole output: {run.log}")


def parse(argv):
    parser = arguments.parser(
        "devtools/autotest", "Build DPDK, boot a guest with an emulated NVMe drive on "
        f"uio_pci_generic, and run\n`dpdk-test {autotest.TEST}` in it with a stock and a patched "
        "bus driver.", _EPILOG)
    add = parser.add_argument
    add("--only", choices=(variants.STOCK, variants.PATCHED),
        help="run only this variant, and judge by it alone: it must pass")
    arguments.add_dpdk(parser)
    arguments.add_refresh(parser)
    arguments.add_kernel_and_qemu(parser, more=f", or {_ALL_KERNELS} for one table "
                                  "of all suites, also written to build/matrix.md")
    add("--matrix", nargs="*", metavar="TREE", help="run on several DPDK trees (oldest first; "
        "default: the distribution's source), kernels, QEMU versions and architectures: each with "
        "the oldest and the newest of the others; the table is also written to build/matrix.md")
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto",
        help="the accelerator (default auto: KVM where a guest boots on it, else TCG)")
    add("-k", dest="filter", metavar="TEXT", type=_filter,
        help="run only cases with TEXT in the name or claim; several, separated by commas")
    add("--all", action="store_true", help="run all cases, not only enough to tell stock from "
        "patched, on one more device that is not a drive")
    add("--full", action="store_true", help=f"--all, with {autotest.REPEAT_FULL} secondaries "
        f"instead of {autotest.REPEAT} in the repeat case")
    add("--repeat", type=arguments.number(1, 1 << 16), metavar="N",
        help=f"number of secondaries in the repeat case (default {autotest.REPEAT})")
    add("--no-aslr", dest="aslr", action="store_false", help="do not randomize addresses: in an "
        "emulated guest a process then starts in half the time")
    add("--sanitize", action="store_true",
        help="build DPDK with AddressSanitizer and UndefinedBehaviorSanitizer")
    add("--nvme", type=arguments.number(1, 8), default=1, metavar="N",
        help="number of drives, 1 to 8 (default 1); each is tested")
    add("--device", action="append", default=[], metavar="ARGS",
        help="add a device to the guest, as QEMU's -device takes it; may be repeated")
    add("--uio", action="append", default=[], metavar="VENDOR:DEVICE", type=arguments.pci_id,
        help="bind devices with this id to uio_pci_generic and test them; may be repeated")
    add("--timeout", type=arguments.number(1, 1 << 20), default=300, metavar="SECONDS",
        help="time limit of one run of the test in the guest (default %(default)s)")
    add("--verbose", action="store_true", help="show the test's own output as it comes")
    ci_report.add_options(parser)
    # What _table() puts into the names of logs.
    parser.set_defaults(cell="")
    options = parser.parse_args(argv)
    if options.matrix is not None and any(
            getattr(options, name) != parser.get_default(name)
            for name in ("dpdk", "kernel", "modules", "qemu", "guest", "refresh",
                         *ci_report.FORMATS)):
        parser.error("--matrix: without --dpdk, --kernel, --modules, --qemu, --arch, --refresh "
                     "and report files")
    if options.kernel == _ALL_KERNELS and any(
            getattr(options, name) for name in ("modules", *ci_report.FORMATS)):
        parser.error("--kernel all: without --modules and report files")
    options.all |= options.full
    if options.full and not options.repeat:
        options.repeat = autotest.REPEAT_FULL
    return options


def _filter(text):
    """The type of -k: text that selects at least one case."""
    parts = [part for part in text.split(",") if part]
    if not any(part in name or part in claim for part in parts
               for name, claim in autotest.known_cases().items()):
        raise argparse.ArgumentTypeError(
            f"{text}: in no case's name or claim; names: {', '.join(autotest.known_cases())}")
    return text
