# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""devtools/spdk: run the multi-process programs of a built SPDK in the lab."""

import dataclasses
import pathlib
import re
import signal

from .. import common
from . import arguments, ci_report
from ..dpdk import variants
from ..lab import tap, vm

GUEST = pathlib.Path(vm.__file__).with_name("guest-spdk")
# Seconds until a program is killed. The slowest that ends takes 30 on a busy machine under TCG.
DEADLINE = 90
OPENSSL = pathlib.Path("/etc/ssl/openssl.cnf")

# Where a build of SPDK has its programs, before and since 23.09.
PROGRAMS = {
    "perf": ("build/bin/spdk_nvme_perf", "build/examples/perf"),
    "identify": ("build/bin/spdk_nvme_identify", "build/examples/identify"),
    "nvme_dp": ("test/nvme/e2edp/nvme_dp",), "stub": ("test/app/stub/stub",),
    **{name: (f"build/examples/{name}",) for name in ("hello_world", "arbitration")},
    **{name: (f"test/nvme/{name}/{name}",) for name in (
        "aer", "doorbell_aers", "err_injection", "overhead", "reserve", "reset", "sgl",
        "startup")}}

# The programs that run one after another while stub is the primary, in the order of SPDK's
# test/nvme/nvme.sh, but for doorbell_aers: aer leaves event requests behind that belong to a dead
# process. SPDK drops their completions, and doorbell_aers then hangs, on vfio-pci as well.
BESIDE_STUB = {
    "reset": "reset -q 64 -w write -o 4096 -t 2",
    "identify": "identify -i 0",
    "perf_read": "perf -q 128 -w read -o 12288 -t 1 -LL -i 0 -N",
    "perf_write": "perf -q 128 -w write -o 12288 -t 1 -LL -i 0",
    "hello_world": "hello_world -i 0",
    "sgl": "sgl",
    "e2edp": "nvme_dp",
    "reserve": "reserve",
    "err_injection": "err_injection",
    "overhead": "overhead -o 4096 -t 1 -H -i 0",
    "arbitration": "arbitration -t 3 -i 0",
    "doorbell_aers": "doorbell_aers -r 'trtype:PCIe traddr:'$LAB_NVME",
    "aer": "aer -T -i 0",
    "aer_multi": "aer -m -T -i 0",
    "startup": "startup -t 30000000",
}
SETUP = """\
cd /tmp
config=/sys/bus/pci/devices/$LAB_NVME/config
. /spdk/functions
start stub 3600 /spdk/stub -s 256 -i 0 -m 0x8
ready test -e /var/run/spdk_stub0
"""
PERF = f"{DEADLINE} /spdk/perf -i 0 -q 16 -w read -o 4096"
# Three at once beside stub; then without it. SPDK's own test takes the first perf as the primary.
PERFS = f"""\
start multi_secondary_1 {PERF} -t 5 -c 0x1
start multi_secondary_2 {PERF} -t 3 -c 0x2
run multi_secondary_3 {PERF} -t 3 -c 0x4
finish multi_secondary_2
finish multi_secondary_1
end stub TERM 20
start primary_last {PERF} -t 20 -c 0x1
ready attached
run primary_last_secondary {PERF} -t 3 -c 0x2
finish primary_last
start killed_primary {PERF} -t 20 -c 0x1
ready attached
start killed_secondary {PERF} -t 100 -c 0x2
sleep 5
end killed_secondary KILL 0
finish killed_primary
start primary_first {PERF} -t 15 -c 0x1
ready attached
start primary_first_secondary {PERF} -t 50 -c 0x2
finish primary_first
finish primary_first_secondary
start lost_primary {PERF} -t 100 -c 0x1
ready attached
start lost_primary_secondary {PERF} -t 30 -c 0x2
sleep 10
end lost_primary KILL 0
finish lost_primary_secondary
"""
LAST = "lost_primary_secondary"
# When these have ended, no primary has the device.
WITHOUT_PRIMARY = ("stub", "primary_last", "killed_primary", "primary_first",
                   "primary_first_secondary", "lost_primary", LAST)
TO_KILL = ("killed_secondary", "lost_primary")
KILLED, CRASHED = 128 + signal.SIGKILL, 128 + signal.SIGSEGV


@dataclasses.dataclass
class Step:
    """How one program ended; why: what is wrong with that, or empty."""

    name: str
    code: int
    seconds: float
    command: str
    bus_master: bool
    iops: str = ""
    why: str = ""


def main(argv):
    options = parse(argv)
    builds = {variants.PATCHED: (options.tree, None)}
    if options.stock_tree or options.stock_dpdk:
        builds = {variants.STOCK: (options.stock_tree or options.tree, options.stock_dpdk),
                  **builds}
    programs = {tree: find(tree) for tree, _ in builds.values()}
    report = ci_report.Report(test="spdk")
    with ci_report.written(options, report) as show:
        for variant, (tree, dpdk) in builds.items():
            with common.step(f"running SPDK's programs on {variant}"):
                result = run(tree, dpdk, programs[tree])
            log = common.build_dir() / f"spdk-{variant}.txt"
            common.replace_file(log, result.stdout + result.stderr)
            steps = read(result.stdout)
            report.runs.append(ci_report.Run(
                variant, "", judge(variant, steps, programs[tree]), steps, result.kernel,
                result.accel, result.seconds, str(log)))
            show(table(report.runs[-1]))
        bad = [f"{one.variant}: {check.name}: {check.why}" for one in report.runs
               for check in one.checks if check.status == tap.FAILED]
        report.result, report.why, report.ended = "FAIL" if bad else "PASS", "; ".join(bad), True
    show(f"spdk: {common.coloured(report.result, not bad)}{': ' if bad else ''}{report.why}")
    return common.FAILED if bad else common.PASSED


