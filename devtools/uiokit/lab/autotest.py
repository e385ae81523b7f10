# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Run pci_uio_secondary_autotest in the lab, and judge the run."""

import dataclasses
import re

from .. import common
from . import tap, vm

TEST = "pci_uio_secondary_autotest"

# The default cases: enough to tell stock from patched.
SHORT = ("config_bytes", "fd_none", "exit_return", "exit_killed_attached",
         "primary_cleared", "traffic_no_queue", "control:")

# With all cases also a device that is not a drive: conventional PCI, several BARs, DMA.
_OTHER_DEVICE, _OTHER_ID = "vmxnet3,x-disable-pcie=on", "15ad:07b0"

# The number of secondaries in the repeat case.
REPEAT, REPEAT_FULL = 5, 100

# EAL may leak a struct at each asynchronous request of a secondary: doc/defects.md.
_LEAKS_OF_EAL = "leak:rte_mp_request_async\n"

# Allow only the drives and the --uio devices of the guest. UIO needs physical addresses.
_RUN = ('for bdf in $LAB_NVME $LAB_UIO; do set -- "$@" -a "$bdf"; done; '
        f'exec "$@" -- {TEST}')

_COUNTS = re.compile(r"pci_uio_secondary: (\d+) passed, (\d+) failed, (\d+) skipped")


@dataclasses.dataclass
class Options(vm.Options):
    """How to run the test, and the guest; `devtools/autotest --help` describes each option.

    config_space: False for a DPDK older than the bug, whose secondaries have no config space.
    """

    filter: str = None
    all: bool = False
    repeat: int = REPEAT
    sanitize: bool = False
    config_space: bool = True
    timeout: int = 300


class Verdict(tap.Output):
    """What a run showed."""

    @property
    def lost_bus_master(self):
        """The failed cases that found bus master lost after a secondary exited: the bug."""
        return [case for case in self.of(tap.FAILED)
                if case.why.endswith("bus master is lost")
                and not case.claim.startswith("control:")]


def run(options, folder, program, on_line=None):
    """Run the test in a guest; return the lab's Result and the Verdict.

    folder: a laid-out build; program: dpdk-test in it; on_line: gets each line of its output.
    """
    result = vm.boot(guest(options, folder, program), on_line=on_line)
    verdict = judge(result.stdout, result.code)
    if result.timed_out:
        verdict.broken = f"killed after {options.timeout} s"
    return result, verdict


def judge(output, code):
    """The Verdict on the standard output and exit code of dpdk-test.

    The plan, the cases, the last line with its counts and the exit code must all agree. Otherwise
    the run is broken, whatever any of them says.
    """
    verdict = Verdict(**vars(tap.read(output)))
    numbers = tuple(len(verdict.of(status)) for status in (tap.PASSED, tap.FAILED, tap.SKIPPED))
    counts = [match for match in map(_COUNTS.fullmatch, output.splitlines()) if match]
    if verdict.broken:
        verdict.broken += f", exit code {code}"
    elif len(counts) != 1 or tuple(map(int, counts[0].groups())) != numbers:
        verdict.broken = "the counts in the last line do not agree with the cases"
    elif (code == 0) != verdict.passed:
        verdict.broken = f"exit code {code} does not agree with {numbers[1]} failed cases"
    return verdict


def known_cases(files=None):
    """{name: claim} of the cases in these files, or of all, read from the tables in the source."""
    found = {}
    for path in files or sorted((common.TOP / "app/test").glob("pci_uio_*.c")):
        source = (common.TOP / path).read_text()
        macros = dict(re.findall(r'#define (\w+) ("[^"]*")$', source, re.M))
        exit_claim = re.search(r'\.claim = (\w+) "(.*)" what', source)
        for table in re.findall(r"(?ms)^static const struct uio_case \w+\[\] = \{\n(.*?)^\};",
                                source):
            for row in re.split(r"(?m)^\t\{ ", table)[1:]:
                named = re.search(r'\.claim = (\w+ )?("[^"]*")', row)
                first, second = re.findall(r'"([^"]*)"', row)[:2]
                if named:
                    found[first] = macros.get((named[1] or "").strip(), "").strip('"') \
                        + named[2].strip('"')
                else:
                    found[f"exit_{first}"] = \
                        macros[exit_claim[1]].strip('"') + exit_claim[2] + second
    return found


def guest(options, folder, program):
    """The Options of a guest that runs the test; see run()."""
    command = [f"/dpdk/{program}", "-l", f"0-{options.cpus - 1}", "--iova-mode=pa",
               "--no-telemetry"]
    env = {"PCI_UIO_SECONDARY_REPEAT": str(options.repeat)}
    take = [(folder, "/dpdk")]
    cases = () if options.all else SHORT
    if not options.config_space:
        cases = [case for case in SHORT if not case.startswith("config")]
    if options.sanitize:
        # AddressSanitizer keeps its shadow memory where EAL maps memory by default.
        command.append("--base-virtaddr=0x200000000000")
        # On an error the process exits with a code that no case expects.
        # A secondary that ends by SIGSEGV on purpose must do so.
        env.update(ASAN_OPTIONS="exitcode=99:detect_stack_use_after_return=1:handle_segv=0",
                   UBSAN_OPTIONS="halt_on_error=1:exitcode=99:print_stacktrace=1",
                   LSAN_OPTIONS="suppressions=/leaks:print_suppressions=0",
                   PCI_UIO_SECONDARY_TIME_SCALE="4")
        leaks = common.build_dir() / "leaks"
        common.replace_file(leaks, _LEAKS_OF_EAL)
        take.append((leaks, "/leaks"))
    if options.filter or cases:
        env["PCI_UIO_SECONDARY_CASES"] = options.filter or ",".join(cases)
    # One drive has SR-IOV, because only such a drive has extended capabilities.
    return dataclasses.replace(
        options, command=["sh", "-c", _RUN, "sh", *command], env=env, take=take,
        nvme=options.nvme - 1, nvme_sriov=True, mem=1536 if options.sanitize else None,
        device=[_OTHER_DEVICE] * options.all + options.device,
        uio=[_OTHER_ID] * options.all + options.uio)
