"""From Q.850 cause, SIP status and circumstances to an outcome and whose fault it was: one table for both kinds of PBX.

Sources: ITU-T Q.850 (the causes), RFC 3261 (the statuses), RFC 3398 and the PBXs' own mappings (which status becomes
which cause), FreeSWITCH's switch_types.h (its names, and its own causes above 127), and recordings of real PBXs
(tests/golden). docs/outcomes.md is made of these tables.
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
    """Q.850 cause, or FreeSWITCH's own above 127; None (or 0 on Asterisk's wire) where the PBX gave none."""
    sip_status: int | None = None
    """The final SIP status, where the PBX tells it and it came from the far end."""
    replied: bool | None = None
    """Whether any SIP response came back; None where the PBX does not tell (Asterisk)."""
    machine: bool = False
    """The dialplan said that a machine had answered."""
    place_refused: bool = False
    """The PBX hung an answered call up itself because it does not know the place that the call should go to."""
    through_dialplan: bool = False
    """The channel is a Local or a loopback one: the dialplan behind it dialled, and chose the cause."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A row of the table: what a cause means, and where a SIP status or silence makes it mean something else."""

    name: str
    freeswitch: str | None
    """FreeSWITCH's name; None: it has no such cause."""
    verdict: Verdict
    by_sip: Mapping[int, Verdict] = field(default_factory=dict)
    silent: Verdict | None = None
    """Where nothing at all came back from the far end but (perhaps) a timeout: no ringing, no early media."""
    without_channel: Verdict | None = None
    """Where the PBX named the cause and made no channel."""
    through_dialplan: Verdict | None = None
    """Where the PBX's own dialplan dialled: it may be that which knows no way, whatever the number."""


ANSWERED = Verdict(Outcome.ANSWERED, Fault.NONE)
MACHINE = Verdict(Outcome.MACHINE, Fault.NONE)
CANCELLED = Verdict(Outcome.CANCELLED, Fault.NONE)
BUSY = Verdict(Outcome.BUSY, Fault.CALLEE)
NO_ANSWER = Verdict(Outcome.NO_ANSWER, Fault.CALLEE)
REJECTED = Verdict(Outcome.REJECTED, Fault.CALLEE)
REJECTED_BY_TRUNK = Verdict(Outcome.REJECTED, Fault.TRUNK)
"""The carrier refuses our caller ID, credit or login."""
INVALID_NUMBER = Verdict(Outcome.INVALID_NUMBER, Fault.NUMBER)
UNREACHABLE = Verdict(Outcome.UNREACHABLE, Fault.TRUNK)
CONGESTION = Verdict(Outcome.CONGESTION, Fault.TRUNK)
FAILED_BY_TRUNK = Verdict(Outcome.FAILED, Fault.TRUNK)
FAILED_BY_PBX = Verdict(Outcome.FAILED, Fault.PBX)
PBX_FULL = Verdict(Outcome.CONGESTION, Fault.PBX)
"""The PBX takes no more calls: over its own ceilings, or paused."""
PLACE_REFUSED = Verdict(Outcome.ABANDONED, Fault.PBX)
"""Answered, and dropped by the PBX, which does not know the place that the order named."""

_SILENCE_STATUSES = frozenset({None, 408, 504})
"""The statuses that say no more than that nobody replied: 408 is also what a PBX writes for its own SIP timer B."""
_REDIRECTS = dict.fromkeys((300, 301, 302, 305, 380), FAILED_BY_TRUNK)
_NO_CREDENTIAL = dict.fromkeys((401, 402, 403, 407, 428, 429, 437, 438, 608), REJECTED_BY_TRUNK)
"""The carrier refuses who we are: login, credit, caller ID and its signature (RFC 8224), or analytics (RFC 8688)."""

