# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

"""What every command shares: exit codes, errors, interrupts, progress, files."""

import contextlib
import errno
import fcntl
import filecmp
import functools
import os
import pathlib
import platform
import re
import select
import shlex
import shutil
import signal
import subprocess
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
# 128 + SIGPIPE, as a shell shows it for git and coreutils whose reader has gone.
READER_GONE = 141

# Seconds between progress messages where there is no terminal to redraw.
_SHOW_EVERY = 20

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
# In a build directory: backup programs know the first line, devtools/clean the second.
_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by dpdk-uio-secondary.\n"
MAKE_ROOM = "free 2 GiB, or set UIO_BUILD_DIR to a directory on another disk"


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
    # A killed terminal or CI job must unwind like Ctrl-C: children ended, files complete.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _interrupt)
    # Run from a git hook, these would send our git commands to the caller's repository.
    for name_of_git in ("DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "COMMON_DIR",
                        "NAMESPACE", "PREFIX", "CEILING_DIRECTORIES"):
        os.environ.pop(f"GIT_{name_of_git}", None)
    # Children run in other directories, where a relative path would name another one.
    if os.environ.get("UIO_BUILD_DIR"):
        os.environ["UIO_BUILD_DIR"] = str(build_path())
    try:
        code = _run(_print_version if sys.argv[1:] == ["--version"] else main, name)
    except BrokenPipeError:
        code = READER_GONE
    try:
        print(end="", flush=True)
    except OSError:
        # The interpreter flushes once more when it ends, and would exit with another code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run(main, name):
    try:
        try:
            return main(sys.argv[1:]) or PASSED
        finally:
            print(end="", flush=True)
    except Problem as problem:
        say(f"{name}: {problem}")
        return problem.code
    except KeyboardInterrupt:
        say(f"{name}: interrupted")
        return INTERRUPTED
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_gone():
            raise
        say(f"{name}: {_explain(error)}")
        return INFRASTRUCTURE
    except Exception:
        # A defect of this project is no verdict.
        end_line()
        traceback.print_exc()
        return INFRASTRUCTURE


def _print_version(_argv):
    print(f"dpdk-uio-secondary {_version()}")


def _version():
    """The commit of this project; that of a repository which it is a part of says nothing."""
    version = ""
    if (TOP / ".git").exists():
        with contextlib.suppress(OSError):
            version = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty"],
                                     capture_output=True, text=True).stdout.strip()
    return version or "unknown"


def conditions(command, argv):
    """The lines that head a report: when and by what command it was made, and on what machine."""
    with open("/proc/cpuinfo") as file:
        cpu = re.search(r"model name\s*: (.*)", file.read())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30
    return [f"{time.strftime('%Y-%m-%d')}, commit {_version()}: "
            f"`{shlex.join([command, *argv])}`",
            f"machine: {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, "
            f"{memory:.0f} GiB, Linux {platform.release()}"]


def _reader_gone():
    """Whether the pipe that standard output goes to has no reader."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _explain(error):
    """What an OSError means for the user, and what to do where that is known."""
    text = (error.strerror or str(error)).lower()
    if isinstance(error.filename, (str, bytes)):
        path = os.fsdecode(error.filename)
        text = f"{path}: {text}"
        if error.errno in _NOT_WRITABLE and pathlib.Path(path).is_relative_to(build_path()):
            return f"cannot write {text}; set UIO_BUILD_DIR to a writable directory"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        text += f"; {MAKE_ROOM}"
    return text


_interrupts = {"held": False, "pending": False, "message": ""}


def _interrupt(_number, _frame):
    _interrupts["pending"] = _interrupts["held"]
    if not _interrupts["held"]:
        raise KeyboardInterrupt
    if _interrupts["message"]:
        say(_interrupts["message"])


@contextlib.contextmanager
def interrupts_held(message=""):
    """Put off an interrupt to the end of the block, which is short or has a message to say why."""
    outer = dict(_interrupts)
    _interrupts.update(held=True, message=message or outer["message"])
    try:
        yield
    finally:
        _interrupts.update(held=outer["held"], message=outer["message"])
        if _interrupts["pending"] and not outer["held"]:
            _interrupts["pending"] = False
            raise KeyboardInterrupt


_line = {"open": False}


def end_line():
    """End the line of a step on the terminal, so that other output starts on a new line."""
    if _line["open"]:
        print(file=sys.stderr, flush=True)
    _line["open"] = False


def say(text):
    """A line for the user, apart from the command's output."""
    end_line()
    print(text, file=sys.stderr, flush=True)


say_once = functools.cache(say)


def coloured(text, passed):
    """The text in green (passed) or red, on a terminal and unless NO_COLOR is set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{32 if passed else 31}m{text}\x1b[0m"


@contextlib.contextmanager
def step(what):
    """Announce work that takes more than a moment, and how long it took.

    Yields a function that shows the progress: at once on a terminal, else every few seconds.
    """
    started = shown = time.monotonic()
    tty = sys.stderr.isatty()

    def show(text):
        if not tty:
            say(text)
            return
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
        _line["open"] = True

    def progress(how_far):
        nonlocal shown
        now = time.monotonic()
        if tty or now - shown >= _SHOW_EVERY:
            shown = now
            show(f"  {what} ... {how_far}")

    end_line()
    show(f"  {what} ...")
    try:
        yield progress
    except BaseException:
        end_line()
        raise
    show(f"  {what} ... {time.monotonic() - started:.1f} s")
    end_line()


def build_path():
    """The build directory, whether it is there or not."""
    base = os.environ.get("UIO_BUILD_DIR")
    return pathlib.Path(os.path.abspath(base)) if base else TOP / "build"


def build_dir(*parts):
    """A folder below the build directory, made if missing. All that is generated lives there."""
    base = build_path()
    if not base.is_dir() or not os.listdir(base):
        replace_file(base / "CACHEDIR.TAG", _TAG)
    path = base.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def is_build_dir(path):
    """Whether build_dir() made a directory: what is in it is generated, and may be removed."""
    tag = path / "CACHEDIR.TAG"
    return path == TOP / "build" or tag.is_file() and tag.read_bytes() == _TAG.encode()


@contextlib.contextmanager
def locked(path, doing):
    """No other process is in a block with this lock file meanwhile; a wait is announced."""
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"  waiting for another command that is {doing}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def age(path):
    """How old a file or folder is, in words."""
    seconds = max(0, time.time() - os.stat(path).st_mtime)
    for name, unit in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'s' * (count > 1)}"
    return "less than a minute"


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


def same_content(one, other):
    """Whether two folders have the same files and links."""
    names, others = ({path.relative_to(top): path for path in top.rglob("*")}
                     for top in (one, other))
    return names.keys() == others.keys() and all(
        os.readlink(path) == os.readlink(others[name])
        if path.is_symlink() and others[name].is_symlink()
        else path.is_dir() or filecmp.cmp(path, others[name], shallow=False)
        for name, path in names.items())


@contextlib.contextmanager
def fresh_dir(path, keep_same=False):
    """Fill a folder under a temporary name; it takes the place of `path` only when complete.

    keep_same: leave `path` alone, since others may be reading it, if it has the same content.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    old = staging.with_name(f"{staging.name}.old")
    try:
        os.chmod(staging, 0o755)
        yield staging
        if keep_same and path.is_dir() and same_content(staging, path):
            return
        with interrupts_held():
            if path.exists():
                os.rename(path, old)
            try:
                os.rename(staging, path)
            except BaseException:
                if old.exists():
                    os.rename(old, path)
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
