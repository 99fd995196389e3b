"""What the client prints: columns, values and JSON that no terminal obeys; and its streams' parser."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.client import explain, text
from dialerd.client.sse import MAX_LINE, EventStream, ServerEvent
from dialerd.client.tail import line


def test_a_table_has_numbers_to_the_right_and_texts_to_the_left() -> None:
    assert text.table(["NAME", "CALLS"], [["a", 5], ["longer", 1234], ["none", None]]) == [
        "NAME    CALLS",
        "a           5",
        "longer   1234",
        "none        -",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert text.table(["ID", "NAME"], []) == ["ID  NAME"]


def test_wide_characters_take_two_columns() -> None:
    assert text.table(["NAME", "X"], [["山田", "a"], ["abcd", "b"]])[1:] == ["山田  a", "abcd  b"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        (0, "0"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb", "a\\nb"),
        ("\u202eevil", "\\u202eevil"),
        ("\x9b31m", "\\x9b31m"),
        ("Jürgen", "Jürgen"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(value: object, shown: str) -> None:
    assert text.printable(value) == shown


@given(st.dictionaries(st.text(), st.text()))
def test_json_stays_the_same_json_and_is_safe_to_show(value: dict[str, str]) -> None:
    for written in (text.to_json(value), text.to_json(value, indent=None)):
        assert json.loads(written) == value
        assert not any(ord(each) in {0x1B, 0x7F, 0x9B, 0x202E} for each in written)
    assert "\n" not in text.to_json(value, indent=None)


def test_values() -> None:
    assert text.moment("2026-11-22T21:00:05.123456Z") == "2026-11-22 21:00:05Z"
    assert text.moment(None) is None
    assert text.percent(0.335) == "34 %"
    assert text.percent(None) is None
    assert text.fields([("a", 1), ("long", None)]) == ["a     1", "long  -"]


def test_a_page_says_what_it_leaves_out() -> None:
    assert text.more({"data": [1, 2], "total": 2, "next": None}, "keys") == []
    assert text.more({"data": [1], "total": 3, "next": "x"}, "keys") == ["1 of 3 keys; for what follows: --after x"]
    assert text.more({"data": [1], "total": 3, "next": None}, "keys") == ["1 of 3 keys"]


def test_an_explanation_in_lines() -> None:
    rule = {"rule": "calling_hours", "level": "campaign", "holds": False, "detail": "closed", "until": None}
    told = {
        "summary": "Nothing is dialled",
        "next_moment": "2026-11-23T14:00:00Z",
        "counts": {"due": 1, "waiting": 2, "in_flight": 3},
        "rules": [rule],
    }
    assert explain.lines(told) == [
        "Nothing is dialled",
        "next moment: 2026-11-23 14:00:00Z",
        "1 due, 2 waiting, 3 in flight",
        "",
        "LETS CALL  LEVEL     RULE           DETAIL  UNTIL",
        "NO         campaign  calling_hours  closed  -",
    ]


def test_an_event_in_a_line() -> None:
    data = {"at": "2026-11-22T21:00:05Z", "phone_number": "+12025550143", "status": "failed", "outcome": "busy"}
    assert line("failed", data) == "2026-11-22 21:00:05Z  failed              +12025550143  failed  busy"
    ended = {
        "at": "2026-11-22T21:00:05Z",
        "campaign_id": "c",
        "phone_number": None,
        "status": "paused",
        "reason": "ill",
    }
    assert line("campaign", ended) == "2026-11-22 21:00:05Z  campaign            campaign c  paused  ill"


STREAM = 'retry: 1500\nid: 6\n\n: hello\n\nevent: completed\nid: 7\ndata: {"a": "ü"}\n\nid: 8\r\ndata: 1\rdata: 2\n\n'


@given(st.lists(st.integers(0, len(STREAM.encode()))))
def test_a_stream_is_read_alike_however_the_reads_fall(cuts: list[int]) -> None:
    data, stream, found = STREAM.encode(), EventStream(), []
    places = [0, *sorted(cuts), len(data)]
    for begin, end in itertools.pairwise(places):
        found += stream.feed(data[begin:end])
    assert found == [ServerEvent("completed", "7", '{"a": "ü"}'), ServerEvent("message", "8", "1\n2")]
    assert (stream.last_id, stream.retry_seconds) == ("8", 1.5)


def test_half_an_event_does_not_move_the_place() -> None:
    stream = EventStream(last_id="6")
    assert stream.feed(b"id: 7\nevent: completed\ndata: {}\n") == []
    assert stream.last_id == "6"
    assert stream.feed(b"\n") == [ServerEvent("completed", "7", "{}")]
    assert stream.last_id == "7"


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="without end"):
        EventStream().feed(b"data: " + b"x" * MAX_LINE)
