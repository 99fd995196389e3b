"""A daemon on a simulated PBX: what is measured is ours alone, and nobody is called."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench.house import Tables, configuration, running
from tests.integration.client import Api
from tests.integration.daemon import Daemon, Stock


@dataclass(frozen=True, slots=True)
class Desk:
    """The running daemon, a client, and an agent that takes the calls."""

    daemon: Daemon
    api: Api
    agent_id: str
    folder: Path


@contextlib.asynccontextmanager
async def simulated(
    folder: Path, stock: Stock, *, calls_per_second: float, channels: int = 2000
) -> AsyncIterator[Desk]:
    """Run a daemon in ``folder`` (which is there) whose trunk carries so much; calls last a second."""

    def write(store: Path, port: int) -> str:
        return _configuration(store, port, calls_per_second, channels)

    async with running(folder, stock, write) as (daemon, api):
        yield Desk(daemon, api, await api.agent("answered"), folder)


def _configuration(store: Path, port: int, calls_per_second: float, channels: int) -> str:
    pbx: Tables = {
        "pbx.main": {"driver": "simulated"},
        "pbx.main.simulated": {
            "seed": 1,
            "post_dial_seconds": [0.05, 0.1],
            "ring_seconds": [0.1, 0.3],
            "talk_seconds": [0.5, 1.5],
        },
        "pbx.main.simulated.shares": {"answer": 1.0},
    }
    return configuration(store, port, trunk="any", channels=channels, calls_per_second=calls_per_second, pbx=pbx)
