"""Who a request comes from: bearer keys (RFC 6750), checked once and remembered for a while."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog
from aiohttp import web

from dialerd.api.problems import RATE_LIMITED, UNAUTHORIZED, refuse
from dialerd.clock import Clock
from dialerd.store import keys
from dialerd.store.db import Store
from dialerd.store.keys import Principal, Role, StoredKey
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

REMEMBER_SECONDS = 60.0
"""How long a key is taken without asking the store: one that another process deleted dies within this."""
_REMEMBERED = 10_000
_PLACES = 10_000
_MINUTE = 60.0
_AT_ONCE = 2
"""Digests of keys that are computed at once: each costs some 50 ms of CPU and 16 MB."""
_WAITING = 200
"""Those that wait for it; whoever comes beyond is told to come again, as is who has waited for too long."""
_WAIT_SECONDS = 10.0
_LONGEST_KEY = 512
_SOON = {"Retry-After": "5"}
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_RANK = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}


def may(principal: Principal, role: Role) -> bool:
    """Whether a key's role includes another; a system key stands beside the tenants' roles and includes none."""
    if principal.role is Role.SYSTEM or role is Role.SYSTEM:
        return principal.role is role
    return _RANK[principal.role] >= _RANK[role]


_Place = tuple[str, int | None]
"""Where a login failed: from which address, and for which key; None: for none that there is."""


@dataclass(slots=True)
class _Known:
    key: StoredKey
    until: float


class Turns:
    """Who computes the digest of a key, and who waits for that."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it. Raises Rejected (``rate_limited``)."""
        if self._waiting >= _WAITING:
            raise refuse(RATE_LIMITED, "too many keys are waiting to be checked", _SOON)
        self._waiting += 1
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise refuse(RATE_LIMITED, "too many keys are waiting to be checked", _SOON) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class Doorkeeper:
    """Checks keys. A good one costs its scrypt digest once.

    Wrong secrets are counted per key and remote address, which may be a proxy's: they lock that key out there, for a
    minute and unless it is remembered, and no other. What names no key of ours is counted per address, and locks out
    only more of it.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        failures_per_minute: int,
        *,
        trusts: bool = True,
    ) -> None:
        """``trusts``: a good key is taken for a while without asking the store whether it still stands."""
        self._store = store
        self._trusts = trusts
        self._clock = clock
        self._metrics = metrics
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._failures = _Failures(clock, failures_per_minute)
        self.turns = Turns()
        """Of whoever computes a key's digest."""
        self._deleted: OrderedDict[int, None] = OrderedDict()
        self._checking: dict[tuple[bytes, str], asyncio.Task[Principal | None]] = {}

    async def principal(self, raw: web.Request) -> Principal:
        """Who sent the request. Raises Rejected: ``unauthorized``, ``rate_limited``."""
        shown = _bearer(raw.headers.get("Authorization", ""))
        if shown is None:
            raise refuse(UNAUTHORIZED, headers=_CHALLENGE)
        digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
        if (principal := await self._remembered(digest)) is not None:
            return principal
        principal = await self._sought(digest, shown, _origin(raw.remote))
        if principal is None:
            self._metrics.logins_failed.inc()
            log.warning("login_failed", remote=raw.remote)
            raise refuse(UNAUTHORIZED, headers=_CHALLENGE)
        return principal

    def forget(self, key_id: int) -> None:
        """A key was deleted: it opens nothing from now on, whoever is being checked just now included."""
        self._deleted[key_id] = None
        if len(self._deleted) > _REMEMBERED:
            self._deleted.popitem(last=False)
        for digest in [each for each, known in self._known.items() if known.key.principal.key_id == key_id]:
            del self._known[digest]

    async def _remembered(self, digest: bytes) -> Principal | None:
        known = self._known.get(digest)
        if known is None:
            return None
        if self._clock.mono() < known.until:
            return known.key.principal
        # The digest was checked before; whether the key still stands is a cheap question.
        async with self._store.read() as conn:
            standing = await keys.get(conn, known.key.principal.key_id)
        if standing is None or standing != known.key or standing.principal.key_id in self._deleted:
            self._known.pop(digest, None)
            return None
        self._remember(digest, standing)
        return standing.principal

    async def _sought(self, digest: bytes, shown: str, origin: str) -> Principal | None:
        """Check a key that is not remembered; once for all who show it from there meanwhile."""
        parts = keys.split(shown)
        if parts is None:
            self._failures.expect_few((origin, None))
            self._failures.add((origin, None))
            return None
        place = (digest, origin)
        checking = self._checking.get(place)
        if checking is None:
            checking = asyncio.create_task(self._checked(digest, *parts, origin), name="key-check")
            self._checking[place] = checking
            checking.add_done_callback(lambda _: self._checking.pop(place, None))
        return await asyncio.shield(checking)

    async def _checked(self, digest: bytes, key_id: int, secret: str, origin: str) -> Principal | None:
        wrong: _Place = (origin, key_id)
        self._failures.expect_few(wrong)
        async with self.turns.take():
            # Others may have failed, or this very key may have been found good, while this one waited.
            self._failures.expect_few(wrong)
            if (principal := await self._remembered(digest)) is not None:
                return principal
            async with self._store.read() as conn:
                key = await keys.get(conn, key_id)
            if key is None:
                # They have a count of their own: whoever invents keys locks out nobody who has one.
                wrong = (origin, None)
            # It counts until it is found good: another is checked meanwhile.
            self._failures.expect_few(wrong)
            self._failures.add(wrong)
            if key is None:
                return None
            with self._clock.hold():
                fits = await asyncio.to_thread(key.fits, secret)
            if not fits or key_id in self._deleted:
                return None
            self._failures.take_back(wrong)
            self._remember(digest, key)
            return key.principal

    def _remember(self, digest: bytes, key: StoredKey) -> None:
        self._known[digest] = _Known(key, self._clock.mono() + (REMEMBER_SECONDS if self._trusts else 0.0))
        self._known.move_to_end(digest)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


class _Failures:
    """Failed logins per place, in windows of a minute. The table is bounded: the oldest window goes first."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._counts: OrderedDict[_Place, tuple[float, int]] = OrderedDict()

    def expect_few(self, place: _Place) -> None:
        """Raises Rejected (``rate_limited``) where there were too many."""
        begun, count = self._counts.get(place, (0.0, 0))
        left = begun + _MINUTE - self._clock.mono()
        if count >= self._most and left > 0:
            wait = {"Retry-After": str(math.ceil(left))}
            raise refuse(RATE_LIMITED, "too many failed logins from this address", wait)

    def add(self, place: _Place) -> None:
        now = self._clock.mono()
        begun, count = self._counts.get(place, (now, 0))
        if begun + _MINUTE <= now:
            begun, count = now, 0
            self._counts.pop(place, None)
        self._counts[place] = (begun, count + 1)
        if len(self._counts) > _PLACES:
            self._counts.popitem(last=False)

    def take_back(self, place: _Place) -> None:
        """What was counted was none."""
        if place in self._counts:
            begun, count = self._counts[place]
            self._counts[place] = (begun, max(0, count - 1))


def _bearer(header: str) -> str | None:
    scheme, _, credentials = header.partition(" ")
    shown = credentials.strip()
    return shown if scheme.lower() == "bearer" and 0 < len(shown) <= _LONGEST_KEY else None


def _origin(remote: str | None) -> str:
    """The address that failures are counted by: an IPv6 host has a whole /64 to come from."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return remote or ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
