"""A daemon on a simulated PBX: what is measured is ours alone, and nobody is called."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.client import Api
from tests.integration.daemon import TENANT, Daemon, Stock


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
    daemon = Daemon(folder, stock, lambda store, port: _configuration(store, port, calls_per_second, channels))
    await daemon.start()
    api = Api(daemon)
    try:
        yield Desk(daemon, api, await api.agent("answered"), folder)
    except BaseException:
        print(daemon.show())
        raise
    finally:
        await api.close()
        await daemon.stop()


def _configuration(store: Path, port: int, calls_per_second: float, channels: int) -> str:
    limits = {"max_calls_per_second": calls_per_second, "max_channels": channels}
    tables: dict[str, dict[str, Any]] = {
        "server": {"listen": f"127.0.0.1:{port}"},
        "store": {"url": f"sqlite:///{store}"},
        "dispatch": {"drain_seconds": 0.0},
        "logging": {"level": "info"},
        "pbx.main": {"driver": "simulated", **limits},
        "pbx.main.simulated": {
            "seed": 1,
            "shares": {"answer": 1.0},
            "post_dial_seconds": [0.05, 0.1],
            "ring_seconds": [0.1, 0.3],
            "talk_seconds": [0.5, 1.5],
        },
        "trunk.any": {"pbx": "main", "dial": "PJSIP/{number}@any", "caller_ids": ["+12025550199"], **limits},
        f"tenant.{TENANT}": {
            "max_calls_per_second": calls_per_second,
            "max_concurrent_calls": channels,
            "trunks": ["any"],
        },
        f"tenant.{TENANT}.settings": {"calling_hours_start": "00:00", "calling_hours_end": "00:00"},
    }
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)
