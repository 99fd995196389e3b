"""Calling windows against an oracle that knows nothing but the wall clock: every minute of a year, in twenty zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.core.settings import WEEKDAYS, CampaignSettings
from dialerd.core.windows import window

MINUTE = timedelta(minutes=1)
HALF_HOUR = 30
"""Minutes. No zone has changed its offset more than once, or anywhere but at its edges, in half an hour since 2000."""
MINUTES = 366 * 1440
MARGIN = 2 * 1440

ZONES = (
    "UTC",
    "America/New_York",
    "America/Los_Angeles",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Santiago",
    "Atlantic/Azores",
    "Europe/London",
    "Europe/Dublin",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Asia/Tehran",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Honolulu",
)

RULES = (
    CampaignSettings(),
    CampaignSettings(calling_hours_start="01:10", calling_hours_end="02:25", calling_days=("sat", "sun", "mon")),
    CampaignSettings(calling_hours_start="21:40", calling_hours_end="02:20", calling_days=("sat", "sun", "wed")),
    CampaignSettings(
        calling_hours_start="00:00",
        calling_hours_end="00:00",
        calling_days=("mon", "tue", "thu", "fri", "sun"),
        blackouts=(date(2027, 1, 1), date(2027, 3, 14), date(2026, 12, 25)),
    ),
    CampaignSettings(calling_hours_start="02:01", calling_hours_end="02:00", blackouts=(date(2027, 3, 28),)),
)


def membership(rules: CampaignSettings, day: date, minute: int) -> bool:
    """Whether a reading of the wall clock lies in the calling hours: the definition, said as plainly as can be."""
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in (rules.calling_hours_start, rules.calling_hours_end))
    if start > end and minute < end:
        day -= timedelta(days=1)
    elif start != end and not (start <= minute < end if start < end else minute >= start):
        return False
    return WEEKDAYS[day.weekday()] in rules.calling_days and day not in rules.blackouts


def pattern(rules: CampaignSettings, first: datetime) -> bytes:
    """Membership of every minute of the wall clock, from a margin before ``first`` on."""
    first_day = first.date() - timedelta(minutes=MARGIN)
    rows: dict[tuple[int, bool, bool], bytes] = {}
    days = [first_day + timedelta(days=n) for n in range((MINUTES + 2 * MARGIN) // 1440)]
    alike = [(day.weekday(), day in rules.blackouts, day - timedelta(days=1) in rules.blackouts) for day in days]
    for kind, day in zip(alike, days, strict=True):
        if kind not in rows:
            rows[kind] = bytes(membership(rules, day, minute) for minute in range(1440))
    return b"".join(rows[kind] for kind in alike)


@lru_cache(maxsize=64)
def readings(name: str, first: datetime) -> tuple[int, ...]:
    """What the wall clock shows at each half hour from ``first`` on, as minutes since a margin before ``first``."""
    zone, origin = ZoneInfo(name), first.replace(tzinfo=None) - timedelta(minutes=MARGIN)
    half_hours = (first + HALF_HOUR * n * MINUTE for n in range(MINUTES // HALF_HOUR))
    return tuple((half_hour.astimezone(zone).replace(tzinfo=None) - origin) // MINUTE for half_hour in half_hours)


def oracle(rules: CampaignSettings, name: str, first: datetime, of_clock: bytes) -> bytes:
    return b"".join(of_clock[reading : reading + HALF_HOUR] for reading in readings(name, first))


def walk(rules: CampaignSettings, zones: tuple[str, ...], first: datetime, expected: bytes) -> int:
    """Go from one ``until`` to the next and compare every minute between; return the number of answers."""
    at, answers, places = 0, 0, [ZoneInfo(name) for name in zones]
    while at < len(expected):
        now = first + at * MINUTE
        answer = window(rules, places, now)
        if answer.until is None:
            assert answer.open, f"never opens after {now}"
            until = len(expected)
        else:
            assert (answer.until - first) % MINUTE == timedelta(), f"no whole minute at {now}: {answer}"
            until = (answer.until - first) // MINUTE
        assert until > at, f"stands still at {now}: {answer}"
        told = expected[at:until]
        assert told == bytes([answer.open]) * len(told), f"wrong at {now}: {answer}"
        if until < len(expected):
            assert expected[until] != answer.open, f"nothing changes at the end of {answer}"
        at, answers = until, answers + 1
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULES, ids=lambda r: f"{r.calling_hours_start}-{r.calling_hours_end}")
def test_every_minute_of_a_year_in_twenty_zones(rules: CampaignSettings) -> None:
    first = datetime(2026, 11, 1, tzinfo=UTC)
    of_clock = pattern(rules, first)
    for name in ZONES:
        assert walk(rules, (name,), first, oracle(rules, name, first, of_clock)) > 100


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("Pacific/Apia", 2011),  # skips a day
        ("America/Caracas", 2016),  # half an hour forward, for good
        ("Asia/Pyongyang", 2015),
        ("America/Sao_Paulo", 2018),  # midnight does not exist on one day, and comes twice on another
        ("Asia/Tehran", 2021),
        ("Africa/Casablanca", 2012),  # four changes in one year
        ("Antarctica/Casey", 2010),
        ("Europe/Dublin", 2024),
    ],
)
def test_every_minute_of_a_year_in_which_the_clocks_did_something_odd(name: str, year: int) -> None:
    first = datetime(year, 1, 1, tzinfo=UTC)
    for rules in RULES[:3]:
        walk(rules, (name,), first, oracle(rules, name, first, pattern(rules, first)))


@pytest.mark.parametrize(
    "zones",
    [
        ("America/New_York", "America/Los_Angeles", "Pacific/Honolulu"),
        ("Europe/London", "America/New_York"),
        ("Africa/Casablanca", "Antarctica/Troll", "Europe/Dublin"),
        ("Australia/Lord_Howe", "Pacific/Chatham"),
    ],
)
def test_every_minute_of_a_year_in_several_zones_at_once(zones: tuple[str, ...]) -> None:
    rules = CampaignSettings(
        calling_hours_start="08:10", calling_hours_end="20:35", calling_days=("mon", "tue", "wed", "sun")
    )
    first = datetime(2026, 11, 1, tzinfo=UTC)
    of_clock = pattern(rules, first)
    all_open = -1
    for name in zones:
        all_open &= int.from_bytes(oracle(rules, name, first, of_clock), "big")
    assert walk(rules, zones, first, all_open.to_bytes(MINUTES, "big")) > 100


hhmm = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
instants = st.datetimes(datetime(2000, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
schedules = st.builds(
    CampaignSettings,
    calling_hours_start=hhmm,
    calling_hours_end=hhmm,
    calling_days=st.sets(st.sampled_from(WEEKDAYS), min_size=1).map(tuple),
    blackouts=st.lists(st.dates(date(2000, 1, 1), date(2036, 1, 1)), max_size=3).map(tuple),
)


def is_open(rules: CampaignSettings, names: list[str], at: datetime) -> bool:
    clocks = [at.astimezone(ZoneInfo(name)) for name in names]
    inside = all(membership(rules, clock.date(), clock.hour * 60 + clock.minute) for clock in clocks)
    started = rules.start_at is None or at >= rules.start_at
    return inside and started and (rules.end_at is None or at < rules.end_at)


@given(
    rules=schedules,
    names=st.lists(st.sampled_from(ZONES), min_size=1, max_size=3),
    now=instants,
    starts=st.none() | st.timedeltas(timedelta(days=-9), timedelta(days=9)),
    lasts=st.none() | st.timedeltas(timedelta(minutes=1), timedelta(days=9)),
)
def test_any_answer_holds_to_the_microsecond_until_it_changes(
    rules: CampaignSettings, names: list[str], now: datetime, starts: timedelta | None, lasts: timedelta | None
) -> None:
    start = None if starts is None else now + starts
    end = None if lasts is None else (start or now) + lasts
    rules = rules.model_copy(update={"start_at": start, "end_at": end})
    answer = window(rules, [ZoneInfo(name) for name in names], now)
    assert answer.open is is_open(rules, names, now)
    if answer.until is None:
        beyond = 9 * 24 * 60 // 7
        assert all(is_open(rules, names, now + 7 * n * MINUTE) is answer.open for n in range(beyond))
        return
    assert answer.until > now
    assert answer.until.tzinfo is UTC
    assert is_open(rules, names, answer.until) is not answer.open
    assert is_open(rules, names, answer.until - timedelta(microseconds=1)) is answer.open
    between = (answer.until - now) / 40
    assert all(is_open(rules, names, now + n * between) is answer.open for n in range(40))
