"""Parses an upload away from the event loop: a small file in a thread, a large one in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, BinaryIO, Generic, TypeVar

from dialerd.clock import Clock
from dialerd.intake.child import BrokenFrames, Kind, Request, Row, read_frame, read_part, read_rows
from dialerd.intake.rows import IntakeOptions
from dialerd.intake.runs import Part, runs

SMALL_BYTES = 256 * 1024
"""Below this a file is parsed in a thread: a process would take longer to start than the file to parse."""
BATCH_SECONDS = 60.0
"""Deadline of one batch, wall time; the child is nice, so a busy machine may keep it waiting."""
_REAP_SECONDS = 10.0
_LAST_WORDS_SECONDS = 1.0
_MAX_LAST_WORDS = 500
# The child finds its modules exactly where this process does, wherever either was started.
_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from dialerd.intake.child import main; main()"

T = TypeVar("T")
U = TypeVar("U")


class IntakeFailed(Exception):
    """The upload could not be parsed, by no fault of its own: the parser died, or took too long."""


def parse_file(
    path: str,
    kind: Kind,
    options: IntakeOptions,
    clock: Clock,
    batch: int = 500,
    batch_seconds: float = BATCH_SECONDS,
) -> AsyncGenerator[list[Row], None]:
    """Yield the rows of an upload in batches of at most ``batch``, in the file's order.

    The next batch waits in the pipe until it is asked for. Raises InvalidTable as the readers do, OSError where the
    file cannot be opened, :class:`IntakeFailed` where the parser dies or a batch takes longer than ``batch_seconds``.
    Whoever stops early closes the generator (``contextlib.aclosing``): that ends the child and waits for it.
    """
    request = Request(path, kind, options, batch)
    thread = _Thread(request, lambda rows: list(itertools.islice(rows, batch)) or None)
    return _read(request, thread, read_frame, clock, batch_seconds)


def parse_runs(
    path: str, kind: Kind, options: IntakeOptions, clock: Clock, part_seconds: float = BATCH_SECONDS
) -> AsyncGenerator[Part, None]:
    """Yield the rows of an upload as runs, part by part, for the store. Raises as :func:`parse_file` does."""
    request = Request(path, kind, options, None)
    thread: _Thread[Part] = _Thread(request, _next_part(options))
    return _read(request, thread, read_part, clock, part_seconds)


def _next_part(options: IntakeOptions) -> Callable[[Iterator[Row]], Part | None]:
    parts: list[Iterator[Part]] = []

    def read(rows: Iterator[Row]) -> Part | None:
        if not parts:
            parts.append(runs(rows, options.allowed_prefixes))
        return next(parts[0], None)

    return read


async def _read(
    request: Request,
    thread: _Thread[T],
    read_frame: Callable[[IO[bytes]], T | None],
    clock: Clock,
    seconds: float,
) -> AsyncGenerator[T, None]:
    small = os.path.getsize(request.path) < SMALL_BYTES  # noqa: ASYNC240 - one stat of a spooled file
    worker = thread if small else _Process(request, read_frame)
    # A thread of our own: a child that stalls must not take one of the loop's few, nor be taken by another's.
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="intake")
    loop = asyncio.get_running_loop()

    async def call(work: Callable[[], U]) -> U:
        with clock.hold():
            return await loop.run_in_executor(executor, work)

    try:
        await call(worker.start)
        while True:
            try:
                async with asyncio.timeout(seconds):
                    found = await call(worker.read)
            except TimeoutError:
                raise IntakeFailed(f"a batch took longer than {seconds:g} s") from None
            if found is None:
                return
            yield found
    finally:
        # Killing unblocks a read that may still be running; stop then waits its turn behind it in the same thread.
        worker.kill()
        stopped = loop.run_in_executor(executor, worker.stop)
        executor.shutdown(wait=False)
        with clock.hold():
            await asyncio.shield(stopped)


class _Thread(Generic[T]):
    """Parses in the thread that calls it."""

    def __init__(self, request: Request, take: Callable[[Iterator[Row]], T | None]) -> None:
        self._request = request
        self._take = take
        self._file: BinaryIO | None = None
        self._rows: Iterator[Row] = iter(())

    def start(self) -> None:
        self._file = open(self._request.path, "rb")  # noqa: SIM115 - closed by stop
        self._rows = read_rows(self._file, self._request.kind, self._request.options)

    def read(self) -> T | None:
        return self._take(self._rows)

    def kill(self) -> None:
        """Nothing to do: a small file is soon read."""

    def stop(self) -> None:
        if self._file is not None:
            self._file.close()


class _Process(Generic[T]):
    """Has a child parse. All but kill is called by one thread, in turn."""

    def __init__(self, request: Request, read_frame: Callable[[IO[bytes]], T | None]) -> None:
        self._request = request
        self._read_frame = read_frame
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-P", "-c", _PROGRAM, self._request.to_json(), *map(os.path.abspath, sys.path)]
        self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C meant for the daemon ends an upload through us, not under us
        )

    def read(self) -> T | None:
        assert self._child is not None
        assert self._child.stdout is not None
        try:
            return self._read_frame(self._child.stdout)
        except BrokenFrames as error:
            raise IntakeFailed(f"the parser failed: {error}; {self._last_words()}") from None

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def stop(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()
        self._child.wait(_REAP_SECONDS)

    def _last_words(self) -> str:
        assert self._child is not None
        try:
            _, said = self._child.communicate(timeout=_LAST_WORDS_SECONDS)
        except subprocess.TimeoutExpired:  # it lives, and writes what is no frame
            self._child.kill()
            _, said = self._child.communicate(timeout=_REAP_SECONDS)
        return f"exit {self._child.returncode}: {said[-_MAX_LAST_WORDS:].decode('utf-8', 'replace').strip()}"
