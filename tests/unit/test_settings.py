"""Campaign settings: what each field takes and what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from dialerd.core.outcome import NEVER_RETRIED, Outcome
from dialerd.core.settings import DEFAULT_RETRY, MOST_BYTES, CampaignSettings, RetryRule
from dialerd.core.zone_names import known_zone


def refused(**settings: Any) -> list[tuple[tuple[int | str, ...], str]]:
    """The fields that a refusal names, each with its message."""
    with pytest.raises(ValidationError) as caught:
        CampaignSettings.model_validate(settings)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


def test_defaults_are_those_of_the_published_references() -> None:
    settings = CampaignSettings()
    assert (settings.calling_hours_start, settings.calling_hours_end, settings.timezone) == ("09:00", "17:00", "UTC")
    assert (settings.concurrent_calls, settings.max_retries) == (1, 3)
    assert (settings.answer_timeout, settings.max_call_seconds) == (30, 3600)
    assert settings.calling_days == ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    assert settings.keep_open is False


@pytest.mark.parametrize(
    "settings",
    [
        {"calling_hours_start": "00:00", "calling_hours_end": "23:59"},
        {"timezone": "America/Argentina/Buenos_Aires"},
        {"calling_days": ["sun"]},
        {"blackouts": ["2026-12-25", "2027-01-01"]},
        {"contact_timezone": "number"},
        {"concurrent_calls": 100_000},
        {"max_retries": 0},
        {"answer_timeout": 5},
        {"max_call_seconds": 1},
        {"retry": {"busy": {"delay_seconds": 0, "factor": 1, "most": 0}}},
        {"caller_ids": ["+12025550199"], "trunks": ["a", "b"]},
        {"max_calls_per_second": 0.1},
        {"priority": 10, "weight": 1000},
        {"max_attempts_per_day": 1},
        {"start_at": "2030-01-31T09:00:00Z", "end_at": "2030-01-31T12:00:00+02:00"},
        {"keep_open": True},
        {"variables": {"Offer_7": 'any words, even "these"'}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_good_settings_come_back_from_json_as_they_were(settings: dict[str, Any]) -> None:
    read = CampaignSettings.model_validate(settings)
    assert read != CampaignSettings()
    assert CampaignSettings.model_validate_json(json.dumps(read.to_json())) == read


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            (field, value)
            for field in ("calling_hours_start", "calling_hours_end")
            for value in ("24:00", "9:00", "09:60", "09:00:00", "09:00\n", " 09:00", "٠٩:٠٠", "", 900, None)
        ],
        *[("timezone", value) for value in ("", "Mars/Olympus", "../UTC", "localtime", "+02:00", "utc", None)],
        *[("calling_days", value) for value in ([], ["monday"], ["Mon"], "mon", [1])],
        *[("blackouts", value) for value in (["2026-02-29"], ["25.12.2026"], "2026-12-25", ["2026-12-25T10:00:00"])],
        *[("contact_timezone", value) for value in ("local", None)],
        *[("concurrent_calls", value) for value in (0, -1, 100_001, 1.5, "many", None)],
        *[("max_retries", value) for value in (-1, 101, 0.5, None)],
        *[("answer_timeout", value) for value in (4.9, 301, float("nan"), float("inf"), None)],
        *[("max_call_seconds", value) for value in (0, 86401, None)],
        *[("max_calls_per_second", value) for value in (0, -1, 10_001, float("nan"))],
        *[("priority", value) for value in (-1, 11, None)],
        *[("weight", value) for value in (0, 1001, float("nan"))],
        *[("max_attempts_per_day", value) for value in (0, 101)],
        *[("start_at", value) for value in ("2030-01-31T09:00:00", "2030-01-31", "tomorrow")],
        *[("end_at", value) for value in ("2030-01-31T09:00:00", "2030-13-31T09:00:00Z")],
        *[("caller_ids", value) for value in ("+12025550199", [7])],
        *[("trunks", value) for value in ("carrier-a", None)],
        *[("keep_open", value) for value in ("perhaps", None)],
        *[("variables", {name: "x"}) for name in ("", "7up", "a-b", "SHELL(id)", "_x", "a" * 65, "näme", "a\n")],
        ("variables", {"name": 7}),
        *[
            ("variables", {"name": value})
            for value in ("two\nlines", "\x00", "\u2028", "x" * 901, "я" * 451, "'" * 251)
        ],
        ("variables", {f"v{index}": "x" for index in range(26)}),
        *[("retry", {outcome.value: {"delay_seconds": 60}}) for outcome in sorted(NEVER_RETRIED)],
        ("call_hours", "09:00"),
    ],
    ids=repr,
)
def test_bad_values_are_refused_by_the_name_of_their_field(field: str, value: object) -> None:
    assert {place[0] for place, _ in refused(**{field: value})} == {field}


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({}, "delay_seconds"),
        ({"delay_seconds": -1}, "delay_seconds"),
        ({"delay_seconds": 30 * 86400 + 1}, "delay_seconds"),
        ({"delay_seconds": float("nan")}, "delay_seconds"),
        ({"delay_seconds": 60, "factor": 0.9}, "factor"),
        ({"delay_seconds": 60, "factor": 10.1}, "factor"),
        ({"delay_seconds": 60, "most": -1}, "most"),
        ({"delay_seconds": 60, "most": 101}, "most"),
        ({"delay_seconds": 60, "tries": 3}, "tries"),
    ],
)
def test_bad_retry_rules_are_refused_by_their_key(rule: dict[str, Any], key: str) -> None:
    assert [place for place, _ in refused(retry={"busy": rule})] == [("retry", "busy", key)]


def test_an_unknown_outcome_has_no_rule() -> None:
    assert [place[:2] for place, _ in refused(retry={"asleep": {"delay_seconds": 60}})] == [("retry", "asleep")]


def test_all_errors_are_told_at_once() -> None:
    told = refused(calling_hours_start="late", concurrent_calls=0, timezone="Nowhere", speed=9)
    assert {place for place, _ in told} == {("calling_hours_start",), ("concurrent_calls",), ("timezone",), ("speed",)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"calling_hours_end": "5pm"}, "must be a time of day as HH:MM, 00:00 to 23:59"),
        ({"timezone": "Nowhere"}, "'Nowhere' is not an IANA time zone, such as Europe/London"),
        ({"calling_days": []}, "must name at least one day"),
        ({"retry": {"answered": {"delay_seconds": 1}}}, "answered is never retried"),
        ({"variables": {"a b": ""}}, "'a b': a variable's name has letters, digits and _ only, 64 at most"),
        ({"start_at": "2030-01-31T09:00:00"}, "must carry a time zone, such as 2030-01-31T09:00:00Z"),
    ],
)
def test_refusals_say_what_is_asked_for(settings: dict[str, Any], words: str) -> None:
    assert [message for _, message in refused(**settings)] == [f"Value error, {words}"]


def test_what_was_stored_before_variables_had_bounds_can_still_be_read() -> None:
    old = {"variables": {f"v{index}": "two\nlines" * 110 for index in range(50)}}
    assert CampaignSettings.stored(old).to_json()["variables"] == old["variables"]
    assert [place for place, _ in refused(**old)] == [("variables", name) for name in old["variables"]]


@pytest.mark.parametrize("end", ["2030-01-31T09:00:00Z", "2030-01-31T10:00:00+02:00"])
def test_end_at_must_come_after_start_at(end: str) -> None:
    told = refused(start_at="2030-01-31T09:00:00Z", end_at=end)
    assert told == [((), "Value error, end_at must come after start_at")]


def test_calling_days_are_kept_once_and_in_order() -> None:
    assert CampaignSettings.model_validate({"calling_days": ["sun", "mon", "sun"]}).calling_days == ("mon", "sun")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trunks", [f"trunk-{number}" for number in range(101)]),
        ("trunks", ["trunk"] * 200_000),
        ("trunks", ["x" * 65]),
        ("caller_ids", [f"+1202{number:07}" for number in range(1001)]),
        ("caller_ids", ["+1" * 1000]),
        ("calling_days", ["mon"] * 8),
        ("blackouts", ["2026-12-25"] * 1001),
        ("timezone", "x" * 65),
        ("calling_hours_start", "0" * 33),
        ("variables", {f"name{number}": "x" for number in range(101)}),
        ("variables", {"name": "x" * 1001}),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_no_list_and_no_text_is_longer_than_anybody_needs(field: str, value: Any) -> None:
    assert {place[0] for place, _ in refused(**{field: value})} == {field}


@pytest.mark.parametrize("letter", ["x", "\x01", '"', "é", "😀"])
def test_all_settings_together_have_a_bound_in_bytes(letter: str) -> None:
    caller_ids = [f"+1202555{number:04}" for number in range(1000)]
    blackouts = [f"20{number // 12:02}-{number % 12 + 1:02}-01" for number in range(1000)]
    others = {"caller_ids": caller_ids, "blackouts": blackouts}
    sizes = [
        size_of({"variables": {f"v{n}": letter * 1000 for n in range(count)}, **others}) for count in range(0, 101, 5)
    ]
    assert max(size for size in sizes if size is not None) <= MOST_BYTES


def size_of(settings: dict[str, Any]) -> int | None:
    """The bytes of settings as JSON; None where they are refused for it."""
    try:
        return len(CampaignSettings.model_validate(settings).model_dump_json().encode())
    except ValidationError:
        return None


@pytest.mark.parametrize("field", ["trunks", "caller_ids", "blackouts"])
def test_repeats_say_nothing_and_are_not_kept(field: str) -> None:
    values = ["2026-12-25", "2026-12-24", "2026-12-25"]
    assert CampaignSettings.model_validate({field: values}).to_json()[field] == values[:2]


def test_settings_that_an_earlier_version_took_are_cut_down_to_the_bounds() -> None:
    stored = {
        "concurrent_calls": 7,
        "trunks": ["b"] * 200_000 + [f"trunk-{number}" for number in range(200)],
        "caller_ids": [f"+1202{number:07}" for number in range(3000)],
        "variables": {"small": "kept", "large": "x" * 7_000_000},
    }
    read = CampaignSettings.stored(stored)
    assert read.concurrent_calls == 7
    assert read.trunks == ("b", *(f"trunk-{number}" for number in range(99)))
    assert read.caller_ids == tuple(stored["caller_ids"][:1000])  # type: ignore[index]
    assert read.variables == {"small": "kept", "large": "x" * 1000}
    assert "blackouts" not in read.model_fields_set


def test_many_variables_that_an_earlier_version_took_are_kept_as_far_as_they_have_room() -> None:
    stored = {"variables": {f"v{number}": "\x01" * 1000 for number in range(100)}}
    kept = CampaignSettings.stored(stored).variables
    assert 5 < len(kept) < 15
    assert kept.items() <= stored["variables"].items()


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CampaignSettings().max_retries = 9  # type: ignore[misc]


def test_hours_zone_and_dates_are_read() -> None:
    settings = CampaignSettings.model_validate(
        {
            "calling_hours_start": "08:30",
            "calling_hours_end": "21:05",
            "timezone": "Europe/London",
            "blackouts": ["2026-12-25"],
            "start_at": "2030-01-31T09:00:00+01:00",
        }
    )
    assert (settings.opens(), settings.closes()) == (time(8, 30), time(21, 5))
    assert settings.zone() is ZoneInfo("Europe/London")
    assert settings.blackouts == (date(2026, 12, 25),)
    assert settings.start_at == datetime(2030, 1, 31, 8, tzinfo=UTC)


def test_a_rule_of_the_campaign_goes_before_the_default() -> None:
    mine = RetryRule(delay_seconds=7)
    settings = CampaignSettings(retry={Outcome.BUSY: mine})
    assert settings.rule_for(Outcome.BUSY) == mine
    assert settings.rule_for(Outcome.NO_ANSWER) == DEFAULT_RETRY[Outcome.NO_ANSWER]


def test_every_outcome_has_a_default_rule_or_is_never_retried() -> None:
    assert set(DEFAULT_RETRY) == set(Outcome) - NEVER_RETRIED
    assert {outcome for outcome in Outcome if CampaignSettings().rule_for(outcome) is None} == NEVER_RETRIED


def test_known_zone_takes_links_and_refuses_what_is_no_zone() -> None:
    assert known_zone("Asia/Calcutta") == "Asia/Calcutta"
    for name in ("Factory", "posixrules", "Asia", "asia/kolkata"):
        with pytest.raises(ValueError, match="not an IANA time zone"):
            known_zone(name)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_moment_outside_the_calendar_is_refused_by_name(moment: str) -> None:
    with pytest.raises(ValidationError, match=r"start_at\n.*outside the years"):
        CampaignSettings.model_validate({"start_at": moment})
