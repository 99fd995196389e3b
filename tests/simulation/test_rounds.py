"""How often the dispatcher plans: a round looks at every campaign, so none may come for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.plan import plan
from dialerd.dispatch import dispatcher
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation.house import House, Size, numbers
from tests.support.virtual import Virtual

CAMPAIGNS, EACH = 12, 8
FEW = 3 * CAMPAIGNS
"""Rounds for starts and for the first fetches."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "per_call"),
    [
        pytest.param(Size(rate=5.0, channels=100), 0.8, id="trunks that allow a few calls a second"),
        pytest.param(Size(rate=500.0, channels=3), 1.2, id="trunks with a few channels"),
    ],
)
def test_a_round_comes_when_there_is_somebody_to_call(
    virtual: Virtual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Size, per_call: float
) -> None:
    """Neither the commit of what was planned nor contacts that were fetched are one while no trunk takes a call."""
    planned: list[int] = []
    real = plan

    def counting(*given: Any) -> Any:
        found = real(*given)
        if sum(planned) < CAMPAIGNS * EACH:
            planned.append(len(found.calls))
        return found

    monkeypatch.setattr(dispatcher, "plan", counting)

    async def scene(clock: VirtualClock) -> None:
        callees = SimulatedSettings(shares={Behaviour.ANSWER: 1.0}, talk_seconds=(1.0, 3.0))
        house = House(clock, tmp_path, callees, size)
        async with house.running():
            made = [
                await house.campaign(numbers(EACH, first=100 * index), concurrent_calls=EACH)
                for index in range(1, CAMPAIGNS + 1)
            ]
            for each in made:
                await house.ended(each.id)

    virtual(scene)
    assert sum(planned) == CAMPAIGNS * EACH
    assert len(planned) <= per_call * CAMPAIGNS * EACH + FEW
