# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Boot a guest with NVMe drives on uio_pci_generic, run one command in it, bring its result back.

The command line on top of this is cli/lab.py.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from .. import common, distro
from . import accelerator, guest_files, guest_image, guest_kernel, protocol, qemu, trace

# Seconds in which a guest that lives on KVM has spoken, and in which any has started the command.
KVM_SPEAKS_WITHIN = 8
STARTS_WITHIN = 150
# Once in some hundred starts under TCG the guest never says a thing; it says its first in two.
TCG_SPEAKS_WITHIN = 60

# Programs, by the package that has them.
NEED = {qemu.PROGRAM: "qemu-system-x86"}

TIMED_OUT = 124
LOGS_KEPT = 20

# MiB: what a guest gets at least, and what the kernel and the tools in it need of that.
DEFAULT_MEMORY = 512
SYSTEM_MEMORY = 192


@dataclasses.dataclass
class Options:
    """A guest, and what to do in it; `devtools/lab run --help` tells what each means.

    take: (absolute host pathlib.Path, guest path) pairs; give: (guest path, host path) pairs.
    """

    command: list = dataclasses.field(default_factory=list)
    kernel: str = None
    modules: str = None
    accel: str = "auto"
    nvme: int = 1
    nvme_sriov: bool = False
    nvme_unplug: bool = False
    iommu: bool = False
    monitor: bool = False
    device: list = dataclasses.field(default_factory=list)
    uio: list = dataclasses.field(default_factory=list)
    cpus: int = 2
    mem: int = None
    hugepages: int = 64
    take: list = dataclasses.field(default_factory=list)
    give: list = dataclasses.field(default_factory=list)
    env: dict = dataclasses.field(default_factory=dict)
    timeout: int = None
    append: str = ""
    watch: str = None
    verbose: bool = False
    qemu: str = qemu.PROGRAM

    @property
    def drives(self):
        return self.nvme + self.nvme_sriov + self.nvme_unplug


@dataclasses.dataclass
class Result:
    """How the command ended, and how long it took until the guest lived, had its devices bound, and
    was done. stdout and stderr are empty where they went to sinks of the caller's.
    """

    code: int
    timed_out: bool
    stdout: str
    stderr: str
    boot_seconds: float
    bind_seconds: float
    command_seconds: float
    accel: str
    kernel: str
    log: pathlib.Path


def boot(options, *, on_line=None, sinks=None, keyboard=None):
    """Run options.command in a guest and return its Result.

    on_line is called with each line of its stdout as it comes. sinks are functions of bytes, by
    port (qemu.py), that get what comes from there instead of the Result. With keyboard, a file
    descriptor, the command is on a terminal of its own: input from there, output to port `tty`.

    Raises Usage for what cannot be done as asked, Infrastructure if the guest could not report
    how the command ended. Call it from a thread that lives as long: QEMU dies with its thread.
    """
    if options.qemu == qemu.PROGRAM:
        distro.need(NEED)
    elif shutil.which(options.qemu) is None:
        raise common.Usage(f"--qemu {options.qemu}: no such program")
    kernel = guest_kernel.obtain(options.kernel, options.modules)
    with contextlib.ExitStack() as stack:
        def scratch():
            # It has no name, and is gone with the last process that has it open.
            return stack.enter_context(tempfile.TemporaryFile(dir=common.build_dir("lab")))

        image, given = scratch(), scratch()
        size = _write_image(image, kernel, options, keyboard is not None)
        drives = [scratch() for _ in range(options.drives)]
        for index, drive in enumerate(drives):
            guest_files.fill_drive(drive, index)
        kept = collections.defaultdict(bytearray)
        sinks = {"lab.out": kept["out"].extend, "lab.err": kept["err"].extend,
                 "tty": kept["out"].extend, "lab.give": given.write, **(sinks or {})}
        if on_line:
            sinks["lab.out"] = protocol.both(sinks["lab.out"],
                                             protocol.by_line(on_line))
        candidates = accelerator.candidates(options.accel, options.qemu)
        for accel, speak_within in _attempts(candidates):
            argv = (qemu.machine_args(options.qemu, accel, options.cpus, _memory(options, size))
                    + qemu.kernel_args(kernel.image, image, options.hugepages, options.append)
                    + (qemu.iommu_args() if options.iommu else [])
                    + qemu.drives_args(options, drives)
                    + [word for device in options.device for word in ("-device", device)])
            began = time.monotonic()
            log, report, ended = _run(argv, [image, *drives], sinks, options, speak_within,
                                      keyboard)
            if report.ready is not None or (accel == candidates[-1] and not report.overdue):
                break
        if report.ready is not None and accel != candidates[0]:
            accelerator.remember_tcg(options.qemu)
        _check(report, log, options, ended)
        given.flush()
        guest_files.put_given(given, options.give)
    if report.missing:
        text = f"not in the guest, so not given: {', '.join(report.missing)}"
        if report.code == 0:
            raise common.Infrastructure(f"{text}\n  boot log: {log}")
        common.say(text)
    return Result(TIMED_OUT if report.timed_out else report.code, report.timed_out,
                  kept["out"].decode(errors="replace"), kept["err"].decode(errors="replace"),
                  report.ready - began, report.start - report.ready, report.exit - report.start,
                  accel, kernel.release, log)


