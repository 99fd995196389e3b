"""Whatever text comes: a number in E.164 that stays itself, or BadNumber; and names that only we choose."""

from __future__ import annotations

import re

import phonenumbers
from hypothesis import example, given
from hypothesis import strategies as st

from dialerd.core.phone import BadNumber, Validation, digits, format_dial, national, normalise
from dialerd.core.variables import variable_name

E164 = re.compile(r"\+[1-9][0-9]{1,14}")
REGIONS = st.none() | st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS))
VALIDATION = st.sampled_from(["possible", "valid"])
TEXTS = (
    st.text(max_size=90) | st.text("+0123456789 ()-./x#,;extEtl:０１٢", max_size=25) | st.from_regex(r"\+?[0-9]{3,17}")
)


@given(TEXTS, REGIONS, VALIDATION)
@example("+49 (0)30 110", None, "possible")
@example("+7 8 8 4951234567", None, "possible")
@example("+" + "3" * 17, None, "possible")
def test_a_number_or_a_reason(text: str, region: str | None, validate: Validation) -> None:
    try:
        e164 = normalise(text, region, validate)
    except BadNumber:
        return
    assert E164.fullmatch(e164)
    assert normalise(e164, None, validate) == e164
    assert normalise(e164, "IT", validate) == e164
    # No digit appears or moves: what is dialled is what was written, but for prefixes.
    written = "".join(str(int(char)) for char in text if char.isdecimal())
    assert written.endswith(national(e164).lstrip("0")[-4:])


@given(st.integers(0, 240), st.integers(0, 10**6))
def test_every_country_s_example_survives_every_spelling(index: int, seed: int) -> None:
    regions = sorted(phonenumbers.SUPPORTED_REGIONS)
    number = phonenumbers.example_number_for_type(regions[index % len(regions)], seed % 3)
    if number is None:
        return
    region = phonenumbers.region_code_for_number(number)
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    for style in (
        phonenumbers.PhoneNumberFormat.INTERNATIONAL,
        phonenumbers.PhoneNumberFormat.RFC3966,
        phonenumbers.PhoneNumberFormat.NATIONAL,
    ):
        assert normalise(phonenumbers.format_number(number, style), region, "valid") == e164
    assert national(e164) == phonenumbers.national_significant_number(number)
    assert format_dial("{e164}/{number}/{national}", e164) == f"{e164}/{digits(e164)}/{national(e164)}"


@given(st.text())
@example("SHELL(id)")
@example("\r\nAction: Command")
@example("ß" * 100)
def test_a_variable_s_name_is_always_one(attribute: str) -> None:
    assert re.fullmatch(r"CONTACT_[A-Z0-9_]*", variable_name(attribute))
    assert len(variable_name(attribute)) <= 72
