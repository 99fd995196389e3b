"""A driver for FreeSWITCH, the scripted event socket that it talks to, and the words for a test of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dialerd.clock import Clock, SystemClock
from dialerd.pbx.driver import LinkDown, LinkUp, Originate, PbxDriver, Place
from dialerd.pbx.esl_link import EslSettings
from dialerd.pbx.freeswitch import FreeSwitchDriver
from tests.fakes.esl_peer import SECRET, EslPeer
from tests.support.recorder import Recorder

CALL = "0198c0de-0000-7000-8000-000000000001"
OTHER = "0198c0de-0000-7000-8000-000000000002"
QUICK = EslSettings(
    host="127.0.0.1",
    secret=SECRET,
    connect_deadline=2.0,
    action_deadline=5.0,
    ping_every=5.0,
    ping_deadline=0.3,
    retry_first=0.02,
    retry_most=0.04,
    refused_retry=0.05,
)


def an_order(call_id: str = CALL, number: str = "1202555010000", **changes: Any) -> Originate:
    """An order for a number whose last two digits choose what happens."""
    order = Originate(
        call_id=call_id,
        dial=f"sofia/gateway/trunk/{number}",
        caller_id="+12025550199",
        place=Place(context="dialerd", exten="answered"),
        setup_seconds=30.0,
        max_call_seconds=3600,
        variables={"DIALERD_CALL_ID": call_id},
    )
    return replace(order, **changes)


class Bench:
    """A peer, a driver to it, and what the driver told."""

    def __init__(self, peer: EslPeer, trunks: Mapping[str, str] | None = None) -> None:
        self.peer = peer
        self.told = Recorder()
        self.trunks = trunks or {}
        self.settings()

    def settings(self, clock: Clock | None = None, **changes: Any) -> None:
        """Make another driver, with these settings changed."""
        settings = replace(QUICK, **{"port": self.peer.port, **changes})
        self.driver = FreeSwitchDriver("main", settings, clock or SystemClock(seed=1), self.trunks)

    async def up(self) -> None:
        """Start the driver, and wait for its link."""
        await self.driver.start(self.told)
        await self.told.link(LinkUp)

    def downs(self) -> list[LinkDown]:
        """Every LinkDown so far."""
        return [event for event in self.told.events if isinstance(event, LinkDown)]


def fulfils_the_protocol(driver: FreeSwitchDriver) -> PbxDriver:
    """Checked by mypy."""
    return driver
