"""What is asked of an Asterisk behind the login: may we do what we must, how is it set, how are its trunks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from dialerd.pbx import wire
from dialerd.pbx.ami_stream import AmiMessage
from dialerd.pbx.ami_trunks import DEVICES, REGISTRATIONS, AmiTrunks
from dialerd.pbx.driver import LinkLost, TrunkState
from dialerd.pbx.linked import LoginRefused

log = structlog.get_logger(__name__)

SHUTTING_DOWN = "Asterisk is shutting down"
_DENIED = "Permission denied"
# Without a channel Originate and Hangup do nothing, but are refused for want of rights before that is looked at.
_RIGHTS = {"reporting": "CoreSettings", "originate": "Originate", "call": "Hangup"}


class Ask(Protocol):
    """Sends an action and waits for its answer; raises LinkLost where none comes in time."""

    def __call__(
        self, headers: wire.Headers, what: str, each: Callable[[AmiMessage], None] | None = None
    ) -> Awaitable[AmiMessage]: ...


async def check_rights(ask: Ask) -> AmiMessage:
    """Find out at once, not at the first call, whether the AMI user may do what it must; return CoreSettings.

    Raises LoginRefused, LinkLost.
    """
    answers = {}
    for right, action in _RIGHTS.items():
        answers[right] = await ask([("Action", action)], action)
        if answers[right].get("message") == _DENIED:
            raise LoginRefused(f"the AMI user may not write class {right}, which {action} needs")
        if answers[right].get("message") == SHUTTING_DOWN:
            raise LinkLost(SHUTTING_DOWN)
    return answers["reporting"]


def max_calls(core: AmiMessage) -> int | None:
    """Asterisk's own limit on calls (``maxcalls`` in asterisk.conf) by CoreSettings; 0 on the wire is none."""
    told = core.get("coremaxcalls")
    return int(told) or None if told.isascii() and told.isdigit() and len(told) < 10 else None


async def trunk_states(ask: Ask, trunks: AmiTrunks) -> list[TrunkState]:
    """Ask how the trunks are; what the AMI user may not be told is not known, and not missed. Raises LinkLost."""
    if trunks:
        for listing in (DEVICES, REGISTRATIONS):
            answer = await _list(ask, trunks, listing, _leave)
            if answer.response != "Success":
                log.info("trunk_states_not_told", action=listing, reason=answer.phrase("message"))
    return trunks.known


async def ask_again(ask: Ask, trunks: AmiTrunks, tell: Callable[[TrunkState], None]) -> None:
    """Ask what called a trunk down whether it still does, and tell what is new as it is read. Raises LinkLost."""
    for listing in trunks.in_question:
        await _list(ask, trunks, listing, tell)


async def _list(ask: Ask, trunks: AmiTrunks, listing: str, tell: Callable[[TrunkState], None]) -> AmiMessage:
    rows: list[AmiMessage] = []

    def each(row: AmiMessage) -> None:
        rows.append(row)
        # Now, in order with the events around it.
        for state in trunks.take(row):
            tell(state)

    answer = await ask([("Action", listing)], listing, each)
    if listing == REGISTRATIONS:
        for state in trunks.registered(rows):
            tell(state)
    return answer


def _leave(_state: TrunkState) -> None:
    """What is new is in what is known."""
