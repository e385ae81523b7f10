# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import errno
import fcntl
import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from conftest import commit_all, git, wait_for, write

from uiokit import common, process
from uiokit.cli import clean


def ended(main):
    with pytest.raises(SystemExit) as caught:
        common.entry(main)
    return caught.value.code


def raising(problem):
    def main(_argv):
        raise problem
    return main


@pytest.mark.parametrize("problem, code", [
    (common.CheckFailed("x"), 1), (common.Usage("x"), 2), (common.Infrastructure("x"), 69),
    (common.Skip("x"), 77), (KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "No space"), 69),
    (PermissionError(errno.EACCES, "Permission denied"), 69), (ValueError("a defect"), 69),
    # Of another pipe than standard output.
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 69)])
def test_exit_codes(problem, code):
    assert ended(raising(problem)) == code


def test_a_relative_build_directory_and_a_git_hook_do_not_reach_children(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    monkeypatch.setenv("UIO_BUILD_DIR", "relative")
    monkeypatch.chdir(tmp_path)
    ended(lambda _argv: None)
    assert "GIT_INDEX_FILE" not in os.environ
    assert os.environ["UIO_BUILD_DIR"] == str(tmp_path / "relative")


@pytest.mark.parametrize("number, where, advised", [
    (errno.EACCES, "/etc/shadow", False), (errno.EACCES, "build/file", True),
    (errno.ENOSPC, "/some/file", True)])
def test_only_the_build_directory_is_said_to_be_movable(tmp_path, capsys, number, where, advised):
    where = str(tmp_path / where)
    ended(raising(OSError(number, os.strerror(number), where)))
    said = capsys.readouterr().err
    assert where in said and os.strerror(number).lower() in said
    assert ("UIO_BUILD_DIR" in said) == advised


@pytest.mark.parametrize("name", ["file", "loop"])
def test_a_build_directory_that_is_none_is_named(tmp_path, monkeypatch, capsys, name):
    write(tmp_path, {"file": ""})
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setenv("UIO_BUILD_DIR", str(tmp_path / name))
    assert ended(lambda _argv: common.build_dir("a")) == common.INFRASTRUCTURE
    assert "set UIO_BUILD_DIR" in capsys.readouterr().err


def test_clean_removes_what_build_dir_made(tmp_path, capsys):
    write(common.build_dir("dpdk"), {"objects/a": "x" * 2**20})
    for size in (1, 0):
        clean.main([])
        assert f"removed {size} MiB" in capsys.readouterr().out
        assert os.listdir(tmp_path / "build") == []
    write(tmp_path / "build", {"thesis": ""})
    common.build_dir("dpdk")
    with pytest.raises(common.Usage, match="not made by this project"):
        clean.main([])
    assert (tmp_path / "build/thesis").exists()


def test_a_reader_that_has_gone_ends_a_command_quietly():
    for argument in ("list", "--version"):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([common.TOP / "devtools/series", argument], stdout=writer,
                              stderr=subprocess.PIPE, text=True)
        os.close(writer)
        assert (done.returncode, done.stderr) == (common.READER_GONE, "")


def test_version_is_that_of_a_checkout_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["series", "--version"])
    monkeypatch.setattr(common, "TOP", tmp_path / "vendored")
    write(common.TOP, {"file": ""})
    commit_all(tmp_path)
    assert ended(None) == common.PASSED
    assert capsys.readouterr().out == "dpdk-uio-secondary unknown\n"
    monkeypatch.setattr(common, "TOP", tmp_path)
    ended(None)
    assert git(tmp_path, "rev-parse", "--short", "HEAD") in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_message_in_a_step_starts_a_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with common.step("outer") as progress:
        progress("[1/2]")
        common.say("a message")
        with common.step("inner"):
            pass
    lines = sys.stderr.getvalue().replace("\x1b[K", "").split("\n")
    assert [line.split("\r")[-1].split(" ... ")[0] for line in lines] == [
        "  outer", "a message", "  inner", "  outer", ""]


def test_colour_is_for_a_terminal_that_wants_it(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert common.coloured("PASS", True) == "PASS"
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert common.coloured("PASS", True) == "\x1b[32mPASS\x1b[0m"
    assert common.coloured("FAIL", False) == "\x1b[31mFAIL\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert common.coloured("PASS", True) == "PASS"


def test_the_second_to_want_a_lock_waits_and_says_so(tmp_path, capsys):
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.2, fcntl.flock, (lock, fcntl.LOCK_UN)).start()
        with common.locked(tmp_path / "lock", "building"):
            assert "waiting for another command that is building" in capsys.readouterr().err


@pytest.mark.parametrize("seconds, text", [(5, "less than a minute"), (60, "1 minute"),
                                           (7300, "2 hours"), (260000, "3 days")])
def test_age_in_words(tmp_path, seconds, text):
    os.utime(tmp_path, (time.time() - seconds,) * 2)
    assert common.age(tmp_path) == text


