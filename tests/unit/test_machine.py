"""The two state machines: every legal row, every other pair, and the diagrams that are made from the tables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from dialerd.core import campaign, contact
from dialerd.core.campaign import CampaignEvent
from dialerd.core.contact import ContactEvent
from dialerd.core.machine import IllegalTransition, mermaid, step
from dialerd.core.model import CampaignStatus, ContactStatus

STATES_PAGE = Path(__file__).parents[2] / "docs" / "states.md"

LEGAL_FOR_CAMPAIGNS = """
draft start active
paused start active
active pause paused
paused resume active
draft stop cancelled
active stop cancelled
paused stop cancelled
active finish completed
active expire completed
paused expire completed
"""

LEGAL_FOR_CONTACTS = """
pending originate originated
pending cancel cancelled
originated answer connected
originated retry pending
originated fail failed
connected complete completed
connected retry pending
completed callback pending
failed callback pending
failed put_back pending
"""

Rows = Mapping[tuple[str, str], str]
Table = Mapping[tuple[Any, Any], StrEnum]


def rows(text: str) -> Rows:
    return {(source, event): target for source, event, target in (line.split() for line in text.split("\n") if line)}


MACHINES = [
    pytest.param(campaign.TRANSITIONS, rows(LEGAL_FOR_CAMPAIGNS), CampaignStatus, CampaignEvent, id="campaign"),
    pytest.param(contact.TRANSITIONS, rows(LEGAL_FOR_CONTACTS), ContactStatus, ContactEvent, id="contact"),
]


@pytest.mark.parametrize(("table", "legal", "states", "events"), MACHINES)
def test_every_pair_of_state_and_event(table: Table, legal: Rows, states: type[StrEnum], events: type[StrEnum]) -> None:
    for state, event in product(states, events):
        if (state, event) in legal:
            assert step(table, state, event) is states(legal[state, event])
        else:
            with pytest.raises(IllegalTransition) as caught:
                step(table, state, event)
            assert (caught.value.state, caught.value.event) == (state, event)
            assert str(caught.value) == f"'{event}' is not possible in state '{state}'"


@pytest.mark.parametrize(("table", "legal", "states", "events"), MACHINES)
def test_tables_hold_each_state_and_event(
    table: Table, legal: Rows, states: type[StrEnum], events: type[StrEnum]
) -> None:
    assert {source for source, _ in table} | set(table.values()) == set(states)
    assert {event for _, event in table} == set(events)


@pytest.mark.parametrize(("table", "legal", "states", "events"), MACHINES)
def test_tables_cannot_be_changed_at_run_time(
    table: Any, legal: Rows, states: type[StrEnum], events: type[StrEnum]
) -> None:
    with pytest.raises(TypeError):
        table[next(iter(table))] = next(iter(states))


def test_nothing_leaves_a_finished_campaign() -> None:
    sources = {source for source, _ in campaign.TRANSITIONS}
    assert set(CampaignStatus) - sources == campaign.FINISHED


def test_contacts_are_in_flight_from_originate_until_their_call_ends() -> None:
    """The slots hang on this: entered by ORIGINATE alone, left by the three ends of a call alone."""
    entries = {
        event
        for (source, event), target in contact.TRANSITIONS.items()
        if source not in contact.IN_FLIGHT and target in contact.IN_FLIGHT
    }
    exits = {
        event
        for (source, event), target in contact.TRANSITIONS.items()
        if source in contact.IN_FLIGHT and target not in contact.IN_FLIGHT
    }
    assert entries == {ContactEvent.ORIGINATE}
    assert exits == {ContactEvent.COMPLETE, ContactEvent.RETRY, ContactEvent.FAIL}


def test_mermaid_draws_a_row_per_transition() -> None:
    table = {
        (CampaignStatus.DRAFT, CampaignEvent.START): CampaignStatus.ACTIVE,
        (CampaignStatus.ACTIVE, CampaignEvent.PAUSE): CampaignStatus.PAUSED,
    }
    assert mermaid(table) == "stateDiagram-v2\n    draft --> active: start\n    active --> paused: pause"


def states_page() -> str:
    def fenced(table: Table) -> str:
        return f"```mermaid\n{mermaid(table)}\n```"

    return f"""# States

Made from the tables in `dialerd/core/campaign.py` and `dialerd/core/contact.py`; what is not drawn here cannot happen.
After a change of a table: `UPDATE_DOCS=1 pytest tests/unit/test_machine.py`.

## A campaign

{fenced(campaign.TRANSITIONS)}

## A contact

{fenced(contact.TRANSITIONS)}
"""


def test_the_page_of_states_is_that_of_the_tables() -> None:
    if os.environ.get("UPDATE_DOCS"):
        STATES_PAGE.write_text(states_page(), encoding="utf-8")
    written = STATES_PAGE.read_text(encoding="utf-8") if STATES_PAGE.exists() else None
    assert written == states_page(), "make docs/states.md anew: UPDATE_DOCS=1 pytest tests/unit/test_machine.py"
