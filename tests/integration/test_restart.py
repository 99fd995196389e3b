"""The daemon killed, or its link cut, in the middle of a campaign: calls are followed on, and none is sent twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dialerd.clock import SystemClock
from tests.fakes.proxy import Proxy
from tests.integration.client import Follower, Json
from tests.integration.daemon import Daemon, Stock, TrunkLimits
from tests.integration.evidence import Numbers, check_one_at_a_time, check_told, match, seconds
from tests.integration.house import House, house
from tests.lab.ami import Ami
from tests.lab.lab import Lab
from tests.lab.ledger import FarCall

SLOTS = 16
FIRST = ("06", "06", "00", "02", "13", "06", "00", "13")
"""Talks 3 s; talks until we hang up; rings 3 s and then talks so; rings until we give up."""
LATER = ("01", "10", "06", "11")
ANSWER_TIMEOUT = 8
MAX_CALL_SECONDS = 9
GONE_WHILE_AWAY = 4
"""Calls that end while nobody listens, before the daemon may come back."""
ON_THE_BRINK = 0.3
"""Seconds around the end and the beginning of the absence in which it is chance whether an end was heard."""

CLOCKS = 0.5
"""Seconds by which Asterisk and the far end may see an answer or an end apart."""
DEADLINE = 90.0
_clock = SystemClock()

EXPECTED = {
    "00": "answered",
    "01": "answered",
    "02": "answered",
    "06": "answered",
    "10": "busy",
    "11": "invalid_number",
    "13": "no_answer",
}


@dataclass(frozen=True, slots=True)
class Absence:
    """When nobody listened to the PBX (seconds since the epoch)."""

    begun: float
    over: float


Outage = Callable[[], contextlib.AbstractAsyncContextManager[None]]


def _killed(daemon: Daemon) -> Outage:
    @contextlib.asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        await daemon.kill()
        yield
        await daemon.start()

    return outage


def _cut(daemon: Daemon, proxy: Proxy) -> Outage:
    @contextlib.asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        mark = len(daemon.log)
        proxy.cut()
        await daemon.logged("pbx_down", after=mark)
        yield
        mark = len(daemon.log)
        proxy.restore()
        await daemon.logged("pbx_known", after=mark)

    return outage


@pytest.mark.parametrize("how", ["killed", "cut"])
async def test_calls_live_through_the_absence_of_the_daemon(lab: Lab, tmp_path: Path, stock: Stock, how: str) -> None:
    async with Proxy(lab.host, lab.ports.ami) as proxy:
        limits = {"trunk": TrunkLimits(SLOTS, 20)}
        async with house(lab, tmp_path, stock, ami=(proxy.host, proxy.port), limits=limits) as home:
            outage = _killed(home.daemon) if how == "killed" else _cut(home.daemon, proxy)
            await _campaign_with_an_absence(home, outage, Numbers(207 if how == "killed" else 208))


async def _campaign_with_an_absence(home: House, outage: Outage, numbers: Numbers) -> None:
    behaviours = [*(FIRST * 2), *(LATER * 6)]
    rows = [{"phone_number": numbers.next(behaviour)} for behaviour in behaviours]
    campaign_id = await home.api.campaign(
        await home.api.agent("hold"),
        rows,
        trunks=["trunk"],
        concurrent_calls=len(rows),
        max_retries=0,
        answer_timeout=ANSWER_TIMEOUT,
        max_call_seconds=MAX_CALL_SECONDS,
        # Who was cut off is called once more, at once: only when his first channel is proven gone.
        retry={"interrupted": {"delay_seconds": 0, "most": 1}},
    )
    async with home.api.follow(campaign_id) as follower:
        with home.lab.ami() as ami:
            await home.api.step(campaign_id, "start")
            await _first_calls_are_up(follower)
            absence = await _be_away(outage, ami)
        await follower.finished(DEADLINE)
        contacts = await home.api.contacts(campaign_id)
        check_told(follower.told, contacts)
    calls = await home.api.calls(campaign_id)
    check_one_at_a_time(calls)
    _check_calls(home.lab, calls, absence)
    assert {contact["status"] for contact in contacts} <= {"completed", "failed"}


async def _first_calls_are_up(follower: Follower) -> None:
    await follower.until(
        lambda: len(follower.last) >= SLOTS and follower.count("connected") >= 10 and follower.count("ringing") >= 4,
        DEADLINE,
        "the first calls ring and talk",
    )


async def _be_away(outage: Outage, ami: Ami) -> Absence:
    """Let the daemon be away until some calls have ended; the test hears of that from the PBX itself."""
    begun = _clock.wall().timestamp()
    async with outage():
        heard = len(ami.events)
        await asyncio.to_thread(_await_hangups, ami, heard, begun + ON_THE_BRINK)
        # What has ended is to lie before the brink, not on it: here it is time itself that has to pass.
        await _clock.sleep(2 * ON_THE_BRINK)
    return Absence(begun, _clock.wall().timestamp())


def _await_hangups(ami: Ami, after: int, begun: float) -> None:
    # What the client has not read yet may be older than the outage: a ping's answer comes behind it.
    ami.action("Ping")
    gone = 0
    while gone < GONE_WHILE_AWAY:
        ours = ami.next_event(("Hangup",), 20.0)["Channel"].startswith("PJSIP/trunk")
        gone += ours and _clock.wall().timestamp() > begun


def _check_calls(lab: Lab, calls: Sequence[Json], absence: Absence) -> None:
    ledger = lab.ledger_when(lambda ledger: all(call.ended_at is not None for call in ledger.of(_dialled(calls))))
    seen = match(calls, ledger.of(_dialled(calls)))
    fates: dict[str, int] = {}
    for call in calls:
        far = seen.get(call["id"])
        if far is None:
            # Committed, and the daemon died, or lost the PBX, before the order went out.
            assert call["outcome"] in ("interrupted", "cancelled", "unreachable"), call
            continue
        fate = _fate(far, absence)
        fates[fate] = fates.get(fate, 0) + 1
        if fate == "brink":
            continue
        answered = far.answered_at is not None
        expected = "interrupted" if fate == "lost" and not answered else EXPECTED[call["phone_number"][-2:]]
        assert call["outcome"] == expected, (fate, call, far, absence)
        if fate != "lost":
            continue
        assert (call["status"], call["hung_up_by"]) == ("ended", None)
        if answered:
            # Asterisk has kept what became of it.
            assert call["talk_seconds"] == pytest.approx(_talk(far), abs=CLOCKS), (call, far)
            assert seconds(call["ended_at"]) == pytest.approx(far.ended_at, abs=CLOCKS)
        else:
            assert call["fault"] == "pbx"
            # Two listings have to miss it, and the daemon did not guess before it could ask.
            assert seconds(call["ended_at"]) > absence.over - ON_THE_BRINK
    assert fates["lost"] >= GONE_WHILE_AWAY - 1
    # Some rang on, or talked on, through all of it.
    assert fates["followed"] >= 6
    assert fates["after"] >= len(LATER)


def _talk(far: FarCall) -> float:
    assert far.ended_at is not None
    assert far.answered_at is not None
    return far.ended_at - far.answered_at


def _dialled(calls: Sequence[Json]) -> set[str]:
    return {call["phone_number"].removeprefix("+") for call in calls}


def _fate(far: FarCall, absence: Absence) -> str:
    assert far.ended_at is not None
    if far.invited_at > absence.over:
        return "after"
    if far.ended_at > absence.over + ON_THE_BRINK:
        return "followed"
    if far.ended_at < absence.begun - ON_THE_BRINK:
        return "before"
    if absence.begun + ON_THE_BRINK < far.ended_at < absence.over - ON_THE_BRINK:
        return "lost"
    return "brink"
