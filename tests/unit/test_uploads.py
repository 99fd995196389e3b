"""Uploads: all of one becomes visible at once, or nothing of it stays, whatever comes between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dialerd.clock import SystemClock
from dialerd.core.model import Campaign, CampaignStatus, ContactStatus, Tenant
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.pace import MOST
from dialerd.dispatch.requests import ImportReport, Upload
from dialerd.dispatch.uploads import SMALL, InvalidRows, Uploads, _Step
from dialerd.intake.rows import IntakeOptions
from dialerd.store import campaigns, contact_due, contact_list, contacts, imports
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.schema import contact, contact_import, contact_number, import_reject
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from tests.support.stores import new_store

STEP = SMALL // 2
"""Contacts of an upload up to which it is inserted whole."""
NOTHING = (0, 0, 0, 0)
TENANT = Tenant("one", 10, 10, ("a",), default_region="US")


@dataclass
class Bench:
    """A store with one campaign, and uploads to it."""

    store: Store
    uploads: Uploads
    metrics: Metrics
    clock: SystemClock
    folder: Path
    told: list[int]
    campaign_id: int = 0
    steps: list[int] = field(default_factory=list)

    async def campaign(self, status: CampaignStatus = CampaignStatus.DRAFT, *, visible: bool = True) -> int:
        """Make a campaign."""
        made = Campaign(
            self.clock.number(),
            "one",
            "c",
            None,
            None,
            status,
            CampaignSettings(),
            self.clock.wall(),
            self.clock.wall(),
        )
        if status is CampaignStatus.DRAFT:
            made = Campaign(made.id, "one", "c", None, None, status, made.settings, made.created_at)

        async def insert(tx: Tx) -> None:
            await campaigns.insert(tx, made, visible=visible)

        await self.store.write(insert)
        return made.id

    def csv(self, *rows: str) -> Upload:
        """An upload of a file."""
        path = self.folder / f"{self.clock.number()}.csv"
        path.write_text("\n".join(("phone_number,name", *rows)))
        return Upload("csv", path=str(path))

    async def add(self, upload: Upload) -> ImportReport:
        """Add an upload to the campaign."""
        return await self.uploads.add(self.campaign_id, TENANT, upload)

    async def visible(self) -> list[str]:
        """The numbers that the campaign shows."""
        async with self.store.read() as conn:
            found = await contact_list.page(conn, self.campaign_id, contact_list.Filter(), limit=100_000)
            stats = (await campaigns.stats(conn, [self.campaign_id]))[self.campaign_id]
        assert stats.total == stats.contacts[ContactStatus.PENDING] == len(found)
        return [each.phone_number for each in found]

    async def rows(self) -> tuple[int, ...]:
        """How many contacts, numbers of contacts, uploads and rejected rows there are, visible or not."""
        async with self.store.read() as conn:
            counted = [
                await conn.scalar(sa.select(sa.func.count()).select_from(table))
                for table in (contact, contact_number, contact_import, import_reject)
            ]
        return tuple(each or 0 for each in counted)


def numbers(count: int, first: int = 0) -> list[str]:
    """Distinct numbers as rows of a table."""
    return [f"+1202{5_000_000 + first + index:07d},n{index}" for index in range(count)]


@pytest.fixture
async def bench(tmp_path: Path, metrics: Metrics) -> AsyncIterator[Bench]:
    clock = SystemClock()
    store = Store(new_store(tmp_path / "dialerd.db"), clock, metrics)
    await store.open()
    told: list[int] = []
    uploads = Uploads(store, clock, lambda tenant: IntakeOptions(tenant.default_region), metrics, told.append)
    made = Bench(store, uploads, metrics, clock, tmp_path, told)
    made.campaign_id = await made.campaign()
    yield made
    await uploads.close()
    await store.close()


@pytest.mark.parametrize("count", [1, STEP, STEP + 1, 3 * STEP + 7])
async def test_every_size_keeps_its_rows_in_order(bench: Bench, count: int) -> None:
    rows = numbers(count)
    report = await bench.add(bench.csv(*rows))
    assert (report.added, report.duplicates, report.invalid) == (count, 0, 0)
    assert await bench.visible() == [row.partition(",")[0] for row in rows]
    assert bench.told == [bench.campaign_id]
    assert await bench.rows() == (count, count, 1, 0)


@pytest.mark.parametrize("count", [20, 3 * STEP])
async def test_counts_duplicates_of_the_file_and_of_the_campaign(bench: Bench, count: int) -> None:
    await bench.add(bench.csv(*numbers(10)))
    twice = [*numbers(count), *numbers(5, first=count // 2), "(202) 500-0000,again", "no number,x"]
    report = await bench.add(bench.csv(*twice))
    assert (report.added, report.duplicates, report.invalid) == (count - 10, 16, 1)
    assert [each.row for each in report.errors] == [len(twice) + 1]
    assert len(await bench.visible()) == count
    other = await bench.campaign()
    again = await bench.uploads.add(other, TENANT, bench.csv(*numbers(10)))
    assert again.added == 10, "another campaign may have the same numbers"
    text = bench.metrics.render().decode()
    assert f'contacts_added_total{{result="added"}} {10 + count - 10 + 10:.1f}' in text
    assert 'contacts_added_total{result="duplicate"} 16.0' in text


async def test_keeps_every_rejected_row_and_shows_a_hundred(bench: Bench) -> None:
    report = await bench.add(bench.csv(*["bad,x"] * (2 * STEP + 5), *numbers(3)))
    assert (report.added, report.invalid, len(report.errors)) == (3, 2 * STEP + 5, 100)
    async with bench.store.read() as conn:
        rows = (await conn.execute(sa.select(import_reject).order_by(import_reject.c.position))).mappings().all()
    assert [row["position"] for row in rows] == list(range(2 * STEP + 5))
    assert [row["row"] for row in rows] == [2 + index for index in range(2 * STEP + 5)]
    assert (rows[0]["column"], rows[0]["value"]) == ("phone_number", "bad")


async def test_nothing_shows_before_all_does_and_no_step_is_large(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    write = _Step.write

    async def watched(self: _Step, tx: Tx, intake: Any) -> None:
        shown = await contact_list.page(tx.conn, bench.campaign_id, contact_list.Filter(), limit=10)
        seen.append((self.size, len(shown)))
        due, _ = await contact_due.claim(tx.conn, bench.campaign_id, tx.clock.wall(), 10, frozenset())
        assert due == []
        await write(self, tx, intake)

    monkeypatch.setattr(_Step, "write", watched)
    await bench.add(bench.csv(*numbers(12 * STEP)))
    assert sum(size for size, _ in seen) == 2 * 12 * STEP, "a row for each number, and one for each contact"
    assert max(size for size, _ in seen) <= MOST
    assert {shown for _, shown in seen} == {0}
    async with bench.store.read() as conn:
        due, _ = await contact_due.claim(conn, bench.campaign_id, bench.clock.wall(), 10, frozenset())
    assert len(due) == 10


@pytest.mark.parametrize("good", [3, 3 * STEP])
async def test_reject_keeps_nothing(bench: Bench, good: int) -> None:
    upload = bench.csv(*numbers(good), "bad,x", *numbers(good, first=good), "worse,y")
    with pytest.raises(InvalidRows) as refused:
        await bench.add(Upload("csv", path=upload.path, on_invalid="reject"))
    assert refused.value.code == "invalid_request"
    assert [each.value for each in refused.value.rows] == ["bad", "worse"]
    assert await bench.rows() == NOTHING
    assert bench.told == []


@pytest.mark.parametrize("good", [3, 3 * STEP])
async def test_a_table_that_breaks_off_leaves_nothing(bench: Bench, good: int) -> None:
    with pytest.raises(InvalidRows) as refused:
        await bench.add(bench.csv(*numbers(good), "bad,x", '+12025550100,"open'))
    assert refused.value.code == "invalid_csv"
    assert refused.value.rows[0].row == good + 3
    assert await bench.rows() == NOTHING


async def test_items_of_json(bench: Bench) -> None:
    items = ({"phone": "+12025550100", "city": "Rome"}, 5, {"phone": "x"}, {"phone_number": "2025550100"})
    report = await bench.add(Upload("items", items=items))
    assert (report.added, report.duplicates, report.invalid) == (1, 1, 2)
    assert [each.row for each in report.errors] == [2, 3]
    assert (await bench.add(Upload("items"))).added == 0


@dataclass
class Gate:
    """Holds an upload at one of its steps."""

    steps: int = 1
    """After which step."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Holds every upload once it has staged so many steps."""
    held = Gate()
    step: Callable[..., Awaitable[None]] = Uploads._step

    async def holding(self: Uploads, intake: Any, pace: Any) -> None:
        await step(self, intake, pace)
        held.steps -= 1
        if held.steps <= 0:
            held.reached.set()
            await held.open.wait()

    monkeypatch.setattr(Uploads, "_step", holding)
    return held


