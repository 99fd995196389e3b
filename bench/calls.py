"""Calls per second through a real Asterisk, counted at the far end, against a bare AMI script at the same rate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.measure import Result, abab
from dialerd.clock import SystemClock
from tests.integration.house import House
from tests.lab.lab import FULL, Lab
from tests.lab.ledger import FarCall, Ledger

_clock = SystemClock()
_SECONDS = 180.0
_GUARD = 1.06
"""A limit is kept with the default cps_guard_ms to spare: to offer a rate, the limit lies that much above it."""


async def run(home: House, agent_id: str, calls: int, offered: float, rounds: int) -> Result:
    """Measure calls that the far end answered per second, from its first INVITE to its last."""
    first = 0

    def numbers() -> list[str]:
        nonlocal first
        first += calls
        # The last two digits, 00, let the far end answer at once and wait for our BYE, a second later.
        return [f"1303{2_000_000 + (first + index) * 100:07d}" for index in range(calls)]

    async def ours() -> float:
        wanted = numbers()
        rows = [{"phone_number": f"+{number}"} for number in wanted]
        campaign_id = await home.api.campaign(
            agent_id, rows, trunks=["trunk"], concurrent_calls=1000, max_calls_per_second=offered * _GUARD
        )
        async with home.api.follow(campaign_id) as follower:
            await home.api.step(campaign_id, "start")
            await follower.finished(_SECONDS)
        return await asyncio.to_thread(_answered_rate, home.lab, wanted)

    async def bare() -> float:
        wanted = numbers()
        await _fire(home.lab, wanted, offered)
        return await asyncio.to_thread(_answered_rate, home.lab, wanted)

    against = f"a bare AMI script, both offering {offered:g} calls/s"
    return await abab("calls through Asterisk", "calls/s", against, ours, bare, rounds)


async def _fire(lab: Lab, numbers: Sequence[str], per_second: float) -> None:
    reader, writer = await asyncio.open_connection(lab.host, lab.ports.ami)
    writer.write(f"Action: Login\r\nUsername: {FULL.name}\r\nSecret: {FULL.secret}\r\nEvents: off\r\n\r\n".encode())
    draining = asyncio.create_task(_drain(reader))
    begun = _clock.mono()
    for index, number in enumerate(numbers):
        await _clock.sleep(max(0.0, begun + index / per_second - _clock.mono()))
        writer.write(
            f"Action: Originate\r\nChannel: PJSIP/{number}@trunk\r\nContext: dialer\r\nExten: answered\r\n"
            f"Priority: 1\r\nTimeout: 30000\r\nAsync: true\r\n\r\n".encode()
        )
        await writer.drain()
    await asyncio.to_thread(_answered_rate, lab, numbers)
    writer.close()
    draining.cancel()


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


def _answered_rate(lab: Lab, numbers: Sequence[str]) -> float:
    ours = set(numbers)

    def over(ledger: Ledger) -> bool:
        mine = ledger.of(ours)
        return len(mine) == len(ours) and mine.all_over

    mine: list[FarCall] = list(lab.ledger_when(over, "trunk", seconds=60.0).of(ours))
    answered = [call.invited_at for call in mine if call.answered_at is not None]
    return (len(answered) - 1) / (max(answered) - min(answered))
