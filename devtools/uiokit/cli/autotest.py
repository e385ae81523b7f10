# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/autotest: the main job. Stock DPDK must fail in the way it should, patched must pass."""

import argparse
import time

from .. import common, distro
from . import arguments
from ..dpdk import source, variants
from ..lab import guest_kernel, verdict, vm

_TEST = "pci_uio_secondary_autotest"

# Enough to tell stock from patched; the rest is asked for.
_SHORT = ("bring_up", "config_bytes", "fd_none", "exit_return", "exit_killed_attached",
          "primary_cleared", "traffic_no_queue", "control:")
# Before the bug a secondary had no config space; that came with it.
_BEFORE_THE_BUG = [case for case in _SHORT if not case.startswith("config")]

# With all cases, a device that is no drive: conventional PCI, several BARs. And it does DMA.
_OTHER_DEVICE, _OTHER_ID = "vmxnet3,x-disable-pcie=on", "15ad:07b0"

# How often a secondary comes and goes in the case that is about that.
_REPEAT, _REPEAT_FULL = 5, 100

# Every drive of the guest is allowed, nothing else is; physical addresses as UIO wants them.
_RUN = ('for bdf in $LAB_NVME $LAB_UIO; do set -- "$@" -a "$bdf"; done; '
        f'exec "$@" -- {_TEST}')


def main(argv):
    options = parse(argv)
    # What is missing, and a kernel that is none, is said before the long part.
    distro.need({**variants.NEED, **vm.NEED})
    guest_kernel.obtain(options.kernel, options.modules)
    tree = source.get(options.dpdk)
    build = variants.Build(tree, options.sanitize)
    common.say(f"{tree}: {build.diagnosis} ({build.evidence})")
    folders = build.variants()
    if options.only == variants.PATCHED and variants.PATCHED not in folders:
        raise common.Skip(f"{tree} is {build.diagnosis}: there is nothing to patch")
    if options.only:
        folders = {options.only: folders[options.only]}
    rows, verdicts = [], {}
    for variant, folder in folders.items():
        started = time.monotonic()
        with common.step(f"running {_TEST} on {variant}"):
            result, found = test(options, build, folder)
        verdicts[variant] = found
        if found.broken or options.verbose:
            _tell(result, found)
        cases = len(found.passed) + len(found.failed) + len(found.skipped)
        rows.append((variant, tree.text, result.kernel, result.accel,
                     f"{cases} ({len(found.failed)} failed, {len(found.skipped)} skipped)",
                     found.summary(), f"{time.monotonic() - started:.1f}"))
        for line in found.failed:
            common.say(f"    {variant}: not ok - {line}")
        for line in found.skipped:
            common.say(f"    {variant}: skipped - {line}")
        output = common.build_dir() / f"autotest-{variant}.txt"
        common.replace_file(output, result.stdout + result.stderr)
        if not found.held:
            common.say(f"    whole output: {output}")
    _table(("variant", "DPDK", "kernel", "accel", "cases", "verdict", "seconds"), rows)
    for variant, found in verdicts.items():
        if found.never_ran and "# no case has" in result.stdout:
            raise common.Usage(f"-k {options.filter}: no case has that in its name or claim")
        if found.never_ran:
            raise common.Infrastructure(f"{variant}: {found.broken}")
    why = why_not(verdicts, build.diagnosis, options.only, bool(options.filter))
    print(f"autotest: FAIL: {why}" if why else f"autotest: PASS{_remark(build, verdicts)}")
    return common.FAILED if why else common.PASSED


def test(options, build, folder):
    """Run the test as the options (see parse()) say; what the lab and the Verdict say of it."""
    result = vm.boot(_guest(options, folder, build.program(), build.diagnosis),
                     on_line=print if options.verbose else None)
    found = verdict.judge(result.stdout, result.code)
    if result.timed_out:
        found.broken = f"killed after {options.timeout} s"
    return result, found


def why_not(verdicts, diagnosis, only, filtered=False):
    """What kept the run from showing what it should; empty if nothing did.

    Of cases that were chosen, stock need not fail any.
    """
    for variant, found in verdicts.items():
        if found.broken:
            return f"{variant}: {found.broken}"
    stock, patched = (verdicts.get(name) for name in (variants.STOCK, variants.PATCHED))
    if patched and not patched.held:
        return f"patched: {patched.summary()}: {(patched.failed or ['no case ran'])[0]}"
    if stock and diagnosis == "affected":
        if not stock.lost_bus_master and not filtered:
            return "stock does not lose bus master, though its source has the bug: " \
                   "the test no longer sees it"
        if only and stock.failed:
            return f"stock: {(stock.lost_bus_master or stock.failed)[0]}"
    elif stock and not stock.held:
        return f"stock, {diagnosis}: {stock.summary()}: {(stock.failed or ['no case ran'])[0]}"
    return ""