@pytest.mark.parametrize(("steps", "only_numbers"), [(1, True), (7, False)])
async def test_a_cancelled_upload_leaves_nothing(bench: Bench, gate: Gate, steps: int, only_numbers: bool) -> None:
    gate.steps = steps
    task = asyncio.create_task(bench.add(bench.csv(*numbers(5 * STEP))))
    await gate.reached.wait()
    stored, taken, _, _ = await bench.rows()
    assert (stored == 0) == only_numbers
    assert taken >= STEP, "numbers are taken before the first contact is stored"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.uploads.close()
    assert await bench.rows() == NOTHING
    gate.open.set()
    assert (await bench.add(bench.csv(*numbers(2 * STEP)))).added == 2 * STEP


@pytest.mark.parametrize("count", [3, 2 * STEP])
async def test_a_campaign_that_ends_meanwhile_takes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    publish = Uploads._publish
    for change, code in (
        (lambda tx: campaigns.set_status(tx, bench.campaign_id, CampaignStatus.CANCELLED), "campaign_finished"),
        (lambda tx: campaigns.set_visible(tx, bench.campaign_id, visible=False), "campaign_not_found"),
    ):
        bench.campaign_id = await bench.campaign(CampaignStatus.PAUSED)

        async def late(self: Uploads, intake: Any, change: Any = change) -> Any:
            await bench.store.write(change)
            return await publish(self, intake)

        monkeypatch.setattr(Uploads, "_publish", late)
        with pytest.raises(Rejected) as refused:
            await bench.add(bench.csv(*numbers(count), "bad,x"))
        assert refused.value.code == code
        assert await bench.rows() == NOTHING
    with pytest.raises(Rejected) as refused:
        await bench.uploads.add(5, TENANT, bench.csv())
    assert refused.value.code == "campaign_not_found"


