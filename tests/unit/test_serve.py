"""`dialerd serve` as a process: it makes its store, says when it is ready, serves with TLS, and stops when told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from tests.support import configuration

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0


class Served:
    """The process, and what it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.logged: list[dict[str, Any]] = []

    async def until(self, event: str) -> dict[str, Any]:
        """The log's line of an event."""
        assert self._process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            while True:
                line = await self._process.stderr.readline()
                assert line, f"ended before {event}: {self.logged}"
                self.logged.append(json.loads(line))
                if self.logged[-1]["event"] == event:
                    return self.logged[-1]

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def stop(self) -> int:
        """Ask it to stop; returns its exit status."""
        self.send(signal.SIGTERM)
        return await self.end()

    async def end(self) -> int:
        """Wait for its end; returns its exit status."""
        assert self._process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            rest = await self._process.stderr.read()
            status = await self._process.wait()
        self.logged += [json.loads(line) for line in rest.splitlines()]
        return status

    @property
    def events(self) -> list[str]:
        """The names of what was logged."""
        return [each["event"] for each in self.logged]


@contextlib.asynccontextmanager
async def served(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    server: str = "",
    warnings: str = "default",
    before: str = "",
) -> AsyncIterator[Served]:
    """Start the daemon with a store of its own; whatever happens, it is gone afterwards."""
    config = configuration.write(folder, server)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", f"{before}from dialerd.cli import main; main()", "serve", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": warnings, **(environ or {})},
    )
    try:
        yield Served(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("before", "loop"), [("", "uvloop"), ("import sys; sys.modules['uvloop'] = None; ", "asyncio")]
)
async def test_it_makes_its_store_says_ready_and_stops_when_told(tmp_path: Path, before: str, loop: str) -> None:
    async with served(tmp_path, before=before) as daemon:
        assert (await daemon.until("ready"))["event_loop"] == loop
        assert await daemon.stop() == 0
    assert (daemon.events[0], daemon.events[-1]) == ("store_created", "stopped")
    assert (tmp_path / "dialerd.db").exists()


async def test_a_second_daemon_on_the_same_file_does_not_start(tmp_path: Path) -> None:
    """Two that dial from one store would call everybody twice, and take their limits twice."""
    async with served(tmp_path) as first:
        await first.until("ready")
        async with served(tmp_path) as second:
            assert await second.end() == 1
        told = next(each for each in second.logged if each["event"] == "not_started")
        assert f"(process {first.pid}) has the store {tmp_path / 'dialerd.db'} open" in told["reason"]
        assert await first.stop() == 0
    async with served(tmp_path) as third:
        await third.until("ready")
        assert await third.stop() == 0


