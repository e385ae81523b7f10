# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: faults of the device and of the primary, and processes without privileges.

usage: device_faults.py VARIANT RACING [SCENARIO...]. Each scenario, or each that is named, prints
what it observes, then one line of TAP.
"""

import contextlib
import ctypes
import errno
import glob
import os
import pathlib
import re
import signal
import sys
import time
import traceback

import workload

UIO = pathlib.Path("/sys/bus/pci/drivers/uio_pci_generic")
DEVICES = pathlib.Path("/sys/bus/pci/devices")
PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21


class Unexpected(Exception):
    """A scenario did not go as expected."""


def expect(condition, what):
    if not condition:
        raise Unexpected(what)


def report(what):
    print(f"# {what}", flush=True)


def wait_until(condition, what, within=30):
    deadline = time.monotonic() + within
    while not condition():
        expect(time.monotonic() < deadline, f"within {within} s {what}")
        time.sleep(0.05)


def bus_master(drive, when):
    """Report and return the state of the bus master bit."""
    is_on = bool((DEVICES / drive / "config").read_bytes()[4] & 4)
    report(f"{when} bus mastering is {'on' if is_on else 'off'}")
    return is_on


class Pair:
    """A primary of one drive and a secondary that has it attached; the block ends both."""

    def __init__(self, variant, drive=None):
        self.variant, self.drive = variant, drive or workload.DRIVES[0]

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.primary = workload.Primary(self.variant, [self.drive])
            stack.callback(self.primary.kill)
            self.secondary = workload.Secondary(self.variant, ["--stay"], [self.drive])
            stack.callback(self.secondary.kill)
            # From here on it has the open files of the primary, if this one shares them.
            expect(self.secondary.wait_for('"stay"'), "the secondary attaches")
            expect(self.primary.check() == [], "the drive works before the fault")
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def run_secondary(self, **more):
        return workload.run_secondary(self.variant, drives=[self.drive], **more)

    def primary_notices(self):
        errors = self.primary.check()
        report(f"primary: {'; '.join(errors)}")
        expect(errors, "the primary reports an error")

    def finish_secondary(self):
        run = self.secondary.finish()
        report(f"attached secondary: {run}")
        expect(not run.hung, "the attached secondary exits")
        return run

    def works(self, when):
        """The primary reads, and a new secondary attaches, uses config space and detaches."""
        errors = self.primary.check()
        expect(errors == [], f"{when} the drive works: {errors}")
        run = self.run_secondary()
        expect(run.passed, f"{when} a new secondary passes: {run}")

    def works_to_the_end(self, when):
        self.works(when)
        self.stop_primary()

    def stop_primary(self):
        code = self.primary.stop()
        report(f"primary: exit code {code}")
        expect(code == 0, "the primary exits with 0")


def reset(variant):
    """after a function-level reset the primary resets the controller, and the drive works again"""
    with Pair(variant) as pair:
        (DEVICES / pair.drive / "reset").write_text("1")
        bus_master(pair.drive, "after the reset")
        pair.primary_notices()
        expect(pair.finish_secondary().passed, "the attached secondary uses config space")
        answer = pair.primary.ask("recover")
        expect(answer.get("errors") == [], f"the primary recovers: {answer}")
        pair.works_to_the_end("after the recovery")


def unbind(variant):
    """after unbind all processes report it, and after bind a new primary works"""
    with Pair(variant) as pair:
        (UIO / "unbind").write_text(pair.drive)
        bus_master(pair.drive, "after the unbind")
        pair.primary_notices()
        expect(pair.finish_secondary().released, "the attached secondary detaches")
        run = pair.run_secondary()
        report(f"new secondary: {run}")
        expect(not run.hung and run.code == 1, "a new secondary cannot attach the drive")
        pair.stop_primary()
        pathlib.Path("/sys/bus/pci/drivers_probe").write_text(pair.drive)
        pair.primary.start()
        pair.works_to_the_end("after bind and with a new primary")


def monitor(command):
    """Send a command to QEMU's monitor."""
    port = next(path for path in glob.glob("/sys/class/virtio-ports/*")
                if pathlib.Path(path, "name").read_text().strip() == "lab.monitor")
    with open(f"/dev/{os.path.basename(port)}", "r+b", buffering=0) as file:
        file.write(f"{command}\n".encode())


