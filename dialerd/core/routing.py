"""Which trunks a campaign may use, in which order, and the caller ID that a call shows."""

from __future__ import annotations

from dialerd.core.model import Campaign, Contact, Tenant, Trunk


def choices(campaign: Campaign, tenant: Tenant) -> tuple[str, ...]:
    """The trunks of a campaign in order of choice: its own where it names some, always among its tenant's."""
    if not campaign.settings.trunks:
        return tenant.trunks
    return tuple(name for name in campaign.settings.trunks if name in tenant.trunks)


def caller_id(campaign: Campaign, trunk: Trunk, contact: Contact) -> str | None:
    """The caller ID of a contact's next call: the campaign's or the trunk's, rotated from attempt to attempt.

    A campaign shows only numbers that the trunk may show; where it names none of them, the trunk's own are used.
    """
    allowed = [number for number in campaign.settings.caller_ids if number in trunk.caller_ids] or trunk.caller_ids
    if not allowed:
        return None
    return allowed[(contact.id + contact.attempts) % len(allowed)]