def _remark(build, verdicts):
    if variants.STOCK in verdicts and build.diagnosis != "affected":
        return f" ({build.tree} is {build.diagnosis}: stock passes, as it should" + (
            "; cases about config space in a secondary, which it lacks, are left out)"
            if build.diagnosis == "not-affected" else ")")
    return ""


def _guest(options, folder, program, diagnosis):
    command = [f"/dpdk/{program}", "-l", "0-1", "--iova-mode=pa", "--no-telemetry"]
    env = {"PCI_UIO_SECONDARY_REPEAT":
           str(options.repeat or (_REPEAT_FULL if options.full else _REPEAT))}
    whole = options.all or options.full
    cases = () if whole else _SHORT
    if diagnosis == "not-affected":
        cases = _BEFORE_THE_BUG
    if options.sanitize:
        # AddressSanitizer keeps its shadow where EAL maps memory by default.
        command.append("--base-virtaddr=0x200000000000")
        # An error ends its process with a code that no case expects.
        env.update(ASAN_OPTIONS="exitcode=99:detect_stack_use_after_return=1",
                   UBSAN_OPTIONS="halt_on_error=1:exitcode=99:print_stacktrace=1",
                   PCI_UIO_SECONDARY_TIME_SCALE="4")
    if options.filter or cases:
        env["PCI_UIO_SECONDARY_CASES"] = options.filter or ",".join(cases)
    # A drive with SR-IOV is one with extended capabilities, and else like any other.
    return vm.Options(command=["sh", "-c", _RUN, "sh", *command], kernel=options.kernel,
                      modules=options.modules, accel=options.accel,
                      nvme=options.nvme - 1, nvme_sriov=True,
                      device=[_OTHER_DEVICE] * whole + options.device,
                      uio=[_OTHER_ID] * whole + options.uio, hugepages=64,
                      mem=1536 if options.sanitize else None,
                      take=[(folder, "/dpdk")], env=env, timeout=options.timeout)


def _tell(result, found):
    common.say(f"    dpdk-test ended with {result.code}; boot log: {result.log}")
    if found.broken:
        for line in (result.stdout + result.stderr).splitlines()[-25:]:
            common.say(f"    | {line}")


def _table(head, rows):
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="devtools/autotest", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Build DPDK, boot a guest with an emulated NVMe drive on uio_pci_generic, and "
        f"run\n`dpdk-test {_TEST}` in it with the stock and the patched bus driver.",
        epilog="exit codes: 0 patched passes and stock fails as it should, 1 not so, 2 usage,\n"
        "69 something needed is missing or the guest never reported, 77 nothing to patch here")
    parser.add_argument("--only", choices=(variants.STOCK, variants.PATCHED),
                        help="one variant; it alone decides")
    arguments.add_dpdk(parser)
    parser.add_argument("--kernel", metavar="PATH", help="a vmlinuz or a kernel .deb "
                        "(default: the distribution's kernel package)")
    parser.add_argument("--modules", metavar="DIR", help="the modules of that vmlinuz")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    parser.add_argument("-k", dest="filter", metavar="FILTER",
                        help="only cases whose claim contains FILTER")
    parser.add_argument("--all", action="store_true",
                        help="every case, not only enough to tell stock from patched")
    parser.add_argument("--full", action="store_true",
                        help=f"every case, and {_REPEAT_FULL} secondaries that come and go in the "
                        f"one about that instead of {_REPEAT}")
    parser.add_argument("--repeat", type=int, metavar="N",
                        help="another number than these")
    parser.add_argument("--sanitize", action="store_true",
                        help="build DPDK with AddressSanitizer and UndefinedBehaviorSanitizer")
    parser.add_argument("--nvme", type=int, default=1, metavar="N", choices=range(1, 9),
                        help="number of drives, 1 to 8; each is tested")
    parser.add_argument("--device", action="append", default=[], metavar="DEVICE",
                        help="a further QEMU -device")
    parser.add_argument("--uio", action="append", default=[], metavar="VENDOR:DEVICE",
                        help="a further device to bind to uio_pci_generic and allow")
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS",
                        help="for one run of the test in the guest (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="show the test's own output")
    return parser.parse_args(argv)
