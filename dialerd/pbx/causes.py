"""From Q.850 cause, SIP status and circumstances to an outcome and whose fault it was: one table for both kinds of PBX.

Sources: ITU-T Q.850 (the causes), RFC 3261 (the statuses), RFC 3398 and the PBXs' own mappings (which status becomes
which cause), and recordings of real PBXs (tests/golden).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dialerd.core.outcome import Fault, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of how a call ended."""

    answered: bool = False
    progress: bool = False
    """The callee's side rang or sent early media."""
    channel: bool = True
    """The PBX made a channel; without one nothing left towards the callee."""
    asked: bool = False
    """We asked for the hangup."""
    timed_out: bool = False
    """The PBX gave up waiting for an answer, as the order told it to."""
    cause: int | None = None
    """Q.850 cause; None (or 0 on the wire) where the PBX gave none."""
    sip_status: int | None = None
    """The final SIP status, where the PBX tells it and it came from the far end."""
    through_dialplan: bool = False
    """The channel is a Local one: the dialplan behind it dialled, and chose the cause."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A row of the table: what a cause means, and where a SIP status or silence makes it mean something else."""

    name: str
    verdict: Verdict
    by_sip: Mapping[int, Verdict] = field(default_factory=dict)
    silent: Verdict | None = None
    """Where nothing at all came back from the far end but (perhaps) a timeout: no ringing, no early media."""


def _row(
    name: str,
    outcome: Outcome,
    fault: Fault,
    by_sip: Mapping[int, Verdict] | None = None,
    silent: Verdict | None = None,
) -> Cause:
    return Cause(name, Verdict(outcome, fault), by_sip or {}, silent)


ANSWERED = Verdict(Outcome.ANSWERED, Fault.NONE)
CANCELLED = Verdict(Outcome.CANCELLED, Fault.NONE)
NO_ANSWER = Verdict(Outcome.NO_ANSWER, Fault.CALLEE)
UNREACHABLE = Verdict(Outcome.UNREACHABLE, Fault.TRUNK)
CONGESTION = Verdict(Outcome.CONGESTION, Fault.TRUNK)
REJECTED_BY_TRUNK = Verdict(Outcome.REJECTED, Fault.TRUNK)
"""The carrier refuses our caller ID, credit or login."""
INVALID_NUMBER = Verdict(Outcome.INVALID_NUMBER, Fault.NUMBER)
FAILED_BY_TRUNK = Verdict(Outcome.FAILED, Fault.TRUNK)
FAILED_BY_PBX = Verdict(Outcome.FAILED, Fault.PBX)

_SILENCE_STATUSES = frozenset({None, 408, 504})
"""The statuses that say no more than that nobody replied: 408 is also what a PBX writes for its own SIP timer B."""

