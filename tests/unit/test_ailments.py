"""One trunk's health with its words: what gates and limits it gives, what it costs nobody, and what it logs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import ContactStatus, Trunk
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.core.settings import CampaignSettings
from dialerd.core.throttle import Book, Key, Level
from dialerd.dispatch.ailments import Ailments
from dialerd.dispatch.live_call import LiveCall
from dialerd.dispatch.put_back import PutBack
from dialerd.pbx.driver import Ended
from dialerd.telemetry.metrics import Metrics
from tests.support.contacts import a_contact
from tests.support.records import an_originating
from tests.support.virtual import Virtual

CONGESTION = Verdict(Outcome.CONGESTION, Fault.TRUNK)
UNREACHABLE = Verdict(Outcome.UNREACHABLE, Fault.TRUNK)
PACE = Key(Level.TRUNK_PACE, "a")
TRUNK = Trunk("a", "main", "PJSIP/{number}@a", 10.0, 20, suspend_after=4, probe_seconds=8.0)


@dataclass
class Bench:
    """A trunk, and calls over it."""

    clock: VirtualClock
    metrics: Metrics
    put_back: list[PutBack] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.book = Book()
        self.ailments = Ailments(TRUNK, self.book, self.clock, self.metrics, 0.06, self.put_back.extend)

    def sent(self, *, probe: bool = False) -> LiveCall:
        """A call that goes out now."""
        self.calls += 1
        made = an_originating(a_contact(id=self.calls), f"call {self.calls}", self.clock.wall())
        live = LiveCall(made.call, made.contact, CampaignSettings(), 40.0, probe=probe)
        live.sent_at = self.clock.mono()
        return live

    def end(self, live: LiveCall, verdict: Verdict, retry_after: float | None = None, sip: int | None = 503) -> bool:
        """A call ends and is settled as its trunk says."""
        spared = self.ailments.judge(
            live, verdict, Ended(live.call.id, verdict, sip_status=sip, retry_after=retry_after)
        )
        mishaps = live.contact.mishaps + (not spared)
        live.contact = replace(live.contact, status=ContactStatus.PENDING, mishaps=mishaps)
        self.ailments.settled(live)
        return spared

    async def fail(self, times: int) -> list[bool]:
        """So many calls fail, one each second; returns which of them were spared."""
        spared = []
        for _ in range(times):
            live = self.sent()
            await self.clock.sleep(1)
            spared.append(self.end(live, UNREACHABLE, sip=None))
        return spared


def test_the_streak_is_given_back_and_the_trunk_is_tried_after_a_while(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        assert await bench.fail(4) == [False, False, False, True]
        assert [each.call.id for each in bench.put_back] == ["call 1", "call 2", "call 3"]
        assert [(each.before.mishaps, each.after.mishaps) for each in bench.put_back] == [(0, 1)] * 3
        gate = bench.ailments.gate(clock.now())
        assert not gate.open
        assert "4 calls in a row ended in unreachable" in gate.detail
        assert gate.until == clock.wall() + timedelta(seconds=8)
        await clock.sleep(8)
        gate = bench.ailments.gate(clock.now())
        assert (gate.open, gate.probe) == (True, True)
        bench.ailments.probing()
        assert not bench.ailments.gate(clock.now()).open
        assert bench.ailments.gate(clock.now(), probe=True).open
        probe = bench.sent(probe=True)
        bench.ailments.answered(probe)
        gate = bench.ailments.gate(clock.now())
        assert (gate.open, gate.probe) == (True, False)
        assert metrics.trunk_suspensions.labels("a", "faults")._value.get() == 1

    virtual(main)


def test_only_what_is_still_in_a_streak_is_remembered(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        await bench.fail(3)
        bench.ailments.answered(bench.sent())
        await clock.sleep(1)
        await bench.fail(3)
        assert not bench.put_back
        await bench.fail(1)
        assert [each.call.id for each in bench.put_back] == ["call 5", "call 6", "call 7"]

    virtual(main)


def test_a_trunk_that_is_down_says_why_and_since_when(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        await bench.fail(2)
        bench.ailments.hear(up=False, reason="PJSIP/a is UNAVAILABLE")
        assert len(bench.put_back) == 2
        gate = bench.ailments.gate(clock.now())
        assert not gate.open
        assert gate.detail == "trunk a is down since 2026-03-02 12:00:02 UTC: PJSIP/a is UNAVAILABLE"
        await clock.sleep(60)
        bench.ailments.hear(up=False, reason="PJSIP/a is INVALID")
        assert "12:00:02 UTC: PJSIP/a is INVALID" in bench.ailments.gate(clock.now()).detail
        assert not bench.ailments.gate(clock.now(), probe=True).open, "nobody is probed whom the PBX calls down"
        bench.ailments.hear(up=True, reason="its endpoint is reachable")
        assert bench.ailments.gate(clock.now()).open

    virtual(main)


def test_congestion_lowers_the_rate_and_time_gives_it_back(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.ailments.pace(clock.mono())
        assert bench.book.get(PACE).rate is None
        live = bench.sent()
        await clock.sleep(1)
        bench.end(live, CONGESTION)
        bench.ailments.pace(clock.mono())
        rate = bench.book.get(PACE).rate
        assert rate is not None
        assert rate.per_second == pytest.approx(5.0)
        assert bench.ailments.slowness(clock.mono()) is not None
        await clock.sleep(4)
        bench.ailments.pace(clock.mono())
        assert rate.per_second == pytest.approx(7.0)
        await clock.sleep(6.1)
        bench.ailments.pace(clock.mono())
        assert bench.book.get(PACE).rate is None
        assert bench.ailments.slowness(clock.mono()) is None

    virtual(main)


def test_a_retry_after_closes_the_trunk_for_so_long(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.end(bench.sent(), CONGESTION, retry_after=5.0)
        gate = bench.ailments.gate(clock.now())
        assert not gate.open
        assert "Retry-After" in gate.detail
        assert gate.until == clock.wall() + timedelta(seconds=5)
        await clock.sleep(5)
        assert bench.ailments.gate(clock.now()).open

    virtual(main)


def test_a_call_from_before_the_daemons_start_says_nothing(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        for sent, taken_up in ((False, False), (True, True)):
            for _ in range(10):
                live = bench.sent()
                live.sent_at, live.taken_up = (live.sent_at if sent else None), taken_up
                assert not bench.end(live, UNREACHABLE)
        assert bench.ailments.gate(clock.now()).open
        assert not bench.put_back

    virtual(main)


def test_somebody_may_have_a_suspended_trunk_tried_at_once(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.ailments.try_now()
        assert not bench.ailments.gate(clock.now()).probe
        await bench.fail(4)
        bench.ailments.try_now()
        assert bench.ailments.gate(clock.now()).probe

    virtual(main)
