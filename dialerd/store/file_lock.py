"""Who has a SQLite store open: one daemon, or one command that must be alone with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType

from sqlalchemy.engine import make_url

from dialerd.store.errors import StoreError


def alone_with(url: str) -> contextlib.AbstractContextManager[object]:
    """Be alone with the store of a URL, where it is a file. Raises StoreError where another process has it open."""
    file = file_of(url)
    return contextlib.nullcontext() if file is None else FileLock(file)


def file_of(url: str) -> Path | None:
    """The file that a store is; None where it is a server's database."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


class FileLock:
    """A lock on ``FILE.lock`` beside the store, which ends with the process that holds it, however it ends.

    The store's own file is left alone: closing any handle of a file would end SQLite's locks on it.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._held: int | None = None

    def __enter__(self) -> FileLock:
        """Take the lock, at once. Raises StoreError where another process has it, or it cannot be made."""
        path = self._store.with_name(f"{self._store.name}.lock")
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(held, 20, 0).decode(errors="replace").strip()
            os.close(held)
            raise StoreError(
                f"another dialerd{f' (process {holder})' if holder.isdigit() else ''} has the store {self._store} open"
            ) from error
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        self._held = held
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        if self._held is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._held, 0)
            os.close(self._held)
            self._held = None
