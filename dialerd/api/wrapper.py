"""What every route has in common: authenticate, allow, validate, call, render, and tell errors as problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel

from dialerd.api import problems, standby
from dialerd.api.arrivals import WHOSE
from dialerd.api.auth import Doorkeeper, may
from dialerd.api.context import Api, Request
from dialerd.api.fields import NoQuery, control_characters, first_errors, validate
from dialerd.api.idempotency import Repeats
from dialerd.api.problems import (
    FORBIDDEN,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    PAYLOAD_TOO_LARGE,
    refuse,
    unfit,
)
from dialerd.api.routes import AnyRoute, route_template
from dialerd.core.model import Tenant
from dialerd.dispatch.errors import FieldError, Rejected
from dialerd.store.errors import StoreError
from dialerd.store.keys import Principal, Role

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HTTP_CODES = {
    HTTPStatus.NOT_FOUND: NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: PAYLOAD_TOO_LARGE,
    HTTPStatus.EXPECTATION_FAILED: INVALID_REQUEST,
    HTTPStatus.BAD_REQUEST: INVALID_REQUEST,
}
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def wrap(route: AnyRoute, api: Api, door: Doorkeeper, repeats: Repeats) -> Handler:
    """Make the web handler of a route."""

    async def handle(raw: web.Request) -> web.StreamResponse:
        try:
            if api.standby is not None:
                await standby.look(api.standby)
            principal = await door.principal(raw)
            tenant = _allowed(route, api, principal)
            if api.standby is not None and route.method != "GET":
                raise standby.writes(api.standby)
            query = validate(route.query, {} if route.query is NoQuery else _query(raw))
            raw[WHOSE] = principal.tenant or ""
            async with route.body.open(raw, api.limits) as body:
                request: Request[Any, Any] = Request(api, principal, tenant, query, body, raw)
                # Whatever is logged on the way says for whom.
                with structlog.contextvars.bound_contextvars(**({"tenant": tenant.id} if tenant else {})):
                    if route.method != "POST":
                        return await _handled(route, request)
                    return await repeats.once(
                        raw, principal.tenant, lambda: _handled(route, request), secret=route.secret
                    )
        except Rejected as rejected:
            return _refused(route, rejected)

    return handle


async def _handled(route: AnyRoute, request: Request[Any, Any]) -> web.StreamResponse:
    try:
        return _rendered(route, await route.handler(request), request.raw)
    except Rejected as rejected:
        return _refused(route, rejected)


def _refused(route: AnyRoute, rejected: Rejected) -> web.Response:
    response = problems.answer_rejected(rejected, route.all_codes)
    if response is None:
        raise rejected
    return response


def _allowed(route: AnyRoute, api: Api, principal: Principal) -> Tenant | None:
    if principal.role is Role.SYSTEM and (route.for_system or route.role is Role.SYSTEM):
        return None
    if not may(principal, route.role):
        raise refuse(FORBIDDEN)
    tenant = api.tenants.get(principal.tenant or "")
    if tenant is None:
        raise refuse(FORBIDDEN, "the key's tenant is not configured")
    return tenant


def _query(raw: web.Request) -> dict[str, str]:
    query: dict[str, str] = {}
    for name, value in raw.query.items():
        if name in query:
            raise unfit([FieldError(name, "is given twice")])
        query[name] = value
    # No text of ours holds one, and PostgreSQL takes no NUL.
    if unclean := first_errors(control_characters(query)):
        raise unfit(unclean)
    return query


def _rendered(route: AnyRoute, answer: BaseModel | web.StreamResponse | None, raw: web.Request) -> web.StreamResponse:
    if isinstance(answer, web.StreamResponse):
        return answer
    if answer is None:
        return web.Response(status=route.status)
    headers = {}
    if route.status == HTTPStatus.CREATED:
        headers["Location"] = f"{raw.path}/{getattr(answer, 'id', '')}"
    text = answer.model_dump_json(by_alias=True)
    return web.Response(
        text=text, status=route.status, content_type="application/json", charset="utf-8", headers=headers
    )


def middleware(api: Api) -> Middleware:
    """Make the middleware that turns whatever is raised into a problem, and measures."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        begun = api.clock.mono()
        template = route_template(request)
        response = await _answered(request, handler, template)
        if response.content_type != "text/event-stream":
            seconds = api.clock.mono() - begun
            api.metrics.observe_request(template, request.method, response.status, seconds)
            log.debug("request_served", route=template, method=request.method, status=response.status, seconds=seconds)
        return response

    return guard


async def _answered(raw: web.Request, handler: Handler, template: str | None) -> web.StreamResponse:
    try:
        return await handler(raw)
    except web.HTTPException as error:
        code = _HTTP_CODES.get(HTTPStatus(error.status))
        if code is None:
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return problems.answer(code, headers=allow)
    except StoreError as error:
        # The path itself may hold somebody's number.
        log.error("request_failed", method=raw.method, route=template, reason=str(error))
        return problems.answer(problems.DATABASE_ERROR)
    except ConnectionError:
        raise  # nobody is there to be told
    except Exception:
        log.exception("request_failed", method=raw.method, route=template)
        return problems.answer(INTERNAL_ERROR)


async def secure(_raw: web.Request, response: web.StreamResponse) -> None:
    """Put the headers on that every answer has (a signal of aiohttp's)."""
    put_headers(response)


def put_headers(response: web.StreamResponse) -> None:
    """Put the headers on that every answer has."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "dialerd"
