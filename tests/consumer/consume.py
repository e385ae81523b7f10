# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Build a program against an installed DPDK, as SPDK does, and run it as primary and secondary.

tests/consumer/uio_pair.c is built with the flags of pkg-config only, linked shared and static. With
stock DPDK the device must lose bus mastering when a secondary exits, with patched DPDK it must not.
uio-doctor and dpdk-telemetry.py must report which process has the device and what threatens it.
Processes under confinement must be able to do what doc/confinement.md says. Without --full, stock
only runs the shared uio_pair.
"""

import argparse
import os
import pathlib
import shutil

from uiokit import arch, common, distro, process
from uiokit.cli import arguments
from uiokit.dpdk import install, source, variants
from uiokit.lab import guest_python, vm

import confined

HERE = common.TOP / "tests" / "consumer"
# The modules of uio-doctor and dpdk-telemetry.py.
PYTHON_MODULES = ("argparse", "ctypes", "glob", "json", "locale", "pathlib", "re", "readline",
                  "socket", "traceback")
# For shared linking, DPDK's flags do not contain drivers such as the bus. A plugin has DPDK in it.
LINKING = {"shared": (["--libs"], ["-lrte_bus_pci"]), "static": (["--static", "--libs"], []),
           "plugin": (["--static", "--libs"], ["-shared", "-fPIC"])}


def pkg_config(prefix, *args):
    # Added to pkg-config's own folders, which have the libraries that DPDK needs.
    env = dict(os.environ, PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig"))
    return process.run(["pkg-config", *args, "libdpdk"], env=env).stdout.split()


def compile_pair(prefix, linking, folder):
    """Build the program against the DPDK in prefix; the path of the program."""
    program = folder / f"uio_pair-{linking}"
    ask, more = LINKING[linking]
    process.run([*arch.native().compiler, "-Wall", "-Wextra", "-O1",
                 "-DALLOW_INTERNAL_API", "-DALLOW_EXPERIMENTAL_API",
                 *pkg_config(prefix, "--cflags"), HERE / "uio_pair.c", "-o", program,
                 *pkg_config(prefix, *ask), *more], problem=common.CheckFailed)
    return program


def run(program, prefix, scenario, watch=None, take=(), nvme=1):
    """Run a scenario in the lab; the lab's Result.

    The guest gets the shared libraries of the program, but not DPDK's plugin folder: EAL refuses a
    plugin folder below a world-writable one such as /tmp.
    """
    env = {"LD_LIBRARY_PATH": str(prefix / "lib")} if program.name.endswith("shared") else {}
    return vm.boot(vm.Options(
        command=["/scenario", "/uio_pair"], env=env, timeout=1200, watch=watch, nvme=nvme,
        aslr=False, cpus=1,
        take=[(program, "/uio_pair"), (HERE / scenario, "/scenario"), *take]))


def judge(variant, linking, done):
    """Whether stock lost the bit at the secondary's exit, or patched kept it; prints the output."""
    lost = "at the end, bus master OFF" in done.stdout
    attached = done.stdout.count("wrote 0x") == 4 and "when attached, bus master OFF" \
        not in done.stdout
    passed = attached and done.code == lost == (variant == variants.STOCK)
    print(f"== {variant}, {linking}: {'passed' if passed else 'FAILED'}: exit code {done.code}, "
          f"bus master {'lost' if lost else 'kept'}\n{done.stdout}{done.stderr}", end="",
          flush=True)
    return passed


