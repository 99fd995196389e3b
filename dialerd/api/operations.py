"""/healthz, /readyz, /metrics: for those who run the daemon. Open, as scrapers expect, and silent on tenants' data."""

from __future__ import annotations

import json

from aiohttp import web

from dialerd.api.context import Api
from dialerd.dispatch.control import Health
from dialerd.telemetry.metrics import CONTENT_TYPE


def add_routes(app: web.Application, api: Api) -> None:
    """Add the three pages to an application."""

    async def healthz(_raw: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_raw: web.Request) -> web.Response:
        health = api.control.health() if api.standby is None else Health(False, (api.standby.reason,))
        text = json.dumps({"ready": health.ready, "problems": list(health.problems)})
        return web.Response(text=text, status=200 if health.ready else 503, content_type="application/json")

    async def metrics(_raw: web.Request) -> web.Response:
        # What only the daemon that dials knows is not shown by another as if it were nothing.
        body = api.metrics.render(standing_by=api.standby is not None)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
