"""A daemon on the simulated PBX, as a process: for tests of what needs no lab."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.integration.client import Api
from tests.integration.daemon import TENANT, Daemon, Stock

CONFIGURATION = """
[server]
listen = "127.0.0.1:{port}"
[store]
url = "sqlite:///{store}"
[dispatch]
drain_seconds = {drain}
[pbx.main]
driver = "simulated"
max_calls_per_second = 500
max_channels = 1000
[pbx.main.simulated]
seed = 1
shares = {{ answer = 1.0 }}
post_dial_seconds = [0.05, 0.1]
ring_seconds = [0.1, 0.3]
talk_seconds = [{talk}, {talk}]
[trunk.trunk]
pbx = "main"
dial = "PJSIP/{{number}}@trunk"
max_calls_per_second = {rate}
max_channels = 500
[tenant.{tenant}]
max_calls_per_second = 500
max_concurrent_calls = 1000
trunks = ["trunk"]
[tenant.{tenant}.settings]
calling_hours_start = "00:00"
calling_hours_end = "00:00"
"""


@contextlib.asynccontextmanager
async def simulated(
    folder: Path, stock: Stock, *, rate: float = 20.0, talk: float = 1.0, drain: float = 0.0
) -> AsyncIterator[tuple[Daemon, Api]]:
    """Run a daemon whose callees all answer and talk for so many seconds; it is stopped, or killed, afterwards."""

    def write(store: Path, port: int) -> str:
        return CONFIGURATION.format(store=store, port=port, rate=rate, talk=talk, drain=drain, tenant=TENANT)

    daemon = Daemon(folder, stock, write)
    api = Api(daemon)
    try:
        await daemon.start()
        yield daemon, api
    except BaseException as error:
        error.add_note(daemon.show())
        raise
    finally:
        await api.close()
        await daemon.stop()


async def dialing(api: Api, contacts: int, **settings: object) -> str:
    """Start a campaign with so many contacts; returns its id."""
    rows = [{"phone_number": f"+1202{2_000_000 + index}"} for index in range(contacts)]
    campaign_id = await api.campaign(await api.agent("answered"), rows, concurrent_calls=500, **settings)
    await api.step(campaign_id, "start")
    return campaign_id
