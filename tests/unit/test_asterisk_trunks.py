"""The Asterisk driver tells the state of its trunks and Asterisk's own ceiling, as far as its user may ask for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest_asyncio

from dialerd.clock import SystemClock
from dialerd.pbx.asterisk import AsteriskDriver
from dialerd.pbx.driver import LinkUp, TrunkState
from tests.fakes.ami_peer import Action, ami_peer, error, message, success
from tests.support.asterisk_bench import PERMISSION_DENIED, QUICK, Bench

TRUNKS = {"north": "PJSIP/{number}@north", "south": "PJSIP/{number}@south", "out": "Local/{number}@out"}


class Pbx(Bench):
    """A manager that knows two endpoints of ours, and one of somebody else's."""

    states: dict[str, str]
    registrations: dict[str, str]
    """Their statuses by endpoint."""

    def begin(self, **changes: float) -> None:
        self.registrations = {}
        self.states = {"PJSIP/north": "NOT_INUSE", "PJSIP/south": "UNAVAILABLE", "PJSIP/phone": "UNAVAILABLE"}
        self.peer.answers["DeviceStateList"] = self.listing
        self.peer.answers["PJSIPShowRegistrationsOutbound"] = self.registered
        settings = replace(QUICK, port=self.peer.port, **changes)  # type: ignore[arg-type]
        self.driver = AsteriskDriver("main", settings, SystemClock(seed=1), TRUNKS)

    def listing(self, action: Action) -> bytes:
        rows = [("DeviceStateChange", f"Device: {device}", f"State: {state}") for device, state in self.states.items()]
        return self.listed(action, "DeviceStateListComplete", rows)

    def registered(self, action: Action) -> bytes:
        rows = [
            ("OutboundRegistrationDetail", f"Endpoint: {endpoint}", f"ServerUri: sip:{endpoint}", f"Status: {status}")
            for endpoint, status in self.registrations.items()
        ]
        return self.listed(action, "OutboundRegistrationDetailComplete", rows)

    def listed(self, action: Action, complete: str, rows: Sequence[tuple[str, ...]]) -> bytes:
        tag = f"ActionID: {action['ActionID']}"
        told = [message(f"Event: {event}", tag, *headers) for event, *headers in rows]
        end = message(f"Event: {complete}", tag, "EventList: Complete", f"ListItems: {len(rows)}")
        return success(action, "EventList: start") + b"".join(told) + end

    def asked(self, action: str) -> int:
        return sum(each["Action"] == action for each in self.peer.actions)

    async def asked_again(self, action: str) -> None:
        """Wait until two more questions have come: the first may have been under way, and the second is behind it."""
        had = self.asked(action)
        await self.peer.until(lambda: self.asked(action) >= had + 2)

    def states_told(self) -> list[tuple[str, bool]]:
        return [(event.trunk, event.up) for event in self.told.events if isinstance(event, TrunkState)]


@pytest_asyncio.fixture
async def pbx() -> AsyncIterator[Pbx]:
    async with ami_peer() as peer:
        pbx = Pbx(peer)
        pbx.begin()
        yield pbx
        await pbx.driver.stop()


@pytest_asyncio.fixture
async def pinging() -> AsyncIterator[Pbx]:
    """One that is asked at each of many pings."""
    async with ami_peer() as peer:
        pbx = Pbx(peer)
        pbx.begin(ping_every=0.05, ping_deadline=5.0)
        yield pbx
        await pbx.driver.stop()


async def _told(pbx: Pbx, trunk: str, *, up: bool, after: int = 0) -> None:
    await pbx.told.until(
        lambda event: isinstance(event, TrunkState) and (event.trunk, event.up) == (trunk, up), after=after
    )


async def test_each_endpoint_is_told_behind_the_link(pbx: Pbx) -> None:
    await pbx.up()
    await _told(pbx, "south", up=False)
    assert isinstance(pbx.told.events[0], LinkUp)
    assert sorted(pbx.states_told()) == [("north", True), ("south", False)]


async def test_a_change_is_told_once(pbx: Pbx) -> None:
    await pbx.up()
    await _told(pbx, "south", up=False)
    mark = pbx.told.mark
    for _ in range(2):
        pbx.peer.send(message("Event: PeerStatus", "Peer: PJSIP/north", "PeerStatus: Unreachable"))
    pbx.peer.send(message("Event: PeerStatus", "Peer: PJSIP/south", "PeerStatus: Reachable"))
    await _told(pbx, "south", up=True, after=mark)
    assert pbx.states_told()[2:] == [("north", False), ("south", True)]


async def test_a_new_link_asks_anew(pbx: Pbx) -> None:
    await pbx.up()
    await _told(pbx, "south", up=False)
    mark = pbx.told.mark
    pbx.states["PJSIP/south"] = "NOT_INUSE"
    pbx.peer.cut()
    await _told(pbx, "south", up=True, after=mark)
    await _told(pbx, "north", up=True, after=mark)


