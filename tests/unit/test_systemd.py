"""What systemd is told, over a real socket; and the unit file, by systemd's own judgement."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import SystemClock, VirtualClock
from dialerd.telemetry.systemd import ServiceManager
from tests.support.virtual import Virtual

UNIT = Path(__file__).resolve().parents[2] / "systemd/dialerd.service"
BEST = 1.5
"""The exposure that `systemd-analyze security` may rate the unit at, at most."""


@pytest.fixture
def line(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.setblocking(False)
        yield made


def heard(line: socket.socket) -> list[dict[str, str]]:
    told: list[dict[str, str]] = []
    while True:
        try:
            message = line.recv(4096).decode()
        except BlockingIOError:
            return told
        told.append(dict(field.split("=", 1) for field in message.splitlines()))


def environ(line: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": line.getsockname(), **more}


def test_ready_and_stopping_are_told(line: socket.socket) -> None:
    manager = ServiceManager(SystemClock(), environ(line))
    manager.ready("serving")
    manager.stopping(70.5)
    assert heard(line) == [
        {"READY": "1", "STATUS": "serving"},
        {"STOPPING": "1", "STATUS": "finishing the calls in flight", "EXTEND_TIMEOUT_USEC": "70500000"},
    ]


def test_an_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind("")  # autobind (unix(7)): the system gives an abstract name
        line.setblocking(False)
        ServiceManager(SystemClock(), {"NOTIFY_SOCKET": "@" + line.getsockname()[1:].decode()}).ready("serving")
        assert [each["READY"] for each in heard(line)] == ["1"]


def test_signs_of_life_come_thrice_as_often_as_the_watchdog_asks(virtual: Virtual, line: socket.socket) -> None:
    async def scene(clock: VirtualClock) -> int:
        manager = ServiceManager(clock, environ(line, WATCHDOG_USEC="9000000", WATCHDOG_PID=str(os.getpid())))
        feeding = asyncio.create_task(manager.feed(lambda: f"at {clock.mono():g}"))
        await clock.sleep(9.5)
        feeding.cancel()
        return len(await asyncio.gather(feeding, return_exceptions=True))

    assert virtual(scene) == 1
    assert heard(line) == [{"WATCHDOG": "1", "STATUS": f"at {at}"} for at in (0, 3, 6, 9)]


def test_a_loop_that_stands_still_gives_none(virtual: Virtual, line: socket.socket) -> None:
    """Nothing but a turn of the loop feeds the watchdog: no thread goes on without it."""

    async def scene(clock: VirtualClock) -> None:
        manager = ServiceManager(clock, environ(line, WATCHDOG_USEC="3000"))
        feeding = asyncio.create_task(manager.feed(lambda: "alive"))
        await clock.sleep(0.0005)
        before = len(heard(line))
        subprocess.run(["sleep", "0.05"], check=True)  # noqa: ASYNC221 - the loop is to stand still
        assert before == 1
        assert heard(line) == []
        feeding.cancel()

    virtual(scene)


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_without_a_watchdog_the_status_alone_is_told(
    virtual: Virtual, line: socket.socket, more: dict[str, str]
) -> None:
    async def scene(clock: VirtualClock) -> None:
        feeding = asyncio.create_task(ServiceManager(clock, environ(line, **more)).feed(lambda: "serving"))
        await clock.sleep(6)
        feeding.cancel()

    virtual(scene)
    assert heard(line) == [{"STATUS": "serving"}] * 2


def test_nobody_is_told_where_nobody_asked(virtual: Virtual) -> None:
    async def scene(clock: VirtualClock) -> None:
        manager = ServiceManager(clock, {})
        manager.ready("serving")
        await manager.feed(lambda: pytest.fail("nobody listens"))

    virtual(scene)


def test_a_manager_that_is_gone_stops_nobody(tmp_path: Path, virtual: Virtual) -> None:
    async def scene(clock: VirtualClock) -> None:
        ServiceManager(clock, {"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("serving")

    virtual(scene)


def analyze(*arguments: Any) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program is not None, "systemd-analyze is part of Debian's systemd: apt-get install systemd"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def test_the_unit_is_clean(tmp_path: Path) -> None:
    """Verified with a program in dialerd's place, for on this machine dialerd need not be installed."""
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"/opt/dialerd/\S*/dialerd", shutil.which("true") or "", UNIT.read_text()))
    result = analyze("verify", "--man=no", unit)
    assert (result.returncode, [line for line in result.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_the_unit_is_hardened() -> None:
    result = analyze("security", "--offline=true", f"--threshold={BEST * 10:g}", UNIT)
    assert result.returncode == 0, result.stdout
