"""A daemon that is measured: one PBX, one trunk, one tenant, and limits as wide as is asked."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from tests.integration.client import Api
from tests.integration.daemon import CALLER_ID, TENANT, Daemon, Stock, toml

Tables = Mapping[str, Mapping[str, Any]]


@contextlib.asynccontextmanager
async def running(folder: Path, stock: Stock, write: Callable[[Path, int], str]) -> AsyncIterator[tuple[Daemon, Api]]:
    """Run a daemon in ``folder``, with a client of it. Its log is printed where the block fails."""
    daemon = Daemon(folder, stock, write)
    await daemon.start()
    api = Api(daemon)
    try:
        yield daemon, api
    except BaseException:
        print(daemon.show())
        raise
    finally:
        await api.close()
        await daemon.stop()


def configuration(
    store: Path,
    port: int,
    *,
    trunk: str,
    channels: int,
    calls_per_second: float,
    pbx: Tables,
    others: Tables | None = None,
) -> str:
    """Write it. ``pbx``: the tables of ``pbx.main``, but for its limits; ``others``: more tables, or in their place."""
    limits = {"max_calls_per_second": calls_per_second, "max_channels": channels}
    tables: dict[str, Mapping[str, Any]] = {
        "server": {"listen": f"127.0.0.1:{port}"},
        "store": {"url": f"sqlite:///{store}"},
        "dispatch": {"drain_seconds": 0.0},
        **pbx,
        f"trunk.{trunk}": {"pbx": "main", "dial": f"PJSIP/{{number}}@{trunk}", "caller_ids": [CALLER_ID], **limits},
        f"tenant.{TENANT}": {
            "max_calls_per_second": calls_per_second,
            "max_concurrent_calls": channels,
            "trunks": [trunk],
        },
        f"tenant.{TENANT}.settings": {"calling_hours_start": "00:00", "calling_hours_end": "00:00"},
    }
    tables["pbx.main"] = {**tables["pbx.main"], **limits}
    return toml({**tables, **(others or {})})
