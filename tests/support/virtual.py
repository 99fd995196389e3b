"""Runs a test on virtual time: hours pass in milliseconds, and the same seed gives the same run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, cast

import pytest

from dialerd.clock import VirtualClock, VirtualLoop

T = TypeVar("T")
C = TypeVar("C", bound=VirtualClock)
Main = Callable[[VirtualClock], Coroutine[Any, Any, T]]

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""A Monday noon, far from any change of daylight saving time."""
LONGEST = 30 * 86_400.0


def run_virtual(
    seed: int,
    main: Callable[[C], Coroutine[Any, Any, T]],
    *,
    start: datetime = START,
    longest: float | None = LONGEST,
    clock_type: type[C] = VirtualClock,  # type: ignore[assignment] # the type of whoever does not choose one
) -> T:
    """Run ``main(clock)`` on a loop of its own, and return its result.

    Raises what ``main`` raises, with the seed noted; TimeoutError after ``longest`` virtual seconds (None: no limit);
    and an ExceptionGroup where a callback or a forgotten task failed, which asyncio would only have logged.
    """
    failures: list[Exception] = []

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failures.append(context.get("exception") or RuntimeError(context["message"]))

    async def bounded(clock: C) -> T:
        async with asyncio.timeout(longest):
            return await main(clock)

    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop = cast(VirtualLoop, runner.get_loop())
            loop.set_exception_handler(note)
            result = runner.run(bounded(clock_type(loop, seed, start)))
        if failures:
            raise ExceptionGroup("failed outside of the test's own coroutine", failures)
    except BaseException as error:
        error.add_note(f"seed {seed}, virtual start {start.isoformat()}")
        raise
    return result


class Virtual(Protocol):
    """Runs coroutines on virtual time."""

    def __call__(self, main: Main[T], *, seed: int = 1, start: datetime = START, longest: float | None = LONGEST) -> T:
        """Run ``main(clock)``; see :func:`run_virtual`."""


@pytest.fixture
def virtual() -> Virtual:
    """Run a coroutine on virtual time. A conftest that imports this name makes it a fixture there."""

    def run(main: Main[T], *, seed: int = 1, start: datetime = START, longest: float | None = LONGEST) -> T:
        return run_virtual(seed, main, start=start, longest=longest)

    return run