CAUSES: Mapping[int, Cause] = {
    1: Cause("unallocated number", "UNALLOCATED_NUMBER", INVALID_NUMBER),
    2: Cause("no route to transit network", "NO_ROUTE_TRANSIT_NET", UNREACHABLE),
    3: Cause(
        "no route to destination",
        "NO_ROUTE_DESTINATION",
        INVALID_NUMBER,
        {420: FAILED_BY_TRUNK},
        through_dialplan=UNREACHABLE,
    ),
    5: Cause("misdialled trunk prefix", None, INVALID_NUMBER),
    6: Cause("channel unacceptable", "CHANNEL_UNACCEPTABLE", FAILED_BY_TRUNK),
    7: Cause("call awarded and delivered", "CALL_AWARDED_DELIVERED", FAILED_BY_TRUNK),
    8: Cause("preemption", None, CONGESTION),
    14: Cause("ported number", None, INVALID_NUMBER),
    17: Cause("user busy", "USER_BUSY", BUSY),
    18: Cause("no user responding", "NO_USER_RESPONSE", NO_ANSWER, silent=UNREACHABLE),
    19: Cause("user alerting, no answer", "NO_ANSWER", NO_ANSWER, {483: UNREACHABLE}),
    20: Cause("subscriber absent", "SUBSCRIBER_ABSENT", NO_ANSWER),
    21: Cause("call rejected", "CALL_REJECTED", REJECTED, _NO_CREDENTIAL),
    22: Cause("number changed", "NUMBER_CHANGED", INVALID_NUMBER),
    23: Cause("redirected to a new destination", "REDIRECTION_TO_NEW_DESTINATION", FAILED_BY_TRUNK),
    25: Cause("exchange routing error", "EXCHANGE_ROUTING_ERROR", UNREACHABLE),
    26: Cause("answered elsewhere", None, NO_ANSWER),
    27: Cause(
        "destination out of order", "DESTINATION_OUT_OF_ORDER", UNREACHABLE, {502: CONGESTION}, without_channel=PBX_FULL
    ),
    28: Cause("invalid number format", "INVALID_NUMBER_FORMAT", INVALID_NUMBER),
    29: Cause("facility rejected", "FACILITY_REJECTED", REJECTED_BY_TRUNK, {501: FAILED_BY_TRUNK}),
    30: Cause("response to status enquiry", "RESPONSE_TO_STATUS_ENQUIRY", FAILED_BY_TRUNK),
    31: Cause("normal, unspecified", "NORMAL_UNSPECIFIED", FAILED_BY_TRUNK),
    34: Cause(
        "no circuit available", "NORMAL_CIRCUIT_CONGESTION", CONGESTION, {504: UNREACHABLE, 513: FAILED_BY_TRUNK}
    ),
    38: Cause("network out of order", "NETWORK_OUT_OF_ORDER", CONGESTION),
    41: Cause(
        "temporary failure", "NORMAL_TEMPORARY_FAILURE", CONGESTION, {400: FAILED_BY_TRUNK, 481: FAILED_BY_TRUNK}
    ),
    42: Cause("switch congestion", "SWITCH_CONGESTION", CONGESTION),
    43: Cause("access information discarded", "ACCESS_INFO_DISCARDED", FAILED_BY_TRUNK),
    44: Cause("requested channel unavailable", "REQUESTED_CHAN_UNAVAIL", CONGESTION, _REDIRECTS),
    45: Cause("pre-empted", "PRE_EMPTED", CONGESTION),
    47: Cause("resource unavailable", None, CONGESTION),
    50: Cause("facility not subscribed", "FACILITY_NOT_SUBSCRIBED", REJECTED_BY_TRUNK),
    52: Cause("outgoing call barred", "OUTGOING_CALL_BARRED", REJECTED_BY_TRUNK),
    54: Cause("incoming call barred", "INCOMING_CALL_BARRED", REJECTED),
    57: Cause("bearer capability not authorised", "BEARERCAPABILITY_NOTAUTH", REJECTED_BY_TRUNK),
    58: Cause("bearer capability not available", "BEARERCAPABILITY_NOTAVAIL", FAILED_BY_TRUNK),
    63: Cause("service unavailable", "SERVICE_UNAVAILABLE", CONGESTION, {405: FAILED_BY_TRUNK}),
    65: Cause("bearer capability not implemented", "BEARERCAPABILITY_NOTIMPL", FAILED_BY_TRUNK),
    66: Cause("channel type not implemented", "CHAN_NOT_IMPLEMENTED", UNREACHABLE),
    69: Cause("facility not implemented", "FACILITY_NOT_IMPLEMENTED", FAILED_BY_TRUNK),
    79: Cause("service not implemented", "SERVICE_NOT_IMPLEMENTED", FAILED_BY_TRUNK),
    81: Cause("invalid call reference", "INVALID_CALL_REFERENCE", FAILED_BY_TRUNK),
    88: Cause("incompatible destination", "INCOMPATIBLE_DESTINATION", FAILED_BY_TRUNK),
    95: Cause("invalid message", "INVALID_MSG_UNSPECIFIED", FAILED_BY_TRUNK),
    96: Cause("mandatory information missing", "MANDATORY_IE_MISSING", FAILED_BY_TRUNK),
    97: Cause("message type unknown", "MESSAGE_TYPE_NONEXIST", FAILED_BY_TRUNK),
    98: Cause("message out of place", "WRONG_MESSAGE", FAILED_BY_TRUNK),
    99: Cause("information element unknown", "IE_NONEXIST", FAILED_BY_TRUNK),
    100: Cause("invalid information element", "INVALID_IE_CONTENTS", FAILED_BY_TRUNK),
    101: Cause("message out of place in this state", "WRONG_CALL_STATE", FAILED_BY_TRUNK),
    102: Cause("recovery on timer expiry", "RECOVERY_ON_TIMER_EXPIRE", NO_ANSWER, silent=UNREACHABLE),
    103: Cause("information element length error", "MANDATORY_IE_LENGTH_ERROR", FAILED_BY_TRUNK),
    111: Cause("protocol error", "PROTOCOL_ERROR", FAILED_BY_TRUNK),
    127: Cause("interworking", "INTERWORKING", FAILED_BY_TRUNK, {**_NO_CREDENTIAL, 482: UNREACHABLE, 607: REJECTED}),
    487: Cause("cancelled by the originator", "ORIGINATOR_CANCEL", FAILED_BY_PBX, {487: FAILED_BY_TRUNK}),
    700: Cause("crash", "CRASH", FAILED_BY_PBX),
    701: Cause("the PBX shuts down", "SYSTEM_SHUTDOWN", FAILED_BY_PBX),
    702: Cause("another leg was first", "LOSE_RACE", FAILED_BY_PBX),
    703: Cause("hung up by an administrator", "MANAGER_REQUEST", FAILED_BY_PBX),
    800: Cause("blind transfer", "BLIND_TRANSFER", FAILED_BY_PBX),
    801: Cause("attended transfer", "ATTENDED_TRANSFER", FAILED_BY_PBX),
    802: Cause("its time ran out", "ALLOTTED_TIMEOUT", NO_ANSWER, silent=UNREACHABLE),
    803: Cause("login asked for", "USER_CHALLENGE", REJECTED_BY_TRUNK),
    804: Cause("no media", "MEDIA_TIMEOUT", FAILED_BY_TRUNK),
    805: Cause("picked off", "PICKED_OFF", FAILED_BY_PBX),
    806: Cause("user not registered", "USER_NOT_REGISTERED", UNREACHABLE),
    807: Cause("no progress in time", "PROGRESS_TIMEOUT", UNREACHABLE),
    808: Cause("unknown gateway", "INVALID_GATEWAY", UNREACHABLE),
    809: Cause("gateway down", "GATEWAY_DOWN", UNREACHABLE),
    810: Cause("dial string without sense", "INVALID_URL", UNREACHABLE),
    811: Cause("unknown SIP profile", "INVALID_PROFILE", UNREACHABLE),
    812: Cause("no pickup", "NO_PICKUP", FAILED_BY_PBX),
    813: Cause("SRTP read error", "SRTP_READ_ERROR", FAILED_BY_TRUNK),
    814: Cause("loopback bowed out", "BOWOUT", FAILED_BY_PBX),
    815: Cause("busy everywhere", "BUSY_EVERYWHERE", BUSY),
    816: Cause("declined", "DECLINE", REJECTED),
    817: Cause("exists nowhere", "DOES_NOT_EXIST_ANYWHERE", INVALID_NUMBER),
    818: Cause("not acceptable anywhere", "NOT_ACCEPTABLE", FAILED_BY_TRUNK),
    819: Cause("unwanted (RFC 8197)", "UNWANTED", REJECTED),
    820: Cause("no identity (RFC 8224)", "NO_IDENTITY", REJECTED_BY_TRUNK),
    821: Cause("bad identity", "BAD_IDENTITY_INFO", REJECTED_BY_TRUNK),
    822: Cause("unsupported certificate", "UNSUPPORTED_CERTIFICATE", REJECTED_BY_TRUNK),
    823: Cause("invalid identity", "INVALID_IDENTITY", REJECTED_BY_TRUNK),
    824: Cause("stale date", "STALE_DATE", REJECTED_BY_TRUNK),
    825: Cause("rejects all calls", "REJECT_ALL", REJECTED),
}
"""Every cause of an unanswered call but normal clearing (16), which says only that somebody hung up.

Up to 127 they are Q.850's, above FreeSWITCH's own.
"""

