"""What intake and settings take can be told to either PBX: the bounds of core.carried, against the wire itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.core import carried
from dialerd.core.model import Call, CallStatus, Contact
from dialerd.core.settings import CampaignSettings
from dialerd.core.variables import MAX_NAME, channel_variables
from dialerd.intake.rows import IntakeOptions, NewContact, read_row
from dialerd.pbx import wire
from dialerd.pbx.driver import Originate, Place
from tests.support.contacts import a_contact

CALL = "0198c0de-0000-7000-8000-000000000001"
NASTY = st.lists(st.sampled_from([*"\\'\",=: {}[]()_$|&aZ9é日🙂", ":_", ":_:", "''"]), max_size=60).map("".join)
PIECES = NASTY | st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40)
VALUES = st.builds(lambda piece, times: piece * times, PIECES, st.integers(1, 1200))


def an_order(contact: Contact, campaign: dict[str, str]) -> Originate:
    call = Call(
        id=CALL,
        tenant="one",
        campaign_id=2**62,
        contact_id=2**62,
        attempt=100,
        pbx="main",
        trunk="a",
        agent_id=1,
        caller_id=None,
        phone_number=contact.phone_number,
        status=CallStatus.ORIGINATED,
        originated_at=contact.updated_at,
    )
    return Originate(
        call_id=CALL,
        dial="PJSIP/12025550100@carrier-a",
        caller_id='"A caller" <+12025550199>',
        place=Place(context="dialerd", exten="answered"),
        setup_seconds=30.0,
        max_call_seconds=3600,
        variables=channel_variables(call, contact, campaign, show_id=str),
    )


def send(order: Originate) -> None:
    """Write the order for both PBXs."""
    wire.ami_originate(order, f"o:{CALL}", keep=True)
    wire.esl_originate(replace(order, dial="loopback/12025550100/dialerd-out"), CALL)


@given(PIECES)
def test_the_bytes_that_are_counted_are_those_of_the_wire(value: str) -> None:
    bare = wire.ami_variable("A", value).removeprefix("__A=")
    assert carried.asterisk_bytes(value) == len(bare.encode())
    braces = wire.esl_variables({"A": value}).removeprefix("{A=").removesuffix("}")
    assert carried.freeswitch_bytes(value) == len(braces.encode())


@given(VALUES)
def test_a_value_that_is_taken_can_be_told(value: str) -> None:
    row = read_row(1, {"phone": "+12025550100", "x" * 100: value}, IntakeOptions())
    try:
        settings = CampaignSettings(variables={"x" * MAX_NAME: value})
    except ValueError:
        settings = None
    if carried.too_long(value.strip()):
        assert not isinstance(row, NewContact)
        assert (row.column, row.code) == ("x" * 100, "too_long")
    else:
        assert isinstance(row, NewContact)
        send(an_order(a_contact(attributes=row.attributes), {}))
    if carried.too_long(value):
        assert settings is None
    else:
        assert settings is not None
        send(an_order(a_contact(), settings.variables))


@pytest.mark.parametrize("value", ["x" * 900, "я" * 450, "," * 450, "'" * 250, "= " * 200], ids=lambda value: value[:2])
def test_as_many_values_as_are_taken_can_be_told_together(value: str) -> None:
    """The largest contact of the largest campaign, each name as long as names are."""
    names = [f"{index:04}".rjust(MAX_NAME, "x") for index in range(carried.MAX_ATTRIBUTES)]
    fields = dict.fromkeys(("first_name", "last_name", "email", "company", "external_id"), value)
    uploaded = {"phone": "+12025550100", "timezone": "America/Argentina/ComodRivadavia", **fields}
    row = read_row(1, {**uploaded, **dict.fromkeys(names, value)}, IntakeOptions())
    assert isinstance(row, NewContact), row
    variables = {f"x{name[1:]}": value for name in names[: carried.MAX_CAMPAIGN_VARIABLES]}
    settings = CampaignSettings(variables=variables)
    contact = a_contact(timezone=row.timezone, attributes=row.attributes, **fields)
    order = an_order(contact, settings.variables)
    assert len(order.variables) == 4 + 7 + carried.MAX_ATTRIBUTES + carried.MAX_CAMPAIGN_VARIABLES
    send(order)
