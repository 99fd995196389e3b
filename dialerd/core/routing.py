"""Which trunks a campaign may use, in which order, and the caller ID that a call shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dialerd.core.model import Campaign, Contact, Tenant, Trunk


def choices(campaign: Campaign, tenant: Tenant) -> tuple[str, ...]:
    """The trunks of a campaign in order of choice: its own where it names some, always among its tenant's."""
    if not campaign.settings.trunks:
        return tenant.trunks
    return tuple(name for name in campaign.settings.trunks if name in tenant.trunks)


def owned_caller_ids(tenant: Tenant, trunks: Mapping[str, Trunk]) -> frozenset[str]:
    """The numbers that a tenant may show: its own, or where it names none, those of its trunks (STIR/SHAKEN)."""
    if tenant.caller_ids:
        return frozenset(tenant.caller_ids)
    known = [trunks[name] for name in tenant.trunks if name in trunks]
    return frozenset(number for trunk in known for number in trunk.caller_ids)


def caller_id(campaign: Campaign, tenant: Tenant, trunk: Trunk, contact: Contact) -> str | None:
    """The caller ID of a contact's next call, rotated from attempt to attempt.

    The campaign's choice, else the tenant's numbers, as far as the trunk may show them; else the trunk's own.
    """
    for wanted in (campaign.settings.caller_ids, tenant.caller_ids):
        allowed = [number for number in wanted if not trunk.caller_ids or number in trunk.caller_ids]
        if allowed:
            return _rotated(allowed, contact)
    return _rotated(trunk.caller_ids, contact) if trunk.caller_ids else None


def _rotated(numbers: Sequence[str], contact: Contact) -> str:
    return numbers[(contact.id + contact.attempts) % len(numbers)]
