"""What the planner is told and what it answers: snapshots, planned calls, and reasons, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dialerd.core.model import Agent, Campaign, Contact, Pbx, Tenant, Trunk
from dialerd.core.places import ANYWHERE, AllowedPlaces
from dialerd.core.throttle import Book, Key, Shares
from dialerd.core.windows import WindowMemo

HORIZON = 0.05
"""Seconds ahead for which a round plans at least: calls of one rate then share a commit."""
FARTHEST = 0.25
"""And at most."""
_OF_A_ROUND = 10
"""So many times as far as the last round took, a round looks ahead: then rounds take a tenth of a core at most."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A rule's answer: whether it holds (lets calls through), in words, and when it lets go if it does not."""

    rule: str
    level: str
    holds: bool
    detail: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class CampaignView:
    """A campaign as the planner sees it."""

    campaign: Campaign
    agent: Agent | None
    contacts: Sequence[Contact]
    """Due contacts in the order of dialing."""
    next_due: datetime | None
    """When the next pending contact falls due; None where none waits for its time."""
    loading: bool = False
    """More due contacts are being fetched from the store."""
    waiting_since: float | None = None
    """Since when (monotonic) it had contacts due and could not dial any; None: it was served."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a trunk or PBX takes calls, and if not, why and until when."""

    open: bool
    detail: str = ""
    until: datetime | None = None
    probe: bool = False
    """Open for one call only, which finds out whether a suspended trunk carries again."""


OPEN = Gate(True)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the planner may know."""

    campaigns: Sequence[CampaignView]
    tenants: Mapping[str, Tenant]
    trunks: Mapping[str, Trunk]
    pbxs: Mapping[str, Pbx]
    gates: Mapping[Key, Gate]
    """Of trunks and PBXs; one that is not named is open."""
    book: Book
    shares: Shares
    placed_today: Mapping[str, int] = field(default_factory=dict)
    """Calls that each tenant has placed in this day (UTC)."""
    system: Gate = OPEN
    """Closed while the daemon drains or the store fails."""
    places: AllowedPlaces = ANYWHERE
    """Where answered calls may go."""
    windows: WindowMemo = field(default_factory=WindowMemo)
    horizon: float = HORIZON
    """Seconds ahead for which a round plans the calls of a rate whose next moment has come (:func:`horizon`)."""
    most: int | None = None
    """Calls that a round plans at most, so that they are on their way before the next are planned; None: all."""
    live: bool = True
    """Limits and gates are those of this moment; a daemon that does not dial knows none of them."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call to place: its limits' holders, and the monotonic moment it is planned for."""

    campaign: Campaign
    contact: Contact
    agent: Agent
    tenant: Tenant
    trunk: Trunk
    caller_id: str | None
    keys: tuple[Key, ...]
    send_at: float
    waiting: tuple[tuple[Key, tuple[str | int, ...]], ...]
    """Who waited at the trunk, the PBX and the tenant when this call was chosen: what fairness is counted by."""
    probe: bool = False
    """The one call that tries a suspended trunk."""


@dataclass(frozen=True, slots=True)
class Deferral:
    """A due contact whose own hours are closed: it waits for them, or for nothing where they never open."""

    contact: Contact
    until: datetime | None
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now."""

    calls: tuple[PlannedCall, ...]
    deferrals: tuple[Deferral, ...]
    wake_at: float | None
    """The monotonic moment at which to plan again even if nothing happens; None: only when something happens."""
    reasons: Mapping[int, Reason]
    """Per campaign, the first rule that keeps it from dialing (more) now."""
    hungry: tuple[int, ...]
    """Campaigns that could dial and have no due contact at hand."""


def horizon(took: float) -> float:
    """How far ahead a round plans, by the seconds that the one before took: the more campaigns, the longer that is."""
    return min(FARTHEST, max(HORIZON, _OF_A_ROUND * took))
