"""Recovery: gone is who is missing from two listings, and nothing is dialled on a PBX that was not asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import cast

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import CallStatus
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.calls import Calls
from dialerd.dispatch.journal import Journal
from dialerd.dispatch.live_call import Goal, LiveCall
from dialerd.dispatch.receipts import LISTING_LAG
from dialerd.dispatch.recovery import CLOSED_SECONDS, FULL_MOST, LONGEST_CALL, ROUTINE, SECOND_LOOK, Recovery
from dialerd.pbx.driver import ChannelState, Ended, Kept, LinkLost, LinkState, LiveChannel, PbxDriver, Ringing
from dialerd.store.records import CallStep
from dialerd.telemetry.metrics import Metrics
from tests.support.contacts import a_contact
from tests.support.records import an_originating
from tests.support.trunks import Watched
from tests.support.virtual import START, Virtual


@dataclass
class Pbx:
    """What recovery asks of a driver."""

    clock: VirtualClock
    state: LinkState = LinkState.UP
    reason: str | None = None
    channels: dict[str, ChannelState] = field(default_factory=dict)
    takes: float = 0.01
    fails: bool = False
    nonsense: bool = False
    """It says what nobody can make sense of."""
    asked: list[float] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    results: dict[str, Kept] = field(default_factory=dict)
    hung_up: list[str] = field(default_factory=list)
    ends: set[str] = field(default_factory=set)
    refuses: list[bool | LinkLost] = field(default_factory=list)
    """What comes of the next hangups that are asked for; behind them each is taken."""
    behind_kept: Callable[[], None] = lambda: None
    """Happens between the answer to what was kept and whoever waits for it."""

    def ending(self, call_id: str) -> bool:
        return call_id in self.ends

    async def live(self) -> tuple[LiveChannel, ...]:
        self.asked.append(self.clock.mono())
        await self.clock.sleep(self.takes)
        if self.fails or self.state is not LinkState.UP:
            raise LinkLost("gone")
        if self.nonsense:
            raise ValueError("year 33658 is out of range")
        return tuple(LiveChannel(call_id, state, 1.0) for call_id, state in self.channels.items())

    async def kept(self, call_ids: Collection[str]) -> dict[str, Kept]:
        await self.clock.sleep(self.takes)
        if self.fails or self.state is not LinkState.UP:
            raise LinkLost("gone")
        self.behind_kept()
        return {call_id: self.results[call_id] for call_id in call_ids if call_id in self.results}

    async def hangup(self, call_id: str) -> bool:
        self.hung_up.append(call_id)
        answer = self.refuses.pop(0) if self.refuses else True
        if isinstance(answer, LinkLost):
            raise answer
        return answer

    def forget(self, call_id: str) -> None:
        self.forgotten.append(call_id)


class Steps:
    """A journal that takes everything."""

    def step(self, step: CallStep) -> None:
        """Take a step."""


class Bench:
    """Recovery of one PBX and the calls that it may have."""

    def __init__(self, clock: VirtualClock, metrics: Metrics) -> None:
        self.clock, self.metrics = clock, metrics
        self.pbx = Pbx(clock)
        self.ended: list[LiveCall] = []
        self.woken = self.settled = 0
        self.hangups: list[asyncio.Future[None]] = []
        self.calls = Calls(
            cast(Journal, Steps()),
            clock,
            metrics,
            trunks=Watched(),
            on_end=self.ended.append,
            hang_up=lambda live: self.hangups.append(asyncio.ensure_future(self.recovery.hang_up(live))),
            on_overdue=lambda _: self.recovery.doubt(),
        )
        driver = cast(PbxDriver, self.pbx)
        self.recovery = Recovery("main", driver, self.calls, clock, metrics, settled=self.settle, wake=self.wake)

    def settle(self) -> None:
        self.settled += 1

    def wake(self) -> None:
        self.woken += 1

    def a_call(self, call_id: str = "call", *, sent: bool = True) -> LiveCall:
        """A call in flight, whose order has just gone out."""
        made = an_originating(a_contact(), call_id, self.clock.wall())
        live = LiveCall(made.call, made.contact, CampaignSettings(answer_timeout=300), 1000.0)
        self.calls.add(live)
        if sent:
            self.calls.sent(live)
        return live

    def from_before(self, call_id: str = "call", ago: float = 60.0) -> LiveCall:
        """A call in flight from before the restart, whose process sent its last so many seconds ago."""
        made = an_originating(a_contact(), call_id, self.clock.wall())
        live = LiveCall(made.call, made.contact, CampaignSettings(), 1000.0)
        self.calls.resume(live, self.clock.mono() - ago)
        return live

    def outcomes(self) -> dict[str, Outcome | None]:
        return {live.call.id: live.call.outcome for live in self.ended}


def play(virtual: Virtual, metrics: Metrics, scene: object) -> None:
    """Run a scene beside recovery's own task."""

    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock, metrics)
        task = asyncio.ensure_future(bench.recovery.run())
        try:
            await scene(bench)  # type: ignore[operator]
        finally:
            bench.calls.disarm()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    virtual(main)