def _attempts(accels):
    """(accelerator, seconds to wait for a word of the guest's), in the order to try.

    A guest that has not spoken has run nothing: it may be started again.
    """
    for accel in accels:
        if accel == "kvm":
            yield accel, KVM_SPEAKS_WITHIN
        else:
            yield accel, TCG_SPEAKS_WITHIN
            yield accel, STARTS_WITHIN


def _write_image(file, kernel, options, terminal):
    """Write the guest's image and return its size."""
    library_path = options.env.get("LD_LIBRARY_PATH", os.environ.get("LD_LIBRARY_PATH", ""))
    env = dict(options.env)
    if library_path and options.take:
        # The libraries are at the same places, and must be found there in the same way.
        env["LD_LIBRARY_PATH"] = library_path
    job = {"MODE": "shell" if terminal else "run", "TIMEOUT": options.timeout or "",
           "UIO_IDS": " ".join(options.uio).lower(),
           "GIVE": "\n".join(guest for guest, _ in options.give)}
    guest_image.write(file, kernel, job, guest_image.command_script(options.command, env),
                      options.take, library_path)
    file.flush()
    return file.tell()


def _memory(options, image_size):
    """MiB for the guest: what was asked for if that can do, else what is needed."""
    # While it boots, the image is there twice: packed and unpacked.
    needed = SYSTEM_MEMORY + 2 * options.hugepages + 3 * (image_size >> 20)
    if options.mem is None:
        return max(DEFAULT_MEMORY, -(-needed // 64) * 64)
    if options.mem < needed:
        raise common.Usage(f"--mem {options.mem}: {needed} MiB are needed for the system, "
                           f"{options.hugepages} hugepages and {image_size >> 20} MiB of files")
    return options.mem


def _run(argv, files, sinks, options, speak_within, keyboard):
    """One guest, from start to end: (log path, Report, QEMU's exit code or None)."""
    folder = common.build_dir("lab")
    for old in sorted(folder.glob("boot-*.log"))[:1 - LOGS_KEPT]:
        old.unlink(missing_ok=True)
    handle, log_path = tempfile.mkstemp(dir=folder, prefix=time.strftime("boot-%Y%m%d-%H%M%S-"),
                                        suffix=".log")
    with open(handle, "wb", buffering=0) as log, qemu.ports(options.monitor) as (ours, theirs):
        console = log.write
        if options.verbose:
            console = protocol.both(log.write, protocol.to_stream(sys.stderr))
        argv = argv + qemu.port_args(theirs)
        with trace.watched(options.watch, options.device) as watch:
            if watch:
                argv = argv + qemu.watch_args(watch.theirs)
                ours, sinks = {**ours, "watch": watch}, {**sinks, "watch": watch.sink}
                theirs = {**theirs, "watch": watch.theirs}
            with qemu.running(argv, [*files, *theirs.values()], log) as child:
                # Only QEMU's copies may be left, for the end of QEMU to be the end of file.
                for end in theirs.values():
                    end.close()
                report = protocol.listen(
                    ours, dict(sinks, console=console), keyboard=keyboard,
                    timeout=options.timeout, start_within=STARTS_WITHIN,
                    speak_within=speak_within)
                if not report.complete and not report.overdue:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(timeout=3)
                ended = child.poll()
            if watch:
                watch.note(report)
    return pathlib.Path(log_path), report, ended


def _check(report, log, options, ended):
    """Raise Infrastructure unless the guest reported how the command ended."""
    if report.complete:
        return
    if report.fault:
        what = f"the guest could not run the command: {report.fault}"
    elif report.overdue and report.start is None:
        what = f"the guest did not start the command within {STARTS_WITHIN} s"
    elif report.overdue and report.code is None:
        what = f"the guest did not end the command at its time limit of {options.timeout} s"
    elif report.overdue:
        what = "the guest fell silent before it had sent everything"
    elif report.ready is None and ended:
        what = f"QEMU ended with {ended} before the guest had spoken"
    else:
        what = "the guest ended before it could report how the command ended"
    lines = log.read_text(errors="replace").splitlines()
    what += "".join(f": {line}" for line in lines if "Kernel panic" in line)
    tail = lines[-15:]
    raise common.Infrastructure("\n".join(
        [what, *(f"    {line}" for line in tail), f"  whole boot log: {log}"]))
