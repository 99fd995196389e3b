"""core.phone: a number that is told plain without the numbering plans is one that they leave exactly as it is."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.core import phone
from dialerd.core.phone import BadNumber, is_plain, normalise

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


def by_the_plans(text: str) -> str | None:
    """What the library makes of a number; None where it refuses it."""
    try:
        return phone._parse(text, None, "possible")
    except BadNumber:
        return None


@given(st.sampled_from(CODES), st.text("0123456789", min_size=1, max_size=15))
def test_a_plain_number_is_left_as_it_is(code: int, number: str) -> None:
    text = f"+{code}{number}"
    if is_plain(text):
        assert by_the_plans(text) == text
    expected = by_the_plans(text)
    try:
        found: str | None = normalise(text, None)
    except BadNumber:
        found = None
    if expected == text:
        assert found == text


@given(st.text(max_size=20))
def test_nothing_else_is_plain(text: str) -> None:
    if is_plain(text):
        assert by_the_plans(text) == text


@pytest.mark.slow
@pytest.mark.parametrize("code", CODES)
def test_every_country_with_every_length_and_beginning(code: int) -> None:
    for length in range(3, 15 - len(str(code)) + 1):
        for beginning in range(1000):
            number = f"{beginning:03d}".ljust(length, "5")
            text = f"+{code}{number}"
            assert not is_plain(text) or by_the_plans(text) == text, text


def test_most_numbers_are_plain() -> None:
    for text in ("+12025550100", "+442079460000", "+4930123456", "+33142685300", "+61291234567", "+819012345678"):
        assert is_plain(text), text