def test_the_gate_opens_when_the_pbx_was_asked(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.pbx.state, bench.pbx.reason = LinkState.REFUSED, "Authentication failed"
        gate = bench.recovery.gate()
        assert not gate.open
        assert gate.detail == f"Authentication failed on pbx main since {START:%Y-%m-%d %H:%M}Z"
        bench.pbx.state, bench.pbx.reason = LinkState.UP, None
        bench.recovery.link_up()
        assert not bench.recovery.gate().open
        await bench.clock.sleep(0.1)
        assert bench.recovery.gate().open
        assert bench.woken == 1
        bench.pbx.state = LinkState.CONNECTING
        bench.recovery.link_down()
        assert not bench.recovery.gate().open

    play(virtual, metrics, scene)


def test_a_pbx_that_takes_no_calls_is_tried_again_after_a_while_and_when_it_comes_back(
    virtual: Virtual, metrics: Metrics
) -> None:
    async def scene(bench: Bench) -> None:
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        bench.recovery.closed("it is full")
        await bench.clock.sleep(CLOSED_SECONDS / 2)
        bench.recovery.closed("it is still full")  # of calls that were on their way: the while is not begun anew
        assert bench.recovery.gate().detail == "pbx main takes no calls: it is full"
        woken = bench.woken
        await bench.clock.sleep(CLOSED_SECONDS / 2 + 0.1)
        assert (bench.recovery.gate().open, bench.woken) == (True, woken + 1)
        bench.recovery.closed("it is shutting down")
        bench.recovery.link_down()
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        assert bench.recovery.gate().open

    play(virtual, metrics, scene)


def test_a_pbx_that_says_it_is_closed_is_closed_until_it_says_otherwise_or_comes_back(
    virtual: Virtual, metrics: Metrics
) -> None:
    async def scene(bench: Bench) -> None:
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        bench.recovery.told("it is paused")
        await bench.clock.sleep(10 * CLOSED_SECONDS)
        assert bench.recovery.gate().detail == "pbx main takes no calls: it is paused"
        bench.recovery.closed("refused")
        assert bench.recovery.gate().until is None, "its own word has no end that we know of"
        bench.recovery.told(None)
        await bench.clock.sleep(CLOSED_SECONDS + 0.1)
        assert bench.recovery.gate().open
        bench.recovery.told("it shuts down")
        bench.recovery.link_down()
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        assert bench.recovery.gate().open

    play(virtual, metrics, scene)


def test_a_closed_pbx_is_still_asked_to_hang_up(virtual: Virtual, metrics: Metrics) -> None:
    """A pause may last for hours, and the callee of a call that rings too long must not wait for its end."""

    async def scene(bench: Bench) -> None:
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        for close in (bench.recovery.told, bench.recovery.closed):
            live = bench.a_call(close.__name__)
            close("it is paused")
            assert not bench.recovery.gate().open
            await bench.recovery.hang_up(live)
            assert live.asked
        assert bench.pbx.hung_up == ["told", "closed"]

    play(virtual, metrics, scene)


def test_a_full_pbx_is_left_alone_twice_as_long_each_time_until_it_takes_a_call(
    virtual: Virtual, metrics: Metrics
) -> None:
    async def scene(bench: Bench) -> None:
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        pauses = []
        for _ in range(7):
            began = bench.clock.mono()
            bench.recovery.full("DESTINATION_OUT_OF_ORDER")
            bench.recovery.full("another that was on its way")
            bench.recovery.taken()  # by a call that was sent before it was full
            woken = bench.woken
            while bench.woken == woken:
                assert not bench.recovery.gate().open
                await bench.clock.sleep(0.5)
            pauses.append(round(bench.clock.mono() - began))
        assert pauses == [1, 2, 4, 8, 16, FULL_MOST, FULL_MOST]
        bench.recovery.taken()
        bench.recovery.full("DESTINATION_OUT_OF_ORDER")
        gate = bench.recovery.gate()
        assert gate.detail == "pbx main takes no calls: it had no room for a call (DESTINATION_OUT_OF_ORDER)"
        await bench.clock.sleep(1.1)
        assert bench.recovery.gate().open

    play(virtual, metrics, scene)


def test_a_lost_link_needs_a_listing_of_its_own(virtual: Virtual, metrics: Metrics) -> None:
    """The link comes back at once: what was known before it went is known no more."""

    async def scene(bench: Bench) -> None:
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        bench.recovery.link_down()
        bench.recovery.link_up()
        assert not bench.recovery.gate().open
        await bench.clock.sleep(0.1)
        assert bench.recovery.gate().open

    play(virtual, metrics, scene)


def test_a_call_missing_from_two_listings_is_interrupted(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.from_before("gone")
        bench.from_before("lives")
        bench.pbx.channels = {"lives": ChannelState.UP}
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        assert bench.ended == []
        assert bench.recovery.gate().open  # what is in doubt keeps its slot, and the rest may go on
        await bench.clock.sleep(SECOND_LOOK + 0.1)
        assert bench.outcomes() == {"gone": Outcome.INTERRUPTED}
        assert bench.pbx.forgotten == ["gone"]
        lives = bench.calls.get("lives")
        assert lives is not None
        assert lives.call.status is CallStatus.CONNECTED

    play(virtual, metrics, scene)


def test_a_fresh_call_is_not_declared_gone(virtual: Virtual, metrics: Metrics) -> None:
    """The listing lags behind an accepted order."""

    async def scene(bench: Bench) -> None:
        bench.a_call()
        bench.recovery.doubt()
        await bench.clock.sleep(LISTING_LAG - 0.1)
        assert bench.ended == []
        bench.pbx.channels = {"call": ChannelState.DIALLING}
        await bench.clock.sleep(60)
        assert bench.ended == []

    play(virtual, metrics, scene)


def test_a_call_of_the_process_before_may_be_fresh_too(virtual: Virtual, metrics: Metrics) -> None:
    """Whoever is back within a moment asks too early for what was sent in the last one: that listing counts not."""

    async def scene(bench: Bench) -> None:
        bench.from_before(ago=0.1)
        bench.recovery.link_up()
        await bench.clock.sleep(LISTING_LAG - 0.2)
        assert bench.recovery.gate().open
        assert len(bench.pbx.asked) == 1
        await bench.clock.sleep(SECOND_LOOK)
        assert bench.ended == [], "the second listing is the first that could have shown it"
        await bench.clock.sleep(SECOND_LOOK)
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}
        assert [round(asked) for asked in bench.pbx.asked] == [0, 2, 3]

    play(virtual, metrics, scene)


def test_a_call_that_the_process_before_heard_ring_is_no_fresh_one(virtual: Virtual, metrics: Metrics) -> None:
    """Two listings settle it: its slot is free again two seconds after the start, and not four."""

    async def scene(bench: Bench) -> None:
        live = bench.from_before(ago=0.0)
        live.call = replace(live.call, status=CallStatus.RINGING, ringing_at=bench.clock.wall())
        bench.recovery.link_up()
        await bench.clock.sleep(SECOND_LOOK + 0.1)
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)


