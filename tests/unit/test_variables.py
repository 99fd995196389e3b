"""core.variables: names on the channel are ours, whatever a column was called."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dialerd.core.model import Contact, ContactStatus
from dialerd.core.variables import contact_variables, variable_name


def contact(**changes: Any) -> Contact:
    values: dict[str, Any] = {
        "id": 1,
        "campaign_id": 2,
        "phone_number": "+12025550100",
        "first_name": None,
        "last_name": None,
        "email": None,
        "company": None,
        "timezone": None,
        "priority": 5,
        "external_id": None,
        "attributes": {},
        "status": ContactStatus.PENDING,
        "attempts": 0,
        "callee_tries": 0,
        "mishaps": 0,
        "last_outcome": None,
        "next_attempt_at": None,
        "updated_at": datetime(2030, 1, 1, tzinfo=UTC),
    }
    return Contact(**(values | changes))


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("city", "CONTACT_CITY"),
        ("order no.", "CONTACT_ORDER_NO"),
        ("SHELL(id)", "CONTACT_SHELL_ID"),
        ("CALLERID(num)", "CONTACT_CALLERID_NUM"),
        ("${EXTEN}", "CONTACT_EXTEN"),
        ("__inherited", "CONTACT_INHERITED"),
        ("Größe", "CONTACT_GROSSE"),
        ("2nd", "CONTACT_2ND"),
        ("город", "CONTACT_U0413_U041E_U0420_U041E_U0414"),
        ("x" * 100, "CONTACT_" + "X" * 64),
    ],
)
def test_names(attribute: str, name: str) -> None:
    assert variable_name(attribute) == name


def test_standard_variables_and_attributes() -> None:
    told = contact_variables(
        contact(first_name="Ann", company="", external_id="x-1", attributes={"city": "Rome", "plan": ""})
    )
    assert told == {
        "CONTACT_PHONE_NUMBER": "+12025550100",
        "CONTACT_FIRST_NAME": "Ann",
        "CONTACT_EXTERNAL_ID": "x-1",
        "CONTACT_CITY": "Rome",
    }


def test_an_attribute_never_takes_a_standard_name_even_where_that_is_not_set() -> None:
    told = contact_variables(contact(attributes={"phone-number": "911", "last name": "Mallory", "Priority": "9"}))
    assert told == {"CONTACT_PHONE_NUMBER": "+12025550100"}


def test_the_first_of_two_attributes_keeps_the_name() -> None:
    told = contact_variables(contact(attributes={"order no": "1", "Order-No": "2"}))
    assert told["CONTACT_ORDER_NO"] == "1"
