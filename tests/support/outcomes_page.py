"""docs/outcomes.md, made of the tables in dialerd/pbx/causes.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dialerd.core.outcome import Verdict
from dialerd.pbx.causes import CAUSES, FREESWITCH_CAUSES, NORMAL_CLEARING, SIP_CAUSES, Ending, verdict

ASTERISK_22, ASTERISK_16, FREESWITCH = "Asterisk 22", "Asterisk 16", "FreeSWITCH"
NAMES = {number: name for name, number in FREESWITCH_CAUSES.items()}

_EARLY = Ending(cause=NORMAL_CLEARING, progress=True)
CIRCUMSTANCES = [
    # what happened, how Asterisk tells it, how FreeSWITCH tells it, and what is known then
    ("answered, whoever hung up", "DialEnd `ANSWER`", "CHANNEL_ANSWER", Ending(answered=True)),
    (
        "answered, and the dialplan says by a machine",
        "UserEvent `DialerdMachine`",
        "variable `dialerd_machine` is `true`",
        Ending(answered=True, machine=True),
    ),
    (
        "answered, and the PBX does not know the agent's place",
        "the order is refused before",
        "`NO_ROUTE_DESTINATION` or `DESTINATION_OUT_OF_ORDER`, nothing executed",
        Ending(answered=True, place_refused=True),
    ),
    ("we hung up before an answer", "cause 16", "`NORMAL_CLEARING`", replace(_EARLY, asked=True)),
    ("somebody else did, on the PBX", "cause 16", "`NORMAL_CLEARING`, `MANAGER_REQUEST`", _EARLY),
    (
        "it rang out",
        "Reason 3; behind a `Local/` dial string cause 16 after ringing",
        "`NO_ANSWER` without a status",
        Ending(timed_out=True, progress=True),
    ),
    ("time ran out, and nothing ever rang", "Reason 3", "`NO_ANSWER` without a status", Ending(timed_out=True)),
    (
        "no SIP response at all",
        "cause 18 after SIP's 32 s",
        "a status (503 at a dead port) without `sip_reply_host`",
        Ending(cause=41, replied=False),
    ),
    (
        "no channel: trunk down or unknown",
        "OriginateResponse `Failure`, no channel",
        "the job's `-ERR INVALID_GATEWAY`, `GATEWAY_DOWN`, `CHAN_NOT_IMPLEMENTED` …",
        Ending(channel=False),
    ),
    (
        "no channel: the PBX is full or paused",
        "as a trunk that is down",
        "the job's `-ERR DESTINATION_OUT_OF_ORDER`",
        Ending(channel=False, cause=27),
    ),
    (
        "no channel, and no cause is named",
        "`Response: Error`",
        "the job's `-USAGE` or any other word",
        Ending(channel=False, cause=0),
    ),
]


def of_status(pbx: str, status: int, *, progress: bool = False) -> Verdict:
    """What a call ends in that the far end refuses by a SIP status."""
    asterisk, freeswitch = SIP_CAUSES[status]
    if pbx == FREESWITCH:
        return verdict(Ending(cause=freeswitch, sip_status=status, replied=True, progress=progress))
    return verdict(Ending(cause=asterisk, sip_status=status if pbx == ASTERISK_22 else None, progress=progress))


def page() -> str:
    """The page, whole."""
    return f"""# What a call ended in

Made of the tables in `dialerd/pbx/causes.py`, the same for every PBX. After a change of a table:
`UPDATE_DOCS=1 pytest tests/unit/test_causes.py`. `tests/golden/expected.toml` holds them against real recordings.

An outcome stands with whose fault it was: those of callee and number use up the contact's retries, those of trunk, PBX
and daemon do not.

## By what happened

{_table(["what happened", "Asterisk says", "FreeSWITCH says", "outcome", "fault"], _circumstances())}

## By SIP status

What the far end answered, which cause each PBX makes of it, and what that is to dialerd. Where a Reason header says
another cause, the table below counts.

{_table(["status", "Asterisk's cause", "FreeSWITCH's cause", "outcome", "fault", "on Asterisk 16"], _statuses())}

408 and 504 say no more than that nobody replied somewhere: after ringing they are `no_answer`, the callee's.

What cannot be told apart:

- Asterisk 16 does not tell the status; the last column is what that comes to. A 403 (caller ID, credit, login) looks
  there like a 603 (the callee declined).
- FreeSWITCH gives 503, 500 and a dead port the same cause, 41, and writes a dead port down as a 503. It is known from a
  real 503 only because no response came from anywhere. To Asterisk a dead port is silence: a 408 of its own after 32
  seconds, or our timeout before that, unless the trunk is qualified.
- An Asterisk that is full looks like a trunk that is down.
- Neither PBX tells a Retry-After, and behind `Local/` and `loopback/` dial strings neither tells the status.

## By cause

Up to 127 they are ITU-T Q.850's, above FreeSWITCH's own. An unanswered call with normal clearing (16) or without a
cause is `failed`, by the PBX's fault: nobody outside is blamed for what is not known.

{_table(["cause", "meaning", "FreeSWITCH's name", "outcome", "fault", "but"], _causes())}
"""


def _circumstances() -> Iterable[list[str]]:
    for happened, asterisk, freeswitch, ending in CIRCUMSTANCES:
        yield [happened, asterisk, freeswitch, *_words(verdict(ending))]


def _statuses() -> Iterable[list[str]]:
    for status, (asterisk, freeswitch) in SIP_CAUSES.items():
        told = of_status(ASTERISK_22, status)
        old = of_status(ASTERISK_16, status)
        name = f"{freeswitch} `{NAMES[freeswitch]}`"
        yield [str(status), str(asterisk), name, *_words(told), "" if old == told else ", ".join(_words(old))]


def _causes() -> Iterable[list[str]]:
    for number, row in CAUSES.items():
        unless: dict[Verdict, list[str]] = {}
        for status, other in row.by_sip.items():
            unless.setdefault(other, []).append(str(status))
        but = [f"with SIP {', '.join(statuses)}: {', '.join(_words(other))}" for other, statuses in unless.items()]
        if row.silent is not None:
            but.append(f"in silence: {', '.join(_words(row.silent))}")
        if row.through_dialplan is not None:
            but.append(f"behind `Local/` or `loopback/`: {', '.join(_words(row.through_dialplan))}")
        if row.without_channel is not None:
            but.append(f"without a channel: {', '.join(_words(row.without_channel))}")
        name = f"`{row.freeswitch}`" if row.freeswitch is not None else ""
        yield [str(number), row.name, name, *_words(row.verdict), "; ".join(but)]


def _words(told: Verdict) -> list[str]:
    return [told.outcome.value, told.fault.value]


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
