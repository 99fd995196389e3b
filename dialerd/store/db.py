"""The store: many readers, one writer, and commits in groups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.clock import Clock
from dialerd.store import events, schema, steps
from dialerd.store.backend import backend_of
from dialerd.store.errors import StoreError, StoreNotReady
from dialerd.store.faults import as_store_error, is_the_stores, translated
from dialerd.store.readers import PROBE_SECONDS, Readers
from dialerd.store.records import CallStep, Event, Originating
from dialerd.store.taken import KeptConnection
from dialerd.store.tx import Committed, Tx
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

T = TypeVar("T")

GROUP_WEIGHT = 500
"""Rows' worth of work in one commit: enough to share the cost of a disk flush, and far below 50 ms of writing."""
QUEUE_LIMIT = 20_000
_DOUBT_SECONDS = 5.0
"""How long a store that is being closed goes on asking whether its last commit stands."""
_CLOSE_SECONDS = 5.0
_PROBE = sa.text("UPDATE alembic_version SET version_num = version_num")

Operation = Callable[[Tx], Awaitable[T]]


class Lease(Protocol):
    """The right to dial from a store (:mod:`dialerd.store.lease`)."""

    epoch: int

    def doubt(self) -> str | None:
        """Why nothing may be sent now; None while the lease is surely ours."""


@dataclass(slots=True)
class _Job(Generic[T]):
    future: asyncio.Future[T]
    weight: int
    operation: Operation[T] | None = None
    originating: Sequence[Originating] = ()
    moved: Sequence[CallStep] = ()


_Results = list[tuple[_Job[Any], Any]]


@dataclass(slots=True)
class _Outcome:
    """What became of each job of a batch, told to its owner once the commit stands."""

    results: _Results = field(default_factory=list)
    failures: list[tuple[_Job[Any], BaseException]] = field(default_factory=list)


