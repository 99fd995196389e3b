"""A forecast beside the daemon itself: the same list, limits and callees, dialled by both, come to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import ContactStatus
from dialerd.core.settings import CampaignSettings, RetryRule
from dialerd.forecast.assumptions import Assumptions
from dialerd.forecast.contacts import made_up
from dialerd.forecast.run import Came, Question, Run
from dialerd.pbx.callees import DEFAULT_SHARES, Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation.house import OPEN_ALL_DAY, House, Size, numbers
from tests.support.virtual import START, Virtual

CALLEES = {Behaviour.ANSWER: 0.4, Behaviour.NO_ANSWER: 0.4, Behaviour.BUSY: 0.2}
RETRY = {"no_answer": RetryRule(delay_seconds=300), "busy": RetryRule(delay_seconds=120)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shares", "size", "settings"),
    [
        pytest.param(CALLEES, Size(rate=10.0, channels=8), {"concurrent_calls": 100}, id="slots of the trunks"),
        pytest.param(CALLEES, Size(rate=0.5, channels=50), {"concurrent_calls": 100}, id="rate of the trunks"),
        pytest.param(DEFAULT_SHARES, Size(rate=4.0), {"concurrent_calls": 30}, id="trunks that fall ill"),
    ],
)
def test_a_forecast_is_what_the_daemon_does(
    virtual: Virtual, tmp_path: Path, shares: dict[Behaviour, float], size: Size, settings: dict[str, float]
) -> None:
    callees = SimulatedSettings(seed=5, shares=shares, talk_seconds=(10.0, 50.0), ring_seconds=(2.0, 40.0))
    given: dict[str, Any] = {**OPEN_ALL_DAY, "max_retries": 2, "retry": RETRY, **settings}

    async def scene(clock: VirtualClock) -> tuple[House, float, int, dict[ContactStatus, int]]:
        house = House(clock, tmp_path, callees, size)
        async with house.running():
            began = clock.mono()
            campaign = await house.campaign(numbers(150), **given)
            await house.ended(campaign.id)
            listed = await house.contacts(campaign.id)
            counts = {status: sum(each.status is status for each in listed) for status in ContactStatus}
            return house, clock.mono() - began, len(house.pbx.ledger.entries), counts

    house, seconds, calls, contacts = virtual(scene)
    assumptions = Assumptions(dict(shares), ring_seconds=callees.ring_seconds, talk_seconds=callees.talk_seconds)
    came = _forecast(house, CampaignSettings.model_validate(given), assumptions)
    assert came.why_not is None
    assert came.seconds == pytest.approx(seconds, rel=0.05)
    assert sum(came.tally.outcomes.values()) == pytest.approx(calls, rel=0.05)
    assert came.contacts[ContactStatus.COMPLETED] == pytest.approx(contacts[ContactStatus.COMPLETED], rel=0.05)
    for trunk, dial in (("a", "PJSIP/{number}@a"), ("b", "PJSIP/{number}@b")):
        assert came.tally.use[trunk].peak == pytest.approx(house.pbx.ledger.most_up_on(dial), rel=0.1, abs=2)


def _forecast(house: House, settings: CampaignSettings, assumptions: Assumptions) -> Came:
    (tenant, _) = house.config.tenants()
    question = Question(house.config, tenant, settings, START, assumptions, seed=5)
    return Run(question, made_up(150, START)).run()
