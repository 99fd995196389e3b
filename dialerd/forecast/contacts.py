"""The list of a forecast: a file, read as an upload is, or so many numbers made up."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from dialerd.core.model import Contact, ContactStatus
from dialerd.forecast.assumptions import Unfit
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact
from dialerd.intake.table import read_csv

MOST = 10_000_000
_FIRST_NUMBER = 2_000_000_000


def made_up(count: int, now: datetime) -> list[Contact]:
    """So many contacts, about whom nothing is known but that each has a number. Raises Unfit."""
    if not 1 <= count <= MOST:
        raise Unfit(f"--contacts: between 1 and {MOST:,}")
    return [_contact(index, NewContact(index, f"+1{_FIRST_NUMBER + index}"), now) for index in range(1, count + 1)]


def read(path: Path, options: IntakeOptions, now: datetime) -> tuple[list[Contact], int]:
    """The contacts of a CSV file, each number once, and how many rows are none. Raises Unfit, OSError."""
    refused = 0
    seen: set[str] = set()
    found: list[Contact] = []
    try:
        with path.open("rb") as file:
            for row in read_csv(file, options):
                if not isinstance(row, NewContact):
                    refused += 1
                elif row.phone_number not in seen:
                    seen.add(row.phone_number)
                    found.append(_contact(len(found) + 1, row, now))
    except InvalidTable as error:
        raise Unfit(f"{path}: {error.message}") from None
    if not found:
        raise Unfit(f"{path}: no row is a contact")
    return found, refused


def _contact(number: int, row: NewContact, now: datetime) -> Contact:
    return Contact(
        id=number,
        campaign_id=1,
        phone_number=row.phone_number,
        first_name=None,
        last_name=None,
        email=None,
        company=None,
        timezone=row.timezone,
        priority=row.priority,
        external_id=None,
        attributes={},
        status=ContactStatus.PENDING,
        attempts=0,
        callee_tries=0,
        mishaps=0,
        last_outcome=None,
        next_attempt_at=None,
        updated_at=now,
    )
