# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Read a guest's ports until the guest has reported its end, or a deadline has passed."""

import dataclasses
import os
import selectors
import time

# Seconds that a guest may be silent after it has reported the exit code.
GRACE = 30


@dataclasses.dataclass
class Report:
    """What a guest reported, and when (time.monotonic; None: not at all)."""

    ready: float = None
    start: float = None
    exit: float = None
    code: int = None
    timed_out: bool = False
    fault: str = None
    missing: list = dataclasses.field(default_factory=list)
    complete: bool = False
    overdue: bool = False


def listen(ports, sinks, *, boot_within, start_within, timeout, keyboard=None):
    """Pass on the data of each port to its sink until the guest reports `end` or has ended.

    ports: sockets and pipes by name, of which lab.ctl is read here; sinks: functions of bytes by
    port name.
    boot_within, start_within: seconds until the guest reports that it is up, and until the command
    starts. timeout: the command's time limit, which the guest enforces, or None.
    keyboard: a file descriptor whose input goes to the port `tty`.
    """
    report = Report()
    began = time.monotonic()
    control = by_line(lambda line: _take_note(report, line))
    with selectors.DefaultSelector() as selector:
        for name, port in ports.items():
            selector.register(port, selectors.EVENT_READ,
                              control if name == "lab.ctl" else sinks[name])
        last_data, typing = began, False
        while not report.complete and report.fault is None:
            deadline = _deadline(report, began, last_data, boot_within, start_within, timeout)
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                report.overdue = True
                return report
            for key, _ in selector.select(wait):
                if key.fd == keyboard:
                    if not _type(keyboard, ports["tty"]):
                        selector.unregister(keyboard)
                    continue
                last_data = time.monotonic()
                if keyboard is not None and key.fileobj is ports["tty"] and not typing:
                    # Keys sent before the guest opened its terminal would be lost.
                    selector.register(keyboard, selectors.EVENT_READ, None)
                    typing = True
                if not _pass_on(key.fileobj, key.data):
                    selector.unregister(key.fileobj)
            if not any(key.fd != keyboard for key in selector.get_map().values()):
                return report
        # The guest reports `end` last, so the sockets have everything that it sent.
        for name, port in ports.items():
            os.set_blocking(port.fileno(), False)
            while name != "lab.ctl" and _pass_on(port, sinks[name]):
                pass
    return report


def _deadline(report, began, last_data, boot_within, start_within, timeout):
    if report.ready is None:
        return began + boot_within
    if report.start is None:
        return began + start_within
    if report.code is not None:
        return last_data + GRACE
    return None if timeout is None else report.start + timeout + GRACE


def _pass_on(port, sink):
    """Pass one piece of data on; whether there was any."""
    try:
        data = os.read(port.fileno(), 1 << 16)
    except (BlockingIOError, ConnectionResetError):
        return False
    if data:
        sink(data)
    return bool(data)


def _type(keyboard, port):
    """Send what was typed, or `exit` at the end of input; whether more may come.

    Ctrl-D instead of `exit` would be lost while the shell is not reading.
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
    """A sink that writes bytes to a text stream of this process, unchanged and at once."""
    def sink(data):
        stream.buffer.write(data)
        stream.buffer.flush()
    return sink


def both(first, second):
    def sink(data):
        first(data)
        second(data)
    return sink


def _take_note(report, line):
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
