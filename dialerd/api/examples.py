"""Examples for the OpenAPI document, built along its schemas, so that each field has one and none is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

REF = "#/components/schemas/"

_MOMENT = "2030-03-04T15:00:00Z"
_CSV = "phone_number,first_name,plan\n+12025550143,Ann,gold\n"
# By the field's name; of several, the first that the schema takes. A model's own ``examples`` go before these.
_SAMPLES: Mapping[str, tuple[Any, ...]] = {
    "id": ("09m4x2k7wq8tc", "carrier-a"),
    "key_id": ("09m4x2k7wq8tc",),
    "import_id": ("09m4x2m1zr5hd",),
    "agent_id": ("09m4x2h3vn6pb",),
    "contact_id": ("09m4x2n8ys2jf",),
    "call_id": ("01932c4e-7b1a-7f00-9d51-6f3f8a2c1e77",),
    "name": ("Spring renewals",),
    "description": ("Customers whose plan ends in April",),
    "settings": ({"concurrent_calls": 20, "timezone": "America/New_York"}, '{"concurrent_calls": 20}'),
    "timezone": ("America/New_York",),
    "concurrent_calls": (20,),
    "retry": ({"busy": {"delay_seconds": 1800, "most": 2}}, '{"busy": {"delay_seconds": 1800}}'),
    "variables": ({"team": "north"}, '{"team": "north"}'),
    "caller_ids": (["+12025550199"],),
    "caller_id": ("+12025550199",),
    "allowed_prefixes": (["+1"],),
    "trunks": (["carrier-a"],),
    "trunk": ("carrier-a",),
    "trunk_id": ("carrier-a",),
    "pbx": ("main",),
    "tenant": ("acme",),
    "calling_days": (["mon", "tue", "wed", "thu", "fri"],),
    "blackouts": (["2030-12-25"],),
    "start_at": (None,),
    "end_at": (None,),
    "max_calls_per_second": (5.0,),
    "calls_per_second": (3.5,),
    "max_attempts_per_day": (2,),
    "max_calls_per_day": (20000,),
    "max_calls_per_number": (3,),
    "default_agent": ("agents",),
    "default_region": ("US",),
    "status": ("active", "pending"),
    "state": ("up",),
    "completed_at": (None,),
    "estimated_completion_at": ("2030-03-04T18:40:00Z",),
    "contacts": ([{"phone": "+12025550143", "first_name": "Ann", "plan": "gold"}], _CSV),
    "attributes": ({"plan": "gold"},),
    "phone": ("+12025550143",),
    "phone_number": ("+12025550143",),
    "first_name": ("Ann",),
    "last_name": ("Lee",),
    "email": ("ann@example.com",),
    "company": ("Example Ltd",),
    "external_id": ("crm-4711",),
    "last_outcome": ("busy",),
    "outcome": ("answered",),
    "outcomes": ({"answered": 412, "busy": 31},),
    "fault": ("none",),
    "hangup_cause": (16,),
    "hangup_text": ("Normal Clearing",),
    "sip_status": (None,),
    "hung_up_by": ("callee",),
    "recording": (None,),
    "reason": (None, "carrier maintenance"),
    "row": (4,),
    "column": ("phone_number",),
    "value": ("no number",),
    "message": ("is not a phone number",),
    "code": ("invalid_number",),
    "field": ("name",),
    "note": ("asked to be called after work",),
    "due_at": ("2030-03-04T22:30:00Z",),
    "next_moment": (_MOMENT,),
    "warnings": (["it is outside the calling hours until 2030-03-04 14:00 UTC"],),
    "summary": ("calls are going out",),
    "detail": ("within its limits",),
    "rule": ("calling_hours",),
    "level": ("campaign",),
    "until": (None,),
    "answer_seizure_ratio": (0.52,),
    "channels_in_use": (12,),
    "max_channels": (100,),
    "import": (None,),
    "next": (None,),
    "total": (1000,),
    "originated": (6,),
    "connected": (6,),
    "completed": (412,),
    "failed": (31,),
    "cancelled": (0,),
    "calls_placed": (455,),
    "calls_in_flight": (12,),
    "answer_rate": (0.9051,),
    "abandon_rate": (0.0,),
    "average_talk_seconds": (74.2,),
    "added": (998,),
    "duplicates": (1,),
    "invalid": (1,),
    "do_not_call": (0,),
    "errors": ([],),
    "talk_seconds": (74.2,),
    "limit": (100,),
    "offset": (0,),
    "page": (1,),
    "per_page": (20,),
    "total_pages": (50,),
    "key": ("dk_09m4x2k7wq8tc_c2VjcmV0LXNob3duLW9uY2U",),
    "kind": ("dialplan",),
    "context": ("agents",),
    "exten": ("s",),
    "queue": ("sales",),
    "application": ("Playback",),
    "data": ("hello-world",),
}
_OF_TYPE: Mapping[str, Any] = {"string": "text", "integer": 1, "number": 1.0, "boolean": True, "null": None}
_OF_FORMAT: Mapping[str, str] = {"date-time": _MOMENT, "date": "2030-03-04", "binary": _CSV}
_PYTHON: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}


def example(schema: Schema, schemas: Mapping[str, Schema], name: str = "") -> Any:
    """A value that fits a schema. ``schemas`` are the document's components, ``name`` the field that it is for."""
    whole = _resolved(schema, schemas)
    if "examples" in whole:
        return whole["examples"][0]
    variants = [_resolved(each, schemas) for each in whole.get("anyOf", whole.get("oneOf", [whole]))]
    for sample in _SAMPLES.get(name, ()):
        if any(_takes(each, sample) for each in variants):
            return sample
    if whole.get("default") is not None:
        return whole["default"]
    return _built(variants[0], schemas, name)


def _built(schema: Schema, schemas: Mapping[str, Schema], name: str) -> Any:
    if "anyOf" in schema or "oneOf" in schema or "examples" in schema:
        return example(schema, schemas, name)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "array":
        return [example(schema.get("items", {}), schemas, name)]
    if kind == "object":
        fields = schema.get("properties", {})
        return {each: example(inner, schemas, each) for each, inner in fields.items()}
    if "format" in schema:
        return _OF_FORMAT.get(schema["format"], "text")
    return schema.get("minimum", _OF_TYPE.get(kind or "string"))


def _resolved(schema: Schema, schemas: Mapping[str, Schema]) -> Schema:
    ref = schema.get("$ref")
    return schema if ref is None else {**schemas[ref.removeprefix(REF)], **schema, "$ref": None}


def _takes(schema: Schema, sample: Any) -> bool:
    if "enum" in schema or "const" in schema:
        return sample in schema.get("enum", [schema.get("const")])
    kind = schema.get("type")
    # An object with fields of its own is built field by field: a sample would show only a few of them.
    if kind == "object" and schema.get("properties"):
        return False
    return kind is not None and isinstance(sample, _PYTHON[kind]) and not (kind == "number" and sample is True)
