"""A small client of dialerd's API, with nothing but Python's own library; and, run as a program, a whole campaign.

    DIALER_URL=http://127.0.0.1:8088 DIALER_KEY=dk_… python3 campaign.py contacts.csv

Copy it, and keep what you need.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SILENCE_SECONDS = 45.0
"""A living event stream sends something every 15 seconds; after this the connection is dead, whatever TCP thinks."""
TRIES = 6
LONGEST_PAUSE_SECONDS = 10.0
LOST = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
"""What a lost connection may raise; HTTPError is a URLError too, and is caught before."""


class Problem(Exception):
    """The daemon refused. `code` is for programs and does not change; the text is for people."""

    def __init__(self, status: int, body: bytes) -> None:
        try:
            said = json.loads(body)
        except ValueError:
            said = {}
        self.status = status
        self.code: str = said.get("code", f"http_{status}")
        self.errors: list[dict[str, Any]] = said.get("errors", [])
        fields = "".join(f"; {each.get('field') or each.get('row')}: {each['message']}" for each in self.errors)
        super().__init__(f"{said.get('detail') or body[:200].decode(errors='replace')} ({self.code}){fields}")


@dataclass(frozen=True)
class Event:
    """One event of a campaign."""

    id: str
    kind: str
    data: dict[str, Any]


class Client:
    """One daemon, with one key."""

    def __init__(self, url: str, key: str, timeout: float = 60.0) -> None:
        self._base = f"{url.rstrip('/')}/api/v1"
        self._key = key
        self._timeout = timeout

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """Send one request; return the answer's JSON, or its text. Raises Problem.

        A request that is lost on the way is sent again. For POST that is safe only because of its Idempotency-Key: the
        daemon answers the second as it answered the first, and does nothing again.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind} if data is not None else {}
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid4())
        for attempt in range(1, TRIES + 1):
            try:
                with self._open(method, path, data, headers, self._timeout) as answer:
                    text = answer.read()
                    is_json = "json" in answer.headers.get("Content-Type", "")
                return json.loads(text) if is_json else text.decode()
            except urllib.error.HTTPError as error:
                problem = Problem(error.code, error.read())
                if attempt == TRIES or error.code not in (429, 502, 503, 504):
                    raise problem from None
                pause(attempt, float(error.headers.get("Retry-After") or 0))
            except LOST:
                if attempt == TRIES:
                    raise
                pause(attempt)
        raise AssertionError("not reached")

    def upload(self, path: str, fields: dict[str, str], file: Path) -> Any:
        """Send a form with a CSV file, which is held in memory here: send a list of millions as `text/csv` instead."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="contacts"; filename="contacts.csv"\r\n'
            "Content-Type: text/csv\r\n\r\n"
        )
        body = b"".join([*parts, head.encode(), file.read_bytes(), f"\r\n--{boundary}--\r\n".encode()])
        return self.ask("POST", path, body, f"multipart/form-data; boundary={boundary}")

    def events(self, campaign: str, after: str = "0") -> Iterator[Event]:
        """Yield a campaign's events from the first on, without gap or repeat however often the connection is lost."""
        failures = 0
        while True:
            try:
                headers = {"Accept": "text/event-stream", "Last-Event-ID": after}
                with self._open("GET", f"/campaigns/{campaign}/events", None, headers, SILENCE_SECONDS) as stream:
                    for event in parse(stream):
                        failures = 0
                        # Only now, for it came whole: half of an event is asked for again.
                        after = event.id
                        yield event
            except urllib.error.HTTPError as error:
                if error.code not in (429, 502, 503, 504):
                    raise Problem(error.code, error.read()) from None
            except LOST:
                pass
            failures += 1
            if failures > TRIES:
                raise ConnectionError("the event stream cannot be had")
            pause(failures)

    def _open(self, method: str, path: str, data: bytes | None, headers: dict[str, str], timeout: float) -> Any:
        all_headers = {"Authorization": f"Bearer {self._key}", **headers}
        request = urllib.request.Request(self._base + path, data, all_headers, method=method)
        return urllib.request.urlopen(request, timeout=timeout)


def pause(attempt: int, asked_for: float = 0.0) -> None:
    """Wait longer each time, and at least as long as the daemon asked."""
    time.sleep(max(asked_for, min(LONGEST_PAUSE_SECONDS, 0.25 * 2**attempt)))


def parse(stream: Any) -> Iterator[Event]:
    """Server-Sent Events (WHATWG HTML, 9.2.6), as far as the daemon uses them. Half an event is none."""
    fields: dict[str, str] = {}
    for raw in stream:
        line = raw.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if "data" in fields:
                yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


def run(client: Client, contacts: Path) -> int:
    """Make a campaign of a list, start it, follow it to its end, and print the results."""
    agents = client.ask("GET", "/agents")["data"]
    if not agents:
        place = {"name": "desk", "kind": "dialplan", "context": "dialerd", "exten": "answered"}
        agents = [client.ask("POST", "/agents", place)]
    form = {
        "name": "From Python",
        "agent_id": agents[0]["id"],
        "concurrent_calls": "2",
        "retry": json.dumps({"busy": {"delay_seconds": 1, "most": 1}}),
    }
    campaign = client.upload("/campaigns", form, contacts)
    added = campaign["import"]
    print(f"{added['added']} contacts, {added['invalid']} rows rejected")
    for error in added["errors"]:
        print(f"  row {error['row']}: {error['message']}")
    for warning in client.ask("POST", f"/campaigns/{campaign['id']}/start")["warnings"]:
        print(f"warning: {warning}")
    for event in client.events(campaign["id"]):
        print(
            f"event {event.id}: {event.kind} {event.data['phone_number'] or ''} {event.data['outcome'] or ''}".rstrip()
        )
        if event.kind == "campaign" and event.data["status"] in ("completed", "cancelled"):
            break
    try:
        client.ask("POST", f"/campaigns/{campaign['id']}/pause")
    except Problem as problem:
        print(f"as it should be: {problem}")
    print(client.ask("GET", f"/campaigns/{campaign['id']}/results.csv"), end="")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(run(Client(os.environ["DIALER_URL"], os.environ["DIALER_KEY"]), Path(sys.argv[1])))
    except Problem as refused:
        sys.exit(f"refused: {refused}")
    except LOST as error:
        sys.exit(f"the daemon cannot be reached: {error}")
