# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Fault injection: does the primary keep its device when a secondary, or the device, fails?

kill           SIGKILL of a secondary at its system calls
kill_primary   SIGKILL of a primary at its system calls while two secondaries read
error          the system calls of an attach that can fail fail once
device_faults  reset, unbind, unplug, a killed primary, a second one, missing privileges
soak           secondaries attach and exit, 32 at the same time, on 32 drives

A primary reads and verifies data all the time. All but soak run on stock as well, where they must
lose the device. The results of each try are kept in build/fault/.
"""

import json
import pathlib
import sys
import time

import verdict
from uiokit import common, distro
from uiokit.cli import arguments
from uiokit.dpdk import source, variants
from uiokit.lab import trace, vm
from uiokit.workload import host

# Short and full form: the secondaries of soak, the primaries that race for a drive.
SECONDARIES, RACING = (64, 10000), (30, 100)
# In the short form, on a DPDK with the bug: scenarios in which it loses the device.
LOSING = ("second_primary", "no_sys_admin")
HERE = pathlib.Path(__file__).parent
TIMEOUT = 3 * 3600
SHOWN = 20


class Run:
    """What to run, on {variant: folder}, in which form. affected: stock has the bug."""

    def __init__(self, what, folders, full, affected):
        self.what, self.folders, self.full, self.affected = what, folders, full, affected

    def path(self, variant, suffix):
        form = "-full" if self.full else ""
        return common.build_dir("fault") / f"{self.what}-{variant}{form}{suffix}"

    def has_bug(self, variant):
        return self.affected and variant == variants.STOCK

    def depth(self, variant):
        """How many faults to inject (sweeps.py): fewer if the drive only has to be lost."""
        return ("probe", "short", "full")[self.full + (not self.has_bug(variant))]

    def boot(self, variant, script, arguments, **more):
        """The lab's Result of a script in the guest; shows its progress."""
        def progress(line):
            if line.startswith(("#", "ok ", "not ok ")):
                common.say(f"  {line}")
        return vm.boot(host.options(self.folders, HERE / script, [variant, *arguments],
                                    timeout=TIMEOUT, **more), on_line=progress)

    def found(self, variant, script, arguments, **more):
        """The JSON object on the last line of a script's output, which is kept in a file."""
        result = self.boot(variant, script, arguments, **more)
        try:
            found = json.loads(result.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            found = None
        if result.code != 0 or found is None:
            raise common.Infrastructure(f"{self.what}, {variant}: no verdict: {script} exited with "
                                        f"{result.code}:\n{result.stdout[-2000:]}"
                                        f"{result.stderr[-2000:]}")
        common.replace_file(self.path(variant, ".json"), json.dumps(found, indent=1))
        return found


def show(wrong):
    """Print what is wrong; whether nothing is."""
    for sentence in wrong[:SHOWN]:
        print(f"    {sentence}")
    if len(wrong) > SHOWN:
        print(f"    and {len(wrong) - SHOWN} more")
    sys.stdout.flush()
    return not wrong


def sweep(run):
    """kill and error: patched must keep the device, stock with the bug must lose it."""
    passed = True
    for variant in reversed(run.folders):
        found = run.found(variant, "sweeps.py", [run.what, run.depth(variant)], cpus=1,
                          give=[("/tmp/tries.jsonl", str(run.path(variant, "-tries.jsonl")))])
        counts = found["counts"]
        print(f"{run.what}, {variant}: {counts['tries']} tries in {found['seconds']:.0f} s, "
              f"{found['reads']} reads verified: " + ", ".join(
                  f"{kind} {number}" for kind, number in sorted(counts.items())
                  if kind != "tries") +
              (f"; at most {found['longest_ms']:.0f} ms between two reads of a secondary"
               if "longest_ms" in found else ""))
        passed &= show(verdict.sweep(found, run.has_bug(variant)))
    return passed


def device_faults(run):
    if not run.affected:
        raise common.Skip("this DPDK does not have the bug: it cannot carry the claim")
    passed = True
    for variant in reversed(run.folders):
        names = LOSING if run.has_bug(variant) and not run.full else ()
        # Each of the primaries in a race has its own memory.
        result = run.boot(variant, "device_faults.py", [str(RACING[run.full]), *names],
                          monitor=True, nvme_unplug=True, mem=3072, hugepages=384)
        path = run.path(variant, ".txt")
        common.replace_file(path, result.stdout + result.stderr)
        wrong = verdict.device_faults(result.stdout, result.code)
        if wrong is None:
            raise common.Infrastructure(f"device_faults, {variant}: no verdict: see {path}")
        print(f"device_faults, {variant}: {len(wrong)} scenarios failed: {path}")
        show(wrong)
        passed &= verdict.device_faults_passed(wrong, run.has_bug(variant))
    return passed


def soak(run):
    variant = list(run.folders)[-1]
    if run.has_bug(variant):
        raise common.Skip("stock loses its drives when the first secondary exits")
    watch = run.path(variant, "-bus-master.txt")
    found = run.found(variant, "soak.py", [str(SECONDARIES[run.full])], cpus=1, nvme=32, mem=1536,
                      watch=str(watch))
    print(f"soak, {variant}: {found['secondaries']} secondaries, 32 at the same time, "
          f"{found['drives']} drives, {found['seconds']:.0f} s, {found['reads']} reads verified\n"
          f"    after {found['first_after']} secondaries: {found['first']}\n"
          f"    after {found['secondaries']} secondaries: {found['last']}")
    return show(verdict.soak(found, trace.transitions(watch)))


TESTS = {"kill": sweep, "kill_primary": sweep, "error": sweep, "device_faults": device_faults,
         "soak": soak}


def main(argv):
    parser = arguments.parser("tests/fault/fault", __doc__, "exit codes: 0 passed, 1 failed, "
                              "2 usage, 69 environment missing or broken, 77 skipped,\n"
                              "130 interrupted")
    parser.add_argument("what", choices=TESTS)
    parser.add_argument("--full", action="store_true", help="kill: at every system call; "
                        "kill_primary: at seven times as many; error: in EAL's scan as well; "
                        "all three: on stock, at as many as on patched without "
                        f"--full; soak: {SECONDARIES[True]} secondaries, "
                        f"not {SECONDARIES[False]}; device_faults: {RACING[True]} primaries race, "
                        f"not {RACING[False]}, and all scenarios run on stock as well")
    arguments.add_dpdk(parser)
    parser.add_argument("--only", choices=(variants.STOCK, variants.PATCHED),
                        help="run only this variant (default: both)")
    options = parser.parse_args(argv)
    tree = source.get(options.dpdk)
    distro.need(host.NEED)
    folders = host.build(tree)
    if options.only:
        folders = {variant: folder for variant, folder in folders.items()
                   if variant == options.only}
        if not folders:
            raise common.Skip(f"{tree} has no {options.only} variant: it does not have the bug")
    began = time.monotonic()
    passed = TESTS[options.what](Run(options.what, folders, options.full,
                                     variants.Build(tree).diagnosis == "affected"))
    print(f"{options.what}: {'passed' if passed else 'FAILED'}, {time.monotonic() - began:.0f} s")
    return common.PASSED if passed else common.FAILED
