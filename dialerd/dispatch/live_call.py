"""A call between journal and hangup as it is followed: what is known of it, what we want of it, what it ended in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dialerd.clock import Timer
from dialerd.core.model import Call, Contact
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.core.settings import CampaignSettings
from dialerd.pbx import causes
from dialerd.pbx.driver import Ended


class Goal(StrEnum):
    """Why we hang a call up."""

    SETUP = "setup"
    ANSWER_TIMEOUT = "answer_timeout"
    CALL_LIMIT = "call_limit"
    STOP = "stop"


@dataclass(slots=True)
class LiveCall:
    """A call between journal and hangup."""

    call: Call
    contact: Contact
    settings: CampaignSettings
    setup_seconds: float
    hands_over: bool = False
    stopped: bool = False
    """Its campaign has ended: nothing of it comes back."""
    sent_at: float | None = None
    """When (monotonic) the order went to the PBX, at the latest; None: it did not yet."""
    taken_up: bool = False
    """It was in flight before this process began, which does not know when exactly it was sent."""
    heard_at: float = 0.0
    """When (monotonic) the PBX last told of it."""
    unheard: bool = False
    """Its link was gone for a while, or a process before this one followed it: something may not have been heard."""
    end: Ended | None = None
    """Its end as it was told, while its PBX is asked what it kept of the call."""
    goal: Goal | None = None
    """Why it is to be hung up, from the moment on in which that was due."""
    asked: bool = False
    """The PBX was asked to hang it up."""
    probe: bool = False
    """It tries a suspended trunk."""
    place_refused: str | None = None
    """What the PBX said that hung it up because it does not know where the answered call should go."""
    arrived: Callable[..., None] | None = None
    """Hears of the first sign of the call: its order is not under way any more."""
    timers: list[Timer] = field(default_factory=list)

    def heard(self, now: float) -> None:
        """The PBX told of it, at this moment (monotonic)."""
        self.heard_at = now
        if self.arrived is not None:
            self.arrived()
            self.arrived = None

    def aim(self, goal: Goal) -> None:
        """It is to be hung up. A stop stands, and takes the place of a wish that the PBX was not told yet."""
        if goal is Goal.STOP:
            self.goal = self.goal if self.goal is not None and self.asked else goal
        elif self.goal is not Goal.STOP:
            self.goal = goal

    def disarm(self) -> None:
        """Take back whatever was to happen to this call."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


def last_known(call: Call) -> datetime:
    """When the last of what is known of a call was."""
    return call.answered_at or call.ringing_at or call.originated_at


def left(limit: float, since: datetime, now: datetime) -> float:
    """Seconds that are left of a limit.

    Of a call that was taken up, the wall clock tells. One that was set meanwhile may tell what cannot be: that a call
    which lives is over its limit, or has more than all of it left. The whole limit is granted then, for the PBX's own
    timer ends the call in time; ours is there for a PBX that does not.
    """
    left = limit - (now - since).total_seconds()
    return left if 0.0 < left <= limit else limit


def final_verdict(live: LiveCall, event: Ended) -> Verdict:
    """What the call ended in, with what only we know: whether we ended it, and whether anybody took it."""
    if live.call.answered_at is not None:
        if event.place_refused or event.verdict.outcome in (Outcome.INTERRUPTED, Outcome.MACHINE):
            return event.verdict
        if live.call.handed_over_at is None or (live.asked and live.goal is Goal.ANSWER_TIMEOUT):
            # Nobody took it: the callee waited in vain, or answered in the very moment in which we gave up.
            return Verdict(Outcome.ABANDONED, Fault.DAEMON)
        return Verdict(Outcome.ANSWERED, Fault.NONE)
    if event.verdict.outcome is Outcome.CANCELLED and live.goal is Goal.ANSWER_TIMEOUT:
        return Verdict(Outcome.NO_ANSWER, Fault.CALLEE)
    if event.verdict.outcome is Outcome.CANCELLED and live.goal is Goal.SETUP:
        return causes.UNREACHABLE
    return event.verdict
