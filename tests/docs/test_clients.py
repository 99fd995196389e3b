"""docs/clients/: what both do when their connection is cut again and again."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from tests.docs import worlds
from tests.docs.page import ROOT
from tests.docs.worlds import Keys
from tests.fakes.proxy import Proxy

pytestmark = pytest.mark.slow

CUTS = 3
DEADLINE = 60.0
LIST = "phone_number\n" + "".join(f"+1202555{number:02}01\n" for number in range(10, 16))
"""Six contacts of one second each, two at once: long enough to be cut three times."""


@pytest.mark.parametrize("command", [("python3", "campaign.py"), ("php", "campaign.php")], ids=["python", "php"])
async def test_no_event_is_lost_or_told_twice_over_lost_connections(
    command: tuple[str, str], tmp_path: Path, tools: None, keys: Keys
) -> None:
    program, name = command
    async with worlds.simulated(tmp_path, keys) as world:
        (world.folder / "contacts.csv").write_text(LIST)
        host, port = world.environ["DIALER_URL"].removeprefix("http://").split(":")
        async with Proxy(host, int(port)) as proxy, asyncio.timeout(DEADLINE):
            process = await asyncio.create_subprocess_exec(
                *(program, str(ROOT / "docs/clients" / name), "contacts.csv"),
                cwd=world.folder,
                env={**world.environ, "DIALER_URL": f"http://{proxy.host}:{proxy.port}", "PYTHONUNBUFFERED": "1"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                told, cuts = await _follow(process, proxy)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    numbers = [int(found[1]) for line in told if (found := re.match(r"event (\d+):", line))]
    assert cuts == CUTS, "".join(told)
    assert numbers == list(range(1, len(numbers) + 1)), "".join(told)
    assert sum(": completed" in line for line in told) == 6
    assert sum(",answered," in line for line in told) == 6


async def _follow(process: asyncio.subprocess.Process, proxy: Proxy) -> tuple[list[str], int]:
    """Read to the end; after every fourth event the connection is cut in the middle of what comes next."""
    assert process.stdout is not None
    told: list[str] = []
    cuts = seen = 0
    async for raw in process.stdout:
        told.append(raw.decode())
        if not told[-1].startswith("event "):
            continue
        seen += 1
        if seen % 4 == 0 and cuts < CUTS:
            cuts += 1
            before = proxy.connections
            proxy.cut()
            proxy.restore()
            assert proxy.connections == before
    await process.wait()
    return told, cuts