async def test_a_registration_that_comes_behind_the_login_is_asked_for(pinging: Pbx) -> None:
    """Asterisk has just started: its registration is Unregistered yet, and its filter need not let Registry through."""
    pinging.states = {"PJSIP/south": "NOT_INUSE"}
    pinging.registrations = {"north": "Unregistered"}
    await pinging.up()
    await _told(pinging, "north", up=False)
    mark = pinging.told.mark
    pinging.registrations = {"north": "Registered"}
    await _told(pinging, "north", up=True, after=mark)
    assert pinging.asked("DeviceStateList") == 1, "no endpoint was out of reach"


async def test_a_registration_that_was_taken_away_is_no_more(pinging: Pbx) -> None:
    pinging.registrations = {"north": "Rejected"}
    await pinging.up()
    await _told(pinging, "north", up=False)
    mark = pinging.told.mark
    pinging.registrations = {}
    await _told(pinging, "north", up=True, after=mark)


async def test_an_endpoint_that_came_back_unheard_is_asked_for(pinging: Pbx) -> None:
    await pinging.up()
    await _told(pinging, "south", up=False)
    mark = pinging.told.mark
    pinging.states["PJSIP/south"] = "NOT_INUSE"
    await _told(pinging, "south", up=True, after=mark)
    assert pinging.asked("PJSIPShowRegistrationsOutbound") == 1, "no registration was missing"


async def test_calls_under_way_do_not_call_an_endpoint_reachable(pinging: Pbx) -> None:
    await pinging.up()
    await _told(pinging, "south", up=False)
    pinging.peer.send(message("Event: PeerStatus", "Peer: PJSIP/north", "PeerStatus: Unreachable"))
    await _told(pinging, "north", up=False)
    pinging.states["PJSIP/north"] = "INUSE"
    await pinging.asked_again("DeviceStateList")
    pinging.states["PJSIP/north"] = "UNAVAILABLE"  # the calls have ended
    await pinging.asked_again("DeviceStateList")
    assert ("north", True) not in pinging.states_told()[2:]
    mark = pinging.told.mark
    pinging.states["PJSIP/north"] = "NOT_INUSE"
    await _told(pinging, "north", up=True, after=mark)


async def test_a_question_without_an_answer_costs_no_link(pinging: Pbx) -> None:
    pinging.begin(ping_every=0.05, ping_deadline=5.0, action_deadline=0.2)
    await pinging.up()
    await _told(pinging, "south", up=False)
    pinging.peer.answers["DeviceStateList"] = lambda _: None
    await pinging.asked_again("DeviceStateList")
    mark = pinging.told.mark
    pinging.states["PJSIP/south"] = "NOT_INUSE"
    pinging.peer.answers["DeviceStateList"] = pinging.listing
    await _told(pinging, "south", up=True, after=mark)
    assert pinging.peer.connections == 1


async def test_while_all_trunks_are_up_nothing_is_asked_again(pinging: Pbx) -> None:
    pinging.states = {"PJSIP/south": "NOT_INUSE"}
    await pinging.up()
    await pinging.asked_again("Ping")
    assert (pinging.asked("DeviceStateList"), pinging.asked("PJSIPShowRegistrationsOutbound")) == (1, 1)


async def test_what_the_user_may_not_ask_is_not_known(pbx: Pbx) -> None:
    pbx.peer.answers["DeviceStateList"] = lambda action: error(action, PERMISSION_DENIED)
    await pbx.up()
    pbx.peer.send(message("Event: PeerStatus", "Peer: PJSIP/north", "PeerStatus: Unreachable"))
    await _told(pbx, "north", up=False)
    assert pbx.states_told() == [("north", False)]


async def test_asterisks_own_ceiling_is_told(pbx: Pbx) -> None:
    pbx.peer.answers["CoreSettings"] = lambda action: success(action, "AsteriskVersion: 22.10.0", "CoreMaxCalls: 120")
    await pbx.up()
    assert pbx.told.events[0] == LinkUp("22.10.0", max_channels=120)


async def test_a_ceiling_of_zero_is_none(pbx: Pbx) -> None:
    pbx.peer.answers["CoreSettings"] = lambda action: success(action, "AsteriskVersion: 22.10.0", "CoreMaxCalls: 0")
    await pbx.up()
    assert pbx.told.events[0] == LinkUp("22.10.0")


async def test_other_trunks_are_told_as_soon_as_they_are_asked_for(pbx: Pbx) -> None:
    await pbx.up()
    await _told(pbx, "south", up=False)
    mark = pbx.told.mark
    await pbx.driver.watch({"desk": "PJSIP/{number}@phone", "north": "PJSIP/{number}@north"})
    assert sorted(pbx.states_told()[2:]) == [("desk", False), ("north", True)]
    pbx.peer.send(message("Event: PeerStatus", "Peer: PJSIP/south", "PeerStatus: Reachable"))
    pbx.peer.send(message("Event: PeerStatus", "Peer: PJSIP/phone", "PeerStatus: Reachable"))
    await _told(pbx, "desk", up=True, after=mark)
    assert "south" not in {trunk for trunk, _ in pbx.states_told()[2:]}


async def test_without_a_link_other_trunks_are_told_behind_the_next(pbx: Pbx) -> None:
    await pbx.driver.watch({"desk": "PJSIP/{number}@phone"})
    assert pbx.states_told() == []
    await pbx.up()
    await _told(pbx, "desk", up=False)
    assert pbx.states_told() == [("desk", False)]
