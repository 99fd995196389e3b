"""The OpenAPI 3.1 document, made from the registry of routes and the models that the handlers use: it cannot drift."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from dialerd import __version__
from dialerd.api.bodies import JsonBody
from dialerd.api.examples import REF, example
from dialerd.api.fields import PLAIN_TEXT, without_null
from dialerd.api.problems import (
    COMMON,
    CONTENT_TYPE,
    METHOD_NOT_ALLOWED,
    RATE_LIMITED,
    STANDBY,
    UNAUTHORIZED,
    Code,
    Problem,
)
from dialerd.api.routes import PREFIX, AnyRoute
from dialerd.store.keys import Role

Json = dict[str, Any]

_ABOUT = """\
Campaigns of outbound calls: contacts are dialled within the law and the limits of the trunks, and told as they happen.

Times are RFC 3339 in UTC. Ids are opaque. A single object is returned bare. Errors are `application/problem+json`
(RFC 9457), and their `code` says what to do about them. An id of another tenant answers like one that does not exist.
"""
_NAME_IN_PATH = re.compile(r"\{(\w+)\}")
_WHO = {
    Role.VIEWER: "any key of the tenant",
    Role.OPERATOR: "a key of role operator or admin",
    Role.ADMIN: "a key of role admin",
    Role.SYSTEM: "a system key",
}
_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeat with the same key and body within 24 hours is answered as the first request was, "
    "and changes nothing again.",
    "schema": {"type": "string"},
    "example": "order-4711-attempt-1",
}
_HEADERS: Mapping[Code, tuple[str, str]] = {
    UNAUTHORIZED: ("WWW-Authenticate", "Bearer (RFC 6750)"),
    METHOD_NOT_ALLOWED: ("Allow", "The methods that are allowed here"),
    RATE_LIMITED: ("Retry-After", "Seconds to wait"),
    STANDBY: ("Retry-After", "Seconds to wait"),
}
_TEXT_SAMPLES = {
    "text/csv": "phone_number,first_name,plan\n+12025550143,Ann,gold\n",
    "application/x-ndjson": '{"phone": "+12025550143", "first_name": "Ann", "plan": "gold"}\n',
    "text/event-stream": "event: originated\nid: 4711\n"
    'data: {"campaign_id":"09m4x2k7wq8tc","contact_id":"09m4x2n8ys2jf",'
    '"call_id":"01932c4e-7b1a-7f00-9d51-6f3f8a2c1e77","status":"originated","outcome":null,'
    '"phone_number":"+12025550143","at":"2030-03-04T15:00:00Z"}\n\n',
}


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles that only repeat the fields' names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def document(routes: Sequence[AnyRoute]) -> Json:
    """Make the document of these routes, as JSON values."""
    schemas = _schemas(routes)
    paths: Json = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dialerd", "version": __version__, "description": _ABOUT},
        "servers": [{"url": PREFIX}],
        "security": [{"bearer": []}],
        "tags": _tags(routes),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {_shared_name(status): _problem(codes) for status, codes in _by_status(COMMON).items()},
            "parameters": {"IdempotencyKey": _IDEMPOTENCY_KEY},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key, made with `dialerd keys create` or at /keys.",
                }
            },
        },
    }


def operation_id(route: AnyRoute) -> str:
    """The name of a route for generated clients: its resource and its handler."""
    return f"{_tag(route)}_{route.handler.__name__}"


def _tag(route: AnyRoute) -> str:
    return route.handler.__module__.rpartition(".")[2]


def _tags(routes: Iterable[AnyRoute]) -> list[Json]:
    modules = {_tag(route): inspect.getmodule(route.handler) for route in routes}
    return [
        {"name": name, "description": _first_line(module.__doc__ if module else "")} for name, module in modules.items()
    ]


def _schemas(routes: Iterable[AnyRoute]) -> Json:
    models: dict[type[BaseModel], None] = {Problem: None}
    for route in routes:
        models[route.query] = None
        models.update({model: None for model in route.body.media.values() if model is not None})
        if route.answers is not None:
            models[route.answers] = None
    # One mode for what is read and written: no model of ours is written in another form than it is read.
    _, made = models_json_schema(
        [(model, "validation") for model in models], ref_template=REF + "{model}", schema_generator=_Untitled
    )
    found: Json = _in_markdown(made["$defs"])
    return found


def _in_markdown(value: Any) -> Any:
    """Descriptions come from docstrings, whose literals have two backticks."""
    if isinstance(value, dict):
        return {
            key: each.replace("``", "`") if key == "description" and isinstance(each, str) else _in_markdown(each)
            for key, each in value.items()
        }
    return [_in_markdown(each) for each in value] if isinstance(value, list) else value


def _operation(route: AnyRoute, schemas: Json) -> Json:
    who = _WHO[route.role] + (", or a system key" if route.for_system else "")
    found: Json = {
        "operationId": operation_id(route),
        "tags": [_tag(route)],
        "summary": route.summary,
        "description": f"{_rest(route.handler.__doc__)}Needs {who}.",
        "parameters": [*_path_parameters(route), *_query_parameters(route, schemas), *_header_parameters(route)],
    }
    if media := route.body.media:
        optional = isinstance(route.body, JsonBody) and route.body.optional
        found["requestBody"] = {
            "required": not optional,
            "content": {kind: _content(kind, model, schemas) for kind, model in media.items()},
        }
    found["responses"] = {str(route.status): _success(route, schemas), **_failures(route)}
    return found


def _path_parameters(route: AnyRoute) -> list[Json]:
    names = _NAME_IN_PATH.findall(route.path)
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"The {name.removesuffix('_id')}'s id" if name.endswith("_id") else f"The {name}",
            "schema": {"type": "string"},
        }
        for name in names
    ]


def _query_parameters(route: AnyRoute, schemas: Json) -> list[Json]:
    model = schemas[route.query.__name__]
    found = []
    for name, schema in model.get("properties", {}).items():
        plain = without_null(schema)
        if plain.get("type") == "string" and not plain.keys() & {"enum", "const", "format", "pattern"}:
            plain["pattern"] = PLAIN_TEXT
        description = plain.pop("description", None)
        parameter = {"name": name, "in": "query", "required": name in model.get("required", ()), "schema": plain}
        found.append(parameter if description is None else {**parameter, "description": description})
    return found


def _header_parameters(route: AnyRoute) -> list[Json]:
    found: list[Json] = [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in route.headers
    ]
    return [*found, {"$ref": "#/components/parameters/IdempotencyKey"}] if route.method == "POST" else found


def _content(media: str, model: type[BaseModel] | None, schemas: Json) -> Json:
    if model is None:
        return {"schema": {"type": "string"}, "example": _TEXT_SAMPLES[media]}
    schema = {"$ref": REF + _name(model)}
    return {"schema": schema, "example": example(schema, schemas)}


def _name(model: type[BaseModel]) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", model.__name__)


def _success(route: AnyRoute, schemas: Json) -> Json:
    status = HTTPStatus(route.status)
    found: Json = {"description": status.phrase}
    if route.answers is not None:
        found["content"] = {"application/json": _content("application/json", route.answers, schemas)}
    elif route.answer_media is not None:
        found["content"] = {route.answer_media: _content(route.answer_media, None, schemas)}
    if status is HTTPStatus.CREATED:
        found["headers"] = {"Location": _header("The path of what was made")}
    return found


def _failures(route: AnyRoute) -> Json:
    common = _by_status(COMMON)
    found: Json = {}
    for status, codes in _by_status(route.all_codes).items():
        shared = codes == common.get(status)
        found[str(status)] = {"$ref": f"#/components/responses/{_shared_name(status)}"} if shared else _problem(codes)
    return found


def _by_status(codes: Iterable[Code]) -> dict[int, list[Code]]:
    found: dict[int, list[Code]] = {}
    for code in sorted(codes, key=lambda each: each.status):
        found.setdefault(code.status, []).append(code)
    return found


def _shared_name(status: int) -> str:
    return HTTPStatus(status).name.title().replace("_", "")


def _problem(codes: Sequence[Code]) -> Json:
    narrowed = {"status": {"const": codes[0].status}, "code": {"enum": [each.code for each in codes]}}
    found: Json = {
        "description": "; ".join(f"`{each.code}`: {each.meaning}" for each in codes),
        "content": {
            CONTENT_TYPE: {
                "schema": {"allOf": [{"$ref": REF + "Problem"}, {"properties": narrowed}]},
                "examples": {each.code: {"value": _problem_example(each)} for each in codes},
            }
        },
    }
    headers = {_HEADERS[each][0]: _header(_HEADERS[each][1]) for each in codes if each in _HEADERS}
    return {**found, "headers": headers} if headers else found


def _problem_example(code: Code) -> Json:
    title = HTTPStatus(code.status).phrase
    return {"type": "about:blank", "title": title, "status": code.status, "detail": code.meaning, "code": code.code}


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].replace("``", "`")


def _rest(text: str | None) -> str:
    """What a docstring says after its first line, as one paragraph in front of another; empty where it says no more."""
    rest = inspect.cleandoc(text or "").partition("\n")[2].strip().replace("``", "`")
    return f"{rest}\n\n" if rest else ""
