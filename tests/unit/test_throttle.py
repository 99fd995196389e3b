"""Rates, slots and shares: what each limit lets through, at its edges."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from dialerd.core.throttle import Arrival, Block, Book, Draft, Key, Level, Rate, Shares

TRUNK = Key(Level.TRUNK, "a")
TENANT = Key(Level.TENANT, "one")
GUARD = 0.05


def a_book(slots: int | None = None, per_second: float | None = None) -> Book:
    book = Book()
    book.set(TRUNK, slots, per_second, GUARD)
    return book


class TestRate:
    @pytest.mark.parametrize(
        ("per_second", "spacing"),
        [
            (1, 1.05),
            (10, 0.105),
            (0.5, 2.05),  # one call every two seconds
            (2.5, (2 / 2.5 + GUARD) / 2),
        ],
    )
    def test_calls_are_spread_evenly(self, per_second: float, spacing: float) -> None:
        assert Rate(per_second, GUARD).spacing == pytest.approx(spacing)

    def test_a_rate_of_nothing_is_no_rate(self) -> None:
        with pytest.raises(ValueError, match="more than zero"):
            Rate(0, GUARD)

    def test_the_first_call_may_go_at_once(self) -> None:
        rate = Rate(1, GUARD)
        assert rate.next_free == rate.lawful() == -math.inf

    def test_late_sends_delay_those_that_would_come_too_close(self) -> None:
        rate = Rate(2, GUARD)
        for at in (10.0, 10.9):  # the second was planned for 10.5 and came late
            assert rate.lawful() <= at
            rate.sent(at)
        assert rate.lawful() == pytest.approx(11.05)

    def test_idle_time_is_not_saved_up(self) -> None:
        rate = Rate(10, GUARD)
        rate.reserve(0.0)
        rate.reserve(100.0)
        assert rate.next_free == pytest.approx(100.105)

    def test_a_lowered_limit_binds_the_next_call(self) -> None:
        rate = Rate(10, GUARD)
        for index in range(10):
            rate.sent(index * 0.105)
        rate.limit(2)
        # The last but one of those sent and the next are two apart: a second and the guard.
        assert rate.lawful() == pytest.approx(8 * 0.105 + 1.05)

    def test_a_raised_limit_forgets_nothing_that_was_sent(self) -> None:
        rate = Rate(2, GUARD)
        rate.sent(0.0)
        rate.sent(0.5)
        rate.limit(3)
        assert rate.lawful() == -math.inf
        rate.sent(0.6)
        assert rate.lawful() == pytest.approx(1.05)

    def test_a_raised_limit_does_not_wait_as_before(self) -> None:
        rate = Rate(0.1, GUARD)
        rate.reserve(0.0)
        assert rate.next_free == pytest.approx(10.0 + GUARD)
        rate.limit(1)
        assert rate.next_free == pytest.approx(1.0 + GUARD)
        rate.limit(0.1)
        assert rate.next_free == pytest.approx(1.0 + GUARD), "a lowered one binds from the next call on"


class TestBook:
    def test_a_call_takes_and_frees_its_slot_at_each_holder(self) -> None:
        book = a_book(2)
        book.take("call", (TRUNK, TENANT))
        assert (book.get(TRUNK).used, book.get(TENANT).used) == (1, 1)
        assert book.release("call") == (TRUNK, TENANT)
        assert (book.get(TRUNK).used, book.get(TENANT).used) == (0, 0)

    def test_a_call_is_released_once(self) -> None:
        book = a_book(2)
        book.take("call", (TRUNK,))
        book.release("call")
        assert book.release("call") == ()
        assert book.get(TRUNK).used == 0

    def test_a_call_takes_its_slots_once(self) -> None:
        book = a_book(2)
        book.take("call", (TRUNK,))
        with pytest.raises(ValueError, match="slots already"):
            book.take("call", (TRUNK,))
        assert book.get(TRUNK).used == 1

    def test_a_lowered_limit_keeps_what_lives_and_blocks_what_is_new(self) -> None:
        book = a_book(3)
        for call in "abc":
            book.take(call, (TRUNK,))
        book.set(TRUNK, 1, None, GUARD)
        assert book.get(TRUNK).used == 3
        for call in "ab":
            book.release(call)
            assert Draft(book).block((TRUNK,), 0.0) is not None
        book.release("c")
        assert Draft(book).block((TRUNK,), 0.0) is None

    def test_a_holder_in_use_is_not_dropped(self) -> None:
        book = a_book(1)
        book.take("call", (TRUNK,))
        book.drop(TRUNK)
        assert book.get(TRUNK).slots == 1
        book.release("call")
        book.drop(TRUNK)
        assert dict(book.items()) == {}

    def test_dropping_a_stranger_does_nothing(self) -> None:
        book = Book()
        book.drop(TRUNK)
        assert dict(book.items()) == {}

    def test_a_rate_outlives_a_change_of_its_limit(self) -> None:
        book = a_book(None, 1)
        book.sent((TRUNK,), 0.0)
        book.set(TRUNK, None, 2, GUARD)
        book.sent((TRUNK,), 0.4)
        assert book.lawful((TRUNK,)) == pytest.approx(1.05)

    def test_a_rate_can_be_taken_away(self) -> None:
        book = a_book(None, 1)
        book.sent((TRUNK,), 0.0)
        book.set(TRUNK, None, None, GUARD)
        assert book.lawful((TRUNK,)) == -math.inf

    def test_the_strictest_of_all_holders_decides(self) -> None:
        book = a_book(None, 10)
        book.set(TENANT, None, 1, GUARD)
        book.sent((TRUNK, TENANT), 5.0)
        assert book.lawful((TRUNK, TENANT)) == pytest.approx(6.05)
        assert book.lawful((TRUNK,)) == -math.inf


class TestDraft:
    def test_it_counts_what_it_takes_and_touches_nothing(self) -> None:
        book = a_book(2)
        draft = Draft(book)
        draft.take((TRUNK,), 0.0)
        assert draft.block((TRUNK,), 0.0) is None
        draft.take((TRUNK,), 0.0)
        assert draft.block((TRUNK,), 0.0) == Block(TRUNK, None)
        assert book.get(TRUNK).used == 0
        assert Draft(book).block((TRUNK,), 0.0) is None

    def test_a_kept_slot_leaves_the_rate_to_others(self) -> None:
        book = a_book(2, 10)
        draft = Draft(book)
        draft.keep([TRUNK])
        assert draft.block((TRUNK,), 0.0) is None
        draft.keep([TRUNK])
        assert draft.block((TRUNK,), 0.0) == Block(TRUNK, None)

    def test_the_first_holder_that_blocks_is_named(self) -> None:
        book = a_book(1)
        book.set(TENANT, 0, None, GUARD)
        assert Draft(book).block((TRUNK, TENANT), 0.0) == Block(TENANT, None)

    def test_the_block_names_the_moment_at_which_a_rate_allows_the_next(self) -> None:
        book = a_book(None, 2)
        draft = Draft(book)
        draft.take((TRUNK,), draft.send_at((TRUNK,), 7.0))
        block = draft.block((TRUNK,), 7.02)
        assert block is not None
        assert block.until == pytest.approx(7.525)
        assert draft.send_at((TRUNK,), 7.0) == pytest.approx(7.525)

    def test_slots_are_asked_before_rates(self) -> None:
        book = a_book(1, 2)
        draft = Draft(book)
        draft.take((TRUNK,), 0.0)
        block = draft.block((TRUNK,), 0.0)
        assert block is not None
        assert block.until is None


class TestShares:
    def serve(self, shares: Shares, weights: dict[str, float], count: int) -> Counter[str]:
        """Serve whoever was served least, so many times; returns how often each was."""
        served: Counter[str] = Counter()
        for _ in range(count):
            marks = shares.marks(TRUNK, weights)
            who = min(weights, key=lambda owner: (marks[owner], owner))
            shares.serve(TRUNK, who, weights[who], weights)
            served[who] += 1
        return served

    def test_equals_are_served_in_turn(self) -> None:
        assert self.serve(Shares(), {"one": 1, "two": 1}, 100) == {"one": 50, "two": 50}

    def test_weights_decide(self) -> None:
        assert self.serve(Shares(), {"one": 1, "two": 3}, 100) == {"one": 25, "two": 75}

    def test_a_newcomer_is_not_paid_for_the_time_before_it_came(self) -> None:
        shares = Shares()
        self.serve(shares, {"one": 1}, 1000)
        served = self.serve(shares, {"one": 1, "two": 1}, 10)
        assert served == {"one": 5, "two": 5}

    def test_whoever_had_nothing_to_dial_saves_nothing_up(self) -> None:
        shares = Shares()
        self.serve(shares, {"one": 1, "two": 1}, 10)
        self.serve(shares, {"one": 1}, 1000)
        assert self.serve(shares, {"one": 1, "two": 1}, 10) == {"one": 5, "two": 5}

    def test_the_least_mark_is_nought(self) -> None:
        shares = Shares()
        self.serve(shares, {"one": 1, "two": 2}, 7)
        assert min(shares.marks(TRUNK, ("one", "two")).values()) == 0.0

    def test_nobody_waits_and_nothing_is_known(self) -> None:
        assert Shares().marks(TRUNK, ()) == {}

    def test_holders_know_nothing_of_each_other(self) -> None:
        shares = Shares()
        self.serve(shares, {"one": 1, "two": 1}, 3)
        assert shares.marks(TENANT, ("one", "two")) == {"one": 0.0, "two": 0.0}


class TestArrivals:
    """What was sent need not have arrived: a network may hold it back, and let it through in a bunch."""

    def test_an_order_that_may_be_under_way_still_is_waited_for(self) -> None:
        rate, arrival = Rate(1, GUARD), Arrival()
        rate.sent(0.0, arrival)
        assert rate.lawful() == math.inf
        arrival.by = 4.0
        assert rate.lawful() == pytest.approx(5.0)

    def test_one_that_arrived_at_once_costs_nothing(self) -> None:
        rate, arrival = Rate(10, GUARD), Arrival()
        for index in range(10):
            rate.sent(index * 0.105, arrival if index == 0 else None)
        arrival.by = 0.004
        assert rate.lawful() == pytest.approx(1.05)

    def test_only_the_oldest_that_counts_is_waited_for(self) -> None:
        rate = Rate(2, GUARD)
        rate.sent(0.0)
        rate.sent(0.5, Arrival())
        assert rate.lawful() == pytest.approx(1.05)

    def test_every_rate_of_a_call_shares_its_arrival(self) -> None:
        book, arrival = a_book(None, 1), Arrival()
        book.set(TENANT, None, 1, GUARD)
        book.sent((TRUNK, TENANT), 0.0, arrival)
        arrival.by = 2.0
        assert book.lawful((TRUNK,)) == book.lawful((TENANT,)) == pytest.approx(3.0)


class TestAfterARestart:
    """What a process before this one sent in its last second is not known."""

    def test_every_rate_begins_as_if_it_were_spent(self) -> None:
        book = a_book(None, 4)
        book.unknown_before(100.0)
        book.set(TENANT, None, 0.5, GUARD)
        assert book.lawful((TRUNK,)) == pytest.approx(101.05)
        assert book.lawful((TENANT,)) == pytest.approx(102.05)

    def test_it_is_not_shown_as_calls_of_ours(self) -> None:
        book = a_book(None, 4)
        book.unknown_before(100.0)
        rate = book.get(TRUNK).rate
        assert rate is not None
        assert rate.measured(100.1) == 0

    def test_a_limit_that_is_raised_after_it_is_no_freer(self) -> None:
        """What the process before this one sent, it may have sent under any limit."""
        book = a_book(None, 1)
        book.unknown_before(100.0)
        book.set(TRUNK, None, 10, GUARD)
        assert book.lawful((TRUNK,)) == pytest.approx(101.05)
        for _ in range(10):
            book.sent((TRUNK,), 101.05)
        assert book.lawful((TRUNK,)) == pytest.approx(102.1)

    def test_nothing_is_planned_for_before(self) -> None:
        """What waits for a rate waits in the list, where explain sees it, and not committed with a slot taken."""
        book = a_book(None, 0.2)
        book.unknown_before(100.0)
        assert Draft(book).send_at((TRUNK,), 100.0) == pytest.approx(105.05)
        book.set(TRUNK, None, 2, GUARD)
        assert Draft(book).send_at((TRUNK,), 100.0) <= 101.05

    def test_a_holder_without_a_rate_is_free(self) -> None:
        book = a_book(3)
        book.unknown_before(100.0)
        assert book.lawful((TRUNK,)) == -math.inf


class TestDropping:
    def test_a_rate_that_remembers_is_kept_until_it_is_free(self) -> None:
        """Whoever pauses and resumes a campaign gains nothing by it."""
        book = a_book(None, 0.5)
        book.sent((TRUNK,), 10.0)
        book.drop(TRUNK, 11.0)
        book.set(TRUNK, None, 0.5, GUARD)
        assert book.lawful((TRUNK,)) == pytest.approx(12.05)

    def test_it_goes_with_a_later_one(self) -> None:
        book = a_book(None, 0.5)
        book.sent((TRUNK,), 10.0)
        book.drop(TRUNK, 11.0)
        book.drop(TENANT, 13.0)
        assert dict(book.items()) == {}

    def test_one_that_is_set_again_stays(self) -> None:
        book = a_book(None, 0.5)
        book.sent((TRUNK,), 10.0)
        book.drop(TRUNK, 11.0)
        book.set(TRUNK, None, 0.5, GUARD)
        book.drop(TENANT, 20.0)
        assert book.get(TRUNK).rate is not None


def test_a_limit_that_was_lowered_for_a_moment_forgets_no_send() -> None:
    rate = Rate(10, 0.06)
    rate.sent(0.2)
    rate.limit(1.5)
    assert rate.lawful() == pytest.approx(0.2 + 1 / 1.5 + 0.06)
    rate.sent(0.95)
    rate.limit(2)
    assert rate.lawful() == pytest.approx(0.2 + 1.06)


def test_a_rate_remembers_no_more_than_it_has_to() -> None:
    rate = Rate(2, 0.06)
    for second in range(1000):
        rate.sent(float(second))
    assert len(rate._sent) <= 3
