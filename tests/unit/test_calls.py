"""A call in flight: each event of the PBX in each state, once, twice and late, and the limits that we set ourselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import Call, CallStatus, ContactStatus, HungUpBy
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.calls import GRACE_SECONDS, Calls
from dialerd.dispatch.journal import Journal
from dialerd.dispatch.live_call import Goal, LiveCall
from dialerd.pbx.driver import (
    Answered,
    CallEvent,
    ChannelState,
    Dialling,
    Ended,
    HandedOver,
    LiveChannel,
    Ringing,
)
from dialerd.store.records import CallStep, EventKind
from dialerd.telemetry.metrics import Metrics
from tests.support.contacts import a_contact
from tests.support.records import an_originating
from tests.support.trunks import Watched
from tests.support.virtual import Virtual

ID = "call"
SETUP = 40.0
NORMAL = Verdict(Outcome.ANSWERED, Fault.NONE)
BUSY = Verdict(Outcome.BUSY, Fault.CALLEE)
CANCELLED = Verdict(Outcome.CANCELLED, Fault.NONE)


@dataclass
class Steps:
    """A journal that keeps what it is told."""

    steps: list[CallStep] = field(default_factory=list)

    def step(self, step: CallStep) -> None:
        self.steps.append(step)


class Bench:
    """One call of one contact, and what becomes of both."""

    def __init__(self, clock: VirtualClock, metrics: Metrics, *, queue: bool = False, **settings: Any) -> None:
        self.clock, self.metrics = clock, metrics
        self.journal = Steps()
        self.ended: list[LiveCall] = []
        self.hung_up: list[tuple[float, Goal | None]] = []
        self.overdue: list[float] = []
        self.trunks = Watched()
        self.calls = Calls(
            cast(Journal, self.journal),
            clock,
            metrics,
            trunks=self.trunks,
            on_end=self.ended.append,
            hang_up=self.hang_up,
            on_overdue=lambda _: self.overdue.append(clock.mono()),
        )
        made = an_originating(a_contact(), ID, clock.wall())
        self.live = LiveCall(made.call, made.contact, CampaignSettings(**settings), SETUP, hands_over=queue)

    def hang_up(self, live: LiveCall) -> None:
        """What the dispatcher does: it asks the PBX."""
        live.asked = True
        self.hung_up.append((self.clock.mono(), live.goal))

    def sent(self) -> Bench:
        """The call is committed and its order sent."""
        self.calls.add(self.live)
        self.calls.sent(self.live)
        return self

    def hear(self, *events: CallEvent) -> None:
        """Take events of the call's PBX."""
        for event in events:
            self.calls.hear("main", event)

    @property
    def call(self) -> Call:
        """The call as it was last recorded."""
        return self.journal.steps[-1].call

    @property
    def kinds(self) -> list[EventKind]:
        """The events recorded."""
        return [step.event.kind for step in self.journal.steps if step.event is not None]

    @property
    def statuses(self) -> list[ContactStatus]:
        """The contact's states recorded."""
        return [step.contact.status for step in self.journal.steps if step.contact is not None]


def ended(verdict: Verdict = NORMAL, **told: Any) -> Ended:
    return Ended(ID, verdict, **told)


Scene = Callable[[Bench], None]


def run(virtual: Virtual, metrics: Metrics, scene: Scene, *, queue: bool = False, **settings: Any) -> Bench:
    """Play a scene at one moment."""

    async def main(clock: VirtualClock) -> Bench:
        bench = Bench(clock, metrics, queue=queue, **settings).sent()
        scene(bench)
        bench.calls.disarm()
        return bench

    return virtual(main)


