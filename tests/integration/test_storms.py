"""A whole campaign under a storm: the daemon killed, the PBX restarted, the link cut or silent, again and again.

Afterwards the far end's own ledger is asked: nobody was called twice for one attempt, nothing is missing that was sent,
no limit was exceeded, and every contact has come to its end.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dialerd.clock import SystemClock, stream
from tests.fakes.proxy import Proxy
from tests.integration.client import Json
from tests.integration.daemon import Stock, TrunkLimits
from tests.integration.evidence import Numbers, check_one_at_a_time, check_told, match, seconds
from tests.integration.house import House, house
from tests.lab.lab import Lab
from tests.lab.ledger import Ledger
from tests.support.effort import STORM

SLOTS = 30
RATE = 20
BACK_SECONDS = 3.0
"""Within which the daemon is to dial again after a start (issue 5)."""
BEHAVIOURS = ("01", "01", "01", "10", "01", "01", "11", "01")
"""Answers and hangs up after a second; busy; not known. Nothing outlives a restarted PBX for long at the far end."""
STORMY = ("interrupted", "failed", "unreachable", "congestion")
DEADLINE = 120.0
_clock = SystemClock()


@dataclass(frozen=True, slots=True)
class Scene:
    """What a storm may strike."""

    home: House
    proxy: Proxy
    chance: Callable[[], float]

    async def wait(self, least: float, most: float) -> None:
        """Let a random time pass: what is struck is whatever happens to be under way then."""
        await _clock.sleep(least + (most - least) * self.chance())


Strike = Callable[[Scene], Awaitable[None]]


async def _kill(scene: Scene) -> None:
    daemon = scene.home.daemon
    await daemon.kill()
    await daemon.start()


async def _restart_pbx(scene: Scene) -> None:
    daemon = scene.home.daemon
    mark = len(daemon.log)
    await asyncio.to_thread(scene.home.lab.restart_asterisk)
    await daemon.logged("pbx_known", after=mark, seconds=60)


async def _cut(scene: Scene) -> None:
    daemon = scene.home.daemon
    mark = len(daemon.log)
    scene.proxy.cut_inside_message()
    await daemon.logged("pbx_down", after=mark)
    scene.proxy.restore()
    await daemon.logged("pbx_known", after=mark)


async def _silence(scene: Scene) -> None:
    scene.proxy.hold()
    await _clock.sleep(20)
    mark = len(scene.home.daemon.log)
    scene.proxy.resume()
    await scene.home.daemon.logged("pbx_known", after=mark)


@dataclass(frozen=True, slots=True)
class Storm:
    """So many strikes of one kind, with random pauses (seconds) between them."""

    strike: Strike
    strikes: int
    pause: tuple[float, float]
    area: int


STORMS = {
    "killed": Storm(_kill, 20, (0.2, 1.5), 241),
    "restarted": Storm(_restart_pbx, 5, (1.0, 3.0), 242),
    "cut": Storm(_cut, 20, (0.2, 1.0), 243),
    "silent": Storm(_silence, 1, (3.0, 5.0), 244),
}


@pytest.mark.parametrize("name", STORMS)
async def test_a_campaign_comes_through_a_storm(lab: Lab, tmp_path: Path, stock: Stock, name: str) -> None:
    storm = STORMS[name]
    numbers = Numbers(storm.area)
    count = max(60, math.ceil(500 * STORM))
    rows = [{"phone_number": numbers.next(BEHAVIOURS[index % len(BEHAVIOURS)])} for index in range(count)]
    limits = {"trunk": TrunkLimits(SLOTS, RATE)}
    async with (
        Proxy(lab.host, lab.ports.ami) as proxy,
        house(lab, tmp_path, stock, ami=(proxy.host, proxy.port), limits=limits, faults=frozenset()) as home,
    ):
        campaign_id = await home.api.campaign(
            await home.api.agent("hold"),
            rows,
            trunks=["trunk"],
            concurrent_calls=count,
            max_retries=0,
            # What the storm itself did to a call is tried again at once.
            retry={outcome: {"delay_seconds": 0, "most": 100} for outcome in STORMY},
        )
        async with home.api.follow(campaign_id) as follower:
            await home.api.step(campaign_id, "start")
            scene = Scene(home, proxy, stream(storm.area))
            for _ in range(max(1, round(storm.strikes * STORM))):
                await follower.until(lambda: follower.count("originated") > 0, DEADLINE, "it dials")
                await scene.wait(*storm.pause)
                await storm.strike(scene)
            await follower.finished(DEADLINE)
            contacts = await home.api.contacts(campaign_id)
            check_told(follower.told, contacts)
        calls = await home.api.calls(campaign_id)
        starts = _moments(home, "ready")
        sends = _moments(home, "call_sent")
    assert {contact["status"] for contact in contacts} <= {"completed", "failed"}
    check_one_at_a_time(calls)
    ledger = _ledger(lab, rows)
    print(_figures(lab, name, count, calls, ledger, sends, starts[1:]))
    _check_attempts(calls, ledger)
    assert ledger.most_up_at_once() <= SLOTS
    assert shortest(sends, RATE) >= 1.0, "the daemon's own sends"
    assert ledger.shortest_gap(RATE) >= 1.0
    if name == "killed":
        _check_returns(starts[1:], ledger)


def _ledger(lab: Lab, rows: Sequence[Json]) -> Ledger:
    dialled = {row["phone_number"].removeprefix("+") for row in rows}
    return lab.ledger_when(lambda ledger: ledger.of(dialled).all_over, "trunk").of(dialled)


def _check_attempts(calls: Sequence[Json], ledger: Ledger) -> None:
    """Every attempt has one Call-ID at most, every Call-ID one attempt; what has none is known not to be sent."""
    seen = match(calls, ledger)
    for call in calls:
        if call["id"] not in seen:
            assert call["status"] == "not_sent" or call["outcome"] == "interrupted", call
        else:
            assert call["status"] != "not_sent", (call, seen[call["id"]])


def _moments(home: House, event: str) -> list[float]:
    """When the daemon, in all its lives, logged an event."""
    return [seconds(line["timestamp"]) for line in home.daemon.log if line.get("event") == event]


def shortest(moments: Sequence[float], n: int) -> float:
    """The least time, in seconds, between a moment and the n-th after it."""
    return min((late - early for early, late in zip(moments, moments[n:], strict=False)), default=math.inf)


def _figures(
    lab: Lab,
    name: str,
    contacts: int,
    calls: Sequence[Json],
    ledger: Ledger,
    sends: Sequence[float],
    starts: Sequence[float],
) -> str:
    """A line for docs/storms.md."""
    outcomes = Counter(call["outcome"] for call in calls if call["status"] != "not_sent")
    back = [seconds for _, seconds in _returns(starts, ledger)]
    told = {
        "storm": name,
        "asterisk": lab.version,
        "contacts": contacts,
        "attempts": len(calls),
        "not sent": sum(call["status"] == "not_sent" for call in calls),
        "at the far end": len(ledger),
        "outcomes": dict(outcomes),
        "most at once": ledger.most_up_at_once(),
        f"send to {RATE}th after it (s)": f"{shortest(sends, RATE):.3f} sent, {ledger.shortest_gap(RATE):.3f} received",
        "back after a start (s)": f"{max(back):.2f}" if back else "-",
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    return ", ".join(f"{key}: {value}" for key, value in told.items())


def _returns(starts: Sequence[float], ledger: Ledger) -> Iterator[tuple[int, float]]:
    """How long after each start that still found work the next call reached the far end (seconds)."""
    invited = [call.invited_at for call in ledger]
    for index, start in enumerate(starts):
        until = starts[index + 1] if index + 1 < len(starts) else math.inf
        following = [moment for moment in invited if start <= moment < until]
        if following:
            yield index, following[0] - start


def _check_returns(starts: Sequence[float], ledger: Ledger) -> None:
    """After each start that still found work, the next call reached the far end in time."""
    for index, back in _returns(starts, ledger):
        assert back <= BACK_SECONDS, f"start {index} dialled after {back:.2f} s"
