"""A trunk's health, from how its calls end: when it is slowed, when it is suspended, and what lifts that.

Pure: a :class:`Health` is a value, and each thing that happens makes the next one. Moments are monotonic seconds.
Evidence counts by when its call was *sent*: one that was sent before a trunk fell ill and is answered after it says
nothing of the trunk as it is now. docs/adr/0005 has the reasons.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum

from dialerd.core.outcome import Fault, Outcome, Verdict

FEW_CONTACTS = 3
"""Failures of fewer contacts than these say something of their numbers, and nothing of the trunk."""
CUT = 0.5
"""What a 503 leaves of a trunk's rate."""
LEAST_SHARE = 0.1
LEAST_RATE = 1.0
"""Calls per second: no trunk is slowed below this, nor below :data:`LEAST_SHARE` of its rate."""
RECOVERY = 0.05
"""The share of its rate that a slowed trunk gets back each second."""
MOST_RETRY_AFTER = 60.0
"""Seconds that a far end may ask us to stay away (RFC 3261, 20.33); more is not believed."""


class Sign(StrEnum):
    """What the end of a call says of the trunk that it was sent over."""

    CARRIED = "carried"
    """The callee's side had it: the trunk works, and so does the number's form."""
    CONGESTED = "congested"
    """The trunk refused it for want of capacity (503)."""
    FAULT = "fault"
    """The trunk failed otherwise: no reply, refused login, unreachable."""
    NUMBER = "number"
    """The trunk answered that there is no such number (404)."""
    NOTHING = "nothing"


class Ill(StrEnum):
    """What a suspended trunk was seen to do."""

    FAULTS = "faults"
    NUMBERS = "numbers"


_ILL_OF: dict[Sign, Ill] = {Sign.CONGESTED: Ill.FAULTS, Sign.FAULT: Ill.FAULTS, Sign.NUMBER: Ill.NUMBERS}


