"""A contact for tests, of which each names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from dialerd.core.model import Contact, ContactStatus

_PLAIN = Contact(
    id=1,
    campaign_id=1,
    phone_number="+12025550100",
    first_name=None,
    last_name=None,
    email=None,
    company=None,
    timezone=None,
    priority=0,
    external_id=None,
    attributes={},
    status=ContactStatus.PENDING,
    attempts=0,
    callee_tries=0,
    mishaps=0,
    last_outcome=None,
    next_attempt_at=None,
    updated_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
)


def a_contact(**changes: Any) -> Contact:
    """A pending contact that was never dialled, but for ``changes`` (fields of Contact)."""
    return replace(_PLAIN, **changes)
