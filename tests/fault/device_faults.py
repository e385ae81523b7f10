# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""In the lab's guest: the device, the primary or the secondary's rights get into trouble.

usage: trouble.py VARIANT. Each scenario tells what it saw, a line each, and ends in a line of TAP.
"""

import contextlib
import ctypes
import errno
import glob
import os
import pathlib
import signal
import sys
import time
import traceback

import workload

UIO = pathlib.Path("/sys/bus/pci/drivers/uio_pci_generic")
DEVICES = pathlib.Path("/sys/bus/pci/devices")
PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21


class NotSo(Exception):
    """What a scenario claims does not hold."""


def expect(held, what):
    if not held:
        raise NotSo(what)


def tell(what):
    print(f"# {what}", flush=True)


def told(came):
    """A SecondaryRun in words."""
    said = came.errors.strip().splitlines()
    return f"{'hangs' if came.hung else f'exit code {came.code}'}{': ' if said else ''}" + \
        "; ".join(said)


def until(condition, what, within=30):
    deadline = time.monotonic() + within
    while not condition():
        expect(time.monotonic() < deadline, f"{within} s and not yet: {what}")
        time.sleep(0.05)


def unplugged():
    """The drive that can be unplugged: it alone is on a bus of its own."""
    return next(drive for drive in workload.DRIVES if not drive.startswith("0000:00:"))


def staying(variant, drive):
    secondary = workload.Secondary(variant, ["--stay"], [drive])
    if not secondary.wait_for('"attached"'):
        secondary.kill()
        raise NotSo("a secondary attaches")
    return secondary


class Pair:
    """An primary of one drive, and a secondary that has it attached; both ended with the block."""

    def __init__(self, variant, drive):
        self.variant, self.drive = variant, drive

    def __enter__(self):
        with contextlib.ExitStack() as ending:
            self.primary = workload.Primary(self.variant, [self.drive])
            ending.callback(self.primary.kill)
            self.secondary = staying(self.variant, self.drive)
            ending.callback(self.secondary.kill)
            expect(self.primary.check() == [], "all is well at first")
            self.ending = ending.pop_all()
        return self

    def __exit__(self, *_):
        self.ending.close()

    def works(self, when):
        """The primary moves data, and a new secondary attaches, uses config space and leaves."""
        bad = self.primary.check()
        expect(bad == [], f"{when} the drive works: {bad}")
        came = workload.run_secondary(self.variant, drives=[self.drive])
        expect(came.right, f"{when} a secondary comes and goes: {told(came)}")

    def recovers(self):
        said = self.primary.ask("recover")
        expect(said.get("bad") == [], f"the primary recovers: {said}")


def bus_master(drive):
    with open(DEVICES / drive / "config", "rb") as file:
        return bool(file.read(6)[4] & 4)


def reset(variant):
    """after a function-level reset the drive works again, with a controller reset by its primary"""
    with Pair(variant, workload.DRIVES[0]) as pair:
        (DEVICES / pair.drive / "reset").write_text("1")
        tell(f"after the reset bus master is {'on' if bus_master(pair.drive) else 'off'}")
        bad = pair.primary.check()
        tell(f"the primary: {'; '.join(bad)}")
        expect(bad, "the primary notices")
        came = pair.secondary.end()
        tell(f"the secondary that was attached: {told(came)}")
        expect(came.right, "config space of the attached secondary works, and it leaves")
        pair.recovers()
        pair.works("after the recovery")
        expect(pair.primary.end() == 0, "the primary ends")


def unbind(variant):
    """after the driver was unbound all say so, and after it was bound again a new primary works"""
    with Pair(variant, workload.DRIVES[0]) as pair:
        (UIO / "unbind").write_text(pair.drive)
        tell(f"after the unbind bus master is {'on' if bus_master(pair.drive) else 'off'}")
        bad = pair.primary.check()
        tell(f"the primary: {'; '.join(bad)}")
        expect(bad, "the primary notices")
        came = pair.secondary.end()
        tell(f"the secondary that was attached: {told(came)}")
        expect(not came.hung and came.left_nothing, "the attached secondary leaves")
        came = workload.run_secondary(variant, drives=[pair.drive])
        tell(f"another secondary: {told(came)}")
        expect(not came.hung and came.code == 1, "a new secondary does not get the drive")
        code = pair.primary.end()
        tell(f"the primary ends with {code}")
        expect(code == 0, "the primary ends")
        pathlib.Path("/sys/bus/pci/drivers_probe").write_text(pair.drive)
        pair.primary.start()
        pair.works("bound again, with a new primary,")
        expect(pair.primary.end() == 0, "the new primary ends")


def monitor(command):
    """Say something to QEMU."""
    port = next(path for path in glob.glob("/sys/class/virtio-ports/*")
                if pathlib.Path(path, "name").read_text().strip() == "lab.monitor")
    with open(f"/dev/{os.path.basename(port)}", "r+b", buffering=0) as file:
        file.write(f"{command}\n".encode())


def unplug(variant):
    """when a drive is unplugged its processes end or say so, and another drive is not disturbed"""
    drive, other = unplugged(), workload.DRIVES[0]
    beside = workload.Primary(variant, [other], eal=["--file-prefix=other"])
    with Pair(variant, drive) as pair:
        monitor("device_del unplug")
        until(lambda: not (DEVICES / drive).exists(), "the kernel let the drive go")
        deadline = time.monotonic() + 20
        while pair.primary.process.poll() is None and time.monotonic() < deadline:
            bad = pair.primary.check()
            if bad:
                break
        code = pair.primary.process.poll()
        tell("the primary: " +
             (f"ended by {signal.Signals(-code).name}" if code else "; ".join(bad)))
        expect(code is not None or bad, "the primary ends or says so")
        came = pair.secondary.end()
        tell(f"the secondary that was attached: {told(came)}")
        expect(not came.hung, "the attached secondary ends")
        if code is None:
            code = pair.primary.end()
            tell(f"the primary, told to end, ends with {code}")
            expect(code == 0, "the primary ends when told to")
    expect(beside.check() == [], "the other drive works")
    expect(beside.end() == 0, "its primary ends")
    expect(workload.stale_locks() == [], "no lock is left")


def primary_killed(variant):
    """after its primary was killed a secondary leaves, and the next primary works"""
    with Pair(variant, workload.DRIVES[0]) as pair:
        pair.primary.kill()
        tell(f"after the kill bus master is {'on' if bus_master(pair.drive) else 'off'}")
        expect(not bus_master(pair.drive), "the kernel stopped the drive")
        came = workload.Secondary(variant, drives=[pair.drive]).end()
        tell(f"a secondary that comes now: {told(came)}")
        expect(not came.hung, "a secondary of no primary ends")
        came = pair.secondary.end()
        tell(f"the secondary that was attached: {told(came)}")
        expect(came.right, "config space of the attached secondary works, and it leaves")
        pair.primary.start()
        pair.works("with the next primary")
        expect(pair.primary.end() == 0, "the next primary ends")


def primary_replaced(variant):
    """a primary that starts while a secondary of the killed one traces works, or says why not"""
    with Pair(variant, workload.DRIVES[0]) as pair:
        pair.primary.kill()
        try:
            pair.primary.start()
        except workload.Broken as broken:
            tell(f"the next primary: {broken}")
            expect("memzone" in str(broken), "it says why")
            came = pair.secondary.end()
            pair.primary.start()
        else:
            tell("the next primary starts, beside the secondary of the killed one")
            expect(pair.primary.check() == [], "it works")
            came = pair.secondary.end()
        tell(f"the secondary of the killed one: {told(came)}")
        expect(not came.hung, "it ends")
        pair.works("when it has left")
        expect(pair.primary.end() == 0, "the next primary ends")


SECOND = ["--in-memory"]


def second_primary(variant):
    """a second primary is refused, is told by whom, and the first one's I/O goes on"""
    with Pair(variant, workload.DRIVES[0]) as pair:
        try:
            second = workload.Primary(variant, [pair.drive], eal=SECOND)
            tell("the second primary has the drive")
            second.kill()
        except workload.Broken as refused:
            tell(f"the second primary: {refused}")
            expect(f"{pair.drive} is in use by process {pair.primary.process.pid}, not probing"
                   in str(refused), "it is told who has the drive")
        bad = pair.primary.check()
        tell(f"the first: {'; '.join(bad) or 'no error'}")
        pair.works("after that")
        expect(pair.primary.end() == 0, "the first ends")


