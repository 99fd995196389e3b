"""A terminal of a chosen size, a program that runs in it, and what a person would see there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Mapping

import pyte

DEADLINE = 30.0
# The terminal is the program's own, so that Ctrl-C typed there is a signal to it.
_PROGRAM = """
import fcntl, signal, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from dialerd.cli import main
main()
"""


class Screen:
    """What a program draws."""

    def __init__(self, ours: int, process: asyncio.subprocess.Process, columns: int, lines: int) -> None:
        self._ours, self._process = ours, process
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._more = asyncio.Event()
        self.raw = bytearray()

    def read(self) -> None:
        """Take what was written."""
        with contextlib.suppress(OSError):  # the other end is closed: it ended
            written = os.read(self._ours, 65536)
            self.raw += written
            self._stream.feed(written)
        self._more.set()

    @property
    def lines(self) -> list[str]:
        """What is seen, line by line."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def colours(self) -> set[str]:
        """The colours in which something is written."""
        return {cell.fg for row in self._screen.buffer.values() for cell in row.values() if cell.data.strip()} - {
            "default"
        }

    async def until(self, seen: Callable[[list[str]], bool]) -> None:
        """Wait until the screen shows something. Raises TimeoutError, with what it shows instead."""
        try:
            async with asyncio.timeout(DEADLINE):
                while not seen(self.lines):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise TimeoutError("the screen shows:\n" + "\n".join(self.lines)) from None

    async def shows(self, text: str) -> None:
        """Wait until a text is seen."""
        await self.until(lambda lines: any(text in line for line in lines))

    def type(self, keys: str) -> None:
        """Press keys; \\x03 is Ctrl-C."""
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Drag the window to another size."""
        self._screen.resize(lines, columns)
        self._screen.reset()
        _set_size(self._ours, columns, lines)

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as a shell expects it."""
        return bool(termios.tcgetattr(self._ours)[3] & termios.ECHO)

    async def ends(self) -> int:
        """Wait for the program's end; returns its exit status."""
        async with asyncio.timeout(DEADLINE):
            return await self._process.wait()


def _set_size(number: int, columns: int, lines: int) -> None:
    fcntl.ioctl(number, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextlib.asynccontextmanager
async def screen(
    *arguments: str, environ: Mapping[str, str], columns: int = 80, lines: int = 24
) -> AsyncIterator[Screen]:
    """Run dialerd's command line on a terminal. It is killed at the end of the block, where it still runs."""
    ours, theirs = pty.openpty()
    _set_size(ours, columns, lines)
    # The size is the terminal's to say, and the colours are asked for by the test alone.
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, *arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**inherited, "TERM": "xterm-256color", **environ},
    )
    shown = Screen(ours, process, columns, lines)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, shown.read)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        loop.remove_reader(ours)
        os.close(theirs)
        os.close(ours)
