"""When a campaign will be through, from how fast it goes and the calling hours that lie ahead."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from dialerd.core.settings import CampaignSettings
from dialerd.core.windows import Window, window

SPAN = 900.0
"""Seconds that the present rate looks back."""
_KEPT = 500
_LEAST = 5
"""Contacts that must have ended before a rate is told of them."""
_CHANGES = 1000
"""Openings and closings that are looked through; with more of them ahead nothing is foretold."""


class Pace:
    """How fast contacts of a campaign come to the end of their way."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=_KEPT)

    def note(self, at: float) -> None:
        """A contact came to its end at a monotonic moment."""
        self._ends.append(at)

    def per_second(self, now: float, *, dialing: bool) -> float | None:
        """The rate of the last minutes; while nothing may be dialled, of the last minutes in which it could.

        None where too little is known: too few contacts ended, or, while it may dial, none did lately.
        """
        if not self._ends:
            return None
        until = now if dialing else self._ends[-1]
        recent = [at for at in self._ends if until - at <= SPAN]
        if len(recent) < _LEAST or until <= recent[0]:
            return None
        return (len(recent) if dialing else len(recent) - 1) / (until - recent[0])


def completion(settings: CampaignSettings, now: datetime, seconds: float, not_before: datetime) -> datetime | None:
    """The moment (aware) at which a campaign that needs so many more seconds of calling will be through.

    ``not_before``: the time of the last contact that waits for its own. None: it ends before, or nobody can tell, as
    where each contact's own zone counts.
    """
    if settings.contact_timezone == "number":
        return None
    left, at = timedelta(seconds=seconds), now
    for _ in range(_CHANGES):
        hours = window(settings, (), at)
        through = _within(hours, max(at + left, not_before))
        if through is not None:
            return through
        if hours.until is None:
            return None
        if hours.open:
            left = max(timedelta(), left - (hours.until - at))
        at = hours.until
    return None


def _within(hours: Window, moment: datetime) -> datetime | None:
    return moment if hours.open and (hours.until is None or moment <= hours.until) else None