def unplug(variant):
    """after hot-unplug the processes of the drive exit or report it, and another drive works"""
    # The drive that can be unplugged is the only one on another bus than 0.
    drive = next(drive for drive in workload.DRIVES if not drive.startswith("0000:00:"))
    other = workload.Primary(variant, workload.DRIVES[:1], eal=["--file-prefix=other"])
    with Pair(variant, drive) as pair:
        monitor("device_del unplug")
        wait_until(lambda: not (DEVICES / drive).exists(), "the kernel removes the drive")
        errors, deadline = [], time.monotonic() + 20
        while pair.primary.process.poll() is None and not errors and time.monotonic() < deadline:
            errors = pair.primary.check()
        code = pair.primary.process.poll()
        report("primary: " +
               (f"ended by {signal.Signals(-code).name}" if code else "; ".join(errors)))
        expect(code is not None or errors, "the primary exits or reports an error")
        pair.finish_secondary()
        if code is None:
            pair.stop_primary()
    expect(other.check() == [], "the other drive works")
    expect(other.stop() == 0, "the other primary exits with 0")
    expect(workload.stale_locks() == [], "no file lock remains")


def primary_killed(variant):
    """after SIGKILL of the primary its secondary keeps the drive on and exits; a new one works"""
    with Pair(variant) as pair:
        pair.primary.kill()
        expect(bus_master(pair.drive, "after SIGKILL"), "the secondary keeps bus mastering on")
        run = pair.run_secondary()
        report(f"new secondary, without a primary: {run}")
        expect(not run.hung, "a secondary without a primary exits")
        expect(pair.finish_secondary().passed, "the attached secondary uses config space")
        expect(not bus_master(pair.drive, "after the secondary"), "the kernel clears bus mastering")
        pair.primary.start()
        pair.works_to_the_end("with the new primary")


def primary_replaced(variant):
    """a primary that starts beside a secondary of its killed predecessor works or reports why"""
    with Pair(variant) as pair:
        pair.primary.kill()
        try:
            pair.primary.start()
        except workload.NoVerdict as problem:
            report(f"new primary: {problem}")
            expect("memzone" in str(problem), "the new primary reports the cause")
            pair.finish_secondary()
            pair.primary.start()
        else:
            report("the new primary starts beside the secondary of the killed one")
            expect(pair.primary.check() == [], "the drive works with the new primary")
            pair.finish_secondary()
        pair.works_to_the_end("after the old secondary's exit")


def open_uio(pid):
    """The UIO devices that a process has open."""
    found = set()
    for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(file))
    return {path for path in found if path.startswith("/dev/uio")}


def primary_stopped(variant):
    """replies of a primary that was stopped for longer than the secondary waits are not mixed up"""
    drives = workload.DRIVES[:2]
    with contextlib.ExitStack() as stack:
        primary = workload.Primary(variant, drives)
        stack.callback(primary.kill)
        secondary = workload.Secondary(variant, ["--wait", "--stay", "--read-only"], drives)
        stack.callback(secondary.kill)
        expect(secondary.wait_for('"waiting"'), "the secondary starts")
        primary.process.send_signal(signal.SIGSTOP)
        secondary.process.stdin.write(b"\n")
        expect(secondary.wait_for('"attached"'), "the secondary attaches beside a stopped primary")
        # The request for the first drive has timed out, that for the second is pending.
        time.sleep(7)
        primary.process.send_signal(signal.SIGCONT)
        wait_until(lambda: len(open_uio(secondary.process.pid)) == len(drives),
                   "the secondary has the open files of both drives")
        secondary.process.stdin.write(b"\n")
        [kept] = (DEVICES / drives[1] / "uio").iterdir()
        wait_until(lambda: open_uio(secondary.process.pid) == {f"/dev/{kept.name}"},
                   "the secondary has only the open file of the drive that it did not detach")
        run = secondary.finish()
        expect(run.passed, f"the secondary detaches the other: {run}")
        expect(primary.check() == [] and primary.stop() == 0, "the primary works")


SECOND = ["--in-memory"]


def users(variant, drive):
    """The processes that a second primary names when it is refused the drive; None if it is not."""
    try:
        workload.Primary(variant, [drive], eal=SECOND).kill()
    except workload.NoVerdict as refused:
        report(f"second primary: {refused}")
        return set(map(int, re.findall(rf"{drive} is in use by process (\d+)", str(refused))))
    report("the second primary has the drive")
    return None


def second_primary(variant):
    """a second primary is refused with the name of the first, whose I/O continues"""
    with Pair(variant) as pair:
        named = users(variant, pair.drive)
        expect(named is None or pair.primary.process.pid in named,
               "the message names the process that has the drive")
        report(f"first primary: {'; '.join(pair.primary.check()) or 'no error'}")
        pair.works_to_the_end("after the second primary's exit")


READERS = 8


def clean_up(primary):
    """Let a primary exit by rte_eal_cleanup(), with the drives attached."""
    primary.send("quit")
    return primary.stop()


