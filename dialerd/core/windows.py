"""When a campaign may call: one answer per instant and the exact moment at which it changes.

An instant is open in a zone exactly when the zone's wall clock at that instant lies inside the calling hours of a
calling day. Both changes of the clocks follow from that alone: hours that fall into the gap do not exist that day (a
start in the gap opens at the first moment after it, an end in it closes at the last moment before it), and hours that
come twice count both times they come, so that nobody is ever called outside the hours that a callee's clock shows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import cycle
from math import ceil
from zoneinfo import ZoneInfo

from dialerd.core.settings import WEEKDAYS, CampaignSettings, Weekday

_DAY = timedelta(days=1)
_NEAR = timedelta(days=2)
"""More than any change of a zone's offset has ever moved a clock: at most 24 h, at the date line."""
_HORIZON = timedelta(days=400)
"""A year of all seasons: zones that share no hour in it share none."""


@dataclass(frozen=True, slots=True)
class Window:
    """Whether calls may be placed at one instant, in words too, and until when the answer holds.

    ``until`` (aware, UTC) is the moment at which ``open`` changes: the first moment that is closed again, or the first
    that is open. None: never.
    """

    open: bool
    until: datetime | None
    detail: str


def window(settings: CampaignSettings, zones: Sequence[ZoneInfo], now: datetime) -> Window:
    """Tell whether a campaign may call at ``now`` (aware) where all of ``zones`` must be inside the calling hours.

    No zones mean the campaign's own. Hours after midnight belong to the day on which they began, for ``calling_days``
    and ``blackouts`` alike. Raises ValueError where ``now`` bears no zone.
    """
    if now.tzinfo is None:
        raise ValueError("now must be aware")
    now = _utc(now)
    start = None if settings.start_at is None else _utc(settings.start_at)
    end = None if settings.end_at is None else _utc(settings.end_at)
    hours = _hours(settings.calling_hours_start, settings.calling_hours_end, settings.calling_days, settings.blackouts)
    places = tuple(dict.fromkeys(zones)) or (settings.zone(),)
    if end is not None and now >= end:
        return Window(False, None, f"ended {_stamp(end)} (end_at)")
    if start is not None and now < start:
        opens = _next_opening(hours, places, start)
        return _closed(opens, end, places[0], f"starts {_stamp(start)} (start_at), {_among(hours, places[0], places)}")
    for zone in places:
        local = _local(zone, now)
        if not hours.include(local):
            opens = _next_opening(hours, places, now)
            why = hours.why_not(local)
            return _closed(opens, end, zone, f"{why}{_among(hours, zone, places)}")
    return _open(hours, places, now, end)


def lifetime(settings: CampaignSettings, now: datetime) -> Window:
    """Tell whether ``now`` (aware) lies between ``start_at`` and ``end_at``, at whatever hour.

    It is all that can be said of a campaign as a whole whose contacts are each called in their own hours.
    """
    if settings.end_at is not None and now >= settings.end_at:
        return Window(False, None, f"ended {_stamp(settings.end_at)} (end_at)")
    if settings.start_at is not None and now < settings.start_at:
        return Window(False, settings.start_at, f"starts {_stamp(settings.start_at)} (start_at)")
    hours = _hours(settings.calling_hours_start, settings.calling_hours_end, settings.calling_days, settings.blackouts)
    ends = "" if settings.end_at is None else f", ends {_stamp(settings.end_at)} (end_at)"
    return Window(True, settings.end_at, f"{hours.name} in every zone that a contact may be in, asked of each{ends}")


class WindowMemo:
    """The latest answers of :func:`window`, each kept until the moment at which it changes; bounded.

    The ``detail`` of a kept answer is that of the moment it was first asked at. A wall clock that jumps back asks anew.
    """

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._kept: dict[tuple[object, ...], tuple[datetime, Window]] = {}

    def window(self, settings: CampaignSettings, zones: Sequence[ZoneInfo], now: datetime) -> Window:
        """Answer as :func:`window` does."""
        key = (
            settings.calling_hours_start,
            settings.calling_hours_end,
            settings.calling_days,
            settings.blackouts,
            settings.timezone,
            settings.start_at,
            settings.end_at,
            *zones,
        )
        asked, answer = self._kept.get(key, (None, None))
        if asked is not None and answer is not None and asked <= now and (answer.until is None or now < answer.until):
            return answer
        answer = window(settings, zones, now)
        self._kept.pop(key, None)
        if len(self._kept) >= self._size:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (now, answer)
        return answer

    def __len__(self) -> int:
        return len(self._kept)


@dataclass(frozen=True, slots=True)
class _Hours:
    """The calling hours on the wall clock, without any zone: all times here are naive and local."""

    name: str
    opens: timedelta
    """After midnight."""
    length: timedelta
    days: frozenset[int]
    blackouts: frozenset[date]

    def include(self, local: datetime) -> bool:
        return self._begun_on(local) is not None

    def next_change(self, local: datetime) -> datetime | None:
        """The first moment of the wall clock after ``local`` at which ``include`` changes; None: never."""
        day = self._begun_on(local)
        if day is None:
            return next(begin for begin in self._beginnings(local.date()) if begin > local)
        if self.length < _DAY:
            return _midnight(day) + self.opens + self.length
        if len(self.days) == len(WEEKDAYS):
            ahead = [blackout for blackout in self.blackouts if blackout > day]
            return _midnight(min(ahead)) if ahead else None
        while self._calls_on(day):
            day += _DAY
        return _midnight(day)

    def why_not(self, local: datetime) -> str:
        """Name the day that keeps a closed moment closed; empty where only the hour does."""
        past_midnight = self.opens + self.length - _DAY
        day = local.date() if local - _midnight(local.date()) >= past_midnight else local.date() - _DAY
        if day in self.blackouts:
            return f"{day} is a blackout, "
        if day.weekday() not in self.days:
            return f"{WEEKDAYS[day.weekday()]} is not a calling day, "
        return ""

    def _begun_on(self, local: datetime) -> date | None:
        """The day on which the open stretch around ``local`` began; None where ``local`` is closed."""
        today = local.date()
        since_opening = local - _midnight(today) - self.opens
        if timedelta() <= since_opening < self.length and self._calls_on(today):
            return today
        yesterday = today - _DAY
        if since_opening + _DAY < self.length and self._calls_on(yesterday):
            return yesterday
        return None

    def _beginnings(self, day: date) -> Iterator[datetime]:
        while True:
            if self._calls_on(day):
                yield _midnight(day) + self.opens
            day += _DAY

    def _calls_on(self, day: date) -> bool:
        return day.weekday() in self.days and day not in self.blackouts


