"""Rates count calls, and not processes: however often a daemon is killed and back, the far end never counts more."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import CallStatus, Campaign
from dialerd.core.throttle import Book
from dialerd.dispatch.limits import Limits
from dialerd.dispatch.receipts import LISTING_LAG
from dialerd.dispatch.recovery import SECOND_LOOK
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation import laws
from tests.simulation.house import House, Size, numbers
from tests.simulation.scenario import Dice
from tests.support.virtual import Virtual, run_virtual

SHORT = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.3), ring_seconds=(0.2, 0.5), talk_seconds=(1.0, 2.0)
)
RATES = (0.1, 0.3, 0.7, 1.0, 2.5, 7.5)
LIVES = 12
SETTLED = LISTING_LAG + SECOND_LOOK
"""A daemon that lives this long knows what became of the orders of the one before, which count until then."""


def killed_again_and_again(seed: int, rate: float, folder: Path) -> list[float]:
    """Let daemons live for a while each, most of them about as long as the rate's own span; returns what was sent."""

    async def main(clock: VirtualClock) -> list[float]:
        dice = Dice(f"restarts/{seed}/{rate}")
        span = max(1, int(rate)) / rate + Limits().cps_guard_seconds
        house = House(clock, folder, SHORT, Size(rate=rate, channels=200))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(100), concurrent_calls=200, trunks=["a"], start=False)
            await daemon.control.start("one", campaign.id)
        for _ in range(LIVES):
            await house.run_until_killed(dice.one((0.0, 0.3, 1.0, SETTLED)) + dice.between(0.8, 2.0) * span)
            await clock.sleep(dice.one((0.0, 0.0, dice.between(0.0, span))))
        return sorted(house.pbx.ledger.sends())

    return run_virtual(seed, main)


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES)
def test_the_far_end_never_counts_more(rate: float, tmp_path: Path) -> None:
    sends = killed_again_and_again(1, rate, tmp_path)
    whole = max(1, int(rate))
    assert len(sends) > LIVES / 2
    assert any(late - early < 1.2 * whole / rate for early, late in zip(sends, sends[whole:], strict=False))
    for early, late in zip(sends, sends[whole:], strict=False):
        assert late - early >= whole / rate - laws.WIRE_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.3, 2.5])
def test_a_daemon_that_forgets_what_was_before_it_is_caught(
    rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Book, "unknown_before", lambda *_: None)
    whole = max(1, int(rate))
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        sends = killed_again_and_again(seed, rate, folder)
        if any(late - early < whole / rate - 0.1 for early, late in zip(sends, sends[whole:], strict=False)):
            return
    pytest.fail("nothing was sent too soon")


def test_the_wait_after_a_restart_is_explained_and_holds_no_slot(virtual: Virtual, tmp_path: Path) -> None:
    """A call in ten seconds: a daemon that has just started says until when it waits, and commits nothing before."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, SHORT, Size(rate=0.1, channels=50))
        async with house.running():
            campaign = await house.campaign(numbers(3), trunks=["a"])
            await clock.sleep(1)
        assert len(house.pbx.ledger.entries) == 1
        async with house.running() as daemon:
            await clock.sleep(5)
            began = clock.wall()
            until = await waits_until(house, campaign)
            assert 4.0 < (until - began).total_seconds() < 5.2
            assert all(call.status is CallStatus.ENDED for call in await house.calls(campaign.id))
            await clock.sleep((until - began).total_seconds() + 0.5)
            assert len(house.pbx.ledger.entries) == 2
            await daemon.control.stop("one", campaign.id)

    virtual(main)


async def waits_until(house: House, campaign: Campaign) -> datetime:
    """The moment until which a campaign waits for its trunk's rate, as explain says."""
    async with house.daemon.store.read() as conn:
        told, _ = await house.daemon.api.explanations.campaign(conn, campaign)
    assert "trunk a is at its 0.1 calls per second" in told.summary
    assert told.next_moment is not None
    return told.next_moment