WAYS: dict[str, tuple[list[CallEvent], list[EventKind], Outcome]] = {
    "all of it": (
        [Dialling(ID), Ringing(ID), Answered(ID), ended()],
        [EventKind.RINGING, EventKind.CONNECTED, EventKind.COMPLETED],
        Outcome.ANSWERED,
    ),
    "each twice": (
        [Dialling(ID), Dialling(ID), Ringing(ID), Ringing(ID), Answered(ID), Answered(ID), ended(), ended()],
        [EventKind.RINGING, EventKind.CONNECTED, EventKind.COMPLETED],
        Outcome.ANSWERED,
    ),
    "no ringing": ([Answered(ID), ended()], [EventKind.CONNECTED, EventKind.COMPLETED], Outcome.ANSWERED),
    "ringing after the answer": (
        [Answered(ID), Ringing(ID), ended()],
        [EventKind.CONNECTED, EventKind.COMPLETED],
        Outcome.ANSWERED,
    ),
    "nothing after the end": (
        [ended(BUSY), Ringing(ID), Answered(ID), HandedOver(ID), ended()],
        [EventKind.RETRY_SCHEDULED],
        Outcome.BUSY,
    ),
    "busy while ringing": (
        [Ringing(ID), ended(BUSY)],
        [EventKind.RINGING, EventKind.RETRY_SCHEDULED],
        Outcome.BUSY,
    ),
    "a machine": (
        [Answered(ID), ended(Verdict(Outcome.MACHINE, Fault.CALLEE))],
        [EventKind.CONNECTED, EventKind.RETRY_SCHEDULED],
        Outcome.MACHINE,
    ),
    "an answer that the PBX ends as busy": (
        [Answered(ID), ended(BUSY)],
        [EventKind.CONNECTED, EventKind.COMPLETED],
        Outcome.ANSWERED,
    ),
    "a number that does not exist": (
        [ended(Verdict(Outcome.INVALID_NUMBER, Fault.NUMBER))],
        [EventKind.FAILED],
        Outcome.INVALID_NUMBER,
    ),
    "handed over by nobody's order": (
        [Answered(ID), HandedOver(ID), ended()],
        [EventKind.CONNECTED, EventKind.COMPLETED],
        Outcome.ANSWERED,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_way_of_a_call(virtual: Virtual, metrics: Metrics, way: str) -> None:
    told, kinds, outcome = WAYS[way]
    bench = run(virtual, metrics, lambda bench: bench.hear(*told))
    assert bench.kinds == kinds
    assert bench.call.outcome is outcome
    assert bench.call.status is CallStatus.ENDED
    assert bench.ended == [bench.live]
    assert len(bench.calls) == 0


QUEUE_WAYS: dict[str, tuple[list[CallEvent], Outcome]] = {
    "taken": ([Answered(ID), HandedOver(ID), ended()], Outcome.ANSWERED),
    "taken, and the answer not heard": ([HandedOver(ID), ended()], Outcome.ANSWERED),
    "taken twice": ([Answered(ID), HandedOver(ID), HandedOver(ID), ended()], Outcome.ANSWERED),
    "waited in vain": ([Answered(ID), ended()], Outcome.ABANDONED),
    "waited in vain for its fate": (
        [Answered(ID), ended(Verdict(Outcome.INTERRUPTED, Fault.PBX))],
        Outcome.INTERRUPTED,
    ),
}


@pytest.mark.parametrize("way", QUEUE_WAYS)
def test_the_way_through_a_queue(virtual: Virtual, metrics: Metrics, way: str) -> None:
    told, outcome = QUEUE_WAYS[way]
    bench = run(virtual, metrics, lambda bench: bench.hear(*told), queue=True)
    assert bench.call.outcome is outcome
    assert (bench.call.handed_over_at is not None) is (outcome is Outcome.ANSWERED)
    assert bench.call.answered_at is not None
    assert bench.statuses[0] is ContactStatus.CONNECTED
    assert len(bench.ended) == 1


def test_news_of_strangers_is_counted_and_changes_nothing(virtual: Virtual, metrics: Metrics) -> None:
    def scene(bench: Bench) -> None:
        bench.hear(Answered("somebody else"))
        bench.calls.hear("another pbx", Answered(ID))

    bench = run(virtual, metrics, scene)
    assert not bench.journal.steps
    assert metrics.pbx_events_unknown.labels("main")._value.get() == 1
    assert metrics.pbx_events_unknown.labels("another pbx")._value.get() == 1


def test_a_call_that_rings_too_long_is_given_up_once(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics, answer_timeout=20).sent()
        await clock.sleep(3)
        bench.hear(Ringing(ID))
        await clock.sleep(10)
        bench.hear(Ringing(ID))  # early media after the ringing: the time goes on
        await clock.sleep(9.9)
        assert bench.hung_up == []
        await clock.sleep(0.2)
        assert bench.hung_up == [(23.0, Goal.ANSWER_TIMEOUT)]
        bench.hear(ended(CANCELLED))
        assert (bench.call.outcome, bench.call.fault) == (Outcome.NO_ANSWER, Fault.CALLEE)
        assert bench.call.hung_up_by is HungUpBy.DIALER
        await clock.sleep(1000)
        assert len(bench.hung_up) == 1
        assert not bench.overdue

    virtual(main)


def test_an_answer_in_the_moment_of_giving_up_is_an_abandoned_call(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics, answer_timeout=20).sent()
        bench.hear(Ringing(ID))
        await clock.sleep(20.1)
        bench.hear(Answered(ID), ended())
        assert (bench.call.outcome, bench.call.fault) == (Outcome.ABANDONED, Fault.DAEMON)

    virtual(main)


def test_busy_in_the_moment_of_giving_up_stays_busy(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics, answer_timeout=20).sent()
        bench.hear(Ringing(ID))
        await clock.sleep(20.1)
        bench.hear(ended(BUSY))
        assert bench.call.outcome is Outcome.BUSY

    virtual(main)


def test_an_answer_ends_the_ringing_time_and_begins_the_talking_time(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics, answer_timeout=20, max_call_seconds=60).sent()
        bench.hear(Ringing(ID))
        await clock.sleep(19)
        bench.hear(Answered(ID))
        await clock.sleep(59)
        assert bench.hung_up == []
        await clock.sleep(2)
        assert bench.hung_up == [(79.0, Goal.CALL_LIMIT)]
        bench.hear(ended())
        assert bench.call.outcome is Outcome.ANSWERED
        assert bench.call.talk_seconds == pytest.approx(61)

    virtual(main)


@pytest.mark.parametrize(
    ("events", "limit"),
    [([], SETUP), ([Ringing(ID)], 20), ([Ringing(ID), Answered(ID)], 60)],
    ids=["dialling", "ringing", "connected"],
)
def test_a_call_that_nobody_ends_is_asked_about(
    virtual: Virtual, metrics: Metrics, events: list[CallEvent], limit: float
) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics, answer_timeout=20, max_call_seconds=60).sent()
        bench.hear(*events)
        await clock.sleep(limit + GRACE_SECONDS - 0.1)
        assert bench.overdue == []
        await clock.sleep(2 * GRACE_SECONDS)
        assert bench.overdue == pytest.approx([limit + GRACE_SECONDS, limit + 2 * GRACE_SECONDS])
        bench.calls.settle_unknown(bench.live)
        assert (bench.call.outcome, bench.call.fault) == (Outcome.INTERRUPTED, Fault.PBX)
        await clock.sleep(100)
        assert len(bench.overdue) == 2

    virtual(main)


def test_what_was_never_sent_is_not_sent_and_costs_nothing(virtual: Virtual, metrics: Metrics) -> None:
    bench = run(virtual, metrics, lambda bench: bench.calls.withdraw(bench.live, "the campaign no longer dials"))
    assert (bench.call.status, bench.call.outcome) == (CallStatus.NOT_SENT, Outcome.CANCELLED)
    assert bench.kinds == [EventKind.RETRY_SCHEDULED]
    assert bench.live.contact.status is ContactStatus.PENDING
    assert (bench.live.contact.callee_tries, bench.live.contact.mishaps) == (0, 0)


def test_a_refused_order_is_a_mishap(virtual: Virtual, metrics: Metrics) -> None:
    verdict = Verdict(Outcome.FAILED, Fault.PBX)
    bench = run(virtual, metrics, lambda bench: bench.calls.refuse(bench.live, verdict, "no such extension"))
    assert (bench.call.status, bench.call.hangup_text) == (CallStatus.NOT_SENT, "no such extension")
    assert (bench.live.contact.callee_tries, bench.live.contact.mishaps) == (0, 1)


def test_a_place_that_the_pbx_does_not_know_abandons_the_callee_at_its_own_cost(
    virtual: Virtual, metrics: Metrics
) -> None:
    """FreeSWITCH tells of it only after the answer."""
    verdict = Verdict(Outcome.ABANDONED, Fault.PBX)
    end = ended(verdict, place_refused=True, hangup_text="NO_ROUTE_DESTINATION")
    bench = run(virtual, metrics, lambda bench: bench.hear(Answered(ID), end))
    assert (bench.call.outcome, bench.call.fault) == (Outcome.ABANDONED, Fault.PBX)
    assert bench.live.place_refused == "it hung up an answered call: NO_ROUTE_DESTINATION"
    assert (bench.live.contact.callee_tries, bench.live.contact.mishaps) == (0, 1)


def test_the_pbxs_own_count_of_the_talking_time_is_taken(virtual: Virtual, metrics: Metrics) -> None:
    bench = run(virtual, metrics, lambda bench: bench.hear(Answered(ID), ended(talk_seconds=1.02)))
    assert bench.call.talk_seconds == 1.02
    bench = run(virtual, metrics, lambda bench: bench.hear(Answered(ID), ended()))
    assert bench.call.talk_seconds == 0.0
    bench = run(virtual, metrics, lambda bench: bench.hear(Ringing(ID), ended(BUSY, talk_seconds=1.02)))
    assert bench.call.talk_seconds is None


def test_how_long_an_interrupted_call_talked_is_not_known(virtual: Virtual, metrics: Metrics) -> None:
    """It was found gone an hour after its PBX could last be asked."""

    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics).sent()
        bench.hear(Answered(ID))
        await clock.sleep(3600)
        bench.calls.settle_unknown(bench.live)
        assert (bench.call.outcome, bench.call.talk_seconds) == (Outcome.INTERRUPTED, None)

    virtual(main)


