"""An endpoint of webhooks without a network: it takes what it is sent, or does what a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dialerd.webhooks.transport import Answer

TAKEN = Answer(204)
REFUSED = Answer(503, "the answer was 503")
AWAY = Answer(None, "no connection: Connection refused")


@dataclass(frozen=True)
class Received:
    """One message as it came in."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Its ``webhook-id``."""
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        """What it says."""
        return json.loads(self.body)

    @property
    def contact_id(self) -> str | None:
        """Whom it is about."""
        found: str | None = self.json["data"].get("contact_id")
        return found


@dataclass
class Endpoint:
    """Takes every message, unless ``answers`` says otherwise; fulfils the transport's protocol."""

    answers: Callable[[Received], Answer | Awaitable[Answer]] = lambda _: TAKEN
    attempts: list[Received] = field(default_factory=list)
    """Every message, in the order in which they came."""
    taken: list[Received] = field(default_factory=list)
    """Those that it answered as delivered."""
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        received = Received(url, dict(headers), body)
        self.attempts.append(received)
        self._stir()
        answer = self.answers(received)
        if not isinstance(answer, Answer):
            answer = await answer
        if answer.delivered:
            self.taken.append(received)
            self._stir()
        return answer

    async def close(self) -> None:
        """Nothing is open."""

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; it is asked again after each message."""
        while not holds():
            self._came.clear()
            await self._came.wait()

    def _stir(self) -> None:
        self._came.set()
