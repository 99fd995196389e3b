"""How full a trunk's slots are at the far end of a real Asterisk, and whose share the empty ones are."""

from __future__ import annotations

import statistics

from bench.bare import BareScript
from bench.context import Bench, Found
from bench.measure import Figure, abab, at_least, spread
from bench.real import FarEnd, real
from tests.lab.ledger import Ledger

_TALKS = "06"
"""The far end hangs up after 3 s."""
_SECONDS = 120.0


async def run(bench: Bench) -> Found:
    """Share of the slots in use with ample work, and what a script that refills at once leaves empty."""
    slots, calls = bench.pick((100, 900), (5, 15))
    async with real(bench, channels=slots) as desk:
        agent_id = await desk.api.agent("hold")

        async def ours() -> float:
            numbers = desk.numbers(calls, _TALKS)
            far_end = FarEnd(desk.lab)
            rows = [{"phone_number": f"+{number}"} for number in numbers]
            campaign_id = await desk.api.campaign(agent_id, rows, concurrent_calls=10_000, max_retries=0)
            await desk.api.step(campaign_id, "start")
            await desk.finished(campaign_id, _SECONDS)
            return _in_use(await far_end.over(numbers, 10.0), slots)

        async def bare() -> float:
            numbers = desk.numbers(calls, _TALKS)
            far_end = FarEnd(desk.lab)
            async with BareScript(desk.lab, events=True) as script:
                await script.refill(numbers, "hold", slots)
                return _in_use(await far_end.over(numbers, 10.0), slots)

        used, scripts = await abab(ours, bare, bench.rounds)
    empty, wire = (100 - statistics.median(each) for each in (used, scripts))
    yield Figure(
        "slots",
        f"slots in use at the far end, {slots} channels, 3 s calls, ample work",
        statistics.median(used),
        "%",
        at_least(97),
        f"{slots}",
        f"{spread(used)} %",
    )
    yield Figure(
        "slots.wire",
        "of the slots that are empty: the wire's share, which a script that refills at each Hangup leaves empty, too",
        100 * min(1.0, wire / empty) if empty > 0 else 100.0,
        "%",
        made_of=f"we leave {empty:.2g} % empty, the script {wire:.2g} %; its slots in use: {spread(scripts)} %",
    )


def _in_use(seen: Ledger, slots: int) -> float:
    """Percent of the slots in use from when all were for the first time until there was no more work.

    No more at once than there are: AssertionError otherwise.
    """
    assert seen.most_up_at_once() <= slots, f"{seen.most_up_at_once()} calls were up at once, on {slots} slots"
    up = 0
    for at, step in sorted([(call.invited_at, 1) for call in seen] + [(call.over_at, -1) for call in seen]):
        up += step
        if up == slots:
            return 100 * seen.occupancy(slots, at, seen.calls[-1].invited_at)
    raise AssertionError(f"the {slots} slots were never all in use")
