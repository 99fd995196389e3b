"""JSON with one long list is read part by part, and is the same JSON, with the same mistakes, wherever a part ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialerd.api import strict_json
from dialerd.api.strict_json import parse_long, parse_object
from dialerd.dispatch.errors import Rejected

GOOD: tuple[dict[str, Any], ...] = (
    {},
    {"items": []},
    {"other": [1, 2, 3], "items": [1, -2.5, 3e7, "x", None, True, False, {}, [], "é", "😀", 'a"b', "\\", "\n"]},
    {"items": [{"phone": f"+1202555{number:04}", "of": [number, {"n": number}]} for number in range(200)], "z": None},
    {"items": {"no": "list"}},
    {"items": [123456789012345678901234567890, 0.1, "]", "}", ",", ":", ""]},
)
BAD = (
    "[]",
    "7",
    "{",
    '{"items"',
    '{"items":',
    '{"items": [',
    '{"items": [1',
    '{"items": [1,',
    '{"items": [1,]}',
    '{"items": [1 2]}',
    '{"items": [1]',
    '{"items": [1]} x',
    '{"items": [1],}',
    "{items: []}",
    "{1: 2}",
    '{"items": [01]}',
    '{"items": [1.]}',
    '{"items": ["\\x"]}',
    '{"items": ["a\tb"]}',
    '{"items": ["a]}',
    '{"items": [nul]}',
    '{"items": [NaN]}',
    '{"items": [1e999]}',
    '{"items": ["\\ud800"]}',
    '{"items": [{"a": 1, "a": 2}]}',
    '{"items": [], "items": []}',
    '{"a": 1, "a": 2}',
    '{"items": [' + "9" * 5000 + "]}",
    '{"items": [' + "[" * 100_000,
)


def refusal(data: bytes, most: int = 1000) -> str:
    """What is told of a body that is none."""
    with pytest.raises(Rejected) as caught:
        parse_long(data, "items", most)
    assert caught.value.code == "invalid_request"
    return caught.value.detail


@pytest.mark.parametrize("size", [*range(40, 60), 100, 1000, strict_json._AT_A_TIME])
@pytest.mark.parametrize("spaced", [(",", ":"), (" ,\n", " : ")])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("value", GOOD, ids=range(len(GOOD)))
def test_what_is_read_part_by_part_is_the_same(
    monkeypatch: pytest.MonkeyPatch, value: Any, size: int, spaced: tuple[str, str], ascii_only: bool
) -> None:
    if not value.get("items") or isinstance(value["items"], list):
        # A value has to fit in a part, with what may follow a number.
        size = max(size, *(len(json.dumps(each, separators=spaced)) + 3 for each in (*value.get("items", ()), 0)), 25)
    monkeypatch.setattr(strict_json, "_AT_A_TIME", size)
    data = json.dumps(value, separators=spaced, ensure_ascii=ascii_only).encode()
    assert parse_long(data, "items", 1000) == value


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:20])
def test_mistakes_are_told_as_of_any_other_body(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_object(text.encode())
    assert refusal(text.encode(), 200_000) == caught.value.detail


@pytest.mark.parametrize("text", [text for text in BAD if len(text) < 100], ids=lambda text: text[:20])
def test_mistakes_are_found_behind_many_parts(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(strict_json, "_AT_A_TIME", 50)
    before = '{"before": 1' + "".join(f', "n{number}": "{"x" * 20}"' for number in range(20))
    assert refusal(f"{before}, {text[1:]}".encode())
    rows = '{"items": [' + '"+12025550100",\n' * 50
    assert refusal(f"{rows} {text.partition('[')[2] or text}".encode())


def test_a_mistake_is_told_by_its_line_and_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "_AT_A_TIME", 50)
    rows = '"+12025550100",\n' * 50
    assert "line 51, column 3" in refusal(f'{{"items": [{rows}  x, {rows} 1]}}'.encode())


def test_what_has_no_end_in_sight_is_refused_unread() -> None:
    too_long = b"0," * strict_json._AT_A_TIME
    assert "longer than" in refusal(b'{"items": [[' + too_long + b"0]]}")
    assert "longer than" in refusal(b'{"items": ["' + too_long + b'"]}')
    assert "longer than" in refusal(b'{"other": [' + too_long + b"0]}")
    assert "more than 1000 items" in refusal(b'{"items": [' + too_long + b"0]}")
    assert "more than 1000 lists and objects" in refusal(b'{"items": [' + b"[]," * 1000 + b"0]}")
    assert "more than 100 fields" in refusal(b"{" + b",".join(b'"%d":0' % number for number in range(1000)) + b"}")
