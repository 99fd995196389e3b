"""How a driver comes back to a PBX: patient with one that is away, quick with one that lets it in."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

import pytest
import structlog

from dialerd.clock import VirtualClock
from dialerd.pbx.driver import LinkLost, LinkState
from dialerd.pbx.linked import LinkedDriver, LinkSettings
from tests.support.recorder import Recorder
from tests.support.virtual import Virtual

FIRST, MOST, MOST_AFTER_LOGIN, STEADY = 0.5, 30.0, 4.0, 11.0


@dataclass
class FakeLink:
    """A connection that somebody watches."""

    lost: asyncio.Future[str]
    closed: bool = False


class Calls:
    """No calls are followed."""

    def __contains__(self, call_id: object) -> bool:
        return False

    def has_channel(self, _call_id: str) -> bool:
        return False

    def asked(self, _call_id: str, asked: bool = True) -> None:
        """Nothing."""

    def forget(self, _call_id: str) -> None:
        """Nothing."""


class Driver(LinkedDriver[FakeLink]):
    """A driver whose links hold for as long as a script says (seconds); None: the PBX is away."""

    _protocol = "fake"

    def __init__(self, clock: VirtualClock, script: list[float | None]) -> None:
        settings = LinkSettings(host="pbx", secret="s", port=1, retry_first=FIRST, retry_most=MOST)
        super().__init__("main", settings, clock, structlog.get_logger("fake"))
        self._calls = Calls()
        self._script = script
        self.tried: list[float] = []
        self.lost: list[float] = []
        self.over = asyncio.Event()

    async def _ask_hangup(self, call_id: str) -> bool:
        raise LinkLost(call_id)

    async def _connect(self) -> FakeLink:
        self.tried.append(self._clock.mono())
        if len(self.tried) > len(self._script):
            self.over.set()
            await asyncio.get_running_loop().create_future()
        if self._script[len(self.tried) - 1] is None:
            self.lost.append(self._clock.mono())
            raise LinkLost("nobody listens")
        self._state, self._reason = LinkState.UP, None
        return FakeLink(asyncio.get_running_loop().create_future())

    async def _serve(self, link: FakeLink) -> str:
        await self._clock.sleep(self._script[len(self.tried) - 1] or 0.0)
        self.lost.append(self._clock.mono())
        return "the link was cut"

    def _close_link(self) -> None:
        """Nothing is open."""


def pauses(virtual: Virtual, script: list[float | None]) -> list[float]:
    """Let links be as the script says; returns how long the driver waited behind each."""

    async def main(clock: VirtualClock) -> list[float]:
        driver = Driver(clock, script)
        await driver.start(Recorder())
        await driver.over.wait()
        await driver.stop()
        return [later - lost for lost, later in zip(driver.lost, itertools.islice(driver.tried, 1, None), strict=True)]

    return virtual(main)


@pytest.mark.parametrize(
    ("script", "longest"),
    [
        # A PBX that is away is left alone for longer and longer.
        ([None] * 9, [0.5, 1, 2, 4, 8, 16, MOST, MOST, MOST]),
        # One that lets us in has calls of ours, and is not: but it is not hammered either.
        ([0.1] * 7, [0.5, 1, 2, MOST_AFTER_LOGIN, MOST_AFTER_LOGIN, MOST_AFTER_LOGIN, MOST_AFTER_LOGIN]),
        # However long it was away before.
        ([*[None] * 7, 0.1, 0.1], [0.5, 1, 2, 4, 8, 16, MOST, MOST_AFTER_LOGIN, MOST_AFTER_LOGIN]),
        # A link that held begins afresh, and one that did not goes on where it was.
        ([0.1, 0.1, 0.1, STEADY, 0.1, None, None], [0.5, 1, 2, 0.5, 1, 2, 4]),
    ],
    ids=["away", "lost at once", "back after a long time", "steady"],
)
def test_the_back_off_grows_and_stays_small_behind_a_link_that_had_come_up(
    virtual: Virtual, script: list[float | None], longest: list[float]
) -> None:
    waited = pauses(virtual, script)
    assert len(waited) == len(longest)
    for pause, most in zip(waited, longest, strict=True):
        assert most / 2 <= pause <= most, waited