RACING = 100


def race(variant):
    """of a hundred primaries that want the drive at once one gets it, and keeps it"""
    drive, racing = workload.DRIVES[0], []
    with contextlib.ExitStack() as ending:
        for _ in range(RACING):
            racing.append(workload.Primary(variant, [drive], eal=SECOND, wait=True))
            ending.callback(racing[-1].kill)
        for one in racing:
            one.process.stdin.write(b"go\n")
        said = [one.hear(workload.SILENT) or {} for one in racing]
        winners = [one for one, what in zip(racing, said) if "ready" in what]
        refused = sum(os.strerror(errno.EBUSY) in what.get("failed", "") for what in said)
        tell(f"{len(winners)} have the drive, {refused} were refused as it is busy")
        for one in racing:
            if one not in winners:
                one.end()
        bad = [sentence for one in winners for sentence in one.check()]
    expect(len(winners) == 1 and refused == RACING - 1, "one wins, all others are told")
    expect(bad == [], f"the winner's I/O goes on when the others have ended: {bad}")


def without_capability():
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)


def no_sys_admin(variant):
    """a secondary without CAP_SYS_ADMIN has 64 bytes of config space, and disturbs nobody"""
    with Pair(variant, workload.DRIVES[0]) as pair:
        came = workload.run_secondary(variant, ["--become", "no-sys-admin"], drives=[pair.drive])
        tell(f"given up before the attach: {told(came)}")
        expect(came.code == 1 and came.left_nothing, "it attaches, fails to read, and leaves")
        expect(f"{pair.drive}: read of 256 bytes" in came.errors and "write" not in came.errors,
               "it may write, and read 64 bytes")
        came = workload.run_secondary(variant, drives=[pair.drive], preexec_fn=without_capability)
        tell(f"never had: {told(came)}")
        expect(came.code == 1 and not came.hung and came.errors, "EAL says why")
        pair.works("after both")
        expect(pair.primary.end() == 0, "the primary ends")


def nobody(variant):
    """a secondary that may only read config space does not attach, says why, and leaves nothing"""
    with Pair(variant, workload.DRIVES[0]) as pair:
        came = workload.run_secondary(variant, ["--become", "nobody"], drives=[pair.drive])
        tell(f"nobody: {told(came)}")
        expect(came.code == 1 and came.left_nothing, "it does not attach")
        expect(f"{pair.drive}/config: Permission denied" in came.errors, "it says why")
        pair.works("after that")
        expect(pair.primary.end() == 0, "the primary ends")


SCENARIOS = (reset, unbind, primary_killed, primary_replaced, second_primary, race, no_sys_admin,
             nobody, unplug)


def main(argv):
    failed = 0
    print(f"1..{len(SCENARIOS)}", flush=True)
    for number, scenario in enumerate(SCENARIOS, 1):
        try:
            scenario(argv[0])
            print(f"ok {number} - {scenario.__doc__}", flush=True)
        except (NotSo, workload.Broken) as problem:
            failed += 1
            print(f"not ok {number} - {scenario.__doc__}: not so: {problem}", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"not ok {number} - {scenario.__doc__}: see above", flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
