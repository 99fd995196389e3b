"""Calls whose limits pass while the daemon is away: what became of them meanwhile is asked before they are ended."""

from __future__ import annotations

from pathlib import Path

from dialerd.clock import VirtualClock
from dialerd.core.outcome import Fault, Outcome
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation import laws
from tests.simulation.house import House, numbers
from tests.support.virtual import Virtual

ANSWER_TIMEOUT = 8
MAX_CALL_SECONDS = 20
CALLS = 10

RINGS_LONG = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0},
    post_dial_seconds=(0.1, 0.2),
    ring_seconds=(5.0, 6.0),
    talk_seconds=(300.0, 300.0),
)


def test_a_call_answered_meanwhile_is_not_given_up_as_unanswered(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, RINGS_LONG)
        async with house.running():
            campaign = await house.campaign(
                numbers(CALLS),
                concurrent_calls=CALLS,
                answer_timeout=ANSWER_TIMEOUT,
                max_call_seconds=MAX_CALL_SECONDS,
            )
        # Long enough for all to ring, too short for any answer; and away until the time to answer is over.
        await house.run_until_killed(4.0)
        await clock.sleep(ANSWER_TIMEOUT)
        async with house.running():
            await house.ended(campaign.id)
            await laws.hold(house, campaign.id)
            calls = await house.calls(campaign.id)
        assert [(call.outcome, call.fault, call.attempt) for call in calls] == [
            (Outcome.ANSWERED, Fault.NONE, 1)
        ] * CALLS
        # They then talked for as long as the campaign lets them.
        assert all(call.talk_seconds is not None and call.talk_seconds > MAX_CALL_SECONDS / 2 for call in calls)

    virtual(main)
