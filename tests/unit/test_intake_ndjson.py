"""intake.ndjson: each line stands by itself; a file that is no text does not stand at all."""

from __future__ import annotations

import io

import pytest

from dialerd.intake.ndjson import read_ndjson
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError

OPTIONS = IntakeOptions(default_region="US")


def read(data: bytes | str, options: IntakeOptions = OPTIONS) -> list[NewContact | RowError]:
    return list(read_ndjson(io.BytesIO(data.encode() if isinstance(data, str) else data), options))


def test_lines() -> None:
    rows = read('\ufeff{"phone": "(202) 555-0100", "city": "Zoë"}\r\n\n  \n{"phone_number": "+12025550101"}')
    assert rows == [
        NewContact(1, "+12025550100", attributes={"city": "Zoë"}),
        NewContact(4, "+12025550101"),
    ]
    assert read("") == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("not json", "invalid_json"),
        ('{"phone": "+12025550100"', "invalid_json"),
        ('{"phone": "+12025550100"} {}', "invalid_json"),
        ('{"phone": "+12025550100", "x": NaN}', "invalid_json"),
        ('{"phone": "+12025550100", "x": ' + "1" * 5000 + "}", "invalid_json"),
        ('{"phone": "+12025550100", "x": ' + "[" * 30_000 + "]" * 30_000 + "}", "invalid_json"),
        ('["+12025550100"]', "not_an_object"),
        ('"+12025550100"', "not_an_object"),
        ("null", "not_an_object"),
        ('{"phone": "+12025550100", "first_name": "\\r\\nAction: Command"}', "control_character"),
        ('{"phone": "+12025550100", "first_name": "\\ud800"}', "control_character"),
        ('{"phone": "+12025550100", "": "x"}', "bad_name"),
    ],
)
def test_a_bad_line_is_its_own_error(line: str, code: str) -> None:
    bad, good = read(f'{line}\n{{"phone": "+12025550101"}}\n')
    assert isinstance(bad, RowError)
    assert (bad.row, bad.code) == (1, code)
    assert len(bad.value or "") <= 100
    assert good == NewContact(2, "+12025550101")


@pytest.mark.parametrize(
    ("data", "row", "words"),
    [
        ('{"phone": "+12025550100"}\n{"phone": "+12025550101", "city": "é"}\n'.encode("latin-1"), 2, "not UTF-8"),
        (b'{"phone": "+12025550100"}\n\0\n', 2, "NUL"),
        ('{}\n{"x": "' + "x" * 70_000 + '"}', 2, "longer than 65536 bytes"),
    ],
)
def test_an_unusable_file(data: bytes | str, row: int, words: str) -> None:
    with pytest.raises(InvalidTable) as caught:
        read(data)
    assert (caught.value.code, caught.value.row) == ("invalid_request", row)
    assert words in caught.value.message
