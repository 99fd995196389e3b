"""Calling windows: the rules one by one, at moments chosen by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dialerd.core.settings import CampaignSettings
from dialerd.core.windows import Window, WindowMemo, lifetime, window

NEW_YORK = ZoneInfo("America/New_York")
LONDON = ZoneInfo("Europe/London")


def settings(hours: str = "09:00-17:00", **others: Any) -> CampaignSettings:
    start, end = hours.split("-")
    return CampaignSettings(calling_hours_start=start, calling_hours_end=end, **others)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def at(text: str, rules: CampaignSettings, *zones: ZoneInfo) -> tuple[bool, datetime | None]:
    answer = window(rules, zones, utc(text))
    return answer.open, answer.until


def test_opens_at_the_first_minute_and_is_closed_at_the_last() -> None:
    rules = settings()
    assert at("2026-11-23T08:59:59", rules) == (False, utc("2026-11-23T09:00"))
    assert at("2026-11-23T09:00", rules) == (True, utc("2026-11-23T17:00"))
    assert at("2026-11-23T16:59:59.999999", rules) == (True, utc("2026-11-23T17:00"))
    assert at("2026-11-23T17:00", rules) == (False, utc("2026-11-24T09:00"))


def test_no_zones_mean_the_campaigns_own() -> None:
    rules = settings(timezone="America/New_York")
    assert at("2026-11-23T13:59", rules) == (False, utc("2026-11-23T14:00"))
    assert at("2026-11-23T13:59", rules, LONDON) == (True, utc("2026-11-23T17:00"))


def test_now_may_be_told_in_any_zone_but_must_bear_one() -> None:
    rules = settings()
    there = utc("2026-11-23T10:00").astimezone(NEW_YORK)
    assert window(rules, (), there) == window(rules, (), utc("2026-11-23T10:00"))
    with pytest.raises(ValueError, match="aware"):
        window(rules, (), datetime(2026, 11, 23, 10))  # noqa: DTZ001


def test_equal_hours_are_the_whole_day_and_never_close() -> None:
    assert at("2026-11-23T03:00", settings("09:00-09:00")) == (True, None)


def test_whole_days_end_where_the_calling_days_end() -> None:
    weekdays = settings("00:00-00:00", calling_days=("mon", "tue", "wed", "thu", "fri"))
    assert at("2026-11-23T03:00", weekdays) == (True, utc("2026-11-28"))
    assert at("2026-11-28T03:00", weekdays) == (False, utc("2026-11-30"))


def test_whole_days_end_at_the_next_blackout_however_far() -> None:
    rules = settings("00:00-00:00", blackouts=(date(2020, 1, 1), date(9999, 12, 31), date(2040, 12, 25)))
    assert at("2026-11-23T03:00", rules, NEW_YORK) == (True, utc("2040-12-25T05:00"))
    assert at("2040-12-25T12:00", rules, NEW_YORK) == (False, utc("2040-12-26T05:00"))
    assert at("2041-01-01T12:00", rules, NEW_YORK) == (True, utc("9999-12-31T05:00"))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-27T21:59", (False, utc("2026-11-27T22:00"))),  # a Friday
        ("2026-11-27T23:00", (True, utc("2026-11-28T02:00"))),
        ("2026-11-28T01:59", (True, utc("2026-11-28T02:00"))),  # Friday's hours, though it is Saturday
        ("2026-11-28T02:00", (False, utc("2026-11-30T22:00"))),
        ("2026-11-30T01:00", (False, utc("2026-11-30T22:00"))),  # Monday, but the hours would be Sunday's
    ],
)
def test_hours_over_midnight_belong_to_the_day_they_began_on(now: str, expected: tuple[bool, datetime]) -> None:
    assert at(now, settings("22:00-02:00", calling_days=("mon", "tue", "wed", "thu", "fri"))) == expected


def test_blackout_over_midnight_takes_the_hours_that_began_on_it() -> None:
    rules = settings("22:00-02:00", blackouts=(date(2026, 12, 25),))
    assert at("2026-12-25T01:00", rules) == (True, utc("2026-12-25T02:00"))
    assert at("2026-12-25T23:00", rules) == (False, utc("2026-12-26T22:00"))
    assert at("2026-12-26T01:00", rules) == (False, utc("2026-12-26T22:00"))


def test_blackout_is_a_date_of_the_callee() -> None:
    rules = settings("00:00-00:00", blackouts=(date(2026, 12, 25),))
    auckland = ZoneInfo("Pacific/Auckland")
    assert at("2026-12-24T11:00", rules, auckland) == (False, utc("2026-12-25T11:00"))
    assert at("2026-12-24T11:00", rules, NEW_YORK) == (True, utc("2026-12-25T05:00"))


def test_start_in_the_gap_opens_at_the_first_moment_after_it() -> None:
    # New York goes from 02:00 straight to 03:00 at 07:00Z.
    assert at("2027-03-14T06:00", settings("02:30-17:00"), NEW_YORK) == (False, utc("2027-03-14T07:00"))


def test_end_in_the_gap_closes_at_the_gap() -> None:
    assert at("2027-03-14T06:00", settings("00:00-02:30"), NEW_YORK) == (True, utc("2027-03-14T07:00"))


def test_hours_that_lie_in_the_gap_do_not_exist_that_day() -> None:
    assert at("2027-03-14T06:00", settings("02:15-02:45"), NEW_YORK) == (False, utc("2027-03-15T06:15"))


def test_end_in_the_overlap_closes_reopens_and_closes_again() -> None:
    # New York goes from 02:00 back to 01:00 at 06:00Z: 01:00 to 01:30 comes twice.
    rules = settings("00:00-01:30")
    assert at("2026-11-01T05:00", rules, NEW_YORK) == (True, utc("2026-11-01T05:30"))
    assert at("2026-11-01T05:30", rules, NEW_YORK) == (False, utc("2026-11-01T06:00"))
    assert at("2026-11-01T06:00", rules, NEW_YORK) == (True, utc("2026-11-01T06:30"))
    assert at("2026-11-01T06:30", rules, NEW_YORK) == (False, utc("2026-11-02T05:00"))


def test_start_in_the_overlap_closes_again_where_the_clock_goes_back() -> None:
    rules = settings("01:30-17:00")
    assert at("2026-11-01T05:30", rules, NEW_YORK) == (True, utc("2026-11-01T06:00"))
    assert at("2026-11-01T06:00", rules, NEW_YORK) == (False, utc("2026-11-01T06:30"))


def test_a_day_that_a_zone_skipped_has_no_hours() -> None:
    # Samoa crossed the date line: 2011-12-29 24:00 local was 2011-12-31 00:00.
    assert at("2011-12-30T03:00", settings(), ZoneInfo("Pacific/Apia")) == (False, utc("2011-12-30T19:00"))


def test_all_zones_must_be_open_at_once() -> None:
    rules = settings()
    assert at("2026-11-23T10:00", rules, LONDON, NEW_YORK) == (False, utc("2026-11-23T14:00"))
    assert at("2026-11-23T15:00", rules, LONDON, NEW_YORK) == (True, utc("2026-11-23T17:00"))
    assert at("2026-11-23T15:00", rules, NEW_YORK, LONDON, NEW_YORK) == (True, utc("2026-11-23T17:00"))


def test_zones_that_share_no_hour_never_open() -> None:
    answer = window(settings("09:00-12:00"), (LONDON, ZoneInfo("Australia/Sydney")), utc("2026-11-23T10:00"))
    assert answer == Window(False, None, "09:00–12:00 in Australia/Sydney and 1 other zone, never opens")


def test_zones_that_share_an_hour_in_one_season_only_open_then() -> None:
    # 17:00 in London is 12:00 in New York, but for the weeks in which only one of them has changed its clocks.
    rules = settings("12:00-17:00")
    assert at("2026-11-23T10:00", rules, LONDON, NEW_YORK) == (False, utc("2027-03-14T16:00"))


def test_closed_before_start_at_and_opens_at_it_or_with_the_hours_after_it() -> None:
    inside = settings(start_at=utc("2026-11-24T12:34"))
    assert at("2026-11-23T12:00", inside) == (False, utc("2026-11-24T12:34"))
    assert at("2026-11-24T12:34", inside) == (True, utc("2026-11-24T17:00"))
    assert at("2026-11-23T12:00", settings(start_at=utc("2026-11-24T18:00"))) == (False, utc("2026-11-25T09:00"))


def test_closed_for_ever_from_end_at_on() -> None:
    rules = settings(end_at=utc("2026-11-24T12:34"))
    assert at("2026-11-24T12:00", rules) == (True, utc("2026-11-24T12:34"))
    assert at("2026-11-24T12:34", rules) == (False, None)


def test_opening_at_or_after_end_at_is_none() -> None:
    assert at("2026-11-23T18:00", settings(end_at=utc("2026-11-24T09:00"))) == (False, None)
    assert at("2026-11-23T18:00", settings(end_at=utc("2026-11-24T09:01"))) == (False, utc("2026-11-24T09:00"))


def test_end_at_closes_a_window_that_would_never_close() -> None:
    rules = settings("00:00-00:00", end_at=utc("2026-12-24T12:00"))
    assert at("2026-11-23T12:00", rules) == (True, utc("2026-12-24T12:00"))


def test_a_year_of_blackouts_opens_after_the_last() -> None:
    days = tuple(date(2026, 11, 23) + timedelta(days=n) for n in range(1000))
    assert at("2026-11-23T12:00", settings(blackouts=days)) == (False, utc("2029-08-19T09:00"))


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_ends_of_the_calendar_break_nothing(moment: str) -> None:
    extreme = datetime.fromisoformat(moment)
    past = extreme.year == 1
    started = window(settings(start_at=extreme), (ZoneInfo("Pacific/Apia"),), utc("2026-11-23T21:00"))
    assert (started.open, started.until) == ((True, utc("2026-11-24T04:00")) if past else (False, None))
    assert window(settings(end_at=extreme), (), utc("2026-11-23T10:00")).open is not past


@pytest.mark.parametrize(
    ("rules", "now", "words"),
    [
        (
            settings(timezone="America/New_York"),
            "2026-11-23T10:00",
            "09:00–17:00 in America/New_York, opens 2026-11-23 14:00Z (09:00 in America/New_York)",
        ),
        (
            settings(timezone="America/New_York"),
            "2026-11-23T15:00",
            "09:00–17:00 in America/New_York, closes 2026-11-23 22:00Z (17:00 in America/New_York)",
        ),
        (settings("00:00-00:00"), "2026-11-23T15:00", "all day in UTC"),
        (
            settings(calling_days=("mon",)),
            "2026-11-24T15:00",
            "tue is not a calling day, 09:00–17:00 in UTC, opens 2026-11-30 09:00Z (09:00 in UTC)",
        ),
        (
            settings("22:00-02:00", calling_days=("tue",)),
            "2026-11-24T01:00",
            "mon is not a calling day, 22:00–02:00 in UTC, opens 2026-11-24 22:00Z (22:00 in UTC)",
        ),
        (
            settings(blackouts=(date(2026, 12, 25),)),
            "2026-12-25T10:00",
            "2026-12-25 is a blackout, 09:00–17:00 in UTC, opens 2026-12-26 09:00Z (09:00 in UTC)",
        ),
        (
            settings(start_at=utc("2026-11-24T18:00")),
            "2026-11-23T10:00",
            "starts 2026-11-24 18:00Z (start_at), 09:00–17:00 in UTC, opens 2026-11-25 09:00Z (09:00 in UTC)",
        ),
        (
            settings(end_at=utc("2026-11-23T12:00")),
            "2026-11-23T10:00",
            "09:00–17:00 in UTC, ends 2026-11-23 12:00Z (end_at)",
        ),
        (settings(end_at=utc("2026-11-23T12:00")), "2026-11-23T12:00", "ended 2026-11-23 12:00Z (end_at)"),
        (
            settings(end_at=utc("2026-11-23T20:00")),
            "2026-11-23T18:00",
            "09:00–17:00 in UTC, does not open before it ends 2026-11-23 20:00Z (end_at)",
        ),
    ],
)
def test_detail_tells_an_administrator_why(rules: CampaignSettings, now: str, words: str) -> None:
    assert window(rules, (), utc(now)).detail == words


def test_detail_counts_the_other_zones() -> None:
    zones = (LONDON, NEW_YORK, ZoneInfo("America/Chicago"))
    assert window(settings(), zones, utc("2026-11-23T10:00")).detail == (
        "09:00–17:00 in America/New_York and 2 other zones, opens 2026-11-23 15:00Z (10:00 in America/New_York)"
    )


class TestMemo:
    def test_keeps_an_answer_until_it_changes(self) -> None:
        memo, rules = WindowMemo(), settings()
        first = memo.window(rules, (), utc("2026-11-23T10:00"))
        assert memo.window(settings(), (), utc("2026-11-23T16:59")) is first
        assert memo.window(rules, (), utc("2026-11-23T17:00")).open is False
        assert len(memo) == 1

    def test_keeps_never_for_good(self) -> None:
        memo, rules = WindowMemo(), settings("00:00-00:00")
        assert memo.window(rules, (), utc("2026-11-23T10:00")) is memo.window(rules, (), utc("2036-11-23T10:00"))

    def test_asks_anew_when_the_clock_jumped_back(self) -> None:
        memo, rules = WindowMemo(), settings()
        assert memo.window(rules, (), utc("2026-11-23T10:00")).open
        assert memo.window(rules, (), utc("2026-11-23T08:00")) == window(rules, (), utc("2026-11-23T08:00"))

    @pytest.mark.parametrize(
        "other",
        [
            settings("08:00-16:00"),
            settings("09:00-16:00"),
            settings(timezone="America/New_York"),
            settings(calling_days=("mon",)),
            settings(blackouts=(date(2026, 11, 24),)),
            settings(start_at=utc("2026-11-25T00:00")),
            settings(end_at=utc("2026-11-24T01:00")),
        ],
    )
    def test_tells_settings_apart(self, other: CampaignSettings) -> None:
        memo, now = WindowMemo(), utc("2026-11-23T18:00")
        assert memo.window(settings(), (), now) == window(settings(), (), now)
        assert memo.window(other, (), now) == window(other, (), now)
        assert len(memo) == 2

    def test_tells_zones_apart(self) -> None:
        memo, rules, now = WindowMemo(), settings(), utc("2026-11-23T10:00")
        assert memo.window(rules, (LONDON,), now).open
        assert not memo.window(rules, (LONDON, NEW_YORK), now).open

    def test_forgets_the_oldest_beyond_its_size(self) -> None:
        memo, now = WindowMemo(size=2), utc("2026-11-23T10:00")
        answers = [memo.window(settings(f"0{hour}:00-17:00"), (), now) for hour in range(3)]
        assert len(memo) == 2
        assert memo.window(settings("02:00-17:00"), (), now) is answers[2]
        assert memo.window(settings("01:00-17:00"), (), now) is answers[1]
        assert memo.window(settings("00:00-17:00"), (), now) is not answers[0]


def test_a_lifetime_asks_no_hours() -> None:
    rules = settings(start_at=utc("2026-11-23T03:00"), end_at=utc("2026-11-25T03:00"), calling_days=("sun",))
    assert lifetime(rules, utc("2026-11-23T02:59")).until == utc("2026-11-23T03:00")
    assert not lifetime(rules, utc("2026-11-23T02:59")).open
    within = lifetime(rules, utc("2026-11-23T03:00"))
    assert (within.open, within.until) == (True, utc("2026-11-25T03:00"))
    assert "09:00–17:00 in every zone" in within.detail
    assert lifetime(rules, utc("2026-11-25T03:00")) == Window(False, None, "ended 2026-11-25 03:00Z (end_at)")
    assert lifetime(settings(), utc("2026-11-25T03:00")).until is None
