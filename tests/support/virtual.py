"""Runs a test on virtual time: hours pass in milliseconds, and the same seed gives the same run."""

from __future__ import annotations

import asyncio
import math
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
MOST_TURNS = 3_000_000
"""Turns of a loop that no test takes (a storm takes some 40,000): whoever goes round without end makes no time pass."""
_LAST_TURNS = 100_000
"""In which everything must end then."""


class TooManyTurns(Exception):
    """The loop goes round and round."""


class BoundedLoop(VirtualLoop):
    """A loop that ends with an error rather than never."""

    def __init__(self, turns: int | None) -> None:
        super().__init__()
        self._turns_left = math.inf if turns is None else turns

    def _run_once(self) -> None:
        self._turns_left -= 1
        if self._turns_left < 0:
            self._turns_left = _LAST_TURNS
            raise TooManyTurns(f"at {self.time():.3f} s: nobody waits, and nothing ends")
        super()._run_once()  # type: ignore[misc] # asyncio's own


def run_virtual(
    seed: int,
    main: Callable[[C], Coroutine[Any, Any, T]],
    *,
    start: datetime = START,
    longest: float | None = LONGEST,
    turns: int | None = MOST_TURNS,
    clock_type: type[C] = VirtualClock,  # type: ignore[assignment] # the type of whoever does not choose one
) -> T:
    """Run ``main(clock)`` on a loop of its own, and return its result.

    Raises what ``main`` raises, with the seed noted; TimeoutError after ``longest`` virtual seconds and TooManyTurns
    after so many ``turns`` of the loop (None: no limit); and an ExceptionGroup where a callback or a forgotten task
    failed, which asyncio would only have logged.
    """
    failures: list[Exception] = []

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failures.append(context.get("exception") or RuntimeError(context["message"]))

    async def bounded(clock: C) -> T:
        async with asyncio.timeout(longest):
            return await main(clock)

    try:
        with asyncio.Runner(loop_factory=lambda: BoundedLoop(turns)) as runner:
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