NORMAL_CLEARING = 16
NO_ROOM = 27
"""What FreeSWITCH names where it makes no channel for want of room, whatever the number."""
FREESWITCH_CAUSES: Mapping[str, int] = {
    "NORMAL_CLEARING": NORMAL_CLEARING,
    **{row.freeswitch: number for number, row in CAUSES.items() if row.freeswitch is not None},
}
"""What FreeSWITCH's names stand for."""

SIP_CAUSES: Mapping[int, tuple[int, int]] = {
    302: (23, 44),
    400: (127, 41),
    401: (21, 21),
    402: (127, 21),
    403: (21, 21),
    404: (1, 1),
    405: (127, 63),
    406: (127, 79),
    407: (21, 21),
    408: (18, 102),
    410: (22, 22),
    413: (127, 127),
    414: (127, 127),
    415: (127, 79),
    416: (127, 127),
    420: (3, 127),
    421: (127, 127),
    423: (127, 127),
    428: (127, 820),
    429: (127, 821),
    437: (127, 822),
    438: (127, 823),
    480: (19, 18),
    481: (127, 41),
    482: (127, 25),
    483: (19, 25),
    484: (28, 28),
    485: (1, 3),
    486: (17, 17),
    487: (127, 487),
    488: (58, 88),
    491: (127, 31),
    493: (127, 31),
    500: (38, 41),
    501: (29, 79),
    502: (27, 38),
    503: (34, 41),
    504: (102, 102),
    505: (127, 127),
    513: (34, 127),
    600: (17, 17),
    603: (21, 21),
    604: (1, 3),
    606: (58, 88),
    607: (127, 819),
    608: (127, 21),
}
"""Which cause Asterisk (res_pjsip.c, ``ast_sip_hangup_sip2cause``) and FreeSWITCH (sofia_glue.c,
``sofia_glue_sip_cause_to_freeswitch``) make of a SIP status where no Reason header (RFC 3326) says another."""

