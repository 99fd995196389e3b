"""The planner's answers in words: whether calls go out, and if not, which rule keeps them and when it lets go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dialerd.core.contact_rules import contact_refusals
from dialerd.core.model import Contact, ContactStatus, Moment
from dialerd.core.rules import explain
from dialerd.core.snapshot import CampaignView, Reason, Snapshot
from dialerd.core.throttle import Level

_TRUNK_LEVELS = frozenset({Level.TRUNK.value, Level.PBX.value})
_CONTACTS, _HOURS, _TRUNKS = "contacts", "calling_hours", "trunks"
_CONTACT = "contact"
_HOLDS: Mapping[str, str] = {
    "contact_timezone": "its time zone is known",
    "contact_hours": "it is within the calling hours where the callee is",
    "allowed_prefixes": "its number is among those that the tenant may dial",
    "max_attempts_per_day": "its number was not dialled too often in the callee's day",
    "max_calls_per_number": "its number was not dialled too often lately, over all campaigns",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why calls are, or are not, going out now."""

    dialing: bool
    summary: str
    next_moment: datetime | None
    """When the rule that keeps calls back lets go; None where that is no question of time."""
    rules: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ContactFacts:
    """What the store knows of one contact beside itself."""

    reason: str | None
    """Why it was cancelled."""
    on_do_not_call_list: bool


def explain_campaign(snapshot: Snapshot, view: CampaignView, now: Moment, in_flight: int) -> Explanation:
    """Explain a campaign of any status. ``in_flight``: its calls between journal and hangup."""
    rules = [_said(each) for each in explain(snapshot, view, now)]
    if view.contacts:
        rules.insert(_after_hours(rules), Reason(_CONTACTS, _CONTACT, True, "contacts are due"))
    return _conclude(rules, in_flight)


def explain_contact(
    snapshot: Snapshot, view: CampaignView, contact: Contact, facts: ContactFacts, now: Moment
) -> Explanation:
    """Explain one contact of a campaign: its own rules among those of the campaign, in the planner's order."""
    rules = [_said(each) for each in explain(snapshot, view, now) if each.rule != _CONTACTS]
    place = _after_hours(rules)
    rules[place:place] = _contact_rules(snapshot, view, contact, facts, now)
    return _conclude(rules, in_flight=0)


def _contact_rules(
    snapshot: Snapshot, view: CampaignView, contact: Contact, facts: ContactFacts, now: Moment
) -> list[Reason]:
    pending = contact.status is ContactStatus.PENDING
    status = f"the contact is {contact.status.value}" + (f": {facts.reason}" if facts.reason else "")
    due_at = contact.next_attempt_at
    waits = due_at is not None and due_at > now.wall
    what = "its callback was promised for later" if contact.callback else "its next attempt comes later"
    rules = [
        Reason("contact_status", _CONTACT, pending, status),
        Reason("next_attempt_at", _CONTACT, not waits, what if waits else "it is due", due_at if waits else None),
    ]
    tenant = snapshot.tenants.get(view.campaign.tenant)
    if tenant is not None:
        for rule, refusal in contact_refusals(tenant, view.campaign.settings, contact, snapshot.windows, now.wall):
            if refusal is None:
                rules.append(Reason(rule, _CONTACT, True, _HOLDS[rule]))
            else:
                rules.append(Reason(rule, _CONTACT, False, refusal.detail, refusal.until))
    listed = facts.on_do_not_call_list
    detail = "its number is on the do-not-call list" if listed else "its number is not on the do-not-call list"
    return [*rules, Reason("do_not_call", _CONTACT, not listed, detail)]


def _conclude(rules: Sequence[Reason], in_flight: int) -> Explanation:
    keeps = next((each for each in rules if not each.holds and not _is_way_out(each)), None)
    ways = [each for each in rules if _is_way_out(each)]
    if keeps is None and not any(each.holds for each in ways):
        # The first choice tells why; the way that opens first tells when.
        moments = [each.until for each in ways if each.until is not None]
        keeps = replace(ways[0], until=min(moments, default=None)) if ways else None
    if keeps is None:
        return Explanation(True, "calls are going out", None, tuple(rules))
    if in_flight and keeps.rule.endswith(("_slots", "_rate")):
        return Explanation(True, f"calls are going out, up to a limit: {keeps.detail}", keeps.until, tuple(rules))
    return Explanation(False, keeps.detail, keeps.until, tuple(rules))


def _is_way_out(reason: Reason) -> bool:
    """Trunks are asked in order of choice, and one that lets calls through is enough."""
    return reason.level in _TRUNK_LEVELS or reason.rule == _TRUNKS


def _after_hours(rules: Sequence[Reason]) -> int:
    return 1 + next(index for index, each in enumerate(rules) if each.rule == _HOURS)


def _said(reason: Reason) -> Reason:
    return reason if reason.detail else replace(reason, detail="the daemon dials")
