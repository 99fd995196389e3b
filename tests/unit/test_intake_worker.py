"""intake.worker: the same rows as in process; a death is an error; whoever leaves early leaves no child."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dialerd.clock import SystemClock, VirtualClock, VirtualLoop
from dialerd.intake.child import BrokenFrames, Kind, Request, Row, read_frame, read_rows, write_frames
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError
from dialerd.intake.worker import SMALL_BYTES, IntakeFailed, parse_file

OPTIONS = IntakeOptions(default_region="US")
HEADER = "phone_number,first_name,note\n"
LARGE = 12_000
"""Rows of a file that takes a child, and more of it than a pipe holds."""


def csv_rows(count: int) -> str:
    return HEADER + "".join(
        f"(202) 555-{index % 10000:04d},Zoë {index},{'not' if index % 7 else ''} called\n" if index % 11 else "abc,,\n"
        for index in range(count)
    )


def spool(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def children() -> dict[int, str]:
    """The processes whose parent is this one, and their state (Z: dead, and not yet reaped)."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == os.getpid():
                    found[int(entry.name)] = state
    return found


async def collect(path: str, kind: Kind = "csv", batch_seconds: float = 60) -> list[list[Row]]:
    return [rows async for rows in parse_file(path, kind, OPTIONS, SystemClock(), batch_seconds=batch_seconds)]


def in_process(path: str, kind: Kind = "csv") -> list[Row]:
    with open(path, "rb") as file:
        return list(read_rows(file, kind, OPTIONS))


def all_frames(data: bytes) -> list[list[Row]]:
    source = io.BytesIO(data)
    return list(iter(lambda: read_frame(source), None))


def is_small(path: str) -> bool:
    return os.path.getsize(path) < SMALL_BYTES


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, pytest.param(LARGE, marks=pytest.mark.slow)])
async def test_the_same_rows_as_in_process(tmp_path: Path, count: int) -> None:
    path = spool(tmp_path / "list.csv", csv_rows(count))
    assert is_small(path) == (count != LARGE)
    batches = await collect(path)
    assert [row for batch in batches for row in batch] == in_process(path)
    assert all(0 < len(batch) <= 500 for batch in batches)
    assert children() == {}


async def test_ndjson_in_a_child(tmp_path: Path) -> None:
    path = spool(tmp_path / "list", '{"phone": "+12025550100", "n": 1, "é": "\\u2603"}\n{"phone": 1}\n' * 6000)
    assert not is_small(path)
    rows = [row for batch in await collect(path, "ndjson") for row in batch]
    assert rows == in_process(path, "ndjson")
    assert len(rows) == 12_000


async def test_wide_rows_make_small_batches(tmp_path: Path) -> None:
    notes = ",".join(f"note {index}" for index in range(75))
    row = f"+12025550100,Ann,x,{','.join(['y' * 800] * 75)}\n"
    batches = await collect(spool(tmp_path / "wide.csv", HEADER.strip() + "," + notes + "\n" + row * 100))
    assert sum(map(len, batches)) == 100
    assert max(map(len, batches)) < 20


@pytest.mark.parametrize("count", [3, pytest.param(LARGE, marks=pytest.mark.slow)])
async def test_an_invalid_file_is_invalid_here_too(tmp_path: Path, count: int) -> None:
    path = spool(tmp_path / "list.csv", csv_rows(count) + '+12025550100,"Bob" x,\n')
    with pytest.raises(InvalidTable) as caught:
        await collect(path)
    assert (caught.value.code, caught.value.row) == ("invalid_csv", count + 2)
    assert "malformed quoting" in caught.value.message
    assert children() == {}


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await collect(str(tmp_path / "nothing"))


async def test_a_file_that_goes_before_the_child_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "getsize", lambda path: SMALL_BYTES)
    with pytest.raises(IntakeFailed, match="FileNotFoundError"):
        await collect(str(tmp_path / "nothing"))
    assert children() == {}


