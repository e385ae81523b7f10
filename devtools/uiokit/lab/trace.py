# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Record the bus master bit of a guest's devices over time, from outside of the guest.

QEMU traces each write to config space. So no transition is missed, however short, and the guest
runs nothing for it.
"""

import contextlib
import os
import pathlib
import re
import sys
import time

from . import protocol

# "12@1700000000.123456:pci_cfg_write nvme 00:04.0 @0x4 <- 0x107"
_WRITE = re.compile(r"\d+@(\d+\.\d+):pci_cfg_write (\S+) (\S+) @0x([0-9a-f]+) <- 0x([0-9a-f]+)")
_COMMAND = 0x4
_MASTER = 0x4

HEAD = "# seconds since the start of the guest, device, bus master, COMMAND as written\n"


class Recorder:
    """Writes one line for each transition that QEMU traces to the write end of a pipe."""

    def __init__(self, models, write):
        self.models = models
        self.write = write
        self.began, self.began_monotonic = time.time(), time.monotonic()
        self.last = {}
        read_end, write_end = os.pipe()
        self.read_end, self.write_end = os.fdopen(read_end, "rb"), os.fdopen(write_end, "wb")
        self.sink = protocol.by_line(self.record)

    def record(self, line):
        found = _WRITE.match(line)
        if not found or found[2] not in self.models or int(found[4], 16) != _COMMAND:
            return
        device = found[3]
        if "." not in device:
            # QEMU 5.2 traces the slot and function in decimal, without the bus.
            slot, function = device.split(":")
            device = f"00:{int(slot):02x}.{function}"
        command = int(found[5], 16) & 0xffff
        master = bool(command & _MASTER)
        if self.last.get(device, False) != master:
            self.last[device] = master
            self.write(f"{float(found[1]) - self.began:10.6f} 0000:{device} "
                       f"{'on' if master else 'off'} {command:#06x}\n")

    def record_command(self, report):
        """Write when the command started and ended, from a protocol.Report."""
        for moment, what in ((report.start, "start"), (report.exit, "end")):
            if moment is not None:
                self.write(f"{moment - self.began_monotonic:10.6f} command {what}\n")


def transitions(path):
    """{device: ["on", "off", ...]} from a file that a Recorder wrote."""
    found = {}
    for line in pathlib.Path(path).read_text().splitlines():
        words = line.split()
        if len(words) == 4 and words[2] in ("on", "off"):
            found.setdefault(words[1], []).append(words[2])
    return found


@contextlib.contextmanager
def recorder(path, devices):
    """A Recorder of the drives and of further devices, as --device names them; None without path.

    path: a file, or - for stderr.
    """
    if path is None:
        yield None
        return
    models = {"nvme", *(device.split(",")[0] for device in devices)}
    with contextlib.ExitStack() as stack:
        if path == "-":
            file = sys.stderr
        else:
            pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "w", buffering=1))
        record = Recorder(models, file.write)
        stack.enter_context(record.read_end)
        stack.enter_context(record.write_end)
        file.write(HEAD)
        yield record