def test_a_fresh_call_that_never_appears_is_gone_after_all(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.a_call()
        bench.recovery.doubt()
        await bench.clock.sleep(LISTING_LAG + SECOND_LOOK + 0.5)
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)


def test_a_call_whose_order_has_not_gone_out_yet_cannot_be_listed(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        live = bench.a_call(sent=False)
        bench.recovery.doubt()
        await bench.clock.sleep(LISTING_LAG - 0.1)
        bench.calls.sent(live)
        bench.pbx.channels = {"call": ChannelState.DIALLING}
        await bench.clock.sleep(30)
        assert bench.ended == []

    play(virtual, metrics, scene)


def test_a_call_that_waits_for_its_rate_is_not_gone(virtual: Virtual, metrics: Metrics) -> None:
    """Its order has not gone out, for however long: no listing can show it, and nothing is known of it by that."""

    async def scene(bench: Bench) -> None:
        live = bench.a_call(sent=False)
        bench.recovery.link_up()
        await bench.clock.sleep(3 * ROUTINE)
        assert bench.recovery.gate().open
        assert bench.ended == []
        bench.calls.sent(live)
        bench.recovery.doubt()
        await bench.clock.sleep(LISTING_LAG + SECOND_LOOK + 0.5)
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)


def test_a_call_whose_end_is_being_told_is_not_overtaken_by_listings(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.from_before()
        bench.pbx.ends = {"call"}
        bench.recovery.link_up()
        await bench.clock.sleep(3 * ROUTINE)
        assert bench.ended == []
        bench.pbx.ends = set()
        bench.recovery.doubt()
        await bench.clock.sleep(SECOND_LOOK + 0.5)
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)


