"""The configuration is read again while calls are up: limits, trunks, PBXs and tenants come, change and go."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import Call, CallStatus, Campaign, CampaignStatus, ContactStatus, Tenant
from dialerd.core.outcome import Outcome
from dialerd.core.throttle import Key, Level
from dialerd.dispatch.recovery import LONGEST_CALL
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store import calls, campaigns
from dialerd.store.db import Store
from dialerd.telemetry.metrics import Metrics
from tests.simulation import laws
from tests.simulation.house import House, Size, numbers
from tests.simulation.test_changes import explained
from tests.support.virtual import Virtual

TALK = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.2), ring_seconds=(0.5, 1.0), talk_seconds=(8.0, 9.0)
)
SECOND = """
[pbx.second]
driver = "simulated"
max_calls_per_second = 100
max_channels = 100
[trunk.c]
pbx = "second"
dial = "PJSIP/{number}@c"
max_calls_per_second = 10
max_channels = 20
"""


async def reload(house: House, *changes: tuple[str, str], more: str = "") -> tuple[str, ...]:
    """Change the configuration file and let the daemon read it again; returns what it took up."""
    for pattern, new in changes:
        house.toml, count = re.subn(pattern, new, house.toml, flags=re.DOTALL)
        assert count, pattern
    house.toml += more
    return (await house.daemon.reload(house.read())).applied


async def by_trunk(house: House, campaign: Campaign) -> dict[str, list[Call]]:
    """A campaign's calls by their trunks."""
    found: dict[str, list[Call]] = {}
    for call in await house.calls(campaign.id):
        found.setdefault(call.trunk, []).append(call)
    return found


def shown_trunks(house: House) -> set[str]:
    """The trunks that the metrics tell the state of."""
    return set(re.findall(r'dialerd_trunk_state\{.*?trunk="(\w+)"', house.daemon.metrics.render().decode()))


def alive(house: House, trunk: str) -> int:
    return sum(1 for each in house.pbx.ledger.entries if each.ended is None and each.trunk.endswith(f"@{trunk}"))


@pytest.mark.slow
def test_a_lowered_limit_binds_new_calls_and_a_raised_one_is_used_at_once(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=20, channels=30))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(1500), concurrent_calls=200, trunks=["a"])
            await clock.sleep(20)
            assert alive(house, "a") == 30
            changed = clock.mono()
            applied = await reload(house, (r"(trunk\.a\].*?)max_channels = 30", r"\1max_channels = 5"))
            assert applied == ("trunk.a.max_channels",)
            assert alive(house, "a") == 30, "calls in flight live on"
            await clock.sleep(15)
            for _ in range(100):
                await clock.sleep(0.3)
                assert alive(house, "a") <= 5
            begun = [each.began for each in house.pbx.ledger.entries if each.began > changed]
            assert len(begun) > 5
            await reload(
                house,
                (r"(trunk\.a\].*?)max_channels = 5", r"\1max_channels = 12"),
                (r"(trunk\.a\].*?)max_calls_per_second = 20", r"\1max_calls_per_second = 4"),
            )
            changed = clock.mono()
            up = []
            for _ in range(100):
                await clock.sleep(0.3)
                up.append(alive(house, "a"))
            assert max(up) == 12
            laws.never_faster([each.began for each in house.pbx.ledger.entries if each.began > changed + 1.0], 4)
            await daemon.control.stop("one", campaign.id)
            await house.ended(campaign.id)
        await _at_rest(house, campaign)

    virtual(main)


def test_a_place_that_is_no_longer_allowed_gets_no_more_calls_until_it_is(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=5, channels=10))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(100), concurrent_calls=5)
            await clock.sleep(10)
            house.toml += '[agents]\ncontexts = ["sales"]\n'
            assert await reload(house) == ("agents.contexts",)
            begun = len(house.pbx.ledger.entries)
            assert begun
            await clock.sleep(60)
            assert len(house.pbx.ledger.entries) == begun
            told = await explained(house, campaign.id)
            assert told.summary == "its agent's context 'c' is not allowed by the configuration; allowed: sales"
            assert {each.mishaps + each.callee_tries for each in await house.contacts(campaign.id)} == {0}
            await reload(house, (r'"sales"', r'"sales", "c"'))
            await clock.sleep(1)
            assert len(house.pbx.ledger.entries) > begun
            await daemon.control.stop("one", campaign.id)
            await house.ended(campaign.id)
        await _at_rest(house, campaign)

    virtual(main)