# The expected texts in each step of tests/consumer/ownership, on stock and on patched.
SAID = {
    "no process has the device": (
        ["idle: no process has the device open, mapped or claimed", "[exit 0]"],) * 2,
    "no process has the device, and bus mastering is on": (
        ["unknown: bus mastering is on, and no process is visible", "[exit 69]"],) * 2,
    "a primary attaches": (
        ["at risk: primary process", "22.11.11 is an affected version", "[exit 1]",
         "/proc/PRIMARY/maps"],
        ["healthy: primary process", "its DPDK has the fix", "claimed by process", "[exit 0]",
         "/proc/PRIMARY/maps", '["0000:00:04.0"]', '"bus_master": 1']),
    "a secondary attaches": (
        ["at risk: secondary process", "has /dev/uio0 open: when it ends"],
        ["healthy: primary process", "1 secondary process attached, its open /dev/uio0 is shared "
         "by 2 processes and ends with the last of them",
         '"bus_master": 1', '{"/pci/uio/list": ["0000:00:04.0"]}']),
    "the secondary exits": (
        ["lost: bus mastering is OFF while primary process"],
        ["healthy: primary process", '"bus_master": 1']),
    "the bit is set again, if necessary": (["must reset"], ["nothing to restore"]),
    "an address in another PCI domain, and an interval that is none": ([
        "10002:01:00.0 uio_pci_generic /dev/uio0 ", "mapped by primary process",
        "10002:01:00.0: bus mastering is on, there is nothing to restore",
        "nan: not a number of seconds", "[exit 2]"],) * 2,
    "a program that is not DPDK opens the UIO device": ([
        "at risk: process", "(sh, not DPDK) has /dev/uio0 open as well", "must reset",
        '"bus master": "off"', '"state": "lost"', "[own PID namespace: exit 69]"], [
        "at risk: process", "(sh, not DPDK) has /dev/uio0 open as well", "must reset",
        '"bus master": "off"', '"state": "lost"', "[own PID namespace: exit 69]",
        '"bus_master": 0']),
    "not all processes are visible": ([
        "unknown: cannot tell whether a primary process has the device (bus mastering is on): ",
        "this is not the initial PID namespace", "[own PID namespace: exit 69]",
        "processes cannot be looked into", "[not root: exit 69]",
        "/proc hides processes (hidepid)", "[hidepid: exit 69]"],) * 2,
    "another mount of sysfs": (
        ["at risk: primary process"],
        ["in another mount of sysfs", "healthy: primary process"]),
    "a primary with a read-only sysfs tries to attach, as in a container": (
        ["[exit 1]", "COMMAND 0x0103", "lost: bus mastering is OFF"],
        ["Read-only file system", "[exit 1]", "COMMAND 0x0107", "healthy: primary process"]),
    "a second primary tries to attach": (
        ["[exit 0]", "lost: bus mastering is OFF"],
        ["is in use by process", "[exit 1]", "healthy: primary process"]),
    "the primary exited with 1": (["at the end, bus master OFF"], []),
    "the primary exited with 0": ([], ["at the end, bus master on"]),
    "the device is unplugged and another plugged in": (
        ["idle: ", "an earlier device at this address is still in use by primary process",
         "not setting the bus master bit: no process has the device open",
         "mapped again: Success", "at the end, bus master OFF"],
        ["idle: ", "an earlier device at this address is still in use by primary process",
         "mapped again: Device or resource busy", "at the end, bus master on"]),
    "a primary cannot lock the device": (
        ["[EACCES: exit 0]", "[ENOLCK: exit 0]"],
        ["/resource0: Permission denied; 0000:00:04.0 is not protected from other processes",
         "[EACCES: exit 0]", "/resource0: No locks available; 0000:00:04.0 is not protected",
         "[ENOLCK: exit 0]"]),
    "a primary is killed, its secondary is left": (
        ["lost: the primary process has ended, secondary process",
         "not setting the bus master bit"],
        ["COMMAND 0x0107", "healthy: the primary process", "has ended or detached the device, "
         "secondary process", "still shares its open /dev/uio0", "nothing to restore"]),
    "another primary attaches": (
        ["at risk: secondary process", "has /dev/uio0 open: when it ends"],
        ["healthy: the primary process", "still shares its open /dev/uio0", "is in use by process"
         ]),
    "a secondary without the open files of its primary is left, another primary attaches": (
        ["at risk: secondary process", "has /dev/uio0 open: when it ends"],
        ["at risk: secondary process", "belongs to another primary process",
         "/dpdk/first/config) and still has BARs mapped"]),
    "the last process that had the device has ended": (["COMMAND 0x0103", "idle: "],) * 2,
    "a primary without a shared configuration": (
        ["primary process", "(uio_pair), DPDK 22.11: unknown", "healthy: "],
        ["primary process", "(uio_pair), DPDK 22.11: fixed", "healthy: "]),
    "a program with DPDK in a plugin": (
        ["(python3), DPDK 22.11.11: affected", "at risk: primary process"],
        ["(python3), DPDK 22.11.11: fixed", "healthy: primary process"]),
    "a program that is linked statically": (
        ["at risk: primary process", "its DPDK 22.11.11 is an affected version"],
        ["healthy: primary process", "DPDK 22.11.11: fixed"]),
    "a forked process keeps the claim of its parent": (
        ["at risk: primary process", "(python3) holds the claim of process",
         "not setting the bus master bit"],) * 2,
}
# The same of tests/consumer/primaries.
SAID_OF_PRIMARIES = {
    "eight primaries at once, a drive each": (["[8 of 8]"],) * 2,
    "a second primary without -a": (
        ["[first: exit 1]"], ["is in use by process", "[second: exit 0]", "[first: exit 0]"]),
    "a secondary without -a beside another primary": (
        ["[one: exit 1]"], ["[secondary: exit 0]", "[one: exit 0]", "[two: exit 0]"]),
}


