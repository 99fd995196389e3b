"""A tenant's calls of a day are no more than they may be, whatever the wall clock does and whenever a commit ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dialerd.clock import VirtualClock
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store.errors import StoreError
from dialerd.store.records import CallStep, Originating
from dialerd.store.schema import tenant_day
from tests.simulation.house import House, Size, numbers
from tests.support.virtual import Virtual

BRIEF = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.3), ring_seconds=(0.2, 0.5), talk_seconds=(1.0, 2.0)
)
MOST = 10


def limited(clock: VirtualClock, folder: Path) -> House:
    """A house whose tenant may place ten calls a day."""
    house = House(clock, folder, BRIEF, Size(rate=20, channels=50))
    house.toml = house.toml.replace("[tenant.one]\n", f"[tenant.one]\nmax_calls_per_day = {MOST}\n")
    house.config = house.read()
    return house


async def until_midnight(clock: VirtualClock, before: float) -> None:
    """Wait until so many seconds before the next midnight (UTC)."""
    now = clock.wall()
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), now.tzinfo)
    await clock.sleep((midnight - now).total_seconds() - before)


async def by_day(house: House) -> list[int]:
    """The tenant's calls of each day, as the store has them."""
    async with house.daemon.store.read() as conn:
        return list(await conn.scalars(sa.select(tenant_day.c.calls).order_by(tenant_day.c.day)))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_wall_clock_that_is_set_back_over_midnight(virtual: Virtual, tmp_path: Path, restarted: bool) -> None:
    """Both days come a second time, and bring no call more."""

    async def main(clock: VirtualClock) -> None:
        house = limited(clock, tmp_path)
        async with house.running():
            await until_midnight(clock, 60)
            campaign = await house.campaign(numbers(50), concurrent_calls=20, trunks=["a"])
            await clock.sleep(30)
            assert await by_day(house) == [MOST]
            await clock.sleep(60)
            assert await by_day(house) == [MOST, MOST]
            clock.jump(timedelta(minutes=-10))
            if not restarted:
                await clock.sleep(1800)
        async with house.running() as daemon:
            await clock.sleep(1800)
            assert await by_day(house) == [MOST, MOST]
            assert len(house.pbx.ledger.sends()) == 2 * MOST
            await until_midnight(clock, -60)
            assert await by_day(house) == [MOST, MOST, MOST], "and a day later it dials again"
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_a_commit_that_fails_after_midnight_gives_the_new_day_nothing(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = limited(clock, tmp_path)
        async with house.running() as daemon:
            await until_midnight(clock, 1)
            record = daemon.store.record

            async def locked(originating: Sequence[Originating], moved: Sequence[CallStep]) -> frozenset[str]:
                """SQLite's lock is waited for from before midnight until after it."""
                if not originating:
                    return await record(originating, moved)
                daemon.store.record = record  # type: ignore[method-assign]
                await clock.sleep(5)
                raise StoreError("database is locked")

            daemon.store.record = locked  # type: ignore[method-assign]
            campaign = await house.campaign(numbers(50), concurrent_calls=20, trunks=["a"])
            await clock.sleep(120)
            assert (await by_day(house))[-1] == MOST
            await daemon.control.stop("one", campaign.id)

    virtual(main)
