"""Uploads on disk while they are read: in their own folder, so many at once, and never in the store's last room."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import structlog
from aiohttp import web

from dialerd.api.arrivals import WHOSE, Arrivals, Held, Quota
from dialerd.api.context import Limits
from dialerd.api.problems import DATABASE_ERROR, PAYLOAD_TOO_LARGE, Refused, refuse

log = structlog.get_logger(__name__)

_PREFIX = "upload-"
_WRITE_BYTES = 2**20
_KEPT_FREE_BYTES = 2**30
_KEPT_FREE_SHARE = 0.1
_CLOSE = {"Connection": "close"}


class Spool:
    """A temporary file that only we can read; it is removed at the end of the block."""

    def __init__(self, folder: Path, slot: Held, room: Held, turn_away_for_disk: Callable[[str], Refused]) -> None:
        self.path = ""
        self._folder = folder
        self._slot = slot
        self._room = room
        self._for_disk = turn_away_for_disk
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Spool:
        self._slot.take(1)
        try:
            with self._telling():
                self._file, self.path = await asyncio.to_thread(_create, self._folder)
        except BaseException:
            self._slot.give_back()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._file is not None
        # Not in a thread: nothing may come between an upload and the end of its file.
        with contextlib.suppress(OSError):  # what could not be written when there was no room
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._room.give_back()
        self._slot.give_back()

    async def take(self, read: Callable[[], Awaitable[bytes]], most: int, into: hashlib._Hash) -> int:
        """Write what ``read`` gives until that is empty, into a digest too; returns how much it was.

        Raises Rejected beyond ``most``, and where there is no room beside others or on the disk.
        """
        taken, buffer = 0, bytearray()
        while chunk := await read():
            taken += len(chunk)
            if taken > most:
                raise too_large(most)
            self._room.take(len(chunk))
            buffer += chunk
            if len(buffer) >= _WRITE_BYTES:
                await self._write(buffer, into)
        await self._write(buffer, into)
        return taken

    async def _write(self, buffer: bytearray, into: hashlib._Hash) -> None:
        with self._telling():
            await asyncio.to_thread(self._append, bytes(buffer), into)
        buffer.clear()

    def _append(self, chunk: bytes, into: hashlib._Hash) -> None:
        assert self._file is not None
        _expect_room(self._folder, len(chunk))
        into.update(chunk)
        self._file.write(chunk)
        self._file.flush()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._for_disk(error.strerror or str(error)) from None


class Spools:
    """The files of all uploads that are on their way or being read."""

    def __init__(self, folder: Path, limits: Limits, arrivals: Arrivals) -> None:
        self._folder = folder
        self._arrivals = arrivals
        self._slots = Quota(limits.uploads, limits.tenant_uploads)
        self._room = Quota(4 * limits.upload_bytes, 2 * limits.upload_bytes)

    def one(self, raw: web.Request) -> Spool:
        """A file for a request's upload. Raises Rejected once it is entered, where there are too many."""
        whose = raw.get(WHOSE, "")
        slot = Held(self._slots, whose, lambda: self._arrivals.turn_away("uploads", "uploads"))
        room = Held(self._room, whose, lambda: self._arrivals.turn_away("uploads", "uploads"))
        return Spool(self._folder, slot, room, self._for_disk)

    async def clean(self) -> None:
        """Remove what a process that was killed has left."""
        if left := await asyncio.to_thread(_remove_left, self._folder):
            log.info("uploads_left_removed", folder=str(self._folder), files=left)

    def close(self) -> None:
        """Leave no empty folder."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _for_disk(self, reason: str) -> Refused:
        log.error("upload_not_spooled", folder=str(self._folder), reason=reason)
        self._arrivals.count("disk")
        return refuse(DATABASE_ERROR, "there is no room for the upload; the request changed nothing", _CLOSE)


SPOOLS = web.AppKey("spools", Spools)


def too_large(most: int) -> Refused:
    """The refusal of a body beyond its bound."""
    return refuse(PAYLOAD_TOO_LARGE, f"the body is larger than {most} bytes")


def _create(folder: Path) -> tuple[BinaryIO, str]:
    """Make a file that is locked as long as it is open: whoever cleans up knows by that whose it is not."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise OSError(0, f"{folder} is not a folder of ours")
    _expect_room(folder, 0)
    while True:
        handle, path = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return os.fdopen(handle, "wb"), path
        os.close(handle)  # somebody cleaned up in this very moment


def _expect_room(folder: Path, more: int) -> None:
    """Raises OSError where so much more would leave too little to the store and everybody else."""
    disk = os.statvfs(folder)
    kept = min(_KEPT_FREE_BYTES, int(disk.f_blocks * disk.f_frsize * _KEPT_FREE_SHARE))
    if disk.f_bavail * disk.f_frsize - more < kept:
        raise OSError(0, f"less than {kept} bytes would be left free")


def _remove_left(folder: Path) -> int:
    left = 0
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            left += 1
    return left