def test_an_end_without_a_channel_after_an_answer_is_an_ended_call(virtual: Virtual, metrics: Metrics) -> None:
    bench = run(virtual, metrics, lambda bench: bench.hear(Answered(ID), ended(channel=False)))
    assert bench.call.status is CallStatus.ENDED


@pytest.mark.parametrize("connected", [False, True])
def test_nothing_of_an_ended_campaign_comes_back(virtual: Virtual, metrics: Metrics, connected: bool) -> None:
    def scene(bench: Bench) -> None:
        if connected:
            bench.hear(Answered(ID))
        assert bench.calls.stop_campaign(2) == []
        assert bench.calls.stop_campaign(1) == [bench.live]
        bench.hear(ended(Verdict(Outcome.MACHINE, Fault.CALLEE) if connected else BUSY))

    bench = run(virtual, metrics, scene)
    assert bench.live.contact.status is (ContactStatus.COMPLETED if connected else ContactStatus.FAILED)
    assert bench.live.contact.next_attempt_at is None


@pytest.mark.parametrize(
    ("state", "kinds"),
    [
        (ChannelState.DIALLING, []),
        (ChannelState.RINGING, [EventKind.RINGING]),
        (ChannelState.UP, [EventKind.CONNECTED]),
    ],
)
def test_a_listing_tells_what_was_not_heard(
    virtual: Virtual, metrics: Metrics, state: ChannelState, kinds: list[EventKind]
) -> None:
    def scene(bench: Bench) -> None:
        for _ in range(2):
            bench.calls.confirm(LiveChannel(ID, state, 3.0))
        bench.calls.confirm(LiveChannel("somebody else", ChannelState.UP, 3.0))

    bench = run(virtual, metrics, scene)
    assert bench.kinds == kinds
    assert bench.hung_up == []


