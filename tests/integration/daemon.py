"""The daemon as its users run it: ``dialerd serve`` as a process, on a store and a configuration of the test's own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialerd.clock import SystemClock
from tests.lab.lab import DIALERD, Lab

TENANT = "lab"
CALLER_ID = "+12025550199"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
_LONGEST_LINE = 1 << 20
_LINES_SHOWN = 300
_clock = SystemClock()


@dataclass(frozen=True, slots=True)
class TrunkLimits:
    """What one trunk of the configuration carries. By default more than any test asks for."""

    max_channels: int = 200
    max_calls_per_second: float = 50.0


DIALS = {
    "trunk": "PJSIP/{number}@trunk",
    "trunk2": "PJSIP/{number}@trunk2",
    "carrier-a": "PJSIP/{number}@carrier-a",
    "dead": "PJSIP/{number}@dead",
    "nocontact": "PJSIP/{number}@nocontact",
    "nowhere": "PJSIP/{number}@nosuchendpoint",
    "local-out": "Local/{number}@out",
}
"""The trunks of every test's configuration, by the endpoints and contexts of the lab."""


def configuration(
    lab: Lab,
    store: Path,
    *,
    port: int,
    ami: tuple[str, int] | None,
    limits: Mapping[str, TrunkLimits],
    setup_seconds: float,
    guard_ms: int,
) -> str:
    """Write the daemon's configuration for a lab, with the AMI user of asterisk-conf/ and its least rights."""
    host, ami_port = ami or (lab.host, lab.ports.ami)
    tables: dict[str, dict[str, Any]] = {
        "server": {"listen": f"127.0.0.1:{port}"},
        "store": {"url": f"sqlite:///{store}"},
        "dispatch": {"setup_seconds": setup_seconds, "drain_seconds": 0.0, "cps_guard_ms": guard_ms},
        "logging": {"level": "debug", "full_numbers": True},
        "pbx.main": {
            "driver": "asterisk",
            "host": host,
            "port": ami_port,
            "username": DIALERD.name,
            "secret": DIALERD.secret,
            "max_calls_per_second": 100.0,
            "max_channels": 500,
        },
        **{
            f"trunk.{name}": {
                "pbx": "main",
                "dial": dial,
                "max_calls_per_second": limits.get(name, TrunkLimits()).max_calls_per_second,
                "max_channels": limits.get(name, TrunkLimits()).max_channels,
                "caller_ids": [CALLER_ID],
            }
            for name, dial in DIALS.items()
        },
        f"tenant.{TENANT}": {"max_calls_per_second": 100.0, "max_concurrent_calls": 500, "trunks": list(DIALS)},
        f"tenant.{TENANT}.settings": {"calling_hours_start": "00:00", "calling_hours_end": "00:00"},
    }
    return toml(tables)


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables by their dotted names. JSON's strings, numbers and lists of strings are TOML's, too."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


