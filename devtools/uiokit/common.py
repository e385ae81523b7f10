# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What every command shares: exit codes, errors, interrupts, progress, files."""

import contextlib
import errno
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback

TOP = pathlib.Path(__file__).resolve().parents[2]

PASSED = 0
FAILED = 1
USAGE = 2
INFRASTRUCTURE = 69
SKIPPED = 77
INTERRUPTED = 130

# Seconds between signs of life where there is no terminal to redraw.
_SHOW_EVERY = 20

MAKE_ROOM = "free some space (2 GiB are enough), or set UIO_BUILD_DIR to a folder on another disk"


class Problem(Exception):
    """Ends a command with an exit code and one message that says what to do."""

    code = FAILED


class CheckFailed(Problem):
    """What the command was asked to verify is not so."""


class Usage(Problem):
    """The command was called, or fed, wrongly."""

    code = USAGE


class Infrastructure(Problem):
    """Something the verdict depends on is missing or broken; there is no verdict."""

    code = INFRASTRUCTURE


class Skip(Problem):
    """The question cannot be asked here; the message says why."""

    code = SKIPPED


def entry(main):
    """Run a command's main(argv) and turn its result or Problem into the exit code."""
    name = os.path.basename(sys.argv[0])
    # A killed terminal or CI job must unwind like Ctrl-C: children ended, files whole.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _interrupt)
    # Run from a git hook, these would send our git commands to the caller's repository.
    for name_of_git in ("DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "COMMON_DIR",
                        "NAMESPACE", "PREFIX", "CEILING_DIRECTORIES"):
        os.environ.pop(f"GIT_{name_of_git}", None)
    try:
        sys.exit(main(sys.argv[1:]) or PASSED)
    except Problem as problem:
        sys.stdout.flush()
        say(f"{name}: {problem}")
        sys.exit(problem.code)
    except KeyboardInterrupt:
        say(f"{name}: interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(INTERRUPTED)
    except OSError as error:
        advice = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = f": {MAKE_ROOM}"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = ": not for this user to write; set UIO_BUILD_DIR to a folder that is"
        where = f" ({error.filename})" if error.filename else ""
        say(f"{name}: {error.strerror}{where}{advice}")
        sys.exit(INFRASTRUCTURE)
    except Exception:
        # A defect of ours is no verdict.
        traceback.print_exc()
        sys.exit(INFRASTRUCTURE)


_interrupts = {"held": False, "pending": False}


def _interrupt(_number, _frame):
    _interrupts["pending"] = _interrupts["held"]
    if not _interrupts["held"]:
        raise KeyboardInterrupt


@contextlib.contextmanager
def interrupts_held():
    """Put off an interrupt to the end of the block, which must be short."""
    _interrupts["held"] = True
    try:
        yield
    finally:
        _interrupts["held"] = False
        if _interrupts["pending"]:
            _interrupts["pending"] = False
            raise KeyboardInterrupt


def say(text):
    """A line to the person, apart from the command's output."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what):
    """Announce work that takes more than a moment, and how long it took.

    Yields a function that shows how far the work is: at once on a terminal, else now and then.
    """
    started = shown = time.monotonic()
    tty = sys.stderr.isatty()

    def progress(how_far):
        nonlocal shown
        now = time.monotonic()
        if tty:
            print(f"\r  {what} ... {how_far}\x1b[K", end="", file=sys.stderr, flush=True)
        elif now - shown >= _SHOW_EVERY:
            shown = now
            say(f"  {what} ... {how_far}")

    print(f"  {what} ...", end="" if tty else "\n", file=sys.stderr, flush=True)
    try:
        yield progress
    except BaseException:
        if tty:
            print(file=sys.stderr, flush=True)
        raise
    done = f"  {what} ... {time.monotonic() - started:.1f} s"
    print(f"\r{done}\x1b[K" if tty else done, file=sys.stderr, flush=True)


def build_dir(*parts):
    """A folder below the build directory, made if missing. All that is generated lives there."""
    base = os.environ.get("UIO_BUILD_DIR")
    path = pathlib.Path(base).resolve() if base else TOP / "build"
    path = path.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def replace_file(path, data, mode=None):
    """Write a file whole or not at all, and leave it (and its time) alone if it is the same.

    Returns whether it changed.
    """
    path = pathlib.Path(path)
    data = data.encode() if isinstance(data, str) else data
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(data)
        if mode is None:
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    return True


@contextlib.contextmanager
def fresh_dir(path):
    """Fill a folder under a temporary name; it takes the place of `path` only when complete."""
    import shutil
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        os.chmod(staging, 0o755)
        yield staging
        if path.exists():
            shutil.rmtree(path)
        os.rename(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
