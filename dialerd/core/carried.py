"""What one call can carry to its channel: how many variables, and how long their values may be.

Whatever gives a call a variable (uploads, campaigns, tenants' defaults) is held to these bounds, so that no contact is
taken that no PBX could be told of. ``pbx/wire.py``, which writes the orders, refuses what exceeds them all the same.
"""

from __future__ import annotations

import re

MAX_ATTRIBUTES = 80
"""Attributes of a contact that are not empty. With the campaign's and our own variables they fill one Originate:
Asterisk reads 128 headers of an action."""
MAX_CAMPAIGN_VARIABLES = 25
"""Variables of a campaign."""
MAX_ASTERISK_BYTES = 900
"""Of one value, escaped: what is left of the 1,022 bytes of an AMI line behind the longest name."""
MAX_FREESWITCH_BYTES = 2000
"""The same for FreeSWITCH, whose escaping takes more: as many such values as fit go into one command of 256 KiB."""

UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters could end a header on the way to the PBX; lone surrogates cannot be stored as UTF-8."""

_MOST_FOR_ONE = 8
"""Bytes that a character takes at most, escaped, on either way."""
_ESCAPED_FOR_ASTERISK = '\\",()[]'


def too_long(value: str) -> str | None:
    """Say that a value is longer than a call can carry, and by what count; None: it is not."""
    if len(value) * _MOST_FOR_ONE <= MAX_ASTERISK_BYTES:
        return None
    if (taken := asterisk_bytes(value)) > MAX_ASTERISK_BYTES:
        return (
            f"takes {taken} bytes on the way to Asterisk, and a call carries {MAX_ASTERISK_BYTES} (UTF-8; commas, "
            "double quotes, backslashes, round and square brackets take two each)"
        )
    if (taken := freeswitch_bytes(value)) > MAX_FREESWITCH_BYTES:
        return (
            f"takes {taken} bytes on the way to FreeSWITCH, and a call carries {MAX_FREESWITCH_BYTES} (UTF-8; commas "
            "take three each, blanks and equals signs five, apostrophes and backslashes eight)"
        )
    return None


def asterisk_bytes(value: str) -> int:
    """The bytes of a variable's value as Asterisk is told it."""
    return _utf8(value) + sum(value.count(char) for char in _ESCAPED_FOR_ASTERISK)


def freeswitch_bytes(value: str) -> int:
    """The bytes of a variable's value as FreeSWITCH is told it."""
    eight, five = value.count("\\") + value.count("'"), value.count(" ") + value.count("=")
    return _utf8(value) + 7 * eight + 4 * five + 2 * value.count(",") + 4 * value.count(":_")


def _utf8(value: str) -> int:
    # A lone surrogate is refused for itself, by others.
    return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