def test_a_hangup_that_was_put_off_is_asked_as_soon_as_the_pbx_is_known(virtual: Virtual, metrics: Metrics) -> None:
    """Between the listing and that moment lies the question what was kept of another call."""

    async def scene(bench: Bench) -> None:
        bench.from_before("gone")
        bench.from_before("stays").goal = Goal.STOP
        bench.pbx.channels = {"stays": ChannelState.UP}
        bench.pbx.results["gone"] = Kept(Ended("gone", ANSWERED, 16), bench.clock.wall(), handed_over=True)
        bench.recovery.link_up()
        await bench.clock.sleep(1)
        assert bench.recovery.gate().open
        assert bench.pbx.hung_up == ["stays"]

    play(virtual, metrics, scene)


@pytest.mark.parametrize("answer", [False, LinkLost("Permission denied")], ids=["no such channel", "not asked"])
def test_a_hangup_that_is_refused_is_followed_by_a_listing_and_asked_again(
    virtual: Virtual, metrics: Metrics, answer: bool | LinkLost
) -> None:
    """Its end was not heard, or it will not come: either way nothing else would tell."""

    async def scene(bench: Bench) -> None:
        bench.recovery.link_up()
        live = bench.a_call()
        await bench.clock.sleep(1)
        asked = len(bench.pbx.asked)
        bench.pbx.channels, bench.pbx.refuses = {"call": ChannelState.UP}, [answer]
        live.aim(Goal.STOP)
        await bench.recovery.hang_up(live)
        assert not live.asked
        await bench.clock.sleep(0.5)
        assert len(bench.pbx.asked) == asked + 1
        assert (bench.pbx.hung_up, live.asked) == (["call", "call"], True)

    play(virtual, metrics, scene)


def test_orders_in_doubt_are_settled_by_the_loss_of_the_link_and_by_the_first_listing(
    virtual: Virtual, metrics: Metrics
) -> None:
    """What did not arrive by then never will: the rates that wait for it would wait without end."""

    async def scene(bench: Bench) -> None:
        bench.recovery.link_up()
        await bench.clock.sleep(1)
        assert bench.settled == 1
        bench.recovery.in_doubt()
        assert bench.settled == 1
        await bench.clock.sleep(1)
        assert bench.settled == 2
        bench.recovery.link_down()
        assert bench.settled == 3

    play(virtual, metrics, scene)


