"""A world to break: PBXs and a disk that outlive the daemons on them, and a daemon that can die between any two steps.

It is the whole daemon minus its sockets, on virtual time. Store operations take the time that the disk takes, and no
other; so the same seed gives the same run, whatever the machine does meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from dialerd.clock import VirtualClock, stream
from dialerd.config import Config, parse
from dialerd.core.model import Moment
from dialerd.pbx.driver import Ended
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.service import Daemon
from dialerd.store import sqlite_link
from dialerd.telemetry.metrics import Metrics
from tests.simulation.disk import Disk
from tests.simulation.far_end import LateBook, LookUp, WatchedDriver, WatchedPbx
from tests.support.stores import new_store

T = TypeVar("T")

SWEEPS = 50
"""Rounds in which all tasks of a daemon must have ended once each was cancelled."""
FAULTS_COUNTED = ("task", "background_work", "journal_step", "commit")
"""What the daemon counts as dropped where a law of its own was broken."""


class Gone(Exception):
    """The daemon died, or stopped, while somebody waited for its answer."""


class SimulatedClock(VirtualClock):
    """Virtual time that nothing holds: the disk's steps are taken in the loop's own thread."""

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Nothing is outstanding that virtual time would have to wait for."""
        return contextlib.nullcontext()


@dataclass
class Told:
    """The end of a call as the PBX told it, and which daemon heard it."""

    event: Ended
    generation: int
    at: float
    """When, on the monotonic clock."""


