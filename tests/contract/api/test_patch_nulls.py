"""Null in a change: it takes away what the document says may be null, and is refused, by name, everywhere else."""

from __future__ import annotations

from typing import Any

import pytest

from dialerd.api.agents import AgentPatch
from dialerd.api.campaign_forms import CampaignPatch
from dialerd.api.fields import In
from dialerd.api.tenants import TenantPatch
from dialerd.api.webhooks import WebhookPatch
from tests.contract.api.house import House

PATCHES: dict[str, tuple[type[In], dict[str, Any]]] = {
    "campaigns": (CampaignPatch, {"description": "renewals"}),
    "agents": (AgentPatch, {"max_concurrent_calls": 3, "kind": "application", "application": "Playback", "data": "x"}),
    "tenants": (
        TenantPatch,
        {"default_agent": "desk", "default_region": "US", "max_calls_per_day": 5, "max_calls_per_number": 2},
    ),
    "webhooks": (WebhookPatch, {"description": "the CRM"}),
}
"""By resource: what a change of it may hold, and a value for each field that null takes away again."""


def nullable(model: type[In]) -> set[str]:
    """The fields that may be null, by the document."""
    properties = model.model_json_schema()["properties"]
    return {name for name, each in properties.items() if {"type": "null"} in each.get("anyOf", ())}


def test_what_null_takes_away_is_what_the_document_says() -> None:
    assert {kind: nullable(model) for kind, (model, _) in PATCHES.items()} == {
        "campaigns": {"description"},
        "agents": {"max_concurrent_calls", "data"},
        "tenants": {"default_agent", "default_region", "max_calls_per_day", "max_calls_per_number"},
        "webhooks": {"description"},
    }


async def one_of(house: House, kind: str) -> tuple[str, str]:
    """Make one of a kind: its path, and the key that may change it."""
    if kind == "campaigns":
        made = await house.ask(
            "POST", "/campaigns", json={"name": "c", "agent_id": await house.agent(), "settings": {"keep_open": True}}
        )
        return f"/campaigns/{made.json['id']}", "operator"
    if kind == "agents":
        return f"/agents/{await house.agent()}", "admin"
    if kind == "tenants":
        body = {"id": "acme", "max_calls_per_second": 1, "max_concurrent_calls": 1, "trunks": ["a"]}
        await house.ask("POST", "/tenants", key="system", json=body)
        return "/tenants/acme", "system"
    made = await house.ask("POST", "/webhooks", key="admin", json={"url": "https://crm.example.com/hook"})
    return f"/webhooks/{made.json['id']}", "admin"


@pytest.mark.parametrize("kind", PATCHES)
async def test_null_takes_away_or_is_refused_by_name(house: House, kind: str) -> None:
    path, key = await one_of(house, kind)
    model, values = PATCHES[kind]
    before = (await house.ask("PATCH", path, key=key, json=values)).json
    assert before.items() >= values.items()
    for field in model.model_fields:
        answer = await house.ask("PATCH", path, key=key, json={field: None})
        after = (await house.ask("GET", path, key=key)).json
        if field in nullable(model):
            assert answer.status == 200, field
            before = {**before, field: None}
        else:
            assert (answer.problem(), answer.fields()) == ((400, "invalid_request"), [field])
        assert after == before, field
