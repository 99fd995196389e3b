"""core.phone: every spelling that is understood, every reason for a refusal, and what a trunk dials."""

from __future__ import annotations

import subprocess
import sys

import phonenumbers
import pytest

from dialerd.core.phone import (
    MAX_SPELLING,
    BadNumber,
    check_region,
    check_template,
    digits,
    format_dial,
    formatted,
    national,
    normalise,
)
from tests.support.effort import some


@pytest.mark.parametrize(
    ("text", "region", "e164"),
    [
        ("+12025550100", None, "+12025550100"),
        ("(202) 555-0100", "US", "+12025550100"),
        ("(202) 555-0100", "us", "+12025550100"),
        ("202.555.0100", "US", "+12025550100"),
        ("1 202 555 0100", "US", "+12025550100"),
        (" (+1) 202 555–0100 ", None, "+12025550100"),
        ("tel:+1-202-555-0100", None, "+12025550100"),
        ("TEL:2025550100", "US", "+12025550100"),
        ("００４４２０７９４６０９５８", "GB", "+442079460958"),
        ("+１２０２５５５０１００", None, "+12025550100"),
        ("٢٠٢٥٥٥٠١٠٠", "US", "+12025550100"),
        ("00 44 20 7946 0958", "GB", "+442079460958"),
        ("011 44 20 7946 0958", "US", "+442079460958"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("+44 (0)20 7946 0958", None, "+442079460958"),
        ("02 3661 8300", "IT", "+390236618300"),
        ("\u202a+1\u00a0202\u00a0555\u00a00100\u202c", None, "+12025550100"),
        ("+800 1234 5678", None, "+80012345678"),
    ],
)
def test_understands_plain_spellings(text: str, region: str | None, e164: str) -> None:
    assert normalise(text, region) == e164


@pytest.mark.parametrize(
    ("text", "region", "code"),
    [
        ("", "US", "number_missing"),
        ("  ", "US", "number_missing"),
        ("tel:", "US", "number_missing"),
        ("not a number", "US", "number_letters"),
        ("1-800-FLOWERS", "US", "number_letters"),
        ("call 202 555 0100 now", "US", "number_letters"),
        ("+1 202 555 0100 x123", None, "number_extension"),
        ("202-555-0100 ext. 5", "US", "number_extension"),
        ("tel:+12025550100;ext=5", None, "number_extension"),
        ("2025550100,,5", "US", "number_extension"),
        ("1.20256E+10", "US", "number_rewritten"),
        ("12025550100.0", "US", "number_rewritten"),
        ("+12025550100\r\nAction: Command", None, "control_character"),
        ("+1202\t5550100", None, "control_character"),
        ("2025550100", None, "number_no_region"),
        ("2025550100", "XX", "number_no_region"),
        ("+999123456", None, "number_unknown_country"),
        ("+0044 20 7946 0958", None, "number_unknown_country"),
        ("911", "US", "number_too_short"),
        ("112", "DE", "number_local_only"),
        ("+1911", None, "number_too_short"),
        ("116117", "DE", "number_short_code"),
        ("555-0100", "US", "number_local_only"),
        ("+1 202 555 01000", None, "number_too_long"),
        ("+12025550100/+12025550101", None, "number_malformed"),
        ("2025550100&2025550101", "US", "number_malformed"),
        ("---", "US", "number_malformed"),
        ("+", None, "number_malformed"),
    ],
)
def test_refuses_with_a_reason(text: str, region: str | None, code: str) -> None:
    with pytest.raises(BadNumber) as caught:
        normalise(text, region)
    assert caught.value.code == code
    assert caught.value.message


@pytest.mark.parametrize("region", some(sorted(phonenumbers.SUPPORTED_REGIONS)))
def test_no_emergency_number_of_any_country_is_ever_accepted(region: str) -> None:
    country = phonenumbers.country_code_for_region(region)
    emergency = [
        text
        for length in (2, 3)
        for text in (str(number).zfill(length) for number in range(10**length))
        if phonenumbers.is_emergency_number(text, region)
    ]
    for text in [*emergency, "112", "911", "999"]:
        for spelled in (text, f"+{country}{text}"):
            with pytest.raises(BadNumber):
                normalise(spelled, region)


def test_a_huge_text_is_refused_by_its_length_alone() -> None:
    with pytest.raises(BadNumber) as caught:
        normalise("1" * (MAX_SPELLING + 1), "US")
    assert caught.value.code == "number_too_long"
    with pytest.raises(BadNumber):
        normalise("5" * 10_000_000, "US")


def test_valid_is_stricter_than_possible() -> None:
    assert normalise("+12005550100", None, "possible") == "+12005550100"
    with pytest.raises(BadNumber) as caught:
        normalise("+12005550100", None, "valid")
    assert caught.value.code == "number_not_assigned"
    assert normalise("+12025550100", None, "valid") == "+12025550100"


def test_no_number_has_more_digits_than_e164_allows() -> None:
    # The German plan knows national numbers of 15 digits; with the country code these are 17.
    with pytest.raises(BadNumber) as caught:
        normalise("+49" + "3" * 14, None)
    assert caught.value.code == "number_too_long"


@pytest.mark.parametrize(
    ("e164", "expected"),
    [
        ("+12025550100", "2025550100"),
        ("+390236618300", "0236618300"),
        ("+442079460958", "2079460958"),
        ("+74951234567", "4951234567"),
        ("+35312345678", "12345678"),
        ("+80012345678", "12345678"),
    ],
)
def test_national_part(e164: str, expected: str) -> None:
    assert national(e164) == expected
    assert digits(e164) == e164[1:]


@pytest.mark.parametrize("text", ["12025550100", "+0123", "+1", "", "+1202555010a", "+1202\n", "+1234567890123456"])
def test_only_e164_has_digits(text: str) -> None:
    with pytest.raises(ValueError, match=r"E\.164"):
        digits(text)


def test_national_part_of_no_country() -> None:
    with pytest.raises(ValueError, match="country code"):
        national("+99912345")


@pytest.mark.parametrize(
    ("template", "dialled"),
    [
        ("PJSIP/{number}@carrier-a", "PJSIP/12025550100@carrier-a"),
        ("PJSIP/carrier/sip:{e164}@192.0.2.1", "PJSIP/carrier/sip:+12025550100@192.0.2.1"),
        ("Local/9{national}@outbound", "Local/92025550100@outbound"),
        ("sofia/gateway/a/{number}^{national}", "sofia/gateway/a/12025550100^2025550100"),
    ],
)
def test_dial_string(template: str, dialled: str) -> None:
    assert check_template(template) == template
    assert format_dial(template, "+12025550100") == dialled


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("PJSIP/{nummer}@carrier", r"\{nummer\} is unknown"),
        ("PJSIP/{number.__class__}@carrier", "is unknown"),
        ("PJSIP/{}@carrier", r"\{\} is unknown"),
        ("PJSIP/carrier", "where the number goes"),
        ("", "where the number goes"),
        ("PJSIP/{number}@carrier\r\nAction: Command", "control characters"),
        ("PJSIP/{number}@{carrier", "brace"),
        ("PJSIP/{{number}}@carrier", "brace"),
    ],
)
def test_unfit_template(template: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_template(template)
    with pytest.raises(ValueError, match=words):
        format_dial(template, "+12025550100")


def test_nothing_but_e164_enters_a_dial_string() -> None:
    for text in ("12025550100", "+1202@evil", "+12025550100&PJSIP/x"):
        with pytest.raises(ValueError, match=r"E\.164"):
            format_dial("PJSIP/{number}@carrier", text)


def test_regions() -> None:
    assert check_region("gb") == "GB"
    with pytest.raises(ValueError, match="two-letter"):
        check_region("UK")


def test_the_library_s_heavy_data_stays_out() -> None:
    program = (
        "import sys; from dialerd.core.phone import normalise; normalise('(202) 555-0100', 'US', 'valid');"
        "print([name for name in ('geodata', 'tzdata', 'carrierdata') if 'phonenumbers.' + name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("style", "expected"), [("e164", "+12025550100"), ("number", "12025550100"), ("national", "2025550100")]
)
def test_a_caller_id_is_spelled_as_the_trunk_wants_it(style: str, expected: str) -> None:
    assert formatted("+12025550100", style) == expected
    with pytest.raises(ValueError, match=r"E\.164"):
        formatted("2025550100", style)