@pytest.mark.slow
def test_a_new_pbx_with_its_trunk_is_dialled_over_at_once(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=5, channels=10))
        async with house.running():
            campaign = await house.campaign(numbers(300), concurrent_calls=100)
            await clock.sleep(10)
            applied = await reload(house, (r'trunks = \["a", "b"\]', 'trunks = ["c", "a", "b"]'), more=SECOND)
            assert applied[:2] == ("pbx.second", "trunk.c")
            await clock.sleep(10)
            assert house.pbxs["second"].ledger.most_up == 20
            assert shown_trunks(house) == {"a", "b", "c"}
            await house.ended(campaign.id)
            placed = await by_trunk(house, campaign)
        assert len(placed["c"]) > 50
        assert {call.outcome for each in placed.values() for call in each} == {Outcome.ANSWERED}

    virtual(main)


@pytest.mark.slow
def test_what_vanished_gets_no_new_call_and_its_calls_are_followed_to_their_end(
    virtual: Virtual, tmp_path: Path
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=5, channels=10))
        house.toml = house.toml.replace('trunks = ["a", "b"]', 'trunks = ["c", "a"]') + SECOND
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(300), concurrent_calls=100)
            await clock.sleep(10)
            second = daemon.drivers["second"]
            assert house.pbxs["second"].ledger.up > 10
            gone_at = clock.wall()
            house.toml = house.toml.replace('trunks = ["c", "a"]', 'trunks = ["a"]').replace(SECOND, "")
            applied = await reload(house)
            assert applied[0] == "pbx.second (gone)"
            await clock.sleep(0.1)
            assert second.state == "up", "its calls are followed"
            assert house.pbxs["second"].ledger.up > 10
            await clock.sleep(30)
            assert second.state == "stopped"
            assert list(daemon.drivers) == ["main"]
            holders = {key for key, _ in daemon.dispatcher.limits()}
            assert Key(Level.PBX, "second") not in holders
            assert Key(Level.TRUNK, "c") not in holders
            assert shown_trunks(house) == {"a", "b"}
            await house.ended(campaign.id)
            over_c = (await by_trunk(house, campaign))["c"]
        assert max(call.originated_at for call in over_c) <= gone_at
        assert {(call.outcome, call.status) for call in over_c} == {(Outcome.ANSWERED, CallStatus.ENDED)}
        assert all(8 <= (call.talk_seconds or 0) < 10 for call in over_c)

    virtual(main)


@pytest.mark.slow
def test_a_pbx_that_comes_back_while_its_calls_live_goes_on_as_it_was(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=5, channels=10))
        house.toml = house.toml.replace('trunks = ["a", "b"]', 'trunks = ["c"]') + SECOND
        with_second = house.toml
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(100), concurrent_calls=100)
            await clock.sleep(10)
            driver = daemon.drivers["second"]
            house.toml = house.toml.replace('trunks = ["c"]', 'trunks = ["a"]').replace(SECOND, "")
            await reload(house)
            await clock.sleep(1)
            house.toml = with_second
            assert "pbx.second" in await reload(house)
            await house.ended(campaign.id)
            assert daemon.drivers["second"] is driver
            assert driver.state == "up"
            assert {call.outcome for call in await house.calls(campaign.id)} == {Outcome.ANSWERED}
        assert house.pbxs["second"].ledger.up == 0

    virtual(main)


@pytest.mark.slow
def test_a_tenant_that_vanished_is_silent_and_says_why(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=5, channels=10))
        whole = house.toml
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(100), concurrent_calls=10)
            await clock.sleep(5)
            await reload(house, (r"\[tenant\.one\].*?(?=\[tenant\.two\])", ""))
            await clock.sleep(20)
            placed = len(await house.calls(campaign.id))
            assert (await explained(house, campaign.id)).summary == "its tenant is not configured"
            assert "one" not in daemon.api.tenants
            await clock.sleep(600)
            assert len(await house.calls(campaign.id)) == placed
            house.toml = whole
            assert await reload(house) == ("tenant.one",)
            await house.ended(campaign.id)
        await _at_rest(house, campaign)

    virtual(main)


