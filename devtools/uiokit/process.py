# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""Running other programs, none of which outlives the command that started it."""

import contextlib
import errno
import os
import pathlib
import re
import shlex
import signal
import subprocess
import tempfile

from . import common


@contextlib.contextmanager
def running(argv, **options):
    """A subprocess.Popen in a session of its own, ended with the block, with all that it started.

    An interrupt while it starts is put off until there is a process to end.
    """
    process = None
    try:
        with common.interrupts_held():
            process = subprocess.Popen(argv, start_new_session=True, **options)
        yield process
    except (FileNotFoundError, PermissionError) as error:
        if process:
            raise
        raise common.Infrastructure(f"cannot run {argv[0]} in {options.get('cwd') or os.getcwd()}: "
                                    f"{error.strerror}") from None
    finally:
        if process:
            _end(process)


def _end(process):
    # A further interrupt during the wait must not keep SIGKILL from what ignores SIGTERM.
    with common.interrupts_held():
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=3)
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process, number):
    # What sudo runs is another user's; it is waited for.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def run(argv, *, log=None, cwd=None, env=None, stdin=None, check=True,
        problem=common.Infrastructure, progress=None):
    """Run a program to its end and return its CompletedProcess with text output.

    With log=, output goes to that file as it comes, and progress= (see step) is shown the last
    "[done/all]" in it, as ninja prints it. A failure raises `problem` with the command line and the
    last lines it printed, unless check is False. Nothing survives an interrupt.
    """
    argv = [str(arg) for arg in argv]
    with contextlib.ExitStack() as stack:
        if log is None:
            out = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
        else:
            out = stack.enter_context(open(log, "w+", errors="replace"))
        process = stack.enter_context(running(
            argv, cwd=cwd, env=env, text=True, errors="replace",
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=out, stderr=subprocess.STDOUT if log else subprocess.PIPE))
        while progress and process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            steps = re.findall(r"\[\d+/\d+\]", pathlib.Path(log).read_text(errors="replace"))
            progress(steps[-1] if steps else "")
        _, err = process.communicate(stdin)
        out.seek(0)
        done = subprocess.CompletedProcess(argv, process.returncode, out.read(), err or "")
    if check and done.returncode != 0:
        tail = "\n".join("    " + line for line in (done.stdout + done.stderr).splitlines()[-15:])
        kept = f"\n  whole log: {log}" if log else ""
        if os.strerror(errno.ENOSPC) in done.stdout + done.stderr:
            kept += f"\n  {common.MAKE_ROOM}"
        raise problem(f"`{shlex.join(argv)}` ended with {done.returncode}:\n{tail}{kept}")
    return done