@dataclass
class World:
    """See the module's docstring. ``toml``: the configuration, with ``{store}`` in the place of the file's path."""

    clock: SimulatedClock
    folder: Path
    seed: str
    toml: str
    settings: SimulatedSettings
    generation: int = 0
    """Counts the daemons."""
    killed: dict[int, float] = field(default_factory=dict)
    """Those that died, and when (monotonic)."""
    died_at: Counter[str] = field(default_factory=Counter)
    """The steps at which one died."""
    unwritten: set[int] = field(default_factory=set)
    """Those that stopped in order while the store failed, and could not write all that they had heard."""
    told: dict[str, Told] = field(default_factory=dict)
    """The first end that any daemon heard of each call."""
    looked_up: defaultdict[str, LookUp] = field(default_factory=lambda: defaultdict(LookUp))
    """What the PBXs were asked of each call that had ended."""
    rung: dict[str, tuple[float, float]] = field(default_factory=dict)
    """From when until when each call rang that one daemon heard all the while."""
    sent: dict[str, Moment] = field(default_factory=dict)
    """When each order went out, by both clocks: from then on nobody can take it back."""
    faults: list[str] = field(default_factory=list)
    """Laws broken that show at once."""

    def __post_init__(self) -> None:
        new_store(self.folder / "dialerd.db")
        text = self.toml.format(store=self.folder / "dialerd.db")
        self.config: Config = parse(text, {}, self.folder / "x.toml", Path.read_text)
        self.disk = Disk(self.clock, stream(f"{self.seed}/disk"))
        self.disk.on_trip = self._step
        self.late = LateBook(self.clock)
        self.pbxs = {name: WatchedPbx(self.settings, self.clock) for name in self.config.pbx}
        self.daemon: Daemon | None = None
        self._up = asyncio.Event()
        self._ours: set[asyncio.Task[Any]] = set()
        self._asked: set[asyncio.Task[Any]] = set()
        self._fuse: tuple[str, int] | None = None
        self._dead = asyncio.Event()
        self._main: asyncio.Task[Any] | None = None
        self._failed: BaseException | None = None

    # -- a daemon's life ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def existing(self) -> Iterator[None]:
        """Within this, stores lie on the simulated disk, and nothing is done in a thread."""
        current = asyncio.current_task()
        assert current is not None
        self._ours.add(current)
        self._main = current
        at_once = patch.object(asyncio.get_running_loop(), "run_in_executor", _at_once)
        with patch.object(sqlite_link, "connector", self.disk.connector), at_once:
            try:
                yield
            except asyncio.CancelledError:
                if self._failed is not None:
                    raise self._failed from None
                raise
            finally:
                for task in self._ours - {current}:
                    task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let something happen in the world that is no part of the daemon, and does not die with it."""
        task = asyncio.create_task(work)
        self._ours.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        """What fails beside the simulation fails the simulation."""
        self._ours.discard(task)
        if not task.cancelled() and task.exception() is not None and self._main is not None:
            self._failed = self._failed or task.exception()
            self._main.cancel()

    async def live(self, stop: asyncio.Event) -> bool:
        """Run one daemon until ``stop`` is set or it dies; True: it died. Raises what the daemon raised."""
        # What is left of the one before is collected now, and not in the midst of a step of this one: whoever lets go
        # of a connection takes part in what goes on just then.
        gc.collect()
        self.generation += 1
        self.disk.restore()
        self._dead.clear()
        metrics = Metrics()
        daemon = self.daemon = Daemon(
            self.config, self.clock, metrics, lambda name, _pbx, dials, _clock: self._driver(name, dials)
        )
        stopping = asyncio.Event()

        async def ready() -> None:
            self._up.set()

        running = asyncio.create_task(daemon.run(stopping, ready=ready))
        waits = [self.spawn(_wait(event)) for event in (stop, self._dead)]
        await asyncio.wait((running, *waits), return_when=asyncio.FIRST_COMPLETED)
        if not self._dead.is_set():
            stopping.set()
            await asyncio.wait((running, waits[1]), return_when=asyncio.FIRST_COMPLETED)
        self._up.clear()
        died = self._dead.is_set()
        if not died and metrics.dropped.labels("journal_step")._value.get():
            self.unwritten.add(self.generation)
        for wait in waits:
            wait.cancel()
        await self._sweep(running, died=died)
        self.daemon = None
        self._count_faults(metrics, died=died)
        if died and not running.cancelled():
            running.exception()  # what a dying process raises with its last breath is nobody's
        if not died:
            try:
                running.result()
            except BaseException as error:
                # It did not start, or ended by itself: an init system starts it again.
                self.faults += [] if self.disk.trouble is not None else [f"the daemon ended: {error!r}"]
                return True
        return died

    def die(self) -> None:
        """End the daemon here and now: nothing of it reaches disk or PBX any more."""
        if self.daemon is None or self._dead.is_set():
            return
        self._fuse = None
        self._dead.set()
        self.killed[self.generation] = self.clock.mono()
        self._up.clear()
        self.disk.cut()
        for driver in self.daemon.drivers.values():
            assert isinstance(driver, WatchedDriver)
            driver.drop()

    def die_at(self, step: str, count: int) -> None:
        """Let the daemon die at the n-th such step from now: of a driver, or at the disk."""
        self._fuse = (step, count)

    def disarm(self) -> None:
        """Nobody dies at a step any more: whoever begins another game on this world must not."""
        self._fuse = None

    @property
    def answering(self) -> Daemon | None:
        """The daemon that would answer now."""
        return self.daemon if self._up.is_set() else None

    async def alive(self) -> Daemon:
        """Wait until a daemon is ready."""
        await self._up.wait()
        assert self.daemon is not None
        return self.daemon

    async def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Ask the daemon for something, as its API does. Raises Gone where it dies or stops before it answers."""
        task = asyncio.create_task(work)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        await asyncio.wait((task,))
        if task.cancelled():
            raise Gone
        return task.result()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _driver(self, name: str, trunks: Mapping[str, str]) -> WatchedDriver:
        generation = self.generation

        def told(event: Ended) -> None:
            self.told.setdefault(event.call_id, Told(event, generation, self.clock.mono()))

        def sent(call_id: str) -> None:
            if call_id in self.sent:
                self.faults.append(f"{call_id} was sent twice")
            self.sent[call_id] = self.clock.now()

        def rung(call_id: str, since: float, until: float) -> None:
            self.rung[call_id] = since, until

        return WatchedDriver(
            name,
            self.pbxs[name],
            self.clock,
            trunks,
            *(self._step, told, sent, self.late),
            looked_up=self.looked_up,
            rung=rung,
            fault=self.faults.append,
        )

    def _step(self, step: str) -> bool:
        """Count down to the step at which the daemon is to die; False: it is dead."""
        if self._fuse is not None and self._fuse[0] in (step, "any"):
            self._fuse = (self._fuse[0], self._fuse[1] - 1)
            if self._fuse[1] <= 0:
                self.died_at[step] += 1
                self.die()
        return not self._dead.is_set()

    async def _sweep(self, running: asyncio.Task[None], *, died: bool) -> None:
        """End all that is left of a daemon: everything of one that died, and of one that stopped only its clients."""
        if not died:
            await asyncio.wait((running,))
            await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop, in which what was cancelled ends
            # Looked at before its clients are ended: a connection that one of them reads from is closed by a task, too.
            if own := asyncio.all_tasks() - self._ours - self._asked:
                self.faults.append(f"tasks left after an orderly stop: {own}")
        for _ in range(SWEEPS):
            left = asyncio.all_tasks() - self._ours
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(0)  # noqa: TID251
        raise AssertionError(f"these would not end: {asyncio.all_tasks() - self._ours}")

    def _count_faults(self, metrics: Metrics, *, died: bool) -> None:
        for what in FAULTS_COUNTED:
            count = metrics.dropped.labels(what)._value.get()
            # What a dying process did with its last breath is nobody's.
            if count and not died and not (what == "journal_step" and self.generation in self.unwritten):
                self.faults.append(f"daemon {self.generation} dropped {count:g} of {what}")


def _at_once(_executor: object, work: Callable[..., Any], *given: Any) -> asyncio.Future[Any]:
    """Stands in for a loop's threads: when one of them is done is the machine's own time, and no run would repeat."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    try:
        done.set_result(work(*given))
    except Exception as error:
        done.set_exception(error)
    return done


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
