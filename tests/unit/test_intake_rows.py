"""intake.rows: one row becomes a contact, or names its column and the reason."""

from __future__ import annotations

from typing import Any

import pytest

from dialerd.intake.json_list import read_items
from dialerd.intake.rows import BadNames, IntakeOptions, NewContact, RowError, assign, read_row

OPTIONS = IntakeOptions(default_region="US")
NUMBER = "+12025550100"


def accepted(**values: Any) -> NewContact:
    row = read_row(1, values, OPTIONS)
    assert isinstance(row, NewContact), row
    return row


def refused(values: dict[str, Any], options: IntakeOptions = OPTIONS) -> RowError:
    row = read_row(7, values, options)
    assert isinstance(row, RowError), row
    assert row.row == 7
    return row


def test_a_full_contact() -> None:
    assert read_row(
        3,
        {
            "phone_number": "(202) 555-0100",
            "first_name": " Ann ",
            "last_name": "O'Neill",
            "email": "ann@example.com",
            "company": "Acme, Inc.",
            "timezone": "America/New_York",
            "priority": "100",
            "external_id": "x-1",
            "city": "Rome",
            "SHELL(id)": "1",
            "empty": " ",
        },
        OPTIONS,
    ) == NewContact(
        row=3,
        phone_number=NUMBER,
        first_name="Ann",
        last_name="O'Neill",
        email="ann@example.com",
        company="Acme, Inc.",
        timezone="America/New_York",
        priority=100,
        external_id="x-1",
        attributes={"city": "Rome", "SHELL(id)": "1"},
    )


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("phone", "phone_number"),
        ("Phone", "phone_number"),
        ("Phone Number", "phone_number"),
        ("phone-number", "phone_number"),
        ("PHONENUMBER", "phone_number"),
        ("Telephone", "phone_number"),
        ("mobile", "phone_number"),
        (" Cell_Phone ", "phone_number"),
        ("First Name", "first_name"),
        ("Surname", "last_name"),
        ("E-Mail", "email"),
        ("Organization", "company"),
        ("Time Zone", "timezone"),
        ("External-ID", "external_id"),
        ("Priority", "priority"),
    ],
)
def test_spellings_of_the_fields(name: str, field: str) -> None:
    assert assign((name,), OPTIONS).fields == {field: name}


def test_the_api_s_own_name_wins_over_another_spelling() -> None:
    columns = assign(("mobile", "phone", "surname", "last_name"), OPTIONS)
    assert columns.fields == {"phone_number": "phone", "last_name": "last_name"}
    assert columns.attributes == (("mobile", "mobile"), ("surname", "surname"))


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("phone", "phone_number"), "duplicate_column"),
        (("mobile", "telephone"), "duplicate_column"),
        (("phone", "First Name", "first_name"), "duplicate_column"),
        (("phone", "city", " city "), "duplicate_column"),
        (("phone", "a\nb"), "control_character"),
        (("phone", "x" * 101), "bad_name"),
        (("phone", " "), "bad_name"),
        (("phone", *(f"c{index}" for index in range(200))), "too_many_columns"),
    ],
)
def test_names_that_do_not_fit(names: tuple[str, ...], code: str) -> None:
    with pytest.raises(BadNames) as caught:
        assign(names, OPTIONS)
    assert caught.value.code == code
    error = refused(dict.fromkeys(names, "+12025550100"))
    assert error.code == code
    assert "\n" not in error.message + (error.column or "")


