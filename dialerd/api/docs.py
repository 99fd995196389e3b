"""/api/v1/openapi.json, and /docs, which renders it with what the daemon itself serves. Neither needs a key."""

from __future__ import annotations

import asyncio
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
_made: dict[tuple[tuple[str, str], ...], bytes] = {}
"""By the routes that it is of: what it says of them is in the code."""


def add_routes(app: web.Application, routes: Sequence[AnyRoute]) -> None:
    """Add the document of these routes, and its page, to an application."""

    async def openapi(_raw: web.Request) -> web.Response:
        # In a thread: it takes a tenth of a second, and calls go on meanwhile.
        return _answer(await asyncio.to_thread(_document, routes), "application/json")

    app.router.add_get(f"{PREFIX}/openapi.json", openapi)
    folder = resources.files("dialerd.api") / "docs_page"
    for path, (name, media) in _FILES.items():
        _serve(app, path, (folder / name).read_bytes(), media)


def _document(routes: Sequence[AnyRoute]) -> bytes:
    """The document, made when it is first asked for: a start does not wait for it."""
    key = tuple((route.method, route.path) for route in routes)
    if key not in _made:
        _made[key] = json.dumps(document(routes), ensure_ascii=False, separators=(",", ":")).encode()
    return _made[key]


def _serve(app: web.Application, path: str, body: bytes, media: str) -> None:
    async def answer(_raw: web.Request) -> web.Response:
        return _answer(body, media)

    app.router.add_get(path, answer)


def _answer(body: bytes, media: str) -> web.Response:
    return web.Response(body=body, content_type=media, charset="utf-8", headers={"Content-Security-Policy": _POLICY})
