# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from uiokit import common, process


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
    (PermissionError(errno.EACCES, "Permission denied"), 69), (ValueError("a defect"), 69)])
def test_exit_codes(problem, code):
    assert ended(raising(problem)) == code


def test_a_git_hook_s_repository_is_none_of_ours(monkeypatch):
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    ended(lambda _argv: None)
    assert "GIT_INDEX_FILE" not in os.environ


def test_full_disk_says_what_to_do(capsys):
    ended(raising(OSError(errno.ENOSPC, "No space left on device", "/some/file")))
    said = capsys.readouterr().err
    assert "/some/file" in said and "UIO_BUILD_DIR" in said


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


def test_failed_program_is_quoted():
    with pytest.raises(common.Infrastructure) as caught:
        process.run(["sh", "-c", "echo because; exit 3"])
    assert "because" in str(caught.value) and "ended with 3" in str(caught.value)


def test_program_that_finds_the_disk_full_gets_the_same_advice():
    with pytest.raises(common.Infrastructure, match="UIO_BUILD_DIR"):
        process.run(["sh", "-c", "echo No space left on device; exit 1"])


def test_missing_program_is_named():
    with pytest.raises(common.Infrastructure, match="cannot run no-such-program"):
        process.run(["no-such-program"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_children_too(tmp_path, number):
    note = tmp_path / "pid"
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(common.TOP / 'devtools')!r})
        from uiokit import common, process
        common.entry(lambda argv: process.run(["sh", "-c", "echo $$ >{note}; sleep 60 & wait"]))
        """)
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 10
    while not (note.exists() and note.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=10) == common.INTERRUPTED
    assert b"interrupted" in process.stderr.read()
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


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