CAUSES: Mapping[int, Cause] = {
    1: _row("unallocated number", Outcome.INVALID_NUMBER, Fault.NUMBER),
    2: _row("no route to transit network", Outcome.UNREACHABLE, Fault.TRUNK),
    3: _row("no route to destination", Outcome.INVALID_NUMBER, Fault.NUMBER, {420: FAILED_BY_TRUNK}),
    5: _row("misdialled trunk prefix", Outcome.INVALID_NUMBER, Fault.NUMBER),
    6: _row("channel unacceptable", Outcome.FAILED, Fault.TRUNK),
    7: _row("call awarded and delivered", Outcome.FAILED, Fault.TRUNK),
    8: _row("preemption", Outcome.CONGESTION, Fault.TRUNK),
    14: _row("ported number", Outcome.INVALID_NUMBER, Fault.NUMBER),
    17: _row("user busy", Outcome.BUSY, Fault.CALLEE),
    18: _row("no user responding", Outcome.NO_ANSWER, Fault.CALLEE, silent=UNREACHABLE),
    19: _row("user alerting, no answer", Outcome.NO_ANSWER, Fault.CALLEE, {483: UNREACHABLE}),
    20: _row("subscriber absent", Outcome.NO_ANSWER, Fault.CALLEE),
    21: _row(
        "call rejected",
        Outcome.REJECTED,
        Fault.CALLEE,
        {401: REJECTED_BY_TRUNK, 403: REJECTED_BY_TRUNK, 407: REJECTED_BY_TRUNK},
    ),
    22: _row("number changed", Outcome.INVALID_NUMBER, Fault.NUMBER),
    23: _row("redirected to a new destination", Outcome.FAILED, Fault.TRUNK),
    26: _row("answered elsewhere", Outcome.NO_ANSWER, Fault.CALLEE),
    27: _row("destination out of order", Outcome.UNREACHABLE, Fault.TRUNK, {502: CONGESTION}),
    28: _row("invalid number format", Outcome.INVALID_NUMBER, Fault.NUMBER),
    29: _row("facility rejected", Outcome.REJECTED, Fault.TRUNK),
    30: _row("response to status enquiry", Outcome.FAILED, Fault.TRUNK),
    31: _row("normal, unspecified", Outcome.FAILED, Fault.TRUNK),
    34: _row("no circuit available", Outcome.CONGESTION, Fault.TRUNK, {504: UNREACHABLE}),
    38: _row("network out of order", Outcome.CONGESTION, Fault.TRUNK),
    41: _row("temporary failure", Outcome.CONGESTION, Fault.TRUNK),
    42: _row("switch congestion", Outcome.CONGESTION, Fault.TRUNK),
    43: _row("access information discarded", Outcome.FAILED, Fault.TRUNK),
    44: _row("requested channel unavailable", Outcome.CONGESTION, Fault.TRUNK),
    47: _row("resource unavailable", Outcome.CONGESTION, Fault.TRUNK),
    50: _row("facility not subscribed", Outcome.REJECTED, Fault.TRUNK),
    52: _row("outgoing call barred", Outcome.REJECTED, Fault.TRUNK),
    54: _row("incoming call barred", Outcome.REJECTED, Fault.CALLEE),
    57: _row("bearer capability not authorised", Outcome.REJECTED, Fault.TRUNK),
    58: _row("bearer capability not available", Outcome.FAILED, Fault.TRUNK),
    63: _row("service unavailable", Outcome.CONGESTION, Fault.TRUNK),
    65: _row("bearer capability not implemented", Outcome.FAILED, Fault.TRUNK),
    66: _row("channel type not implemented", Outcome.UNREACHABLE, Fault.TRUNK),
    69: _row("facility not implemented", Outcome.FAILED, Fault.TRUNK),
    79: _row("service not implemented", Outcome.FAILED, Fault.TRUNK),
    81: _row("invalid call reference", Outcome.FAILED, Fault.TRUNK),
    88: _row("incompatible destination", Outcome.FAILED, Fault.TRUNK),
    95: _row("invalid message", Outcome.FAILED, Fault.TRUNK),
    96: _row("mandatory information missing", Outcome.FAILED, Fault.TRUNK),
    97: _row("message type unknown", Outcome.FAILED, Fault.TRUNK),
    98: _row("message out of place", Outcome.FAILED, Fault.TRUNK),
    99: _row("information element unknown", Outcome.FAILED, Fault.TRUNK),
    100: _row("invalid information element", Outcome.FAILED, Fault.TRUNK),
    101: _row("message out of place in this state", Outcome.FAILED, Fault.TRUNK),
    102: _row("recovery on timer expiry", Outcome.NO_ANSWER, Fault.CALLEE, silent=UNREACHABLE),
    103: _row("information element length error", Outcome.FAILED, Fault.TRUNK),
    111: _row("protocol error", Outcome.FAILED, Fault.TRUNK),
    127: _row("interworking", Outcome.FAILED, Fault.TRUNK, {607: Verdict(Outcome.REJECTED, Fault.CALLEE)}),
}
"""Every cause of an unanswered call but normal clearing (16), which says only that somebody hung up."""

_OURS_WHEN_ASKED = frozenset({None, 16, 31, 127})
"""Causes that a hangup of our own leaves on an unanswered channel: 16 on Asterisk, 127 where SIP 487 is mapped."""


def verdict(ending: Ending) -> Verdict:
    """Name the outcome of a call and whose fault it was. Never blames the callee for what is not known."""
    if ending.answered:
        return ANSWERED
    if not ending.channel:
        return UNREACHABLE
    if ending.asked and ending.cause in _OURS_WHEN_ASKED:
        return CANCELLED
    if ending.timed_out:
        # Our own timeout bears cause 19 and status 480 on Asterisk 22, like a real 480: both say nothing here.
        return NO_ANSWER if ending.progress else UNREACHABLE
    row = CAUSES.get(ending.cause) if ending.cause is not None else None
    if row is None:
        return _without_cause(ending)
    if ending.sip_status is not None and ending.sip_status in row.by_sip:
        return row.by_sip[ending.sip_status]
    if row.silent is not None and not ending.progress and ending.sip_status in _SILENCE_STATUSES:
        return row.silent
    return row.verdict


def _without_cause(ending: Ending) -> Verdict:
    if ending.through_dialplan and ending.cause == 16 and ending.progress:
        # Asterisk 22.10 and 16.28: a Dial() in the dialplan that rang out leaves normal clearing, and no word of why.
        return NO_ANSWER
    return FAILED_BY_PBX
