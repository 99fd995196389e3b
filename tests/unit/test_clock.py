"""Time that can be trusted, ids that only grow, and virtual time that stands still while real work is done."""

from __future__ import annotations

import asyncio
import math
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.clock import SystemClock, VirtualClock, VirtualLoop, read_id, show_id, stream
from tests.support.virtual import START, TooManyTurns, run_virtual

DAY = 86_400.0


def test_row_ids_are_positive_and_grow_within_one_millisecond() -> None:
    async def main(clock: VirtualClock) -> list[int]:
        return [clock.number() for _ in range(10_000)]

    ids = run_virtual(7, main)
    assert all(0 < number < 1 << 63 for number in ids)
    assert all(earlier < later for earlier, later in pairwise(ids))


def test_row_ids_grow_over_a_wall_clock_that_jumps_back() -> None:
    async def main(clock: VirtualClock) -> tuple[int, int]:
        before = clock.number()
        clock.jump(timedelta(hours=-2))
        return before, clock.number()

    before, after = run_virtual(7, main)
    assert before < after


def test_row_ids_of_a_later_process_are_greater() -> None:
    async def main(clock: VirtualClock) -> int:
        return clock.number()

    first = run_virtual(1, main, start=START)
    assert first < run_virtual(0, main, start=START + timedelta(milliseconds=1))


def test_row_ids_fit_in_63_bits_until_2089() -> None:
    async def main(clock: VirtualClock) -> int:
        return clock.number()

    assert 0 < run_virtual(1023, main, start=datetime(2089, 1, 1, tzinfo=UTC)) < 1 << 63


def test_two_processes_of_one_millisecond_have_different_ids() -> None:
    async def main(clock: VirtualClock) -> int:
        return clock.number()

    assert run_virtual(1, main) != run_virtual(2, main)


@given(st.integers(min_value=0, max_value=(1 << 63) - 1))
def test_a_shown_id_is_read_again(number: int) -> None:
    assert read_id(show_id(number)) == number


@given(st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 63) - 1))
def test_shown_ids_sort_as_their_numbers(one: int, other: int) -> None:
    assert (one < other) == (show_id(one) < show_id(other))


@given(st.text(max_size=15))
def test_whatever_reads_as_an_id_is_shown_the_same(text: str) -> None:
    number = read_id(text)
    assert number is None or show_id(number) == text


@pytest.mark.parametrize(
    "text", ["", "0", "0" * 12, "0" * 14, "0" * 12 + "i", "0" * 12 + "A", "z" * 13, "8" + "0" * 12]
)
def test_what_never_was_an_id_is_refused(text: str) -> None:
    assert read_id(text) is None


