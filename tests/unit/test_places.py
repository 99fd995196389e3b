"""core.places: which contexts calls leave through, and which places agents may name."""

from __future__ import annotations

from typing import Any

import pytest

from dialerd.core.model import Agent, AgentKind
from dialerd.core.places import ANYWHERE, AllowedPlaces, context_of, ways_out


def an_agent(kind: AgentKind = AgentKind.DIALPLAN, **place: Any) -> Agent:
    return Agent(1, "one", "desk", kind, **place)


@pytest.mark.parametrize(
    ("dial", "context"),
    [
        ("Local/{number}@from-internal", "from-internal"),
        ("local/9{number}@From-Internal/n", "From-Internal"),
        ("Local/{number}", "default"),
        ("Local/{number}/n", "default"),
        ("loopback/{number}/dialerd-out", "dialerd-out"),
        ("loopback/{number}/out/XML", "out"),
        ("loopback/{number}", "default"),
        ("PJSIP/{number}@carrier-a", None),
        ("PJSIP/carrier-a/sip:{number}@192.0.2.7", None),
        ("sofia/gateway/carrier-a/{number}", None),
        ("{number}", None),
    ],
)
def test_the_context_that_a_dial_string_leads_through(dial: str, context: str | None) -> None:
    assert context_of(dial) == context


def test_calls_leave_through_the_trunks_contexts_and_the_shipped_one() -> None:
    dials = ["Local/{number}@Routes", "loopback/{number}/out", "PJSIP/{number}@a"]
    assert ways_out(dials) == {"routes", "out", "dialerd-out"}


@pytest.mark.parametrize("context", ["routes", "Routes", "dialerd-out", "DIALERD-OUT"])
def test_a_way_out_is_no_place_unless_it_is_allowed_by_name(context: str) -> None:
    agent = an_agent(context=context, exten="19005550100")
    objection = AllowedPlaces(ways_out=ways_out(["Local/{number}@routes"])).objection(agent)
    assert objection == ("context", "is not allowed by the configuration: trunks dial through it (see agents.contexts)")
    named = AllowedPlaces(contexts=frozenset({context}), ways_out=frozenset({context.lower()}))
    assert named.objection(agent) is None


def test_where_contexts_are_named_there_are_no_others() -> None:
    allowed = AllowedPlaces(contexts=frozenset({"sales", "dialerd"}))
    assert allowed.objection(an_agent(context="sales", exten="s")) is None
    for context in ("from-internal", "Sales"):
        objection = allowed.objection(an_agent(context=context, exten="s"))
        assert objection == ("context", "is not allowed by the configuration; allowed: dialerd, sales")
    assert AllowedPlaces(contexts=frozenset()).objection(an_agent(context="sales", exten="s")) == (
        "context",
        "is not allowed by the configuration; allowed: none",
    )


def test_applications_are_those_that_are_named_and_queues_are_free() -> None:
    allowed = AllowedPlaces(frozenset({"Playback"}), frozenset())
    assert allowed.objection(an_agent(AgentKind.APPLICATION, application="Playback")) is None
    objection = allowed.objection(an_agent(AgentKind.APPLICATION, application="System"))
    assert objection == ("application", "is not allowed by the configuration; allowed: Playback")
    assert allowed.objection(an_agent(AgentKind.QUEUE, queue="sales")) is None


def test_nothing_is_named_and_nothing_refused() -> None:
    for agent in (an_agent(context="c", exten="s"), an_agent(AgentKind.APPLICATION, application="Dial")):
        assert ANYWHERE.objection(agent) is None