async def test_a_killed_child_is_an_error_and_no_short_file(tmp_path: Path) -> None:
    path = spool(tmp_path / "list.csv", csv_rows(LARGE))
    seen = []

    async def consume_and_kill() -> None:
        async for rows in parse_file(path, "csv", OPTIONS, SystemClock()):
            seen.extend(rows)
            for child in children():
                os.kill(child, signal.SIGKILL)

    with pytest.raises(IntakeFailed, match="exit -9"):
        await consume_and_kill()
    assert 0 < len(seen) < LARGE
    assert children() == {}


async def test_an_early_stop_leaves_no_child(tmp_path: Path) -> None:
    path = spool(tmp_path / "list.csv", csv_rows(LARGE))
    async with contextlib.aclosing(parse_file(path, "csv", OPTIONS, SystemClock())) as batches:
        async for rows in batches:
            assert len(rows) == 500
            assert len(children()) == 1
            break
    assert children() == {}


@pytest.mark.parametrize("ticks", [1, 2, 3, 5])
async def test_a_cancelled_consumer_leaves_no_child(tmp_path: Path, ticks: int) -> None:
    path = spool(tmp_path / "list.csv", csv_rows(LARGE))
    consumed = asyncio.Queue[int]()

    async def consume() -> None:
        async with contextlib.aclosing(parse_file(path, "csv", OPTIONS, SystemClock(), 100)) as batches:
            async for rows in batches:
                consumed.put_nowait(len(rows))

    task = asyncio.create_task(consume())
    for _ in range(ticks - 1):
        await asyncio.wait_for(consumed.get(), 30)
    if ticks == 1:  # in the middle of the start
        ready = asyncio.Event()
        asyncio.get_running_loop().call_soon(ready.set)
        await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == {}


async def test_a_batch_has_a_deadline(tmp_path: Path) -> None:
    path = spool(tmp_path / "list.csv", csv_rows(LARGE))
    with pytest.raises(IntakeFailed, match="longer than 0 s"):
        await collect(path, batch_seconds=0)
    assert children() == {}


@pytest.mark.parametrize("count", [10, pytest.param(LARGE, marks=pytest.mark.slow)])
def test_virtual_time_stands_still_meanwhile(tmp_path: Path, count: int) -> None:
    path = spool(tmp_path / "list.csv", csv_rows(count))
    loop = VirtualLoop()
    try:
        clock = VirtualClock(loop, 1, datetime(2030, 1, 1, tzinfo=UTC))

        async def run() -> int:
            return sum([len(rows) async for rows in parse_file(path, "csv", OPTIONS, clock)])

        timer = loop.call_later(3600, loop.stop)
        assert loop.run_until_complete(run()) == count
        assert loop.time() == 0
        timer.cancel()
    finally:
        loop.close()


def test_frames_carry_every_row_unchanged() -> None:
    rows: list[Row] = [
        NewContact(2, "+12025550100", "Zoë", None, None, "\u2603", "UTC", 7, "x", {"a": "b"}),
        RowError(None, None, None, "code", "message"),
        RowError(3, "c", "v\\r", "code", "message"),
    ]
    out = io.BytesIO()
    write_frames(rows, out, 2)
    assert all_frames(out.getvalue()) == [rows[:2], rows[2:]]


def test_output_that_stops_anywhere_is_broken() -> None:
    out = io.BytesIO()
    write_frames([NewContact(2, "+12025550100")], out, 1)
    whole = out.getvalue()
    for length in range(len(whole)):
        with pytest.raises(BrokenFrames):
            all_frames(whole[:length])


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\3abc", b"Traceback (most recent call last)"])
def test_other_output_is_broken(data: bytes) -> None:
    with pytest.raises(BrokenFrames):
        read_frame(io.BytesIO(data))


def test_a_request_survives_its_way() -> None:
    request = Request("a path", "ndjson", OPTIONS, 7)
    assert Request.from_json(request.to_json()) == request


def test_the_child_is_light() -> None:
    program = (
        "import sys, dialerd.intake.child;"
        "print([name for name in ('aiohttp', 'sqlalchemy', 'structlog', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
