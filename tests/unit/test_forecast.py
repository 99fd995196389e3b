"""When a campaign will be through: its pace, and the calling hours ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dialerd.core.forecast import SPAN, Pace, completion
from dialerd.core.settings import CampaignSettings

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday."""
HOUR = 3600.0


def paced(*ends: float) -> Pace:
    pace = Pace()
    for at in ends:
        pace.note(at)
    return pace


class TestPace:
    def test_counts_the_last_minutes(self) -> None:
        pace = paced(*range(0, 4000, 10))
        assert pace.per_second(4000.0, dialing=True) == pytest.approx(0.1, rel=0.02)

    def test_slows_down_with_every_second_in_which_nothing_ends(self) -> None:
        pace = paced(*range(0, 100, 10))
        assert pace.per_second(100.0, dialing=True) == pytest.approx(0.1)
        assert pace.per_second(200.0, dialing=True) == pytest.approx(0.05)
        assert pace.per_second(95.0 + SPAN, dialing=True) is None, "hardly anything ended lately"

    def test_is_remembered_while_nothing_may_be_dialled(self) -> None:
        pace = paced(*range(0, 100, 10))
        assert pace.per_second(50_000.0, dialing=False) == pytest.approx(0.1)

    @pytest.mark.parametrize("ends", [(), (1.0,), (1.0, 2.0, 3.0, 4.0), (5.0, 5.0, 5.0, 5.0, 5.0)])
    def test_is_unknown_of_too_few(self, ends: tuple[float, ...]) -> None:
        assert paced(*ends).per_second(5.0, dialing=True) is None
        assert paced(*ends).per_second(5.0, dialing=False) is None

    def test_keeps_a_bounded_number(self) -> None:
        pace = paced(*(each / 100 for each in range(100_000)))
        assert pace.per_second(1000.0, dialing=True) == pytest.approx(100, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "hours", "not_before", "through"),
    [
        ({}, 2, 0, NOON + timedelta(hours=2)),
        ({}, 5, 0, NOON + timedelta(hours=5)),
        # Five hours of today, eight of each day that follows.
        ({}, 6, 0, NOON + timedelta(hours=22)),
        ({}, 5 + 8 + 8 + 1, 0, NOON + timedelta(days=2, hours=22)),
        ({"calling_days": ["mon"]}, 6, 0, NOON + timedelta(days=6, hours=22)),
        ({"blackouts": ["2026-03-03"]}, 6, 0, NOON + timedelta(days=1, hours=22)),
        ({"timezone": "America/New_York"}, 2, 0, NOON + timedelta(hours=4)),
        ({"calling_hours_start": "00:00", "calling_hours_end": "00:00"}, 100, 0, NOON + timedelta(hours=100)),
        # Somebody waits for a later time, inside the hours or outside of them.
        ({}, 2, 3, NOON + timedelta(hours=3)),
        ({}, 2, 12, NOON + timedelta(hours=21)),
        ({}, 6, 12, NOON + timedelta(hours=22)),
        ({"start_at": "2026-03-04T10:00:00Z"}, 1, 0, NOON + timedelta(days=1, hours=23)),
        ({"end_at": "2026-03-02T15:00:00Z"}, 2, 0, NOON + timedelta(hours=2)),
        ({"end_at": "2026-03-02T15:00:00Z"}, 4, 0, None),
        ({"contact_timezone": "number"}, 2, 0, None),
        ({}, 8 * 600, 0, None),
    ],
)
def test_completion(settings: dict[str, Any], hours: float, not_before: float, through: datetime | None) -> None:
    made = CampaignSettings.model_validate(settings)
    assert completion(made, NOON, hours * HOUR, NOON + timedelta(hours=not_before)) == through
