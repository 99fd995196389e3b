"""The wall between asyncio and gevent: what goes in is done in order, what comes out is told in order, in batches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import gevent
import gevent.monkey
import pytest
import pytest_asyncio

from dialerd.pbx import esl_thread
from dialerd.pbx.esl_thread import EslThread


@pytest_asyncio.fixture
async def thread() -> AsyncIterator[EslThread]:
    thread = EslThread("esl-test")
    thread.start()
    yield thread
    await thread.stop()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def through(thread: EslThread) -> None:
    """Wait until everything that was posted is done, and everything told before it is taken."""
    done = asyncio.get_running_loop().create_future()
    assert thread.post(lambda: thread.tell(lambda: done.set_result(None), always=True))
    async with asyncio.timeout(10.0):
        await done


async def test_posts_are_done_in_order_in_another_thread(thread: EslThread) -> None:
    done: list[int] = []
    threads: set[int] = set()

    def note(number: int) -> None:
        done.append(number)
        threads.add(threading.get_ident())

    for number in range(1000):
        thread.post(partial(note, number))
    await through(thread)
    assert done == list(range(1000))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_tells_are_taken_in_order_in_the_event_loop(thread: EslThread) -> None:
    taken: list[int] = []
    threads: set[int] = set()

    def note(number: int) -> None:
        taken.append(number)
        threads.add(threading.get_ident())

    thread.post(lambda: [thread.tell(partial(note, number)) for number in range(5000)])
    await through(thread)
    assert taken == list(range(5000))
    assert threads == {threading.get_ident()}


async def test_many_tells_wake_the_event_loop_once(thread: EslThread, monkeypatch: pytest.MonkeyPatch) -> None:
    await through(thread)
    loop, wakes = asyncio.get_running_loop(), list[object]()
    wake = loop.call_soon_threadsafe

    def count(work: Callable[[], object]) -> object:
        wakes.append(work)
        return wake(work)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    told = threading.Event()
    thread.post(lambda: [thread.tell(int) for _ in range(400)])
    thread.post(told.set)
    told.wait(10.0)  # the event loop stands still meanwhile
    assert len(wakes) == 1
    await through(thread)


async def test_the_event_loop_gets_a_turn_between_batches(thread: EslThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esl_thread, "BATCH", 10)
    turns: list[str] = []
    told = threading.Event()
    thread.post(lambda: [thread.tell(lambda: turns.append("told")) for _ in range(25)])
    thread.post(told.set)
    told.wait(10.0)
    asyncio.get_running_loop().call_soon(turns.append, "other")
    await through(thread)
    assert "other" in turns[:21], "others wait for two batches at most"
    assert turns.count("told") == 25


async def test_what_waits_for_the_event_loop_is_bounded(thread: EslThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esl_thread, "MAX_WAITING", 3)
    taken: list[object] = []
    answers: list[bool] = []
    told = threading.Event()

    def tell() -> None:
        answers.extend(thread.tell(lambda: taken.append("event")) for _ in range(5))
        answers.append(thread.tell(lambda: taken.append("end"), always=True))
        told.set()

    thread.post(tell)
    told.wait(10.0)
    assert answers == [True, True, True, False, False, True]
    await through(thread)
    assert taken == ["event", "event", "event", "end"]


async def test_what_waits_is_bounded_by_its_size_too(thread: EslThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esl_thread, "MAX_WAITING_BYTES", 100)
    taken: list[int] = []
    answers: list[bool] = []

    def tell() -> None:
        answers.extend(thread.tell(partial(taken.append, size), size) for size in (60, 41, 40, 1, 0))
        answers.append(thread.tell(partial(taken.append, 500), 500, always=True))
        told.set()

    for _ in range(2):  # what was taken weighs nothing any more
        told = threading.Event()
        thread.post(tell)
        told.wait(10.0)
        await through(thread)
    assert answers == [True, False, True, False, True, True] * 2
    assert taken == [60, 40, 0, 500] * 2


async def test_an_error_on_either_side_is_counted_and_stops_nothing(thread: EslThread) -> None:
    thread.post(lambda: 1 // 0)
    thread.post(lambda: thread.tell(lambda: 1 // 0))
    await through(thread)
    assert thread.errors == 2


async def test_a_greenlet_runs_while_the_hub_waits_for_posts(thread: EslThread) -> None:
    done = asyncio.get_running_loop().create_future()

    def slow() -> None:
        gevent.sleep(0.01)
        thread.tell(lambda: done.set_result(threading.current_thread().name))

    thread.post(lambda: gevent.spawn(slow))
    async with asyncio.timeout(10.0):
        await done


async def test_after_stop_nothing_is_taken_any_more() -> None:
    thread = EslThread("esl-test")
    thread.start()
    done: list[int] = []
    assert thread.post(lambda: done.append(1))
    await thread.stop()
    assert done == [1], "what was posted before is done"
    assert not thread.post(lambda: done.append(2))
    await thread.stop()
    assert done == [1]


async def test_stop_without_start_is_no_matter() -> None:
    await EslThread("esl-test").stop()


async def test_threads_come_and_go_without_a_trace() -> None:
    async def once() -> None:
        thread = EslThread("esl-test")
        thread.start()
        thread.post(lambda: gevent.spawn(gevent.sleep, 0.001))
        await through(thread)
        await thread.stop()

    await once()  # what is made once per process
    before = descriptors(), threading.active_count()
    for _ in range(20):
        await once()
    assert (descriptors(), threading.active_count()) == before


def test_nothing_is_monkey_patched() -> None:
    assert not gevent.monkey.is_module_patched("socket")
    assert not gevent.monkey.is_module_patched("threading")