def test_a_trunk_that_goes_between_commit_and_wire_is_not_dialled_over(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=1, channels=10))
        async with house.running() as daemon:
            await house.campaign(numbers(50), concurrent_calls=10, trunks=["a"])
            await clock.sleep(5)
            # The next call is committed some milliseconds ahead of its moment.
            while not any(live.sent_at is None for live in daemon.dispatcher.calls.of_pbx("main")):
                await clock.sleep(0.001)
            sent = len(house.pbx.ledger.entries)
            house.toml = house.toml.replace('trunks = ["a", "b"]', 'trunks = ["b"]')
            house.toml = re.sub(r"\[trunk\.a\].*?(?=\[trunk\.b\])", "", house.toml, flags=re.DOTALL)
            await reload(house)
            await clock.sleep(60)
            assert len(house.pbx.ledger.entries) == sent
            assert daemon.dispatcher.calls.of_pbx("main") == []

    virtual(main)


@pytest.mark.slow
def test_calls_on_a_pbx_that_the_next_start_does_not_know_end_with_their_longest_life(
    virtual: Virtual, tmp_path: Path
) -> None:
    """Nobody can be asked about them, so they are neither forgotten nor dialled again before they are over for sure."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=5, channels=10))
        plain = house.toml
        house.toml = plain.replace('trunks = ["a", "b"]', 'trunks = ["c"]') + SECOND
        life = asyncio.create_task(house.run_until_killed(30))
        await clock.sleep(1)
        campaign = await house.campaign(numbers(200), concurrent_calls=40)
        await life
        before = [call for call in await _calls(house, campaign) if call.status is not CallStatus.ENDED]
        assert before
        killed = clock.wall()
        house.toml = plain
        async with house.running() as daemon:
            await clock.sleep(3600)
            assert len(daemon.dispatcher.calls.of_pbx("second")) == len(before)
            await clock.sleep(LONGEST_CALL.total_seconds() - 3600)
            assert daemon.dispatcher.calls.of_pbx("second") == []
            found = {call.id: call for call in await house.calls(campaign.id)}
            for call in before:
                assert found[call.id].outcome is Outcome.INTERRUPTED
                assert (found[call.id].ended_at or killed) - call.originated_at >= LONGEST_CALL
            await house.ended(campaign.id)
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.COMPLETED}

    virtual(main)


def test_a_trunk_of_a_tenant_that_the_configuration_lost_stops_nobody_else(virtual: Virtual, tmp_path: Path) -> None:
    """A tenant made over the API may name a trunk that a later file has no more."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=5, channels=10))
        async with house.running() as daemon:
            await daemon.api.tenants.create(Tenant("three", 5.0, 10, ("a", "b")))
            other = await house.campaign(numbers(30, first=100), await house.agent("three"), trunks=["a"])
            campaign = await house.campaign(numbers(30))
            house.toml = re.sub(r"\[trunk\.a\].*?(?=\[trunk\.b\])", "", house.toml, flags=re.DOTALL)
            house.toml = house.toml.replace('trunks = ["a", "b"]', 'trunks = ["b"]')
            await reload(house)
            await house.ended(campaign.id)
            async with daemon.store.read() as conn:
                found = await campaigns.get(conn, "three", other.id)
                assert found is not None
                told, _ = await daemon.api.explanations.campaign(conn, found)
            assert told.summary == "trunk a is not in the configuration"
            assert found.status is CampaignStatus.ACTIVE

    virtual(main)


async def _calls(house: House, campaign: Campaign) -> list[Call]:
    """What the store has of a campaign's calls, while no daemon runs."""
    store = Store(house.config.store.url, house.clock, Metrics())
    await store.open()
    try:
        async with store.read() as conn:
            return await calls.page(conn, campaign.id, limit=1000, offset=0)
    finally:
        await store.close()


async def _at_rest(house: House, campaign: Campaign) -> None:
    async with house.running():
        await laws.hold(house, campaign.id)