def test_an_order_in_doubt_behind_the_question_needs_a_listing_of_its_own(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.pbx.takes = 1.0
        bench.recovery.link_up()
        await bench.clock.sleep(0.5)
        bench.recovery.in_doubt()
        await bench.clock.sleep(1.0)
        assert (bench.recovery.gate().open, bench.settled) == (False, 0)
        await bench.clock.sleep(1.0)
        assert (bench.recovery.gate().open, bench.settled) == (True, 1)

    play(virtual, metrics, scene)


def test_a_link_that_is_lost_behind_the_answer_to_what_was_kept_leaves_the_pbx_unknown(
    virtual: Virtual, metrics: Metrics
) -> None:
    async def scene(bench: Bench) -> None:
        def lose() -> None:
            bench.pbx.state = LinkState.CONNECTING
            bench.recovery.link_down()

        bench.from_before("gone")
        bench.from_before("stays").goal = Goal.STOP
        bench.pbx.channels = {"stays": ChannelState.UP}
        bench.pbx.behind_kept = lose
        bench.recovery.link_up()
        await bench.clock.sleep(1)
        assert (bench.woken, bench.hangups, bench.settled) == (0, [], 1)
        bench.pbx.behind_kept, bench.pbx.state = lambda: None, LinkState.UP
        assert not bench.recovery.gate().open, "its calls are not known, whatever its link is"

    play(virtual, metrics, scene)


def test_calls_on_a_pbx_that_never_comes_back_end_at_last(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.pbx.state = LinkState.CONNECTING
        bench.a_call("sent")
        bench.a_call("unsent", sent=False)
        await bench.clock.sleep(LONGEST_CALL.total_seconds())
        assert bench.ended == []
        await bench.clock.sleep(2 * ROUTINE)
        assert bench.outcomes() == {"sent": Outcome.INTERRUPTED}
        assert bench.pbx.forgotten == ["sent"]

    play(virtual, metrics, scene)


def test_a_channel_that_turns_up_late_is_adopted(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        live = bench.from_before()
        bench.recovery.link_up()
        await bench.clock.sleep(SECOND_LOOK / 2)
        bench.pbx.channels = {"call": ChannelState.RINGING}
        await bench.clock.sleep(SECOND_LOOK)
        assert live.call.status is CallStatus.RINGING
        # Its absence before counts no more: it takes two listings again.
        bench.pbx.channels = {}
        bench.recovery.doubt()
        await bench.clock.sleep(SECOND_LOOK - 0.2)
        assert bench.ended == []
        await bench.clock.sleep(1)
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)


def test_whoever_speaks_between_two_listings_was_not_gone(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.from_before()
        bench.recovery.link_up()
        await bench.clock.sleep(SECOND_LOOK / 2)
        bench.calls.hear("main", Ringing("call"))
        await bench.clock.sleep(SECOND_LOOK)
        assert bench.ended == []
        await bench.clock.sleep(SECOND_LOOK)
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)


def test_whoever_speaks_while_the_listing_is_under_way_lives(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.pbx.takes = 1.0
        bench.from_before()
        bench.recovery.link_up()
        await bench.clock.sleep(0.5)
        bench.calls.hear("main", Ringing("call"))
        await bench.clock.sleep(3.0)
        assert bench.ended == []

    play(virtual, metrics, scene)


def test_a_listing_that_fails_is_tried_again_and_proves_nothing(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.from_before()
        bench.pbx.fails = True
        bench.recovery.link_up()
        await bench.clock.sleep(20)
        assert bench.ended == []
        assert not bench.recovery.gate().open
        assert 10 <= len(bench.pbx.asked) <= 21
        bench.pbx.fails = False
        await bench.clock.sleep(SECOND_LOOK + 1.5)
        assert bench.recovery.gate().open
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)


def test_words_that_nobody_can_make_sense_of_close_that_pbx_and_end_nothing(virtual: Virtual, metrics: Metrics) -> None:
    """They would else take the daemon down, and its next start as well."""

    async def scene(bench: Bench) -> None:
        bench.from_before()
        bench.pbx.nonsense = True
        bench.recovery.link_up()
        await bench.clock.sleep(20)
        assert bench.ended == []
        assert not bench.recovery.gate().open
        assert 10 <= len(bench.pbx.asked) <= 21
        assert bench.metrics.dropped.labels("pbx_question")._value.get() == len(bench.pbx.asked)
        bench.pbx.nonsense = False
        await bench.clock.sleep(SECOND_LOOK + 1.5)
        assert bench.recovery.gate().open
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)


def test_links_that_last_for_one_listing_each_settle_calls_all_the_same(virtual: Virtual, metrics: Metrics) -> None:
    """A link that is lost again and again would else fill every slot with calls that are gone."""

    async def scene(bench: Bench) -> None:
        bench.from_before()
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        bench.recovery.link_down()
        await bench.clock.sleep(SECOND_LOOK * 0.9)
        bench.recovery.link_up()
        await bench.clock.sleep(0.01)
        assert bench.ended == [], "the two listings lie too close to each other"
        bench.recovery.link_down()
        await bench.clock.sleep(SECOND_LOOK * 0.1)
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)


def test_nobody_is_asked_while_the_link_is_down(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.from_before()
        bench.pbx.state = LinkState.CONNECTING
        bench.recovery.doubt()
        await bench.clock.sleep(1000)
        assert bench.pbx.asked == []
        assert bench.ended == []

    play(virtual, metrics, scene)


@pytest.mark.parametrize("in_flight", [False, True])
def test_the_pbx_is_asked_each_minute_while_calls_are_in_flight(
    virtual: Virtual, metrics: Metrics, in_flight: bool
) -> None:
    async def scene(bench: Bench) -> None:
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        if in_flight:
            bench.a_call()
            bench.pbx.channels = {"call": ChannelState.DIALLING}
        before = len(bench.pbx.asked)
        await bench.clock.sleep(10 * ROUTINE)
        routine = len(bench.pbx.asked) - before
        assert (8 <= routine <= 12) if in_flight else routine == 0

    play(virtual, metrics, scene)


def test_a_strangers_channel_is_counted(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.pbx.channels = {"a stranger": ChannelState.UP}
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        assert bench.metrics.pbx_events_unknown.labels("main")._value.get() == 1

    play(virtual, metrics, scene)


ANSWERED = Verdict(Outcome.ANSWERED, Fault.NONE)


def test_what_the_pbx_kept_settles_a_call_by_the_first_listing(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.from_before()
        await bench.clock.sleep(60)
        ended_at = bench.clock.wall() - timedelta(seconds=20)
        bench.pbx.results["call"] = Kept(Ended("call", ANSWERED, 16, talk_seconds=12.5), ended_at, handed_over=True)
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        call = bench.ended[0].call
        assert (call.status, call.outcome, call.fault) == (CallStatus.ENDED, Outcome.ANSWERED, Fault.NONE)
        assert (call.talk_seconds, call.hangup_cause, call.hung_up_by) == (12.5, 16, None)
        assert (call.ended_at, call.answered_at) == (ended_at, ended_at - timedelta(seconds=12.5))
        assert call.handed_over_at == call.answered_at
        assert bench.pbx.forgotten == ["call"]

    play(virtual, metrics, scene)


def test_an_answer_that_was_heard_stays_when_it_was_heard(virtual: Virtual, metrics: Metrics) -> None:
    """Without CDRs the talk is counted from there, and two clocks that differ make no call end before it began."""

    async def scene(bench: Bench) -> None:
        ahead, slow = bench.a_call("ahead"), bench.a_call("slow")
        bench.calls.confirm(LiveChannel("ahead", ChannelState.UP, 1.0))
        bench.calls.confirm(LiveChannel("slow", ChannelState.UP, 1.0))
        answered_at = bench.clock.wall()
        await bench.clock.sleep(30)
        early, late = START - timedelta(hours=1), bench.clock.wall() + timedelta(hours=1)
        for call_id, ended_at in (("ahead", late), ("slow", early)):
            bench.pbx.results[call_id] = Kept(Ended(call_id, ANSWERED), ended_at, handed_over=True)
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        assert {live.call.id for live in bench.ended} == {"ahead", "slow"}
        assert (ahead.call.answered_at, slow.call.answered_at) == (answered_at, answered_at)
        assert ahead.call.talk_seconds == pytest.approx(30, abs=0.1)
        assert slow.call.talk_seconds == 0

    play(virtual, metrics, scene)


def test_a_queue_that_handed_the_call_to_nobody_left_it_abandoned(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        live = bench.from_before()
        live.hands_over = True
        bench.pbx.results["call"] = Kept(Ended("call", ANSWERED), bench.clock.wall(), handed_over=False)
        bench.recovery.link_up()
        await bench.clock.sleep(0.1)
        assert bench.outcomes() == {"call": Outcome.ABANDONED}

    play(virtual, metrics, scene)


def test_a_question_that_fails_settles_nothing(virtual: Virtual, metrics: Metrics) -> None:
    async def scene(bench: Bench) -> None:
        bench.from_before()
        bench.recovery.link_up()
        await bench.clock.sleep(bench.pbx.takes * 1.5)  # the listing is there, the question under way
        bench.pbx.fails = True
        await bench.clock.sleep(20)
        assert bench.ended == []
        assert not bench.recovery.gate().open
        bench.pbx.fails = False
        await bench.clock.sleep(SECOND_LOOK * 3)
        assert bench.outcomes() == {"call": Outcome.INTERRUPTED}

    play(virtual, metrics, scene)
