"""New stores by the hundred: made once per process, and copied from then on."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from dialerd.store.migrate import migrate


def new_store(path: Path) -> str:
    """Make an empty SQLite store, as ``dialerd migrate`` leaves it; returns its URL."""
    path.write_bytes(_empty())
    return f"sqlite:///{path}"


@lru_cache
def _empty() -> bytes:
    with TemporaryDirectory(prefix="dialerd-store-") as folder:
        path = Path(folder) / "empty.db"
        migrate(f"sqlite:///{path}")
        return path.read_bytes()
