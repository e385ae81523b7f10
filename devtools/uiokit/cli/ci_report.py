# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Write the result of a command for CI systems: JSON, JUnit XML, TAP. See doc/ci.md."""

import contextlib
import dataclasses
import functools
import json
import re
import sys
import xml.etree.ElementTree as xml

from .. import common
from ..lab import autotest, tap

ERROR = "error"
_JUNIT_TAGS = {tap.FAILED: "failure", tap.SKIPPED: "skipped", ERROR: "error"}


@dataclasses.dataclass(frozen=True)
class Check:
    """One requirement on a variant, and whether it is met."""

    name: str
    status: str
    why: str = ""


@dataclasses.dataclass
class Run:
    """The test on one variant."""

    variant: str
    summary: str
    checks: list
    cases: list
    kernel: str = ""
    accel: str = ""
    seconds: float = 0
    log: str = ""


@dataclasses.dataclass
class Report:
    """The result of the command: PASS, FAIL, SKIP or ERROR, and why it is not PASS.

    ended: whether all runs were made, so that their checks explain the result.
    """

    test: str = autotest.TEST
    result: str = "ERROR"
    why: str = "the command did not reach its end"
    ended: bool = False
    dpdk: dict = dataclasses.field(default_factory=dict)
    runs: list = dataclasses.field(default_factory=list)

    def all_runs(self):
        """The runs, and one more if something else than a run explains the result."""
        if self.ended or any(check.status == ERROR for run in self.runs for check in run.checks):
            return self.runs
        status = {"FAIL": tap.FAILED, "SKIP": tap.SKIPPED}.get(self.result, ERROR)
        return [*self.runs, Run(self.test, "", [Check("the test runs", status, self.why)], [])]


def as_json(report):
    return json.dumps(dataclasses.asdict(report), indent=1) + "\n"


def as_junit(report):
    suites = xml.Element("testsuites", name=report.test)
    for run in report.all_runs():
        counts = {plural: str(sum(check.status == status for check in run.checks))
                  for plural, status in (("failures", tap.FAILED), ("errors", ERROR),
                                         ("skipped", tap.SKIPPED))}
        suite = xml.SubElement(suites, "testsuite", name=run.variant, tests=str(len(run.checks)),
                               time=f"{run.seconds:.1f}", **counts)
        for check in run.checks:
            case = xml.SubElement(suite, "testcase", name=_printable(check.name), time="0",
                                  classname=f"{report.test}.{run.variant}")
            if check.status in _JUNIT_TAGS:
                why = _printable(check.why)
                xml.SubElement(case, _JUNIT_TAGS[check.status],
                               message=why.split("\n")[0]).text = why
    xml.indent(suites)
    return xml.tostring(suites, "utf-8", xml_declaration=True).decode() + "\n"


def as_tap(report):
    checks = [(run.variant, check) for run in report.all_runs() for check in run.checks]
    lines = ["TAP version 13", f"1..{len(checks)}"]
    for number, (variant, check) in enumerate(checks, 1):
        why = check.why.split("\n")[0]
        # A number sign would start a directive.
        name = f"{variant}: {check.name}".replace("#", "\\#")
        if check.status == ERROR:
            lines.append(f"Bail out! {name}: {why}")
            break
        lines.append(f"{'not ' * (check.status == tap.FAILED)}ok {number} - {name}"
                     + f" # SKIP {why}" * (check.status == tap.SKIPPED))
        if check.status == tap.FAILED:
            lines.append(f"# {why}")
    return "\n".join(lines) + "\n"


FORMATS = {"json": as_json, "junit": as_junit, "tap": as_tap}


def add_options(parser):
    for name, what in (("json", "JSON"), ("junit", "JUnit XML"), ("tap", "TAP")):
        parser.add_argument(f"--{name}", metavar="FILE",
                            help=f"write the result as {what} (-: to standard output)")


@contextlib.contextmanager
def written(options, report):
    """Write the report to the files that the options name at the end of the block.

    Yields a print() for the user, which leaves standard output to a report that goes there. The
    files are opened first, so that one that cannot be written is found before the work.
    """
    on_stdout = [name for name in FORMATS if getattr(options, name) == "-"]
    if len(on_stdout) > 1:
        raise common.Usage(f"--{' and --'.join(on_stdout)}: only one can be -")
    with contextlib.ExitStack() as stack:
        files = {}
        for name in FORMATS:
            path = getattr(options, name)
            try:
                if path:
                    files[name] = sys.stdout if path == "-" else \
                        stack.enter_context(open(path, "w", encoding="utf-8"))
            except OSError as error:
                raise common.Usage(f"--{name} {path}: cannot write: {error.strerror}") from None
        try:
            yield functools.partial(print, flush=True,
                                    file=sys.stderr if on_stdout else sys.stdout)
        except common.Problem as problem:
            report.result = {common.FAILED: "FAIL", common.SKIPPED: "SKIP"}.get(
                problem.code, "ERROR")
            report.why = str(problem)
            raise
        finally:
            for name, file in files.items():
                file.write(FORMATS[name](report))


def _printable(text):
    """Text without the control characters that XML does not allow."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
