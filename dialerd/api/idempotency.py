"""Idempotency-Key: a POST that is sent again is answered as the first time, and does nothing again."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

import structlog
from aiohttp import web

from dialerd.api.bodies import digest
from dialerd.api.problems import IDEMPOTENCY_CONFLICT, refuse
from dialerd.api.routes import route_template
from dialerd.clock import Clock
from dialerd.store import idempotency
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.idempotency import KEEP, Kept

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
MOST_BYTES = 64 * 1024
"""The largest answer that is kept."""
_SECRETS = 1000
_NOT_KEPT = frozenset({HTTPStatus.TOO_MANY_REQUESTS})

Answer = Callable[[], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Told:
    """An answer that holds a secret: it is told again from memory only, and never written down."""

    response: tuple[int, str, bytes]
    at: datetime


class Repeats:
    """Knows which requests were answered before."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: set[tuple[str, str]] = set()
        self._secrets: OrderedDict[tuple[str, str], _Told] = OrderedDict()

    async def once(self, raw: web.Request, tenant: str | None, answer: Answer, *, secret: bool) -> web.StreamResponse:
        """Answer a request, or tell again what the first with its key was told. Its body has been read.

        Raises Rejected (``idempotency_conflict``): the key came with another request, the first is still being
        answered, or its answer is not known any more. Raises StoreError.
        """
        shown = raw.headers.get(HEADER, "")
        if not shown:
            return await answer()
        # Whatever a client sends as a key is one, of any length; a system key's repeats are nobody else's.
        place = (tenant or "", hashlib.sha256(shown.encode("utf-8", "surrogateescape")).hexdigest())
        if place in self._running:
            raise refuse(IDEMPOTENCY_CONFLICT, "the first request with this Idempotency-Key is still being answered")
        self._running.add(place)
        try:
            fingerprint = _fingerprint(raw)
            kept = await self._store.write(lambda tx: idempotency.claim(tx, *place, fingerprint))
            if kept is not None:
                return self._again(raw, place, kept, fingerprint)
            return await self._first(raw, place, answer, secret=secret)
        finally:
            self._running.discard(place)

    async def _first(
        self, raw: web.Request, place: tuple[str, str], answer: Answer, *, secret: bool
    ) -> web.StreamResponse:
        try:
            response = await answer()
        except Exception:
            await self._release(place)
            raise
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status in _NOT_KEPT:
            await self._release(place)
            return response
        assert isinstance(response, web.Response), "no POST streams its answer"
        body = response.body if isinstance(response.body, bytes) else b""
        kept = None if secret or len(body) > MOST_BYTES else body
        media = response.headers.get("Content-Type", "")
        if secret:
            self._remember(place, _Told((response.status, media, body), self._clock.wall()))
        try:
            await self._store.write(
                lambda tx: idempotency.keep(tx, *place, status=response.status, content_type=media, body=kept)
            )
        except StoreError as error:
            # It was done, and its sender must hear so; a repeat is then refused, never done again.
            log.error("answer_not_kept", route=route_template(raw), reason=str(error))
        return response

    def _again(self, raw: web.Request, place: tuple[str, str], kept: Kept, fingerprint: str) -> web.Response:
        if kept.fingerprint != fingerprint:
            raise refuse(IDEMPOTENCY_CONFLICT, "this Idempotency-Key came with another request")
        told = self._secrets.get(place)
        if told is not None and told.at >= kept.created_at:
            return _response(raw, *told.response)
        if kept.status is None:
            detail = "the first request with this Idempotency-Key was cut short: see what it did, then use another key"
            raise refuse(IDEMPOTENCY_CONFLICT, detail)
        if kept.body is None:
            detail = f"the first request with this Idempotency-Key was answered {kept.status}; its answer is not kept"
            raise refuse(IDEMPOTENCY_CONFLICT, detail)
        return _response(raw, kept.status, kept.content_type or "", kept.body)

    def _remember(self, place: tuple[str, str], told: _Told) -> None:
        oldest = self._clock.wall() - KEEP
        while self._secrets and (len(self._secrets) >= _SECRETS or next(iter(self._secrets.values())).at < oldest):
            self._secrets.popitem(last=False)
        self._secrets[place] = told

    async def _release(self, place: tuple[str, str]) -> None:
        try:
            await self._store.write(lambda tx: idempotency.release(tx, *place))
        except StoreError as error:
            log.error("idempotency_key_not_released", reason=str(error))


def _fingerprint(raw: web.Request) -> str:
    """What makes two requests the same: the method, the path with its query, and the body."""
    whole = hashlib.sha256(f"{raw.method} {raw.path_qs}\n{raw.content_type}\n".encode("utf-8", "surrogateescape"))
    whole.update(digest(raw).digest())
    return whole.hexdigest()


def _response(raw: web.Request, status: int, content_type: str, body: bytes) -> web.Response:
    headers = {"Content-Type": content_type} if content_type else {}
    if status == HTTPStatus.CREATED:
        headers["Location"] = f"{raw.path}/{json.loads(body).get('id', '')}"
    return web.Response(status=status, body=body, headers=headers)
