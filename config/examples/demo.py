"""Dials an example list as any client of the API would: upload, start, watch the event stream, print the outcomes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from dialerd.clock import SystemClock

HERE = Path(__file__).parent
TENANT = "demo"
START_SECONDS = 20.0
DIAL_SECONDS = 55.0
STOP_SECONDS = 10.0
ENDS = ("completed", "failed", "cancelled")

# Everybody is called once; who is busy or does not answer once more, three seconds later.
ONCE: dict[str, Any] = {"delay_seconds": 3, "most": 0}
AGAIN: dict[str, Any] = {"delay_seconds": 3, "most": 1}
SETTINGS = {
    "calling_hours_start": "00:00",
    "calling_hours_end": "00:00",
    "concurrent_calls": 40,
    "answer_timeout": 5,
    "retry": {
        **dict.fromkeys(("rejected", "congestion", "unreachable", "failed", "interrupted", "abandoned"), ONCE),
        **dict.fromkeys(("busy", "no_answer"), AGAIN),
    },
}


class DemoFailed(Exception):
    """The demonstration cannot go on; the message says why."""


@contextlib.asynccontextmanager
async def daemon(config: Path, environ: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``dialerd serve``; stopped, and waited for, at the end of the block."""
    process = await asyncio.create_subprocess_exec(dialerd(), "serve", "--config", str(config), env=environ)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


def dialerd() -> str:
    """The command beside this Python."""
    return shutil.which("dialerd", path=str(Path(sys.executable).parent)) or "dialerd"


async def ready(session: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
    """Wait until the daemon takes requests and its PBX is up."""
    clock = SystemClock()
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            await clock.sleep(0.1)
    raise DemoFailed(f"the daemon ended at once, with status {process.returncode}")


async def create_key(config: Path, environ: dict[str, str]) -> str:
    """Make a key with ``dialerd keys create``."""
    arguments = ("keys", "create", "--config", str(config), "--tenant", TENANT, "--role", "admin")
    process = await asyncio.create_subprocess_exec(dialerd(), *arguments, env=environ, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), START_SECONDS)
    if process.returncode != 0:
        raise DemoFailed(f"no key was made (status {process.returncode})")
    return output.decode().strip()


async def ask(session: aiohttp.ClientSession, method: str, path: str, **request: Any) -> Any:
    """Send one request and return the answer's JSON."""
    async with session.request(method, f"/api/v1{path}", **request) as answer:
        if answer.status >= 400:
            raise DemoFailed(f"{method} {path}: {answer.status} {await answer.text()}")
        return await answer.json()


async def create_campaign(session: aiohttp.ClientSession, contacts: bytes) -> Any:
    """Make an agent and a campaign, with the list in the same request."""
    place = {"name": "demo", "kind": "dialplan", "context": "dialerd", "exten": "answered"}
    agent = await ask(session, "POST", "/agents", json=place)
    form = aiohttp.FormData()
    form.add_field("name", "Demo")
    form.add_field("agent_id", agent["id"])
    form.add_field("settings", json.dumps(SETTINGS))
    form.add_field("contacts", contacts, filename="contacts.csv", content_type="text/csv")
    return await ask(session, "POST", "/campaigns", data=form)


async def follow(session: aiohttp.ClientSession, campaign: Any, progress: Progress) -> None:
    """Start the campaign and show what the event stream tells, until it is completed."""
    path = f"/campaigns/{campaign['id']}"
    async with session.get(f"/api/v1{path}/events", timeout=aiohttp.ClientTimeout(total=None)) as stream:
        if stream.status != 200:
            raise DemoFailed(f"the event stream answers {stream.status}")
        started = await ask(session, "POST", f"{path}/start")
        for warning in started.get("warnings", []):
            print(f"warning: {warning}")
        kind = ""
        async for line in stream.content:
            field, _, value = line.decode().rstrip("\r\n").partition(": ")
            if field == "event":
                kind = value
            elif field == "data":
                event = json.loads(value)
                progress.show(kind, event)
                if kind == "campaign" and event["status"] in ("completed", "cancelled"):
                    return
    raise DemoFailed("the event stream ended before the campaign did")


class Progress:
    """One line that keeps up with the events on a terminal; elsewhere a line for each tenth of the list."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen: Counter[str] = Counter()
        self._states: dict[str, str] = {}
        self._printed = 0
        self._live = sys.stdout.isatty()

    def show(self, kind: str, event: dict[str, Any]) -> None:
        """Take one event in."""
        self._seen[kind] += 1
        if contact := event.get("contact_id"):
            self._states[contact] = event["status"]
        states = Counter(self._states.values())
        done = sum(states[state] for state in ENDS)
        line = (
            f"{done:3}/{self._total} done   {states['originated']:2} dialling   {states['connected']:2} talking   "
            f"{self._seen['originated']} calls, {self._seen['retry_scheduled']} to be tried again"
        )
        if self._live:
            print(f"\r{line}\033[K", end="\n" if kind == "campaign" and done == self._total else "", flush=True)
        elif done * 10 // max(1, self._total) > self._printed:
            self._printed = done * 10 // self._total
            print(line, flush=True)


def print_outcomes(campaign: Any) -> None:
    """Print the table of outcomes, from the campaign's own statistics."""
    stats = campaign["stats"]
    outcomes = {name: count for name, count in stats["outcomes"].items() if count}
    calls = sum(outcomes.values())
    print(f"\n{'outcome':<16}{'calls':>6}{'share':>8}")
    for name, count in sorted(outcomes.items(), key=lambda item: (-item[1], item[0])):
        print(f"{name:<16}{count:>6}{count / calls:>8.0%}")
    states = ", ".join(f"{stats[state]} {state}" for state in ENDS if stats[state])
    print(f"{'calls':<16}{calls:>6}\n\n{stats['total']} contacts: {states}")


async def run(config: Path, contacts: bytes) -> None:
    """The whole demonstration, on a temporary store."""
    with tempfile.TemporaryDirectory(prefix="dialerd-demo-") as folder, socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{chosen.getsockname()[1]}"
        chosen.close()
        store = f"sqlite:///{folder}/demo.db"
        environ = {**os.environ, "DIALERD_SERVER__LISTEN": listen, "DIALERD_STORE__URL": store}
        async with daemon(config, environ) as process, aiohttp.ClientSession(f"http://{listen}") as session:
            await ready(session, process)
            session.headers["Authorization"] = f"Bearer {await create_key(config, environ)}"
            campaign = await create_campaign(session, contacts)
            path, total = f"/campaigns/{campaign['id']}", campaign["stats"]["total"]
            print(f"dialerd at http://{listen}; {total} contacts uploaded")
            async with asyncio.timeout(DIAL_SECONDS):
                await follow(session, campaign, Progress(total))
            print_outcomes(await ask(session, "GET", path))


def main() -> int:
    """Run the demonstration; 1 with a message where it fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=HERE / "demo.toml")
    try:
        asyncio.run(run(parser.parse_args().config, (HERE / "contacts.csv").read_bytes()))
    except TimeoutError:
        print("\nthe demonstration took too long", file=sys.stderr)
        return 1
    except (DemoFailed, aiohttp.ClientError) as error:
        print(f"\nthe demonstration failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
