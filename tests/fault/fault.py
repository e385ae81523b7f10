# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Let secondaries, the device and the primary get into trouble, and see who suffers.

kill     a secondary is killed by SIGKILL at each system call of its life
error    each system call of its attach that can fail fails once
trouble  reset, unbind, unplug, a killed primary, a secondary without rights
soak     secondaries in thousands, 32 at once, on 32 drives

A primary reads and verifies all the time. All but soak run on stock as well, where each must cost
the device. What came of each try is kept in build/fault/.
"""

import argparse
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

SECONDARIES, SECONDARIES_FULL = 192, 10000
HERE = pathlib.Path(__file__).parent
HOURS = 3 * 3600
SHOWN = 20


def run(folders, script, arguments, **more):
    """(what the script printed last, as JSON, if it is; the lab's Result), progress passed on."""
    def progress(line):
        if line.startswith(("#", "ok ", "not ok ")):
            common.say(f"  {line}")
    result = vm.boot(host.options(folders, HERE / script, arguments, timeout=HOURS, **more),
                     on_line=progress)
    lines = result.stdout.splitlines()
    try:
        return json.loads(lines[-1]) if lines else None, result
    except ValueError:
        return None, result


def kept(name, text):
    path = common.build_dir("fault") / name
    common.replace_file(path, text)
    return path


def name_of(what, variant, full):
    return f"{what}-{variant}{'-full' if full else ''}"


def verdict_of(what, variant, full, folders, script, arguments, **more):
    """What a script found, which is kept."""
    found, result = run(folders, script, arguments, **more)
    if result.code != 0 or found is None:
        raise common.Infrastructure(f"{what}, {variant}: no verdict:\n{result.stdout[-2000:]}"
                                    f"{result.stderr[-2000:]}")
    kept(f"{name_of(what, variant, full)}.json", json.dumps(found, indent=1))
    return found


def show(wrong):
    for sentence in wrong[:SHOWN]:
        print(f"    {sentence}")
    if len(wrong) > SHOWN:
        print(f"    and {len(wrong) - SHOWN} more")
    sys.stdout.flush()
    return not wrong


def sweep(what, folders, full, affected):
    """kill or error: patched must hold, and stock must not if it has the bug."""
    held = True
    for variant in reversed(folders):
        tries = common.build_dir("fault") / f"{name_of(what, variant, full)}-tries.jsonl"
        found = verdict_of(what, variant, full, folders, "sweeps.py",
                           [what, variant, *["--full"] * full],
                           give=[("/tmp/tries.jsonl", str(tries))])
        counts = found["counts"]
        print(f"{what}, {variant}: {counts['tries']} tries in {found['seconds']:.0f} s, "
              f"{found['reads']} reads verified: " + ", ".join(
                  f"{kind} {number}" for kind, number in sorted(counts.items())
                  if kind != "tries"))
        held &= show(verdict.sweep(found, affected and variant == variants.STOCK))
    return held


def kill(folders, full, affected):
    return sweep("kill", folders, full, affected)


def error(folders, full, affected):
    return sweep("error", folders, full, affected)


def trouble(folders, _full, affected):
    if not affected:
        raise common.Skip("this DPDK is not affected, and the claim is not put on it")
    held = True
    for variant in reversed(folders):
        _, result = run(folders, "device_faults.py", [variant], monitor=True, nvme_unplug=True,
                        # A race takes a hundred primaries with memory of their own.
                        mem=3072, hugepages=384)
        path = kept(f"trouble-{variant}.txt", result.stdout + result.stderr)
        wrong = verdict.trouble(result.stdout, result.code)
        if wrong is None:
            raise common.Infrastructure(f"trouble, {variant}: no verdict: see {path}")
        print(f"trouble, {variant}: {len(wrong)} scenarios did not hold: {path}")
        show(wrong)
        held &= verdict.trouble_held(wrong, variant == variants.STOCK)
    return held


def soak(folders, full, affected):
    variant = list(folders)[-1]
    if affected and variant == variants.STOCK:
        raise common.Skip("stock loses its drives with the first secondary that leaves")
    watch = common.build_dir("fault") / f"{name_of('soak', variant, full)}-bus-master.txt"
    found = verdict_of("soak", variant, full, folders, "soak.py",
                       [variant, str(SECONDARIES_FULL if full else SECONDARIES)],
                       nvme=32, mem=1536, watch=str(watch))
    wrong = verdict.soak(found, trace.transitions(watch))
    print(f"soak, {variant}: {found['secondaries']} secondaries, 32 at once, {found['drives']} "
          f"drives, {found['seconds']:.0f} s, {found['reads']} reads verified\n"
          f"    after the first hundred: {found['first']}\n"
          f"    after the last hundred:  {found['last']}")
    return show(wrong)


def main(argv):
    claims = {claim.__name__: claim for claim in (kill, error, trouble, soak)}
    parser = argparse.ArgumentParser(prog="tests/fault", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=claims)
    parser.add_argument("--full", action="store_true", help="kill: at every system call, "
                        f"soak: {SECONDARIES_FULL} secondaries instead of {SECONDARIES}")
    arguments.add_dpdk(parser)
    parser.add_argument("--only", choices=(variants.STOCK, variants.PATCHED),
                        help="one variant")
    options = parser.parse_args(argv)
    distro.need(host.NEED)
    tree = source.get(options.dpdk)
    folders = host.build(tree)
    if options.only:
        folders = {variant: folder for variant, folder in folders.items()
                   if variant == options.only}
        if not folders:
            raise common.Skip(f"{tree} has no {options.only} variant: it is not affected")
    began = time.monotonic()
    held = claims[options.what](folders, options.full, variants.Build(tree).diagnosis ==
                                "affected")
    print(f"{options.what}: {'held' if held else 'NOT HELD'}, "
          f"{time.monotonic() - began:.0f} s")
    return common.PASSED if held else common.FAILED
