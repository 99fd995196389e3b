"""The rules that one contact must pass at the moment of dialing, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from dialerd.core.model import Contact, Tenant
from dialerd.core.permit import Refusal, day_refusal, number_rules, period_refusal, prefix_refusal
from dialerd.core.settings import CampaignSettings
from dialerd.core.windows import WindowMemo, lifetime
from dialerd.core.zones import callee_zones


def unruled(tenant: Tenant, settings: CampaignSettings) -> bool:
    """Whether :func:`contact_refusals` lets through whoever names no time zone, so that it need not be asked."""
    return (
        settings.contact_timezone != "number"
        and not tenant.allowed_prefixes
        and settings.max_attempts_per_day is None
        and tenant.max_calls_per_number is None
    )


def closed_hours(
    tenant: Tenant, settings: CampaignSettings, contact: Contact, windows: WindowMemo, now: datetime
) -> str | None:
    """Why a contact must not be called at this moment, whatever its call was planned for; None: it may be.

    The campaign's hours and the contact's own, and what the tenant may dial at all.
    """
    by_number = settings.contact_timezone == "number"
    own = lifetime(settings, now) if by_number else windows.window(settings, (settings.zone(),), now)
    if not own.open:
        return own.detail
    for rule, refusal in contact_refusals(tenant, settings, contact, windows, now):
        if refusal is not None:
            return refusal.detail
        if rule == "allowed_prefixes":
            break  # how often its number was dialled was asked in the call's own commit
    return None


def contact_refusals(
    tenant: Tenant, settings: CampaignSettings, contact: Contact, windows: WindowMemo, now: datetime
) -> Iterator[tuple[str, Refusal | None]]:
    """Each rule by its name, with its refusal (None: it lets the contact through).

    A contact whose zones cannot be told is asked nothing more: no rule on the callee's clock can be evaluated.
    """
    zones = callee_zones(settings, contact)
    if zones is None:
        detail = "no time zone is known of its number, and it names none"
        yield "contact_timezone", Refusal("contact_timezone", detail, None)
        return
    yield "contact_timezone", None
    by_number = settings.contact_timezone == "number"
    hours = None
    if by_number or contact.timezone is not None:
        # The campaign's own zone, which was asked with the campaign, counts as well unless numbers decide.
        window = windows.window(settings, zones if by_number else (settings.zone(), *zones), now)
        hours = None if window.open else Refusal("contact_hours", window.detail, window.until)
    yield "contact_hours", hours
    yield "allowed_prefixes", prefix_refusal(tenant, contact.phone_number)
    rules = number_rules(tenant, settings, zones)
    yield "max_attempts_per_day", day_refusal(rules, contact.dialled_at, now)
    yield "max_calls_per_number", period_refusal(rules, contact.dialled_at, now)
