"""The list in memory, in the order of dialing, and who waits for its time: what hopper and store are to the daemon."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from dialerd.core.model import Contact
from dialerd.dispatch.hopper import LEAST, MOST
from dialerd.dispatch.put_back import PutBack

Dialled = Callable[[str], tuple[datetime, ...]]


class Waiting:
    """A campaign's pending contacts."""

    def __init__(self, contacts: Iterable[Contact], now: datetime, slots: int, looks_back: timedelta | None) -> None:
        """``looks_back``: how far back the campaign's rules ask when a number was dialled; None where they do not."""
        self._batch = max(LEAST, min(MOST, 2 * slots))
        self._looks_back = looks_back
        self._ready = [(-each.priority, now, each.id, each) for each in contacts]
        heapq.heapify(self._ready)
        self._later: list[tuple[datetime, int, Contact]] = []
        self._latest: dict[int, Contact] = {}
        """The present state of contacts that were dialled: what stands elsewhere of them is of no account."""
        self._dialled: dict[str, tuple[datetime, ...]] = {}
        self.at_hand: deque[Contact] = deque()
        """Due contacts in the order of dialing, as many as the daemon's hopper holds."""

    def refill(self, now: datetime) -> bool:
        """Take up whoever has fallen due; True where somebody is at hand who was not."""
        while self._later and self._later[0][0] <= now:
            due, _, contact = heapq.heappop(self._later)
            if self._latest.get(contact.id, contact) is contact:
                heapq.heappush(self._ready, (-contact.priority, due, contact.id, contact))
        before, in_order = len(self.at_hand), True
        while self._ready and (len(self.at_hand) < self._batch or self._comes_first()):
            contact = heapq.heappop(self._ready)[3]
            if self._looks_back is not None:
                since = now - self._looks_back
                dialled = tuple(at for at in self._dialled.get(contact.phone_number, ()) if at >= since)
                contact = replace(contact, dialled_at=dialled)
            in_order = in_order and (not self.at_hand or contact.priority <= self.at_hand[-1].priority)
            self.at_hand.append(contact)
        if not in_order:
            # Whoever falls due may come before all that is at hand: a higher priority. Equals stay as they came.
            self.at_hand = deque(sorted(self.at_hand, key=lambda each: -each.priority))
        return len(self.at_hand) > before

    def _comes_first(self) -> bool:
        return -self._ready[0][0] > self.at_hand[-1].priority

    @property
    def next_due(self) -> datetime | None:
        """When the next contact falls due that is not due yet."""
        return self._later[0][0] if self._later else None

    def take(self, contact: Contact) -> None:
        """A contact at hand is dialled, or put off."""
        self.at_hand.remove(contact)

    def dialled(self, number: str, at: datetime) -> None:
        """A number was dialled."""
        if self._looks_back is not None:
            self._dialled[number] = (*self._dialled.get(number, ()), at)

    def put_off(self, contact: Contact, until: datetime) -> None:
        """A contact waits for its time."""
        self._latest[contact.id] = contact
        heapq.heappush(self._later, (until, contact.id, contact))

    def settled(self, contact: Contact) -> None:
        """A contact is through."""
        self._latest[contact.id] = contact

    def put_back(self, failures: Sequence[PutBack], now: datetime) -> list[Contact]:
        """Give contacts back what calls cost them, as the store does it; returns their states that no longer hold.

        A contact that has moved on since is left as it is.
        """
        undone = []
        for each in failures:
            if self._latest.get(each.after.id) is each.after:
                undone.append(each.after)
                before = each.before
                again = replace(
                    each.after,
                    status=type(each.after.status).PENDING,
                    callee_tries=before.callee_tries,
                    mishaps=before.mishaps,
                    outcomes=before.outcomes,
                    next_attempt_at=now,
                )
                self.put_off(again, now)
        return undone

    def __len__(self) -> int:
        """Contacts that are not at hand; some may be counted twice until they fall due."""
        return len(self._ready) + len(self._later)
