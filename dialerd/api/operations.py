"""/healthz, /readyz, /metrics: for those who run the daemon. Open, as scrapers expect, and silent on tenants' data."""

from __future__ import annotations

import json

from aiohttp import web

from dialerd.api.context import Api
from dialerd.telemetry.metrics import CONTENT_TYPE


def add_routes(app: web.Application, api: Api) -> None:
    """Add the three pages to an application."""

    async def healthz(_raw: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_raw: web.Request) -> web.Response:
        health = api.control.health()
        text = json.dumps({"ready": health.ready, "problems": list(health.problems)})
        return web.Response(text=text, status=200 if health.ready else 503, content_type="application/json")

    async def metrics(_raw: web.Request) -> web.Response:
        return web.Response(body=api.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