def judge_steps(variant, what, done, said):
    """Whether each step of a scenario reports what it must; prints the output."""
    print(f"== {variant}: {what}\n{done.stdout}{done.stderr}", flush=True)
    steps = dict(part.partition("\n")[::2] for part in done.stdout.split("\n# ")[1:])
    missing = [f"{step}: {text}" for step, texts in said.items()
               for text in texts[variant == variants.PATCHED] if text not in steps.get(step, "")]
    for one in missing:
        print(f"{variant}: FAILED: not in the output: {one}", flush=True)
    return not missing


def writable_folder(text):
    """The type of --watch."""
    if not os.path.isdir(text) or not os.access(text, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: not a writable folder; create it first")
    return pathlib.Path(text)


def main(argv):
    parser = arguments.parser("tests/consumer/consume", __doc__, "exit codes: 0 passed, 1 failed, "
                              "2 usage, 69 environment missing or broken, 130 interrupted")
    arguments.add_dpdk(parser)
    parser.add_argument("--watch", metavar="DIR", type=writable_folder,
                        help="write the bus master bit over time to DIR/VARIANT-LINKING.txt, such "
                        "as DIR/stock-shared.txt")
    parser.add_argument("--full", action="store_true", help="run all on stock as well")
    options = parser.parse_args(argv)
    tree = source.get(options.dpdk)
    distro.need({**variants.NEED, **vm.NEED, "pkg-config": "pkg-config", "strace": "strace",
                 confined.PARSER: "apparmor"})
    folder = common.build_dir("consumer")
    # Both variants have the same prefix, one after the other: only the bus driver is built twice.
    prefix = folder / "dpdk"
    passed = True
    for variant in (variants.STOCK, variants.PATCHED):
        # Unoptimised code is enough for this test and builds in less than half of the time.
        install.install(tree, "spdk", prefix, variant, ["--buildtype=debug", *variants.FEW_CPUS])
        whole = options.full or variant == variants.PATCHED
        programs = {linking: compile_pair(prefix, linking, folder)
                    for linking in (LINKING if whole else ["shared"])}
        for linking in sorted(programs.keys() - {"plugin"}):
            watch = options.watch and options.watch / f"{variant}-{linking}.txt"
            with common.step(f"running uio_pair on {variant}, {linking}"):
                done = run(programs[linking], prefix, "scenario", watch)
            passed &= judge(variant, linking, done)
        if not whole:
            continue
        with common.step(f"running uio-doctor and telemetry on {variant}"):
            done = run(programs["shared"], prefix, "ownership", take=[
                *guest_python.take(PYTHON_MODULES),
                (programs["static"], "/uio_pair_static"), (programs["plugin"], "/uio_pair.so"),
                (pathlib.Path(shutil.which("strace")), "/strace"),
                (guest_python.compiled(common.TOP / "devtools/uio-doctor"), "/uio-doctor"),
                (guest_python.compiled(tree.path / "usertools/dpdk-telemetry.py"),
                 "/dpdk-telemetry.py")])
        passed &= judge_steps(variant, "who owns the device", done, SAID)
        with common.step(f"running several primaries on {variant}"):
            done = run(programs["shared"], prefix, "primaries", nvme=8)
        passed &= judge_steps(variant, "several primaries", done, SAID_OF_PRIMARIES)
        with common.step(f"running uio_pair under confinement on {variant}"):
            done = run(programs["shared"], prefix, "confinement", take=[
                (programs["shared"], "/confined/uio_pair"),
                (pathlib.Path(confined.PARSER), confined.PARSER)])
        passed &= confined.judge(variant, done)
    return common.PASSED if passed else common.FAILED
