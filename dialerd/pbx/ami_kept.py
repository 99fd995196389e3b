"""What an Asterisk keeps of answered calls for a daemon that was not there to hear their end.

A hangup handler (context ``dialerd-result`` of asterisk-conf/extensions_dialerd.conf), which every order pushes onto
its channel, writes one entry into Asterisk's own database; Asterisk runs it before the channel leaves the listing
(``ast_hangup`` in main/channel.c), and keeps the entry over restarts. The daemon reads entries of calls that it misses,
and deletes each when the call's end is in its own store. What nobody fetched is deleted after a day.

The AMI user needs no right beyond the others: DBGet and DBGetTree want ``reporting``, Setvar wants ``call`` (main/db.c,
main/manager.c). DBDel would want ``system``, which is a shell; writing to the function DB_DELETE does the same.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx import wire
from dialerd.pbx.ami_stream import AmiMessage
from dialerd.pbx.driver import Ended, Kept, LinkLost
from dialerd.pbx.strangers import is_call_id

log = structlog.get_logger(__name__)

KEEP = timedelta(days=1)
"""How long an entry that nobody asks for is kept."""
AT_ONCE = 100
"""Questions that are sent together."""
MOST_DISCARDED = 20_000
"""Ids of entries that wait to be deleted; what is more is left to the next connection."""

_VERSION = "1"
_LONGEST_TALK = 7 * 86_400.0
"""Seconds: no order of ours allows for more."""
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")


class Ask(Protocol):
    """Sends an action and waits for its answer, and the list behind it. Raises LinkLost where none comes in time."""

    def __call__(
        self, headers: wire.Headers, what: str, each: Callable[[AmiMessage], None] | None = None
    ) -> Awaitable[AmiMessage]: ...


def read_kept(call_id: str, value: str) -> Kept | None:
    """Read an entry; None where it is none of ours.

    ``1|end|billsec|hangup cause|QUEUESTATUS|ABANDONED``: the end in seconds of the epoch, the talk in seconds (empty
    where Asterisk keeps no CDRs), and how a queue let go of the call (app_queue.c): without a word where a member took
    it.
    """
    fields = value.split("|")
    if len(fields) < 6 or fields[0] != _VERSION:
        return None
    end, talk = _moment(fields[1]), _number(fields[2])
    if end is None or (talk is not None and talk > _LONGEST_TALK):
        return None
    cause = int(fields[3]) if fields[3].isascii() and fields[3].isdigit() and len(fields[3]) < 4 else 0
    ended = Ended(call_id, Verdict(Outcome.ANSWERED, Fault.NONE), cause or None, talk_seconds=talk)
    return Kept(ended, end, handed_over=not fields[4] and not fields[5])


class KeptCalls:
    """The entries of one Asterisk: asked for over its link, and deleted when they are no longer needed."""

    def __init__(self) -> None:
        self.on = False
        """Whether this Asterisk's dialplan keeps them: then orders ask for it."""
        self.left = 0
        """Entries whose deletion was not answered, or not asked for: they are deleted when they have grown old."""
        self._ask: Ask | None = None
        self._discarded: deque[str] = deque(maxlen=MOST_DISCARDED)
        self._wanted = asyncio.Event()

    async def begin(self, ask: Ask) -> None:
        """A link is up: find out whether this Asterisk keeps anything. Raises LinkLost."""
        answer = await ask([("Action", "ShowDialPlan"), ("Context", wire.RESULT_CONTEXT)], "ShowDialPlan", _ignore)
        self.on, self._ask, self._wanted = answer.response == "Success", ask, asyncio.Event()
        if not self.on:
            log.info("results_not_kept", reason=answer.phrase("message"))

    def end(self) -> None:
        """The link is gone; what was to be deleted is, when it has grown old."""
        self._ask = None
        self.left += len(self._discarded)
        self._discarded.clear()
        self._wanted.set()

    async def of(self, call_ids: Collection[str]) -> dict[str, Kept]:
        """What is kept of these calls. Raises LinkLost."""
        ask = self._ask
        found: dict[str, Kept] = {}
        ids = list(call_ids) if self.on else []
        for start in range(0, len(ids), AT_ONCE):
            if ask is None:
                raise LinkLost("no link to the PBX")
            asked = ids[start : start + AT_ONCE]
            entries = await asyncio.gather(*(_entry(ask, call_id) for call_id in asked))
            found.update((each.ended.call_id, each) for each in entries if each is not None)
        return found

    def discard(self, call_ids: Collection[str]) -> None:
        """These calls' ends are in our own store: delete what is kept of them, soon."""
        if self.on and self._ask is not None:
            self._discard(call_ids)

    async def sweep(self, now: datetime) -> None:
        """Delete what nobody has asked for in a day, then what is discarded. Runs for as long as the link lasts."""
        ask, wanted = self._ask, self._wanted
        if ask is None or not self.on:
            return
        await self._age_out(ask, now)
        while self._ask is ask:
            await wanted.wait()
            wanted.clear()
            while self._discarded and self._ask is ask:
                count = min(len(self._discarded), AT_ONCE)
                await asyncio.gather(*(self._delete(ask, self._discarded.popleft()) for _ in range(count)))

    def _discard(self, call_ids: Collection[str]) -> None:
        self.left += max(0, len(self._discarded) + len(call_ids) - MOST_DISCARDED)
        self._discarded.extend(call_ids)
        self._wanted.set()

    async def _delete(self, ask: Ask, call_id: str) -> None:
        """Delete one entry. One that is not answered is left: a deadline that is missed is no lost link."""
        try:
            await ask(wire.ami_discard(call_id), "Setvar")
        except LinkLost as error:
            self.left += 1
            log.info("result_left", call_id=call_id, reason=str(error))

    async def _age_out(self, ask: Ask, now: datetime) -> None:
        old: list[str] = []

        def each(row: AmiMessage) -> None:
            call_id = row.get("key").rpartition("/")[2]
            kept = read_kept(call_id, row.get("val"))
            if kept is not None and is_call_id(call_id) and now - kept.ended_at > KEEP:
                old.append(call_id)

        # Asterisk 16 before 16.22 does not know the action; there a deletion that was lost leaves its entry for good.
        try:
            await ask([("Action", "DBGetTree"), ("Family", wire.RESULT_FAMILY)], "DBGetTree", each)
        except LinkLost as error:
            log.info("old_results_left", reason=str(error))
            return
        if old:
            log.info("results_aged_out", count=len(old))
        self._discard(old)


async def _entry(ask: Ask, call_id: str) -> Kept | None:
    rows: list[str] = []
    answer = await ask(wire.ami_kept(call_id), "DBGet", lambda row: rows.append(row.get("val")))
    return read_kept(call_id, rows[0]) if answer.response == "Success" and rows else None


def _ignore(_row: AmiMessage) -> None:
    """The list behind an answer of which the answer alone matters."""


def _moment(value: str) -> datetime | None:
    seconds = _number(value)
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # outside the calendar
        return None


def _number(value: str) -> float | None:
    return float(value) if _NUMBER.fullmatch(value) else None