_OURS_WHEN_ASKED = frozenset({None, NORMAL_CLEARING, 31, 127, 487, 702, 703})
"""Causes that a hangup of our own leaves on an unanswered channel: 16, 127 or 487 where SIP 487 is mapped, and kin."""


def verdict(ending: Ending) -> Verdict:
    """Name the outcome of a call and whose fault it was. Never blames the callee for what is not known."""
    if ending.answered:
        return MACHINE if ending.machine else PLACE_REFUSED if ending.place_refused else ANSWERED
    if not ending.channel:
        return _without_channel(ending.cause)
    if ending.asked and ending.cause in _OURS_WHEN_ASKED:
        return CANCELLED
    if ending.timed_out:
        # Our own timeout bears cause 19 and status 480 on Asterisk 22, like a real 480: both say nothing here.
        return NO_ANSWER if ending.progress else UNREACHABLE
    row = CAUSES.get(ending.cause) if ending.cause is not None else None
    if row is None:
        return _without_cause(ending)
    if ending.through_dialplan and row.through_dialplan is not None:
        return row.through_dialplan
    if ending.replied is False and row.verdict.fault is not Fault.PBX:
        # FreeSWITCH writes a dead port down as a 503 that nobody sent.
        return UNREACHABLE
    if ending.sip_status is not None and ending.sip_status in row.by_sip:
        return row.by_sip[ending.sip_status]
    if row.silent is not None and not ending.progress and ending.sip_status in _SILENCE_STATUSES:
        return row.silent
    return row.verdict


def _without_cause(ending: Ending) -> Verdict:
    if ending.through_dialplan and ending.cause == NORMAL_CLEARING and ending.progress:
        # Asterisk 22.10 and 16.28: a Dial() in the dialplan that rang out leaves normal clearing, and no word of why.
        return NO_ANSWER
    return FAILED_BY_PBX


def _without_channel(cause: int | None) -> Verdict:
    """Nothing left towards the callee, so neither callee nor number is to blame, whatever the cause is called."""
    if cause is None:
        return UNREACHABLE
    row = CAUSES.get(cause)
    if row is None:
        return FAILED_BY_PBX
    if row.without_channel is not None:
        return row.without_channel
    return row.verdict if row.verdict.fault in (Fault.TRUNK, Fault.PBX) else UNREACHABLE
