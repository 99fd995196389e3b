"""Files on their way to the daemon and back, with a progress bar on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dialerd.client.errors import ClientError

if TYPE_CHECKING:
    import aiohttp

CHUNK = 64 * 1024
STANDARD = "-"
"""In a file's place: standard input, or standard output."""


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Count bytes in a bar on standard error; nothing is shown where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


@contextlib.contextmanager
def to_be_sent(path: str) -> Iterator[tuple[AsyncIterator[bytes], str]]:
    """Open a file to be uploaded: its bytes as they are asked for, and its name. Raises ClientError."""
    with contextlib.ExitStack() as stack:
        try:
            source: IO[bytes] = sys.stdin.buffer if path == STANDARD else stack.enter_context(Path(path).open("rb"))
            size = None if path == STANDARD else os.fstat(source.fileno()).st_size
        except OSError as error:
            raise ClientError(f"{path} cannot be read: {error.strerror}") from None
        name = "contacts.csv" if path == STANDARD else Path(path).name
        yield _read(source, stack.enter_context(progress(f"uploading {name}", size))), name


async def _read(source: IO[bytes], advance: Callable[[int], None]) -> AsyncIterator[bytes]:
    # In a thread: a pipe may be slow, and the connection must not wait for it.
    while chunk := await asyncio.to_thread(source.read, CHUNK):
        yield chunk
        advance(len(chunk))


async def save(answer: aiohttp.ClientResponse, output: str, what: str) -> int:
    """Write an answer to a file, or to standard output (``-``); returns its bytes. Raises ClientError."""
    with progress(f"downloading {what}", answer.content_length) as advance:
        if output == STANDARD:
            return await _copy(answer, sys.stdout.buffer, advance)
        with _appearing(Path(output)) as part:
            return await _copy(answer, part, advance)


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[IO[bytes]]:
    """A file that appears when it is whole: one that broke off is never taken for one that is complete."""
    try:
        part = tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False)  # noqa: SIM115
    except OSError as error:
        raise ClientError(f"{target} cannot be written: {error.strerror}") from None
    try:
        with part:
            yield part
        Path(part.name).replace(target)
    except BaseException:
        Path(part.name).unlink(missing_ok=True)
        raise


async def _copy(answer: aiohttp.ClientResponse, sink: IO[bytes], advance: Callable[[int], None]) -> int:
    written = 0
    async for chunk in answer.content.iter_chunked(CHUNK):
        try:
            sink.write(chunk)
        except BrokenPipeError:
            raise  # whoever read us has enough
        except OSError as error:
            raise ClientError(f"what came cannot be written: {error.strerror}") from None
        advance(len(chunk))
        written += len(chunk)
    sink.flush()
    return written
