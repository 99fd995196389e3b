"""The planner's rules, in the order in which it asks them, and ``explain``, which asks them all."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache

from dialerd.core import routing
from dialerd.core.model import CampaignStatus, Contact, Moment, Tenant, Trunk
from dialerd.core.snapshot import OPEN, CampaignView, Reason, Snapshot
from dialerd.core.throttle import Block, Book, Draft, Key, Level
from dialerd.core.windows import Window, lifetime

LEAD = 0.02
"""Seconds before the moment of a call at which it is planned at the latest: its commit happens meanwhile."""
AFTER = 0.001
"""Seconds by which a wake comes late rather than early: waking in vain at the very edge would repeat without end."""
_STALE = timedelta(seconds=1)
"""Whoever fell due so long ago and is not at hand may come before what is, for that was fetched earlier."""
_KEPT = 10_000
_FETCHING = "due contacts are being fetched"
_BESIDES = {
    Level.TRUNK_PACE: ", slowed after it answered that it is congested",
    Level.PBX_OWN: ", which its own configuration sets",
}


def explain(snapshot: Snapshot, view: CampaignView, now: Moment) -> list[Reason]:
    """Every rule for one campaign, in the order in which the planner asks them.

    Of a snapshot that is not live, those alone that the store, the configuration and the clock can answer.
    """
    draft = Draft(snapshot.book)
    reasons = list(standing(snapshot, view, now))
    if (lack := lack_of_contacts(view, next(iter(view.contacts), None), now)) is not None:
        reasons.append(lack)
    if not snapshot.live:
        return reasons
    tenant = snapshot.tenants.get(view.campaign.tenant)
    if tenant is not None:
        reasons.append(day_spent(snapshot, tenant, now, 0))
    reasons += [_limit_reason(draft, key, now) for key in own_keys(view)]
    # A suspended trunk lets a probe through, and that is not dialing.
    reasons += [route.reason for route in routes(snapshot, draft, view, now, probed=snapshot.trunks)]
    return reasons


def own_keys(view: CampaignView) -> tuple[Key, ...]:
    """The holders of limits that every call of a campaign occupies, whatever its trunk."""
    return _own_keys(view.campaign.tenant, view.campaign.id, view.campaign.agent_id)


@lru_cache(maxsize=_KEPT)
def _own_keys(tenant: str, campaign_id: int, agent_id: int | None) -> tuple[Key, ...]:
    keys = (Key(Level.TENANT, tenant), Key(Level.CAMPAIGN, campaign_id))
    return keys if agent_id is None else (*keys, Key(Level.AGENT, agent_id))


def trunk_keys(trunk: Trunk) -> tuple[Key, ...]:
    """The holders of limits that a call through a trunk occupies."""
    return _trunk_keys(trunk.id, trunk.pbx)


@lru_cache(maxsize=_KEPT)
def _trunk_keys(trunk_id: str, pbx: str) -> tuple[Key, ...]:
    return (
        Key(Level.TRUNK, trunk_id),
        Key(Level.TRUNK_PACE, trunk_id),
        Key(Level.PBX, pbx),
        Key(Level.PBX_OWN, pbx),
    )


def stands(snapshot: Snapshot, view: CampaignView, now: Moment) -> bool:
    """Whether all of :func:`standing` holds: the same rules without their words."""
    campaign = view.campaign
    return (
        snapshot.system.open
        and campaign.status is CampaignStatus.ACTIVE
        and campaign.tenant in snapshot.tenants
        and view.agent is not None
        and snapshot.places.objection(view.agent) is None
        and _campaign_window(snapshot, view, now).open
    )


def standing(snapshot: Snapshot, view: CampaignView, now: Moment) -> Iterator[Reason]:
    """The rules that come before any limit: may this campaign call at all, and at this moment."""
    campaign = view.campaign
    yield Reason("system", "system", snapshot.system.open, snapshot.system.detail, snapshot.system.until)
    active = campaign.status is CampaignStatus.ACTIVE
    why = f": {campaign.reason}" if campaign.reason else ""
    yield Reason("status", "campaign", active, f"the campaign is {campaign.status.value}{why}")
    known = campaign.tenant in snapshot.tenants
    yield Reason("tenant", "tenant", known, f"tenant {campaign.tenant}" if known else "its tenant is not configured")
    yield _place(snapshot, view)
    window = _campaign_window(snapshot, view, now)
    yield Reason("calling_hours", "campaign", window.open, window.detail, None if window.open else window.until)


def _place(snapshot: Snapshot, view: CampaignView) -> Reason:
    agent = view.agent
    if agent is None:
        return Reason("agent", "agent", False, "its agent is gone")
    if (objection := snapshot.places.objection(agent)) is not None:
        field, message = objection
        return Reason("agent", "agent", False, f"its agent's {field} {getattr(agent, field)!r} {message}")
    return Reason("agent", "agent", True, "answered calls have a place")


def day_spent(snapshot: Snapshot, tenant: Tenant, now: Moment, more: int) -> Reason:
    """Whether the tenant may place another call today."""
    if tenant.max_calls_per_day is None:
        return Reason("max_calls_per_day", "tenant", True, "calls in a day are not limited")
    placed = snapshot.placed_today.get(tenant.id, 0) + more
    detail = f"tenant {tenant.id} has placed {placed} of {tenant.max_calls_per_day} calls today (UTC)"
    if placed < tenant.max_calls_per_day:
        return Reason("max_calls_per_day", "tenant", True, detail)
    tomorrow = datetime.combine(now.wall.date() + timedelta(days=1), time(), now.wall.tzinfo)
    return Reason("max_calls_per_day", "tenant", False, detail, tomorrow)


def _campaign_window(snapshot: Snapshot, view: CampaignView, now: Moment) -> Window:
    settings = view.campaign.settings
    if settings.contact_timezone == "number":
        return lifetime(settings, now.wall)
    return snapshot.windows.window(settings, (settings.zone(),), now.wall)


@dataclass(frozen=True, slots=True)
class Route:
    """A trunk of a campaign, with the rule that lets it through or does not."""

    reason: Reason
    trunk: Trunk | None = None
    full: Key | None = None
    """The holder of which a slot is missing, where nothing else is."""
    probe: bool = False


def routes(
    snapshot: Snapshot, draft: Draft, view: CampaignView, now: Moment, probed: Container[str]
) -> Iterator[Route]:
    """The trunks of a campaign in order of choice; where there is none, a refusal that says so.

    ``probed``: suspended trunks whose one probe is taken.
    """
    tenant = snapshot.tenants.get(view.campaign.tenant)
    choices = routing.choices(view.campaign, tenant) if tenant is not None else ()
    if not choices:
        yield Route(Reason("trunks", "campaign", False, "no trunk of its tenant is named"))
    for name in choices:
        trunk = snapshot.trunks.get(name)
        if trunk is None:
            yield Route(Reason("trunk_state", "trunk", False, f"trunk {name} is not in the configuration"))
            continue
        gates = [
            (key, snapshot.gates.get(key, OPEN)) for key in (Key(Level.TRUNK, trunk.id), Key(Level.PBX, trunk.pbx))
        ]
        closed = next(
            ((key, gate) for key, gate in gates if not gate.open or (gate.probe and trunk.id in probed)), None
        )
        if closed is not None:
            key, gate = closed
            yield Route(Reason(f"{key.level.value}_state", key.level.value, False, gate.detail, gate.until))
            continue
        block = blocked(draft, trunk_keys(trunk), now)
        if block is not None:
            full = block.key if block.until is None else None
            yield Route(block_reason(snapshot.book, block, now), full=full)
            continue
        probe = any(gate.probe for _, gate in gates)
        yield Route(Reason("route", "trunk", True, f"trunk {trunk.id} of PBX {trunk.pbx}"), trunk, probe=probe)


def blocked(draft: Draft, keys: Iterable[Key], now: Moment) -> Block | None:
    """The first limit that keeps a call of these holders out of this round; None where none does."""
    return draft.block(keys, now.mono + LEAD, now.mono + draft.horizon)


def _limit_reason(draft: Draft, key: Key, now: Moment) -> Reason:
    block = blocked(draft, (key,), now)
    if block is None:
        return Reason(f"{key.level.value}_limits", key.level.value, True, "within its limits")
    return block_reason(draft.book, block, now)


def block_reason(book: Book, block: Block, now: Moment) -> Reason:
    """A limit that keeps calls back, in words, and when it lets go."""
    capacity, level = book.get(block.key), block.key.level
    shown = level.shown.value
    who = f"{shown} {block.key.name}" if isinstance(block.key.name, str) else f"the {shown}"
    if block.until is None:
        detail = f"{capacity.used} of {capacity.slots} calls of {who} are in flight{_BESIDES.get(level, '')}"
        return Reason(f"{level.value}_slots", shown, False, detail)
    rate = capacity.rate.per_second if capacity.rate is not None else 0.0
    # A wake before its moment: the journal's commit then happens while that comes.
    until = now.wall + timedelta(seconds=max(0.0, block.until - LEAD + AFTER - now.mono))
    detail = f"{who} is at its {rate:.3g} calls per second{_BESIDES.get(level, '')}"
    return Reason(f"{level.value}_rate", shown, False, detail, until)


def lack_of_contacts(view: CampaignView, contact: Contact | None, now: Moment) -> Reason | None:
    """Why a campaign cannot go on with the contact whose turn it is; None where it can."""
    if view.next_due is not None and now.wall - view.next_due > _STALE:
        # As when the calling hours begin: somebody who fell due meanwhile may come before all at hand.
        return Reason("contacts", "contact", False, _FETCHING)
    if contact is not None:
        return None
    if view.loading or (view.next_due is not None and view.next_due <= now.wall):
        return Reason("contacts", "contact", False, _FETCHING)
    if view.next_due is not None:
        detail = "every pending contact waits for its time"
        if view.campaign.settings.contact_timezone == "number":
            detail += " or for the calling hours of its number's zones"
        return Reason("contacts", "contact", False, detail, view.next_due)
    return Reason("contacts", "contact", False, "no contact is pending")
