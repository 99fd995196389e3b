"""What the daemon recorded against what the far ends saw, and the laws that hold between the two."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.integration.client import Told
from tests.lab.ledger import FarCall, Ledger

Json = Mapping[str, Any]

_ATTEMPT = r"originated (ringing )?(connected (completed|retry_scheduled)|failed( retry_scheduled)?|retry_scheduled)"
_LIFE = re.compile(rf"({_ATTEMPT} )*(cancelled |originated (ringing )?(connected )?)?")
"""A contact's events in their order: whole attempts, then it is cancelled, or an attempt is still under way.

One that failed is put back where its trunk turns out to have failed everybody.
"""


class Numbers:
    """Telephone numbers of one test: never given twice, and ending in what the far end shall do."""

    def __init__(self, area: int) -> None:
        """Choose an area code of the North American plan that no other test has."""
        self._area = area
        self._given = 0

    def next(self, behaviour: str) -> str:
        """Give a number with this behaviour (two digits, see ``tests.lab.far_end``)."""
        self._given += 1
        return f"+1{self._area}{20_000 + self._given:05d}{behaviour}"


def seconds(stamp: str) -> float:
    """A time of the API in seconds since the epoch."""
    return datetime.fromisoformat(stamp).timestamp()


def match(calls: Sequence[Json], ledger: Ledger) -> dict[str, FarCall]:
    """Find the Call-ID of each attempt, by number and time; attempts without one are left out.

    Fails where an attempt made two, or where a Call-ID belongs to no attempt or to several. ``ledger`` holds whatever
    the far ends saw of the calls' numbers, and of no others.
    """
    attempts: dict[str, list[Json]] = {}
    for call in calls:
        attempts.setdefault(call["phone_number"].removeprefix("+"), []).append(call)
    found: dict[str, FarCall] = {}
    for seen in ledger:
        owners = [call["id"] for call in attempts.get(seen.number, ()) if _begun_in(seen, call)]
        assert len(owners) == 1, f"the far end's {seen} belongs to the attempts {owners}"
        assert owners[0] not in found, f"dialled twice: {seen} and {found[owners[0]]}"
        found[owners[0]] = seen
    return found


def _begun_in(seen: FarCall, call: Json) -> bool:
    ended = seconds(call["ended_at"]) if call["ended_at"] is not None else float("inf")
    return seconds(call["originated_at"]) <= seen.invited_at <= ended


def check_one_at_a_time(calls: Iterable[Json]) -> None:
    """No attempt of a contact begins before the one before it ended, and attempts are numbered from 1 on."""
    by_contact: dict[str, list[Json]] = {}
    for call in calls:
        by_contact.setdefault(call["contact_id"], []).append(call)
    for attempts in by_contact.values():
        attempts.sort(key=lambda call: int(call["attempt"]))
        assert [call["attempt"] for call in attempts] == list(range(1, len(attempts) + 1))
        for earlier, later in itertools.pairwise(attempts):
            assert earlier["ended_at"] is not None
            assert seconds(earlier["ended_at"]) <= seconds(later["originated_at"])


def check_told(told: Sequence[Told], contacts: Sequence[Json]) -> None:
    """Every transition was told once and in order, and the last of each contact is the status it has."""
    ids = [each.id for each in told]
    assert ids == sorted(set(ids)), "event ids do not strictly grow"
    lives: dict[str, list[Told]] = {}
    for each in told:
        if each.contact_id is not None:
            lives.setdefault(each.contact_id, []).append(each)
    for contact in contacts:
        life = lives.pop(contact["id"], [])
        walk = "".join(f"{each.kind} " for each in life)
        assert _LIFE.fullmatch(walk), f"contact {contact['id']}: {walk}"
        assert (life[-1].data["status"] if life else "pending") == contact["status"], walk
        stamps = [seconds(each.data["at"]) for each in life]
        assert stamps == sorted(stamps), walk
    assert not lives, "events of contacts that the campaign does not have"
