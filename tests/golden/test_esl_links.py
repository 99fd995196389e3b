"""Recorded conversations of the driver itself with a real FreeSWITCH, played back to it: what it says and tells.

What concerns the link and not a single call: a shutdown, a pause, ceilings that are reached, gateways that come and go.
The driver must say what it said then, word by word, and in that order.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import SystemClock
from dialerd.pbx import freeswitch
from dialerd.pbx.driver import Ceilings, LinkDown, LinkUp, Originate, PbxEvent, Place, TrunkState
from dialerd.pbx.esl_link import EslSettings
from dialerd.pbx.freeswitch import FreeSwitchDriver
from tests.golden import captures, esl_captures
from tests.golden.esl_captures import Heard, Sent
from tests.support.recorder import Recorder

ROOT = Path(__file__).parent / "esl_links"
EXPECTED = captures.EXPECTED["freeswitch-1.10-links"]
NEVER = 9999.0
DEADLINE = 20.0

Act = Callable[[str], Coroutine[Any, Any, object]]


def an_order(line: str) -> Originate:
    """The order that became this ``bgapi originate``."""
    found = re.match(r"bgapi originate {origination_uuid=([^,]+),.*}sofia/gateway/trunk/(\d+) ", line)
    assert found is not None, line
    return Originate(
        call_id=found[1],
        dial=f"sofia/gateway/trunk/{found[2]}",
        caller_id="+12025550199",
        place=Place(context="dialerd", exten="hold"),
        setup_seconds=20.0,
        max_call_seconds=60,
        variables={"DIALERD_CALL_ID": found[1]},
    )


class Playback:
    """FreeSWITCH's part of one recording, on one connection. ``act`` is told what the driver must be asked to do."""

    def __init__(self, name: str, act: Act) -> None:
        self.said: list[str] = []
        self.recorded = [turn.command for turn in esl_captures.conversation(name, ROOT) if isinstance(turn, Sent)]
        self.over = asyncio.Event()
        self._turns = esl_captures.conversation(name, ROOT)
        self._act = act
        self._ordered: set[str] = set()
        self._tasks: set[asyncio.Task[object]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            for at, turn in enumerate(self._turns):
                if isinstance(turn, Heard):
                    writer.write(turn.data)
                    continue
                self._let_act(at)
                self.said.append((await reader.readuntil(b"\n\n")).decode().removesuffix("\n\n"))
        self.over.set()
        if self._turns[-1].data.endswith(b"shut down.\n"):  # type: ignore[union-attr]
            writer.close()
        await reader.read()
        writer.close()

    def _let_act(self, at: int) -> None:
        """Where the driver spoke because it was asked to, ask it; a question about the place is an order's first."""
        ahead = [turn.command for turn in self._turns[at:] if isinstance(turn, Sent)]
        if ahead[0].startswith("api uuid_kill"):
            self._do(ahead[0])
        elif ahead[0].startswith(("api xml_locate", "bgapi originate")):
            order = next(line for line in ahead if line.startswith("bgapi originate"))
            if order not in self._ordered:
                self._ordered.add(order)
                self._do(order)

    def _do(self, line: str) -> None:
        task = asyncio.ensure_future(self._act(line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextlib.asynccontextmanager
async def played(name: str) -> AsyncIterator[tuple[Playback, Recorder]]:
    """Play a recording to a driver."""

    async def act(line: str) -> object:
        if line.startswith("api uuid_kill"):
            return await driver.hangup(line.split()[2])
        return await driver.originate(an_order(line))

    told, playback = Recorder(), Playback(name, act)
    server = await asyncio.start_server(playback.serve, "127.0.0.1", 0)
    settings = EslSettings(
        host="127.0.0.1",
        port=server.sockets[0].getsockname()[1],
        secret="ClueCon",
        ping_every=NEVER,
        retry_first=NEVER,
        retry_most=NEVER,
        refused_retry=NEVER,
    )
    asked = [line.split()[-1] for line in playback.recorded if line.startswith("api sofia status gateway ")]
    gateway = asked[0] if asked else "trunk"
    driver = FreeSwitchDriver("main", settings, SystemClock(), {"t": f"sofia/gateway/{gateway}/{{number}}"})
    await driver.start(told)
    try:
        yield playback, told
    finally:
        await driver.stop()
        server.close()
        await server.wait_closed()


def in_words(told: list[PbxEvent]) -> list[str]:
    """What was told, in order; a call's events in one line, in the place of its first."""
    lines: dict[str, str] = {}
    for number, event in enumerate(told):
        match event:
            case LinkUp(version, most, rate):
                lines[str(number)] = f"up {version}, {most} channels, {rate:g} a second"
            case Ceilings(most, rate, closed):
                lines[str(number)] = (
                    f"takes {most} channels, {rate:g} a second" if closed is None else f"closed: {closed}"
                )
            case LinkDown(reason, refused):
                lines[str(number)] = f"{'refused' if refused else 'down'}: {reason}"
            case TrunkState(_, up, reason):
                lines[str(number)] = f"trunk {'up' if up else 'down'}: {reason}"
            case _:
                calls = [each for each in told if getattr(each, "call_id", None) == event.call_id]
                (lines[event.call_id],) = captures.in_words(calls)  # type: ignore[arg-type]
    return list(lines.values())


def test_every_recording_has_its_expectation() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in ROOT.glob("*.txt"))


@pytest.mark.parametrize("name", EXPECTED)
async def test_recording(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As recorded, but for the waits between two questions how FreeSWITCH is.
    monkeypatch.setattr(freeswitch, "_LEAST_BETWEEN", 0.05)
    monkeypatch.setattr(freeswitch, "_CLOSED_EVERY", 0.2)
    async with played(name) as (playback, told):
        async with asyncio.timeout(DEADLINE):
            await playback.over.wait()
        await told.until(lambda _: in_words(told.events) == EXPECTED[name])
        assert playback.said == playback.recorded
