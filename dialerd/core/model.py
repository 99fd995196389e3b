"""The nouns of the dialer: campaigns, contacts, calls, agents, trunks, PBXs and tenants, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dialerd.core.outcome import Fault, Outcome
from dialerd.core.phone import NumberFormat
from dialerd.core.settings import CampaignSettings


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both clocks.

    ``wall`` (aware, UTC) answers questions of law and of the calendar; ``mono`` (seconds, arbitrary zero) measures
    rates and deadlines and never jumps.
    """

    wall: datetime
    mono: float


class CampaignStatus(StrEnum):
    """The status of a campaign, as the API shows it."""

    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class ContactStatus(StrEnum):
    """The status of a contact, as the API shows it: exactly these six."""

    PENDING = "pending"
    ORIGINATED = "originated"
    CONNECTED = "connected"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CallStatus(StrEnum):
    """The status of one call attempt."""

    ORIGINATED = "originated"
    RINGING = "ringing"
    CONNECTED = "connected"
    ENDED = "ended"
    NOT_SENT = "not_sent"
    """Nothing of this attempt ever left the PBX towards the callee: no channel was made."""


class HungUpBy(StrEnum):
    """Who ended a call."""

    CALLEE = "callee"
    DIALER = "dialer"
    PBX = "pbx"


class AgentKind(StrEnum):
    """What kind of place an answered call is handed to."""

    DIALPLAN = "dialplan"
    QUEUE = "queue"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True)
class Agent:
    """Who makes the call's conversation: the place that answered calls are handed to."""

    id: int
    tenant: str
    name: str
    kind: AgentKind
    max_concurrent_calls: int | None = None
    context: str | None = None
    exten: str | None = None
    priority: int = 1
    queue: str | None = None
    application: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Pbx:
    """A PBX as the planner sees it: its limits over all trunks together."""

    id: str
    max_calls_per_second: float
    max_channels: int


@dataclass(frozen=True, slots=True)
class Trunk:
    """A SIP trunk: how to dial through it, what it carries and which caller IDs it may show."""

    id: str
    pbx: str
    dial: str
    max_calls_per_second: float
    max_channels: int
    caller_ids: tuple[str, ...] = ()
    caller_id_format: NumberFormat = "e164"
    reserved_channels: int = 0
    """Of ``max_channels``, how many are kept free for inbound calls."""
    suspend_after: int = 20
    """Failures in a row after which it takes no more calls but probes."""
    probe_seconds: float = 8.0
    """Between two probes of a suspended trunk."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant: a customer of the dialer, with its own limits, trunks and defaults."""

    id: str
    max_calls_per_second: float
    max_concurrent_calls: int
    trunks: tuple[str, ...]
    default_agent: str | None = None
    default_region: str | None = None
    weight: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of campaign settings for this tenant, by their API names."""
    caller_ids: tuple[str, ...] = ()
    """The numbers that the tenant owns; none: those of its trunks."""
    allowed_prefixes: tuple[str, ...] = ()
    """Beginnings of the numbers that it may dial, such as +1202; none: every number."""
    max_calls_per_day: int | None = None
    """Call attempts of all its campaigns in a day (UTC): what a stolen key can cost."""
    max_calls_per_number: int | None = None
    """Call attempts to one number, over all its campaigns, in any ``number_period_hours``."""
    number_period_hours: float = 168.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it stands in the store, without its statistics."""

    id: int
    tenant: str
    name: str
    description: str | None
    agent_id: int | None
    status: CampaignStatus
    settings: CampaignSettings
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    reason: str | None = None
    """Why the daemon itself paused it."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact of one campaign's list."""

    id: int
    campaign_id: int
    phone_number: str
    first_name: str | None
    last_name: str | None
    email: str | None
    company: str | None
    timezone: str | None
    priority: int
    external_id: str | None
    attributes: Mapping[str, str]
    status: ContactStatus
    attempts: int
    callee_tries: int
    """Attempts that spent the callee's budget (``max_retries``)."""
    mishaps: int
    """Attempts that failed by fault of trunk, PBX or daemon; they have a limit of their own."""
    last_outcome: Outcome | None
    next_attempt_at: datetime | None
    updated_at: datetime
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """How often each outcome came since the budgets were fresh: what a rule's ``most`` and ``factor`` count."""
    callback: bool = False
    """A callback is promised: it is dialled ahead of all else."""
    dialled_at: tuple[datetime, ...] = ()
    """When its number was dialled lately in any campaign of the tenant, as far back as the rules look."""


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt to reach a contact. Its ``id`` is the channel's id on the PBX."""

    id: str
    tenant: str
    campaign_id: int
    contact_id: int
    attempt: int
    pbx: str
    trunk: str
    agent_id: int | None
    caller_id: str | None
    phone_number: str
    status: CallStatus
    originated_at: datetime
    outcome: Outcome | None = None
    fault: Fault | None = None
    hangup_cause: int | None = None
    hangup_text: str | None = None
    sip_status: int | None = None
    hung_up_by: HungUpBy | None = None
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    handed_over_at: datetime | None = None
    ended_at: datetime | None = None
    talk_seconds: float | None = None
    recording: str | None = None
    hands_over: bool | None = None
    """Its place is a queue, whose member takes it; None: not noted when it was placed."""
