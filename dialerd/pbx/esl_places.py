"""Whether FreeSWITCH knows the place an answered call shall go to, asked before anybody is called.

FreeSWITCH looks a place up only after the answer. An unknown one would ring people up and drop them, so a context or
an application is asked for once, and again after a while. An extension inside a context cannot be asked for: what it
matches only a call can tell.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dialerd.clock import Clock
from dialerd.pbx import wire
from dialerd.pbx.driver import Place
from dialerd.pbx.esl_stream import EslFrame

QUEUE_APPLICATION = "callcenter"
KNOWN_SECONDS = 60.0
"""How long a place that FreeSWITCH knew is not asked about again."""
_NO_CONTEXT = "can't find anything"
_NO_APPLICATION = "0 total."

Ask = Callable[[wire.EslCommand], Awaitable[EslFrame]]


class Places:
    """Remembers the places that FreeSWITCH knew a moment ago."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, float] = {}

    async def refusal(self, place: Place, ask: Ask) -> str | None:
        """Return why a place cannot be used; None: it can. Raises what ``ask`` raises."""
        if place.context is not None:
            what, absent = f"dialplan context {place.context!r}", _NO_CONTEXT
            question = wire.esl_api("xml_locate", "dialplan", "context", "name", place.context)
        else:
            application = place.application or QUEUE_APPLICATION
            what, absent = f"application {application!r}", _NO_APPLICATION
            question = wire.esl_api("show", "application", application)
        now = self._clock.mono()
        if self._known.get(what, now) > now:
            return None
        answer = await ask(question)
        if absent in answer.reply:
            return f"FreeSWITCH knows no {what}"
        self._known = {known: until for known, until in self._known.items() if until > now}
        self._known[what] = now + KNOWN_SECONDS
        return None

    def forget(self) -> None:
        """Know nothing any more: the link is lost."""
        self._known.clear()
