"""Whether a number may be dialled (again) at all: the rules that protect people, and the tenant's licence.

Each rule has a name, which explain and the metrics show. The rules see when the number was dialled lately in any
campaign of its tenant, not only in this one: the law counts a person's calls, not a list's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from dialerd.core.model import Tenant
from dialerd.core.settings import CampaignSettings

_DAY_AND_A_BIT = timedelta(hours=50)
"""A local day of any zone, seen from any other."""


@dataclass(frozen=True, slots=True)
class NumberRules:
    """How often one number may be dialled."""

    attempts_per_day: int | None = None
    """In the callee's day: from midnight to midnight in every zone that the number may lie in."""
    calls_per_period: int | None = None
    period: timedelta = timedelta(days=7)
    zones: tuple[ZoneInfo, ...] = ()

    @property
    def horizon(self) -> timedelta | None:
        """How far back the rules look; None where they do not look back at all."""
        looks = [_DAY_AND_A_BIT] if self.attempts_per_day is not None else []
        if self.calls_per_period is not None:
            looks.append(self.period)
        return max(looks, default=None)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that forbids a call now, and when it lets go (None: never)."""

    rule: str
    detail: str
    until: datetime | None


def number_rules(tenant: Tenant, settings: CampaignSettings, zones: Sequence[ZoneInfo]) -> NumberRules:
    """The rules for one contact of a campaign."""
    return NumberRules(
        attempts_per_day=settings.max_attempts_per_day,
        calls_per_period=tenant.max_calls_per_number,
        period=timedelta(hours=tenant.number_period_hours),
        zones=tuple(zones) or (settings.zone(),),
    )


def prefix_refusal(tenant: Tenant, number: str) -> Refusal | None:
    """Refuse a number outside the prefixes that the tenant may dial: a stolen key must not ring premium numbers."""
    if not tenant.allowed_prefixes or number.startswith(tenant.allowed_prefixes):
        return None
    return Refusal("allowed_prefixes", f"numbers of {number[:4]}… are not among the tenant's prefixes", None)


def number_refusal(rules: NumberRules, dialled: Sequence[datetime], now: datetime) -> Refusal | None:
    """The rule that forbids to dial a number which was dialled at these moments (aware, in any order)."""
    refusals = [day_refusal(rules, dialled, now), period_refusal(rules, dialled, now)]
    return max((each for each in refusals if each is not None), key=lambda each: each.until or now, default=None)


def day_refusal(rules: NumberRules, dialled: Sequence[datetime], now: datetime) -> Refusal | None:
    """Refuse a number that was dialled so often already in the callee\'s day."""
    if rules.attempts_per_day is None:
        return None
    # The day is over when it is over everywhere that the number may lie in.
    open_again = None
    for zone in rules.zones:
        today = now.astimezone(zone).date()
        count = sum(1 for moment in dialled if moment.astimezone(zone).date() == today)
        if count >= rules.attempts_per_day:
            midnight = datetime.combine(today + timedelta(days=1), time(), zone).astimezone(now.tzinfo)
            open_again = midnight if open_again is None else max(open_again, midnight)
    if open_again is None:
        return None
    detail = f"dialled {rules.attempts_per_day} times in the callee's day already"
    return Refusal("max_attempts_per_day", detail, open_again)


def period_refusal(rules: NumberRules, dialled: Sequence[datetime], now: datetime) -> Refusal | None:
    """Refuse a number that was dialled so often already in the tenant\'s rolling period."""
    if rules.calls_per_period is None:
        return None
    recent = sorted(moment for moment in dialled if now - moment < rules.period)
    if len(recent) < rules.calls_per_period:
        return None
    # So many must leave the rolling period that one more fits.
    leaving = recent[len(recent) - rules.calls_per_period]
    hours = rules.period.total_seconds() / 3600
    detail = f"dialled {len(recent)} times in {hours:g} hours, over all campaigns"
    return Refusal("max_calls_per_number", detail, leaving + rules.period)
