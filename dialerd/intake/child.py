"""The process that parses a large upload, so that the event loop does not. Its first argument is a :class:`Request`.

It writes frames to its standard output: four bytes of length (big endian), then JSON. A frame is a batch of rows, or
the last one: that the file ended, or that it is invalid. Output that stops without a last frame is a death.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import IO, Any, BinaryIO, Literal

from dialerd.intake.ndjson import read_ndjson
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError
from dialerd.intake.table import read_csv

Kind = Literal["csv", "ndjson"]
Row = NewContact | RowError

MAX_FRAME = 64 * 1024 * 1024
"""Bytes beyond which the parent takes a frame for garbage."""
_FULL = 512 * 1024  # characters after which a batch goes out, however few rows it has
_LENGTH = struct.Struct(">I")
_NICENESS = 10  # dialling comes first
_CONTACT_VALUES = attrgetter(*(field.name for field in fields(NewContact)))
_ERROR_VALUES = attrgetter(*(field.name for field in fields(RowError)))


class BrokenFrames(Exception):
    """The stream of frames stopped, or is none."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to parse, and how."""

    path: str
    kind: Kind
    options: IntakeOptions
    batch: int

    def to_json(self) -> str:
        """Write the request as the child's only argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Read what :meth:`to_json` wrote."""
        plain = json.loads(text)
        return cls(plain["path"], plain["kind"], IntakeOptions(**plain["options"]), plain["batch"])


def read_rows(file: BinaryIO, kind: Kind, options: IntakeOptions) -> Iterator[Row]:
    """Read an upload of either kind. Raises InvalidTable."""
    return read_csv(file, options) if kind == "csv" else read_ndjson(file, options)


def write_frames(rows: Iterable[Row], out: BinaryIO, batch: int) -> None:
    """Write rows as frames, and a last frame that says how it ended."""
    last: dict[str, Any] = {"end": True}
    pending: list[str] = []
    size = 0
    try:
        for row in rows:
            text = _to_json(row)
            pending.append(text)
            size += len(text)
            if len(pending) >= batch or size >= _FULL:
                _write(out, f'{{"rows":[{",".join(pending)}]}}')
                pending, size = [], 0
    except InvalidTable as error:
        last = {"invalid": [error.code, error.message, error.row]}
    if pending:
        _write(out, f'{{"rows":[{",".join(pending)}]}}')
    _write(out, json.dumps(last))


def read_frame(source: IO[bytes]) -> list[Row] | None:
    """Read a batch of rows, waiting for it; None at the file's end.

    Raises InvalidTable where the child found the file invalid, BrokenFrames where its output stops or is no frame.
    """
    (length,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
    if length > MAX_FRAME:
        raise BrokenFrames("not a frame")
    try:
        frame = json.loads(_exactly(source, length))
    except ValueError:
        raise BrokenFrames("not a frame") from None
    if "invalid" in frame:
        raise InvalidTable(*frame["invalid"])
    if "rows" not in frame:
        return None
    return [NewContact(*values) if kind == "c" else RowError(*values) for kind, *values in frame["rows"]]


def main() -> None:
    """Parse the file that the first argument names."""
    os.nice(_NICENESS)
    request = Request.from_json(sys.argv[1])
    out = sys.stdout.buffer
    with open(request.path, "rb") as file:
        try:
            write_frames(read_rows(file, request.kind, request.options), out, request.batch)
        except BrokenPipeError:
            os._exit(1)  # the parent is gone; there is nobody to tell, and nothing to flush to


def _to_json(row: Row) -> str:
    plain = ["c", *_CONTACT_VALUES(row)] if isinstance(row, NewContact) else ["e", *_ERROR_VALUES(row)]
    return json.dumps(plain, ensure_ascii=False)


def _write(out: BinaryIO, text: str) -> None:
    data = text.encode("utf-8")
    out.write(_LENGTH.pack(len(data)) + data)
    out.flush()


def _exactly(source: IO[bytes], length: int) -> bytes:
    data = source.read(length)
    if len(data) < length:
        raise BrokenFrames("the output stops")
    return data
