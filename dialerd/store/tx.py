"""One transaction of the writer, and what it made true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.clock import Clock
from dialerd.store.records import CampaignEnd, Event, EventDraft, StatsDelta


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit made true: told to the feed and to the dispatcher after it."""

    events: tuple[Event, ...]
    ends: tuple[CampaignEnd, ...]
    consequences: tuple[Callable[[], object], ...] = ()
    """See :meth:`Tx.then`."""


class Tx:
    """One transaction of the writer: its connection, and what is to be written once at its end."""

    def __init__(self, conn: AsyncConnection, clock: Clock) -> None:
        self.conn = conn
        self.clock = clock
        self.events: list[EventDraft] = []
        self.deltas: defaultdict[int, StatsDelta] = defaultdict(StatsDelta)
        self.touched: set[int] = set()
        """Campaigns that lost a contact to an end of its way, or were resumed: they may be done."""
        self.ends: list[CampaignEnd] = []
        self.consequences: list[Callable[[], object]] = []

    def emit(self, event: EventDraft) -> None:
        """Add an event to this commit."""
        self.events.append(event)

    def then(self, consequence: Callable[[], object]) -> None:
        """Do something as soon as this commit stands: before the next one, and whether or not anybody waits for it.

        What follows commits in their order is never behind the store, as what two who wait for them do may be.
        """
        self.consequences.append(consequence)

    def stats(self, campaign_id: int) -> StatsDelta:
        """The counters' changes of one campaign."""
        return self.deltas[campaign_id]

    def add(self, other: Tx) -> None:
        """Take over what another part of the same transaction has to be written at its end."""
        self.events += other.events
        self.touched |= other.touched
        self.ends += other.ends
        self.consequences += other.consequences
        for campaign_id, delta in other.deltas.items():
            self.deltas[campaign_id].add(delta)
