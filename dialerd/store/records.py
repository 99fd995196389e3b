"""What passes through the writer: events, and the steps that calls take, as values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dialerd.core.model import Call, CallStatus, CampaignStatus, Contact, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.core.permit import NumberRules
from dialerd.store.schema import OUTCOME_COLUMNS


class EventKind(StrEnum):
    """The ``event:`` of the stream."""

    ORIGINATED = "originated"
    RINGING = "ringing"
    CONNECTED = "connected"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRY_SCHEDULED = "retry_scheduled"
    CALLBACK_SCHEDULED = "callback_scheduled"
    CAMPAIGN = "campaign"


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event before the writer gave it its number."""

    kind: EventKind
    campaign_id: int
    status: str
    at: datetime
    contact_id: int | None = None
    call_id: str | None = None
    outcome: Outcome | None = None
    phone_number: str | None = None
    reason: str | None = None
    """Of a campaign's own events: why the daemon did it."""


@dataclass(frozen=True, slots=True)
class Event:
    """A committed event: ``seq`` only grows, over all campaigns."""

    seq: int
    draft: EventDraft


@dataclass(frozen=True, slots=True)
class Originating:
    """Commit a call as originated, if its contact is still pending."""

    call: Call
    contact: Contact
    """The contact as it stands once the call is committed."""
    event: EventDraft
    rules: NumberRules | None = None
    """How often the number may be dialled: asked once more in the commit itself."""


@dataclass(frozen=True, slots=True)
class CallStep:
    """A call's new state, with what it means to its contact."""

    call: Call
    contact: Contact | None
    """The contact's new state; None where this step left it alone."""
    contact_was: ContactStatus
    event: EventDraft | None
    outcome_was: Outcome | None = None
    """The last outcome that the contact had before this step."""


@dataclass(slots=True)
class StatsDelta:
    """Changes to one campaign's counters, added up over a batch."""

    columns: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[Outcome, ContactStatus]] = field(default_factory=Counter)
    """Contacts by their last outcome and their status, as far as they had an outcome."""

    def move(
        self,
        was: ContactStatus | None,
        now: ContactStatus | None,
        count: int = 1,
        *,
        had: Outcome | None = None,
        has: Outcome | None = None,
    ) -> None:
        """Count contacts that changed their status; ``had`` and ``has`` are their last outcomes before and after."""
        if was is not None:
            self.columns[was.value] -= count
            if had is not None:
                self.outcomes[had, was] -= count
        if now is not None:
            self.columns[now.value] += count
            if has is not None:
                self.outcomes[has, now] += count

    def add(self, other: StatsDelta) -> None:
        """Add the changes of another part of the batch."""
        self.columns.update(other.columns)
        self.outcomes.update(other.outcomes)

    def ended(self, call: Call) -> None:
        """Count a call that ended. One that we took back before it left was never placed, and ended in nothing."""
        if call.status is CallStatus.NOT_SENT and call.outcome is Outcome.CANCELLED:
            self.columns["calls_placed"] -= 1
            self.columns["calls_withdrawn"] += 1
            return
        if call.outcome is not None:
            self.columns[OUTCOME_COLUMNS[call.outcome]] += 1
        if call.answered_at is not None:
            self.columns["calls_answered"] += 1
            self.columns["talk_millis"] += round((call.talk_seconds or 0.0) * 1000)


@dataclass(frozen=True, slots=True)
class CampaignEnd:
    """A campaign that ended by itself inside a batch: its list was done."""

    campaign_id: int
    status: CampaignStatus
    at: datetime


def ended(call: Call) -> bool:
    """Whether a call is over."""
    return call.status in (CallStatus.ENDED, CallStatus.NOT_SENT)
