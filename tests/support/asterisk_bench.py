"""A driver for Asterisk, the scripted manager that it talks to, and the words for a test of both."""

from __future__ import annotations

from dataclasses import replace

from dialerd.clock import SystemClock
from dialerd.pbx.asterisk import AsteriskDriver, AsteriskSettings
from dialerd.pbx.driver import (
    LinkDown,
    LinkUp,
    Originate,
    PbxDriver,
    Place,
)
from tests.fakes.ami_peer import AmiPeer, message
from tests.support.recorder import Recorder

CALL = "0198c0de-0000-7000-8000-000000000001"
OTHER = "0198c0de-0000-7000-8000-000000000002"
QUICK = AsteriskSettings(
    host="127.0.0.1",
    username="dialerd",
    secret="open sesame",
    connect_deadline=2.0,
    action_deadline=5.0,
    boot_deadline=5.0,
    ping_every=5.0,
    ping_deadline=0.3,
    retry_first=0.02,
    retry_most=0.04,
    refused_retry=0.05,
)
PERMISSION_DENIED = "Permission denied"


def an_order(call_id: str = CALL, place: Place | None = None, dial: str = "PJSIP/12025550100@carrier-a") -> Originate:
    place = place or Place(context="dialerd", exten="answered")
    return Originate(call_id, dial, "+12025550199", place, 30.0, 3600, {"DIALERD_CALL_ID": call_id})


def newchannel(call_id: str = CALL) -> bytes:
    return message("Event: Newchannel", "Channel: PJSIP/a-1", "ChannelState: 0", f"Uniqueid: {call_id}")


def hangup(call_id: str = CALL, cause: int = 16, state: int = 6) -> bytes:
    return message(
        "Event: Hangup", f"Uniqueid: {call_id}", f"ChannelState: {state}", f"Cause: {cause}", "Cause-txt: é日"
    )


def response(call_id: str = CALL, word: str = "Success", reason: int = 4) -> bytes:
    headers = f"ActionID: o:{call_id}", f"Response: {word}", f"Reason: {reason}", f"Uniqueid: {call_id}"
    return message("Event: OriginateResponse", *headers)


class Bench:
    """A peer, a driver to it, and what the driver told."""

    def __init__(self, peer: AmiPeer) -> None:
        self.peer = peer
        self.told = Recorder()
        self.driver = AsteriskDriver("main", replace(QUICK, port=peer.port), SystemClock(seed=1))

    def settings(self, **changes: float) -> None:
        self.driver = AsteriskDriver("main", replace(QUICK, port=self.peer.port, **changes), SystemClock(seed=1))  # type: ignore[arg-type]

    async def up(self) -> None:
        await self.driver.start(self.told)
        await self.told.link(LinkUp)

    def downs(self) -> list[LinkDown]:
        return [event for event in self.told.events if isinstance(event, LinkDown)]


def fulfils_the_protocol(driver: AsteriskDriver) -> PbxDriver:
    """Checked by mypy."""
    return driver
