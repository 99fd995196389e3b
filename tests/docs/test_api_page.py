"""docs/api.md has every call of the API with a curl line, and no other."""

from __future__ import annotations

import re

from dialerd.api.auth import Doorkeeper
from dialerd.api.server import all_routes
from dialerd.api.streams import Streams
from tests.docs.page import DOCS, read_page

_ID = re.compile(r"0[0-9a-hjkmnp-tv-z]{12}")
_LINE = re.compile(r'\$API(/[^\s"?|]*)')


def shown() -> set[tuple[str, str]]:
    """Every call of the page, by its method and the shape of its path."""
    found = set()
    for block in read_page(DOCS / "api.md").blocks:
        for step in block.steps() if block.kind == "console" else ():
            path = _LINE.search(step.command)
            if path is None:
                continue
            method = re.search(r"-X (\w+)", step.command)
            sends = re.search(r"--json|-F |--data", step.command)
            shape = re.sub(
                r"evt_\d+|(?<=/dnc/)\S+|(?<=/trunks/)[^/]+|(?<=/tenants/)[^/]+", "{}", _ID.sub("{}", path[1])
            )
            found.add((method[1] if method else "POST" if sends else "GET", shape))
    return found


def test_every_call_is_there_and_is_one() -> None:
    # Only the list of routes is wanted; nobody asks them anything.
    routes = all_routes(Streams.__new__(Streams), Doorkeeper.__new__(Doorkeeper))
    calls = {(route.method, re.sub(r"\{\w+\}", "{}", route.path)) for route in routes}
    assert len(calls) > 35
    assert calls - shown() == set()
    assert shown() - calls == {("GET", "/openapi.json")} - calls
