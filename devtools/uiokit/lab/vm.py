# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Boot a guest with NVMe drives on uio_pci_generic, run one command in it, return its result.

The command line on top of this is cli/lab.py.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from .. import arch, common, distro
from . import (accelerator, guest_files, guest_image, guest_kernel, kernel_image, protocol, qemu,
               trace)

# Seconds until any guest has started the command.
STARTS_WITHIN = 150
# Under TCG one start in some hundred never reports that it is up; the others do so in two seconds.
TCG_BOOTS_WITHIN = 60

# Programs, by the package that has them.
NEED = {qemu.PROGRAM: arch.native().qemu_package, kernel_image.MODINFO: "kmod"}

TIMED_OUT = 124
LOGS_KEPT = 20

# MiB: the least that a guest gets, and how much of it the kernel and the tools need.
DEFAULT_MEMORY = 512
SYSTEM_MEMORY = 192


@dataclasses.dataclass
class Options:
    """A guest, and what to do in it; `devtools/lab run --help` describes each option.

    take: (absolute host pathlib.Path, guest path) pairs; give: (guest path, host path) pairs;
    qemu_args: more arguments for QEMU. cpus: an emulated processor waits for another one by
    spinning, so that two guests slow down each other on a machine of two, but not with one each.
    aslr: addresses are random, as on other machines; without that, an emulated processor runs code
    again that it has translated for an earlier process, and a process starts in half the time.
    """

    command: list = dataclasses.field(default_factory=list)
    kernel: str = None
    modules: str = None
    refresh: bool = False
    accel: str = "auto"
    nvme: int = 1
    nvme_sriov: bool = False
    nvme_unplug: bool = False
    iommu: bool = False
    bind: str = "uio_pci_generic"
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
    aslr: bool = True
    watch: str = None
    verbose: bool = False
    qemu: str = None
    qemu_args: list = dataclasses.field(default_factory=list)
    guest: arch.Arch = dataclasses.field(default_factory=arch.native)

    @property
    def drives(self):
        return self.nvme + self.nvme_sriov + self.nvme_unplug


@dataclasses.dataclass
class Result:
    """How the command ended, after how many seconds. stdout and stderr are empty if the caller
    has sinks for them.
    """

    code: int
    timed_out: bool
    stdout: str
    stderr: str
    seconds: float
    accel: str
    kernel: str
    log: pathlib.Path


def check(options):
    """Raise Usage or Infrastructure for what cannot work, before anything is fetched or installed.

    Values that the command line checks by their type are not checked again.
    """
    if options.bind == "vfio-pci" and not options.iommu:
        raise common.Usage("--bind vfio-pci needs --iommu")
    for _, host in options.give:
        guest_files.check_writable("--give", host)
    if options.watch not in (None, "-"):
        guest_files.check_writable("--watch", options.watch)
        if os.path.isdir(options.watch):
            raise common.Usage(f"--watch {options.watch}: is a folder: give a file")
    _memory(options, 0)
    guest_kernel.check(options.kernel, options.modules, options.guest)


def boot(options, *, on_line=None, sinks=None, keyboard=None):
    """Run options.command in a guest and return its Result.

    on_line is called with each line of its stdout at once. sinks are functions of bytes, by port
    (qemu.py), that get the data of a port instead of the Result. With keyboard, a file descriptor,
    the command runs on a terminal: input from there, output to port `tty`.

    Raises what check() does, and Infrastructure if the guest could not report how the command
    ended. The kernel kills QEMU when the calling thread ends.
    """
    check(options)
    guest = options.guest
    distro.need({kernel_image.MODINFO: NEED[kernel_image.MODINFO],
                 **({} if options.qemu else {guest.qemu: guest.qemu_package})})
    options = _what_qemu_can(dataclasses.replace(
        options, qemu=qemu.obtain(options.qemu or guest.qemu, guest)))
    kernel = guest_kernel.obtain(options.kernel, options.modules, options.refresh, options.bind,
                                 guest)
    with contextlib.ExitStack() as stack:
        def scratch():
            # It has no name: the kernel removes it with the last process that has it open.
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
        candidates = accelerator.candidates(options.accel, options.qemu, guest)
        for accel, boot_within in _attempts(candidates):
            argv = (qemu.machine_args(options.qemu, guest, accel, options.cpus,
                                      _memory(options, size))
                    + qemu.kernel_args(guest, kernel.image, image, options.hugepages,
                                       options.append + " norandmaps" * (not options.aslr))
                    # QEMU wants it before the devices behind it.
                    + list(guest.iommu if options.iommu else ())
                    + qemu.drives_args(options, drives)
                    + [word for device in options.device for word in ("-device", device)]
                    + options.qemu_args)
            log, report, ended = _run(argv, [image, *drives], sinks, options, boot_within, keyboard)
            if report.ready is not None or (accel == candidates[-1] and not report.overdue):
                break
        if report.ready is not None and "kvm" in candidates:
            accelerator.remember(accel == "kvm", options.qemu)
        _check(report, log, options, ended, boot_within)
        given.flush()
        guest_files.put_given(given, options.give)
    if report.missing:
        text = f"--give: not in the guest: {', '.join(report.missing)}"
        if report.code == 0:
            raise common.Infrastructure(f"{text}\n  boot log: {log}")
        common.say(text)
    return Result(TIMED_OUT if report.timed_out else report.code, report.timed_out,
                  kept["out"].decode(errors="replace"), kept["err"].decode(errors="replace"),
                  report.exit - report.start, accel, kernel.release, log)