@lru_cache(maxsize=1024)
def _hours(start: str, end: str, days: tuple[Weekday, ...], blackouts: tuple[date, ...]) -> _Hours:
    opens, closes = _of_day(start), _of_day(end)
    whole_day = opens == closes
    return _Hours(
        name="all day" if whole_day else f"{start}–{end}",
        opens=timedelta() if whole_day else opens,
        length=_DAY if whole_day else (closes - opens) % _DAY,
        days=frozenset(WEEKDAYS.index(day) for day in days),
        blackouts=frozenset(blackouts),
    )


def _open(hours: _Hours, zones: tuple[ZoneInfo, ...], now: datetime, end: datetime | None) -> Window:
    closings = [(closing, zone) for zone in zones if (closing := _next_change(hours, zone, now)) is not None]
    closing, zone = min(closings, key=lambda pair: pair[0], default=(None, zones[0]))
    among = _among(hours, zone, zones)
    if end is not None and (closing is None or end <= closing):
        return Window(True, end, f"{among}, ends {_stamp(end)} (end_at)")
    if closing is None:
        return Window(True, None, among)
    return Window(True, closing, f"{among}, closes {_moment(closing, zone)}")


def _closed(opens: datetime | None, end: datetime | None, zone: ZoneInfo, why: str) -> Window:
    if opens is None:
        return Window(False, None, f"{why}, never opens")
    if end is not None and opens >= end:
        return Window(False, None, f"{why}, does not open before it ends {_stamp(end)} (end_at)")
    return Window(False, opens, f"{why}, opens {_moment(opens, zone)}")


def _next_opening(hours: _Hours, zones: tuple[ZoneInfo, ...], after: datetime) -> datetime | None:
    """The first instant from ``after`` on at which all zones are open: each in turn moves it to its own opening."""
    try:
        # A blackout only ever takes its own day, so the horizon still holds a whole year of days that are none.
        horizon = after + _HORIZON + _DAY * len(hours.blackouts)
        at, agreed = after, 0
        for zone in cycle(zones):
            if hours.include(_local(zone, at)):
                agreed += 1
            else:
                opening = _next_change(hours, zone, at)
                if opening is None or opening > horizon:
                    return None
                at, agreed = opening, 1
            if agreed == len(zones):
                return at
    except OverflowError:  # a start_at on the last days of the calendar
        pass
    return None


def _next_change(hours: _Hours, zone: ZoneInfo, at: datetime) -> datetime | None:
    """The first instant after ``at`` at which a zone opens or closes; None: never."""
    is_open = hours.include(_local(zone, at))
    while True:
        local = _local(zone, at)
        change = hours.next_change(local)
        if change is None:
            return None
        candidate = (change - (local - at.replace(tzinfo=None))).replace(tzinfo=UTC)
        # The wall clock runs evenly up to the candidate unless the zone's offset changes first. A change of offset far
        # from both ends of the stretch cannot leave the stretch, so it need not be looked for.
        shift = _transition(zone, at, min(candidate, at + _NEAR))
        if shift is not None:
            if hours.include(_local(zone, shift)) != is_open:
                return shift
            at = shift
        elif candidate <= at + _NEAR:
            return candidate
        else:
            at = candidate - _NEAR


def _transition(zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The instant in (after, until], no longer than _NEAR, at which a zone's offset from UTC changes; None: none.

    Since 1972 no zone has changed twice within four days (tzdata 2026f), so two readings tell. Offsets change on whole
    seconds.
    """
    before = _offset(zone, after)
    if _offset(zone, until) == before:
        return None
    floor = after.replace(microsecond=0)
    seconds = range(ceil((until - floor).total_seconds()) + 1)
    return floor + timedelta(
        seconds=bisect_left(seconds, True, key=lambda s: _offset(zone, floor + timedelta(seconds=s)) != before)
    )


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # the first or last hours of the calendar, in another zone
        return datetime.min.replace(tzinfo=UTC) if moment.year == 1 else datetime.max.replace(tzinfo=UTC)


def _local(zone: ZoneInfo, at: datetime) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    return _local(zone, at) - at.replace(tzinfo=None)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a wall clock's reading, of no zone


def _of_day(text: str) -> timedelta:
    at = time.fromisoformat(text)
    return timedelta(hours=at.hour, minutes=at.minute)


def _among(hours: _Hours, zone: ZoneInfo, zones: tuple[ZoneInfo, ...]) -> str:
    others = len(zones) - 1
    more = f" and {others} other zone{'s' if others > 1 else ''}" if others else ""
    return f"{hours.name} in {zone.key}{more}"


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}Z"


def _moment(at: datetime, zone: ZoneInfo) -> str:
    return f"{_stamp(at)} ({_local(zone, at):%H:%M} in {zone.key})"
