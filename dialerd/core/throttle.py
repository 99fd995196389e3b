"""Limits that are never exceeded: slots and rates of trunks, PBXs, tenants, campaigns and agents.

State without I/O: every question carries its moment (monotonic seconds), and nothing here reads a clock.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """Who sets a limit."""

    TRUNK = "trunk"
    TRUNK_PACE = "trunk_pace"
    """What a trunk's congestion leaves of its rate for now."""
    PBX = "pbx"
    PBX_OWN = "pbx_own"
    """What the PBX itself is set to, beside what we are told to ask of it."""
    TENANT = "tenant"
    CAMPAIGN = "campaign"
    AGENT = "agent"

    @property
    def shown(self) -> Level:
        """The level that people know it by."""
        return _SHOWN.get(self, self)


_SHOWN = {Level.TRUNK_PACE: Level.TRUNK, Level.PBX_OWN: Level.PBX}


class Key(NamedTuple):
    """One holder of limits: a trunk, a PBX, a tenant …"""

    level: Level
    name: str | int


class Arrival:
    """By when an order has reached the far end for sure, if ever; ``inf`` while nobody knows."""

    __slots__ = ("by",)

    def __init__(self, by: float = math.inf) -> None:
        self.by = by


_LONGEST_SPAN = 1.0
"""Seconds that ``k / per_second`` is at most, for a limit of a call per second or more."""


class Rate:
    """A limit on calls per second. Calls are spread evenly, never bunched.

    With ``k`` the whole calls per second (at least one), sends ``n`` and ``n + k`` lie at least ``k / per_second`` and
    the guard apart: the far end, whose second starts when it likes and whose network jitters, never counts more. An
    order that a network holds back is still to come: send ``n + k`` also waits until ``n`` has arrived for sure, and
    then for as long again.
    """

    __slots__ = ("_guard", "_next", "_per_second", "_planned", "_sent", "_span", "_unknown_before", "_whole", "spacing")

    spacing: float
    """Seconds between two calls."""

    def __init__(self, per_second: float, guard_seconds: float) -> None:
        self._guard = guard_seconds
        self._next = self._planned = self._unknown_before = -math.inf
        self._sent: deque[tuple[float, Arrival | None]] = deque()
        self.limit(per_second)

    @property
    def per_second(self) -> float:
        """Calls per second."""
        return self._per_second

    def limit(self, per_second: float) -> None:
        """Set the limit; it binds from the next call on, and one that was raised does not wait as before."""
        if per_second <= 0:
            raise ValueError("a rate is more than zero")
        self._per_second = per_second
        self._whole = max(1, math.floor(per_second))
        self._span = self._whole / per_second + self._guard
        self.spacing = self._span / self._whole
        self._next = min(self._next, self._planned + self.spacing)

    @property
    def next_free(self) -> float:
        """The moment that the next call may be planned for."""
        return self._next

    def reserve(self, at: float) -> None:
        """Plan a call for a moment; the next may come one spacing later."""
        self._planned = max(self._next, at)
        self._next = self._planned + self.spacing

    def lawful(self) -> float:
        """The earliest moment at which a call may really be sent, whatever was planned; ``inf``: nobody knows yet."""
        if len(self._sent) < self._whole:
            return self._unknown_before + self._span
        at, arrival = self._sent[-self._whole]
        return at + self._span if arrival is None else max(at + self._span, arrival.by + self._whole / self._per_second)

    def sent(self, at: float, arrival: Arrival | None = None) -> None:
        """Note that a call was sent; ``arrival``: who will know by when it arrived (None: at once)."""
        self._sent.append((at, arrival))
        # A limit that was lowered may rise again at once: who it then counts depends on when they were sent, not on how
        # many were counted meanwhile. No span but that of less than one call per second is longer than the longest.
        while len(self._sent) > self._whole and self._is_over(*self._sent[0], at - _LONGEST_SPAN - self._guard):
            self._sent.popleft()

    @staticmethod
    def _is_over(at: float, arrival: Arrival | None, before: float) -> bool:
        return at < before and (arrival is None or arrival.by < before)

    def unknown_before(self, moment: float) -> None:
        """Take it that a process before this one sent as much as is allowed, whatever the limit, until this moment."""
        self._unknown_before = moment
        self._planned = max(self._planned, moment + self._span - self.spacing)
        self._next = max(self._next, moment + self._span)

    def measured(self, now: float) -> float:
        """Calls per second that were sent lately: over the second, or more, within which the limit counts."""
        return sum(1 for at, _ in self._sent if now - at < self._span) / self._span