def _what_qemu_can(options):
    """The options, without what this QEMU is too old for."""
    version = qemu.version(options.qemu)
    if not qemu.is_at_least(options.qemu, qemu.OLDEST):
        raise common.Infrastructure(f"{options.qemu} is version {version}: the lab needs "
                                    f"{'.'.join(map(str, qemu.OLDEST))} or later")
    if options.nvme_sriov and not qemu.is_at_least(options.qemu, qemu.OLDEST_SRIOV):
        common.say_once(f"  QEMU {version} has no SR-IOV for NVMe drives ("
                        f"{'.'.join(map(str, qemu.OLDEST_SRIOV))} has): a plain drive instead")
        return dataclasses.replace(options, nvme=options.nvme + 1, nvme_sriov=False)
    return options


def _attempts(accels):
    """(accelerator, seconds to wait until the guest is up), in the order to try.

    A guest that was not up has run nothing: it may be started again.
    """
    for accel in accels:
        if accel == "kvm":
            yield accel, accelerator.KVM_BOOTS_WITHIN
        else:
            yield accel, TCG_BOOTS_WITHIN
            yield accel, STARTS_WITHIN


def _write_image(file, kernel, options, terminal):
    """Write the guest's image and return its size."""
    library_path = options.env.get("LD_LIBRARY_PATH", os.environ.get("LD_LIBRARY_PATH", ""))
    env = dict(options.env)
    if library_path and options.take:
        # The libraries have the same paths in the guest, and are found in the same way.
        env["LD_LIBRARY_PATH"] = library_path
    job = {"MODE": "shell" if terminal else "run", "TIMEOUT": options.timeout or "",
           "DRIVER": options.bind, "UIO_IDS": " ".join(options.uio).lower(),
           "GIVE": "\n".join(guest for guest, _ in options.give)}
    guest_image.write(file, kernel, job, guest_image.command_script(options.command, env),
                      options.take, library_path, options.guest)
    file.flush()
    return file.tell()


def _memory(options, image_size):
    """MiB for the guest: by default what it needs; Usage if --mem is less than that."""
    # During the boot the image is in memory twice: packed and unpacked.
    needed = SYSTEM_MEMORY + 2 * options.hugepages + 3 * (image_size >> 20)
    if options.mem is None:
        return max(DEFAULT_MEMORY, -(-needed // 64) * 64)
    if options.mem < needed:
        raise common.Usage(f"--mem {options.mem}: {needed} MiB are needed for the system, "
                           f"{options.hugepages} hugepages and {image_size >> 20} MiB of files")
    return options.mem


def _run(argv, files, sinks, options, boot_within, keyboard):
    """One guest, from start to end: (log path, Report, QEMU's exit code or None)."""
    folder = common.build_dir("lab")
    for old in sorted(folder.glob("boot-*.log"))[:1 - LOGS_KEPT]:
        old.unlink(missing_ok=True)
    handle, log_path = tempfile.mkstemp(dir=folder, prefix=time.strftime("boot-%Y%m%d-%H%M%S-"),
                                        suffix=".log")
    with open(handle, "wb", buffering=0) as log, \
            qemu.ports(options.monitor) as (host_ends, qemu_ends), \
            trace.recorder(options.watch, options.device) as recorder:
        console = log.write
        if options.verbose:
            console = protocol.both(log.write, protocol.to_stream(sys.stderr))
        sinks = dict(sinks, console=console)
        argv = argv + qemu.port_args(qemu_ends)
        if recorder:
            argv = argv + qemu.trace_args(recorder.write_end)
            host_ends["trace"], qemu_ends["trace"] = recorder.read_end, recorder.write_end
            sinks["trace"] = recorder.sink
        with qemu.running(argv, [*files, *qemu_ends.values()], log) as child:
            # With only QEMU's copies left, the end of QEMU is the end of file.
            for end in qemu_ends.values():
                end.close()
            report = protocol.listen(
                host_ends, sinks, keyboard=keyboard, timeout=options.timeout,
                start_within=STARTS_WITHIN, boot_within=boot_within)
            if not report.complete and not report.overdue:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=3)
            ended = child.poll()
        if recorder:
            recorder.record_command(report)
    return pathlib.Path(log_path), report, ended


def _check(report, log, options, ended, boot_within):
    """Raise Infrastructure unless the guest reported how the command ended."""
    if report.complete:
        return
    if report.fault:
        what = f"the guest could not run the command: {report.fault}"
    elif report.overdue and report.ready is None:
        what = f"the guest did not boot within {boot_within} s"
    elif report.overdue and report.start is None:
        what = f"the guest did not start the command within {STARTS_WITHIN} s"
    elif report.overdue and report.code is None:
        what = f"the guest did not end the command at its time limit of {options.timeout} s"
    elif report.overdue:
        what = "the guest stopped sending before it had sent all"
    elif report.ready is None and ended:
        what = f"QEMU ended with {ended} before the guest was up"
    else:
        what = "the guest ended before it could report how the command ended"
    lines = log.read_text(errors="replace").splitlines()
    what += "".join(f": {line}" for line in lines if "Kernel panic" in line)
    tail = lines[-15:]
    raise common.Infrastructure("\n".join(
        [what, *(f"    {line}" for line in tail), f"  whole boot log: {log}"]))