async def test_systemd_is_told(tmp_path: Path) -> None:
    told: list[dict[str, str]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.setblocking(False)

        async def until(field: str, says: str = "") -> None:
            async with asyncio.timeout(DEADLINE):
                while not told or says not in told[-1].get(field, "") or field not in told[-1]:
                    message = await asyncio.get_running_loop().sock_recv(line, 4096)
                    told.append(dict(each.split("=", 1) for each in message.decode().splitlines()))

        environ = {"NOTIFY_SOCKET": line.getsockname(), "WATCHDOG_USEC": "300000"}
        async with served(tmp_path, environ) as daemon:
            await until("READY")
            await until("STATUS", "0 calls in flight; PBXs: sim up")
            await until("WATCHDOG")
            await until("WATCHDOG")
            rewrite(tmp_path, "[pbx.sim]", "[dispatch]\ndrain_seconds = 3600.0\n[pbx.sim]")
            daemon.send(signal.SIGHUP)
            await until("RELOADING")
            assert int(told[-1]["MONOTONIC_USEC"]) > 0
            await until("READY")
            stopping = asyncio.create_task(until("STOPPING"))
            assert await daemon.stop() == 0
            await stopping
    assert int(told[-1]["EXTEND_TIMEOUT_USEC"]) >= 3600_000_000, "it drains as long as the file says by now"


@pytest.fixture
def certificate(tmp_path: Path) -> trustme.LeafCert:
    """A certificate for the loopback, written down as server.pem and server.key; ca.pem vouches for it."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made.private_key_pem.write_to_path(tmp_path / "server.key")
    for blob in made.cert_chain_pems:
        blob.write_to_path(tmp_path / "server.pem", append=True)
    return made


TLS = 'tls_certificate = "server.pem"\ntls_key = "server.key"'


@pytest.mark.usefixtures("certificate")
async def test_the_api_is_served_with_tls_and_not_without(tmp_path: Path) -> None:
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    # asyncio leaves the socket of a handshake that failed to the collector, which would tell so on standard error.
    async with served(tmp_path, server=TLS, warnings="ignore") as daemon, aiohttp.ClientSession() as session:
        port = (await daemon.until("ready"))["port"]
        async with session.get(f"https://127.0.0.1:{port}/healthz", ssl=trusting) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://127.0.0.1:{port}/healthz")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"https://127.0.0.1:{port}/healthz")
        assert await daemon.stop() == 0


@pytest.mark.usefixtures("certificate")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_a_client_that_speaks_no_tls_of_today_is_turned_away(tmp_path: Path) -> None:
    client = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    client.set_ciphers("ALL:@SECLEVEL=0")
    async with served(tmp_path, server=TLS, warnings="ignore") as daemon:
        port = (await daemon.until("ready"))["port"]
        client.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=client)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        writer.close()
        await writer.wait_closed()
        assert await daemon.stop() == 0


@pytest.mark.usefixtures("certificate")
async def test_a_key_of_another_certificate_is_told_at_the_start(tmp_path: Path) -> None:
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(tmp_path / "server.key")
    async with served(tmp_path, server=TLS) as daemon:
        assert await daemon.end() == 1
    told = next(each for each in daemon.logged if each["event"] == "not_started")
    assert "do not make a pair" in told["reason"]


def rewrite(folder: Path, old: str, new: str) -> None:
    """Change the configuration file of a daemon that runs."""
    config = folder / "dialerd.toml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


async def test_a_hangup_signal_takes_up_what_can_change_and_names_what_waits(tmp_path: Path) -> None:
    async with served(tmp_path) as daemon:
        await daemon.until("ready")
        rewrite(tmp_path, "max_calls_per_second = 5\nmax_channels = 5\n[tenant", "max_calls_per_second = 2\n[tenant")
        daemon.send(signal.SIGHUP)
        told = await daemon.until("config_not_reloaded")
        assert told["problems"] == ["trunk.one.max_channels: is missing"]
        rewrite(tmp_path, "max_calls_per_second = 2\n[tenant", "max_calls_per_second = 2\nmax_channels = 3\n[tenant")
        rewrite(tmp_path, "127.0.0.1:0", "127.0.0.1:1")
        rewrite(tmp_path, "[pbx.sim]", '[logging]\nlevel = "debug"\n[pbx.sim]')
        daemon.send(signal.SIGHUP)
        told = await daemon.until("config_reloaded")
        assert told["applied"] == ["logging.level", "trunk.one.max_calls_per_second", "trunk.one.max_channels"]
        assert (await daemon.until("config_needs_restart"))["keys"] == ["server.listen"]
        assert await daemon.stop() == 0


@pytest.mark.usefixtures("certificate")
async def test_a_renewed_certificate_is_shown_after_a_hangup_signal(tmp_path: Path) -> None:
    async with served(tmp_path, server=TLS, warnings="ignore") as daemon:
        port = (await daemon.until("ready"))["port"]
        before = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        made = trustme.CA().issue_cert("127.0.0.1")
        made.private_key_pem.write_to_path(tmp_path / "server.key")
        daemon.send(signal.SIGHUP)
        assert "do not make a pair" in (await daemon.until("config_not_reloaded"))["problems"][0]
        assert await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)) == before
        made.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
        daemon.send(signal.SIGHUP)
        await daemon.until("config_reloaded")
        after = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        assert after == made.cert_chain_pems[0].bytes().decode()
        assert await daemon.stop() == 0


async def test_signals_that_come_before_the_start_is_done_are_heeded_behind_it(tmp_path: Path) -> None:
    async with served(tmp_path) as daemon:
        await daemon.until("store_created")
        daemon.send(signal.SIGHUP)
        assert await daemon.stop() == 0
    assert "config_not_reloaded" not in daemon.events, daemon.logged
    assert daemon.events[-1] == "stopped"