@dataclass(slots=True)
class Capacity:
    """What one holder allows: calls at once, calls per second, or both."""

    slots: int | None = None
    rate: Rate | None = None
    used: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Why no call may go out now: whose limit it is, and when its rate allows the next (None: a slot must free)."""

    key: Key
    until: float | None


class Book:
    """All limits and what is used of them, from journal to hangup."""

    def __init__(self) -> None:
        self._capacity: dict[Key, Capacity] = {}
        self._calls: dict[str, tuple[Key, ...]] = {}
        self._leaving: set[Key] = set()
        """Holders that nobody uses, and whose rate still remembers what was sent."""
        self._since: float | None = None

    def unknown_before(self, moment: float) -> None:
        """What a process before this one sent is not known: every rate begins as if it were spent at this moment."""
        self._since = moment
        for capacity in self._capacity.values():
            if capacity.rate is not None:
                capacity.rate.unknown_before(moment)

    def set(self, key: Key, slots: int | None, per_second: float | None, guard_seconds: float) -> None:
        """Set a holder's limits; calls that exceed a lowered one live on and count."""
        capacity = self._capacity.setdefault(key, Capacity())
        capacity.slots = slots
        self._leaving.discard(key)
        if per_second is None:
            capacity.rate = None
        elif capacity.rate is None:
            capacity.rate = Rate(per_second, guard_seconds)
            if self._since is not None:
                capacity.rate.unknown_before(self._since)
        else:
            capacity.rate.limit(per_second)

    def drop(self, key: Key, now: float = math.inf) -> None:
        """Forget a holder that nobody uses: at once, or with a later one while its rate remembers what was sent."""
        capacity = self._capacity.get(key)
        if capacity is not None and capacity.used == 0:
            self._leaving.add(key)
        for each in tuple(self._leaving):
            held = self._capacity[each]
            if held.used == 0 and (held.rate is None or held.rate.lawful() <= now):
                del self._capacity[each]
                self._leaving.discard(each)

    def get(self, key: Key) -> Capacity:
        """A holder's limits; without any where none were set."""
        capacity = self._capacity.get(key)
        if capacity is None:
            capacity = self._capacity[key] = Capacity()
        return capacity

    def items(self) -> Iterable[tuple[Key, Capacity]]:
        """Every holder with its limits and use."""
        return self._capacity.items()

    def take(self, call_id: str, keys: Iterable[Key]) -> None:
        """Occupy a slot at each holder for a call. Also beyond a limit: a call that recovery found lives anyway."""
        if call_id in self._calls:
            raise ValueError(f"call {call_id} has its slots already")
        taken = self._calls[call_id] = tuple(keys)
        for key in taken:
            self.get(key).used += 1

    def release(self, call_id: str) -> tuple[Key, ...]:
        """Free a call's slots; harmless when repeated. Returns the holders."""
        freed = self._calls.pop(call_id, ())
        for key in freed:
            self.get(key).used -= 1
        return freed

    def lawful(self, keys: Iterable[Key]) -> float:
        """The earliest moment at which a call of these holders may really be sent; ``inf``: nobody knows yet."""
        return max((rate.lawful() for rate in self._rates(keys)), default=-math.inf)

    def sent(self, keys: Iterable[Key], at: float, arrival: Arrival | None = None) -> None:
        """Note that a call of these holders was sent; ``arrival``: who will know by when it arrived (None: at once)."""
        for rate in self._rates(keys):
            rate.sent(at, arrival)

    def reserve(self, keys: Iterable[Key], at: float) -> None:
        """Plan a call of these holders for a moment."""
        for rate in self._rates(keys):
            rate.reserve(at)

    def _rates(self, keys: Iterable[Key]) -> list[Rate]:
        rates = (self.get(key).rate for key in keys)
        return [rate for rate in rates if rate is not None]


