"""intake.runs: every row arrives once, numbers in their own order, and a run is bounded; also through a child."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from dialerd.clock import SystemClock
from dialerd.intake import runs as made
from dialerd.intake.child import BrokenFrames, read_part, write_parts
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError
from dialerd.intake.runs import Contacts, Errors, Numbers, Part, Run, runs
from dialerd.intake.worker import SMALL_BYTES, parse_runs


def contact(row: int, number: int, **more: object) -> NewContact:
    return NewContact(row, f"+1202{number:07d}", **more)  # type: ignore[arg-type]


def told(parts: Iterable[Part]) -> list[tuple[list[RowError], list[list[object]], list[list[object]]]]:
    """Each run as its errors, its numbers and its contacts."""
    found: list[tuple[list[RowError], list[list[object]], list[list[object]]]] = []
    for part in parts:
        match part:
            case Run():
                found.append(([], [], []))
            case Errors():
                found[-1][0].extend(part.rows)
                assert not found[-1][1] + found[-1][2], "errors come first"
            case Numbers():
                rows = json.loads(part.text)
                assert len(rows) == part.count <= made.PART_ROWS
                assert not found[-1][2], "numbers come before contacts"
                found[-1][1].extend(rows)
            case Contacts():
                rows = json.loads(part.text)
                assert len(rows) == part.count <= made.PART_ROWS
                assert [row[0] for row in rows] == list(range(part.first, part.first + part.count))
                found[-1][2].extend(rows)
    return found


def test_numbers_are_in_order_and_the_first_of_equal_ones_comes_first() -> None:
    wrong = RowError(4, None, None, "x", "y")
    rows: list[NewContact | RowError] = [contact(2, 5), contact(3, 1), wrong, contact(5, 5), contact(6, 3)]
    ((errors, numbers, contacts),) = told(runs(rows))
    assert [error.row for error in errors] == [4]
    assert numbers == [[1, "+12020000001"], [3, "+12020000003"], [0, "+12020000005"], [2, "+12020000005"]]
    assert [row[1] for row in contacts] == ["+12020000005", "+12020000001", "+12020000005", "+12020000003"]


def test_a_contact_arrives_whole() -> None:
    whole = NewContact(2, "+12025550100", "Zoë", 'O"Neil', "z@x.org", "☃ Inc", "UTC", 7, "e-1", {"città": "Roma"})
    ((_, _, (row,)),) = told(runs([whole]))
    assert row[:-1] == [0, "+12025550100", "Zoë", 'O"Neil', "z@x.org", "☃ Inc", "UTC", 7, "e-1"]
    assert json.loads(str(row[-1])) == {"città": "Roma"}


def test_runs_are_bounded_in_rows_and_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "RUN_ROWS", 1200)
    found = told(runs(contact(2 + each, 9999 - each) for each in range(3000)))
    assert [len(contacts) for _, _, contacts in found] == [1200, 1200, 600]
    for _, numbers, _ in found:
        assert numbers == sorted(numbers, key=lambda row: str(row[1]))
    monkeypatch.setattr(made, "RUN_CHARS", 10_000)
    wide = told(runs(contact(2 + each, each, attributes={"note": "x" * 900}) for each in range(100)))
    assert max(len(contacts) for _, _, contacts in wide) <= 12
    assert sum(len(contacts) for _, _, contacts in wide) == 100


def test_no_rows_are_no_run() -> None:
    assert list(runs([])) == []


def test_numbers_outside_the_prefixes_are_errors() -> None:
    ((errors, numbers, contacts),) = told(runs([contact(2, 1), NewContact(3, "+442079460000")], ("+1", "+33")))
    assert [(error.row, error.code) for error in errors] == [(3, "prefix_not_allowed")]
    assert len(numbers) == len(contacts) == 1


def test_a_child_tells_the_same() -> None:
    wrong = RowError(7, "c", "v", "code", "zu spät")
    rows = [contact(each, each % 700) if each % 9 else wrong for each in range(1500)]
    out = io.BytesIO()
    write_parts(runs(rows), out)
    out.seek(0)
    assert list(iter(lambda: read_part(out), None)) == list(runs(rows))
    half = io.BytesIO(out.getvalue()[: len(out.getvalue()) // 2])
    with pytest.raises(BrokenFrames):
        list(iter(lambda: read_part(half), None))


@pytest.mark.parametrize("count", [5, 12_000])
async def test_a_file_in_a_thread_and_in_a_child(tmp_path: Path, count: int) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "phone,name,note\n" + "".join(f"+1202{9_999_999 - each:07d},Zoë {each},hällo world\n" for each in range(count))
    )
    assert (path.stat().st_size >= SMALL_BYTES) == (count > 5)
    found = told([part async for part in parse_runs(str(path), "csv", IntakeOptions(), SystemClock())])
    assert sum(len(contacts) for _, _, contacts in found) == count
    assert found[0][2][0][1] == "+12029999999"
    with path.open("a") as file:
        file.write('+12025550100,"x" y,\n')
    with pytest.raises(InvalidTable):
        async for _ in parse_runs(str(path), "csv", IntakeOptions(), SystemClock()):
            pass
