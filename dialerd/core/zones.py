"""The time zones that a telephone number may lie in, so that a callee's own clock decides when to call.

The table is a resource made from libphonenumber's by ``python -m tests.support.zone_table``. That library would answer
the same in twenty times the time, too long for the planner, because it works out the kind of every number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dialerd.core.model import Contact
from dialerd.core.settings import CampaignSettings

RESOURCE = "zone_data.json"


@dataclass(frozen=True, slots=True)
class _Table:
    zones: Mapping[str, tuple[str, ...]]
    """By the beginning of a number, country code first, without its plus; the longest that fits decides."""
    longest: int
    country_wide: Mapping[str, str]
    """By country code: the national numbers that tell no place, such as toll-free and most mobile ones."""


@lru_cache(maxsize=4096)
def zones_of(e164: str) -> tuple[str, ...]:
    """Return the IANA zones that a number in E.164 may lie in, in the order of their names; none where none is known.

    A geographic number lies in the zones of its area, any other in all those of its country code: ``+1 800`` in some
    forty. That a number is given out is not asked: one that is not has the zones of its area too.
    """
    table = _table()
    number = e164.removeprefix("+")
    for length in range(min(table.longest, len(number)), 0, -1):
        zones = table.zones.get(number[:length])
        if zones is not None:
            break
    else:
        return ()
    for length in (1, 2, 3):
        code = number[:length]
        if code in table.country_wide and _pattern(code).fullmatch(number, length):
            return table.zones[code]
    return zones


def callee_zones(settings: CampaignSettings, contact: Contact) -> tuple[ZoneInfo, ...] | None:
    """Return the zones that a contact may be in: its own, else by ``contact_timezone`` its number's or the campaign's.

    None: they cannot be told, so that no rule on the callee's clock can be evaluated.
    """
    if contact.timezone is not None:
        return _places((contact.timezone,))
    return _places(zones_of(contact.phone_number) if settings.contact_timezone == "number" else (settings.timezone,))


@lru_cache(maxsize=1024)
def _places(names: tuple[str, ...]) -> tuple[ZoneInfo, ...] | None:
    """The zones of these names; None where there are none, or where this system does not know one of them."""
    try:
        return tuple(ZoneInfo(name) for name in names) or None
    except ZoneInfoNotFoundError:
        return None


@lru_cache(maxsize=1)
def _table() -> _Table:
    data = json.loads(files(__package__).joinpath(RESOURCE).read_text("utf-8"))
    zones = {start: tuple(names.split()) for names, starts in data["zones"].items() for start in starts.split()}
    return _Table(zones, max(map(len, zones)), data["country_wide"])


@lru_cache(maxsize=64)
def _pattern(country_code: str) -> re.Pattern[str]:
    return re.compile(_table().country_wide[country_code])