class Draft:
    """A plan's own view of the book: what it would take, without taking it."""

    def __init__(self, book: Book, horizon: float = 0.0) -> None:
        """``horizon``: seconds ahead for which calls of a rate may be planned, once its next moment has come."""
        self._book = book
        self.horizon = horizon
        self._used: Counter[Key] = Counter()
        self._next: dict[Key, float] = {}
        self.version = 0
        """Grows with whatever is taken: what was asked at the same version has the same answer."""

    @property
    def book(self) -> Book:
        """The book that is drafted on."""
        return self._book

    def block(self, keys: Iterable[Key], by: float, used_by: float | None = None) -> Block | None:
        """The first limit that keeps a call of these holders from going out by a moment; None where none does.

        ``used_by``: a later moment for rates of which this draft has taken something.
        """
        for key in keys:
            capacity = self._book.get(key)
            if capacity.slots is not None and capacity.used + self._used[key] >= capacity.slots:
                return Block(key, None)
            free = self._free(key, capacity)
            if free > by and (used_by is None or key not in self._next or free > used_by):
                return Block(key, free)
        return None

    def send_at(self, keys: Iterable[Key], now: float) -> float:
        """The moment that a call of these holders may be planned for, from now on."""
        return max([now, *(self._free(key, self._book.get(key)) for key in keys)])

    def take(self, keys: Iterable[Key], at: float) -> None:
        """Take a slot and a send at a moment from each holder."""
        self.version += 1
        for key in keys:
            self._used[key] += 1
            rate = self._book.get(key).rate
            if rate is not None:
                self._next[key] = max(self._free(key, self._book.get(key)), at) + rate.spacing

    def keep(self, keys: Iterable[Key]) -> None:
        """Keep a slot at each holder for a call that cannot be placed yet; its rate is left to the others."""
        self.version += 1
        self._used.update(keys)

    def _free(self, key: Key, capacity: Capacity) -> float:
        if capacity.rate is None:
            return -math.inf
        return self._next.get(key, capacity.rate.next_free)


class Shares:
    """Who was served how much at each contended holder: the least served of those who wait comes next.

    Stride scheduling: each served call moves its owner's mark on by one over its weight. A newcomer, or one who had
    nothing to dial for a while, starts at the least mark of those who wait: nobody saves up, and nobody starves.
    """

    def __init__(self) -> None:
        self._marks: dict[Key, dict[str | int, float]] = {}
        self._floor: dict[Key, float] = {}
        self._waited: dict[Key, Iterable[str | int]] = {}
        """Who waited at the last service: the calls of one round, hundreds of owners perhaps, share one tuple."""

    def marks(self, holder: Key, waiting: Iterable[str | int]) -> Mapping[str | int, float]:
        """The marks of those who wait at a holder, the least of them being 0."""
        marks, floor = self._marks.get(holder, {}), self._floor.get(holder, 0.0)
        raised = {owner: max(marks.get(owner, floor), floor) for owner in waiting}
        least = min(raised.values(), default=0.0)
        return {owner: mark - least for owner, mark in raised.items()}

    def serve(self, holder: Key, owner: str | int, weight: float, waiting: Iterable[str | int]) -> None:
        """Note that one of those who wait was served."""
        marks, floor = self._marks.get(holder, {}), self._floor.get(holder, 0.0)
        if not isinstance(waiting, tuple) or self._waited.get(holder) is not waiting:
            # Only those who wait keep a mark: the table stays as small as the crowd.
            marks = self._marks[holder] = {each: max(marks.get(each, floor), floor) for each in waiting}
            self._waited[holder] = waiting
        marks[owner] = marks.get(owner, floor) + 1.0 / weight
        # Taken after the service: ever new owners, each served once, would keep it down and all others waiting.
        self._floor[holder] = min(marks.values())
