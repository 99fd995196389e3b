"""The terminal that a full-screen view draws on: its keys, and its changes of size."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def watched(*, on_quit: Callable[[], object], on_resize: Callable[[], object]) -> Iterator[None]:
    """Hear of ``q`` and of changes of size while the block runs; call it on the event loop.

    Keys are read one by one, and are not shown; Ctrl-C stays what it is. Where standard input is no terminal, there are
    no keys.
    """
    with contextlib.ExitStack() as stack:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, on_resize)
        stack.callback(loop.remove_signal_handler, signal.SIGWINCH)
        if sys.stdin.isatty():
            stack.enter_context(_keys(loop, on_quit))
        yield


@contextlib.contextmanager
def _keys(loop: asyncio.AbstractEventLoop, on_quit: Callable[[], object]) -> Iterator[None]:
    # Not on every system; and whoever has a terminal has it.
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def read() -> None:
        typed = os.read(number, 1024)
        if not typed:
            loop.remove_reader(number)  # the terminal is gone, and would be readable for ever
        # Many keys may come at once; what begins with an escape is one that has no letter.
        if not typed or (b"q" in typed.lower() and not typed.startswith(b"\x1b")):
            on_quit()

    tty.setcbreak(number)
    loop.add_reader(number, read)
    try:
        yield
    finally:
        loop.remove_reader(number)
        # What was typed meanwhile is not the shell's.
        termios.tcsetattr(number, termios.TCSAFLUSH, before)
