# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Listening to a guest: what it says on its ports, until it has said all or a deadline passes."""

import dataclasses
import os
import selectors
import time

# How long a guest that has reported may then take without sending anything.
GRACE = 30


@dataclasses.dataclass
class Report:
    """What a guest said, and when (time.monotonic; None: never)."""

    ready: float = None
    start: float = None
    exit: float = None
    code: int = None
    timed_out: bool = False
    fault: str = None
    missing: list = dataclasses.field(default_factory=list)
    complete: bool = False
    overdue: bool = False


def listen(ports, sinks, *, speak_within, start_within, timeout, keyboard=None):
    """Pass on what comes from each port to its sink until the guest said `end` or is gone.

    ports: sockets by name, of which lab.ctl is read here; sinks: functions of bytes by port name.
    speak_within, start_within: seconds until the guest's first word, and until the command starts.
    timeout: the time limit that the guest itself keeps for the command, or None for none.
    keyboard: a file descriptor whose input goes to the port `tty`.
    """
    report = Report()
    began = time.monotonic()
    control = by_line(lambda line: _heard(report, line))
    with selectors.DefaultSelector() as selector:
        for name, port in ports.items():
            selector.register(port, selectors.EVENT_READ,
                              control if name == "lab.ctl" else sinks[name])
        heard, typing = began, False
        while not report.complete and report.fault is None:
            deadline = _deadline(report, began, heard, speak_within, start_within, timeout)
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                report.overdue = True
                return report
            for key, _ in selector.select(wait):
                if key.fd == keyboard:
                    if not _type(keyboard, ports["tty"]):
                        selector.unregister(keyboard)
                    continue
                heard = time.monotonic()
                if keyboard is not None and key.fileobj is ports["tty"] and not typing:
                    # Only now does the guest have that terminal open: earlier keys were lost.
                    selector.register(keyboard, selectors.EVENT_READ, None)
                    typing = True
                if not _pass_on(key.fileobj, key.data):
                    selector.unregister(key.fileobj)
            if not any(key.fd != keyboard for key in selector.get_map().values()):
                return report
        # All that was sent is in the sockets: the guest said so last.
        for name, port in ports.items():
            port.setblocking(False)
            while name != "lab.ctl" and _pass_on(port, sinks[name]):
                pass
    return report


def _deadline(report, began, heard, speak_within, start_within, timeout):
    if report.ready is None:
        return began + speak_within
    if report.start is None:
        return began + start_within
    if report.code is not None:
        return heard + GRACE
    return None if timeout is None else report.start + timeout + GRACE


def _pass_on(port, sink):
    """Whether there was something."""
    try:
        data = port.recv(1 << 16)
    except (BlockingIOError, ConnectionResetError):
        return False
    if data:
        sink(data)
    return bool(data)


def _type(keyboard, port):
    """Send what was typed; the end of input becomes what ends a shell.

    Not Ctrl-D: that one is lost while the shell is not reading.
    """
    data = os.read(keyboard, 4096)
    try:
        port.sendall(data or b"\nexit\n")
    except ConnectionError:
        return False
    return bool(data)


def by_line(use):
    """A sink that calls `use` with each whole line."""
    kept = bytearray()

    def sink(data):
        kept.extend(data)
        *lines, rest = kept.split(b"\n")
        kept[:] = rest
        for line in lines:
            use(line.decode(errors="replace"))
    return sink


def to_stream(stream):
    """A sink that passes bytes on to a text stream of this process, unchanged and at once."""
    def sink(data):
        stream.buffer.write(data)
        stream.buffer.flush()
    return sink


def both(first, second):
    def sink(data):
        first(data)
        second(data)
    return sink


def _heard(report, line):
    word, _, rest = line.partition(" ")
    if word in ("ready", "start"):
        setattr(report, word, time.monotonic())
    elif word == "exit" and rest.isdigit():
        report.exit = time.monotonic()
        report.code = int(rest)
    elif word == "timeout":
        report.timed_out = True
    elif word == "missing":
        report.missing.append(rest)
    elif word == "fault":
        report.fault = rest
    elif word == "end":
        report.complete = True
