"""By when an order has arrived: the first sign of it, the PBX's receipt and a while, or a question after it."""

from __future__ import annotations

import asyncio
import math

from dialerd.clock import VirtualClock
from dialerd.core.throttle import Arrival
from dialerd.dispatch.receipts import LISTING_LAG, Receipts
from tests.support.virtual import Virtual


def test_a_sign_of_the_call_proves_that_its_order_arrived(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        receipts, arrival = Receipts(clock), Arrival()
        await clock.sleep(1)
        receipts.came(arrival)
        assert arrival.by == clock.mono()
        await clock.sleep(1)
        receipts.came(arrival)
        assert arrival.by == 1.0

    virtual(main)


def test_an_accepted_order_has_arrived_when_its_channel_is_surely_listed(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        receipts, arrival = Receipts(clock), Arrival()
        receipts.taken(arrival)
        assert arrival.by == LISTING_LAG
        await clock.sleep(0.5)
        receipts.came(arrival)
        assert arrival.by == 0.5

    virtual(main)


def test_an_order_in_doubt_is_under_way_until_its_pbx_has_answered_a_later_question(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        receipts, mine, other = Receipts(clock), Arrival(), Arrival()
        receipts.missing("main", mine)
        receipts.missing("spare", other)
        await clock.sleep(3)
        receipts.settled("main")
        assert (mine.by, other.by) == (3 + LISTING_LAG, math.inf)

    virtual(main)


def test_whoever_waits_without_end_is_woken_by_news(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        receipts, arrival = Receipts(clock), Arrival()
        waiting = asyncio.ensure_future(receipts.until(math.inf))
        await clock.sleep(5)
        assert not waiting.done()
        receipts.came(arrival)
        await waiting
        assert clock.mono() == 5

    virtual(main)


def test_whoever_waits_for_a_moment_is_woken_then_at_the_latest(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        receipts = Receipts(clock)
        await receipts.until(0.05)
        assert clock.mono() == 0.05
        await receipts.until(2.0)
        assert clock.mono() == 2.0
        clock.call_at(3.0, lambda: receipts.came(Arrival()))
        await receipts.until(9.0)
        assert clock.mono() == 3.0

    virtual(main)
