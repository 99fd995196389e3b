"""Telephone numbers: any plain spelling to E.164, and E.164 to what a trunk dials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

# Its geocoder, carrier and time-zone data are packages of their own, 110 MB in memory; nothing here may import them.
import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, ValidationResult

Validation = Literal["possible", "valid"]
"""``possible``: of a length that its country has. ``valid``: inside a range that its country has given out."""

NumberFormat = Literal["number", "e164", "national"]
"""How a trunk wants a number: of ``+12025550100``, ``12025550100``, ``+12025550100`` or ``2025550100``."""

MAX_SPELLING = 80
"""Characters a spelled number may have; looked at before anything else, so that a huge text costs nothing."""
_MAX_DIGITS = 15  # ITU-T E.164, 6.2: country code and national number together
_SHORT_CODE_DIGITS = 6  # no country's short codes are longer and yet of a possible length

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What people and address books put between digits, invisible direction marks of copied numbers included. Letters are
# not among it: the library would read "call me at …" or 1-800-FLOWERS on a keypad, and dial a stranger.
_SEPARATORS = (
    r"\s().\-/~\u00ad\u2010-\u2015\u2212\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\uff08\uff09\uff0d\uff0e"
)
_PLAIN = re.compile(rf"[{_SEPARATORS}]*[+\uff0b]?[\d{_SEPARATORS}]*")
_EXTENSION = re.compile(r"(?i)\d\W*(?:ext(?:ension|n)?|x|#|;\s*ext\s*=|,|;|int|anexo|доб)\W*\d{1,9}\W*$")
_REWRITTEN = re.compile(r"\+?\d+(?:[.,]\d+)?[eE][+-]?\d+|\d{6,}[.,]0+")
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS: tuple[NumberFormat, ...] = ("number", "e164", "national")


class BadNumber(ValueError):
    """A text that cannot be dialled. ``code`` is stable, the message is for people and never repeats the text."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def normalise(text: str, default_region: str | None, validate: Validation = "possible") -> str:
    """Return a spelled number in E.164 (ITU-T), with its plus: ``(202) 555-0100`` in US is ``+12025550100``.

    Understood are digits of any script, a leading plus or the region's international prefix, the usual separators
    and ``tel:`` (RFC 3966). Letters, extensions and short or emergency numbers are refused: none of these has an
    E.164 form that reaches the one who was meant. ``default_region`` (ISO 3166 alpha-2) is needed only for numbers
    without a country code. Raises :class:`BadNumber`.
    """
    if validate == "possible" and is_plain(text):
        return text
    dialled = _clean(text)
    e164 = _parse(dialled, default_region, validate)
    # A national prefix inside an international number can be stripped twice over; such a text has no one meaning.
    if e164 != dialled and not is_plain(e164) and _parse(e164, None, validate) != e164:
        raise BadNumber("number_malformed", "can be read as more than one telephone number")
    return e164


def is_plain(text: str) -> bool:
    """Whether a text is for sure a possible number in E.164 that the numbering plans leave as it is.

    Ten times faster than to read it by them; where this is False they have to be asked.
    """
    if not _E164.fullmatch(text):
        return False
    for length in (1, 2, 3):
        plan = _plan(text[1 : 1 + length])
        if plan is not None:
            number = text[1 + length :]
            return len(number) in plan.lengths and number[0] != "0" and not plan.prefix.match(number)
    return False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a country code's plan says of all its numbers."""

    lengths: frozenset[int]
    """Digits after the country code that are possible, without those of short codes and beyond E.164."""
    prefix: re.Pattern[str]
    """What the library may take for a national prefix, and strip or rewrite."""


@cache  # there are at most 1,110 texts of one to three digits
def _plan(code: str) -> _Plan | None:
    """The plan of a country code; None where there is none, or it needs the library's full reading."""
    region = phonenumbers.region_code_for_country_code(int(code))
    if region == phonenumbers.UNKNOWN_REGION or code.startswith("0"):
        return None
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(int(code), region)
    if metadata is None:
        return None
    lengths = frozenset(
        length
        for length in range(_SHORT_CODE_DIGITS + 1, _MAX_DIGITS - len(code) + 1)
        if phonenumbers.is_possible_number_with_reason(
            phonenumbers.PhoneNumber(country_code=int(code), national_number=10 ** (length - 1))
        )
        == ValidationResult.IS_POSSIBLE
    )
    # Without a national prefix nothing is stripped: this matches nothing.
    return _Plan(lengths, re.compile(metadata.national_prefix_for_parsing or r"(?!)"))


def digits(e164: str) -> str:
    """Return an E.164 number without its plus. Raises ValueError for what is not E.164."""
    return _checked(e164)[1:]


def national(e164: str) -> str:
    """Return the national significant number, Italy's leading zero included. Raises ValueError for what is not E.164.

    It is what follows the country code, digit by digit: country codes are prefix-free (ITU-T E.164, 6.2.1), so no
    numbering plan has to be asked.
    """
    number = digits(e164)
    for length in (1, 2, 3):
        if int(number[:length]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE and len(number) > length:
            return number[length:]
    raise ValueError("the number has no known country code")


def check_region(region: str) -> str:
    """Return a region's code in capitals (ISO 3166 alpha-2); raise ValueError for one without a numbering plan."""
    code = region.upper()
    if code not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"{region!r} is not a region's two-letter code, such as US or GB")
    return code


