"""The OpenAPI document: well formed, true to the contract in both directions, and shown without help from outside."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.contract.api.contract_table import CODES, FIELDS, ROWS, WORDS
from tests.contract.api.house import House, Template, open_house

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def api(template: Template, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document, as anybody gets it from the daemon."""

    async def fetch() -> dict[str, Any]:
        async with open_house(template, tmp_path_factory.mktemp("openapi")) as house:
            answer = await house.ask("GET", "/~/api/v1/openapi.json", key=None)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
        found: dict[str, Any] = answer.json
        return found

    return asyncio.run(fetch())


def resolved(api: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """What a reference points at, or the value itself."""
    while "$ref" in value:
        place: Any = api
        for step in value["$ref"].removeprefix("#/").split("/"):
            place = place[step]
        value = place
    return value


def operations(api: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by its method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    }


def codes_of(api: dict[str, Any], response: dict[str, Any]) -> set[str]:
    """The codes that a response of a problem names."""
    whole = resolved(api, response)["content"][PROBLEM]
    narrowed = whole["schema"]["allOf"][1]["properties"]["code"]["enum"]
    assert set(whole["examples"]) == set(narrowed)
    return set(narrowed)


def bodies(api: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each body of a request or an answer: where it is, its media type and what is said of it."""
    for name, operation in operations(api).items():
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{name} body", media, content
        for status, response in operation["responses"].items():
            for media, content in resolved(api, response).get("content", {}).items():
                yield f"{name} {status}", media, content


def test_it_is_well_formed(api: dict[str, Any]) -> None:
    assert api["openapi"].startswith("3.1.")
    errors = [f"{list(error.absolute_path)}: {error.message}" for error in OpenAPIV31SpecValidator(api).iter_errors()]
    assert errors == []
    for name, schema in api["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    assert api["security"] == [{"bearer": []}]
    assert api["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_every_operation_says_what_it_is(api: dict[str, Any]) -> None:
    found = operations(api)
    ids = [operation["operationId"] for operation in found.values()]
    assert len(set(ids)) == len(ids)
    known = {tag["name"] for tag in api["tags"]}
    for name, operation in found.items():
        assert operation["summary"], name
        assert "key" in operation["description"], name
        assert set(operation["tags"]) <= known
        in_path = {each["name"] for each in operation["parameters"] if each.get("in") == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", name))
    assert all(tag["description"] for tag in api["tags"])


def test_routes_are_those_of_the_contract(api: dict[str, Any]) -> None:
    assert set(operations(api)) == {f"{row.method} {row.path}" for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_a_row_of_the_contract(api: dict[str, Any], row: Any) -> None:
    operation = operations(api)[f"{row.method} {row.path}"]
    assert {int(status) for status in operation["responses"]} == row.answers
    assert {each["name"] for each in operation["parameters"] if each.get("in") == "query"} == set(row.query)
    assert set(operation.get("requestBody", {}).get("content", {})) == set(row.bodies)
    references = [each["$ref"] for each in operation["parameters"] if "$ref" in each]
    assert references == (["#/components/parameters/IdempotencyKey"] if row.method == "POST" else [])
    good = next(status for status in row.statuses if status < 300)
    assert set(operation["responses"][str(good)].get("content", {})) == ({row.answer} if row.answer else set())
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            assert set(resolved(api, response)["content"]) == {PROBLEM}


def test_fields_are_those_of_the_contract(api: dict[str, Any]) -> None:
    schemas = api["components"]["schemas"]
    objects = {
        name: set(schema["properties"])
        for name, schema in schemas.items()
        # Queries and forms are held against the rows; the form of a campaign below.
        if "properties" in schema and not name.endswith(("Query", "Form")) and name != "Window"
    }
    assert objects == {name: set(fields) for name, fields in FIELDS.items()}
    assert all(schemas[name].get("additionalProperties") is False for name in objects)
    flat = set(FIELDS["CampaignIn"]) | set(FIELDS["CampaignSettings"]) | {"contacts", "on_invalid"}
    assert set(schemas["CampaignForm"]["properties"]) == flat
    for name, words in WORDS.items():
        assert schemas[name]["enum"] == list(words), name


def test_codes_are_those_of_the_contract(api: dict[str, Any]) -> None:
    found: dict[tuple[str, int], set[str]] = {}
    for name, operation in operations(api).items():
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                for code in codes_of(api, response):
                    found.setdefault((code, int(status)), set()).add(name)
    every = set(operations(api))
    assert found == {code: every if names is None else set(names) for code, names in CODES.items()}


def test_every_body_has_an_example_that_fits(api: dict[str, Any]) -> None:
    registry: Registry[Any] = Registry().with_resource(
        "api:", Resource.from_contents(api, default_specification=DRAFT202012)
    )
    seen = 0
    for where, media, content in bodies(api):
        given = (
            [content["example"]] if "example" in content else [each["value"] for each in content["examples"].values()]
        )
        schema = _absolute(content["schema"])
        validator: Any = Draft202012Validator(
            schema, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        for example in given:
            assert [error.message for error in validator.iter_errors(example)] == [], (where, media)
            seen += 1
    assert seen > len(ROWS)


def _absolute(value: Any) -> Any:
    """The same schema with its references made to point into the document."""
    if isinstance(value, dict):
        return {
            key: f"api:{each}" if key == "$ref" and each.startswith("#") else _absolute(each)
            for key, each in value.items()
        }
    return [_absolute(each) for each in value] if isinstance(value, list) else value


async def test_the_page_takes_nothing_from_outside(house: House) -> None:
    page = await house.ask("GET", "/~/docs", key=None)
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    named = set(re.findall(r"""(?:src|href)=["']([^"']+)""", page.body.decode()))
    assert named == {"/docs/docs.css", "/docs/docs.js", "/api/v1/openapi.json"}
    for path in sorted(named):
        answer = await house.ask("GET", f"/~{path}", key=None)
        assert answer.status == 200, path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        # The document has examples of what webhooks lead to; nothing of them is fetched.
        assert set(re.findall(rb"https?://[^/\"]*", answer.body)) <= {b"https://crm.example.com"}, path
        assert path.endswith(".json") or b"://" not in answer.body, path
    assert b"<script>" not in page.body
    assert b"style=" not in page.body
