"""The lab's processes: whose pid it is, and when it is dead."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.packages import LabError
from tests.lab.processes import Process, spawn

_DEADLINE = 10.0


def _sleeper(folder: Path, script: str = "read line") -> Process:
    # Reads from a pipe that nobody writes to: it lives until it is told otherwise.
    fifo = folder / "never"
    if not fifo.exists():
        os.mkfifo(fifo)
    command = ["sh", "-c", f"exec 3<>{fifo}; echo ready; {script} <&3"]
    return spawn(command, folder=folder, output=folder / "out", environment={})


def _await_ready(process: Process, output: Path) -> None:
    while not output.exists() or "ready" not in output.read_text():
        assert not process.ended_within(0.02)


def test_a_spawned_process_lives_until_it_is_stopped(tmp_path: Path) -> None:
    process = _sleeper(tmp_path)
    assert process.alive
    assert not process.ended_within(0)
    process.stop(signal.SIGTERM, _DEADLINE)
    assert not process.alive
    assert process.ended_within(0)
    process.stop(signal.SIGTERM, _DEADLINE)


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    process = _sleeper(tmp_path, "trap '' TERM; while :; do read line; done")
    _await_ready(process, tmp_path / "out")
    process.stop(signal.SIGTERM, 0.2)
    assert not process.alive


def test_a_pid_that_was_given_to_somebody_else_is_dead_and_is_left_alone(tmp_path: Path) -> None:
    somebody = _sleeper(tmp_path)
    forgotten = replace(somebody, born=somebody.born - 1)
    assert not forgotten.alive
    forgotten.stop(signal.SIGKILL, _DEADLINE)
    assert somebody.alive
    somebody.stop(signal.SIGKILL, _DEADLINE)


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen(["sh", "-c", "read line"], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat").read_text()
        process = Process(child.pid, int(stat.rpartition(")")[2].split()[19]))
        assert process.alive
        assert not process.ended_within(0)
        handle = os.pidfd_open(child.pid)
        assert child.stdin is not None
        child.stdin.close()
        assert select.select([handle], [], [], _DEADLINE)[0]
        os.close(handle)
        # Ended, and not reaped.
        assert child.returncode is None
        assert not process.alive
        assert process.ended_within(0)


def test_this_very_process_is_alive() -> None:
    assert Process.current().alive
    assert Process.current().pid == os.getpid()


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no-such-program"):
        spawn(["./no-such-program"], folder=tmp_path, output=tmp_path / "out", environment={})
