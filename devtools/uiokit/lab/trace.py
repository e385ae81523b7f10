# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""The bus master bit of a guest's devices over time, from outside of the guest.

QEMU traces each write to config space. So no transition is missed, however short, and nothing that
looks runs in the guest.
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


class Watch:
    """Turns what QEMU tells through a pipe into one line for each transition.

    Listened to like a socket; theirs: the write end, an open file.
    """

    def __init__(self, models, write):
        self.models = models
        self.write = write
        self.began, self.began_monotonic = time.time(), time.monotonic()
        self.last = {}
        self.ours, theirs = os.pipe()
        self.theirs = os.fdopen(theirs, "wb")
        self.sink = protocol.by_line(self.heard)

    def fileno(self):
        return self.ours

    def recv(self, size):
        return os.read(self.ours, size)

    def setblocking(self, flag):
        os.set_blocking(self.ours, flag)

    def heard(self, line):
        found = _WRITE.match(line)
        if not found or found[2] not in self.models or int(found[4], 16) != _COMMAND:
            return
        command = int(found[5], 16) & 0xffff
        master = bool(command & _MASTER)
        if self.last.get(found[3], False) != master:
            self.last[found[3]] = master
            self.write(f"{float(found[1]) - self.began:10.6f} 0000:{found[3]} "
                       f"{'on' if master else 'off'} {command:#06x}\n")

    def note(self, report):
        """When the command ran, as a Report has it."""
        for moment, what in ((report.start, "start"), (report.exit, "end")):
            if moment is not None:
                self.write(f"{moment - self.began_monotonic:10.6f} command {what}\n")


def transitions(path):
    """{device: ["on", "off", ...]} as a Watch has written them to a file."""
    found = {}
    for line in pathlib.Path(path).read_text().splitlines():
        words = line.split()
        if len(words) == 4 and words[2] in ("on", "off"):
            found.setdefault(words[1], []).append(words[2])
    return found


@contextlib.contextmanager
def watched(path, devices):
    """A Watch of the drives and of further devices, as --device names them, to a file or stderr.

    None without a path.
    """
    if path is None:
        yield None
        return
    models = {"nvme", *(device.split(",")[0] for device in devices)}
    with contextlib.ExitStack() as stack:
        file = sys.stderr if path == "-" else stack.enter_context(open(path, "w", buffering=1))
        watch = Watch(models, file.write)
        stack.callback(os.close, watch.ours)
        stack.callback(watch.theirs.close)
        file.write(HEAD)
        yield watch
