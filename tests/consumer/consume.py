# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Build a program against an installed DPDK, as SPDK does, and run it as primary and secondary.

tests/consumer/uio_pair.c is found by pkg-config alone, linked statically and shared. With the stock
DPDK it must lose bus mastering when its secondary ends, with the patched one it must not. Meanwhile
uio-doctor and dpdk-telemetry.py must tell who owns the device, and in what danger it is.
"""

import argparse
import os
import pathlib

from uiokit import common, distro, process
from uiokit.cli import arguments
from uiokit.dpdk import install, source, variants
from uiokit.lab import guest_python, vm

HERE = common.TOP / "tests" / "consumer"
# What uio-doctor and dpdk-telemetry.py load.
PYTHON_MODULES = ("argparse", "glob", "json", "locale", "pathlib", "re", "readline", "socket",
                  "traceback")
# DPDK leaves its drivers, which a bus is, out of what it tells for shared linking.
LINKING = {"shared": (["--libs"], ["-lrte_bus_pci"]), "static": (["--static", "--libs"], [])}


def pkg_config(prefix, *args):
    # No other libdpdk may be found than the one that was installed; the system's libraries may.
    env = dict(os.environ, PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig"))
    return process.run(["pkg-config", *args, "libdpdk"], env=env).stdout.split()


def compiled(prefix, linking, folder):
    """The program, linked in one way against what is in prefix."""
    program = folder / f"uio_pair-{linking}"
    ask, more = LINKING[linking]
    process.run([os.environ.get("CC", "cc"), "-Wall", "-Wextra", "-O1",
                 "-DALLOW_INTERNAL_API", "-DALLOW_EXPERIMENTAL_API",
                 *pkg_config(prefix, "--cflags"), HERE / "uio_pair.c", "-o", program,
                 *pkg_config(prefix, *ask), *more], problem=common.CheckFailed)
    return program


def run(program, prefix, scenario, watch=None, take=()):
    """What the lab says of a scenario.

    It takes the shared libraries that the program needs, at their paths, and not DPDK's folder of
    plugins: EAL refuses that one below a folder that all may write to, such as /tmp.
    """
    env = {"LD_LIBRARY_PATH": str(prefix / "lib")} if program.name.endswith("shared") else {}
    return vm.boot(vm.Options(
        command=["/scenario", "/uio_pair"], env=env, timeout=120, watch=watch,
        take=[(program, "/uio_pair"), (HERE / scenario, "/scenario"), *take]))


def judge(variant, linking, done):
    """Stock must lose the bit with the secondary, and patched must keep it; both see the rest."""
    lost = "at the end, bus master OFF" in done.stdout
    attached = done.stdout.count("wrote 0x") == 4 and "when attached, bus master OFF" \
        not in done.stdout
    right = attached and done.code == lost == (variant == variants.STOCK)
    print(f"== {variant}, {linking}: exit code {done.code}, bus master {'lost' if lost else 'kept'}"
          f"{'' if right else ': NOT AS IT SHOULD BE'}\n{done.stdout}{done.stderr}", end="",
          flush=True)
    return right


# In each step of tests/consumer/ownership: what must be said, on stock and on patched.
SAID = {
    "nobody has the device": (["idle: nobody has the device"],) * 2,
    "a primary takes it": (
        ["healthy: primary", "is an affected version"],
        ["healthy: primary", "its DPDK has the fix", "claimed by", '["0000:00:04.0"]',
         '"bus_master": 1', '"uio_fds": 1', '"attached": []']),
    "a secondary attaches": (
        ["at risk: secondary", "has /dev/uio0 open"],
        ["healthy: primary", "1 attached beside it", '"bus_master": 1',
         '{"/pci/uio/list": ["0000:00:04.0"]}']),
    "the secondary ends": (
        ["lost: bus mastering is OFF while primary"],
        ["healthy: primary", '"bus_master": 1']),
    "the bit is set again, if need be": (["needs a reset"], ["nothing to restore"]),
    "a program that is not DPDK opens the UIO device": (
        ["at risk: ", "not DPDK, has /dev/uio0 open as well", "needs a reset"],
        ["at risk: ", "not DPDK, has /dev/uio0 open as well", '"bus_master": 0',
         "needs a reset"]),
    "a second primary wants the device": (
        ["[exit 0]", "lost: bus mastering is OFF"],
        ["is in use by process", "[exit 1]", "healthy: primary"]),
    "the primary ended with 1": (["at the end, bus master OFF"], []),
    "the primary ended with 0": ([], ["at the end, bus master on"]),
}


def judge_ownership(variant, done):
    """Whether doctor and telemetry say what they must; prints all that they say."""
    print(f"== {variant}: who owns the device\n{done.stdout}{done.stderr}", flush=True)
    steps = dict(part.partition("\n")[::2] for part in done.stdout.split("\n# ")[1:])
    missing = [f"{step}: {text}" for step, texts in SAID.items()
               for text in texts[variant == variants.PATCHED] if text not in steps.get(step, "")]
    for one in missing:
        print(f"{variant}: NOT SAID: {one}", flush=True)
    return not missing


def main(argv):
    parser = argparse.ArgumentParser(prog="tests/consume", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_dpdk(parser)
    parser.add_argument("--watch", metavar="DIR", help="write the bus master bit over time to "
                        "DIR/stock.txt and DIR/patched.txt")
    options = parser.parse_args(argv)
    distro.need({**variants.NEED, **vm.NEED, "pkg-config": "pkg-config"})
    tree = source.get(options.dpdk)
    folder = common.build_dir("consumer")
    # One prefix after the other in the same place: all but the bus driver is built once.
    prefix = folder / "dpdk"
    right = True
    for variant in (variants.STOCK, variants.PATCHED):
        install.install(tree, "spdk", prefix, variant)
        for linking in LINKING:
            watch = options.watch and pathlib.Path(options.watch, f"{variant}.txt")
            with common.step(f"running uio_pair on {variant}, {linking}"):
                done = run(compiled(prefix, linking, folder), prefix, "scenario", watch)
            right &= judge(variant, linking, done)
        with common.step(f"asking uio-doctor and telemetry on {variant}"):
            done = run(compiled(prefix, "shared", folder), prefix, "ownership", take=[
                *guest_python.take(PYTHON_MODULES),
                (prefix / "lib/pkgconfig", str(prefix / "lib/pkgconfig")),
                (common.TOP / "devtools/uio-doctor", "/uio-doctor"),
                (tree.path / "usertools/dpdk-telemetry.py", "/dpdk-telemetry.py")])
        right &= judge_ownership(variant, done)
    return common.PASSED if right else common.FAILED
