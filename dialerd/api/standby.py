"""What a standby answers while another daemon dials: that it lives, why it is not ready, and 503 to all else."""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web

from dialerd.api import problems
from dialerd.api.problems import STANDBY
from dialerd.api.wrapper import secure

_RETRY_SECONDS = 5


def standby_app(waits_for: Callable[[], str]) -> web.Application:
    """Make the application of a daemon that waits for its turn; ``waits_for`` tells what for."""
    app = web.Application()

    async def healthz(_raw: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_raw: web.Request) -> web.Response:
        text = json.dumps({"ready": False, "problems": [f"standby: {waits_for()}"]})
        return web.Response(text=text, status=503, content_type="application/json")

    async def elsewhere(_raw: web.Request) -> web.Response:
        return problems.answer(STANDBY, f"standby: {waits_for()}", {"Retry-After": str(_RETRY_SECONDS)})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_route("*", "/{anything:.*}", elsewhere)
    app.on_response_prepare.append(secure)
    return app
