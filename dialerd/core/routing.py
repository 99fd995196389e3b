"""Which trunks a campaign may use, in which order, and the caller ID that a call shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dialerd.core.model import Campaign, Contact, Tenant, Trunk
from dialerd.core.settings import once

_KEPT = 4096


class _Memo:
    """What was found for pairs of lists, told apart by being the same object: a lookup reads neither list.

    The planner asks several times for each call, and its cost is everybody's, whoever wrote the list.
    """

    def __init__(self, find: Callable[[tuple[str, ...], tuple[str, ...]], tuple[str, ...]]) -> None:
        self._find = find
        # A list stays with its answer, so that no other one can have its id meanwhile.
        self._kept: dict[tuple[int, int], tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {}

    def __call__(self, wanted: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
        place = (id(wanted), id(known))
        if (found := self._kept.get(place)) is not None:
            return found[2]
        if len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        answer = self._find(wanted, known)
        self._kept[place] = (wanted, known, answer)
        return answer


def _among(wanted: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    names = frozenset(known)
    return tuple(name for name in once(wanted) if name in names)


_common = _Memo(_among)


def choices(campaign: Campaign, tenant: Tenant) -> tuple[str, ...]:
    """The trunks of a campaign in order of choice: its own where it names some, always among its tenant's."""
    if not campaign.settings.trunks:
        return tenant.trunks
    return _common(campaign.settings.trunks, tenant.trunks)


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
        allowed = _common(wanted, trunk.caller_ids) if trunk.caller_ids else wanted
        if allowed:
            return _rotated(allowed, contact)
    return _rotated(trunk.caller_ids, contact) if trunk.caller_ids else None


def _rotated(numbers: Sequence[str], contact: Contact) -> str:
    return numbers[(contact.id + contact.attempts) % len(numbers)]
