"""The only file that reads time, takes chance or makes ids."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import math
import os
import random  # noqa: TID251 - this is the one place
import secrets  # noqa: TID251
import selectors
import time  # noqa: TID251
import uuid  # noqa: TID251
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

from dialerd.core.model import Moment

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_ID_EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z: 41 bits of milliseconds last until 2089
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 13
_LONGEST_HOLD_SECONDS = 60.0


class Timer(Protocol):
    """A pending callback that can be taken back."""

    def cancel(self) -> None:
        """Take the callback back; harmless after it ran."""


class Clock(Protocol):
    """Everything that the daemon may ask of time, chance and ids."""

    def now(self) -> Moment:
        """Read both clocks at once."""

    def wall(self) -> datetime:
        """Read the wall clock (aware, UTC)."""

    def mono(self) -> float:
        """Read the monotonic clock, in seconds."""

    def since_boot(self) -> float:
        """Read the clock that goes on while the machine is suspended, in seconds: others have gone on as well."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass. For back-off and pacing only: whoever waits for something waits for that thing."""

    def call_at(self, mono: float, callback: Callable[[], object]) -> Timer:
        """Run the callback at a monotonic moment, or soon where that is past."""

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """While held, real work is outstanding (a store operation in its thread): virtual time must not move."""

    def number(self) -> int:
        """Make an id for a row: positive, 63 bits, growing with time, unique over restarts."""

    def numbers(self, count: int) -> range:
        """Make so many ids at once."""

    def uuid(self) -> str:
        """Make an id for a call, and so for its channel: a UUID (RFC 9562, version 7 where time is real)."""

    def token(self, nbytes: int = 32) -> str:
        """Make an unguessable URL-safe secret."""

    def chance(self) -> float:
        """Draw from [0, 1), for jitter and the simulated PBX."""


class _Ids:
    """Row ids: 41 bits of milliseconds, 12 of a counter, 10 drawn once per process."""

    def __init__(self, origin: int) -> None:
        self._origin = origin & 0x3FF
        self._last = 0

    def next(self, milliseconds: int, count: int) -> range:
        candidate = max(0, milliseconds - _ID_EPOCH_MS) << 12
        # A full counter, or a wall clock that jumped back, goes on counting from the last id: ids only grow.
        first = max(candidate, self._last + 1)
        self._last = first + max(count, 1) - 1
        start = ((first << 10) | self._origin) & 0x7FFF_FFFF_FFFF_FFFF
        return range(start, start + (count << 10), 1 << 10)


