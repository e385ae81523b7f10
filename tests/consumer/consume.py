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
        command=["/scenario", "/uio_pair"], env=env, timeout=1200, watch=watch,
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
    "no process has the device": (
        ["idle: no process has the device open, mapped or claimed", "[exit 0]"],) * 2,
    "a primary attaches": (
        ["at risk: primary process", "22.11.11 is an affected version", "[exit 1]"],
        ["healthy: primary process", "its DPDK has the fix", "claimed by process", "[exit 0]",
         '["0000:00:04.0"]', '"bus_master": 1']),
    "a secondary attaches": (
        ["at risk: secondary process", "has /dev/uio0 open: when it ends"],
        ["healthy: primary process", "1 secondary process attached, none with /dev/uio0 open",
         '"bus_master": 1', '{"/pci/uio/list": ["0000:00:04.0"]}']),
    "the secondary exits": (
        ["lost: bus mastering is OFF while primary process"],
        ["healthy: primary process", '"bus_master": 1']),
    "the bit is set again, if necessary": (["must reset"], ["nothing to restore"]),
    "a program that is not DPDK opens the UIO device": (
        ["at risk: process", "(sh, not DPDK) has /dev/uio0 open as well", "must reset"],
        ["at risk: process", "(sh, not DPDK) has /dev/uio0 open as well",
         '"bus_master": 0', "must reset"]),
    "not all processes are visible": ([
        "unknown: cannot tell whether a primary process has the device (bus mastering is on): ",
        "this is not the initial PID namespace", "[own PID namespace: exit 69]",
        "processes cannot be looked into", "[not root: exit 69]",
        "/proc hides processes (hidepid)", "[hidepid: exit 69]"],) * 2,
    "another mount of sysfs": (
        ["at risk: primary process"],
        ["in another mount of sysfs", "healthy: primary process"]),
    "a second primary tries to attach": (
        ["[exit 0]", "lost: bus mastering is OFF"],
        ["is in use by process", "[exit 1]", "healthy: primary process"]),
    "the primary exited with 1": (["at the end, bus master OFF"], []),
    "the primary exited with 0": ([], ["at the end, bus master on"]),
    "the device is unplugged and another plugged in": (
        ["idle: ", "an earlier device at this address is still in use by primary process",
         "not setting the bus master bit: no process has the device open"],) * 2,
    "a primary is killed, its secondary is left": (
        ["lost: the primary process has ended, secondary process",
         "not setting the bus master bit"],) * 2,
    "another primary attaches": (
        ["at risk: secondary process", "has /dev/uio0 open: when it ends"],
        ["at risk: secondary process", "belongs to another primary process (/run/dpdk/first/config"
         ]),
    "a program that is linked statically": (
        ["at risk: primary process", "its DPDK 22.11.11 is an affected version"],
        ["healthy: primary process", "DPDK 22.11.11: fixed"]),
    "a forked process keeps the claim of its parent": (
        ["at risk: primary process", "(python3) holds the claim of process",
         "not setting the bus master bit"],) * 2,
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
                (folder / "uio_pair-static", "/uio_pair_static"),
                (prefix / "lib/pkgconfig", str(prefix / "lib/pkgconfig")),
                (common.TOP / "devtools/uio-doctor", "/uio-doctor"),
                (tree.path / "usertools/dpdk-telemetry.py", "/dpdk-telemetry.py")])
        right &= judge_ownership(variant, done)
    return common.PASSED if right else common.FAILED
