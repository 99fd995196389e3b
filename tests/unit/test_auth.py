"""Who guesses keys: how often in a minute, from where, and what that costs us at the most."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from dialerd.api import auth
from dialerd.api.auth import Doorkeeper
from dialerd.api.problems import RATE_LIMITED, UNAUTHORIZED
from dialerd.clock import Clock, SystemClock, VirtualClock, show_id
from dialerd.dispatch.errors import Rejected
from dialerd.store import keys
from dialerd.store.db import Store
from dialerd.store.keys import Principal, Role
from dialerd.telemetry.metrics import Metrics
from tests.support.logs import silent_logs
from tests.support.virtual import Virtual

LIMIT = 3
KEY_ID = 7
SECRET = "sesame"
DEADLINE = 30.0
BOUNDS = ("_REMEMBERED", "_PLACES")
"""What the tables of the doorkeeper hold at most."""


class FakeKey:
    """A key whose digest costs nothing, and which counts who computes it at once."""

    principal = Principal(KEY_ID, "one", Role.ADMIN)

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.computing = self.most = self.asked = 0
        self.begun = threading.Semaphore(0)
        self.busy = threading.Event()
        self.busy.set()

    def fits(self, secret: str) -> bool:
        with self.guard:
            self.asked += 1
            self.computing += 1
            self.most = max(self.most, self.computing)
        self.begun.release()
        assert self.busy.wait(DEADLINE)
        with self.guard:
            self.computing -= 1
        return secret == SECRET


class FakeStore:
    """A store whose reads need no connection."""

    def read(self) -> FakeStore:
        return self

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKey]:
    """The one key of the store."""
    stored = FakeKey()

    async def get(_conn: object, key_id: int) -> FakeKey | None:
        return stored if key_id == KEY_ID else None

    monkeypatch.setattr(keys, "get", get)
    with silent_logs():
        yield stored


class Door:
    """A doorkeeper, and what it answers."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self.keeper = Doorkeeper(cast(Store, FakeStore()), clock, metrics, LIMIT)

    async def show(self, shown: str, remote: str = "192.0.2.1") -> str:
        """Show a key; returns what is answered."""
        raw = SimpleNamespace(headers={"Authorization": f"Bearer {shown}"}, remote=remote)
        try:
            await self.keeper.principal(cast(web.Request, raw))
        except Rejected as rejected:
            return rejected.code
        return "let in"


def a_guess(number: int) -> str:
    return f"dk_{show_id(KEY_ID)}_guess{number}"


GOOD = f"dk_{show_id(KEY_ID)}_{SECRET}"


@pytest.mark.usefixtures("key")
def test_a_minute_after_the_first_wrong_key_the_count_begins_anew_and_limits_again(
    virtual: Virtual, metrics: Metrics
) -> None:
    async def main(clock: VirtualClock) -> None:
        door = Door(clock, metrics)
        for _ in range(3):
            told = []
            for number in range(LIMIT + 1):
                told.append(await door.show(a_guess(number)))
                await clock.sleep(1)
            assert told == [UNAUTHORIZED.code] * LIMIT + [RATE_LIMITED.code]
            await clock.sleep(60 - LIMIT - 2)
            assert await door.show(a_guess(9)) == RATE_LIMITED.code, "the minute is not over"
            await clock.sleep(2)
        assert await door.show(GOOD) == "let in"

    virtual(main)


@pytest.mark.parametrize("shown", ["dk_nonsense", a_guess(1)], ids=["no key", "wrong secret"])
@pytest.mark.usefixtures("key")
def test_an_ipv6_host_counts_as_one_wherever_in_its_network_it_comes_from(
    virtual: Virtual, metrics: Metrics, shown: str
) -> None:
    async def main(clock: VirtualClock) -> None:
        door = Door(clock, metrics)
        hosts = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2%eth0", "2001:db8:0:1:0:0:0:3", "2001:db8:0:1::4"]
        told = [await door.show(shown, host) for host in hosts]
        assert told == [UNAUTHORIZED.code] * LIMIT + [RATE_LIMITED.code]
        assert await door.show(shown, "2001:db8:0:2::1") == UNAUTHORIZED.code, "that is somebody else's"
        # Addresses of IPv4 in IPv6 share a network, and are hosts of their own.
        told = [await door.show(shown, f"::ffff:192.0.2.{host}") for host in range(1, LIMIT + 2)]
        assert told == [UNAUTHORIZED.code] * (LIMIT + 1)

    virtual(main)


async def test_two_digests_are_computed_at_once_whoever_waits_for_one(key: FakeKey, metrics: Metrics) -> None:
    """Each takes 16 MB and a core for 50 ms: a crowd of strangers must cost no more than two."""
    door = Door(SystemClock(), metrics)
    key.busy.clear()
    hosts = [f"192.0.2.{host}" for host in range(1, 13)]
    guesses = [asyncio.ensure_future(door.show(a_guess(number), host)) for number, host in enumerate(hosts)]
    async with asyncio.timeout(DEADLINE):
        for _ in range(2):
            assert await asyncio.to_thread(key.begun.acquire, timeout=DEADLINE)
        for _ in range(100):
            await asyncio.sleep(0)  # noqa: TID251 - turns in which a third would have been asked for
        key.busy.set()
        assert await asyncio.gather(*guesses) == [UNAUTHORIZED.code] * len(hosts)
    assert (key.most, key.asked) == (2, len(hosts))


@pytest.mark.usefixtures("key")
def test_whoever_comes_from_everywhere_fills_no_table(
    virtual: Virtual, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes first: of places where keys failed, of keys that are remembered, of those that were deleted."""

    async def let_in(_conn: object, key_id: int) -> Any:
        fits = SimpleNamespace(principal=Principal(key_id, "one", Role.ADMIN), fits=lambda _secret: True)
        return None if key_id < 1000 else fits

    async def main(clock: VirtualClock) -> None:
        door = Door(clock, metrics)
        monkeypatch.setattr(keys, "get", let_in)
        for name in BOUNDS:
            monkeypatch.setattr(auth, name, 20)
        for number in range(50):
            assert await door.show("dk_nonsense", f"192.0.2.{number}") == UNAUTHORIZED.code
            assert await door.show(f"dk_{show_id(1000 + number)}_secret") == "let in"
            door.keeper.forget(5000 + number)
        sizes = [len(table) for table in (door.keeper._failures._counts, door.keeper._known, door.keeper._deleted)]
        assert sizes == [20, 20, 20]
        assert await door.show(f"dk_{show_id(1049)}_secret") == "let in"

    virtual(main)
