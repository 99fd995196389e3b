"""The way to the daemon and back: keys, certificates, answers that break off, readers that have enough."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme

from dialerd.api.server import ApiServer, build_app
from dialerd.client.errors import UNREACHABLE
from tests.contract.api.house import DEADLINE
from tests.contract.client.conftest import Terminal, made

# A shell starts what it puts into the background deaf to Ctrl-C; the tests may run there.
_COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from dialerd.cli import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        ("campaigns", "list"),
        ("campaigns", "show", "x"),
        ("campaigns", "explain", "x"),
        ("contacts", "list", "x"),
        ("dnc", "list"),
        ("callbacks", "list", "x"),
        ("keys", "list"),
        ("agents", "list"),
        ("results", "x"),
        ("tail", "x"),
        ("top",),
    ],
)
async def test_a_wrong_key_is_told_in_the_daemons_words(terminal: Terminal, command: tuple[str, ...]) -> None:
    terminal.house.keys = {**terminal.house.keys, "wrong": "no-such-key"}
    result = await terminal.run(*command, key="wrong")
    expected = "dialerd: the request needs a valid key: Authorization: Bearer KEY (unauthorized)\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", expected)


async def test_an_id_of_a_users_typing_is_no_path(terminal: Terminal) -> None:
    campaign = await made(terminal)
    result = await terminal.run("campaigns", "show", f"x/../{campaign}")
    assert (result.exit_code, "(campaign_not_found)" in result.stderr) == (1, True)


async def test_the_clients_own_file_says_where_and_by_which_key(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = terminal.home / "dialerd"
    folder.mkdir()
    (folder / "client.toml").write_text(f'url = "{terminal.house.base}"\nkey = "{terminal.house.keys["viewer"]}"\n')
    (folder / "client.toml").chmod(0o600)

    unset = {"DIALER_URL": None, "DIALER_KEY": None}
    monkeypatch.setattr(terminal, "environ", lambda _: {**unset, "XDG_CONFIG_HOME": str(terminal.home)})
    result = await terminal.run("campaigns", "list")
    assert (result.exit_code, result.stderr) == (0, "")
    (folder / "client.toml").chmod(0o644)
    assert "others may read it; run: chmod 600" in (await terminal.run("campaigns", "list")).stderr


async def test_a_certificate_is_looked_at_and_its_authority_can_be_named(terminal: Terminal) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(terminal.home / "ca.pem")
    server = ApiServer(build_app(terminal.house.daemon.api), terminal.house.clock, terminal.house.daemon.metrics)
    await server.start("127.0.0.1", 0, context)
    try:
        url = ("--url", f"https://127.0.0.1:{server.port}")
        assert (await terminal.run("campaigns", "list", *url)).exit_code == UNREACHABLE
        assert (
            await terminal.run("campaigns", "list", *url, "--ca-file", str(terminal.home / "ca.pem"))
        ).exit_code == 0
        none = await terminal.run("campaigns", "list", *url, "--ca-file", str(terminal.home / "none.pem"))
        assert (none.exit_code, "none.pem cannot be used" in none.stderr) == (1, True)
    finally:
        await server.stop(1)


async def test_a_file_that_is_not_there(terminal: Terminal) -> None:
    await terminal.says("agents", "create", "desk", "--queue", "sales", key="admin")
    missing = str(Path(terminal.home) / "none.csv")
    result = await terminal.run("campaigns", "create", "--name", "c", "--agent", "desk", "--contacts", missing)
    assert (result.exit_code, result.stderr) == (1, f"dialerd: {missing} cannot be read: No such file or directory\n")


async def test_results_that_break_off_are_no_results(terminal: Terminal) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nphone\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        target = terminal.home / "results.csv"
        result = await terminal.run("results", "c", "-o", str(target), "--url", url)
    assert result.exit_code == UNREACHABLE
    assert result.stderr.startswith(f"dialerd: {url}: ")
    assert [path for path in terminal.home.iterdir() if "results" in path.name] == []


async def test_what_is_no_daemon_is_told_so(terminal: Terminal) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        result = await terminal.run("campaigns", "list", "--url", url)
    assert (result.exit_code, result.stderr) == (1, "dialerd: the answer was 302 Found, and none of dialerd's\n")


@pytest.mark.slow
async def test_a_reader_that_has_enough_ends_the_command_quietly(terminal: Terminal) -> None:
    campaign = await made(terminal)
    reading, writing = os.pipe()
    process = await typed(terminal, "tail", campaign, "--after", "0", stdout=writing)
    os.close(writing)
    assert (await terminal.house.ask("POST", f"/campaigns/{campaign}/start")).status == 200
    async with asyncio.timeout(DEADLINE):
        assert b"active" in await asyncio.to_thread(os.read, reading, 65536)
        os.close(reading)
        assert (await terminal.house.ask("POST", f"/campaigns/{campaign}/pause")).status == 200
        assert process.stderr is not None
        complaints = await process.stderr.read()
        assert (await process.wait(), complaints) == (1, b"")


async def typed(terminal: Terminal, *arguments: str, stdout: int) -> asyncio.subprocess.Process:
    """A command as a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _COMMAND, *arguments),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", **terminal.environ()},
    )
