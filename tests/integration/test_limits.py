"""A trunk's limits, counted at its far end: never more calls at once, never faster, and no slot left idle."""

from __future__ import annotations

from pathlib import Path

from tests.integration.daemon import Stock, TrunkLimits
from tests.integration.evidence import Numbers, check_told, match
from tests.integration.house import house
from tests.lab.lab import Lab
from tests.lab.ledger import FarCall, Ledger

MAX_CHANNELS = 20
MAX_CALLS_PER_SECOND = 10
CONTACTS = 300
TALKS = ("05", "06", "06", "06", "06", "06")
"""The far end hangs up after 6 s, or after 3 s: five or six calls end in a second, and twice as many could begin."""

DEADLINE = 120.0


async def test_a_trunks_limits_hold_at_its_far_end_and_its_slots_stay_full(
    lab: Lab, tmp_path: Path, stock: Stock
) -> None:
    numbers = Numbers(203)
    rows = [{"phone_number": numbers.next(TALKS[index % len(TALKS)])} for index in range(CONTACTS)]
    trunk = {"trunk": TrunkLimits(MAX_CHANNELS, MAX_CALLS_PER_SECOND)}
    async with house(lab, tmp_path, stock, limits=trunk) as home:
        campaign_id = await home.api.campaign(
            await home.api.agent("hold"), rows, trunks=["trunk"], concurrent_calls=CONTACTS
        )
        async with home.api.follow(campaign_id) as follower:
            await home.api.step(campaign_id, "start")
            await follower.finished(DEADLINE)
            check_told(follower.told, await home.api.contacts(campaign_id))
        calls = await home.api.calls(campaign_id)
    assert {call["outcome"] for call in calls} == {"answered"}
    ledger = lab.ledger("trunk").of(row["phone_number"].removeprefix("+") for row in rows)
    assert len(match(calls, ledger)) == len(calls) == CONTACTS
    # The far end counts a call until it sends its BYE, and the PBX until it gets it: nothing crosses in our favour.
    assert ledger.most_up_at_once() <= MAX_CHANNELS
    assert ledger.shortest_gap(MAX_CALLS_PER_SECOND) >= 1.0
    occupancy = ledger.occupancy(MAX_CHANNELS, _first_full(ledger), ledger.calls[-1].invited_at)
    assert occupancy >= 0.97, f"{occupancy:.1%} of the slots were in use; {_refills(ledger)}"


def _first_full(ledger: Ledger) -> float:
    """When all slots were in use for the first time."""
    for call in ledger:
        up = sum(other.invited_at <= call.invited_at < other.over_at for other in ledger)
        if up == MAX_CHANNELS:
            return call.invited_at
    raise AssertionError("the slots were never all in use")


def _refills(ledger: Ledger) -> str:
    """How long freed slots stayed empty, for whoever has to find out why."""
    freed = sorted(call.over_at for call in ledger)
    # The n-th slot that frees is taken by the n-th call after the first twenty.
    waits = sorted(
        later.invited_at - moment for moment, later in zip(freed, list[FarCall](ledger)[MAX_CHANNELS:], strict=False)
    )
    return f"a freed slot was taken after {waits[len(waits) // 2]:.3f} s (median), {waits[-1]:.3f} s (longest)"
