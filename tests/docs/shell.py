"""One bash for a whole page: what a block sets, the next one sees."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path

COMMAND_SECONDS = 60.0
_STOP_SECONDS = 15.0
_LONGEST_LINE = 1 << 22


class Shell:
    """A bash that runs one command after another in ``folder``."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ
        self._bash: asyncio.subprocess.Process | None = None
        self._background: list[asyncio.subprocess.Process] = []
        self._told = 0

    async def __aenter__(self) -> Shell:
        self._bash = await asyncio.create_subprocess_exec(
            *("bash", "--norc", "--noprofile"),
            cwd=self._folder,
            env=dict(self._environ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LONGEST_LINE,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._background:
            _signal(process, signal.SIGTERM)
        assert self._bash is not None
        _signal(self._bash, signal.SIGKILL)
        for process in (*self._background, self._bash):
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                _signal(process, signal.SIGKILL)
                await process.wait()

    async def run(self, command: str, seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Run a command to its end; its exit status, and all that it printed."""
        bash = self._bash
        assert bash is not None
        assert bash.stdin is not None
        assert bash.stdout is not None
        self._told += 1
        mark = f"--- end of {os.getpid()}.{self._told}:"
        # Its own standard input is the list of commands; a command must not read it.
        bash.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s%d\\n' {shlex.quote(mark)} $?\n".encode())
        await bash.stdin.drain()
        lines: list[str] = []
        try:
            async with asyncio.timeout(seconds):
                async for raw in bash.stdout:
                    line = raw.decode(errors="replace")
                    if line.startswith(mark):
                        return int(line.removeprefix(mark)), "".join(lines).removesuffix("\n")
                    lines.append(line)
        except TimeoutError:
            raise AssertionError(f"no end within {seconds:.0f} s: {command}\n{''.join(lines)}") from None
        raise AssertionError(f"the shell ended in {command!r}:\n{''.join(lines)}")

    async def leave_running(self, command: str, log: Path) -> None:
        """Start a command that runs until the page is through; what it prints goes to ``log``."""
        with log.open("ab") as output:
            self._background.append(
                await asyncio.create_subprocess_exec(
                    *("bash", "-c", f"exec {command}"),
                    cwd=self._folder,
                    env=dict(self._environ),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
