"""A client of the daemon's API, as its users write one: uploads lists, starts campaigns, follows their events."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp

from tests.integration.daemon import Daemon

Row = Mapping[str, str]
Json = dict[str, Any]

ENDS = frozenset({"completed", "failed", "cancelled", "retry_scheduled"})
"""The kinds of event with which an attempt, or a contact that waited, is through."""

_REQUEST_SECONDS = 20.0
_PAGE = 500


class Api:
    """Requests to one daemon; every one of them has a deadline."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {daemon.key}"},
            timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS),
        )

    async def close(self) -> None:
        """End all connections."""
        await self.session.close()

    async def ask(self, method: str, path: str, **request: Any) -> Any:
        """Send a request; return the answer's JSON, or fail with what the daemon says."""
        async with self.session.request(method, f"{self.daemon.url}/api/v1{path}", **request) as answer:
            assert answer.status in (200, 201), f"{method} {path}: {answer.status} {await answer.text()}"
            return await answer.json()

    async def agent(self, exten: str, *, context: str = "dialer") -> str:
        """Make an agent at a place of the dialplan; return its id."""
        return await self.make_agent(name=f"{context}/{exten}", kind="dialplan", context=context, exten=exten)

    async def make_agent(self, **fields: Any) -> str:
        """Make an agent; return its id."""
        return str((await self.ask("POST", "/agents", json=fields))["id"])

    async def campaign(self, agent_id: str, rows: Sequence[Row], **settings: Any) -> str:
        """Make a campaign with its contacts, uploaded as a CSV file in the same request; return its id."""
        form = aiohttp.FormData()
        form.add_field("name", f"campaign of {len(rows)}")
        form.add_field("agent_id", agent_id)
        form.add_field("settings", json.dumps(settings))
        form.add_field("contacts", _csv(rows), filename="contacts.csv", content_type="text/csv")
        made = await self.ask("POST", "/campaigns", data=form)
        assert made["import"]["added"] == len(rows), made["import"]
        return str(made["id"])

    async def show(self, campaign_id: str) -> Json:
        """Get a campaign with its statistics."""
        return dict(await self.ask("GET", f"/campaigns/{campaign_id}"))

    async def step(self, campaign_id: str, verb: str, **body: Any) -> Json:
        """Start, pause, resume or stop a campaign."""
        return dict(await self.ask("POST", f"/campaigns/{campaign_id}/{verb}", **({"json": body} if body else {})))

    async def contacts(self, campaign_id: str) -> list[Json]:
        """List all contacts of a campaign."""
        return await self._all(f"/campaigns/{campaign_id}/contacts")

    async def calls(self, campaign_id: str) -> list[Json]:
        """List all calls of a campaign."""
        return await self._all(f"/campaigns/{campaign_id}/calls")

    async def _all(self, path: str) -> list[Json]:
        found: list[Json] = []
        query = {"limit": str(_PAGE)}
        while True:
            page = await self.ask("GET", path, params=query)
            found += page["data"]
            if page["next"] is None:
                assert len(found) == page["total"]
                return found
            query["after"] = page["next"]

    @contextlib.asynccontextmanager
    async def stream(self, campaign_id: str, after: int | None) -> AsyncIterator[AsyncIterator[Told]]:
        """Open a campaign's event stream, after an event (None: from now on)."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        endless = aiohttp.ClientTimeout(total=None, connect=_REQUEST_SECONDS)
        url = f"{self.daemon.url}/api/v1/campaigns/{campaign_id}/events"
        async with self.session.get(url, headers=headers, timeout=endless) as answer:
            assert answer.status == 200, f"{url}: {answer.status} {await answer.text()}"
            yield _events(answer)

    def follow(self, campaign_id: str, *, leave_after: Callable[[], int] | None = None) -> Follower:
        """Follow a campaign from its first event on. See :class:`Follower`."""
        return Follower(self, campaign_id, leave_after)


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a stream."""

    id: int
    kind: str
    data: Json

    @property
    def contact_id(self) -> str | None:
        """The contact's id; None for an event of the campaign itself."""
        found: str | None = self.data["contact_id"]
        return found


class Follower:
    """A client that follows a campaign, and goes on with Last-Event-ID whenever its connection ends.

    ``leave_after`` draws after how many events it ends the connection itself, each time anew.
    """

    def __init__(self, api: Api, campaign_id: str, leave_after: Callable[[], int] | None) -> None:
        self._api = api
        self._campaign_id = campaign_id
        self._leave_after = leave_after
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()
        self.told: list[Told] = []
        self.connections = 0
        self.last: dict[str, str] = {}
        """Per contact, the kind of its last event."""

    async def __aenter__(self) -> Follower:
        self._task = asyncio.create_task(self._run())
        opened = asyncio.create_task(self._opened.wait())
        await asyncio.wait({self._task, opened}, timeout=_REQUEST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if self._task.done():
            self._task.result()
        assert self._opened.is_set(), "the event stream does not open"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until a condition of what was told holds; fails after so many seconds."""
        assert self._task is not None
        try:
            async with asyncio.timeout(seconds), self._news:
                while not condition():
                    assert not self._task.done(), f"the event stream failed: {self._task.exception()!r}"
                    await self._news.wait()
        except TimeoutError:
            tail = "\n".join(f"{each.id} {each.kind} {each.data}" for each in self.told[-20:])
            raise AssertionError(f"{what}: not within {seconds:g} s; the last events were\n{tail}") from None

    async def settled(self, contacts: int, seconds: float) -> None:
        """Wait until so many contacts are through with an attempt."""
        await self.until(lambda: self.through() >= contacts, seconds, f"{contacts} contacts are through")

    async def finished(self, seconds: float) -> None:
        """Wait until the campaign is completed or cancelled."""
        await self.until(
            lambda: any(each.kind == "campaign" and each.data["status"] in ENDS for each in self.told),
            seconds,
            "the campaign is finished",
        )

    def through(self) -> int:
        """How many contacts are through with an attempt now."""
        return sum(kind in ENDS for kind in self.last.values())

    def count(self, kind: str) -> int:
        """How many contacts' last event was of this kind."""
        return sum(each == kind for each in self.last.values())

    async def _run(self) -> None:
        try:
            while True:
                await self._api.daemon.up.wait()
                # The daemon may die, or be restarted, at any moment: then we come back where we were.
                with contextlib.suppress(aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                    await self._connect()
        finally:
            async with self._news:
                self._news.notify_all()

    async def _connect(self) -> None:
        left = self._leave_after() if self._leave_after is not None else None
        async with self._api.stream(self._campaign_id, self.told[-1].id if self.told else 0) as events:
            self.connections += 1
            self._opened.set()
            async for event in events:
                await self._take(event)
                if left is not None and (left := left - 1) <= 0:
                    return

    async def _take(self, event: Told) -> None:
        async with self._news:
            self.told.append(event)
            if event.contact_id is not None:
                self.last[event.contact_id] = event.kind
            self._news.notify_all()


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[Told]:
    """Read Server-Sent Events as WHATWG HTML 9.2.6 has it, as far as the daemon uses it."""
    fields: dict[str, str] = {}
    async for raw in answer.content:
        line = raw.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
        elif "data" in fields:
            yield Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
