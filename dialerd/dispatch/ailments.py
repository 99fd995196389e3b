"""One trunk's health as its calls show it: :mod:`dialerd.core.health` with a clock, words, a log and the limits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from dialerd.clock import Clock
from dialerd.core.health import Failure, Health, Judgement, Rules, Sign, sign_of
from dialerd.core.model import Contact, Moment, Trunk
from dialerd.core.outcome import Verdict
from dialerd.core.snapshot import OPEN, Gate
from dialerd.core.throttle import Book, Key, Level
from dialerd.dispatch.live_call import LiveCall
from dialerd.dispatch.put_back import PutBack
from dialerd.pbx.driver import Ended
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Ailments:
    """Follows one trunk's health, and keeps what its failures cost, to give it back once the trunk is to blame."""

    def __init__(
        self,
        trunk: Trunk,
        book: Book,
        clock: Clock,
        metrics: Metrics,
        guard_seconds: float,
        put_back: Callable[[list[PutBack]], None],
    ) -> None:
        self.health = Health()
        self._trunk = trunk
        self._rules = Rules(trunk.max_calls_per_second, trunk.suspend_after, trunk.probe_seconds)
        self._book = book
        self._clock = clock
        self._metrics = metrics
        self._guard = guard_seconds
        self._put_back = put_back
        self._since: datetime | None = None
        """Since when it takes no calls."""
        self._before: dict[str, Contact] = {}
        """The contacts of failures that are being settled, as they were before."""
        self._costs: dict[str, PutBack] = {}
        """What the failures of the present streaks cost their contacts."""

    def take_up(self, trunk: Trunk) -> None:
        """The configuration has changed: these limits bind from now on."""
        self._trunk = trunk
        self._rules = Rules(trunk.max_calls_per_second, trunk.suspend_after, trunk.probe_seconds)

    # -- what happens -------------------------------------------------------------------------------------------

    def hear(self, *, up: bool, reason: str) -> None:
        """The PBX's own word: whether the trunk can be reached."""
        was = self.health.down
        if up and was is not None:
            self.health = self.health.came_up(self._clock.mono())
            self._since = self._since if self.health.suspension is not None else None
            log.info("trunk_up", trunk=self._trunk.id, reason=reason)
        elif not up and was is None:
            self._since = self._since or self._clock.wall()
            log.warning("trunk_down", trunk=self._trunk.id, reason=reason)
            self._take(self.health.went_down(reason))
        elif not up:
            self.health = self.health.went_down(reason).health

    def unknown(self) -> None:
        """What the PBX said of the trunk no longer counts: nothing is known, and the trunk is taken to be up."""
        self.health = self.health.came_up(self._clock.mono())
        self._since = self._since if self.health.suspension is not None else None

    def probing(self) -> None:
        """A probe was planned."""
        self.health = self.health.probing(self._rules, self._clock.mono())
        self._metrics.trunk_probes.labels(self._trunk.id).inc()
        log.info("trunk_probed", trunk=self._trunk.id)

    def try_now(self) -> None:
        """Somebody says that the trunk works again: probe it at once."""
        self.health = self.health.hurried(self._clock.mono())

    def rang(self, live: LiveCall) -> None:
        """The probe rings."""
        if live.sent_at is not None:
            self._become(self.health.rang(live.sent_at))

    def answered(self, live: LiveCall) -> None:
        """A call was answered."""
        if live.sent_at is not None:
            self._become(self.health.carried(live.sent_at))

    def judge(self, live: LiveCall, verdict: Verdict, event: Ended) -> bool:
        """Look at how a call ended; True: the trunk is to blame, and the contact is spared."""
        if live.sent_at is None or live.taken_up or live.call.answered_at is not None:
            return False  # it never left, or left before this process began, or its answer has told already
        sign = sign_of(verdict, answered=False, rang=live.call.ringing_at is not None)
        now = self._clock.mono()
        if event.retry_after is not None and sign is Sign.CONGESTED:
            self.health = self.health.asked_to_wait(event.retry_after, now)
        words = verdict.outcome.value + (f" (SIP {event.sip_status})" if event.sip_status is not None else "")
        failure = Failure(live.call.id, live.contact.id, live.sent_at, words)
        judgement = self.health.ended(self._rules, sign, failure, now)
        if sign in (Sign.CONGESTED, Sign.FAULT, Sign.NUMBER) and not judgement.spared:
            self._before[live.call.id] = live.contact
        self._take(judgement)
        return judgement.spared

    def settled(self, live: LiveCall) -> None:
        """A call that was judged is settled: its contact's state shows what the call cost."""
        before = self._before.pop(live.call.id, None)
        counted = {each.call_id for streak in self.health.streaks.values() for each in streak}
        if before is not None and live.call.id in counted:
            self._costs[live.call.id] = PutBack(live.call, before, live.contact)
        for call_id in self._costs.keys() - counted:
            del self._costs[call_id]

    # -- what is asked ------------------------------------------------------------------------------------------

    def gate(self, now: Moment, *, probe: bool = False) -> Gate:
        """Whether the trunk takes calls; ``probe``: whether it takes this one, which tries it."""
        health, name = self.health, self._trunk.id
        since = "" if self._since is None else f" since {self._since:%Y-%m-%d %H:%M:%S} UTC"
        if health.down is not None:
            return Gate(False, f"trunk {name} is down{since}: {health.down}")
        due = max(0.0, health.probe_at - now.mono)
        until = now.wall + timedelta(seconds=due)
        suspension = health.suspended
        if suspension is not None:
            detail = f"trunk {name} is suspended{since}: {suspension.seen}; one call tries it every few seconds"
            if probe or due <= 0:
                return Gate(True, detail, until, probe=True)
            return Gate(False, detail, until)
        wait = health.not_before - now.mono
        if wait > 0 and not probe:
            detail = f"trunk {name} answered that it is congested, and asked to be left alone (Retry-After)"
            return Gate(False, detail, now.wall + timedelta(seconds=wait))
        return OPEN

    def slowness(self, now: float) -> str | None:
        """In words, how congestion slows the trunk now; None: it does not."""
        share = self.health.share(now)
        if share >= 1.0:
            return None
        rate = self._trunk.max_calls_per_second
        return f"slowed to {share * rate:.3g} of {rate:g} calls per second: it answered that it is congested"

    def pace(self, now: float) -> None:
        """Let the trunk's rate be what its congestion leaves of it now."""
        share = self.health.share(now)
        key = Key(Level.TRUNK_PACE, self._trunk.id)
        per_second = None if share >= 1.0 else share * self._trunk.max_calls_per_second
        if per_second is not None or self._book.get(key).rate is not None:
            self._book.set(key, None, per_second, self._guard)

    # -- inside -------------------------------------------------------------------------------------------------

    def _take(self, judgement: Judgement) -> None:
        self._become(judgement.health)
        costs = [self._costs.pop(call_id) for call_id in judgement.put_back if call_id in self._costs]
        if costs:
            self._put_back(costs)

    def _become(self, health: Health) -> None:
        """Take the next state of health, and tell of what is new in it."""
        was, self.health = self.health, health
        name = self._trunk.id
        if health.suspended is not None and was.suspended is None:
            self._since = self._since or self._clock.wall()
            self._metrics.trunk_suspensions.labels(name, health.suspended.ill.value).inc()
            log.warning("trunk_suspended", trunk=name, seen=health.suspended.seen)
        elif health.suspended is None and was.suspended is not None:
            log.info("trunk_carries_again", trunk=name, proven=health.suspension is None)
        if health.suspended is None and health.down is None:
            self._since = None
        if health.cut_at > was.cut_at:
            share = health.share(health.cut_at)
            log.warning("trunk_slowed", trunk=name, calls_per_second=share * self._rules.per_second)
