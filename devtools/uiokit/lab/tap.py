# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Read the Test Anything Protocol (TAP) as a test in the guest prints it."""

import dataclasses
import re

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

_PLAN = re.compile(r"1\.\.(\d+)(?: # SKIP (.*))?")
_CASE = re.compile(r"(not )?ok (\d+) - (.*?)(?: # SKIP (.*))?")
_EXPECTED = ": expected "


@dataclasses.dataclass(frozen=True)
class Case:
    """One test case. `why` is the cause of a failure, or the reason of a skip."""

    number: int
    claim: str
    status: str
    why: str = ""

    def __str__(self):
        return f"{self.claim}{': ' if self.why else ''}{self.why}"


@dataclasses.dataclass
class Output:
    """What a test printed. `broken`: why it is not one whole TAP output; empty if it is.

    never_ran: no case was started, which is the fault of the guest or of its set-up.
    """

    cases: list
    broken: str = ""
    never_ran: bool = False

    def of(self, status):
        return [case for case in self.cases if case.status == status]

    @property
    def passed(self):
        return not self.broken and not self.of(FAILED) and bool(self.of(PASSED))


def read(text):
    """The Output in a text. Lines that are not TAP may come between those that are."""
    lines = text.splitlines()
    plans = [match for match in map(_PLAN.fullmatch, lines) if match]
    output = Output([_case(*match.groups()) for match in map(_CASE.fullmatch, lines) if match])
    output.never_ran = not plans or plans[0][2] is not None
    if len(plans) != 1:
        output.broken = f"{len(plans)} plans instead of one"
    elif plans[0][2] is not None:
        output.broken = f"the whole test was skipped: {plans[0][2]}"
    elif [case.number for case in output.cases] != list(range(1, int(plans[0][1]) + 1)):
        output.broken = f"{len(output.cases)} of {plans[0][1]} cases reported"
    return output


def _case(failed, number, text, skip):
    if skip is not None:
        return Case(int(number), text, SKIPPED, skip)
    if not failed:
        return Case(int(number), text, PASSED)
    claim, _, why = text.partition(_EXPECTED)
    return Case(int(number), claim, FAILED, why and _EXPECTED[2:] + why)
