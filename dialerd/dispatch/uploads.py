"""Uploads: contacts staged in short transactions, and made visible by one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import structlog

from dialerd.clock import Clock
from dialerd.core.campaign import FINISHED
from dialerd.core.model import Tenant
from dialerd.core.permit import prefix_refusal
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.requests import ImportReport, Upload
from dialerd.dispatch.rows import Row, read_upload
from dialerd.intake.rows import IntakeOptions, InvalidTable, NewContact, RowError, refuse
from dialerd.store import campaigns, contacts, do_not_call, imports
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.imports import Import
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

STEP = 500
"""Rows per transaction: some 10 ms of the writer. An upload no larger than this is inserted whole."""
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


@dataclass(slots=True)
class _Intake:
    """An upload under way: what is counted, and what is read and not yet stored."""

    id: int
    campaign_id: int
    was_visible: bool
    tenant: Tenant
    staged: bool = False
    added: int = 0
    stored: int = 0
    """Contacts handed to the store: those it did not add were duplicates."""
    unwanted: int = 0
    """Contacts not handed to it: their numbers are on the do-not-call list."""
    invalid: int = 0
    reported: int = 0
    """Rejected rows that are in the store."""
    errors: list[RowError] = field(default_factory=list)
    contacts: list[NewContact] = field(default_factory=list)
    rejects: list[RowError] = field(default_factory=list)

    def take(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if isinstance(row, NewContact):
                if (refusal := prefix_refusal(self.tenant, row.phone_number)) is None:
                    self.contacts.append(row)
                    continue
                row = refuse(row.row, "phone_number", row.phone_number, "prefix_not_allowed", refusal.detail)  # noqa: PLW2901
            self.invalid += 1
            self.rejects.append(row)
            if len(self.errors) < SHOWN_ERRORS:
                self.errors.append(row)

    @property
    def held(self) -> int:
        return len(self.contacts) + len(self.rejects)

    def counted(self) -> Import:
        duplicates = self.stored - self.added
        return Import(
            self.id, self.campaign_id, self.staged, self.added, duplicates, self.invalid, do_not_call=self.unwanted
        )


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
                await self._stage(intake, upload, self._options(tenant))
            except BaseException:
                await asyncio.shield(self._spawn(self._discard(intake)))
                raise
            # Once begun, it is brought to its end, and the dispatcher told, whether or not anybody still waits.
            done = await asyncio.shield(self._spawn(self._conclude(intake)))
        self._count(done)
        log.info(
            "contacts_added",
            campaign_id=campaign_id,
            added=done.added,
            duplicates=done.duplicates,
            invalid=done.invalid,
            do_not_call=done.do_not_call,
        )
        return ImportReport(done.id, done.added, done.duplicates, done.invalid, done.do_not_call, tuple(intake.errors))

    async def clean_up(self) -> None:
        """At start: remove, in steps, what uploads and creations cut short by a restart left. Raises StoreError."""
        async with self._store.read() as conn:
            cut_short = await imports.unpublished(conn)
            hidden = await campaigns.hidden_drafts(conn)
        for import_id, campaign_id in cut_short:
            await self._remove(campaign_id, import_id)
        for campaign_id in hidden:
            await self._remove_campaign(campaign_id)
        if cut_short or hidden:
            log.info("uploads_cleaned_up", uploads=len(cut_short), campaigns=len(hidden))

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
        try:
            async with contextlib.aclosing(read_upload(upload, options, self._clock, STEP)) as batches:
                async for rows in batches:
                    intake.take(rows)
                    if strict and intake.invalid:
                        # Nothing of it will stay: go on reading only for the report.
                        intake.contacts.clear()
                        intake.rejects.clear()
                        if len(intake.errors) == SHOWN_ERRORS:
                            break
                    while intake.held > STEP:
                        await self._step(intake)
        except InvalidTable as error:
            raise as_rejected(error) from None
        if strict and intake.invalid:
            raise InvalidRows("invalid_request", "some rows are invalid, so none was added", intake.errors)
        while intake.staged and intake.held:
            await self._step(intake)

    async def _step(self, intake: _Intake) -> None:
        """Store some of what was read, out of sight."""
        if not intake.staged:
            intake.staged = True
            await self._store.write(lambda tx: imports.begin(tx, intake.counted()))
        rows, intake.contacts = intake.contacts[:STEP], intake.contacts[STEP:]
        room = STEP - len(rows)
        rejects, intake.rejects = intake.rejects[:room], intake.rejects[room:]

        async def insert(tx: Tx) -> tuple[int, int]:
            await imports.reject(tx, intake.id, intake.reported, [_reject_row(each) for each in rejects])
            wanted = await _wanted(tx, intake, rows)
            return await contacts.insert(tx, intake.campaign_id, intake.id, self._numbered(wanted)), len(wanted)

        added, stored = await self._store.write(insert, weight=STEP)
        intake.added += added
        intake.stored += stored
        intake.unwanted += len(rows) - stored
        intake.reported += len(rejects)

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
            done = intake.counted()
            if not intake.staged:
                await imports.begin(tx, done)
                await imports.reject(tx, intake.id, 0, [_reject_row(each) for each in intake.rejects])
                wanted = await _wanted(tx, intake, intake.contacts)
                added = await contacts.insert(tx, intake.campaign_id, contacts.BASE_LIST, self._numbered(wanted))
                unwanted = len(intake.contacts) - len(wanted)
                done = replace(done, added=added, duplicates=len(wanted) - added, do_not_call=unwanted)
            await imports.publish(tx, done)
            # An active campaign waits for its upload; with nothing new in it, it may be done.
            tx.touched.add(intake.campaign_id)
            return done

        return await self._store.write(publish, weight=STEP)

    async def _discard(self, intake: _Intake) -> None:
        """Take back what was staged, even while the store is ill for some seconds; else the next start does it."""
        if not intake.staged:
            return
        pause = _FIRST_PAUSE
        for attempt in range(1, _TRIES + 1):
            try:
                await self._remove(intake.campaign_id, intake.id)
                return
            except StoreError as error:
                log.warning("upload_not_discarded", campaign_id=intake.campaign_id, attempt=attempt, reason=str(error))
            if attempt < _TRIES:
                await self._clock.sleep(pause)
                pause *= 2

    async def _remove(self, campaign_id: int, import_id: int) -> None:
        async def contacts_step(tx: Tx) -> int:
            # A commit whose confirmation was lost may stand all the same; then the upload stands.
            if await imports.is_published(tx.conn, import_id):
                return 0
            return await contacts.remove_list(tx, campaign_id, import_id, STEP)

        async def rest(tx: Tx) -> None:
            if not await imports.is_published(tx.conn, import_id):
                await imports.remove(tx, import_id)
                tx.touched.add(campaign_id)

        while await self._store.write(contacts_step, weight=STEP):
            pass
        async with self._store.read() as conn:
            stands = await imports.is_published(conn, import_id)
        if not stands:
            await self._remove_rejects(import_id)
            await self._store.write(rest)

    async def _remove_rejects(self, import_id: int) -> None:
        while await self._store.write(lambda tx: imports.remove_rejects(tx, import_id, STEP), weight=STEP):
            pass

    async def _remove_campaign(self, campaign_id: int) -> None:
        while await self._store.write(lambda tx: contacts.remove_of_campaign(tx, campaign_id, STEP), weight=STEP):
            pass
        async with self._store.read() as conn:
            uploads = await imports.of_campaign(conn, campaign_id)
        for import_id in uploads:
            await self._remove_rejects(import_id)

        async def rest(tx: Tx) -> None:
            for import_id in uploads:
                await imports.remove(tx, import_id)
            await campaigns.remove(tx, campaign_id)

        await self._store.write(rest)

    def _numbered(self, rows: Sequence[NewContact]) -> list[dict[str, Any]]:
        return [{"id": self._clock.number(), **_contact_row(row)} for row in rows]

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


async def _wanted(tx: Tx, intake: _Intake, rows: Sequence[NewContact]) -> list[NewContact]:
    """Those whose numbers may be called, asked in the transaction that inserts them."""
    listed = await do_not_call.listed(tx.conn, intake.tenant.id, {row.phone_number for row in rows})
    return [row for row in rows if row.phone_number not in listed]


def _contact_row(row: NewContact) -> dict[str, Any]:
    return {
        "phone_number": row.phone_number,
        "first_name": row.first_name,
        "last_name": row.last_name,
        "email": row.email,
        "company": row.company,
        "timezone": row.timezone,
        "priority": row.priority,
        "external_id": row.external_id,
        "attributes": row.attributes,
    }


def _reject_row(row: RowError) -> dict[str, Any]:
    return asdict(row)


def as_rejected(error: InvalidTable) -> InvalidRows:
    """A file that is no table, as the API tells it."""
    rows = [RowError(error.row, None, None, error.code, error.message)] if error.row is not None else []
    where = "" if error.row is None else f"row {error.row}: "
    return InvalidRows(error.code, f"{where}{error.message}", rows)
