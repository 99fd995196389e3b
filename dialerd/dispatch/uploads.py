"""Uploads: contacts staged in short transactions, and made visible by one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import structlog

from dialerd.clock import Clock
from dialerd.core.campaign import FINISHED
from dialerd.core.model import Tenant
from dialerd.dispatch.clearing import Clearing
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.pace import Pace
from dialerd.dispatch.requests import ImportReport, Upload
from dialerd.dispatch.rows import read_runs
from dialerd.intake.rows import IntakeOptions, InvalidTable, RowError
from dialerd.intake.runs import Contacts, Errors, Numbers, Run
from dialerd.store import campaigns, contacts, imports, staging
from dialerd.store.db import GROUP_WEIGHT, Store
from dialerd.store.errors import StoreError
from dialerd.store.imports import Import
from dialerd.store.staging import Place
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

SMALL = 1000
"""Rows written for an upload, two for a contact, up to which it is inserted whole, in one transaction."""
SHOWN_ERRORS = 100
TURN_SECONDS = 600.0
"""How long an upload waits for the one before it on the same campaign."""
_PARALLEL = 4  # parsers at once: each large file has a process of its own
_TRIES = 6
_FIRST_PAUSE = 0.5


class InvalidRows(Rejected):
    """An upload that is refused for its rows. Codes: ``invalid_request``, ``invalid_csv``."""

    def __init__(self, code: str, detail: str, rows: Sequence[RowError]) -> None:
        super().__init__(code, detail)
        self.rows = tuple(rows)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Uploads (their ids and their campaigns') that were never published, and campaigns never shown."""

    uploads: tuple[tuple[int, int], ...]
    campaigns: tuple[int, ...]


@dataclass(slots=True)
class _Run:
    """A run under way: the ids of its contacts, and the places of those whose numbers were not free."""

    ids: range
    refused: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Intake:
    """An upload under way: what is counted, and what is read and not yet stored."""

    id: int
    campaign_id: int
    was_visible: bool
    tenant: Tenant
    staged: bool = False
    added: int = 0
    duplicates: int = 0
    unwanted: int = 0
    """Their numbers are on the do-not-call list."""
    invalid: int = 0
    reported: int = 0
    """Rejected rows that are in the store."""
    errors: list[RowError] = field(default_factory=list)
    run: _Run = field(default_factory=lambda: _Run(range(0)))
    parts: deque[tuple[_Run, Numbers | Contacts]] = field(default_factory=deque)
    rejects: list[RowError] = field(default_factory=list)

    def take(self, part: Errors | Numbers | Contacts) -> None:
        if not isinstance(part, Errors):
            self.parts.append((self.run, part))
            return
        self.invalid += len(part.rows)
        self.rejects += part.rows
        self.errors += part.rows[: SHOWN_ERRORS - len(self.errors)]

    def held(self) -> int:
        """Rows to be written for what is read; a contact is two, for its number is one."""
        return sum(part.count for _, part in self.parts) + len(self.rejects)

    def next_step(self, rows: int) -> _Step:
        """Take out about so many rows of what is held."""
        step = _Step(self.rejects[:rows])
        self.rejects = self.rejects[rows:]
        size = len(step.rejects)
        while self.parts and (size == 0 or size + self.parts[0][1].count <= rows):
            step.parts.append(self.parts.popleft())
            size += step.parts[-1][1].count
        step.size = size
        return step

    def place(self, run: _Run) -> Place:
        return Place(self.tenant.id, self.campaign_id, self.id if self.staged else contacts.BASE_LIST, run.ids)

    def counted(self) -> Import:
        return Import(
            self.id, self.campaign_id, self.staged, self.added, self.duplicates, self.invalid, do_not_call=self.unwanted
        )


@dataclass(slots=True)
class _Step:
    """What one transaction writes of an upload."""

    rejects: list[RowError]
    parts: list[tuple[_Run, Numbers | Contacts]] = field(default_factory=list)
    size: int = 0

    async def write(self, tx: Tx, intake: _Intake) -> None:
        """Write it, and count it: should the commit fail, nothing of the whole upload stays."""
        await imports.reject(tx, intake.id, intake.reported, [asdict(each) for each in self.rejects])
        intake.reported += len(self.rejects)
        for run, part in self.parts:
            if isinstance(part, Numbers):
                refused = await staging.take_numbers(tx, intake.place(run), part.count, part.text)
                run.refused.update(refused.duplicates, refused.unwanted)
                intake.duplicates += len(refused.duplicates)
                intake.unwanted += len(refused.unwanted)
            else:
                without = [each for each in range(part.first, part.first + part.count) if each in run.refused]
                intake.added += await staging.insert(tx, intake.place(run), part.text, without)


