"""How many calls each tenant placed in each of the latest days, as the journal counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime

from dialerd.core.model import Call
from dialerd.store.steps import day_of

KEPT = 8
"""Days that are kept: a wall clock that is set back over midnight finds again what the day before had used."""


class DayCounts:
    """Calls by day (UTC) and tenant. Each is of the day of its commit, whichever day it is by now."""

    def __init__(self) -> None:
        self._days: dict[str, Counter[str]] = {}

    def load(self, days: Mapping[str, Mapping[str, int]]) -> None:
        """Take up what was placed before this process began."""
        self._days = {day: Counter(placed) for day, placed in days.items()}

    def of(self, moment: datetime) -> Mapping[str, int]:
        """Calls that each tenant has placed in the day of a moment."""
        return self._day(moment)

    def add(self, call: Call) -> None:
        """Count a call."""
        self._day(call.originated_at)[call.tenant] += 1

    def take_back(self, call: Call) -> None:
        """A call that was counted was not committed."""
        self._day(call.originated_at)[call.tenant] -= 1

    def _day(self, moment: datetime) -> Counter[str]:
        day = day_of(moment)
        placed = self._days.get(day)
        if placed is None:
            placed = self._days[day] = Counter()
            own = date.fromisoformat(day)
            while len(self._days) > KEPT:
                del self._days[max(self._days, key=lambda each: abs(date.fromisoformat(each) - own))]
        return placed
