"""The daemon against PBXs that do wrong what a PBX can, over real sockets: nobody is called twice, and dialing goes on.

Their parts are played (tests/fakes); what proves a call gone takes tenths of seconds here instead of seconds, for these
PBXs list every channel at once.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from dialerd.clock import Clock, SystemClock, VirtualClock
from dialerd.config import PbxConfig
from dialerd.core.model import Call, CallStatus, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.dispatch import receipts, recovery
from dialerd.pbx.asterisk import AsteriskDriver
from dialerd.pbx.driver import PbxDriver
from dialerd.pbx.freeswitch import FreeSwitchDriver
from tests.fakes.ami_calls import AmiCallsAtPlay
from tests.fakes.ami_peer import AmiPeer, ami_peer, error, message, success
from tests.fakes.esl_peer import EslPeer, esl_peer, reply, response
from tests.fakes.mischief import CutOff, Late, MixedUp, in_pieces, twice
from tests.simulation.house import House, Size
from tests.support import asterisk_bench, freeswitch_bench

CONTACTS = 16
ALL_SECONDS = 40.0
LAG = 0.4
PATIENT: dict[str, Any] = {"action_deadline": 5.0, "ping_every": 0.5, "ping_deadline": 5.0}
"""A link that is only slow, on a busy machine, is not given up."""
NUMBERS = [f"+1202{5_000_000 + 100 * index + 1}" for index in range(CONTACTS)]
"""Their last digits let a played FreeSWITCH answer, and hang up after a second."""


class RealHouse(House):
    """The whole daemon minus its API, on a real clock, with drivers to a PBX at a port."""

    make: Callable[[str, Clock], PbxDriver]

    def _driver(self, name: str, _pbx: PbxConfig, trunks: Mapping[str, str], clock: Clock) -> PbxDriver:
        return self.make(name, clock)


@dataclass
class Scene:
    """A daemon with a campaign on a PBX, and how often each call id reached the far end."""

    house: RealHouse
    reached: Callable[[], Counter[str]]
    spoil: Callable[[], None] = lambda: None


@asynccontextmanager
async def asterisk(folder: Path, **settings: Any) -> AsyncIterator[tuple[Scene, AmiPeer, AmiCallsAtPlay]]:
    """A daemon's house beside a played Asterisk."""
    async with ami_peer() as peer:
        calls = AmiCallsAtPlay(peer)
        quick = replace(asterisk_bench.QUICK, port=peer.port, **{**PATIENT, **settings})
        house = a_house(folder, lambda name, clock: AsteriskDriver(name, quick, clock))
        yield Scene(house, lambda: calls.reached), peer, calls
        assert calls.twice_at_once == []


@asynccontextmanager
async def freeswitch(folder: Path, **settings: Any) -> AsyncIterator[tuple[Scene, EslPeer]]:
    """A daemon's house beside a played FreeSWITCH."""
    async with esl_peer(SystemClock()) as peer:
        peer.answers["api xml_locate"] = lambda _: response('<context name="c"></context>')
        quick = replace(freeswitch_bench.QUICK, port=peer.port, **{**PATIENT, **settings})
        house = a_house(folder, lambda name, clock: FreeSwitchDriver(name, quick, clock))
        house.toml = house.toml.replace("PJSIP/{number}@", "sofia/gateway/trunk/{number}#")
        house.toml = re.sub(r"\{number\}#\w", "{number}", house.toml)
        yield Scene(house, lambda: Counter(each.call_id for each in peer.calls.far_end)), peer


def a_house(folder: Path, make: Callable[[str, Clock], PbxDriver]) -> RealHouse:
    """Make a house whose limits are wide enough for a test of seconds."""
    house = RealHouse(cast(VirtualClock, SystemClock()), folder, size=Size(rate=100.0, channels=8))
    house.make = make
    return house


@pytest.fixture(autouse=True)
def _quick_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((recovery, "SECOND_LOOK"), (recovery, "LISTING_LAG"), (receipts, "LISTING_LAG")):
        monkeypatch.setattr(module, name, LAG)


