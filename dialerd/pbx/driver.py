"""The protocol that every PBX driver fulfils: originate, hang up, list what lives, and tell events in our few words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Verdict


class LinkState(StrEnum):
    """The state of the control link to a PBX."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    UP = "up"
    """Logged in, and the PBX tells what happens. Whether it takes calls now is told by :class:`Ceilings`."""
    REFUSED = "refused"
    """The PBX answers, and refuses the login or the rights we need; tried again slowly."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answered call goes: a dialplan place, an application with its data, or a queue. Exactly one is set."""

    context: str | None = None
    exten: str | None = None
    priority: int = 1
    application: str | None = None
    data: str = ""
    queue: str | None = None
    """The queue's name; each driver knows its PBX's application for it."""


@dataclass(frozen=True, slots=True)
class Originate:
    """One order to place a call.

    ``dial`` is the trunk's dial string with the number already put in by routing. ``variables`` are final channel
    variable names (``DIALERD_…``, ``CONTACT_…``, ``CAMPAIGN_…``) and are inherited by the legs that the channel
    makes. ``setup_seconds`` bounds the wait for an answer as the PBX measures it, from the originate on: the backstop
    behind our own ring timer. ``max_call_seconds`` is enforced by the PBX too, in case the daemon is gone.
    """

    call_id: str
    dial: str
    caller_id: str | None
    place: Place
    setup_seconds: float
    max_call_seconds: int
    variables: Mapping[str, str] = field(default_factory=dict)
    hands_over: bool = False
    """The place is a queue: the driver tells :class:`HandedOver` when a member takes the call."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The PBX took the order; events will tell."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The order did not become a call, for sure: it was not sent, or the PBX said no. ``verdict`` says whose fault."""

    reason: str
    verdict: Verdict
    place_refused: bool = False
    """The PBX does not know the place the answered call should go to (unknown context, extension, application), or
    cannot be told a variable of the campaign's: every call of it would be refused alike."""
    pbx_closed: bool = False
    """The PBX takes no call of anybody at present: it shuts down, or its link has just gone. This one was all right."""


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The order may have been sent and nobody knows what became of it: ask the live list, never send again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Dialling:
    """The channel exists: from here on a call may have reached the trunk."""

    call_id: str


@dataclass(frozen=True, slots=True)
class Ringing:
    """The callee's side rings, or sends early media."""

    call_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """Answer supervision."""

    call_id: str


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A person (or member of a queue) took the answered call."""

    call_id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over and its channel gone. Told once per call, and last.

    ``channel`` is False where the PBX never made a channel: nothing left towards the callee.
    """

    call_id: str
    verdict: Verdict
    hangup_cause: int | None = None
    """Q.850 cause."""
    hangup_text: str | None = None
    sip_status: int | None = None
    hung_up_by: HungUpBy | None = None
    channel: bool = True
    talk_seconds: float | None = None
    """Seconds from the answer to the hangup as the PBX counted them, where it tells: right even where heard late."""
    place_refused: bool = False
    """Answered, and hung up by the PBX because it does not know the place that the call should go to."""
    retry_after: float | None = None
    """Seconds after which the far end wants to be asked again (RFC 3261, 20.33), where the PBX shows it."""


@dataclass(frozen=True, slots=True)
class TrunkState:
    """The PBX's own word on a trunk: told after LinkUp for each trunk that it knows, and at each change."""

    trunk: str
    up: bool
    reason: str
    """In words for an administrator, as the PBX puts it: what it was told by."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Logged in and ready. Whatever happened on the PBX before this was not heard."""

    version: str
    max_channels: int | None = None
    """The PBX's own ceiling of channels at once (Asterisk's maxcalls, FreeSWITCH's max-sessions); None: none."""
    max_calls_per_second: float | None = None
    """The PBX's own ceiling of new calls a second (FreeSWITCH's sessions-per-second); None: none."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the PBX takes by its own word: told at each change while the link is up, and behind LinkUp if it is closed.

    The first two are LinkUp's.
    """

    max_channels: int | None = None
    max_calls_per_second: float | None = None
    closed: str | None = None
    """Why it takes no new call of anybody: it is paused, or shuts down. Calls in flight go on. None: it takes them."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link is gone or was refused. Told once per change of reason; the driver goes on trying by itself."""

    reason: str
    refused: bool = False


CallEvent = Dialling | Ringing | Answered | HandedOver | Ended
PbxEvent = CallEvent | TrunkState | LinkUp | Ceilings | LinkDown
Sink = Callable[[PbxEvent], None]
"""Takes an event at once, on the event loop, and never raises or waits."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a PBX kept of an answered call, for whoever was not there to hear its end."""

    ended: Ended
    """``talk_seconds`` where the PBX counted them."""
    ended_at: datetime
    """By the PBX's own clock."""
    handed_over: bool
    """A member of the queue took it; True also where the place was none."""


class ChannelState(StrEnum):
    """The state of a live channel, as far as it matters to recovery."""

    DIALLING = "dialling"
    RINGING = "ringing"
    UP = "up"


@dataclass(frozen=True, slots=True)
class LiveChannel:
    """A live channel that bears one of our call ids."""

    call_id: str
    state: ChannelState
    seconds: float
    """Seconds since the channel was made, as the PBX counts them."""


class LinkLost(Exception):
    """The link went, or a deadline passed, before the PBX answered a question."""


class PbxDriver(Protocol):
    """A connection to one PBX. It keeps its link by itself, and tells the sink what happens, in order per call."""

    @property
    def state(self) -> LinkState:
        """The link's state now."""

    @property
    def reason(self) -> str | None:
        """Why the link is not up, in words for an administrator; None while it is up."""

    async def start(self, sink: Sink) -> None:
        """Begin to connect, and return at once; LinkUp or LinkDown follow."""

    async def stop(self) -> None:
        """Close the link. Calls go on. No event comes after this returns."""

    async def originate(self, order: Originate) -> Accepted | Refused | InDoubt:
        """Send one order and wait for the PBX's receipt, at most the driver's deadline. Never sends twice.

        Events of the call may come before this returns.
        """

    async def hangup(self, call_id: str) -> bool:
        """Ask the PBX to hang a call up. True: asked; the Ended follows. False: it knows no such channel.

        Raises LinkLost where the PBX could not be asked.
        """

    async def live(self) -> tuple[LiveChannel, ...]:
        """List the live channels that bear ids of ours (as far as the driver can tell). Raises LinkLost.

        Listed channels that the driver did not know are followed from then on: their events come to the sink.
        """

    def ending(self, call_id: str) -> bool:
        """Whether the PBX has begun to tell a call's end: its Ended follows by itself, though no listing shows it."""

    async def kept(self, call_ids: Collection[str]) -> Mapping[str, Kept]:
        """What the PBX kept of those of these calls that were answered and have ended. Raises LinkLost.

        Empty where it keeps nothing. A call that is missing from :meth:`live` has been kept by then, if it ever is.
        """

    def discard(self, call_ids: Collection[str]) -> None:
        """The ends of these calls are in our own store: let the PBX delete what it kept of them. Never waits."""

    def forget(self, call_id: str) -> None:
        """Drop what the driver remembers of a call that was settled without an Ended."""

    async def watch(self, trunks: Mapping[str, str]) -> None:
        """Tell the state of these trunks from now on, dial strings by their ids, and of no others.

        What the PBX knows of them is told at once, or behind the next LinkUp.
        """