class SystemClock:
    """The real clock of the daemon. Inside a running event loop it tells the loop's own monotonic time."""

    def __init__(self, seed: int | None = None) -> None:
        self._ids = _Ids(secrets.randbits(10) if seed is None else seed)
        self._random = random.Random(seed)  # nosec B311 # noqa: S311 - jitter and simulation; secrets come from token()

    def now(self) -> Moment:
        return Moment(self.wall(), self.mono())

    def wall(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251

    def mono(self) -> float:
        return time.monotonic()

    def since_boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)  # time_namespaces(7); the monotonic one stands still meanwhile

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251

    def call_at(self, mono: float, callback: Callable[[], object]) -> Timer:
        # Relative to the loop's clock, which need not share our zero (uvloop, a test's loop).
        return asyncio.get_running_loop().call_later(max(0.0, mono - self.mono()), callback)

    def hold(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def number(self) -> int:
        return self.numbers(1).start

    def numbers(self, count: int) -> range:
        return self._ids.next(time.time_ns() // 1_000_000, count)

    def uuid(self) -> str:
        stamp = (time.time_ns() // 1_000_000) & 0xFFFF_FFFF_FFFF
        drawn = secrets.randbits(74)
        value = (stamp << 80) | (0x7 << 76) | (drawn >> 62 << 64) | (0b10 << 62) | (drawn & (1 << 62) - 1)
        return str(uuid.UUID(int=value))

    def token(self, nbytes: int = 32) -> str:
        return secrets.token_urlsafe(nbytes)

    def chance(self) -> float:
        return self._random.random()


class _TimerInTurn(asyncio.TimerHandle):
    """A timer that comes after those of the same moment that were set before it.

    On virtual time many timers share a moment, and the order that a heap gives to equals hangs on all others in it.
    """

    __slots__ = ("_key",)

    def __init__(self, turn: int, when: float, *rest: Any) -> None:
        super().__init__(when, *rest)
        self._key = (when, turn)

    def __lt__(self, other: asyncio.TimerHandle) -> bool:
        if not isinstance(other, _TimerInTurn):
            return NotImplemented
        return self._key < other._key


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as nothing else can happen.

    Time stands still while real work is outstanding (:meth:`hold`, and whatever runs in an executor): a store
    operation takes no virtual time, so the same seed gives the same run.
    """

    def __init__(self) -> None:
        self._virtual = 0.0
        self._held = 0
        self._turns = itertools.count()
        super().__init__(_JumpingSelector(self))
        # asyncio runs a timer that is due within the clock's resolution. A real clock's nanosecond is less than the
        # distance between two floats after 2**24 seconds: a timer due exactly now would be waited for without end.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """The virtual monotonic time, in seconds."""
        return self._virtual

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run the callback at a virtual moment; those of one moment in the order in which they were set."""
        timer = _TimerInTurn(next(self._turns), when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined] # asyncio's own heap of timers
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def advance(self, seconds: float) -> None:
        """Move the virtual time forward."""
        self._virtual += seconds

    @property
    def held(self) -> bool:
        """Whether real work is outstanding."""
        return self._held > 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep time still while the block runs."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a function in a thread, and keep time still until it is done."""
        work = super().run_in_executor(executor, func, *args)
        self._held += 1
        work.add_done_callback(self._release)
        return work

    def _release(self, _: asyncio.Future[Any]) -> None:
        self._held -= 1

    async def shutdown_default_executor(self) -> None:
        """Wait for the executor's threads, which are real work too."""
        with self.hold():
            await super().shutdown_default_executor()


class _JumpingSelector(selectors.DefaultSelector):
    """Selects like its base, but turns idle waiting into a jump of virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if self._loop.held:
            ready = super().select(_LONGEST_HOLD_SECONDS)  # the thread wakes the loop through its self-pipe
            if not ready:
                raise RuntimeError(f"real work has held virtual time for {_LONGEST_HOLD_SECONDS:g} s")
            return ready
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("the virtual loop would wait for ever: no timer, and no real work outstanding")
            self._loop.advance(timeout)
        return ready


class VirtualClock:
    """A seeded clock on a :class:`VirtualLoop`: days of dialing in seconds, and the same again for the same seed."""

    def __init__(self, loop: VirtualLoop, seed: int, start: datetime) -> None:
        self._loop = loop
        self._start = start
        self._jumped = timedelta()
        self._ids = _Ids(seed)
        self._random = random.Random(seed)  # nosec B311 # noqa: S311

    def jump(self, by: timedelta) -> None:
        """Let the wall clock jump, as a corrected NTP offset does; monotonic time does not notice."""
        self._jumped += by

    def now(self) -> Moment:
        return Moment(self.wall(), self.mono())

    def wall(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time()) + self._jumped

    def mono(self) -> float:
        return self._loop.time()

    def since_boot(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251

    def call_at(self, mono: float, callback: Callable[[], object]) -> Timer:
        return self._loop.call_at(mono, callback)

    def hold(self) -> contextlib.AbstractContextManager[None]:
        return self._loop.hold()

    def number(self) -> int:
        return self.numbers(1).start

    def numbers(self, count: int) -> range:
        return self._ids.next(int(self.wall().timestamp() * 1000), count)

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def token(self, nbytes: int = 32) -> str:
        return self._random.randbytes(nbytes).hex()

    def chance(self) -> float:
        return self._random.random()


class _StepTimer:
    """A timer of a :class:`StepClock`."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class StepClock:
    """A seeded clock without an event loop: whoever holds it lets time jump from one timer to the next.

    For what never waits but by timers. It is many times as fast as :class:`VirtualClock`, and has no tasks.
    """

    def __init__(self, seed: int, start: datetime) -> None:
        self._start = start
        self._mono = 0.0
        self._now = Moment(start, 0.0)
        self._timers: list[tuple[float, int, _StepTimer]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)
        self._random = random.Random(seed)  # nosec B311 # noqa: S311

    def step(self, until: float = math.inf) -> bool:
        """Jump to the next timer and run all that are due there; False where there is none up to that moment."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        if not timers or timers[0][0] > until:
            return False
        self._mono = max(self._mono, timers[0][0])
        while timers and timers[0][0] <= self._mono:
            _, _, timer = heapq.heappop(timers)
            if timer.callback is not None:
                timer.callback()
        return True

    def now(self) -> Moment:
        # Asked many times between two jumps.
        if self._now.mono != self._mono:
            self._now = Moment(self._start + timedelta(seconds=self._mono), self._mono)
        return self._now

    def wall(self) -> datetime:
        return self.now().wall

    def mono(self) -> float:
        return self._mono

    def since_boot(self) -> float:
        return self.mono()

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - the protocol's
        raise RuntimeError("a StepClock has no event loop to wait in")

    def call_at(self, mono: float, callback: Callable[[], object]) -> Timer:
        timer = _StepTimer(callback)
        heapq.heappush(self._timers, (mono, next(self._order), timer))
        return timer

    def hold(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def number(self) -> int:
        return next(self._ids)

    def numbers(self, count: int) -> range:
        first = next(self._ids)
        self._ids = itertools.count(first + count)
        return range(first, first + count)

    def uuid(self) -> str:
        return f"{next(self._ids):032x}"

    def token(self, nbytes: int = 32) -> str:
        return self._random.randbytes(nbytes).hex()

    def chance(self) -> float:
        return self._random.random()


def stream(seed: int | str) -> Callable[[], float]:
    """Return an independent stream of draws from [0, 1): the same seed gives the same draws, whatever others draw."""
    return random.Random(seed).random  # nosec B311 # noqa: S311 - simulation, never secrets


def show_id(number: int) -> str:
    """Write a row's id as the API shows it: 13 characters of Crockford's base 32."""
    digits = [_ALPHABET[(number >> shift) & 31] for shift in range(60, -1, -5)]
    return "".join(digits)


def read_id(text: str) -> int | None:
    """Read an id as the API shows it; None for anything that never was one."""
    if len(text) != _ID_LENGTH or any(char not in _ALPHABET for char in text):
        return None
    number = 0
    for char in text:
        number = (number << 5) | _ALPHABET.index(char)
    return number if number < 1 << 63 else None


def process_id() -> int:
    """The process's id, for lock files and log lines."""
    return os.getpid()
