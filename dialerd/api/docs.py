"""/api/v1/openapi.json, and /docs, which renders it with what the daemon itself serves. Neither needs a key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources

from aiohttp import web

from dialerd.api.openapi import document
from dialerd.api.routes import PREFIX, AnyRoute

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "/docs": ("index.html", "text/html"),
    "/docs/docs.js": ("docs.js", "text/javascript"),
    "/docs/docs.css": ("docs.css", "text/css"),
}


def add_routes(app: web.Application, routes: Sequence[AnyRoute]) -> None:
    """Add the document of these routes, and its page, to an application."""
    text = json.dumps(document(routes), ensure_ascii=False, separators=(",", ":"))
    _serve(app, f"{PREFIX}/openapi.json", text, "application/json")
    folder = resources.files("dialerd.api") / "docs_page"
    for path, (name, media) in _FILES.items():
        _serve(app, path, (folder / name).read_text(encoding="utf-8"), media)


def _serve(app: web.Application, path: str, text: str, media: str) -> None:
    body = text.encode()

    async def answer(_raw: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": _POLICY}
        return web.Response(body=body, content_type=media, charset="utf-8", headers=headers)

    app.router.add_get(path, answer)