def check_template(template: str) -> str:
    """Return a trunk's ``dial`` template as it is; raise ValueError, in words for an administrator, if it is unfit."""
    if _CONTROL.search(template):
        raise ValueError("must not hold control characters")
    names = _PLACEHOLDER.findall(template)
    for name in names:
        if name not in _PLACEHOLDERS:
            raise ValueError(f"{{{name}}} is unknown; there are {{number}}, {{e164}} and {{national}}")
    if re.search(r"[{}]", _PLACEHOLDER.sub("", template)):
        raise ValueError("has a brace that belongs to no placeholder")
    if not names:
        raise ValueError("must say where the number goes, such as PJSIP/{number}@carrier")
    return template


def format_dial(template: str, e164: str) -> str:
    """Put a number into a trunk's ``dial`` template.

    Of ``+12025550100``, ``{number}`` is ``12025550100``, ``{e164}`` ``+12025550100`` and ``{national}``
    ``2025550100``. Raises ValueError for an unfit template or for what is not E.164: nothing but digits and a plus
    ever enters a dial string.
    """
    check_template(template)
    return _PLACEHOLDER.sub(lambda match: formatted(e164, match[1]), template)


def formatted(e164: str, style: str) -> str:
    """Write a number as a trunk wants it, by one of :data:`NumberFormat`. Raises ValueError for what is not E.164."""
    if style == "national":
        return national(e164)
    return digits(e164) if style == "number" else _checked(e164)


def _checked(e164: str) -> str:
    if not _E164.fullmatch(e164):
        raise ValueError("not a number in E.164 form, such as +12025550100")
    return e164


def _clean(text: str) -> str:
    """Reduce a plain spelling to its digits, with a plus in front where it had one."""
    if len(text) > MAX_SPELLING:
        raise BadNumber("number_too_long", f"is longer than any spelling of a telephone number ({MAX_SPELLING})")
    if _CONTROL.search(text):
        raise BadNumber("control_character", "holds a control character")
    spelled = text.strip()
    if spelled[:4].lower() == "tel:":
        spelled = spelled[4:]
    if not spelled:
        raise BadNumber("number_missing", "the telephone number is missing")
    if _REWRITTEN.fullmatch(spelled):
        raise BadNumber("number_rewritten", "was rewritten by a spreadsheet; format its column as text and save again")
    if not _PLAIN.fullmatch(spelled):
        if _EXTENSION.search(spelled):
            raise BadNumber("number_extension", "has an extension, which cannot be dialled; give the number alone")
        if any(char.isalpha() for char in spelled):
            raise BadNumber("number_letters", "holds letters; a telephone number has digits only")
        raise BadNumber("number_malformed", "is not one telephone number")
    plus = "+" if "+" in spelled or "\uff0b" in spelled else ""
    return plus + re.sub(r"\D", "", spelled)


def _parse(dialled: str, region: str | None, validate: Validation) -> str:
    """Read digits, with or without a plus, by the numbering plans."""
    international = dialled.startswith("+")
    if not international and (region is None or region.upper() not in phonenumbers.SUPPORTED_REGIONS):
        raise BadNumber(
            "number_no_region", "has no country code, and no default_region is set; write it as +12025550100"
        )
    try:
        number = phonenumbers.parse(dialled, None if international or region is None else region.upper())
    except NumberParseException as error:
        raise _unreadable(error) from None
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason != ValidationResult.IS_POSSIBLE:
        raise _impossible(reason)
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if len(e164) > _MAX_DIGITS + 1:
        raise _impossible(ValidationResult.TOO_LONG)
    if not _E164.fullmatch(e164):
        raise BadNumber("number_malformed", "is not one telephone number")
    short = len(e164) - 1 - len(str(number.country_code)) <= _SHORT_CODE_DIGITS
    if (short or validate == "valid") and not phonenumbers.is_valid_number(number):
        if short and phonenumbers.is_valid_short_number(number):
            raise BadNumber("number_short_code", "is a short or emergency number")
        if validate == "valid":
            raise BadNumber("number_not_assigned", "lies in no range that its country has given out")
    return e164


def _unreadable(error: NumberParseException) -> BadNumber:
    if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
        return BadNumber("number_unknown_country", "begins with no country code that exists")
    if error.error_type in (NumberParseException.TOO_SHORT_NSN, NumberParseException.TOO_SHORT_AFTER_IDD):
        return _impossible(ValidationResult.TOO_SHORT)
    if error.error_type == NumberParseException.TOO_LONG:
        return _impossible(ValidationResult.TOO_LONG)
    return BadNumber("number_malformed", "is not a telephone number")


def _impossible(reason: int) -> BadNumber:
    if reason == ValidationResult.TOO_SHORT:
        return BadNumber(
            "number_too_short", "is too short for its country (short and emergency numbers are not dialled)"
        )
    if reason == ValidationResult.TOO_LONG:
        return BadNumber("number_too_long", "is too long for its country")
    if reason == ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
        return BadNumber("number_local_only", "lacks its area code")
    if reason == ValidationResult.INVALID_COUNTRY_CODE:
        return BadNumber("number_unknown_country", "begins with no country code that exists")
    return BadNumber("number_wrong_length", "has a length that no number of its country has")
