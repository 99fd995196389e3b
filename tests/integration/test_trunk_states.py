"""Trunks that are down at the login, as before they have registered, and up as soon as they are, heard or unheard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from dialerd.clock import SystemClock
from dialerd.pbx.asterisk import AsteriskDriver, AsteriskSettings
from dialerd.pbx.driver import TrunkState
from tests.integration.house import await_unreachable
from tests.integration.registrar import Registrar, registering
from tests.lab.lab import DIALERD, Lab, User
from tests.support.recorder import Recorder

WITHIN = 20.0
"""Seconds for a registration: Asterisk sends its REGISTER again after 0.5, 1, 2 and 4."""
NEVER = 3600.0
_DEAF = User("deaf", "lab-deaf")
_ALLOWED = """
[deaf]
secret = lab-deaf
read = call,system,user,agent
write = originate,call,reporting
eventfilter = ^Event: (OriginateResponse|Newchannel|Hangup|FullyBooted|Shutdown)[[:space:]]
"""


@dataclass(frozen=True, slots=True)
class Trunk:
    """What was told of one."""

    told: Recorder

    async def is_told(self, *, up: bool, after: int = 0) -> None:
        await self.told.until(lambda event: isinstance(event, TrunkState) and event.up is up, WITHIN, after=after)

    def reason(self) -> str:
        return [event.reason for event in self.told.events if isinstance(event, TrunkState)][-1]


@asynccontextmanager
async def driven(lab: Lab, user: User, *, ping_every: float) -> AsyncIterator[Trunk]:
    """A driver of the lab's Asterisk with one trunk, logged in as this user."""
    told = Recorder()
    settings = AsteriskSettings(
        host=lab.host, port=lab.ports.ami, username=user.name, secret=user.secret, ping_every=ping_every
    )
    driver = AsteriskDriver("main", settings, SystemClock(seed=1), {"trunk": "PJSIP/{number}@trunk"})
    await driver.start(told)
    try:
        yield Trunk(told)
    finally:
        await driver.stop()


@pytest.fixture
def registrar(lab: Lab) -> Iterator[Registrar]:
    with registering(lab, "trunk") as registrar:
        yield registrar


@pytest.fixture
def deaf(lab: Lab) -> Iterator[User]:
    """A manager user whose filter lets neither PeerStatus nor Registry through."""
    manager = lab.run / "etc/manager.conf"
    before = manager.read_text()
    manager.write_text(before + _ALLOWED)
    lab.cli("manager reload")
    yield _DEAF
    manager.write_text(before)
    lab.cli("manager reload")


async def test_a_registration_that_comes_behind_the_login_is_heard_of(lab: Lab, registrar: Registrar) -> None:
    async with driven(lab, DIALERD, ping_every=NEVER) as trunk:
        await trunk.is_told(up=False)
        assert "is Unregistered" in trunk.reason()
        mark = trunk.told.mark
        registrar.grant()
        await trunk.is_told(up=True, after=mark)


async def test_one_that_the_filter_hides_is_asked_for(lab: Lab, registrar: Registrar, deaf: User) -> None:
    async with driven(lab, deaf, ping_every=1.0) as trunk:
        await trunk.is_told(up=False)
        mark = trunk.told.mark
        registrar.grant()
        await trunk.is_told(up=True, after=mark)


async def test_an_endpoint_that_is_in_reach_again_unheard_is_asked_for(lab: Lab, deaf: User) -> None:
    await asyncio.to_thread(lab.stop_far_end, "trunk")
    await asyncio.to_thread(await_unreachable, lab, "trunk")
    async with driven(lab, deaf, ping_every=1.0) as trunk:
        await trunk.is_told(up=False)
        mark = trunk.told.mark
        await asyncio.to_thread(lab.start_far_end, "trunk")
        await trunk.is_told(up=True, after=mark)