async def dial(scene: Scene, *, lost: bool) -> list[Call]:
    """Let the daemon dial its list to the end, and hold it to the laws; returns the calls.

    ``lost``: the ends of some calls may not have been heard, so that they are ``interrupted`` and dialled again.
    """
    house = scene.house
    again = {"delay_seconds": 1, "most": 15}
    retry = {"interrupted": again, "unreachable": again, "failed": again}
    async with asyncio.timeout(ALL_SECONDS), house.running() as daemon:
        campaign = await house.campaign(NUMBERS, concurrent_calls=8, trunks=["a"], retry=retry)
        scene.spoil()
        await house.ended(campaign.id)
        calls, contacts = await house.calls(campaign.id), await house.contacts(campaign.id)
        assert [key for key, capacity in daemon.dispatcher.limits() if capacity.used] == []
        assert len(daemon.dispatcher.calls) == 0
        await house.check_counters(campaign.id)
    reached = scene.reached()
    assert max(reached.values()) == 1, "an attempt became two calls"
    assert reached.keys() <= {call.id for call in calls}
    assert {contact.status for contact in contacts} == {ContactStatus.COMPLETED}
    outcomes = Counter(call.outcome for call in calls if call.status is CallStatus.ENDED)
    assert outcomes[Outcome.ANSWERED] == CONTACTS
    assert outcomes.keys() <= {Outcome.ANSWERED, *([Outcome.INTERRUPTED] if lost else [])}, outcomes
    for call in calls:
        assert reached[call.id] or call.status is CallStatus.NOT_SENT or call.outcome is Outcome.INTERRUPTED
    return calls


# -- Asterisk ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_an_asterisk_that_speaks_byte_by_byte(tmp_path: Path) -> None:
    async with asterisk(tmp_path) as (scene, peer, _):
        peer.says = in_pieces
        assert len(await dial(scene, lost=False)) == CONTACTS


async def test_an_asterisk_that_says_everything_twice(tmp_path: Path) -> None:
    async with asterisk(tmp_path) as (scene, peer, _):
        peer.says = twice
        assert len(await dial(scene, lost=False)) == CONTACTS


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_an_asterisk_that_mixes_up_what_it_says(tmp_path: Path, seed: int) -> None:
    """An end may come before the answer, and a receipt after both: what was heard of each call is told in order."""
    async with asterisk(tmp_path) as (scene, peer, _):
        mixed = MixedUp(seed)
        scene.spoil = lambda: setattr(peer, "says", mixed)
        assert len(await dial(scene, lost=False)) == CONTACTS


@pytest.mark.slow
async def test_an_asterisk_whose_receipts_come_after_the_deadline(tmp_path: Path) -> None:
    """They are in doubt, and their events tell what became of them."""
    async with asterisk(tmp_path, action_deadline=1.0) as (scene, peer, calls):
        peer.says = late = Late(1.5, lambda data: b"Originate successfully queued" in data and len(calls.reached) < 9)
        assert len(await dial(scene, lost=False)) == CONTACTS
        assert late.held_back


@pytest.mark.slow
async def test_an_asterisk_that_answers_nothing_in_time(tmp_path: Path) -> None:
    """For a while everything it says comes long after the deadline, pings too: the link is given up and built anew."""
    async with asterisk(tmp_path, ping_deadline=0.5, action_deadline=1.0) as (scene, peer, calls):
        loop, since = asyncio.get_running_loop(), list[float]()

        def is_slow(_: bytes) -> bool:
            if not since and len(calls.reached) > 4:
                since.append(loop.time())
            return bool(since) and loop.time() - since[0] < 1.5

        peer.says = late = Late(1.5, is_slow)
        await dial(scene, lost=True)
        assert late.held_back
        assert peer.connections > 1


@pytest.mark.slow
async def test_an_asterisk_whose_link_ends_inside_messages(tmp_path: Path) -> None:
    async with asterisk(tmp_path) as (scene, peer, _):
        peer.says = cut = CutOff(each=11, times=8)
        await dial(scene, lost=True)
        assert cut.cuts == 8
        assert peer.connections > 8


