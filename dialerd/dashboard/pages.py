"""Serves the dashboard's own files. They hold no data, so none needs a key; the API that they ask does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import web

# Scripts, styles and requests of our own origin; nothing inline, nothing from outside, in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
BELOW = "/dashboard"
"""The path of everything but the page itself, which is ``/``."""
_MEDIA = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def add_routes(app: web.Application) -> None:
    """Add the page and its files to an application. Each is read once, now."""
    static = resources.files("dialerd.dashboard") / "static"
    for path, file in _files(static, BELOW):
        _serve(app, "/" if path == f"{BELOW}/index.html" else path, file)


def _files(folder: Traversable, below: str) -> Iterator[tuple[str, Traversable]]:
    for each in folder.iterdir():
        path = f"{below}/{each.name}"
        if each.is_dir():
            yield from _files(each, path)
        elif _suffix(each.name) in _MEDIA:
            yield path, each


def _serve(app: web.Application, path: str, file: Traversable) -> None:
    body, media = file.read_bytes(), _MEDIA[_suffix(file.name)]
    tag = hashlib.sha256(body).hexdigest()[:32]
    # A browser keeps the file and asks each time whether it is still the one: an upgrade shows at once.
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": f'"{tag}"'}

    async def answer(raw: web.Request) -> web.Response:
        if any(each.value in (tag, "*") for each in raw.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=media, charset="utf-8", headers=headers)

    app.router.add_get(path, answer)


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