def sign_of(verdict: Verdict, *, answered: bool, rang: bool) -> Sign:
    """Read the end of a call that was sent. ``rang``: there was ringing or early media, which alone proves little."""
    if answered:
        return Sign.CARRIED
    if verdict.fault is Fault.TRUNK:
        return Sign.CONGESTED if verdict.outcome is Outcome.CONGESTION else Sign.FAULT
    if verdict.outcome is Outcome.INVALID_NUMBER:
        return Sign.NUMBER
    if verdict.fault is Fault.CALLEE or (verdict.outcome is Outcome.CANCELLED and rang):
        return Sign.CARRIED
    return Sign.NOTHING


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says of a trunk's health."""

    per_second: float
    suspend_after: int = 20
    """Failures in a row."""
    probe_seconds: float = 8.0
    """Between two calls that try a suspended trunk."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that the trunk did not carry."""

    call_id: str
    contact_id: int
    sent_at: float
    words: str
    """How it ended, such as ``congestion (SIP 503)``."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """A trunk that takes no call but a probe."""

    ill: Ill
    seen: str
    since: float
    probe_at: float
    """When the next probe may go."""
    rang_at: float | None = None
    """The sending of a probe that rings: the trunk is open on probation, and the next like failure closes it again."""


@dataclass(frozen=True, slots=True)
class Health:
    """A trunk's health at one moment."""

    streaks: dict[Ill, tuple[Failure, ...]] = field(default_factory=dict)
    """Failures in a row, of calls that were sent after the last that was carried."""
    carried_at: float = -math.inf
    """The latest sending of a call that was carried."""
    ill_until: float = -math.inf
    """Calls sent up to here were sent into an illness that is over: what they end in says nothing more."""
    suspension: Suspension | None = None
    down: str | None = None
    """Why it is down, by its PBX's own word."""
    not_before: float = -math.inf
    """Until when the far end asked us to stay away."""
    cut_at: float = -math.inf
    _share: float = 1.0

    # -- what happens -------------------------------------------------------------------------------------------

    def ended(self, rules: Rules, sign: Sign, failure: Failure, now: float) -> Judgement:
        """A call that was sent has ended; ``failure`` tells of it as if it were one."""
        if sign is Sign.CARRIED:
            return Judgement(self.carried(failure.sent_at))
        if sign is Sign.NOTHING:
            return Judgement(self)
        health = self._slowed(rules, failure.sent_at, now) if sign is Sign.CONGESTED else self
        ill = _ILL_OF[sign]
        suspension = health.suspension
        if suspension is not None and _shows_otherwise(suspension, ill, failure.sent_at):
            health = health._lifted(failure.sent_at)
        elif suspension is not None:
            return Judgement(health._failed_again(rules, suspension, ill, failure.sent_at, now), spared=True)
        if health.down is not None or failure.sent_at <= health.ill_until:
            return Judgement(health, spared=True)
        if failure.sent_at <= health.carried_at:
            return Judgement(health)
        return health._counted(rules, ill, failure, now)

    def carried(self, sent_at: float) -> Health:
        """A call that was sent then was carried: it was answered, or the callee's side refused it."""
        health = self
        if self.suspension is not None and sent_at >= self.suspension.since:
            health = self._lifted(sent_at)
        latest = max(health.carried_at, sent_at)
        kept = {ill: tuple(each for each in streak if each.sent_at > latest) for ill, streak in health.streaks.items()}
        return replace(health, carried_at=latest, streaks={ill: streak for ill, streak in kept.items() if streak})

    def rang(self, sent_at: float) -> Health:
        """A probe that was sent then rings: others may follow, until one of them (or itself) fails alike."""
        if self.suspension is None or self.suspension.rang_at is not None or sent_at < self.suspension.since:
            return self
        return replace(self, suspension=replace(self.suspension, rang_at=sent_at))

    def probing(self, rules: Rules, now: float) -> Health:
        """A probe was planned; the next follows if nothing is heard of it."""
        if self.suspension is None:
            return self
        return replace(self, suspension=replace(self.suspension, probe_at=now + rules.probe_seconds))

    def asked_to_wait(self, seconds: float, now: float) -> Health:
        """The far end asked us to stay away for so long (Retry-After)."""
        return replace(self, not_before=max(self.not_before, now + min(max(0.0, seconds), MOST_RETRY_AFTER)))

    def went_down(self, reason: str) -> Judgement:
        """The PBX says that the trunk is down: what failed lately failed by that."""
        put_back = tuple(each.call_id for each in self.streaks.get(Ill.FAULTS, ()))
        streaks: dict[Ill, tuple[Failure, ...]] = dict(self.streaks)
        streaks.pop(Ill.FAULTS, None)
        return Judgement(replace(self, down=reason, streaks=streaks), put_back=put_back)

    def came_up(self, now: float) -> Health:
        """The PBX says that the trunk is up; a suspended one is tried at once."""
        if self.down is None:
            return self
        return replace(self, down=None, ill_until=now).hurried(now)

    def hurried(self, now: float) -> Health:
        """Somebody says that the trunk works again: a suspended one may be tried at once."""
        if self.suspension is None:
            return self
        return replace(self, not_before=-math.inf, suspension=replace(self.suspension, probe_at=now))

    # -- what is asked ------------------------------------------------------------------------------------------

    @property
    def suspended(self) -> Suspension | None:
        """The suspension, unless a probe rings and others may follow."""
        suspension = self.suspension
        return None if suspension is None or suspension.rang_at is not None else suspension

    @property
    def probe_at(self) -> float:
        """When a suspended trunk may be tried next."""
        return max(self.not_before, self.suspension.probe_at) if self.suspension is not None else self.not_before

    def share(self, now: float) -> float:
        """The share of its rate that the trunk may be used at: 1 where nothing slowed it lately."""
        if self.cut_at == -math.inf:
            return 1.0
        return min(1.0, self._share + RECOVERY * (now - self.cut_at))

    # -- inside -------------------------------------------------------------------------------------------------

    def _counted(self, rules: Rules, ill: Ill, failure: Failure, now: float) -> Judgement:
        streak = (*self.streaks.get(ill, ()), failure)[-rules.suspend_after :]
        contacts = {each.contact_id for each in streak}
        if len(streak) < rules.suspend_after or len(contacts) < min(FEW_CONTACTS, rules.suspend_after):
            return Judgement(replace(self, streaks={**self.streaks, ill: streak}))
        spared = {each.call_id for other in self.streaks.values() for each in other} - {failure.call_id}
        suspension = Suspension(ill, _seen(streak), now, now + rules.probe_seconds)
        return Judgement(replace(self, streaks={}, suspension=suspension), spared=True, put_back=tuple(sorted(spared)))

    def _failed_again(self, rules: Rules, suspension: Suspension, ill: Ill, sent_at: float, now: float) -> Health:
        if suspension.rang_at is None or ill is not suspension.ill or sent_at < suspension.rang_at:
            return self
        return replace(self, suspension=replace(suspension, rang_at=None, probe_at=now + rules.probe_seconds))

    def _lifted(self, sent_at: float) -> Health:
        return replace(self, suspension=None, ill_until=sent_at)

    def _slowed(self, rules: Rules, sent_at: float, now: float) -> Health:
        if sent_at <= self.cut_at:
            return self  # sent at the rate that was cut since
        least = min(1.0, max(LEAST_SHARE, LEAST_RATE / rules.per_second))
        return replace(self, _share=max(least, self.share(now) * CUT), cut_at=now)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a failure makes of a trunk's health and of the contacts."""

    health: Health
    spared: bool = False
    """The trunk is to blame: the call spends nothing of its contact's."""
    put_back: tuple[str, ...] = ()
    """Calls that ended before, and were the trunk's fault as well: their contacts get back what they spent."""


def _shows_otherwise(suspension: Suspension, ill: Ill, sent_at: float) -> bool:
    """A trunk that did not take any call, and now judges numbers, takes calls again."""
    return suspension.ill is Ill.FAULTS and ill is Ill.NUMBERS and sent_at >= suspension.since


def _seen(streak: tuple[Failure, ...]) -> str:
    """What a streak looks like: ``20 calls in a row failed, 18 of them by congestion (SIP 503)``."""
    (words, count), *others = Counter(each.words for each in streak).most_common()
    if not others:
        return f"{len(streak)} calls in a row ended in {words}"
    return f"{len(streak)} calls in a row failed, {count} of them in {words}"
