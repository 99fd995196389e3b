"""What a PBX may do to its own words on their way out: in pieces, late, twice, mixed up, or cut off in the middle."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

from dialerd.clock import stream

MIXED_SECONDS = 0.03
"""Words that are said within this leave in any order."""


def in_pieces(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Byte by byte, each in a write of its own."""
    for at in range(len(data)):
        writer.write(data[at : at + 1])


def twice(writer: asyncio.StreamWriter, data: bytes) -> None:
    """And once more."""
    writer.write(data + data)


class Late:
    """Some of what is said, by what it says, comes so many seconds later."""

    def __init__(self, seconds: float, about: Callable[[bytes], bool]) -> None:
        self._seconds = seconds
        self._about = about
        self.held_back = 0

    def __call__(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Say it, or hold it back for a while."""
        if not self._about(data):
            writer.write(data)
            return
        self.held_back += 1
        asyncio.get_running_loop().call_later(self._seconds, functools.partial(_write, writer, data))


class MixedUp:
    """What is said within a short while goes out in any order, whole words at a time."""

    def __init__(self, seed: int) -> None:
        self._draw = stream(f"mischief/{seed}")
        self._waiting: dict[asyncio.StreamWriter, list[bytes]] = {}

    def __call__(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Put it among what waits."""
        waiting = self._waiting.setdefault(writer, [])
        waiting.insert(int(self._draw() * (len(waiting) + 1)), data)
        if len(waiting) == 1:
            asyncio.get_running_loop().call_later(MIXED_SECONDS, self._go_out, writer)

    def _go_out(self, writer: asyncio.StreamWriter) -> None:
        for data in self._waiting.pop(writer):
            _write(writer, data)


class CutOff:
    """Each n-th word is said to its half, and the connection ends there."""

    def __init__(self, each: int, times: int) -> None:
        self._each = each
        self._left = times
        self._said = 0
        self.cuts = 0

    def __call__(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Say it, or half of it."""
        self._said += 1
        if self._left and self._said % self._each == 0:
            self._left -= 1
            self.cuts += 1
            _write(writer, data[: len(data) // 2])
            writer.close()
        else:
            _write(writer, data)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)
