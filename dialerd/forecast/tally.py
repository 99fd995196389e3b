"""What is counted while a forecast runs: calls by the hour, slots in use, and which rule kept calls back how long."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dialerd.core.model import Moment
from dialerd.core.snapshot import Reason


@dataclass(slots=True)
class Hour:
    """One hour of the campaign's own clock."""

    begins: datetime
    """In the campaign's zone."""
    calls: int = 0
    answered: int = 0
    peak: int = 0
    """Most slots in use at once."""
    call_seconds: float = 0.0
    """Seconds of slots in use, over all trunks."""


@dataclass(slots=True)
class Use:
    """Slots of one trunk, or of all."""

    now: int = 0
    peak: int = 0
    call_seconds: float = 0.0


@dataclass(slots=True)
class Kept:
    """How long a rule kept (more) calls back."""

    level: str
    detail: str
    """In words, as explain would have said it the last time."""
    seconds: float = 0.0


@dataclass(slots=True)
class Tally:
    """Counts; every change brings its moment."""

    zone: ZoneInfo
    trunks: Iterable[str]
    hours: list[Hour] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    """By the rule's name."""
    outcomes: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    busy_seconds: float = 0.0
    """In which at least one slot was in use."""
    all: Use = field(default_factory=Use)
    use: dict[str, Use] = field(init=False)
    _at: float = 0.0
    _hour_ends: float = -math.inf
    _why: Kept | None = None

    def __post_init__(self) -> None:
        """Begin with no slot in use."""
        self.use = {name: Use() for name in self.trunks}

    def began(self, trunk: str, now: Moment) -> None:
        """A call is on its way."""
        self._advance(now)
        for use in (self.all, self.use[trunk]):
            use.now += 1
            use.peak = max(use.peak, use.now)
        self.hours[-1].calls += 1
        self.hours[-1].peak = max(self.hours[-1].peak, self.all.now)

    def ended(self, trunk: str, outcome: str, *, answered: bool, now: Moment) -> None:
        """A call is over."""
        self._advance(now)
        self.all.now -= 1
        self.use[trunk].now -= 1
        self.outcomes[outcome] += 1
        self.answered += answered
        self.hours[-1].answered += answered

    def withdrawn(self, trunk: str, now: Moment) -> None:
        """A call was taken back before it left: it is as if it had never been."""
        self._advance(now)
        self.all.now -= 1
        self.use[trunk].now -= 1
        self.hours[-1].calls -= 1

    def keeps(self, reason: Reason | None, now: Moment) -> None:
        """From now on this keeps more calls back; None: nothing does."""
        self._advance(now)
        self._why = None
        if reason is not None:
            self._why = self.kept.setdefault(reason.rule, Kept(reason.level, reason.detail))
            self._why.detail = reason.detail

    def close(self, now: Moment) -> None:
        """Nothing more follows."""
        self._advance(now)

    def _advance(self, now: Moment) -> None:
        """Count the time since the last change."""
        if self._why is not None:
            self._why.seconds += now.mono - self._at
        while self._at < now.mono:
            if self._at >= self._hour_ends:
                self._open_hour(now.wall - timedelta(seconds=now.mono - self._at))
            until = min(now.mono, self._hour_ends)
            passed = until - self._at
            if self.all.now:
                self.busy_seconds += passed
                self.hours[-1].call_seconds += passed * self.all.now
                for use in (self.all, *self.use.values()):
                    use.call_seconds += passed * use.now
            self._at = until
        if not self.hours or self._at >= self._hour_ends:
            self._open_hour(now.wall)

    def _open_hour(self, wall: datetime) -> None:
        local = wall.astimezone(self.zone)
        into = local.minute * 60 + local.second + local.microsecond / 1e6
        self._hour_ends = self._at + 3600.0 - into
        self.hours.append(Hour(local.replace(minute=0, second=0, microsecond=0), peak=self.all.now))
