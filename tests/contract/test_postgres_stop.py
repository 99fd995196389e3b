"""A daemon that is told to stop while its PostgreSQL is away ends in time, whatever it still wanted to write."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dialerd.clock import SystemClock
from dialerd.config import parse
from dialerd.core.model import Agent, AgentKind
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.requests import NewCampaign, Upload
from dialerd.service import CLOSE_SECONDS, Daemon
from dialerd.store import agents
from dialerd.store.migrate import migrate
from dialerd.telemetry.metrics import Metrics
from tests.contract.test_postgres_link import Cutter
from tests.simulation.house import OPEN_ALL_DAY, TOML, Size
from tests.support.postgres import Cluster

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("doubt", [False, True])
async def test_an_upload_whose_commit_was_not_answered_keeps_nobody(
    postgres_url: str, postgres: Cluster, tmp_path: Path, doubt: bool
) -> None:
    migrate(postgres_url)
    clock = SystemClock()
    way = Cutter(postgres.port)
    async with way:
        url = postgres_url.replace(f":{postgres.port}/", f":{way.port}/")
        toml = TOML.format(store=url, trunk_a="", **vars(Size()))
        daemon = Daemon(parse(toml, {}, tmp_path / "x.toml", Path.read_text), clock, Metrics())
        stop, up, hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def ready() -> None:
            up.set()

        running = asyncio.create_task(daemon.run(stop, hurry=hurry, ready=ready))
        await up.wait()
        agent = Agent(clock.number(), "one", "desk", AgentKind.DIALPLAN, context="c", exten="s")
        await daemon.store.write(lambda tx: agents.save(tx, agent))
        tenant = daemon.api.tenants["one"]
        new = NewCampaign("a campaign", None, agent.id, CampaignSettings(**OPEN_ALL_DAY))
        campaign, _ = await daemon.control.create(tenant, new, None)
        if doubt:
            way.lose = "answer"
        else:
            way.cut()
            way.lost.set()
        upload = Upload("items", items=({"phone": "+12025550101"},))
        adding = asyncio.create_task(daemon.control.add_contacts(tenant, campaign.id, upload))
        await way.lost.wait()
        stop.set()
        hurry.set()
        done, _ = await asyncio.wait((running,), timeout=4 * CLOSE_SECONDS)
        assert done, "systemd kills it by now"
        await running
        await asyncio.gather(adding, return_exceptions=True)
        assert adding.exception() is not None, "nobody may believe that it was added"