def test_whoever_was_to_be_hung_up_and_still_lives_is_asked_again(virtual: Virtual, metrics: Metrics) -> None:
    def scene(bench: Bench) -> None:
        bench.hear(Answered(ID))
        bench.live.goal = Goal.STOP
        bench.calls.confirm(LiveChannel(ID, ChannelState.UP, 3.0))
        bench.calls.press(ID)

    assert [goal for _, goal in run(virtual, metrics, scene).hung_up] == [Goal.STOP]


@pytest.mark.parametrize("stop_at", [5.0, 25.0])
def test_a_stop_is_not_put_off_by_an_answer_that_the_ringing_time_is(
    virtual: Virtual, metrics: Metrics, stop_at: float
) -> None:
    """The link is down: the stop comes before or after the ringing time is over, and the listing shows an answer."""

    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics, answer_timeout=20).sent()
        bench.hear(Ringing(ID))
        bench.calls._hang_up = lambda live: bench.hung_up.append((clock.mono(), live.goal))  # the PBX is not asked
        clock.call_at(stop_at, lambda: bench.live.aim(Goal.STOP))
        await clock.sleep(30)
        bench.hung_up.clear()
        bench.calls.confirm(LiveChannel(ID, ChannelState.UP, 30.0))
        bench.calls.press(ID)
        assert [goal for _, goal in bench.hung_up] == [Goal.STOP]
        bench.calls.disarm()

    virtual(main)


def test_a_call_that_dials_for_ever_is_hung_up_at_last(virtual: Virtual, metrics: Metrics) -> None:
    """The PBX lists it as dialling whenever it is asked: its own timer has failed."""

    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics, answer_timeout=20).sent()
        await clock.sleep(SETUP + 2 * GRACE_SECONDS - 0.1)
        assert bench.hung_up == []
        await clock.sleep(0.2)
        assert bench.hung_up == [(SETUP + 2 * GRACE_SECONDS, Goal.SETUP)]
        bench.hear(ended(Verdict(Outcome.CANCELLED, Fault.NONE)))
        assert (bench.call.outcome, bench.call.fault) == (Outcome.UNREACHABLE, Fault.TRUNK)

    virtual(main)


