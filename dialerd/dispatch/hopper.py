"""The hopper: due contacts fetched ahead of need, so that a freed slot never waits for the store.

A batch is fetched when less than half of one is left. Whoever falls due meanwhile comes behind those of the same rank
who are at hand, and is fetched in turn; only a higher rank (a promised callback, a higher priority) may not wait, and
is fetched alone. So a retry that falls due costs no look at all that is at hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog

from dialerd.clock import Clock
from dialerd.core.model import Contact
from dialerd.dispatch.tasks import Spawn
from dialerd.store import contact_due, contacts, last_look
from dialerd.store.db import Store
from dialerd.store.errors import StoreError

log = structlog.get_logger(__name__)

LEAST, MOST = 20, 500
_UNCOMMITTED = 2 * MOST
"""Contacts of a campaign taken and not yet committed, from which on no more are fetched: the writer has to follow."""
_RETRY_SECONDS = 1.0
_EVER = datetime.min.replace(tzinfo=UTC)
"""Since when whoever waits for no time is due."""


@dataclass(slots=True)
class _Bin:
    """What is at hand of one campaign's list."""

    batch: int
    tenant: str
    looks_back: timedelta | None
    queue: deque[Contact] = field(default_factory=deque)
    placing: set[int] = field(default_factory=set)
    """Taken by the dispatcher and not yet committed: still pending in the store, and not to be fetched again."""
    next_due: datetime | None = None
    """When the next one falls due who may come before somebody at hand, or for whom nobody is."""
    exhausted: bool = False
    """The store has no more due contacts, as far as is known."""
    floor: int | None = None
    """The lowest rank at hand while the store has more: of those who fall due only a higher one may not wait."""
    seen: datetime | None = None
    """Whoever fell due by then, and ranks above the floor, is at hand or was taken; None: that is not known."""
    loading: bool = False
    stale: bool = False
    """Something changed while a fetch was under way: what it brings may miss it."""
    noted: datetime | None = None
    """When the first of those falls due who were noted while a fetch was under way."""
    put_off: bool = False
    """A fetch was asked for while too many were not committed."""