async def test_a_publication_is_told_even_when_nobody_waits_any_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Gate()
    publish = Uploads._publish

    async def holding(self: Uploads, intake: Any) -> Any:
        held.reached.set()
        await held.open.wait()
        return await publish(self, intake)

    monkeypatch.setattr(Uploads, "_publish", holding)
    task = asyncio.create_task(bench.add(bench.csv(*numbers(2 * STEP))))
    await held.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.open.set()
    await bench.uploads.close()
    assert len(await bench.visible()) == 2 * STEP
    assert bench.told == [bench.campaign_id]


async def test_a_failing_store_leaves_nothing_once_it_works_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = {"publish": 1, "remove": 2}

    async def full(*_: Any) -> None:
        failures["publish"] -= 1
        raise StoreError("disk full")

    remove = imports.remove

    async def sometimes(tx: Tx, import_id: int) -> None:
        failures["remove"] -= 1
        if failures["remove"] >= 0:
            raise StoreError("disk full")
        await remove(tx, import_id)

    monkeypatch.setattr(imports, "publish", full)
    monkeypatch.setattr(imports, "remove", sometimes)
    monkeypatch.setattr("dialerd.dispatch.uploads._FIRST_PAUSE", 0.001)
    with pytest.raises(StoreError):
        await bench.add(bench.csv(*numbers(2 * STEP), "bad,x"))
    assert failures == {"publish": 0, "remove": -1}
    assert await bench.rows() == NOTHING


