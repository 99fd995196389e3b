"""Whatever a client or the configuration file may send has a bound: every text, every list, every table of names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from dialerd.api.auth import Doorkeeper
from dialerd.api.campaign_forms import CampaignForm
from dialerd.api.server import all_routes
from dialerd.api.streams import Streams
from dialerd.api.uploads import ContactsForm
from dialerd.config import Config

_ROUTES = all_routes(cast("Streams", SimpleNamespace()), cast("Doorkeeper", SimpleNamespace()))
_BODIES = {model for route in _ROUTES for model in route.body.media.values() if model is not None}
_OTHERWISE = {
    "binary": "a file, which goes to a spool that has its own bound",
    "path": "the system's own bound on a path",
}
_READ = frozenset({"date", "date-time"})
_NOT_ASKED = frozenset({"SimulatedSettings"})
"""A PBX that calls nobody: only the file has it."""
_FORMS = {CampaignForm, ContactsForm}
"""For the document alone: each value of a form is bounded as it arrives (``Limits.form_value_bytes``)."""
_MODELS = sorted((_BODIES | {route.query for route in _ROUTES} | {Config}) - _FORMS, key=lambda model: model.__name__)


def unbounded(schema: Any, root: Mapping[str, Any], where: str) -> Iterator[str]:
    """The places below a schema at which a value may be as large as anybody likes."""
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in _NOT_ASKED:
            yield from unbounded(root["$defs"][name], root, where)
        return
    for variant in (each for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key, ())):
        yield from unbounded(variant, root, where)
    kind = schema.get("type")
    if kind == "string" and not _is_bounded_text(schema):
        yield where
    elif kind == "array":
        if "maxItems" not in schema:
            yield where
        yield from unbounded(schema.get("items"), root, f"{where}[]")
    elif kind == "object":
        for name, each in schema.get("properties", {}).items():
            yield from unbounded(each, root, f"{where}.{name}")
        if isinstance(schema.get("additionalProperties"), dict):
            if "maxProperties" not in schema:
                yield where
            yield from unbounded({"type": "string", **schema.get("propertyNames", {})}, root, f"{where}{{}}")
            yield from unbounded(schema["additionalProperties"], root, f"{where}{{}}")


def _is_bounded_text(schema: Mapping[str, Any]) -> bool:
    if {"maxLength", "enum", "const"} & schema.keys() or schema.get("format") in _OTHERWISE.keys() | _READ:
        return True
    return "pattern" in schema and re.search(r"(?<!\\)[*+](?![^[]*\])|,\}", schema["pattern"]) is None


@pytest.mark.parametrize("model", _MODELS, ids=lambda model: model.__name__)
def test_every_text_and_every_list_has_a_bound(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    assert list(unbounded(schema, schema, model.__name__)) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "string", "pattern": "^[a-z]*$"},
        {"type": "string", "pattern": "^[a-z]+$"},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "array", "maxItems": 3, "items": {"type": "string"}},
        {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "integer"}},
        {"type": "object", "propertyNames": {"maxLength": 3}, "additionalProperties": {"type": "integer"}},
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
    ],
)
def test_a_missing_bound_would_be_found(schema: dict[str, Any]) -> None:
    assert list(unbounded({"type": "object", "properties": {"it": schema}}, {}, "Body"))
