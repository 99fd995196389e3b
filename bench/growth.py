"""What a call costs the daemon where there is ten and a hundred times as much of something."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.context import Bench, Found
from bench.filled import CAMPAIGN, dialing
from bench.house import running
from bench.measure import Growth, at_most
from bench.meters import cpu_seconds
from bench.peer import FastPeer, fast_peer, on_peer
from dialerd.clock import SystemClock, show_id
from tests.integration.daemon import Daemon, Stock

_RATE = 100.0
"""Calls per second, where nothing else is said."""
_FLAT = at_most(0.1)
"""A quarter more for ten times as much: a logarithm's growth, and the noise of a measurement."""
_SPARE = 3000
_clock = SystemClock()


@dataclass(frozen=True, slots=True)
class _Dialing:
    """A daemon that dials on a fast peer, at a rate and with calls of a length."""

    daemon: Daemon
    peer: FastPeer

    async def cost(self, seconds: float) -> float:
        """Milliseconds of a core that it takes per call, over a while."""
        begun, before = cpu_seconds(self.daemon.pid), await self._placed()
        await _clock.sleep(seconds)
        taken, calls = cpu_seconds(self.daemon.pid) - begun, await self._placed() - before
        assert calls > 0, "no call was placed"
        return 1000 * taken / calls

    async def _placed(self) -> int:
        return len((await self.peer.seen()).ordered)


async def run(bench: Bench) -> Found:
    """Contacts, campaigns, tenants, calls in flight: the processor's time per call at three sizes a decade apart."""
    yield await _grown(bench, "tenants", bench.pick((10, 100, 1000), (2, 4)), _tenants)
    yield await _grown(bench, "calls in flight", bench.pick((50, 500, 5000), (5, 20)), _in_flight)
    if not bench.short:  # they do nothing that the others do not
        yield await _grown(bench, "contacts", (10_000, 100_000, 1_000_000), _contacts)
        yield await _grown(bench, "campaigns", (10, 100, 1000), _campaigns)


async def _grown(bench: Bench, what: str, sizes: Sequence[int], cost: Any) -> Growth:
    costs = [await cost(bench, size) for size in sizes]
    key = f"growth.{what.replace(' ', '-')}"
    return Growth(key, f"our processor time per call: {what}", "ms", tuple(sizes), tuple(costs), _FLAT)


async def _contacts(bench: Bench, size: int) -> float:
    return await _cost(bench, dialing(bench.stock, bench.folder, contacts=size))


async def _campaigns(bench: Bench, size: int) -> float:
    """All of them have contacts due at any time, and share one trunk that has not enough for all."""
    return await _cost(bench, dialing(bench.stock, bench.folder, contacts=_enough(size), campaigns=size))


async def _tenants(bench: Bench, size: int) -> float:
    """Each has one campaign, as above."""
    tenants = [f"tenant{number}" for number in range(size)]
    stock = dialing(bench.stock, bench.folder, contacts=_enough(size), campaigns=size, tenants=tenants)
    limits = {"max_calls_per_second": 5000.0, "max_concurrent_calls": 10_000, "trunks": ["any"]}
    return await _cost(bench, stock, others={f"tenant.{tenant}": limits for tenant in tenants})


async def _in_flight(bench: Bench, size: int) -> float:
    """So many calls are up, at twice the rate: they last as long as it takes."""
    seconds = size / (2 * _RATE)
    stock = dialing(bench.stock, bench.folder, contacts=2 * size + _SPARE)
    return await _cost(bench, stock, calls_per_second=2 * _RATE, call_seconds=seconds)


def _enough(size: int) -> int:
    return max(_SPARE, 20 * size)


async def _cost(
    bench: Bench,
    stock: Stock,
    *,
    calls_per_second: float = _RATE,
    call_seconds: float = 0.5,
    others: Mapping[str, Mapping[str, Any]] | None = None,
) -> float:
    settling, seconds = bench.pick((3.0, 8.0), (0.3, 0.7))
    async with _dialing(bench.folder, stock, calls_per_second, call_seconds, others) as dials:
        await _clock.sleep(settling + call_seconds)
        return await dials.cost(seconds)


@contextlib.asynccontextmanager
async def _dialing(
    folder: Path,
    stock: Stock,
    calls_per_second: float,
    call_seconds: float,
    others: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[_Dialing]:
    async with fast_peer(seconds=call_seconds) as peer:

        def write(store: Path, port: int) -> str:
            return on_peer(store, port, peer, channels=10_000, calls_per_second=calls_per_second, others=others)

        async with running(folder, stock, write) as (daemon, _):
            stock.store.unlink()
            yield _Dialing(daemon, peer)


# -- event streams ----------------------------------------------------------------------------------------------------


class _Client(asyncio.Protocol):
    """One client of an event stream; it counts what it is told."""

    def __init__(self, daemon: Daemon, counts: list[int]) -> None:
        self._asked = (
            f"GET /api/v1/campaigns/{show_id(CAMPAIGN)}/events HTTP/1.1\r\nHost: dialerd\r\n"
            f"Authorization: Bearer {daemon.key}\r\n\r\n"
        ).encode()
        self._counts = counts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        self._counts[0] += data.count(b"\nevent: ")


async def run_streams(bench: Bench) -> Found:
    """Clients of an event stream: the processor's time for each event that one of them is told."""
    sizes, seconds = bench.pick(((10, 100, 1000), 8.0), ((2, 4), 1.0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stock = dialing(bench.stock, bench.folder, contacts=_SPARE)
    costs = []
    async with _dialing(bench.folder, stock, 25.0, 1.0) as dials:
        counts = [0]
        transports: list[asyncio.Transport] = []
        for size in sizes:
            while len(transports) < size:
                transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: _Client(dials.daemon, counts), "127.0.0.1", dials.daemon.port
                )
                transports.append(transport)
            await _clock.sleep(seconds / 4)
            begun, before = cpu_seconds(dials.daemon.pid), counts[0]
            await _clock.sleep(seconds)
            told = counts[0] - before
            assert told > 0, "the clients were told nothing"
            costs.append(1000 * (cpu_seconds(dials.daemon.pid) - begun) / told)
        for transport in transports:
            transport.abort()
    name = "our processor time per event and client, dialing included: clients of the event stream"
    yield Growth("growth.streams", name, "ms", tuple(sizes), tuple(costs), _FLAT)
