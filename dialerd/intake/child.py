"""The process that parses a large upload, so that the event loop does not. Its first argument is a :class:`Request`.

It writes frames to its standard output: four bytes of length (big endian), then text. A frame is a batch of rows, a
part of a run, or the last one: that the file ended, or that it is invalid. Output that stops without a last frame is a
death.
"""

from __future__ import annotations

import json
import os
import queue
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import IO, Any, BinaryIO, Literal

from dialerd.intake import runs
from dialerd.intake.ndjson import read_ndjson
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError
from dialerd.intake.runs import Part
from dialerd.intake.table import read_csv

Kind = Literal["csv", "ndjson"]
Row = NewContact | RowError

MAX_FRAME = 64 * 1024 * 1024
"""Bytes beyond which the parent takes a frame for garbage."""
_FULL = 512 * 1024  # characters after which a batch goes out, however few rows it has
_PARTS_AHEAD = 2 * runs.RUN_ROWS // runs.PART_ROWS  # about a run: its numbers and its contacts
_LENGTH = struct.Struct(">I")
_NICENESS = 5  # dialling comes first: to it goes three times as much of a core that both want
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
    batch: int | None
    """Rows of a batch, at most; None: runs are wanted, in parts."""

    def to_json(self) -> str:
        """Write the request as the child's only argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Read what :meth:`to_json` wrote."""
        plain = json.loads(text)
        prefixes = tuple(plain["options"].pop("allowed_prefixes"))
        options = IntakeOptions(**plain["options"], allowed_prefixes=prefixes)
        return cls(plain["path"], plain["kind"], options, plain["batch"])


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


def write_parts(parts: Iterable[Part], out: BinaryIO) -> None:
    """Write the parts of runs as frames, and a last frame that says how it ended.

    A run waits for the reader in a queue of its own, while the next one is read from the file.
    """
    waiting: queue.Queue[str | None] = queue.Queue(_PARTS_AHEAD)

    def write() -> None:
        try:
            while (text := waiting.get()) is not None:
                _write(out, text)
        except BrokenPipeError:
            os._exit(1)  # the parent is gone; there is nobody to tell, and nothing to flush to

    # Should the parser die of an error, nothing waits for this thread: the output stops without its last frame.
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    last: dict[str, Any] = {"end": True}
    try:
        for part in parts:
            waiting.put(_part_to_text(part))
    except InvalidTable as error:
        last = {"invalid": [error.code, error.message, error.row]}
    waiting.put(json.dumps(last))
    waiting.put(None)
    writer.join()


def read_frame(source: IO[bytes]) -> list[Row] | None:
    """Read a batch of rows, waiting for it; None at the file's end.

    Raises InvalidTable where the child found the file invalid, BrokenFrames where its output stops or is no frame.
    """
    frame = _loaded(_frame(source))
    if "rows" not in frame:
        return None
    return [NewContact(*values) if kind == "c" else RowError(*values) for kind, *values in frame["rows"]]


def read_part(source: IO[bytes]) -> Part | None:
    """Read a part of a run, waiting for it; None at the file's end. Raises as :func:`read_frame` does.

    Numbers and contacts stay the text that they are: nobody but the store has to look into them.
    """
    text = _frame(source)
    kind, rest = text[:1], text[1:]
    if kind in (b"N", b"C"):
        first, count, body = rest.split(b" ", 2)
        told = body.decode("utf-8")
        return runs.Numbers(int(count), told) if kind == b"N" else runs.Contacts(int(first), int(count), told)
    if kind == b"R":
        return runs.Run(int(rest))
    if kind == b"E":
        return runs.Errors(tuple(RowError(*values) for values in json.loads(rest)))
    _loaded(text)
    return None


def main() -> None:
    """Parse the file that the first argument names."""
    os.nice(_NICENESS)
    request = Request.from_json(sys.argv[1])
    out = sys.stdout.buffer
    with open(request.path, "rb") as file:
        try:
            rows = read_rows(file, request.kind, request.options)
            if request.batch is None:
                write_parts(runs.runs(rows, request.options.allowed_prefixes), out)
            else:
                write_frames(rows, out, request.batch)
        except BrokenPipeError:
            os._exit(1)  # the parent is gone; there is nobody to tell, and nothing to flush to


def _to_json(row: Row) -> str:
    plain = ["c", *_CONTACT_VALUES(row)] if isinstance(row, NewContact) else ["e", *_ERROR_VALUES(row)]
    return json.dumps(plain, ensure_ascii=False)


def _part_to_text(part: Part) -> str:
    match part:
        case runs.Run():
            return f"R{part.contacts}"
        case runs.Errors():
            return "E" + json.dumps([_ERROR_VALUES(row) for row in part.rows], ensure_ascii=False)
        case runs.Numbers():
            return f"N0 {part.count} {part.text}"
        case runs.Contacts():
            return f"C{part.first} {part.count} {part.text}"


def _frame(source: IO[bytes]) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
    if length > MAX_FRAME:
        raise BrokenFrames("not a frame")
    return _exactly(source, length)


def _loaded(text: bytes) -> dict[str, Any]:
    """Read a frame that is JSON. Raises InvalidTable, BrokenFrames."""
    try:
        frame = json.loads(text)
    except ValueError:
        raise BrokenFrames("not a frame") from None
    if "invalid" in frame:
        raise InvalidTable(*frame["invalid"])
    return dict(frame)


def _write(out: BinaryIO, text: str) -> None:
    data = text.encode("utf-8")
    out.write(_LENGTH.pack(len(data)) + data)
    out.flush()


def _exactly(source: IO[bytes], length: int) -> bytes:
    data = source.read(length)
    if len(data) < length:
        raise BrokenFrames("the output stops")
    return data