async def test_one_upload_at_a_time_per_campaign(bench: Bench, gate: Gate) -> None:
    other = await bench.campaign()
    first = asyncio.create_task(bench.add(bench.csv(*numbers(2 * STEP))))
    await gate.reached.wait()
    second = asyncio.create_task(bench.add(bench.csv(*numbers(3))))
    elsewhere = await bench.uploads.add(other, TENANT, bench.csv(*numbers(3)))
    assert elsewhere.added == 3
    assert not second.done()
    gate.open.set()
    assert (await first).added == 2 * STEP
    assert ((await second).added, (await second).duplicates) == (0, 3)
    assert bench.uploads._turns == {}


async def test_an_upload_that_waits_too_long_is_refused(
    bench: Bench, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asyncio.create_task(bench.add(bench.csv(*numbers(2 * STEP))))
    await gate.reached.wait()
    monkeypatch.setattr("dialerd.dispatch.uploads.TURN_SECONDS", 0.01)
    with pytest.raises(Rejected) as refused:
        await bench.add(bench.csv(*numbers(3)))
    assert refused.value.code == "rate_limited"
    gate.open.set()
    assert (await first).added == 2 * STEP


async def test_an_active_campaign_waits_for_its_upload_and_no_longer(bench: Bench, gate: Gate) -> None:
    gate.open.set()
    for rows in (["bad,x"] * 600, ["bad,x"] * 3):
        bench.campaign_id = await bench.campaign(CampaignStatus.ACTIVE)
        report = await bench.add(bench.csv(*rows))
        assert (report.added, report.invalid) == (0, len(rows))
        async with bench.store.read() as conn:
            found = await campaigns.standing(conn, bench.campaign_id)
        assert found == (CampaignStatus.COMPLETED, True), "nothing is left of it, and nothing is coming"


async def test_clean_up_removes_what_a_restart_cut_short(bench: Bench) -> None:
    await bench.add(bench.csv(*numbers(600), "bad,x"))
    before = await bench.rows()
    hidden = await bench.campaign(visible=False)
    await bench.uploads.add(hidden, TENANT, bench.csv(*numbers(600), "bad,x"))
    deleted = await bench.campaign(CampaignStatus.CANCELLED, visible=False)
    cut_short = imports.Import(bench.clock.number(), bench.campaign_id, staged=True)

    async def stage(tx: Tx) -> None:
        await imports.begin(tx, cut_short)
        rows = [
            {"id": bench.clock.number(), "phone_number": f"+1303{index:07d}", "priority": 0, "attributes": {}}
            for index in range(STEP + 10)
        ]
        reject = {"row": 1, "column": None, "value": None, "code": "x", "message": "y"}
        await imports.reject(tx, cut_short.id, 0, [reject] * (STEP + 10))
        await contacts.insert(tx, bench.campaign_id, cut_short.id, rows)

    await bench.store.write(stage)
    assert await bench.rows() > before
    fresh = Uploads(bench.store, bench.clock, lambda _: IntakeOptions(), bench.metrics, bench.told.append)
    await fresh.clean_up(await fresh.leftovers())
    assert await bench.rows() == before
    assert len(await bench.visible()) == 600
    async with bench.store.read() as conn:
        assert await campaigns.standing(conn, hidden) is None
        assert await campaigns.standing(conn, deleted) == (CampaignStatus.CANCELLED, False)
    await fresh.clean_up(await fresh.leftovers())
    assert await bench.rows() == before


@pytest.mark.parametrize("count", [4, 2 * STEP])
async def test_numbers_outside_the_tenants_prefixes_are_invalid(bench: Bench, count: int) -> None:
    tenant = replace(TENANT, allowed_prefixes=("+1202", "+4420"))
    rows = [*numbers(count), "+19005550100,toll", "+442079460000,abroad"]
    report = await bench.uploads.add(bench.campaign_id, tenant, bench.csv(*rows))
    assert (report.added, report.invalid) == (count + 1, 1)
    (error,) = report.errors
    assert (error.row, error.column, error.value) == (count + 2, "phone_number", "+19005550100")
    assert error.code == "prefix_not_allowed"
    assert "+19005550100" not in await bench.visible()