class Uploads:
    """Adds contacts to campaigns: all of an upload becomes visible at once, or nothing of it."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        options: Callable[[Tenant], IntakeOptions],
        metrics: Metrics,
        on_added: Callable[[int], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._clearing = Clearing(store, clock)
        self._options = options
        self._metrics = metrics
        self._on_added = on_added
        self._turns: dict[int, _Turn] = {}
        self._parsers = asyncio.Semaphore(_PARALLEL)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def add(self, campaign_id: int, tenant: Tenant, upload: Upload) -> ImportReport:
        """Add an upload's contacts to a campaign that is draft, active or paused, hidden ones included.

        Raises Rejected (``campaign_not_found``, ``campaign_finished``, ``rate_limited`` where too many uploads wait;
        InvalidRows where the table is none, or ``on_invalid`` is reject and a row is invalid), StoreError, and
        IntakeFailed where the parser dies. Whatever is raised, nothing of the upload stays.
        """
        async with self._turn(campaign_id):
            intake = await self._begin(campaign_id, tenant)
            try:
                options = replace(self._options(tenant), allowed_prefixes=tenant.allowed_prefixes)
                await self._stage(intake, upload, options)
            except BaseException:
                await asyncio.shield(self._spawn(self._discard(intake)))
                raise
            # Once begun, it is brought to its end, and the dispatcher told, whether or not anybody still waits.
            done = await asyncio.shield(self._spawn(self._conclude(intake)))
        self._count(done)
        log.info(
            "contacts_added",
            campaign_id=campaign_id,
            tenant=tenant.id,
            added=done.added,
            duplicates=done.duplicates,
            invalid=done.invalid,
            do_not_call=done.do_not_call,
        )
        return ImportReport(done.id, done.added, done.duplicates, done.invalid, done.do_not_call, tuple(intake.errors))

    async def leftovers(self) -> Leftovers:
        """What uploads and creations cut short by a restart left; to be asked before any begins. Raises StoreError."""
        async with self._store.read() as conn:
            return Leftovers(tuple(await imports.unpublished(conn)), tuple(await campaigns.hidden_drafts(conn)))

    async def clean_up(self, left: Leftovers) -> None:
        """Remove them, in steps and beside everything else. Raises StoreError; done again, it takes up the rest."""
        for import_id, campaign_id in left.uploads:
            # Until its numbers are free, an upload of the same would take them for duplicates.
            async with self._turn(campaign_id):
                await self._clearing.remove_upload(campaign_id, import_id)
        for campaign_id in left.campaigns:
            # Its uploads that were published are taken with it.
            await self._clearing.remove_campaign(campaign_id)
            await self._store.write(functools.partial(campaigns.remove, campaign_id=campaign_id))
        if left.uploads or left.campaigns:
            log.info("uploads_cleaned_up", uploads=len(left.uploads), campaigns=len(left.campaigns))

    async def close(self) -> None:
        """Wait for publications and removals that nobody else waits for; each has its own bounds."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _begin(self, campaign_id: int, tenant: Tenant) -> _Intake:
        async with self._store.read() as conn:
            standing = await campaigns.standing(conn, campaign_id)
        if standing is None:
            raise Rejected("campaign_not_found", "there is no such campaign")
        status, visible = standing
        if status in FINISHED:
            raise Rejected("campaign_finished", f"the campaign is {status.value}")
        return _Intake(self._clock.number(), campaign_id, visible, tenant)

    async def _stage(self, intake: _Intake, upload: Upload, options: IntakeOptions) -> None:
        strict = upload.on_invalid == "reject"
        pace = Pace(self._store, self._clock)
        try:
            async with contextlib.aclosing(read_runs(upload, options, self._clock)) as parts:
                async for part in parts:
                    if isinstance(part, Run):
                        intake.run = _Run(self._clock.numbers(part.contacts))
                        continue
                    intake.take(part)
                    if strict and intake.invalid:
                        # Nothing of it will stay: go on reading only for the report.
                        intake.parts.clear()
                        intake.rejects.clear()
                        if len(intake.errors) == SHOWN_ERRORS:
                            break
                    while intake.held() > max(SMALL, pace.rows):
                        await self._step(intake, pace)
        except InvalidTable as error:
            raise as_rejected(error) from None
        if strict and intake.invalid:
            raise InvalidRows("invalid_request", "some rows are invalid, so none was added", intake.errors)
        while intake.staged and intake.held():
            await self._step(intake, pace)

    async def _step(self, intake: _Intake, pace: Pace) -> None:
        """Store some of what was read, out of sight."""
        if not intake.staged:
            intake.staged = True
            await self._store.write(lambda tx: imports.begin(tx, intake.counted()))
        step = intake.next_step(pace.rows)
        await pace.write(lambda tx: step.write(tx, intake), step.size)

    async def _conclude(self, intake: _Intake) -> Import:
        try:
            done = await self._publish(intake)
        except Exception:
            await self._discard(intake)
            raise
        self._on_added(intake.campaign_id)
        return done

    async def _publish(self, intake: _Intake) -> Import:
        """Make the upload visible, with what is not stored yet; one transaction, and all of a small upload."""

        async def publish(tx: Tx) -> Import:
            await _check_standing(tx, intake)
            if not intake.staged:
                await imports.begin(tx, intake.counted())
                await intake.next_step(SMALL).write(tx, intake)
            await imports.publish(tx, intake.counted())
            # An active campaign waits for its upload; with nothing new in it, it may be done.
            tx.touched.add(intake.campaign_id)
            return intake.counted()

        return await self._store.write(publish, weight=GROUP_WEIGHT)

    async def _discard(self, intake: _Intake) -> None:
        """Take back what was staged, even while the store is ill for some seconds; else the next start does it."""
        if not intake.staged:
            return
        pause = _FIRST_PAUSE
        for attempt in range(1, _TRIES + 1):
            try:
                await self._clearing.remove_upload(intake.campaign_id, intake.id)
                return
            except StoreError as error:
                log.warning("upload_not_discarded", campaign_id=intake.campaign_id, attempt=attempt, reason=str(error))
            if attempt < _TRIES:
                await self._clock.sleep(pause)
                pause *= 2

    def _count(self, done: Import) -> None:
        for result, count in (
            ("added", done.added),
            ("duplicate", done.duplicates),
            ("invalid", done.invalid),
            ("do_not_call", done.do_not_call),
        ):
            self._metrics.contacts_added.labels(result).inc(count)

    @contextlib.asynccontextmanager
    async def _turn(self, campaign_id: int) -> AsyncIterator[None]:
        """One upload at a time per campaign: two that hold the same numbers would count each other's as duplicates."""
        turn = self._turns.setdefault(campaign_id, _Turn())
        turn.wanted += 1
        try:
            async with contextlib.AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(TURN_SECONDS):
                        await held.enter_async_context(turn.lock)
                        await held.enter_async_context(self._parsers)
                except TimeoutError:
                    raise Rejected("rate_limited", "the uploads before this one take very long") from None
                yield
        finally:
            turn.wanted -= 1
            if turn.wanted == 0:
                del self._turns[campaign_id]

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Whoever waited has seen the failure; where nobody did, it must not pass unseen.
        if not task.cancelled() and isinstance(failure := task.exception(), StoreError):
            log.warning("upload_not_concluded", reason=str(failure))


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


async def _check_standing(tx: Tx, intake: _Intake) -> None:
    """Somebody may have stopped or deleted the campaign while the upload was read."""
    standing = await campaigns.standing(tx.conn, intake.campaign_id)
    if standing is None or (intake.was_visible and not standing[1]):
        raise Rejected("campaign_not_found", "there is no such campaign")
    if standing[0] in FINISHED:
        raise Rejected("campaign_finished", f"the campaign is {standing[0].value}")


def as_rejected(error: InvalidTable) -> InvalidRows:
    """A file that is no table, as the API tells it."""
    rows = [RowError(error.row, None, None, error.code, error.message)] if error.row is not None else []
    where = "" if error.row is None else f"row {error.row}: "
    return InvalidRows(error.code, f"{where}{error.message}", rows)