class Hopper:
    """Holds due contacts per campaign. Nothing is marked in the store until a call is committed."""

    def __init__(self, store: Store, clock: Clock, spawn: Spawn, wake: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._spawn = spawn
        self._wake = wake
        self._bins: dict[int, _Bin] = {}

    def __len__(self) -> int:
        return sum(len(each.queue) for each in self._bins.values())

    def open(self, campaign_id: int, slots: int, tenant: str, looks_back: timedelta | None) -> None:
        """Begin to hold contacts of a campaign that may have so many calls at once.

        ``looks_back``: how far back its rules ask when a number was dialled; None where they do not.
        """
        batch = max(LEAST, min(MOST, 2 * slots))
        known = self._bins.setdefault(campaign_id, _Bin(batch, tenant, looks_back))
        known.batch, known.looks_back = batch, looks_back

    def close(self, campaign_id: int) -> None:
        """Let go of a campaign's contacts."""
        self._bins.pop(campaign_id, None)

    def at_hand(self, campaign_id: int) -> Sequence[Contact]:
        """Due contacts in the order of dialing."""
        return self._bins[campaign_id].queue

    def next_due(self, campaign_id: int) -> datetime | None:
        """When the next contact falls due, as far as none is due now."""
        return self._bins[campaign_id].next_due

    def loading(self, campaign_id: int) -> bool:
        """Whether contacts are being fetched."""
        return self._bins[campaign_id].loading

    def held(self) -> int:
        """How many contacts were taken, by the dispatcher or a deferral, and their fate is not committed yet."""
        return sum(len(each.placing) for each in self._bins.values())

    def take(self, campaign_id: int, contact: Contact) -> None:
        """Take a contact out to be dialled (or deferred); :meth:`done` must follow."""
        held = self._bins[campaign_id]
        held.queue.remove(contact)
        held.placing.add(contact.id)
        if len(held.queue) < held.batch // 2:
            self.fill(campaign_id)

    def done(self, campaign_id: int, contact_id: int) -> None:
        """The contact's fate is committed: the store tells of it from now on."""
        held = self._bins.get(campaign_id)
        if held is None:
            return
        held.placing.discard(contact_id)
        if held.put_off and len(held.placing) < _UNCOMMITTED:
            held.put_off = False
            self.fill(campaign_id)

    def note_due(self, campaign_id: int, at: datetime, rank: int) -> None:
        """A contact of a rank falls due at a moment, by the store too."""
        held = self._bins.get(campaign_id)
        if held is None:
            return
        if held.loading:
            held.noted = _earlier(held.noted, at)
        elif held.floor is None or rank > held.floor or (rank == held.floor and _is_late(held, at)):
            _expect(held, at)

    def fetch_again(self, campaign_id: int, at: datetime) -> None:
        """Fetch anew at a moment, whatever is known."""
        held = self._bins.get(campaign_id)
        if held is not None:
            held.seen = None
            held.stale = held.loading
            held.next_due = _earlier(held.next_due, at)

    def stir(self, campaign_id: int) -> None:
        """Contacts were added, cancelled or given another time: fetch anew."""
        held = self._bins.get(campaign_id)
        if held is not None:
            held.queue.clear()
            held.exhausted = False
            held.floor = held.seen = None
            held.stale = held.loading
            self.fill(campaign_id)

    def fill(self, campaign_id: int) -> None:
        """Fetch due contacts, unless there can be none or a fetch is under way."""
        held = self._bins.get(campaign_id)
        if held is None or held.loading:
            return
        if len(held.placing) >= _UNCOMMITTED:
            held.put_off = True
            return
        due = held.next_due is not None and held.next_due <= self._clock.wall()
        if not due and (held.exhausted or len(held.queue) >= held.batch):
            return
        enough = held.exhausted or len(held.queue) >= held.batch // 2
        held.loading = True
        self._spawn(self._load(campaign_id, held, held.seen if due and enough else None))

    async def _load(self, campaign_id: int, held: _Bin, since: datetime | None) -> None:
        """Fetch a batch, or only those who fell due ``since`` a moment and may not wait for the next batch."""
        try:
            now = self._clock.wall()
            without = frozenset(held.placing) | {contact.id for contact in held.queue}
            above = None if since is None else held.floor
            async with self._store.read() as conn:
                found, upcoming = await contact_due.fetch(
                    conn, campaign_id, now, held.batch, without, since=since, above=above
                )
                if held.looks_back is not None and found:
                    numbers = {contact.phone_number for contact in found}
                    dialled = await last_look.dialled(conn, held.tenant, numbers, now - held.looks_back)
                    found = [replace(each, dialled_at=tuple(dialled[each.phone_number])) for each in found]
        except Exception as error:
            if not isinstance(error, StoreError):
                # A row that cannot be read, say: the campaign must not stay silent without a word.
                log.exception("hopper_fetch_broken", campaign_id=campaign_id, tenant=held.tenant)
            log.warning("hopper_fetch_failed", campaign_id=campaign_id, tenant=held.tenant, reason=str(error))
            # The fetch is asked for again after a while, and not at once: the store is ill.
            self._clock.call_at(self._clock.mono() + _RETRY_SECONDS, lambda: self._reload(campaign_id, held))
            return
        held.loading = False
        if self._bins.get(campaign_id) is not held:
            return
        # Whoever was taken meanwhile is not put back.
        held.queue.extend(contact for contact in found if contact.id not in held.placing)
        held.queue = deque(sorted(held.queue, key=_turn))
        if since is None:
            held.exhausted = len(found) < held.batch
        elif len(found) == held.batch:
            # So many at once: who is behind them may still come before others at hand.
            held.exhausted, held.stale = False, True
        _settle(held, now, upcoming)
        self._wake()

    def _reload(self, campaign_id: int, held: _Bin) -> None:
        held.loading = False
        _expect_noted(held)
        if self._bins.get(campaign_id) is held:
            self.fill(campaign_id)


def _settle(held: _Bin, now: datetime, upcoming: Mapping[int, datetime]) -> None:
    """Take stock after a fetch as of ``now``: what is known of the store, and when to look at it again."""
    while len(held.queue) > 2 * held.batch:
        held.queue.pop()
        held.exhausted = False
    held.floor = None if held.exhausted or not held.queue else contacts.rank_of(held.queue[-1])
    held.seen = now
    held.next_due = min((at for rank, at in upcoming.items() if held.floor is None or rank > held.floor), default=None)
    _expect_noted(held)
    if held.stale:
        held.stale = held.exhausted = False
        held.seen, held.next_due = None, now


def _expect(held: _Bin, at: datetime) -> None:
    held.next_due = _earlier(held.next_due, at)
    if _is_late(held, at):
        held.seen = None  # it was not there when it would have been seen


def _is_late(held: _Bin, at: datetime) -> bool:
    """Whether one who is told of now fell due before others who are at hand, as far as is known."""
    return held.seen is None or at <= held.seen


def _expect_noted(held: _Bin) -> None:
    if held.noted is not None:
        noted, held.noted = held.noted, None
        _expect(held, noted)


def _earlier(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)


def _turn(contact: Contact) -> tuple[int, datetime, int]:
    """The order of dialing, as the store has it: promised callbacks, then by priority; of equals the longest due."""
    return -contacts.rank_of(contact), contact.next_attempt_at or _EVER, contact.id
