"""A daemon whose Asterisk is the fast AMI peer (``bench.fast_peer``), a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.house import Tables, configuration, running
from bench.simulated import Desk
from tests.integration.daemon import Stock

_SECONDS = 60.0
_LONGEST_REPORT = 64 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """What the peer has seen. Times are monotonic seconds, the machine's own."""

    ordered: Sequence[float]
    answered: Sequence[float]
    hung_up: Sequence[float]
    most: int
    twice: int
    up: int
    unknown: dict[str, int]


class FastPeer:
    """The process of ``bench.fast_peer``."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def seen(self) -> Seen:
        """What it has seen since its start."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return Seen(**json.loads(await asyncio.wait_for(self._process.stdout.readline(), _SECONDS)))


@contextlib.asynccontextmanager
async def fast_peer(*, seconds: float, spread: float = 0.0) -> AsyncIterator[FastPeer]:
    """Run a peer whose calls last so long, up to a share ``spread`` more or less."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.fast_peer", "--seconds", str(seconds), "--spread", str(spread)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_REPORT,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield FastPeer(process, int(await asyncio.wait_for(process.stdout.readline(), _SECONDS)))
    finally:
        process.stdin.close()
        await process.wait()


def on_peer(
    store: Path,
    port: int,
    peer: FastPeer,
    *,
    channels: int = 5000,
    calls_per_second: float = 5000.0,
    others: Tables | None = None,
) -> str:
    """The configuration of a daemon whose PBX is the peer."""
    manager = {"host": "127.0.0.1", "port": peer.port, "username": "dialerd", "secret": "fast"}
    return configuration(
        store,
        port,
        trunk="any",
        channels=channels,
        calls_per_second=calls_per_second,
        pbx={"pbx.main": {"driver": "asterisk", **manager}},
        others=others,
    )


@contextlib.asynccontextmanager
async def wired(
    folder: Path,
    stock: Stock,
    peer: FastPeer,
    *,
    channels: int = 5000,
    calls_per_second: float = 5000.0,
    others: Tables | None = None,
) -> AsyncIterator[Desk]:
    """Run a daemon in ``folder`` (which is there) whose one Asterisk is the peer."""

    def write(store: Path, port: int) -> str:
        return on_peer(store, port, peer, channels=channels, calls_per_second=calls_per_second, others=others)

    async with running(folder, stock, write) as (daemon, api):
        yield Desk(daemon, api, await api.agent("answered"), folder)
