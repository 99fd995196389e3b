"""Whatever is reserved, sent late, held back on its way, limited anew, taken and released: no limit is exceeded."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dialerd.core.throttle import Arrival, Book, Draft, Key, Level, Rate, Shares
from tests.support.effort import examples

GUARD = 0.06
TRUNK, PBX = Key(Level.TRUNK, "a"), Key(Level.PBX, "main")
KEYS = (TRUNK, PBX)
rates = st.sampled_from([0.2, 0.5, 1, 1.5, 2, 3, 10, 29.9])
lateness = st.floats(0, 3)


def never_more(arrivals: list[float], per_second: float) -> None:
    """What the far end counts: in no time of so many whole calls is there one more."""
    whole = max(1, math.floor(per_second))
    for early, late in zip(arrivals, arrivals[whole:], strict=False):
        assert late - early >= whole / per_second - 1e-9


def the_law(sends: list[tuple[float, float]]) -> None:
    """Each send keeps its distance to the one that is as many before it as its own rate has whole calls."""
    for index, (at, per_second) in enumerate(sends):
        whole = max(1, math.floor(per_second))
        if index >= whole:
            assert at - sends[index - whole][0] >= whole / per_second + GUARD - 1e-9


class Sending(RuleBasedStateMachine):
    """What the dispatcher does with a trunk and its PBX: it plans calls, sends them late, and they end in any order."""

    @initialize(slots=st.integers(1, 6), per_second=rates, pbx_rate=rates)
    def begin(self, slots: int, per_second: float, pbx_rate: float) -> None:
        self.now = 0.0
        self.book = Book()
        self.rate_of = {TRUNK: per_second, PBX: pbx_rate}
        self.slots = slots
        self.book.set(TRUNK, slots, per_second, GUARD)
        self.book.set(PBX, None, pbx_rate, GUARD)
        self.planned: list[tuple[str, float]] = []
        self.live: list[str] = []
        self.sends: dict[Key, list[tuple[float, float]]] = {TRUNK: [], PBX: []}
        self.ids = 0

    @rule(seconds=st.floats(0, 2))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(horizon=st.floats(0, 0.5))
    def plan(self, horizon: float) -> None:
        draft = Draft(self.book)
        taken: list[float] = []
        while draft.block(KEYS, self.now + horizon) is None and len(taken) < 10:
            at = draft.send_at(KEYS, self.now)
            assert self.now <= at <= self.now + horizon
            draft.take(KEYS, at)
            taken.append(at)
        assert not taken or self.book.get(TRUNK).used + len(taken) <= self.slots
        for at in taken:
            self.ids += 1
            self.book.take(str(self.ids), KEYS)
            self.book.reserve(KEYS, at)
            self.planned.append((str(self.ids), at))
        # What the draft said is what the book says once it is taken.
        assert Draft(self.book).send_at(KEYS, self.now) == draft.send_at(KEYS, self.now)

    @precondition(lambda self: self.planned)
    @rule(late=lateness, data=st.data())
    def send(self, late: float, data: st.DataObject) -> None:
        call, planned_for = self.planned.pop(data.draw(st.integers(0, len(self.planned) - 1)))
        self.now = max(self.now, planned_for, self.book.lawful(KEYS)) + late
        self.book.sent(KEYS, self.now)
        for key, sends in self.sends.items():
            sends.append((self.now, self.rate_of[key]))
        self.live.append(call)

    @precondition(lambda self: self.live or self.planned)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        everyone = self.live + [call for call, _ in self.planned]
        call = data.draw(st.sampled_from(everyone))
        self.live = [each for each in self.live if each != call]
        self.planned = [each for each in self.planned if each[0] != call]
        assert self.book.release(call) == KEYS
        assert self.book.release(call) == ()

    @rule(slots=st.integers(1, 6), per_second=rates)
    def limit(self, slots: int, per_second: float) -> None:
        self.slots, self.rate_of[TRUNK] = slots, per_second
        self.book.set(TRUNK, slots, per_second, GUARD)

    @invariant()
    def sends_keep_their_distance(self) -> None:
        for sends in getattr(self, "sends", {}).values():
            the_law(sends)

    @invariant()
    def every_slot_in_use_is_a_call(self) -> None:
        if hasattr(self, "book"):
            for key in KEYS:
                assert self.book.get(key).used == len(self.live) + len(self.planned)


@dataclass
class Order:
    """An order on its way, and the limit under which it was sent."""

    call: str
    sent: float
    per_second: float
    regime: int
    arrival: Arrival
    arrived: float | None = None


class FarEnd(RuleBasedStateMachine):
    """A network that holds orders back, limits that change, restarts, a campaign that pauses: the far end counts.

    The model is the far end's own list of arrivals: each order arrives between its sending and the proof of it.
    """

    @initialize(per_second=rates, slots=st.integers(1, 8))
    def begin(self, per_second: float, slots: int) -> None:
        self.now = 0.0
        self.per_second, self.slots = per_second, slots
        self.regime = 0
        self.orders: list[Order] = []
        self.under_way: list[Order] = []
        self.live: list[str] = []
        self.ids = 0
        self.start()

    def start(self) -> None:
        """Begin a process: it knows of its live calls, and of no send."""
        self.book = Book()
        self.book.set(TRUNK, self.slots, self.per_second, GUARD)

    @rule(seconds=st.floats(0, 3))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def send_as_soon_as_it_may(self) -> None:
        if self.book.get(TRUNK).used >= self.slots or math.isinf(lawful := self.book.lawful((TRUNK,))):
            return
        self.now = max(self.now, lawful)
        self.ids += 1
        call, arrival = str(self.ids), Arrival()
        self.book.take(call, (TRUNK,))
        self.book.sent((TRUNK,), self.now, arrival)
        order = Order(call, self.now, self.per_second, self.regime, arrival)
        self.orders.append(order)
        self.under_way.append(order)
        self.live.append(call)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), seconds=st.floats(0, 4))
    def a_receipt_comes(self, data: st.DataObject, seconds: float) -> None:
        """In any order; the order itself arrived at some moment before."""
        order = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.now += seconds
        order.arrived = data.draw(st.floats(order.sent, self.now))
        order.arrival.by = self.now

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def a_call_ends(self, data: st.DataObject) -> None:
        known = [call for call in self.live if call not in {each.call for each in self.under_way}]
        if known:
            call = data.draw(st.sampled_from(known))
            self.live.remove(call)
            self.book.release(call)

    @rule()
    def the_holder_is_dropped_and_set_again(self) -> None:
        """As a campaign is that pauses and resumes."""
        self.book.drop(TRUNK, self.now)
        self.book.set(TRUNK, self.slots, self.per_second, GUARD)

    @rule(data=st.data())
    def the_process_dies_and_another_begins(self, data: st.DataObject) -> None:
        for order in self.under_way:
            order.arrived = data.draw(st.floats(order.sent, self.now))
        self.under_way.clear()
        self.start()
        self.book.unknown_before(self.now)
        for call in self.live:
            self.book.take(call, (TRUNK,))

    @rule(slots=st.integers(1, 8))
    def other_slots(self, slots: int) -> None:
        self.slots = slots
        self.book.set(TRUNK, slots, self.per_second, GUARD)

    @rule(per_second=rates)
    def another_rate(self, per_second: float) -> None:
        self.per_second = per_second
        self.regime += 1
        self.book.set(TRUNK, self.slots, per_second, GUARD)

    @invariant()
    def the_far_end_never_counts_more(self) -> None:
        """Of the orders of one limit, in the order in which they arrived."""
        by_regime: dict[int, list[Order]] = defaultdict(list)
        for order in getattr(self, "orders", []):
            by_regime[order.regime].append(order)
        for orders in by_regime.values():
            never_more(sorted(each.arrived for each in orders if each.arrived is not None), orders[0].per_second)

    @invariant()
    def a_changed_limit_binds_the_next_order(self) -> None:
        """Whatever was sent under another: as many orders before it is its own span before it."""
        orders = getattr(self, "orders", [])
        for index, order in enumerate(orders):
            whole = max(1, math.floor(order.per_second))
            early = orders[index - whole] if index >= whole else None
            if early is not None and early.arrived is not None and order.arrived is not None:
                assert order.arrived - early.arrived >= whole / order.per_second - 1e-9

    @invariant()
    def every_slot_in_use_is_a_live_call(self) -> None:
        if hasattr(self, "book"):
            assert self.book.get(TRUNK).used == len(self.live)


TestFarEnd = FarEnd.TestCase
TestFarEnd.settings = settings(max_examples=examples(150), stateful_step_count=40)
TestSending = Sending.TestCase
TestSending.settings = settings(max_examples=examples(150), stateful_step_count=40)


@given(rates, st.lists(lateness, min_size=2, max_size=60))
def test_as_fast_as_allowed_is_not_much_slower(per_second: float, late: list[float]) -> None:
    """Whoever sends as soon as it may loses what it is late, and the guard: the rate is reached, not only kept."""
    rate, now = Rate(per_second, GUARD), 0.0
    for each in late:
        now = max(now, rate.lawful(), rate.next_free) + each
        rate.reserve(now)
        rate.sent(now)
    whole = max(1, math.floor(per_second))
    assert now <= sum(late) + len(late) * (1 / per_second + GUARD / whole) * (1 + 1e-9)


crowd = st.dictionaries(st.sampled_from("abcde"), st.floats(0.25, 8), min_size=1)


@given(st.lists(crowd, min_size=1, max_size=60))
def test_nobody_gets_far_ahead_of_those_who_wait(rounds: list[dict[str, float]]) -> None:
    """However the crowd changes, no two who wait are further apart than one call of the lightest."""
    shares = Shares()
    for waiting in rounds:
        weights = {**waiting, "steady": 1.0}
        marks = shares.marks(TRUNK, weights)
        assert min(marks.values()) == 0.0
        assert max(marks.values()) <= 1 / 0.25 + 1e-9
        who = min(weights, key=lambda owner: (marks[owner], owner))
        shares.serve(TRUNK, who, weights[who], weights)


@given(st.integers(1, 5), st.integers(2, 40))
def test_a_flood_of_newcomers_starves_nobody(newcomers: int, rounds: int) -> None:
    """Newcomers are served once and gone, and others come: who was there before has its turn in each round."""
    shares = Shares()
    steady = 0
    for index in range(rounds):
        waiting = [0, *(1 + newcomers * index + each for each in range(newcomers))]
        for _ in range(newcomers + 1):
            marks = shares.marks(TRUNK, waiting)
            who = min(waiting, key=lambda owner: (marks[owner], owner))
            shares.serve(TRUNK, who, 1.0, waiting)
            if who == 0:
                steady += 1
            else:
                waiting.remove(who)
    assert steady >= rounds