class Store:
    """The database behind the daemon. All writes go through one writer, in the order they were asked for."""

    def __init__(self, url: str, clock: Clock, metrics: Metrics, *, readers: int = 4, group_weight: int = GROUP_WEIGHT):
        self._clock = clock
        self._metrics = metrics
        self._group_weight = group_weight
        self._backend = backend_of(url)
        self._write_engine = self._backend.engine(writing=True, size=1)
        self._writer = KeptConnection(self._write_engine)
        self._read_engine = self._backend.engine(writing=False, size=readers)
        self._readers = Readers(self._read_engine, clock, self._health_changed)
        self._upkeep = self._backend.upkeep(clock, metrics)
        self._queue: asyncio.Queue[_Job[Any] | None] = asyncio.Queue(QUEUE_LIMIT)
        self._following: _Job[Any] | None = None
        """A job that has a commit of its own, the next."""
        self.jobs = 0
        """What was asked to be written since the start: whoever writes much learns from it whether others write."""
        self._task: asyncio.Task[None] | None = None
        self._next_seq = 0
        self._closing = False
        self._closes_soon = False
        self.on_commit: Callable[[Committed], None] = lambda _committed: None
        self.on_health: Callable[[], None] = lambda: None
        metrics.watch_queue("store_writes", self._queue.qsize)
        self.lease: Lease | None = None
        """Of several daemons on one database, what says which of them this is; None where there can be but one."""
        self.trouble: str | None = None
        """Why the last write failed; None while writing works."""

    @property
    def clock(self) -> Clock:
        """The clock that the store tells its times by."""
        return self._clock

    @property
    def last_event(self) -> int:
        """The number of the last event that was written, by this process or one before it; of an open store."""
        return self._next_seq - 1

    @property
    def failure(self) -> str | None:
        """Why the store fails, of whoever writes or reads; None while it works."""
        return self.trouble or self._readers.trouble

    def objection(self) -> str | None:
        """Why nothing may be sent to a PBX now, because of the store; None: it may."""
        if (failure := self.failure) is not None:
            return f"the store fails: {failure}"
        return None if self.lease is None else self.lease.doubt()

    async def open(self) -> None:
        """Check the schema and start the writer. Raises StoreNotReady, StoreError."""
        try:
            await self.check()
            async with self.read() as conn:
                self._next_seq = 1 + await events.last(conn)
        except BaseException:
            await self.close()
            raise
        if self._upkeep is not None:
            self._upkeep.start()
        self._task = asyncio.create_task(self._run(), name="store-writer")

    async def check(self) -> None:
        """Look at the schema: all that a store needs which is only read. Raises StoreNotReady, StoreError."""
        async with self.read() as conn:
            revision = await conn.run_sync(schema.revision_of)
        if revision != schema.REVISION:
            is_at = f"the store is at schema {revision or 'none'}"
            raise StoreNotReady(f"{is_at}, this version needs {schema.REVISION}: run dialerd migrate")

    def closes_soon(self) -> None:
        """The daemon stops, and waits for what it still writes: a commit in doubt is not asked about for ever."""
        self._closes_soon = True

    async def close(self) -> None:
        """Write what is queued, then close. Harmless when repeated."""
        if self._task is not None and not self._closing:
            self._closing = True
            with self._clock.hold():
                await self._queue.put(None)
                await self._task
        self._closing = True
        with self._clock.hold():
            await self._dispose()

    async def crash(self) -> None:
        """Drop what is queued and close: for simulations of a killed process. What was committed stays."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        waiting = [self._following] if self._following is not None else []
        while not self._queue.empty():
            job = self._queue.get_nowait()
            waiting += [job] if job is not None else []
        for job in waiting:
            _fail(job.future, StoreError("the store crashed"))
        with self._clock.hold():
            # A connection in somebody's hands would be closed by nobody.
            await self._readers.unread()
            await self._dispose()

    async def _dispose(self) -> None:
        """Close every connection; a server that does not answer is not waited for."""
        if self._upkeep is not None:
            await self._upkeep.close()
        await self._readers.close()
        for close in (self._writer.give_back, self._write_engine.dispose, self._read_engine.dispose):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await close()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A reader's connection, seeing one consistent state. Raises StoreError where the store fails."""
        if self._closing:
            raise StoreError("the store is closed")
        async with self._readers.taken() as conn:
            yield conn

    async def write(self, operation: Operation[T], *, weight: int = 10) -> T:
        """Run an operation in the writer's next commit and return its result once that is durable.

        What the operation raises undoes the operation alone. Raises StoreError where the store itself failed: then
        nothing of that commit stands.
        """
        job: _Job[T] = _Job(asyncio.get_running_loop().create_future(), weight, operation)
        return await self._put(job)

    async def record(self, originating: Sequence[Originating], moved: Sequence[CallStep]) -> frozenset[str]:
        """Commit calls and their steps; returns the ids of the calls whose contact was still theirs to dial."""
        job: _Job[frozenset[str]] = _Job(
            asyncio.get_running_loop().create_future(),
            len(originating) + len(moved),
            originating=originating,
            moved=moved,
        )
        return await self._put(job)

    async def _put(self, job: _Job[T]) -> T:
        if self._closing or self._task is None:
            raise StoreError("the store is closed")
        self.jobs += 1
        with self._clock.hold():
            await self._queue.put(job)
            return await job.future

    async def _run(self) -> None:
        last = False
        while not last:
            batch, last = await self._next_batch()
            live = [each for each in batch if not each.future.cancelled()]
            if live:
                await self._commit(live)
                if self._upkeep is not None:
                    self._upkeep.committed(sum(job.weight for job in live))
                    await self._upkeep.turn()
            elif self.trouble is not None and not last:
                # Nobody dials while writing fails, so perhaps nobody writes: somebody has to try.
                await self._commit([])

    async def _next_batch(self) -> tuple[list[_Job[Any]], bool]:
        """The jobs of the next commit (none: a store that failed is to be tried), and whether they are the last."""
        batch: list[_Job[Any]] = []
        weight = 0
        job: _Job[Any] | None
        if self._following is not None:
            job, self._following = self._following, None
        else:
            try:
                async with asyncio.timeout(None if self.trouble is None else PROBE_SECONDS):
                    job = await self._queue.get()
            except TimeoutError:
                return batch, False
        while job is not None:
            batch.append(job)
            weight += job.weight
            if weight >= self._group_weight or self._queue.empty():
                break
            job = self._queue.get_nowait()
            if job is not None and job.weight >= self._group_weight:
                # A step of an import, say: whoever came before it does not wait for all that it writes.
                self._following = job
                break
        return batch, job is None

    async def _commit(self, batch: list[_Job[Any]]) -> None:
        outcome = _Outcome()
        begun = self._clock.mono()
        try:
            with translated(), self._clock.hold():
                committed = await self._transact(batch, outcome)
        except Exception as error:
            # Whatever it is, it is the batch's: a writer that died of one bad row would take everything with it.
            failure = error if isinstance(error, StoreError) else as_store_error(error)
            if not failure.permanent:
                self._set_trouble(str(failure))
            for job in batch:
                _fail(job.future, failure)
            if self._closing:
                self._refuse(failure)
            return
        self._set_trouble(None)
        self._metrics.commit_seconds.observe(self._clock.mono() - begun)
        self._metrics.commit_jobs.observe(len(batch))
        # The feed hears of a commit before those who waited for it go on: nobody acts on what the stream lacks.
        self._tell(committed)
        for job, result in outcome.results:
            if not job.future.done():
                job.future.set_result(result)
        for job, raised in outcome.failures:
            _fail(job.future, raised)

    async def _transact(self, batch: list[_Job[Any]], outcome: _Outcome) -> Committed:
        transaction: str | None = None
        committed: Committed | None = None
        try:
            async with self._writer.taken() as conn:
                if batch and all(job.operation is None for job in batch):
                    done = await self._backend.in_one_trip(conn, partial(self._record_all, batch))
                    if done is not None:
                        committed, outcome.results = done.value
                        return committed
                async with conn.begin():
                    transaction = await self._backend.begin(conn, None if self.lease is None else self.lease.epoch)
                    tx = Tx(conn, self._clock)
                    if not batch:
                        await conn.execute(_PROBE)
                    await self._apply(tx, batch, outcome)
                    committed = await self._finish(tx)
        except Exception as error:
            # Once all is written, it was the commit that failed, or only its answer.
            if committed is None or transaction is None or not is_the_stores(error):
                raise
            last = committed.events[-1].seq if committed.events else None
            if not await self._stands(transaction, last, as_store_error(error)):
                raise
        assert committed is not None
        return committed

    async def _stands(self, transaction: str, last_event: int | None, error: StoreError) -> bool:
        """Whether a commit whose answer was lost stands; asked until the database tells, or the store is closed.

        Told that it failed, those who wait would write it once more. Whoever comes behind it waits for no such answer:
        the store fails, and says so.
        """
        self._set_trouble(str(error))
        deadline = None
        while True:
            with contextlib.suppress(SQLAlchemyError, OSError):
                async with self._writer.taken() as conn:
                    stands = await self._backend.stands(conn, transaction, last_event)
                if stands is not None:
                    log.warning("commit_in_doubt_settled", stands=stands)
                    return stands
            self._refuse(error)
            if self._closing or self._closes_soon:
                deadline = deadline or self._clock.mono() + _DOUBT_SECONDS
                if self._clock.mono() >= deadline:
                    log.error("commit_left_in_doubt", reason=str(error))
                    return False
            await self._clock.sleep(PROBE_SECONDS)

    def _refuse(self, error: StoreError) -> None:
        """Fail what waits to be written."""
        following, self._following = self._following, None
        if following is not None:
            _fail(following.future, error)
        while not self._queue.empty():
            job = self._queue.get_nowait()
            if job is None:
                self._queue.put_nowait(None)  # the end of all: nothing comes behind it
                return
            _fail(job.future, error)

    def _tell(self, committed: Committed) -> None:
        listeners: list[Callable[[], object]] = [*committed.consequences, partial(self.on_commit, committed)]
        for listener in listeners:
            try:
                listener()
            except Exception:
                # The commit stands, and those who wait for it must hear so.
                log.exception("commit_not_told")
                self._metrics.dropped.labels("commit").inc()

    async def _record_all(self, batch: list[_Job[Any]], conn: AsyncConnection) -> tuple[Committed, _Results]:
        """All of a commit that the journal alone asked for, as it mostly is."""
        tx = Tx(conn, self._clock)
        results = await self._record(tx, batch)
        return await self._finish(tx), results

    async def _apply(self, tx: Tx, batch: list[_Job[Any]], outcome: _Outcome) -> None:
        recorded = [job for job in batch if job.operation is None]
        if recorded:
            outcome.results += await self._record(tx, recorded)
        for job in batch:
            if job.operation is not None:
                await self._operate(tx, job, outcome)

    async def _record(self, tx: Tx, recorded: list[_Job[Any]]) -> _Results:
        claimed = await steps.apply(
            tx, [each for job in recorded for each in job.originating], [each for job in recorded for each in job.moved]
        )
        return [(job, frozenset(each.call.id for each in job.originating) & claimed) for job in recorded]

    async def _operate(self, tx: Tx, job: _Job[Any], outcome: _Outcome) -> None:
        assert job.operation is not None
        own = Tx(tx.conn, self._clock)
        first: Exception | None = None
        try:
            async with tx.conn.begin_nested():
                try:
                    result = await job.operation(own)
                except Exception as error:
                    first = error
                    raise
        except Exception as error:
            if is_the_stores(error):
                # A full disk, say, or a lost connection. SQLite may have taken back the whole transaction by itself:
                # what follows would be committed statement by statement. The savepoint is then gone too, so that the
                # first error says more than the last.
                raise (first if first is not None and is_the_stores(first) else error) from None
            # The savepoint took it back; the rest of the batch goes on.
            failure = as_store_error(error) if isinstance(error, SQLAlchemyError) else error
            outcome.failures.append((job, failure))
            return
        tx.add(own)
        outcome.results.append((job, result))

    async def _finish(self, tx: Tx) -> Committed:
        await steps.write_stats(tx)
        await steps.finish_campaigns(tx)
        numbered = tuple(Event(self._next_seq + index, draft) for index, draft in enumerate(tx.events))
        # A rolled back number is never told to anybody, so it may stay unused.
        self._next_seq += len(numbered)
        await steps.write_events(tx, numbered)
        return Committed(numbered, tuple(tx.ends), tuple(tx.consequences))

    def _set_trouble(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble is not None:
            log.error("store_failed", reason=trouble)
        else:
            log.info("store_recovered")
        self._health_changed()

    def _health_changed(self) -> None:
        self._metrics.store_up.set(self.failure is None)
        self.on_health()


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
