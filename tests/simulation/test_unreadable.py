"""A store that cannot be read stops the dialing, also while nobody writes; readiness says so, and it goes on again."""

from __future__ import annotations

from pathlib import Path

from dialerd.clock import VirtualClock
from dialerd.core.settings import RetryRule
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store.errors import StoreError
from tests.simulation.disk import BROKEN
from tests.simulation.house import House, numbers
from tests.support.virtual import Virtual

BUSY = SimulatedSettings(shares={Behaviour.BUSY: 1.0}, post_dial_seconds=(0.1, 0.3))
CALLS = 5


def test_retries_that_fall_due_on_a_broken_disk_are_not_forgotten(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, BUSY)
        async with house.running() as daemon:
            retry = {"busy": RetryRule(delay_seconds=600)}
            campaign = await house.campaign(numbers(CALLS), concurrent_calls=CALLS, max_retries=1, retry=retry)
            await clock.sleep(60)
            assert len(house.pbx.ledger.sends()) == CALLS
            house._disk.trouble = BROKEN
            await clock.sleep(900)
            assert len(house.pbx.ledger.sends()) == CALLS
            health = daemon.control.health()
            assert not health.ready
            assert any(BROKEN in problem for problem in health.problems)
            assert BROKEN in (daemon.store.objection() or "")
            house._disk.trouble = None
            await clock.sleep(10)
            assert daemon.control.health().ready
            await house.ended(campaign.id)
            assert len(house.pbx.ledger.sends()) == 2 * CALLS

    virtual(main)


def test_one_question_that_fails_alone_stops_nothing(virtual: Virtual, tmp_path: Path) -> None:
    """As one does that takes too long."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, BUSY)
        async with house.running() as daemon:
            told: list[str | None] = []
            daemon.store.on_health = lambda: told.append(daemon.store.failure)
            try:
                async with daemon.store.read():
                    raise StoreError("canceling statement due to statement timeout")
            except StoreError:
                await clock.sleep(5)
            assert daemon.store.objection() is None
            assert told == []

    virtual(main)
