"""What people do to campaigns: each step in each state, and what stands when the store refuses or the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.clock import VirtualClock
from dialerd.core.model import Campaign, CampaignStatus, ContactStatus
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.requests import NewCampaign, Upload
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.service import Daemon
from dialerd.store import campaigns
from dialerd.store.errors import StoreError
from dialerd.store.schema import contact
from tests.simulation.house import House, numbers
from tests.support.virtual import Virtual

LONG = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.2), ring_seconds=(0.5, 1.0), talk_seconds=(300, 300)
)
Act = Callable[[Daemon, int], Awaitable[object]]
ACTS: dict[str, Act] = {
    "start": lambda daemon, id_: daemon.control.start("one", id_),
    "pause": lambda daemon, id_: daemon.control.pause("one", id_),
    "resume": lambda daemon, id_: daemon.control.resume("one", id_),
    "stop": lambda daemon, id_: daemon.control.stop("one", id_),
    "delete": lambda daemon, id_: daemon.control.delete("one", id_),
}
WAYS: dict[CampaignStatus, tuple[str, ...]] = {
    CampaignStatus.DRAFT: (),
    CampaignStatus.ACTIVE: ("start",),
    CampaignStatus.PAUSED: ("start", "pause"),
    CampaignStatus.CANCELLED: ("start", "stop"),
}
D, A, P, C = CampaignStatus.DRAFT, CampaignStatus.ACTIVE, CampaignStatus.PAUSED, CampaignStatus.CANCELLED
TABLE: dict[tuple[CampaignStatus, str], CampaignStatus | str] = {
    (D, "start"): A,
    (D, "pause"): "campaign_not_active",
    (D, "resume"): "campaign_not_paused",
    (D, "stop"): C,
    (D, "delete"): "gone",
    (A, "start"): "campaign_already_active",
    (A, "pause"): P,
    (A, "resume"): "campaign_not_paused",
    (A, "stop"): C,
    (A, "delete"): "campaign_active",
    (P, "start"): A,
    (P, "pause"): "campaign_not_active",
    (P, "resume"): A,
    (P, "stop"): C,
    (P, "delete"): "gone",
    (C, "start"): "campaign_finished",
    (C, "pause"): "campaign_not_active",
    (C, "resume"): "campaign_finished",
    (C, "stop"): "campaign_finished",
    (C, "delete"): "gone",
}


async def status_of(daemon: Daemon, campaign_id: int) -> CampaignStatus | str:
    """What the store says; "gone" of a campaign that is hidden."""
    async with daemon.store.read() as conn:
        found = await campaigns.get(conn, "one", campaign_id)
    return "gone" if found is None else found.status


def refuse(daemon: Daemon, error: BaseException, times: int = 1) -> None:
    """Let the next writes fail, as of a full disk."""
    real, left = daemon.store.write, [times]

    async def write(operation: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return await real(operation, **options)

    daemon.store.write = write  # type: ignore[method-assign]


def delay(house: House, daemon: Daemon, *, before: float = 0.0, after: float = 0.0) -> None:
    """Let the next write wait so many seconds for its commit, and then for its answer."""
    real = daemon.store.write

    async def write(operation: Any, **options: Any) -> Any:
        daemon.store.write = real  # type: ignore[method-assign]
        await house.clock.sleep(before)
        done = await real(operation, **options)
        await house.clock.sleep(after)
        return done

    daemon.store.write = write  # type: ignore[method-assign]


Scene = Callable[[House, Daemon], Awaitable[None]]


@pytest.fixture
def play(virtual: Virtual, tmp_path: Path) -> Callable[[Scene], None]:
    """Run a scene in a house whose calls last long."""

    def run(scene: Scene) -> None:
        async def main(clock: VirtualClock) -> None:
            house = House(clock, tmp_path, LONG)
            async with house.running() as daemon:
                await scene(house, daemon)

        virtual(main)

    return run


@pytest.mark.parametrize(("status", "act"), TABLE, ids=str)
def test_each_step_in_each_state(play: Callable[[Scene], None], status: CampaignStatus, act: str) -> None:
    async def scene(house: House, daemon: Daemon) -> None:
        campaign = await house.campaign(numbers(3), start=False)
        for each in WAYS[status]:
            await ACTS[each](daemon, campaign.id)
        expected = TABLE[status, act]
        if isinstance(expected, CampaignStatus) or expected == "gone":
            await ACTS[act](daemon, campaign.id)
        else:
            with pytest.raises(Rejected) as refused:
                await ACTS[act](daemon, campaign.id)
            assert refused.value.code == expected
            expected = status
        assert await status_of(daemon, campaign.id) == expected
        assert daemon.dispatcher.is_active(campaign.id) is (expected is CampaignStatus.ACTIVE)

    play(scene)


@pytest.mark.parametrize("act", ACTS)
def test_another_tenants_campaign_is_not_there(play: Callable[[Scene], None], act: str) -> None:
    async def scene(house: House, daemon: Daemon) -> None:
        campaign = await house.campaign(numbers(3), await house.agent("two"), start=False)
        with pytest.raises(Rejected) as refused:
            await ACTS[act](daemon, campaign.id)
        assert refused.value.code == "campaign_not_found"

    play(scene)


def test_nothing_to_call_is_not_started_unless_it_stays_open(play: Callable[[Scene], None]) -> None:
    async def scene(house: House, daemon: Daemon) -> None:
        empty = await house.campaign([], start=False)
        with pytest.raises(Rejected) as refused:
            await daemon.control.start("one", empty.id)
        assert refused.value.code == "no_contacts"
        held_open = await house.campaign([], start=False, keep_open=True)
        started, _ = await daemon.control.start("one", held_open.id)
        assert started.status is CampaignStatus.ACTIVE

    play(scene)


@pytest.mark.parametrize("act", ["pause", "stop"])
def test_a_change_that_the_store_refuses_did_not_happen(play: Callable[[Scene], None], act: str) -> None:
    """The dispatcher let go of it first; it takes it back, and dials on."""

    async def scene(house: House, daemon: Daemon) -> None:
        campaign = await house.campaign(numbers(30), concurrent_calls=20)
        await house.clock.sleep(0.5)
        refuse(daemon, StoreError("disk full"))
        with pytest.raises(StoreError):
            await ACTS[act](daemon, campaign.id)
        assert await status_of(daemon, campaign.id) is CampaignStatus.ACTIVE
        before = len(house.pbx.ledger.entries)
        await house.clock.sleep(30)
        assert len(house.pbx.ledger.entries) == 20 > before
        await daemon.control.stop("one", campaign.id, hangup=True)

    play(scene)


def test_a_client_that_leaves_does_not_silence_its_campaign(play: Callable[[Scene], None]) -> None:
    """Whether the pause stands, the store tells; what must not be is a campaign that is active and never dials."""

    async def scene(house: House, daemon: Daemon) -> None:
        campaign = await house.campaign(numbers(30), concurrent_calls=20)
        refuse(daemon, asyncio.CancelledError())
        task = asyncio.ensure_future(daemon.control.pause("one", campaign.id))
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await house.clock.sleep(5)
        active = await status_of(daemon, campaign.id) is CampaignStatus.ACTIVE
        assert active
        assert daemon.dispatcher.is_active(campaign.id)
        await daemon.control.stop("one", campaign.id, hangup=True)

    play(scene)


def test_a_stop_that_meets_a_start_ends_stopped(play: Callable[[Scene], None]) -> None:
    async def scene(house: House, daemon: Daemon) -> None:
        for first, second in (("resume", "stop"), ("stop", "resume"), ("resume", "pause"), ("pause", "resume")):
            campaign = await house.campaign(numbers(5), concurrent_calls=1)
            await daemon.control.pause("one", campaign.id)
            if first == "pause":
                await daemon.control.resume("one", campaign.id)
            await asyncio.gather(
                ACTS[first](daemon, campaign.id), ACTS[second](daemon, campaign.id), return_exceptions=True
            )
            status = await status_of(daemon, campaign.id)
            assert daemon.dispatcher.is_active(campaign.id) is (status is CampaignStatus.ACTIVE), (first, second)
            if status in (CampaignStatus.ACTIVE, CampaignStatus.PAUSED):
                await daemon.control.stop("one", campaign.id, hangup=True)

    play(scene)


def test_what_its_own_calls_take_up_is_no_warning_of_a_start(play: Callable[[Scene], None]) -> None:
    """It dials while its start is still being answered."""

    async def scene(house: House, daemon: Daemon) -> None:
        campaign = await house.campaign(numbers(5), start=False, concurrent_calls=1)
        await house.clock.sleep(5)  # the PBX is connected by then
        delay(house, daemon, after=10)
        starting = asyncio.create_task(daemon.control.start("one", campaign.id))
        await house.clock.sleep(5)
        assert house.pbx.ledger.entries
        assert not starting.done()
        _, warnings = await starting
        assert warnings == []
        await daemon.control.stop("one", campaign.id, hangup=True)

    play(scene)


def test_a_start_that_is_slow_to_answer_does_not_undo_a_stop(play: Callable[[Scene], None]) -> None:
    """Between its commit and its answer it looks at the store, and what it saw may be over when it has looked."""

    async def scene(house: House, daemon: Daemon) -> None:
        campaign = await house.campaign(numbers(5), start=False)
        real = daemon.store.read

        @contextlib.asynccontextmanager
        async def slowly() -> AsyncIterator[AsyncConnection]:
            async with real() as conn:
                yield conn
            await house.clock.sleep(10)

        daemon.store.read = slowly  # type: ignore[method-assign]
        starting = asyncio.create_task(daemon.control.start("one", campaign.id))
        await house.clock.sleep(5)
        daemon.store.read = real  # type: ignore[method-assign]
        assert daemon.dispatcher.is_active(campaign.id), "it dials as soon as its start stands"
        await daemon.control.stop("one", campaign.id)
        await starting
        assert not daemon.dispatcher.is_active(campaign.id)

    play(scene)


def test_a_stop_stands_whose_client_left_and_whose_campaign_was_started_meanwhile(
    play: Callable[[Scene], None],
) -> None:
    async def scene(house: House, daemon: Daemon) -> None:
        campaign = await house.campaign(numbers(5), start=False)
        delay(house, daemon, before=5, after=5)
        stopping = asyncio.create_task(daemon.control.stop("one", campaign.id))
        await house.clock.sleep(1)
        await daemon.control.start("one", campaign.id)
        assert daemon.dispatcher.is_active(campaign.id)
        await house.clock.sleep(8)
        stopping.cancel()
        await asyncio.wait((stopping,))
        await house.clock.sleep(60)
        assert await status_of(daemon, campaign.id) is CampaignStatus.CANCELLED
        assert not daemon.dispatcher.is_active(campaign.id)

    play(scene)


def test_a_stop_that_the_store_refuses_leaves_a_campaign_that_was_started_meanwhile(
    play: Callable[[Scene], None],
) -> None:
    async def scene(house: House, daemon: Daemon) -> None:
        campaign = await house.campaign(numbers(5), start=False)
        real = daemon.store.write

        async def refused(*_: Any, **__: Any) -> Any:
            daemon.store.write = real  # type: ignore[method-assign]
            await daemon.control.start("one", campaign.id)
            daemon.dispatcher.remove(campaign.id)  # as if the stop let go of it a moment later
            raise StoreError("disk full")

        daemon.store.write = refused  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            await daemon.control.stop("one", campaign.id)
        await house.clock.sleep(5)
        assert await status_of(daemon, campaign.id) is CampaignStatus.ACTIVE
        assert daemon.dispatcher.is_active(campaign.id)

    play(scene)


def test_a_stop_whose_cancelling_fails_is_finished_later(play: Callable[[Scene], None]) -> None:
    async def scene(house: House, daemon: Daemon) -> None:
        campaign = await house.campaign(numbers(30), start=False)
        real = daemon.control._cancel_pending
        fails = [StoreError("disk full"), StoreError("disk full")]

        async def cancel(campaign_id: int, reason: str) -> None:
            if fails:
                raise fails.pop()
            await real(campaign_id, reason)

        daemon.control._cancel_pending = cancel  # type: ignore[method-assign]
        stopped = await daemon.control.stop("one", campaign.id)
        assert stopped.status is CampaignStatus.CANCELLED
        await house.clock.sleep(30)
        assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.CANCELLED}

    play(scene)


@pytest.mark.parametrize("act", ["stop", "pause"])
def test_an_expiry_that_comes_second_is_content(play: Callable[[Scene], None], act: str) -> None:
    """Somebody ends the campaign between the look of the expiry and its commit."""

    async def scene(house: House, daemon: Daemon) -> None:
        end = house.clock.wall() + timedelta(seconds=60)
        campaign = await house.campaign(numbers(3), concurrent_calls=1, end_at=end)
        house.clock.jump(timedelta(seconds=61))
        told = await asyncio.gather(
            ACTS[act](daemon, campaign.id), daemon.control._expire(campaign.id), return_exceptions=True
        )
        assert not [each for each in told if isinstance(each, BaseException)]
        ends = {"stop": CampaignStatus.CANCELLED, "pause": CampaignStatus.COMPLETED}
        assert await status_of(daemon, campaign.id) is ends[act]
        assert not daemon.dispatcher.is_active(campaign.id)
        assert daemon.metrics.dropped.labels("background_work")._value.get() == 0

    play(scene)


def test_an_expiry_that_the_store_refuses_comes_later(play: Callable[[Scene], None]) -> None:
    async def scene(house: House, daemon: Daemon) -> None:
        end = house.clock.wall() + timedelta(seconds=60)
        campaign = await house.campaign(numbers(3), start=False, end_at=end)
        await daemon.control.start("one", campaign.id)
        await daemon.control.pause("one", campaign.id)
        await house.clock.sleep(30)
        refuse(daemon, StoreError("disk full"), times=3)
        await house.clock.sleep(31)
        assert await status_of(daemon, campaign.id) is CampaignStatus.PAUSED
        await house.clock.sleep(30)
        assert await status_of(daemon, campaign.id) is CampaignStatus.COMPLETED

    play(scene)


@pytest.mark.parametrize("fault", ["rows", "store"])
def test_a_campaign_is_there_with_its_contacts_or_not_at_all(play: Callable[[Scene], None], fault: str) -> None:
    async def scene(house: House, daemon: Daemon) -> None:
        agent = await house.agent()
        new = NewCampaign("a campaign", None, agent.id, CampaignSettings())
        items: list[dict[str, Any]] = [{"phone": number} for number in numbers(1200)]
        upload = Upload("items", items=(*items, {"phone": "nonsense"}), on_invalid="reject")
        if fault == "store":
            upload = Upload("items", items=tuple(items))
            real, writes = daemon.store.write, [0]

            async def write(operation: Any, **options: Any) -> Any:
                writes[0] += 1
                if writes[0] == 4:  # the campaign, the upload, its first rows; and now this
                    raise StoreError("disk full")
                return await real(operation, **options)

            daemon.store.write = write  # type: ignore[method-assign]
        with pytest.raises((Rejected, StoreError)):
            await daemon.control.create(daemon.api.tenants["one"], new, upload)
        await house.clock.sleep(30)
        async with daemon.store.read() as conn:
            listed, total = await campaigns.page(conn, "one", status=None, agent_id=None, page=1, per_page=10)
            rows = (await conn.execute(contact.select())).all()
            hidden = await campaigns.hidden_drafts(conn)
        assert (listed, total, rows, hidden) == ([], 0, [], [])

    play(scene)


def test_a_daemon_that_stops_waits_for_no_store(virtual: Virtual, tmp_path: Path) -> None:
    """What is tried again and again in the background ends with the daemon; the next start takes it up."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, LONG)
        campaign: Campaign
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(30), start=False)

            async def fails(campaign_id: int, reason: str) -> None:
                raise StoreError("disk full")

            daemon.control._cancel_pending = fails  # type: ignore[method-assign]
            await daemon.control.stop("one", campaign.id)
            begun = clock.mono()
        assert clock.mono() - begun < 60
        async with house.running():
            await clock.sleep(1)
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.CANCELLED}

    virtual(main)
