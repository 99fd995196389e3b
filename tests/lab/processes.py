"""Processes of the lab, known by pid and birth: a pid that was given to somebody else, or a zombie, counts as dead."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dialerd.clock import process_id
from tests.lab.packages import LabError

_ENVIRONMENT = {"TERM": "dumb", "TZ": "UTC", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was started here or in an earlier run. ``born`` is its start, in clock ticks since the boot."""

    pid: int
    born: int

    @classmethod
    def current(cls) -> Process:
        """This very process."""
        pid = process_id()
        born = _birth(pid)
        assert born is not None
        return cls(pid, born)

    @property
    def alive(self) -> bool:
        if (child := _children.get(self)) is not None and child.poll() is not None:
            return False
        return _birth(self.pid) == self.born

    @property
    def exit_code(self) -> int | None:
        """How it ended, as subprocess counts (a negative signal number); None while it lives, or where nobody knows."""
        child = _children.get(self)
        return None if child is None else child.poll()

    def stop(self, first: signal.Signals, patience: float) -> None:
        """Ask it to end, wait ``patience`` seconds, then kill it. Harmless where it is dead."""
        for signal_number in (first, signal.SIGKILL):
            if not self.alive:
                return
            self._send(signal_number)
            if self.ended_within(patience):
                return
        raise LabError(f"process {self.pid} survives SIGKILL")

    def ended_within(self, seconds: float) -> bool:
        """Wait for the end, at most so long."""
        if (child := _children.get(self)) is not None:
            try:
                child.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                return False
            return True
        return self._stranger_ended_within(seconds)

    def _send(self, signal_number: signal.Signals) -> None:
        # Through a handle, so that the pid cannot pass to somebody else between the look and the signal.
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive:
                signal.pidfd_send_signal(handle, signal_number)
        except ProcessLookupError:
            return
        finally:
            os.close(handle)

    def _stranger_ended_within(self, seconds: float) -> bool:
        # Not our child: a pidfd becomes readable at its end, even where nobody reaps it.
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            end = select.poll()
            end.register(handle, select.POLLIN)
            return not self.alive or bool(end.poll(seconds * 1000))
        finally:
            os.close(handle)


_children: dict[Process, subprocess.Popen[bytes]] = {}
"""Those that this process started, and must reap."""


def spawn(command: Sequence[str], *, folder: Path, output: Path, environment: Mapping[str, str]) -> Process:
    """Start a program in a session of its own, so that it outlives the caller's terminal."""
    with output.open("ab") as sink:
        try:
            child = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT, **environment},
                start_new_session=True,
            )
        except OSError as error:
            raise LabError(f"{command[0]} cannot be run: {error}") from error
    born = _birth(child.pid)
    if born is None:
        child.wait()
        raise LabError(f"{command[0]} died at once; see {output}")
    process = Process(child.pid, born)
    _children[process] = child
    return process


def _birth(pid: int) -> int | None:
    """Read when a living process was started (field 22 of stat, see proc(5)); None for the dead and for zombies."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold anything; the fields after it do not.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])