@pytest.mark.slow
async def test_an_asterisk_that_dies_and_refuses_logins_before_it_is_back(tmp_path: Path) -> None:
    async with asterisk(tmp_path) as (scene, peer, calls):
        admits = peer.answers["Login"]
        refusals = iter(["Authentication failed"] * 2 + ["Asterisk is shutting down"] * 2)

        def dies() -> None:
            peer.answers["Login"] = lambda action: (
                admits(action) if (refusal := next(refusals, None)) is None else error(action, refusal)
            )
            calls.crash()
            peer.cut()

        scene.spoil = lambda: cast(None, asyncio.get_running_loop().call_later(0.5, dies))
        await dial(scene, lost=True)
        assert peer.connections >= 6


@pytest.mark.slow
async def test_an_asterisk_that_refuses_logins_and_then_lets_them_pass(tmp_path: Path) -> None:
    async with asterisk(tmp_path) as (scene, peer, _):
        refusals = iter(range(3))
        peer.answers["Login"] = lambda action: (
            success(action) + message("Event: FullyBooted")
            if next(refusals, None) is None
            else error(action, "Authentication failed")
        )
        assert len(await dial(scene, lost=False)) == CONTACTS
        assert peer.connections == 4


# -- FreeSWITCH -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_freeswitch_that_speaks_byte_by_byte(tmp_path: Path) -> None:
    async with freeswitch(tmp_path) as (scene, peer):
        peer.says = in_pieces
        assert len(await dial(scene, lost=False)) == CONTACTS


@pytest.mark.slow
async def test_a_freeswitch_that_tells_its_events_twice(tmp_path: Path) -> None:
    """Of answers it is told apart by nothing but their order, so one too many costs the link; of events it is not."""
    async with freeswitch(tmp_path) as (scene, peer):
        answers_twice = iter(range(2))

        def says(writer: asyncio.StreamWriter, data: bytes) -> None:
            event = data.startswith(b"Content-Length")
            again = event or (b"+OK Job-UUID" in data and next(answers_twice, None) is not None)
            (twice if again else asyncio.StreamWriter.write)(writer, data)

        peer.says = says
        await dial(scene, lost=True)


@pytest.mark.slow
async def test_a_freeswitch_that_mixes_up_its_events(tmp_path: Path) -> None:
    async with freeswitch(tmp_path) as (scene, peer):
        mixed = MixedUp(1)
        peer.says = lambda writer, data: (
            mixed(writer, data) if data.startswith(b"Content-Length") else writer.write(data)
        )
        assert len(await dial(scene, lost=False)) == CONTACTS


@pytest.mark.slow
async def test_a_freeswitch_whose_receipts_come_after_the_deadline(tmp_path: Path) -> None:
    """Each costs the link, for its answers are told apart by their order alone."""
    async with freeswitch(tmp_path, action_deadline=1.0) as (scene, peer):
        peer.says = late = Late(1.5, lambda data: b"+OK Job-UUID" in data and late.held_back < 4)
        await dial(scene, lost=True)
        assert late.held_back == 4


@pytest.mark.slow
async def test_a_freeswitch_whose_link_ends_inside_messages(tmp_path: Path) -> None:
    async with freeswitch(tmp_path) as (scene, peer):
        peer.says = cut = CutOff(each=17, times=6)
        await dial(scene, lost=True)
        assert cut.cuts == 6


@pytest.mark.slow
async def test_a_freeswitch_that_dies_and_refuses_logins_before_it_is_back(tmp_path: Path) -> None:
    async with freeswitch(tmp_path) as (scene, peer):
        admits = peer.answers["auth"]
        refusals = iter(range(3))

        async def dies() -> None:
            await SystemClock().sleep(1.0)
            await peer.kill()
            peer.answers["auth"] = lambda line: admits(line) if next(refusals, None) is None else reply("-ERR invalid")
            await peer.boot()

        dying: list[asyncio.Task[None]] = []
        scene.spoil = lambda: dying.append(asyncio.ensure_future(dies()))
        await dial(scene, lost=True)
        await dying[0]
        assert next(refusals, None) is None
