"""What one endpoint is to be told, and in which order. State without I/O: every question carries its moment.

Events that belong together (of one contact; of a campaign itself) make a lane. Of a lane only the first is sent, and
the next only once that is settled; lanes do not wait for each other. An event that fails, or waits behind one that did,
is held: it gets a delivery of its own in the store, so that the place in the journal can move past it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dialerd.core.model import Moment
from dialerd.core.webhooks import LONGEST_PROBE, RETRY_FOR, Delivery, DeliveryStatus, delay
from dialerd.webhooks.transport import Answer

WINDOW = 256
"""Events taken from the journal and neither settled nor held."""
MOST_HELD = 2000
"""Deliveries held at once, from which on no more is taken from the journal: what waits there takes no room here."""
MOST_UNWRITTEN = 1000
"""Changes that the store has not taken yet, from which on nothing more is sent."""
ILL_AFTER = 5
"""Failures in a row, of whatever lane, after which the endpoint itself is ill: it gets a probe now and then."""


@dataclass(slots=True, eq=False)
class Item:
    """An event on its way."""

    seq: int
    lane: Hashable
    kind: str
    campaign_id: int
    contact_id: int | None
    at: datetime
    """When it happened."""
    attempts: int = 0
    since: datetime | None = None
    """When it was first tried or had to wait; None: neither yet."""
    due: float = 0.0
    """When it may be tried (monotonic)."""
    held: bool = False
    in_flight: bool = False
    probe: bool = False
    """Sent to see whether an endpoint that was ill is there again."""
    status_code: int | None = None
    error: str | None = None
    tried_at: datetime | None = None
    settled: bool = False

    def __lt__(self, other: Item) -> bool:
        return (self.due, self.seq) < (other.due, other.seq)


@dataclass(slots=True)
class Lanes:
    """The ways to one endpoint."""

    webhook_id: int
    read_to: int
    """Every event of the journal up to here was looked at."""
    failing_since: datetime | None = None
    _lanes: dict[Hashable, deque[Item]] = field(default_factory=dict)
    _heads: list[Item] = field(default_factory=list)
    """A heap of the firsts of the lanes that are not in flight."""
    _window: dict[int, Item] = field(default_factory=dict)
    _held: dict[int, Item] = field(default_factory=dict)
    _changes: dict[int, Delivery] = field(default_factory=dict)
    _failures: int = 0
    _rests_until: float = 0.0
    in_flight: int = 0

    # -- what comes in ------------------------------------------------------------------------------------------

    def restore(self, held: Iterable[Delivery], now: Moment) -> None:
        """Take up the deliveries that the store holds, oldest first, before anything is taken from the journal."""
        for each in held:
            item = _item(each.seq, each.kind, each.campaign_id, each.contact_id, each.created_at)
            item.attempts, item.since, item.held = each.attempts, each.created_at, True
            item.status_code, item.error, item.tried_at = each.status_code, each.error, each.last_attempt_at
            if each.next_attempt_at is not None:
                item.due = now.mono + max(0.0, (each.next_attempt_at - now.wall).total_seconds())
            self._held[item.seq] = item
            self._append(item)

    @property
    def room(self) -> int:
        """How many more events may be taken from the journal."""
        if self.ill or len(self._changes) >= MOST_UNWRITTEN:
            return 0
        return max(0, min(WINDOW - len(self._window), MOST_HELD - len(self._held)))

    def take(self, seq: int, kind: str, campaign_id: int, contact_id: int | None, at: datetime, now: datetime) -> None:
        """Take an event from the journal; they come in the order of their numbers."""
        item = _item(seq, kind, campaign_id, contact_id, at)
        lane = self._lanes.get(item.lane)
        if lane and lane[0].held:
            self._hold(item, now)
        else:
            self._window[seq] = item
        self._append(item)

    # -- what goes out ------------------------------------------------------------------------------------------

    @property
    def ill(self) -> bool:
        """Whether the endpoint fails whatever it is sent."""
        return self._failures >= ILL_AFTER

    def ready(self, now: float) -> Item | None:
        """Take out an event that may be sent now; to be followed by :meth:`answered`, ``postponed`` or ``dropped``."""
        if now < self._rests_until or len(self._changes) >= MOST_UNWRITTEN or not self._heads:
            return None
        if self.ill:
            if self.in_flight:
                return None
            # The oldest, whenever it was due: what is asked is whether the endpoint is there again.
            item = min(self._heads, key=lambda each: each.seq)
            self._heads.remove(item)
            heapq.heapify(self._heads)
        elif self._heads[0].due <= now:
            item = heapq.heappop(self._heads)
        else:
            return None
        item.in_flight, item.probe = True, self.ill
        self.in_flight += 1
        return item

    def next_moment(self) -> float | None:
        """When :meth:`ready` may next have one (monotonic), unless something happens before; None: not by itself."""
        if not self._heads or len(self._changes) >= MOST_UNWRITTEN or (self.ill and self.in_flight):
            return None
        return self._rests_until if self.ill else max(self._rests_until, self._heads[0].due)

    def answered(self, item: Item, answer: Answer, now: Moment, chance: float) -> bool:
        """Note what became of an attempt. Returns whether its delivery is given up now."""
        self._landed(item)
        item.attempts += 1
        item.since = item.since or now.wall
        item.status_code, item.error, item.tried_at = answer.status, answer.error, now.wall
        if answer.delivered:
            self._succeeded(now.mono)
        else:
            self._failed(item, answer, now, chance)
        if item.settled:
            return False  # by hand, meanwhile
        if answer.delivered:
            self._settle(item, DeliveryStatus.DELIVERED, now.wall)
            return False
        if now.wall - item.since >= RETRY_FOR:
            self._settle(item, DeliveryStatus.FAILED, now.wall)
            return True
        item.due = now.mono + delay(item.attempts, chance)
        self._hold_lane(item, now)
        heapq.heappush(self._heads, item)
        return False

    def postponed(self, item: Item, until: float) -> None:
        """It could not be tried, through no fault of the endpoint's."""
        self._landed(item)
        if not item.settled:
            item.due = until
            heapq.heappush(self._heads, item)

    def dropped(self, item: Item, now: datetime, reason: str) -> None:
        """An event cannot be sent: it is not there any more."""
        self._landed(item)
        if not item.settled:
            item.since = item.since or now
            item.error = reason
            self._settle(item, DeliveryStatus.FAILED, now)

    def settle_by_hand(self, seq: int, answer: Answer, now: Moment) -> bool:
        """Somebody had a held delivery sent out of its turn, and it was taken; False where none is held."""
        item = self._held.get(seq)
        if item is None:
            return False
        item.attempts += 1
        item.status_code, item.error, item.tried_at = answer.status, None, now.wall
        self._succeeded(now.mono)
        self._unqueue(item)
        self._settle(item, DeliveryStatus.DELIVERED, now.wall)
        return True

    def give_up(self, now: datetime, reason: str) -> int:
        """Nothing more is sent: fail all that is held, with its reason; returns how many."""
        held = list(self._held.values())
        for item in held:
            item.error = item.error or reason
            self._unqueue(item)
            self._settle(item, DeliveryStatus.FAILED, now)
        return len(held)

    def is_dead(self, now: datetime) -> bool:
        """Whether the endpoint has failed for so long that it is to be switched off."""
        return self.failing_since is not None and now - self.failing_since >= RETRY_FOR

    # -- what is to be kept -------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Every event up to this number is settled or held, once the changes are written."""
        return min(self._window) - 1 if self._window else self.read_to

    @property
    def backlog(self) -> int:
        """Events taken and not settled."""
        return len(self._window) + len(self._held)

    @property
    def oldest(self) -> datetime | None:
        """When the oldest event happened that is taken and not settled."""
        # Items come and go in the order of their numbers, nearly: the first of each is the oldest, nearly.
        firsts = [next(iter(each.values())).at for each in (self._window, self._held) if each]
        return min(firsts, default=None)

    @property
    def unwritten(self) -> int:
        """Changes to be written."""
        return len(self._changes)

    def changes(self) -> list[Delivery]:
        """Take out what changed since the last time, to be written in one commit with the position."""
        changes, self._changes = self._changes, {}
        return list(changes.values())

    def put_back(self, changes: Iterable[Delivery]) -> None:
        """They could not be written: what changed again meanwhile is newer."""
        self._changes = {each.seq: each for each in changes} | self._changes

    # -- inside -------------------------------------------------------------------------------------------------

    def _append(self, item: Item) -> None:
        lane = self._lanes.setdefault(item.lane, deque())
        lane.append(item)
        if len(lane) == 1:
            heapq.heappush(self._heads, item)

    def _unqueue(self, item: Item) -> None:
        if item in self._heads:
            self._heads.remove(item)
            heapq.heapify(self._heads)

    def _landed(self, item: Item) -> None:
        item.in_flight = False
        self.in_flight -= 1

    def _succeeded(self, now: float) -> None:
        was_ill, self._failures, self.failing_since = self.ill, 0, None
        if was_ill:
            # What failed because the endpoint was away need not wait for its own turn.
            self._rests_until = now
            for item in self._heads:
                item.due = min(item.due, now)
            heapq.heapify(self._heads)

    def _failed(self, item: Item, answer: Answer, now: Moment, chance: float) -> None:
        was_ill = self.ill
        # What was in flight when the endpoint fell ill says nothing new.
        self._failures += not was_ill or item.probe
        self.failing_since = self.failing_since or now.wall
        if self.ill and (not was_ill or item.probe):
            self._rests_until = now.mono + delay(self._failures - ILL_AFTER + 1, chance, LONGEST_PROBE)
        wish = answer.pause(now.wall)
        if wish is not None:
            self._rests_until = max(self._rests_until, now.mono + wish)

    def _hold_lane(self, head: Item, now: Moment) -> None:
        lane = self._lanes[head.lane]
        for item in lane:
            if not item.held:
                self._hold(item, now.wall)
        wait = timedelta(seconds=head.due - now.mono)
        self._changes[head.seq] = self._delivery(head, DeliveryStatus.RETRYING, now.wall, now.wall + wait)

    def _hold(self, item: Item, now: datetime) -> None:
        self._window.pop(item.seq, None)
        item.held, item.since = True, item.since or now
        self._held[item.seq] = item
        self._changes[item.seq] = self._delivery(item, DeliveryStatus.WAITING, now, None)

    def _settle(self, item: Item, status: DeliveryStatus, now: datetime) -> None:
        item.settled = True
        self._window.pop(item.seq, None)
        self._held.pop(item.seq, None)
        self._changes[item.seq] = self._delivery(item, status, now, None)
        lane = self._lanes[item.lane]
        first = lane[0] is item
        lane.remove(item)
        if not lane:
            del self._lanes[item.lane]
        elif first:
            head = lane[0]
            heapq.heappush(self._heads, head)
            if head.held:
                self._changes[head.seq] = self._delivery(head, DeliveryStatus.RETRYING, now, now)

    def _delivery(self, item: Item, status: DeliveryStatus, now: datetime, again: datetime | None) -> Delivery:
        return Delivery(
            webhook_id=self.webhook_id,
            seq=item.seq,
            campaign_id=item.campaign_id,
            contact_id=item.contact_id,
            kind=item.kind,
            status=status,
            attempts=item.attempts,
            status_code=item.status_code,
            error=item.error,
            created_at=item.since or now,
            last_attempt_at=item.tried_at,
            next_attempt_at=again,
        )


def _item(seq: int, kind: str, campaign_id: int, contact_id: int | None, at: datetime) -> Item:
    return Item(seq, (campaign_id, contact_id), kind, campaign_id, contact_id, at)