def make_key(config: Path, *arguments: str) -> str:
    """Run ``dialerd keys create``, as an administrator does; returns the key."""
    made = subprocess.run(
        [_command(), "keys", "create", "--config", str(config), *arguments],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@dataclass(frozen=True, slots=True)
class Stock:
    """A new store with an administrator's key in it, to be copied: making it anew takes a test seconds."""

    store: Path
    key: str

    @classmethod
    def make(cls, folder: Path, url: str | None = None) -> Stock:
        """Make it as an administrator does, with ``dialerd keys create``; where ``url`` says, if anything."""
        store, config = folder / "dialerd.db", folder / "dialerd.toml"
        if url is not None:
            store.touch()
        config.write_text(
            f'[store]\nurl = "{url or f"sqlite:///{store}"}"\n'
            '[pbx.main]\ndriver = "simulated"\nmax_calls_per_second = 1.0\nmax_channels = 1\n'
            '[trunk.any]\npbx = "main"\ndial = "PJSIP/{number}@any"\nmax_calls_per_second = 1.0\nmax_channels = 1\n'
            f'[tenant.{TENANT}]\nmax_calls_per_second = 1.0\nmax_concurrent_calls = 1\ntrunks = ["any"]\n'
        )
        return cls(store, make_key(config, "--tenant", TENANT, "--role", "admin"))


class Daemon:
    """One ``dialerd serve``, which can be killed and started again on the same store and port."""

    def __init__(self, folder: Path, stock: Stock, write_configuration: Callable[[Path, int], str]) -> None:
        """``write_configuration`` takes the store's file and the port of the API (0: any)."""
        self._folder = folder
        self._write = write_configuration
        shutil.copy(stock.store, self._store)
        self.key = stock.key
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._heard = asyncio.Condition()
        self._silent = True
        """The process has ended, and all that it said was read."""
        self._lines: list[str] = []
        self.log: list[dict[str, Any]] = []
        """What the daemon logged, over all its lives."""
        self.launched: list[float] = []
        """When (seconds since the epoch) each of its processes was started."""
        self.up = asyncio.Event()
        """Set while the API takes requests."""
        self.port = 0

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the daemon, and wait until its API takes requests and its PBX takes calls."""
        mark = len(self.log)
        await self.launch()
        self.port = int((await self.logged("ready", after=mark))["port"])
        self.up.set()
        await self.logged("pbx_known", after=mark)

    async def launch(self) -> None:
        """Start the process, and wait for nothing."""
        config = self._folder / "dialerd.toml"
        config.write_text(self._write(self._store, self.port))
        self.launched.append(_clock.wall().timestamp())
        self._process = await asyncio.create_subprocess_exec(
            *(_command(), "serve", "--config", str(config)),
            cwd=self._folder,
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LONGEST_LINE,
        )
        self._silent = False
        self._reading = asyncio.create_task(self._read(self._process))

    async def kill(self) -> None:
        """Let the daemon die without a word (SIGKILL)."""
        assert self._process is not None
        self.up.clear()
        if self._process.returncode is None:
            self._process.kill()
        await self._ended()

    async def stop(self) -> int:
        """Ask the daemon to end (SIGTERM); returns its exit status. Harmless when it is dead."""
        if self._process is None:
            return 0
        self.up.clear()
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
        return await self._ended()

    async def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the daemon to end by itself, or because it was told to; returns its exit status."""
        assert self._process is not None
        self.up.clear()
        await asyncio.wait_for(self._process.wait(), seconds)
        return await self._ended()

    async def logged(self, event: str, *, after: int = 0, seconds: float = START_SECONDS, **fields: Any) -> Any:
        """Return the first line of the log of this event with these fields, written already or yet to come."""
        seen = after
        try:
            async with asyncio.timeout(seconds), self._heard:
                while True:
                    for line in self.log[seen:]:
                        if line.get("event") == event and fields.items() <= line.items():
                            return line
                    seen = max(seen, len(self.log))
                    if self._silent:
                        break
                    await self._heard.wait()
        except TimeoutError:
            raise AssertionError(f"{event} {fields} was not logged within {seconds:g} s:\n{self.show()}") from None
        assert self._process is not None
        status = self._process.returncode
        raise AssertionError(f"the daemon ended (status {status}) and never logged {event} {fields}:\n{self.show()}")

    def faults(self) -> list[dict[str, Any]]:
        """What the daemon logged as an error, tracebacks included."""
        return [line for line in self.log if line.get("level") in ("error", "critical") or "exception" in line]

    def show(self) -> str:
        """The end of the log, for whoever has to find out what went wrong."""
        left_out = max(0, len(self._lines) - _LINES_SHOWN)
        return "\n".join([f"({left_out} lines left out)", *self._lines[-_LINES_SHOWN:]])

    @property
    def _store(self) -> Path:
        return self._folder / "dialerd.db"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            await self._keep(raw.decode(errors="replace").rstrip("\n"))
        await process.wait()
        self._silent = True
        async with self._heard:
            self._heard.notify_all()

    async def _keep(self, line: str) -> None:
        self._lines.append(line)
        try:
            parsed = json.loads(line)
        except ValueError:
            parsed = {"event": "not_json", "level": "error", "line": line}
        async with self._heard:
            self.log.append(parsed)
            self._heard.notify_all()

    async def _ended(self) -> int:
        assert self._process is not None
        assert self._reading is not None
        status = await self._process.wait()
        await self._reading
        return status


def _command() -> str:
    """``dialerd`` beside this Python."""
    return str(Path(sys.executable).with_name("dialerd"))


def _environment() -> dict[str, str]:
    """Our own, without what would override the configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DIALERD_")}
