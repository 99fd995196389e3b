"""Parses an upload away from the event loop: a small file in a thread, a large one in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, TypeVar

from dialerd.clock import Clock
from dialerd.intake.child import BrokenFrames, Kind, Request, Row, read_frame, read_rows
from dialerd.intake.rows import IntakeOptions

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


class IntakeFailed(Exception):
    """The upload could not be parsed, by no fault of its own: the parser died, or took too long."""


async def parse_file(
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
    small = os.path.getsize(path) < SMALL_BYTES  # noqa: ASYNC240 - one stat of a spooled file
    worker = _Thread(request) if small else _Process(request)
    # A thread of our own: a child that stalls must not take one of the loop's few, nor be taken by another's.
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="intake")
    loop = asyncio.get_running_loop()

    async def call(work: Callable[[], T]) -> T:
        with clock.hold():
            return await loop.run_in_executor(executor, work)

    try:
        await call(worker.start)
        while True:
            try:
                async with asyncio.timeout(batch_seconds):
                    rows = await call(worker.read)
            except TimeoutError:
                raise IntakeFailed(f"a batch took longer than {batch_seconds:g} s") from None
            if rows is None:
                return
            yield rows
    finally:
        # Killing unblocks a read that may still be running; stop then waits its turn behind it in the same thread.
        worker.kill()
        stopped = loop.run_in_executor(executor, worker.stop)
        executor.shutdown(wait=False)
        with clock.hold():
            await asyncio.shield(stopped)


class _Thread:
    """Parses in the thread that calls it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._file: BinaryIO | None = None
        self._rows: Iterator[Row] = iter(())

    def start(self) -> None:
        self._file = open(self._request.path, "rb")  # noqa: SIM115 - closed by stop
        self._rows = read_rows(self._file, self._request.kind, self._request.options)

    def read(self) -> list[Row] | None:
        return list(itertools.islice(self._rows, self._request.batch)) or None

    def kill(self) -> None:
        """Nothing to do: a small file is soon read."""

    def stop(self) -> None:
        if self._file is not None:
            self._file.close()


class _Process:
    """Has a child parse. All but kill is called by one thread, in turn."""

    def __init__(self, request: Request) -> None:
        self._request = request
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

    def read(self) -> list[Row] | None:
        assert self._child is not None
        assert self._child.stdout is not None
        try:
            return read_frame(self._child.stdout)
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