def test_replace_file_leaves_an_equal_file_alone(tmp_path):
    path = tmp_path / "a"
    assert common.replace_file(path, "x")
    os.utime(path, (1, 1))
    assert not common.replace_file(path, "x")
    assert path.stat().st_mtime == 1
    assert common.replace_file(path, "y") and path.read_text() == "y"


def test_replace_file_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    def full_disk(_source, _target):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "folder"
    common.replace_file(folder / "a", "old")
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError):
        common.replace_file(folder / "a", "new")
    assert (folder / "a").read_text() == "old" and os.listdir(folder) == ["a"]


def test_fresh_dir_is_whole_or_absent(tmp_path):
    with pytest.raises(ValueError):
        with common.fresh_dir(tmp_path / "parent" / "d") as folder:
            (folder / "half").write_text("")
            raise ValueError
    assert os.listdir(tmp_path / "parent") == []


@pytest.mark.parametrize("keep_same", [True, False])
@pytest.mark.parametrize("text, target", [("x", "f/a"), ("y", "f/a"), ("x", "f/b")])
def test_a_fresh_dir_with_the_same_content_is_left_alone(tmp_path, text, target, keep_same):
    inodes = []
    for content, link in (("x", "f/a"), (text, target)):
        with common.fresh_dir(tmp_path / "d/d", keep_same=keep_same) as folder:
            write(folder, {"f/a": content})
            (folder / "link").symlink_to(link)
        inodes.append((tmp_path / "d/d").stat().st_ino)
    assert os.listdir(tmp_path / "d") == ["d"]
    assert (inodes[0] == inodes[1]) == (keep_same and (text, target) == ("x", "f/a"))
    assert (tmp_path / "d/d/f/a").read_text() == text


@pytest.mark.parametrize("number", range(1, 6))
def test_an_interrupted_fresh_dir_leaves_the_old_or_the_new(tmp_path, monkeypatch, number):
    def interrupted(real):
        def call(*args, **keywords):
            calls.append(args)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*args, **keywords)
        return call

    def replace(_argv):
        with common.fresh_dir(tmp_path / "d") as folder:
            write(folder, {"a": "new"})

    calls = []
    write(tmp_path / "d", {"a": "old"})
    monkeypatch.setattr(os, "rename", interrupted(os.rename))
    monkeypatch.setattr(shutil, "rmtree", interrupted(shutil.rmtree))
    assert ended(replace) == (common.INTERRUPTED if len(calls) >= number else common.PASSED)
    assert (tmp_path / "d/a").read_text() in ("old", "new")


def test_a_fresh_dir_that_cannot_be_moved_in_leaves_the_old(tmp_path, monkeypatch):
    def rename(source, target):
        if target == tmp_path / "d" and not str(source).endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    real = os.rename
    write(tmp_path / "d", {"a": "old"})
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError):
        with common.fresh_dir(tmp_path / "d"):
            pass
    assert (tmp_path / "d/a").read_text() == "old" and os.listdir(tmp_path / "d") == ["a"]


@pytest.mark.parametrize("argv, said", [
    (["sh", "-c", "echo because; exit 3"], "(?s)ended with 3.*because"),
    (["sh", "-c", "echo No space left on device; exit 1"], "UIO_BUILD_DIR"),
    (["no-such-program"], "cannot run no-such-program")])
def test_a_program_that_fails_is_quoted(argv, said):
    with pytest.raises(common.Infrastructure, match=said):
        process.run(argv)


@pytest.mark.parametrize("number, shell", [
    (signal.SIGINT, "sleep 60 & wait"), (signal.SIGTERM, "sleep 60 & wait"),
    # The second one comes while the command waits for what ignores SIGTERM.
    (signal.SIGTERM, "trap '' TERM; while :; do sleep 0.1; done")])
def test_interrupts_end_children_too(tmp_path, number, shell):
    note = tmp_path / "pid"
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(common.TOP / 'devtools')!r})
        from uiokit import common, process
        common.entry(lambda argv: process.run(["sh", "-c", {f'echo $$ >{note}; {shell}'!r}]))
        """)
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    wait_for(lambda: note.exists() and note.read_text().strip())
    for _ in range(1 + ("trap" in shell)):
        process.send_signal(number)
        time.sleep(0.5)
    assert process.wait(timeout=10) == common.INTERRUPTED
    assert b"interrupted" in process.stderr.read()
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_a_child_of_another_user_is_waited_for(monkeypatch):
    def interrupted(_argv):
        with process.running(["sleep", "0.1"]):
            raise KeyboardInterrupt

    def refused(_pid, _number):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refused)
    assert ended(interrupted) == common.INTERRUPTED


def test_interrupt_while_a_program_starts_ends_it(monkeypatch):
    class Interrupted(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self.pid)
            os.kill(os.getpid(), signal.SIGTERM)

    started = []
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    assert ended(lambda _argv: process.run(["sleep", "60"])) == common.INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)
