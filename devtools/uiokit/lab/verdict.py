# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Judge a run of pci_uio_secondary_autotest by what it printed and how it exited, together."""

import dataclasses
import re

_PLAN = re.compile(r"1\.\.(\d+)(?: # SKIP (.*))?")
_CASE = re.compile(r"(not )?ok (\d+) - (.*?)(?: # SKIP (.*))?")
_LAST = re.compile(r"pci_uio_secondary: (\d+) passed, (\d+) failed, (\d+) skipped")


@dataclasses.dataclass
class Verdict:
    """What a run showed. `broken` says why it is no verdict at all, if it is none.

    never_ran: not one case was started, which says nothing of DPDK but much of the guest.
    """

    passed: list
    failed: list
    skipped: list
    broken: str = ""
    never_ran: bool = False

    @property
    def held(self):
        return not self.broken and not self.failed and bool(self.passed)

    @property
    def lost_bus_master(self):
        """The failed claims that saw the bus master bit lost after a secondary: the bug."""
        return [line for line in self.failed
                if line.endswith("bus master is lost") and not line.startswith("control:")]

    def summary(self):
        if self.broken:
            return self.broken
        if self.held:
            return "passed"
        if self.lost_bus_master:
            return f"lost bus master in {len(self.lost_bus_master)} cases"
        return "failed" if self.failed else "nothing was tested"


def judge(output, code):
    """The Verdict on the standard output and exit code of dpdk-test.

    A plan with every case in order, a last line whose counts agree, and an exit code that agrees
    with both: anything less is a broken run, whatever the rest says.
    """
    lines = output.splitlines()
    verdict = Verdict([], [], [])
    plans = [match for match in map(_PLAN.fullmatch, lines) if match]
    cases = [match for match in map(_CASE.fullmatch, lines) if match]
    counts = [match for match in map(_LAST.fullmatch, lines) if match]
    for failed, _, claim, skip in (match.groups() for match in cases):
        if skip is not None:
            verdict.skipped.append(f"{claim}: {skip}")
        else:
            (verdict.failed if failed else verdict.passed).append(claim)
    numbers = (len(verdict.passed), len(verdict.failed), len(verdict.skipped))
    verdict.never_ran = not plans or plans[0][2] is not None
    if len(plans) != 1:
        verdict.broken = f"{len(plans)} plans instead of one, exit code {code}"
    elif plans[0][2] is not None:
        verdict.broken = f"the whole test was skipped: {plans[0][2]}"
    elif [int(match[2]) for match in cases] != list(range(1, int(plans[0][1]) + 1)):
        verdict.broken = f"{len(cases)} of {plans[0][1]} cases reported, exit code {code}"
    elif len(counts) != 1 or tuple(map(int, counts[0].groups())) != numbers:
        verdict.broken = "the last line does not agree with the cases"
    elif (code == 0) != (not verdict.failed and bool(verdict.passed)):
        verdict.broken = f"exit code {code} does not agree with {numbers[1]} failed cases"
    return verdict
