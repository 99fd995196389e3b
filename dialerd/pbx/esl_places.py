"""Whether FreeSWITCH knows the place an answered call shall go to, asked before anybody is called.

FreeSWITCH looks a place up only after the answer. An unknown one would ring people up and drop them, so a context, an
application or a queue is asked for once, and again after a while. An extension inside a context cannot be asked for:
what it matches only a call can tell.

An answered call to a queue that mod_callcenter does not know ends at once, with the cause of a call that went well.
The module reads a queue's configuration when it starts or when the first caller comes, so a queue is known that is
loaded, or that the configuration has. Source: ``get_queue`` and ``load_queue`` in mod_callcenter.c.

``show application NAME`` leaves out what has no description (``page``, ``cv``), and minds the case, which a call does
not. So what it does not show is looked for among all interfaces. Source: ``show_function`` in mod_commands.c.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from dialerd.clock import Clock
from dialerd.pbx import wire
from dialerd.pbx.driver import Place
from dialerd.pbx.esl_stream import EslFrame

QUEUE_APPLICATION = "callcenter"
KNOWN_SECONDS = 60.0
"""How long a place that FreeSWITCH knew is not asked about again."""
_QUEUES = "callcenter.conf"
_NO_CONTEXT = "can't find anything"
_NO_APPLICATION = "0 total."
_INTERFACES = "type,name,ikey\n"
"""How the list of all interfaces begins."""

Ask = Callable[[wire.EslCommand], Awaitable[EslFrame]]


class Places:
    """Remembers the places that FreeSWITCH knew a moment ago."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, float] = {}

    async def refusal(self, place: Place, ask: Ask) -> str | None:
        """Return why a place cannot be used; None: it can. Raises what ``ask`` raises."""
        wanted = [("dialplan context", place.context, _has_context)]
        if place.context is None:
            wanted = [("application", place.application or QUEUE_APPLICATION, _has_application)]
            wanted += [("queue", place.queue, _has_queue)]
        for kind, name, has in wanted:
            what = f"{kind} {name!r}"
            if name is None or self._knows(what):
                continue
            if not await has(name, ask):
                return f"FreeSWITCH knows no {what}"
            self._note(what)
        return None

    def _knows(self, what: str) -> bool:
        return self._known.get(what, 0.0) > self._clock.mono()

    def _note(self, what: str) -> None:
        now = self._clock.mono()
        self._known = {known: until for known, until in self._known.items() if until > now}
        self._known[what] = now + KNOWN_SECONDS

    def forget(self) -> None:
        """Know nothing any more: the link is lost."""
        self._known.clear()


async def _has_context(name: str, ask: Ask) -> bool:
    return _NO_CONTEXT not in (await ask(wire.esl_api("xml_locate", "dialplan", "context", "name", name))).reply


async def _has_application(name: str, ask: Ask) -> bool:
    if _NO_APPLICATION not in (await ask(wire.esl_api("show", "application", name))).reply:
        return True
    every = (await ask(wire.esl_api("show", "interfaces"))).reply
    # What is no list says nothing against it.
    return not every.startswith(_INTERFACES) or f"\napplication,{name.lower()}," in every.lower()


async def _has_queue(name: str, ask: Ask) -> bool:
    loaded = (await ask(wire.esl_api("callcenter_config", "queue", "list"))).reply
    if any(line.partition("|")[0] == name for line in loaded.splitlines()):
        return True
    configured = (await ask(wire.esl_api("xml_locate", "configuration", "configuration", "name", _QUEUES))).reply
    return re.search(rf'<queue\s(?:[^>]*\s)?name="{re.escape(name)}"', configured) is not None
