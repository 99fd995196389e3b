"""Whole campaigns on a PostgreSQL that is killed and started again under them: the laws hold as on a file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from tests.simulation import laws
from tests.simulation.house import House, Size, numbers
from tests.simulation.test_faults import QUICK, SOON, _laws
from tests.support.postgres import Cluster
from tests.support.virtual import Virtual

pytestmark = pytest.mark.postgres


@pytest.fixture
def mortal() -> Iterator[Cluster]:
    """A server of the test's own, to be killed."""
    made = Cluster.make()
    yield made
    made.remove()


def test_a_daemon_killed_again_and_again_dials_nobody_twice(
    virtual: Virtual, tmp_path: Path, postgres_url: str
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=20), url=postgres_url)
        async with house.running():
            campaign = await house.campaign(numbers(60), concurrent_calls=40, max_retries=1, trunks=["a"], **SOON)
        for _ in range(5):
            await house.run_until_killed(clock.chance() * 6)
            await clock.sleep(clock.chance() * 5)
        async with house.running():
            await house.ended(campaign.id)
            await _laws(house, campaign.id)

    virtual(main, seed=1)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_server_that_crashes_under_the_calls(virtual: Virtual, tmp_path: Path, mortal: Cluster, seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=20), url=mortal.create("mortal"))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(100), concurrent_calls=40, max_retries=1, trunks=["a"], **SOON)
            for _ in range(3):
                await clock.sleep(1 + clock.chance() * 4)
                with clock.hold():
                    await asyncio.to_thread(mortal.stop, "immediate")
                while daemon.store.trouble is None:
                    await clock.sleep(0.1)
                assert not daemon.control.health().ready
                await clock.sleep(2)  # what was committed before has gone out
                begun = len(house.pbx.ledger.entries)
                # What the PBX tells meanwhile is kept, and nobody new is called.
                await clock.sleep(clock.chance() * 10)
                assert len(house.pbx.ledger.entries) == begun
                with clock.hold():
                    await asyncio.to_thread(mortal.start)
                while daemon.store.failure is not None:
                    await clock.sleep(0.1)
                assert daemon.control.health().ready
            await house.ended(campaign.id)
            await _laws(house, campaign.id)

    virtual(main, seed=seed)


def test_the_same_seed_tells_the_same_story_on_both(virtual: Virtual, tmp_path: Path, postgres_url: str) -> None:
    """Time passes only while no store is asked: which one it is cannot show in what is dialled when."""

    async def story(clock: VirtualClock, url: str) -> list[tuple[str, str, str | None]]:
        house = House(clock, tmp_path, QUICK, Size(rate=5, channels=3), url=url)
        async with house.running():
            campaign = await house.campaign(numbers(30), max_retries=1, trunks=["a"], **SOON)
            await house.ended(campaign.id)
            await laws.hold(house, campaign.id)
            return [
                (event.draft.kind.value, event.draft.status, event.draft.phone_number)
                for event in await house.events(campaign.id)
            ]

    told: list[list[tuple[str, str, str | None]]] = []

    async def main(clock: VirtualClock, url: str) -> None:
        told.append(await story(clock, url))

    virtual(lambda clock: main(clock, ""), seed=3)
    virtual(lambda clock: main(clock, postgres_url), seed=3)
    assert len(told[0]) > 60
    assert told[0] == told[1]
