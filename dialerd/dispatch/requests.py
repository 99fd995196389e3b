"""What the API asks of the daemon, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from dialerd.core.settings import CampaignSettings
from dialerd.intake.rows import RowError


@dataclass(frozen=True, slots=True)
class NewCampaign:
    """A campaign to be made."""

    name: str
    description: str | None
    agent_id: int | None
    """None: the tenant's default agent."""
    settings: CampaignSettings


@dataclass(frozen=True, slots=True)
class NewCallback:
    """A callback to be promised, to a contact or to a number: one of both is given."""

    due_at: datetime
    """Aware."""
    contact_id: int | None = None
    phone_number: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """Contacts to be added: a spooled file of a kind, or the items of a JSON list."""

    kind: Literal["csv", "ndjson", "items"]
    path: str | None = None
    items: tuple[Any, ...] = ()
    on_invalid: Literal["skip", "reject"] = "skip"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of an upload."""

    import_id: int
    added: int = 0
    duplicates: int = 0
    invalid: int = 0
    do_not_call: int = 0
    errors: tuple[RowError, ...] = field(default_factory=tuple)
    """The first 100 rejected rows."""
