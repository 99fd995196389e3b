"""Errors as the API tells them (RFC 9457): every code with its status, in one table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from dialerd.dispatch.errors import FieldError, Rejected
from dialerd.dispatch.uploads import InvalidRows

CONTENT_TYPE = "application/problem+json"
MOST_ERRORS = 100
"""Told of one request."""
_RETRY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Code:
    """An error code of the contract, with its status and what it means in words."""

    code: str
    status: int
    meaning: str


CAMPAIGN_NOT_FOUND = Code("campaign_not_found", 404, "there is no such campaign")
CONTACT_NOT_FOUND = Code("contact_not_found", 404, "there is no such contact")
AGENT_NOT_FOUND = Code("agent_not_found", 404, "there is no such agent")
TRUNK_NOT_FOUND = Code("trunk_not_found", 404, "there is no such trunk")
TENANT_NOT_FOUND = Code("tenant_not_found", 404, "there is no such tenant")
KEY_NOT_FOUND = Code("key_not_found", 404, "there is no such key")
AGENT_UNKNOWN = Code("agent_not_found", 400, "the body names an agent that does not exist")
CAMPAIGN_ALREADY_ACTIVE = Code("campaign_already_active", 409, "the campaign is active already")
CAMPAIGN_NOT_ACTIVE = Code("campaign_not_active", 409, "the campaign is not active")
CAMPAIGN_NOT_PAUSED = Code("campaign_not_paused", 409, "the campaign is not paused")
CAMPAIGN_FINISHED = Code("campaign_finished", 409, "the campaign is completed or cancelled")
CAMPAIGN_ACTIVE = Code("campaign_active", 409, "the campaign is active: pause or stop it first")
NO_CONTACTS = Code("no_contacts", 409, "the campaign has nothing to call")
AGENT_IN_USE = Code("agent_in_use", 409, "an unfinished campaign hands its calls to this agent")
CONFIGURED_IN_FILE = Code("configured_in_file", 409, "the configuration file has it; change it there")
IDEMPOTENCY_CONFLICT = Code("idempotency_conflict", 409, "the Idempotency-Key belongs to another request")
INVALID_REQUEST = Code("invalid_request", 400, "the request does not fit")
INVALID_CSV = Code("invalid_csv", 400, "the file is not a table with a phone_number column")
UNAUTHORIZED = Code("unauthorized", 401, "the request needs a valid key: Authorization: Bearer KEY")
CALLBACK_NOT_FOUND = Code("callback_not_found", 404, "there is no such callback")
IMPORT_NOT_FOUND = Code("import_not_found", 404, "there is no such upload")
CONTACT_NOT_PENDING = Code("contact_not_pending", 409, "the contact is not pending")
WEBHOOK_NOT_FOUND = Code("webhook_not_found", 404, "there is no such webhook")
DELIVERY_NOT_FOUND = Code("delivery_not_found", 404, "there is no such delivery")
TOO_MANY_WEBHOOKS = Code("too_many_webhooks", 409, "the tenant has as many webhooks as it may have")
TOO_MANY_KEYS = Code("too_many_keys", 409, "the tenant has as many keys as it may have")
EVENT_GONE = Code("event_gone", 409, "the event is no longer kept")
FORBIDDEN = Code("forbidden", 403, "the key's role does not allow this")
NOT_FOUND = Code("not_found", 404, "there is nothing under this path")
METHOD_NOT_ALLOWED = Code("method_not_allowed", 405, "the method is not allowed here")
PAYLOAD_TOO_LARGE = Code("payload_too_large", 413, "the body is too large")
UNSUPPORTED_MEDIA_TYPE = Code("unsupported_media_type", 415, "the body's media type is not understood here")
RATE_LIMITED = Code("rate_limited", 429, "too many requests; see Retry-After")
DATABASE_ERROR = Code("database_error", 500, "the store failed; the request changed nothing")
INTERNAL_ERROR = Code("internal_error", 500, "the daemon failed to handle the request; the log says why")
PBX_UNAVAILABLE = Code("pbx_unavailable", 503, "the PBX cannot be reached, and the request needs it")
STANDBY = Code("standby", 503, "another daemon dials from this store; ask that one")

COMMON = (
    UNAUTHORIZED,
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    PAYLOAD_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    RATE_LIMITED,
    DATABASE_ERROR,
    INTERNAL_ERROR,
    STANDBY,
)
"""What every route may answer."""

_BY_CODE: Mapping[str, Code] = {
    each.code: each for each in globals().copy().values() if isinstance(each, Code) and each is not AGENT_UNKNOWN
}


class ErrorItem(BaseModel):
    """One thing wrong with a field, or with a row of an upload."""

    model_config = ConfigDict(extra="forbid")

    field: str
    message: str
    row: int | None = None
    column: str | None = None
    value: str | None = None
    code: str | None = None


class Problem(BaseModel):
    """The body of every error."""

    model_config = ConfigDict(extra="forbid")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[ErrorItem] = []


class Refused(Rejected):
    """A refusal with headers of its own."""

    def __init__(self, code: Code, detail: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code.code, detail or code.meaning)
        self.headers = dict(headers or {})


def refuse(code: Code, detail: str | None = None, headers: Mapping[str, str] | None = None) -> Refused:
    """Make the exception that ends a request with this code; by default in the code's own words."""
    return Refused(code, detail, headers)


def unfit(errors: Iterable[FieldError], detail: str = INVALID_REQUEST.meaning) -> Rejected:
    """Make the exception for fields that do not fit."""
    return Rejected(INVALID_REQUEST.code, detail, tuple(itertools.islice(errors, MOST_ERRORS)))


def answer(code: Code, detail: str | None = None, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error's response."""
    return _response(code, detail or code.meaning, [], headers)


def answer_rejected(rejected: Rejected, declared: Iterable[Code]) -> web.Response | None:
    """The response to a refusal; None where the contract has no such code, which is our fault.

    A route's own codes come first: an unknown agent is a 404 in a path and a 400 in a body.
    """
    code = next((each for each in declared if each.code == rejected.code), _BY_CODE.get(rejected.code))
    if code is None:
        return None
    headers = rejected.headers if isinstance(rejected, Refused) else {}
    if code is RATE_LIMITED:
        headers = {"Retry-After": str(_RETRY_SECONDS), **headers}
    # What is not there is told in the same words always: nothing shows whether another tenant has it.
    detail = code.meaning if code.status == HTTPStatus.NOT_FOUND else rejected.detail
    return _response(code, detail, _items(rejected), headers)


def _items(rejected: Rejected) -> list[ErrorItem]:
    if isinstance(rejected, InvalidRows):
        return [ErrorItem(field=row.column or "", **asdict(row)) for row in rejected.rows]
    return [ErrorItem(field=each.field, message=each.message) for each in rejected.errors]


def _response(code: Code, detail: str, errors: list[ErrorItem], headers: Mapping[str, str] | None) -> web.Response:
    problem = Problem(
        title=HTTPStatus(code.status).phrase, status=code.status, detail=detail, code=code.code, errors=errors
    )
    left_out: dict[str, Any] = {} if errors else {"errors": True}
    text = problem.model_dump_json(exclude=left_out, exclude_none=True)
    return web.Response(text=text, status=code.status, content_type=CONTENT_TYPE, charset="utf-8", headers=headers)
