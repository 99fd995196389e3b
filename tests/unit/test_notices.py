"""Notices of PostgreSQL: whoever is connected can send one, so each is read with care."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.store.notices import last_event

LARGEST = 2**63 - 1


@given(st.integers(1, LARGEST))
def test_the_number_of_an_event_is_read_as_it_was_written(number: int) -> None:
    assert last_event(str(number)) == number


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "0",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "1_000",
        "0x1",
        "²",
        "١",
        "١٢",
        "12 events",
        "1\n",
        "\0",
        str(LARGEST + 1),
        "9" * 8000,
    ],
)
def test_what_is_no_events_number_is_none(payload: str) -> None:
    assert last_event(payload) is None


@given(st.text(max_size=30))
def test_any_payload_is_a_number_that_there_can_be_or_none(payload: str) -> None:
    number = last_event(payload)
    assert number is None or 0 < number <= LARGEST