def test_system_uuids_are_of_version_7_and_differ() -> None:
    clock = SystemClock()
    ids = [clock.uuid() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(text[14] == "7" and text[19] in "89ab" for text in ids)


def test_virtual_uuids_and_tokens_repeat_with_the_seed() -> None:
    async def main(clock: VirtualClock) -> tuple[str, str, float]:
        return clock.uuid(), clock.token(16), clock.chance()

    assert run_virtual(3, main) == run_virtual(3, main)
    assert run_virtual(3, main) != run_virtual(4, main)


def test_who_goes_round_without_end_on_virtual_time_ends_with_the_seed() -> None:
    """No virtual second passes, so that no timeout ends it."""

    async def main(_: VirtualClock) -> None:
        while True:  # noqa: ASYNC110 - the very fault
            await asyncio.sleep(0)  # noqa: TID251

    with pytest.raises(TooManyTurns, match="nobody waits") as caught:
        run_virtual(5, main, turns=1000)
    assert caught.value.__notes__[0].startswith("seed 5,")


def test_streams_are_apart_from_each_other_and_from_the_clock() -> None:
    one, same, other = stream("a"), stream("a"), stream("b")
    drawn = [one() for _ in range(5)]
    assert drawn != [other() for _ in range(5)]
    assert drawn == [same() for _ in range(5)]
    assert all(0 <= value < 1 for value in drawn)


async def test_a_real_timer_fires_and_a_cancelled_one_does_not() -> None:
    clock = SystemClock()
    fired: asyncio.Queue[str] = asyncio.Queue()
    clock.call_at(clock.mono(), lambda: fired.put_nowait("cancelled")).cancel()
    clock.call_at(clock.mono() + 0.01, lambda: fired.put_nowait("due"))
    clock.call_at(clock.mono() - 5.0, lambda: fired.put_nowait("past"))
    async with asyncio.timeout(5):
        assert [await fired.get(), await fired.get()] == ["past", "due"]


async def test_the_real_clocks_agree_with_themselves() -> None:
    clock = SystemClock()
    before, moment, after = clock.wall(), clock.now(), clock.wall()
    assert before.tzinfo is UTC
    assert before <= moment.wall <= after


def test_virtual_time_jumps_to_the_next_timer() -> None:
    async def main(clock: VirtualClock) -> tuple[float, datetime]:
        await clock.sleep(30 * DAY - 1)
        return clock.mono(), clock.wall()

    mono, wall = run_virtual(1, main)
    assert mono == pytest.approx(30 * DAY - 1)
    assert wall - START == timedelta(seconds=mono)


def test_timers_fire_in_order_and_at_their_moment() -> None:
    async def main(clock: VirtualClock) -> list[tuple[str, float]]:
        fired: list[tuple[str, float]] = []
        for name, moment in (("late", 9.5), ("early", 0.25), ("middle", 3.0)):
            clock.call_at(moment, lambda name=name: fired.append((name, clock.mono())))  # type: ignore[misc]
        await clock.sleep(10)
        return fired

    assert run_virtual(1, main) == [("early", 0.25), ("middle", 3.0), ("late", 9.5)]


def test_a_timer_is_due_after_years_of_virtual_time() -> None:
    """A nanosecond is less than the distance between floats here: waiting for it would never end."""

    async def main(clock: VirtualClock) -> float:
        await clock.sleep(200 * DAY)
        assert math.ulp(clock.mono()) > 2e-9
        await clock.sleep(0.1)
        return clock.mono()

    assert run_virtual(1, main, longest=None) == pytest.approx(200 * DAY + 0.1)


def test_a_jump_moves_the_wall_clock_and_not_the_monotonic_one() -> None:
    async def main(clock: VirtualClock) -> None:
        clock.jump(timedelta(minutes=-90))
        moment = clock.now()
        assert moment.wall == START - timedelta(minutes=90)
        assert moment.mono == 0.0
        await clock.sleep(60)
        assert clock.wall() == START - timedelta(minutes=89)

    run_virtual(1, main)


def test_virtual_time_stands_still_while_it_is_held() -> None:
    async def main(clock: VirtualClock) -> float:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        clock.call_at(5.0, lambda: None)
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(done.set_result, None))
        with clock.hold():
            thread.start()
            await done
        thread.join(5)
        return clock.mono()

    assert run_virtual(1, main) == 0.0


def test_work_in_an_executor_takes_no_virtual_time() -> None:
    async def main(clock: VirtualClock) -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        clock.call_at(5.0, lambda: None)

        async def look() -> float:
            return clock.mono()

        def work() -> float:
            """Ask the loop the time again and again: in between it is idle."""
            return max(asyncio.run_coroutine_threadsafe(look(), loop).result(5) for _ in range(50))

        return await asyncio.to_thread(work), clock.mono()

    assert run_virtual(1, main) == (0.0, 0.0)


def test_nested_holds_end_with_the_last() -> None:
    loop = VirtualLoop()
    try:
        with loop.hold():
            with loop.hold():
                pass
            assert loop.held
        assert not loop.held
    finally:
        loop.close()


def test_waiting_for_what_can_never_come_is_said() -> None:
    async def main(clock: VirtualClock) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="would wait for ever"):
        run_virtual(1, main, longest=None)


def test_a_failed_callback_fails_the_run_and_names_the_seed() -> None:
    async def main(clock: VirtualClock) -> None:
        clock.call_at(1.0, lambda: 1 / 0)
        await clock.sleep(2)

    with pytest.raises(ExceptionGroup) as raised:
        run_virtual(11, main)
    assert raised.group_contains(ZeroDivisionError)
    assert any("seed 11" in note for note in raised.value.__notes__)


def test_a_run_without_end_is_stopped() -> None:
    async def main(clock: VirtualClock) -> None:
        while True:
            await clock.sleep(60)

    with pytest.raises(TimeoutError):
        run_virtual(1, main, longest=3600)


def test_the_time_since_the_boot_counts_suspended_time_too() -> None:
    """More than that no test can show without suspending the machine."""
    clock = SystemClock()
    monotonic = clock.mono()
    assert clock.since_boot() >= monotonic
