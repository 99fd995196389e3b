"""The names of time zones, without anything else: a parser of uploads is a process of its own, and should be small."""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import available_timezones


def known_zone(name: str) -> str:
    """Return an IANA zone's name as it is; raise ValueError for one that does not exist."""
    if name not in _zones():
        raise ValueError(f"{name!r} is not an IANA time zone, such as Europe/London")
    return name


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) - {"localtime", "posixrules", "Factory"}