def find(tree):
    """{program: path} of a built SPDK."""
    found = {name: path for name, places in PROGRAMS.items() for place in places
             if (path := tree / place).is_file()}
    for name in ("perf", "stub"):
        if name not in found:
            raise common.Usage(f"{tree}: no {' or '.join(PROGRAMS[name])}: build SPDK there, with "
                               "its tests (configure without --disable-tests)")
    return found


def run(tree, dpdk, programs):
    """The lab's Result of all steps on one build."""
    steps = [f"run {step} {DEADLINE} /spdk/{command}\n" for step, command in BESIDE_STUB.items()
             if command.split()[0] in programs]
    # The programs of a shared SPDK find DPDK's libraries by RPATH, but not SPDK's libraries.
    libraries = [*([f"{dpdk}/lib"] if dpdk else []), f"{tree}/build/lib"]
    options = vm.Options(
        command=["sh", "-c", f"{SETUP}{''.join(steps)}{PERFS}"],
        env={"LD_LIBRARY_PATH": ":".join(libraries)}, cpus=4, hugepages=512, aslr=False,
        take=[(GUEST, "/spdk/functions"),
              *((path, f"/spdk/{name}") for name, path in programs.items()),
              *((path, "/usr/lib/ssl/openssl.cnf") for path in [OPENSSL] if path.is_file())])
    return vm.boot(options, on_line=lambda line: line.startswith("spdk-step")
                   and common.say(f"  {line}"))


def read(output):
    """The Steps in the output of the guest."""
    steps = []
    for name, program, text, code, began, ended, command in re.findall(
            r"(?ms)^# (\w+): (\S+)[^\n]*\n(.*?)^spdk-step \1 (\d+) (\S+) (\S+) ([0-9a-f]{4})$",
            output):
        step = Step(name, int(code), round(float(ended) - float(began), 1), f"0x{command}",
                    bool(int(command, 16) & 4))
        rate = re.search(r"(?m)^Total +: +([\d.]+)", text)
        step.iops = rate[1] if rate else ""
        why = []
        # SPDK crashes in its cleanup when the other process was killed, on vfio-pci as well.
        crashes = (CRASHED,) if name in ("killed_primary", LAST) and step.iops else ()
        if step.code not in ((KILLED,) if name in TO_KILL else (0, *crashes)):
            why.append(f"killed after {step.seconds:.0f} s" if step.code == KILLED else
                       f"exit code {code}")
        if not step.code and not (step.iops if program == "/spdk/perf" else text.strip()):
            why.append("did nothing: see its output")
        if name == "doorbell_aers" and (events := len(re.findall("(?m)^Success: ", text))) != 3:
            why.append(f"{events} of 3 events")
        if not step.bus_master and name not in WITHOUT_PRIMARY:
            why.append("bus mastering is off, and the primary has the device")
        step.why = ", ".join(why)
        steps.append(step)
    return steps


def judge(variant, steps, programs):
    """What must be true of the steps on one variant, as Checks."""
    absent = [ci_report.Check(step, tap.SKIPPED, f"{command.split()[0]} is not built")
              for step, command in BESIDE_STUB.items() if command.split()[0] not in programs]
    if not steps or steps[-1].name != LAST:
        return [ci_report.Check("all steps end", tap.FAILED, "the guest's script ended early")]
    if variant == variants.STOCK:
        lost = any("bus mastering is off" in step.why for step in steps)
        return [ci_report.Check("a secondary's exit clears bus master",
                                tap.PASSED if lost else tap.FAILED,
                                "" if lost else "no step lost it: is this build patched?")]
    return [ci_report.Check(step.name, tap.FAILED if step.why else tap.PASSED, step.why)
            for step in steps] + absent


def table(run):
    lines = [f"{run.variant}, kernel {run.kernel}, {run.accel}; whole output: {run.log}",
             f"{'step':23}{'exit':>5}{'seconds':>9}{'IOPS':>10}  COMMAND  bus master"]
    lines += [f"{step.name:23}{step.code:5}{step.seconds:9}{step.iops:>10}  {step.command}   "
              f"{'on' if step.bus_master else 'off':4}{step.why}" for step in run.cases]
    return "\n".join(lines + [f"skipped: {check.name}: {check.why}" for check in run.checks
                              if check.status == tap.SKIPPED])


def parse(argv):
    parser = arguments.parser("devtools/spdk", """\
Run the multi-process programs of a built SPDK in the lab: nothing is fetched or built.

Programs of SPDK run as secondaries beside its stub, then perf as primary and secondary. On patched
DPDK each that is not killed must end with 0 (a perf whose other process was killed may crash in
SPDK's cleanup), and the device must keep bus mastering while the primary has it. A
secondary whose primary has ended needs the whole series: the fixes alone fail there. On stock DPDK
the device must lose bus mastering at least once.""", """\
Each program is killed by SIGKILL after %d s. The whole output is kept in build/spdk-VARIANT.txt.

exit codes: 0 passed; 1 failed; 2 usage error; 69 something needed is missing, or the guest did not
report; 130 interrupted""" % DEADLINE)
    parser.add_argument("tree", metavar="TREE", type=arguments.folder,
                        help="a built SPDK, on patched DPDK")
    stock = parser.add_mutually_exclusive_group()
    stock.add_argument("--stock-tree", metavar="TREE", type=arguments.folder,
                       help="compare: a built SPDK, on stock DPDK")
    stock.add_argument("--stock-dpdk", metavar="PREFIX", type=arguments.folder,
                       help="compare: the same SPDK, which must have been configured with "
                       "--with-shared, on the libraries of an installed stock DPDK")
    arguments.add_no_install(parser)
    ci_report.add_options(parser)
    return parser.parse_args(argv)
