"""The laws of the house, checked against the far end's own ledger and the committed events."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence

from dialerd.core.contact import TRANSITIONS, ContactEvent
from dialerd.core.model import Call, CallStatus, Contact, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.pbx.simulated import SimulatedPbx
from dialerd.store.records import Event, EventKind
from tests.simulation.house import House

WIRE_SECONDS = 0.02
"""The simulated link's way there differs by less than 10 ms between two calls; no more may be missing of a second."""


async def hold(house: House, campaign_id: int) -> None:
    """Check the laws that hold for every campaign at rest."""
    placed, listed = await house.calls(campaign_id), await house.contacts(campaign_id)
    each_attempt_at_most_once(house.pbx, placed)
    one_live_call_per_contact(house.pbx)
    events_tell_the_way(await house.events(campaign_id), listed)
    await house.check_counters(campaign_id)


def each_attempt_at_most_once(pbx: SimulatedPbx, placed: Sequence[Call]) -> None:
    """No attempt became two calls, and every call at the far end is an attempt; the rest is known not to be sent."""
    ours = {call.id for call in placed}
    for entry in pbx.ledger.entries:
        assert pbx.ledger.reached(entry.call_id) == 1, f"{entry.call_id} reached the far end more than once"
        assert entry.call_id in ours, f"{entry.call_id} is no attempt of ours"
    for call in placed:
        if not pbx.ledger.reached(call.id):
            assert (
                call.status is CallStatus.NOT_SENT
                or call.outcome in (Outcome.INTERRUPTED, None)
                or (call.outcome is Outcome.UNREACHABLE)
            ), f"{call} never reached the far end"
        else:
            assert call.status is not CallStatus.NOT_SENT, f"{call} reached the far end"


def one_live_call_per_contact(pbx: SimulatedPbx) -> None:
    """A number is dialled again only after its last call is over."""
    by_number: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
    for entry in pbx.ledger.entries:
        by_number[entry.number].append((entry.began, entry.ended))
    for number, spans in by_number.items():
        spans.sort()
        for (_, ended), (began, _) in itertools.pairwise(spans):
            assert ended is not None, f"{number}: two calls at once"
            assert ended <= began, f"{number}: two calls at once"


def never_faster(sends: Iterable[float], per_second: int) -> None:
    """Sends n and n + rate lie at least a second apart, as the far end's clock counts."""
    moments = sorted(sends)
    for early, late in zip(moments, moments[per_second:], strict=False):
        assert late - early >= 1.0 - WIRE_SECONDS, f"{per_second + 1} calls in {late - early:.3f} s"


def events_tell_the_way(told: Sequence[Event], listed: Sequence[Contact]) -> None:
    """The numbers only grow; per contact the events walk the table, and end where the contact is."""
    numbers = [event.seq for event in told]
    assert numbers == sorted(set(numbers))
    states: dict[int, ContactStatus] = defaultdict(lambda: ContactStatus.PENDING)
    for event in told:
        contact_id = event.draft.contact_id
        if contact_id is None:
            continue
        was, now = states[contact_id], ContactStatus(event.draft.status)
        if event.draft.kind is EventKind.RINGING:
            assert was == now == ContactStatus.ORIGINATED
        elif event.draft.kind is EventKind.CALLBACK_SCHEDULED and was is ContactStatus.PENDING:
            assert now is ContactStatus.PENDING
        else:
            assert any((was, step) in TRANSITIONS and TRANSITIONS[was, step] is now for step in ContactEvent), event
        states[contact_id] = now
    for contact in listed:
        assert states[contact.id] is contact.status
