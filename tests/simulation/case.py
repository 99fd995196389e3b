"""What the laws are asked about: a whole world at rest, and what the store and the storm know of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from dialerd.dispatch.receipts import LISTING_LAG
from dialerd.pbx.simulated_pbx import LedgerEntry
from tests.simulation.books import Books, Row
from tests.simulation.scenario import Scenario
from tests.simulation.storm import Running, Span, Storm
from tests.simulation.world import World


@dataclass
class Case:
    """What the laws are asked about."""

    world: World
    scenario: Scenario
    campaigns: list[Running]
    storm: Storm
    books: Books
    followed: dict[int, list[int]]
    """The numbers of the events that each campaign's follower was told."""

    def __post_init__(self) -> None:
        self.entries: list[LedgerEntry] = [each for pbx in self.world.pbxs.values() for each in pbx.ledger.entries]
        self.entries.sort(key=lambda each: (each.began, each.call_id))

    def late(self, entry: LedgerEntry) -> bool:
        """Whether the channel came after its call was given up: its slot and its contact may have gone to others.

        One that came later than any receipt can tell, and not in time for its daemon's last listing, came after that.
        """
        call = self.books.calls.get(entry.call_id)
        if call is None or call["outcome"] != "interrupted" or entry.call_id not in self.world.late.given_up:
            return False
        if self.on_time(entry):
            return entry.began >= self.world.late.given_up[entry.call_id]
        listable = entry.began + self.scenario.callees.listing_lag_seconds
        return listable >= self.world.late.looked[entry.call_id]

    def on_time(self, entry: LedgerEntry) -> bool:
        """Whether the channel came by when an accepted order is taken to have arrived."""
        sent = self.world.sent.get(entry.call_id)
        return sent is None or entry.began - sent.mono <= LISTING_LAG

    def sent(self) -> Iterator[tuple[Row, float, datetime]]:
        """Each order that went out: its call, and when by both clocks."""
        for call_id, moment in self.world.sent.items():
            if call_id in self.books.calls:
                yield self.books.calls[call_id], moment.mono, moment.wall.astimezone(UTC)


def overlaps(span: Span, since: float, until: float) -> bool:
    """Whether something held at any moment of a time."""
    return span.since <= until and span.until >= since


def shown(call: Row) -> str:
    """A call's row, in short."""
    return str({name: value for name, value in call.items() if value is not None and name != "caller_id"})