def primary_first(variant):
    """eight secondaries have the drive, and read, until the last ends; the primary ends before"""
    drive = workload.DRIVES[0]
    for end in (workload.Primary.kill, workload.Primary.stop, clean_up):
        with contextlib.ExitStack() as stack:
            primary = workload.Primary(variant, [drive], queues=READERS)
            stack.callback(primary.kill)
            readers = []
            for number in range(READERS):
                readers.append(workload.Secondary(variant, workload.reading(number), [drive]))
                stack.callback(readers[-1].kill)
                # One at a time: EAL's start may remove files of another EAL's start.
                reads = readers[-1].wait_for('"reading"')
                expect(reads, f"secondary {number} reads: {reads or readers[-1].finish()}")
            report(f"primary, {end.__name__}: exit code {end(primary)}")
            expect(bus_master(drive, "after the primary"), "the secondaries keep it on")
            expect(users(variant, drive) == {one.process.pid for one in readers},
                   "the message names the secondaries")
            for one in readers:
                expect(bus_master(drive, "before a secondary ends"), "the others keep it on")
                run = one.finish()
                expect(run.passed, f"each secondary reads to its end: {run}")
            expect(not bus_master(drive, "after the last"), "the kernel clears bus mastering")
            primary.start()
            expect(primary.check() == [] and primary.stop() == 0, "a new primary works")


def no_alarm(variant):
    """a secondary that cannot set an alarm asks for the primary's open files all the same"""
    drives = workload.DRIVES[:1]
    with contextlib.ExitStack() as stack:
        primary = workload.Primary(variant, drives, queues=1)
        stack.callback(primary.kill)
        run, trace = workload.run_traced(
            variant, "/tmp/trace", workload.reading(0), calls="timerfd_settime",
            inject=["timerfd_settime:error=ENOMEM"], drives=drives)
        report(f"secondary: {run}")
        expect("(INJECTED)" in trace, "the secondary sets an alarm")
        expect(run.passed, "it has the open files of the primary, and reads")
        expect(primary.check() == [] and primary.stop() == 0, "the primary works")


def race(variant):
    """of many primaries that open the drive at the same time one gets it and keeps it"""
    racing, wanted = [], int(sys.argv[2])
    with contextlib.ExitStack() as stack:
        for _ in range(wanted):
            racing.append(workload.Primary(variant, workload.DRIVES[:1], eal=SECOND, wait=True))
            stack.callback(racing[-1].kill)
        for primary in racing:
            primary.send("go")
        answers = [primary.answer() for primary in racing]
        winners = [one for one, answer in zip(racing, answers) if "ready" in answer]
        refused = sum(os.strerror(errno.EBUSY) in answer.get("failed", "") for answer in answers)
        report(f"{len(winners)} have the drive, {refused} were refused with EBUSY")
        for primary in racing:
            if primary not in winners:
                primary.stop()
        errors = [sentence for primary in winners for sentence in primary.check()]
    expect(len(winners) == 1 and refused == wanted - 1, "one gets the drive, the others do not")
    expect(errors == [], f"the I/O of the winner continues after the others' exit: {errors}")


def drop_capability():
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)


def no_sys_admin(variant):
    """a secondary without CAP_SYS_ADMIN has 64 bytes of config space and disturbs no process"""
    with Pair(variant) as pair:
        run = pair.run_secondary(options=["--become", "no-sys-admin"])
        report(f"dropped before the attach: {run}")
        expect(run.code == 1 and run.released, "it attaches, fails to read, and detaches")
        expect(f"{pair.drive}: read of 256 bytes" in run.errors and "write" not in run.errors,
               "writes and reads within 64 bytes succeed")
        run = pair.run_secondary(preexec_fn=drop_capability)
        report(f"dropped before the start: {run}")
        expect(run.code == 1 and not run.hung and run.errors, "EAL reports the cause")
        pair.works_to_the_end("after both")


def nobody(variant):
    """a secondary that may not map the BARs fails to attach, reports why, leaves nothing"""
    with Pair(variant) as pair:
        run = pair.run_secondary(options=["--become", "nobody"])
        report(f"user nobody: {run}")
        expect(run.code == 1 and run.released, "it does not attach")
        # It may read config space, with a warning.
        expect(f"{pair.drive}/resource0: Permission denied" in run.errors, "it reports the cause")
        pair.works_to_the_end("after that")


SCENARIOS = (reset, unbind, primary_killed, primary_replaced, primary_stopped, primary_first,
             no_alarm, second_primary, race, no_sys_admin, nobody, unplug)


def main(argv):
    failed = 0
    chosen = [one for one in SCENARIOS if one.__name__ in argv[2:] or not argv[2:]]
    print(f"1..{len(chosen)}", flush=True)
    for number, scenario in enumerate(chosen, 1):
        result = f"ok {number} - {scenario.__doc__}"
        try:
            scenario(argv[0])
        except Unexpected as problem:
            result = f"not {result}: expected that {problem}"
        except workload.NoVerdict as problem:
            result = f"not {result}: {problem}"
        except Exception:
            traceback.print_exc(file=sys.stdout)
            result = f"not {result}: see the traceback above"
        failed += result.startswith("not")
        print(result, flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