def test_a_call_from_before_keeps_what_is_left_of_its_time(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics, max_call_seconds=60)
        answered = clock.wall() - timedelta(seconds=50)
        bench.live.call = replace(
            bench.live.call, status=CallStatus.CONNECTED, answered_at=answered, handed_over_at=answered
        )
        bench.live.contact = replace(bench.live.contact, status=ContactStatus.CONNECTED)
        bench.calls.resume(bench.live, clock.mono())
        await clock.sleep(11)
        assert bench.hung_up == [(10.0, Goal.CALL_LIMIT)]
        bench.hear(ended())
        assert bench.call.talk_seconds == pytest.approx(61)

    virtual(main)


def test_a_call_from_before_that_only_dials_is_asked_about_and_hung_up_at_last(
    virtual: Virtual, metrics: Metrics
) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        bench.calls.resume(bench.live, clock.mono())
        await clock.sleep(SETUP + GRACE_SECONDS - 0.1)
        assert bench.overdue == []
        await clock.sleep(GRACE_SECONDS + 0.2)
        assert bench.overdue == pytest.approx([SETUP + GRACE_SECONDS, SETUP + 2 * GRACE_SECONDS])
        assert bench.hung_up == [(SETUP + 2 * GRACE_SECONDS, Goal.SETUP)]

    virtual(main)


@pytest.mark.parametrize("missing_since", [None, 7.0])
def test_an_order_that_its_pbx_does_not_know_is_under_way_no_more(
    virtual: Virtual, metrics: Metrics, missing_since: float | None
) -> None:
    """From the first listing without it on; nobody says so of a call that is over by its PBX's own timers."""
    arrived: list[float] = []

    def scene(bench: Bench) -> None:
        bench.live.arrived = arrived.append
        bench.calls.settle_unknown(bench.live, missing_since)

    bench = run(virtual, metrics, scene)
    assert bench.call.outcome is Outcome.INTERRUPTED
    assert arrived == ([] if missing_since is None else [missing_since])


@pytest.mark.parametrize("ago", [timedelta(hours=1), timedelta(hours=-1)])
@pytest.mark.parametrize("answered", [False, True])
def test_a_wall_clock_that_was_set_between_two_lives_ends_no_call(
    virtual: Virtual, metrics: Metrics, ago: timedelta, answered: bool
) -> None:
    """It tells that a call which lives is an hour over its limit, or began in an hour's time: neither can be."""

    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics, answer_timeout=20, max_call_seconds=60)
        at = clock.wall() - ago
        if answered:
            call = replace(bench.live.call, status=CallStatus.CONNECTED, answered_at=at, handed_over_at=at)
        else:
            call = replace(bench.live.call, status=CallStatus.RINGING, ringing_at=at)
        bench.live.call = call
        bench.live.contact = replace(bench.live.contact, status=ContactStatus.CONNECTED)
        bench.calls.resume(bench.live, clock.mono())
        await clock.sleep(61)
        assert bench.hung_up == [(60.0, Goal.CALL_LIMIT) if answered else (20.0, Goal.ANSWER_TIMEOUT)]
        bench.calls.disarm()

    virtual(main)


def test_the_last_call_empties_the_house(virtual: Virtual, metrics: Metrics) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics).sent()
        clock.call_at(5.0, lambda: bench.hear(ended(BUSY)))
        await bench.calls.empty()
        assert clock.mono() == 5.0
        assert bench.calls.of_campaign(1) == bench.calls.of_pbx("main") == []

    virtual(main)


def test_a_call_that_its_trunk_spoilt_spends_nothing_and_its_contact_is_due_at_once(
    virtual: Virtual, metrics: Metrics
) -> None:
    def scene(bench: Bench) -> None:
        bench.trunks.blame = True
        bench.live.contact = replace(bench.live.contact, callback=True)
        bench.hear(ended(Verdict(Outcome.INVALID_NUMBER, Fault.NUMBER)))

    bench = run(virtual, metrics, scene)
    contact = bench.live.contact
    assert (bench.call.outcome, bench.call.fault) == (Outcome.INVALID_NUMBER, Fault.TRUNK)
    assert (contact.status, contact.callee_tries, contact.mishaps) == (ContactStatus.PENDING, 0, 0)
    assert contact.next_attempt_at == bench.call.ended_at
    assert contact.callback, "the promise was not kept yet"


def test_the_trunk_is_told_of_what_shows_how_it_is(virtual: Virtual, metrics: Metrics) -> None:
    def scene(bench: Bench) -> None:
        for event in (Ringing(ID), Ringing(ID), Answered(ID), Answered(ID), ended()):
            bench.hear(event)

    assert run(virtual, metrics, scene).trunks.told == ["rang", "answered", "answered"]
