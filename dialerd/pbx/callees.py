"""What the far ends of the simulated PBX do with a call: settings, seeded draws, and the lab's table by number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType

Draw = Callable[[], float]
"""Draws from [0, 1)."""

_NUMBER = re.compile(r"\+?\d{2,}")
_NO_CONTACT = re.compile(r"(?:^|[/@])(?:dead|nocontact)(?:$|[/@:;])")


Range = tuple[float, float]
"""Seconds, drawn evenly between the two."""


class Behaviour(StrEnum):
    """What a callee, or the carrier before it, does with a call."""

    ANSWER = "answer"
    NO_ANSWER = "no_answer"
    """Rings without end."""
    BUSY = "busy"
    DECLINE = "decline"
    UNAVAILABLE = "unavailable"
    UNKNOWN_NUMBER = "unknown_number"
    INCOMPLETE_NUMBER = "incomplete_number"
    FORBIDDEN = "forbidden"
    CONGESTION = "congestion"
    SERVER_ERROR = "server_error"
    NO_PROGRESS = "no_progress"
    """The carrier says 100 Trying, and nothing more."""
    SILENCE = "silence"
    """No reply at all."""


SIP_STATUS: Mapping[Behaviour, int] = MappingProxyType(
    {
        Behaviour.ANSWER: 200,
        Behaviour.BUSY: 486,
        Behaviour.DECLINE: 603,
        Behaviour.UNAVAILABLE: 480,
        Behaviour.UNKNOWN_NUMBER: 404,
        Behaviour.INCOMPLETE_NUMBER: 484,
        Behaviour.FORBIDDEN: 403,
        Behaviour.CONGESTION: 503,
        Behaviour.SERVER_ERROR: 500,
    }
)
"""The final response of each behaviour that sends one (RFC 3261, section 21)."""

DEFAULT_SHARES: Mapping[Behaviour, float] = MappingProxyType(
    {
        Behaviour.ANSWER: 0.50,
        Behaviour.NO_ANSWER: 0.24,
        Behaviour.BUSY: 0.10,
        Behaviour.DECLINE: 0.04,
        Behaviour.UNAVAILABLE: 0.04,
        Behaviour.UNKNOWN_NUMBER: 0.03,
        Behaviour.CONGESTION: 0.02,
        Behaviour.SERVER_ERROR: 0.01,
        Behaviour.NO_PROGRESS: 0.01,
        Behaviour.SILENCE: 0.01,
    }
)


@dataclass(frozen=True, slots=True)
class SimulatedSettings:
    """The simulated PBX and its callees. Raises ValueError where a value makes no sense.

    ``shares`` need not sum to one. Fields that end in ``_share`` are chances from 0 to 1.
    """

    shares: Mapping[Behaviour, float] = field(default_factory=lambda: DEFAULT_SHARES)
    """Of the calls, how many meet which behaviour; they need not sum to one."""
    by_number: bool = False
    """The number's last two digits choose the behaviour, as at the lab's far end; the rest is drawn by shares."""
    post_dial_seconds: Range = (0.5, 3.0)
    """From the INVITE to the far end's first sign: ringing, or a final refusal."""
    ring_seconds: Range = (2.0, 20.0)
    """How long a callee who answers, or declines, lets it ring."""
    talk_seconds: Range = (5.0, 120.0)
    """From the answer, or the hand-over, to the end."""
    callee_hangs_up_share: float = 0.6
    """Of the conversations, how many the callee ends; the PBX's dialplan ends the others."""
    hand_over_seconds: Range = (0.5, 8.0)
    """From the answer until a member of the queue takes the call."""
    abandon_share: float = 0.05
    """Callers in a queue who leave before anybody takes the call."""
    max_channels: int = 1000
    """Above this the PBX makes no channel."""
    contexts: frozenset[str] | None = None
    """The dialplan contexts that the PBX knows; None: every one."""
    seed: int | None = None
    """None: drawn from the clock."""

    trip_seconds: Range = (0.001, 0.01)
    """One way over the control link, for orders and questions."""
    deadline_seconds: float = 5.0
    """How long the driver waits for an answer of the PBX."""
    ping_seconds: float = 15.0
    """After so long a silence the driver gives a link up."""
    reconnect_seconds: Range = (0.5, 8.0)
    """The driver's first and longest pause between attempts to connect."""
    listing_lag_seconds: float = 0.3
    """A channel younger than this is missing from the live list (FreeSWITCH lags about so much)."""
    link_loss_per_minute: float = 0.0
    """Mean number of lost links per minute of link."""
    outage_seconds: Range = (1.0, 20.0)
    """How long the link stays away after such a loss."""
    keeps_results: bool = True
    """Keep what became of answered calls, for a daemon that was not there to hear it."""
    originate_in_doubt_share: float = 0.0
    """Orders whose receipt never comes; half of them never reached the PBX."""
    lost_event_share: float = 0.0
    """Events that never reach the driver."""
    duplicate_event_share: float = 0.0
    """Events that reach it twice."""
    late_event_share: float = 0.0
    """Events that come late, by ``late_event_seconds``."""
    late_event_seconds: Range = (1.0, 45.0)
    """How late."""
    ledger_size: int = 200_000
    """Entries that the far end's ledger keeps; the oldest are dropped, and counted."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if any(share < 0 for share in self.shares.values()) or not sum(self.shares.values()) > 0:
            raise ValueError("shares: none may be negative, and one must be above 0")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple) and not (len(value) == 2 and 0 <= value[0] <= value[1] < math.inf):
                raise ValueError(f"{item.name}: must be two numbers of seconds, the lower one first")
            if item.name.endswith("_share") and not 0 <= value <= 1:
                raise ValueError(f"{item.name}: must lie between 0 and 1")
        for name in (
            "deadline_seconds",
            "ping_seconds",
            "listing_lag_seconds",
            "link_loss_per_minute",
            "max_channels",
            "ledger_size",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative")


@dataclass(frozen=True, slots=True)
class Script:
    """What the far end does with one call; times in seconds."""

    sip_status: int | None
    """The final response; None: none ever comes."""
    post_dial: float = 0.02
    """From the INVITE to the first sign."""
    rings: bool = False
    ring: float = 0.0
    """From the first sign to the final response."""
    talk: float | None = None
    """From the answer to the end of the conversation; None: nobody ends it."""
    callee_hangs_up: bool = True
    hand_over: float = 0.2
    """From the answer until a member of the queue takes the call, where it waits in one."""
    silent: bool = False
    """Not even 100 Trying: the PBX gives up by itself (RFC 3261, timer B)."""


BY_NUMBER: Mapping[str, Script] = MappingProxyType(
    {
        "00": Script(200, rings=True),
        "01": Script(200, rings=True, talk=1.0),
        "02": Script(200, rings=True, ring=3.0),
        "03": Script(200, rings=True, ring=3.0, talk=1.0),
        "04": Script(200, rings=True, ring=2.0),
        "05": Script(200, rings=True, talk=6.0),
        "06": Script(200, rings=True, talk=3.0),
        "10": Script(486),
        "11": Script(404),
        "12": Script(503),
        "13": Script(None, rings=True),
        "14": Script(None),
        "15": Script(603),
        "16": Script(480),
        "17": Script(484),
        "18": Script(480, rings=True, ring=1.0),
        "19": Script(500),
        "20": Script(None, silent=True),
        "21": Script(403),
        "22": Script(600),
        "23": Script(410),
    }
)
"""By the number's last two digits, the same meaning as at the lab's far end."""


def written(
    dial: str, hands_over: bool, settings: SimulatedSettings, draw: Draw, ill: Behaviour | None = None
) -> Script:
    """Write the script of one call to ``dial``, which goes to a queue where ``hands_over``.

    ``ill``: what the trunk's carrier does with every call now, whoever is called.
    """
    if ill is None and settings.by_number and (script := BY_NUMBER.get(number_in(dial)[-2:])):
        return script
    chosen = _chosen(settings.shares, draw())
    behaviour = chosen if ill is None else ill
    status = SIP_STATUS.get(behaviour)
    # Every draw is made whatever the behaviour, so that changed shares leave the other draws of a call as they were.
    post_dial, ring = drawn(settings.post_dial_seconds, draw), drawn(settings.ring_seconds, draw)
    talk, hand_over = drawn(settings.talk_seconds, draw), drawn(settings.hand_over_seconds, draw)
    callee_hangs_up, abandons = draw() < settings.callee_hangs_up_share, draw() < settings.abandon_share
    if hands_over:
        talk = hand_over * draw() if abandons else hand_over + talk
    rings = behaviour in (Behaviour.ANSWER, Behaviour.NO_ANSWER, Behaviour.DECLINE)
    return Script(
        sip_status=status,
        post_dial=post_dial,
        rings=rings,
        ring=ring if rings else 0.0,
        talk=talk,
        callee_hangs_up=callee_hangs_up or (hands_over and abandons),
        hand_over=hand_over,
        silent=behaviour is Behaviour.SILENCE,
    )


def drawn(seconds: Range, draw: Draw) -> float:
    """Draw from a range of seconds."""
    low, high = seconds
    return low + (high - low) * draw()


def number_in(dial: str) -> str:
    """Find the dialled number in a dial string: its longest run of digits, without a plus; empty where none is."""
    return max((found.lstrip("+") for found in _NUMBER.findall(dial)), key=len, default="")


def trunk_in(dial: str, number: str | None = None) -> str:
    """Write a dial string with ``{number}`` in the number's place: the same for all calls through one trunk.

    ``number``: what is dialled, where it was found already.
    """
    number = number_in(dial) if number is None else number
    if not number:
        return dial
    before, _, after = dial.partition(number)
    return f"{before.removesuffix('+')}{{number}}{after}"


def has_contact(dial: str) -> bool:
    """Whether the trunk can be reached: an endpoint named ``dead`` or ``nocontact`` cannot."""
    return _NO_CONTACT.search(dial) is None


def _chosen(shares: Mapping[Behaviour, float], point: float) -> Behaviour:
    """Find the behaviour at a point from 0 to 1 on the line of all shares."""
    rest = point * sum(shares.values())
    candidates = [(behaviour, share) for behaviour, share in shares.items() if share > 0]
    for behaviour, share in candidates:
        rest -= share
        if rest < 0:
            return behaviour
    return candidates[-1][0]