@pytest.mark.parametrize(
    ("values", "column", "code"),
    [
        ({}, "phone_number", "number_missing"),
        ({"Phone": " "}, "Phone", "number_missing"),
        ({"phone": None}, "phone", "number_missing"),
        ({"phone": "not a number"}, "phone", "number_letters"),
        ({"phone": True}, "phone", "number_letters"),
        ({"phone": [NUMBER]}, "phone", "not_text"),
        ({"phone": NUMBER + "\r\nAction: Command"}, "phone", "control_character"),
        ({"phone": NUMBER, "first_name": "Bob\r\nAction: Command"}, "first_name", "control_character"),
        ({"phone": NUMBER, "first_name": "Bob\u2028"}, "first_name", "control_character"),
        ({"phone": NUMBER, "city": "a\x85b"}, "city", "control_character"),
        ({"phone": NUMBER, "city": "\ud800"}, "city", "control_character"),
        ({"phone": NUMBER, "first_name": {"a": 1}}, "first_name", "not_text"),
        ({"phone": NUMBER, "company": "x" * 901}, "company", "too_long"),
        ({"phone": NUMBER, "note": ["x" * 901]}, "note", "too_long"),
        ({"phone": NUMBER, "note": "я" * 451}, "note", "too_long"),
        ({"phone": NUMBER, "note": "a," * 301}, "note", "too_long"),
        ({"phone": NUMBER, "note": "'" * 251}, "note", "too_long"),
        ({"phone": NUMBER, **{f"c{index}": "1" for index in range(81)}}, None, "too_many_attributes"),
        ({"phone": NUMBER, "attributes": {f"c{index}": "1" for index in range(81)}}, None, "too_many_attributes"),
        ({"phone": NUMBER, "Time Zone": "Mars/Phobos"}, "Time Zone", "unknown_timezone"),
        ({"phone": NUMBER, "timezone": "../../etc/passwd"}, "timezone", "unknown_timezone"),
        ({"phone": NUMBER, "priority": "101"}, "priority", "bad_priority"),
        ({"phone": NUMBER, "priority": "-1"}, "priority", "bad_priority"),
        ({"phone": NUMBER, "priority": 1.5}, "priority", "bad_priority"),
        ({"phone": NUMBER, "priority": "high"}, "priority", "bad_priority"),
        ({"phone": NUMBER, "priority": "٣"}, "priority", "bad_priority"),
        ({"phone": NUMBER, "priority": True}, "priority", "bad_priority"),
        ({"phone": NUMBER, "score": float("nan")}, "score", "not_text"),
        ({"phone": NUMBER, "attributes": {"a\nb": "1"}}, "a\\nb", "control_character"),
        ({"phone": NUMBER, "city": "a", "attributes": {"city": "b"}}, "city", "duplicate_column"),
    ],
)
def test_a_refused_row_names_its_column(values: dict[str, Any], column: str | None, code: str) -> None:
    error = refused(values)
    assert (error.column, error.code) == (column, code)


def test_a_table_may_have_more_columns_than_a_contact_has_attributes() -> None:
    wide = {f"c{index}": "1" if index % 2 else "" for index in range(160)}
    assert len(accepted(phone=NUMBER, **wide).attributes) == 80


def test_a_value_that_is_too_long_is_told_by_the_bytes_that_it_takes() -> None:
    assert refused({"phone": NUMBER, "note": "a," * 301}).message.startswith("takes 903 bytes on the way to Asterisk")
    assert refused({"phone": NUMBER, "note": "'" * 251}).message.startswith("takes 2008 bytes on the way to FreeSWITCH")


def test_the_report_holds_nothing_dangerous_and_nothing_long() -> None:
    error = refused({"phone": NUMBER, "first_name": "Bob\r\nAction: Command\0" + "x" * 200})
    assert error.value is not None
    assert error.value.startswith("Bob\\r\\nAction: Command\\x00xxx")
    assert len(error.value) == 100
    assert "Bob" not in error.message


def test_json_values_become_text() -> None:
    contact = accepted(
        phone=12025550100,
        external_id=42,
        priority=7,
        score=1.5,
        whole=3.0,
        vip=True,
        nothing=None,
        tags=["a", {"b": 1}],
    )
    assert contact.phone_number == NUMBER
    assert contact.external_id == "42"
    assert contact.priority == 7
    assert contact.attributes == {"score": "1.5", "whole": "3", "vip": "true", "tags": '["a",{"b":1}]'}


def test_what_the_api_showed_can_be_sent_back() -> None:
    assert accepted(phone_number=NUMBER, attributes={"city": "Rome", "n": 1}).attributes == {"city": "Rome", "n": "1"}
    assert accepted(phone_number=NUMBER, attributes="text").attributes == {"attributes": "text"}


def test_a_nesting_beyond_all_bounds_is_one_row_s_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    error = refused({"phone": NUMBER, "deep": deep})
    assert (error.code, error.value) == ("not_text", "list")


def test_control_characters_in_json_text_stay_escaped() -> None:
    assert accepted(phone=NUMBER, tags=["a\r\nb"]).attributes == {"tags": '["a\\r\\nb"]'}


def test_items_of_a_json_list() -> None:
    rows = list(read_items([{"phone": NUMBER}, "text", None, {"phone": "abc"}, {"phone": "2025550101"}], OPTIONS))
    assert [row.row for row in rows] == [1, 2, 3, 4, 5]
    assert [row.code for row in rows if isinstance(row, RowError)] == [
        "not_an_object",
        "not_an_object",
        "number_letters",
    ]
    assert [row.phone_number for row in rows if isinstance(row, NewContact)] == [NUMBER, "+12025550101"]
