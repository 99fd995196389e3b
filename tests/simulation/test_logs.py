"""The log of a whole campaign: every line that concerns a call says whose it is, in the ids that the API shows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from dialerd.clock import VirtualClock, show_id
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.telemetry import logs
from tests.simulation.house import House, numbers
from tests.support.virtual import Virtual

TROUBLED = SimulatedSettings(
    link_loss_per_minute=2.0, outage_seconds=(1.0, 5.0), originate_in_doubt_share=0.2, lost_event_share=0.2
)


def test_every_line_of_a_campaign_says_whose_it_is(virtual: Virtual, tmp_path: Path, restored_logs: None) -> None:
    written = io.StringIO()

    async def main(clock: VirtualClock) -> tuple[str, set[str]]:
        logs.configure("debug", "json", clock, stream=written)
        house = House(clock, tmp_path, TROUBLED)
        async with house.running():
            campaign = await house.campaign(numbers(15), concurrent_calls=15, max_retries=0)
            await house.ended(campaign.id)
            return show_id(campaign.id), {call.id for call in await house.calls(campaign.id)}

    campaign_id, placed = virtual(main)
    lines: list[dict[str, Any]] = [json.loads(line) for line in written.getvalue().splitlines()]
    of_calls = [line for line in lines if "call_id" in line]
    assert {line["call_id"] for line in of_calls if line["event"] == "call_ended"} == placed
    assert {"call_sent", "call_ended", "originate_in_doubt", "call_gone"} <= {line["event"] for line in of_calls}
    for line in of_calls:
        assert (line.get("campaign_id"), line.get("tenant")) == (campaign_id, "one"), line
    steps = [line for line in lines if line["event"] == "campaign_changed"]
    assert [line["status"] for line in steps] == ["active", "completed"]
    for line in lines:
        if "campaign_id" in line:
            assert (line["campaign_id"], line.get("tenant")) == (campaign_id, "one"), line
