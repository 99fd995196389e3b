"""The zones of a number: the compact table against the library that it was made from."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from importlib.resources import files
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneNumber, PhoneNumberFormat, PhoneNumberType

import dialerd.core
from dialerd.clock import stream
from dialerd.core import zones
from dialerd.core.settings import CampaignSettings
from dialerd.core.zones import callee_zones, zones_of
from tests.support import zone_table
from tests.support.contacts import a_contact

NEW_YORK, LONDON = ZoneInfo("America/New_York"), ZoneInfo("Europe/London")
BY_NUMBER = CampaignSettings(contact_timezone="number", timezone="Asia/Tokyo")
LENGTHS = (8, 9, 10, 11, 12, 13)
"""Digits of nearly all numbers, the country code included."""


def asked(e164: str) -> tuple[str, ...]:
    """The library's answer; empty where it knows none, and where no country has given the number out."""
    from phonenumbers.timezone import UNKNOWN_TIMEZONE, time_zones_for_number

    found = time_zones_for_number(phonenumbers.parse(e164))
    return () if UNKNOWN_TIMEZONE in found else tuple(sorted(found))


def of_its_area(e164: str) -> tuple[str, ...]:
    from phonenumbers.timezone import time_zones_for_geographical_number

    return tuple(sorted(time_zones_for_geographical_number(phonenumbers.parse(e164))))


def spelled(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def examples() -> Iterator[str]:
    """A number of every kind in every country."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in PhoneNumberType.values():
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None:
                yield spelled(number)


def near(beginnings: list[str], seed: str, each: int) -> Iterator[str]:
    """Numbers that begin so, of every plausible length, with digits that a seed chooses."""
    chance = stream(seed)
    for beginning in beginnings:
        for _ in range(each):
            length = LENGTHS[int(chance() * len(LENGTHS))]
            number = beginning
            while len(number) < length:
                number += str(int(chance() * 10))
            yield f"+{number}"


def readable(numbers: Iterator[str]) -> Iterator[str]:
    """Those that the library reads as they stand."""
    for e164 in numbers:
        try:
            number = phonenumbers.parse(e164)
        except phonenumbers.NumberParseException:
            continue
        if spelled(number) == e164:
            yield e164


def test_the_table_is_the_one_that_the_library_gives_now() -> None:
    stored = files(dialerd.core).joinpath(zones.RESOURCE).read_text("utf-8")
    assert stored == zone_table.table(), "phonenumbers was upgraded: run python -m tests.support.zone_table"


def test_answers_as_the_library_for_every_kind_of_number_in_every_country() -> None:
    known = [(e164, wanted) for e164 in examples() if (wanted := asked(e164))]
    assert len(known) > 1000
    assert {e164: zones_of(e164) for e164, _ in known} == dict(known)


@pytest.mark.slow
def test_answers_as_the_library_around_every_beginning_that_the_table_names() -> None:
    from phonenumbers.tzdata import TIMEZONE_DATA

    given_out = 0
    for e164 in readable(near(sorted(TIMEZONE_DATA), "zones", 4)):
        wanted = asked(e164)
        given_out += bool(wanted)
        # A number that is not given out may be tomorrow: it never has fewer zones than its area.
        assert zones_of(e164) == wanted if wanted else set(zones_of(e164)) >= set(of_its_area(e164)), e164
    assert given_out > 2000


@pytest.mark.slow
def test_answers_as_the_library_where_a_country_has_several_zones() -> None:
    """Where the kind of a number decides: mobile, toll-free, premium … in every length, by the thousand."""
    codes = sorted(zones._table().country_wide)
    assert len(codes) > 15
    given_out, country_wide = 0, 0
    beginnings = [f"{code}{second}{third}" for code in codes for second in range(1, 10) for third in range(10)]
    for e164 in readable(near(beginnings, "several", 10)):
        if wanted := asked(e164):
            given_out += 1
            country_wide += wanted != of_its_area(e164)
            assert zones_of(e164) == wanted, e164
    assert given_out > 1500
    assert country_wide > 200


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("+12125550100", ("America/New_York",)),
        ("+13105550100", ("America/Los_Angeles",)),
        ("+442079460000", ("Europe/London",)),
        ("+81312345678", ("Asia/Tokyo",)),
        ("+61292341234", ("Australia/Sydney",)),
    ],
)
def test_a_geographic_number_lies_where_its_area_code_says(number: str, expected: tuple[str, ...]) -> None:
    assert zones_of(number) == expected


def test_a_number_of_no_place_lies_in_every_zone_of_its_country_code() -> None:
    toll_free = zones_of("+18002345678")
    assert len(toll_free) >= 40
    assert {"Pacific/Guam", "America/St_Johns", "Pacific/Honolulu"} <= set(toll_free)
    assert len(zones_of("+61412345678")) > 5


@pytest.mark.parametrize("number", ["+80012345678", "+870773111632", "+999123456789", "", "+", "anything"])
def test_no_zone_is_known_of_a_number_without_a_country(number: str) -> None:
    assert zones_of(number) == ()


def test_every_country_has_zones_and_zoneinfo_knows_them_all() -> None:
    without = {code for code in COUNTRY_CODE_TO_REGION_CODE if not zones_of(f"+{code}")}
    # Universal and satellite services (ITU-T E.164, 6.2.2 and 6.2.3) belong to no country.
    assert without == {800, 808, 870, 878, 881, 882, 883, 888, 979}
    for name in {name for names in zones._table().zones.values() for name in names}:
        assert ZoneInfo(name).key == name


def test_a_contact_s_own_zone_goes_before_its_number_s() -> None:
    own = a_contact(phone_number="+18002345678", timezone="Europe/London")
    assert callee_zones(BY_NUMBER, own) == (LONDON,)
    assert callee_zones(BY_NUMBER, a_contact(phone_number="+12125550100")) == (NEW_YORK,)


def test_where_numbers_are_not_asked_a_contact_is_in_its_own_zone_or_the_campaign_s() -> None:
    settings = CampaignSettings(timezone="America/New_York")
    assert callee_zones(settings, a_contact(phone_number="+81312345678")) == (NEW_YORK,)
    assert callee_zones(settings, a_contact(timezone="Europe/London")) == (LONDON,)


def test_zones_that_cannot_be_told_are_none() -> None:
    assert callee_zones(BY_NUMBER, a_contact(phone_number="+80012345678")) is None
    assert callee_zones(BY_NUMBER, a_contact(timezone="Mars/Olympus_Mons")) is None


def test_the_table_is_small_and_the_cache_is_bounded() -> None:
    for cached in (zones._table, zones._pattern, zones._places, zones_of):
        cached.cache_clear()
    tracemalloc.start()
    try:
        zones_of("+12025550100")
        table, _ = tracemalloc.get_traced_memory()
        for index in range(6000):
            zones_of(f"+1202555{index:04d}")
        full, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table < 1_500_000
    assert full < most < 3_000_000
    assert zones_of.cache_info().currsize == zones_of.cache_info().maxsize


def test_the_library_s_own_tables_stay_out_of_the_daemon() -> None:
    program = (
        "import sys, dialerd.core.zones as z; assert z.zones_of('+12025550100') == ('America/New_York',);"
        "print([name for name in sys.modules if name.startswith(('phonenumbers.t', 'phonenumbers.geo'))])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_zone_that_the_tz_database_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from phonenumbers.tzdata import TIMEZONE_DATA

    monkeypatch.setitem(TIMEZONE_DATA, "12", ("America/New_York", "Mars/Olympus_Mons"))
    with pytest.raises(ValueError, match="Mars/Olympus_Mons"):
        zone_table.table()
