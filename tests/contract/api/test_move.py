"""A store that has seen a whole campaign, moved from SQLite to PostgreSQL: every answer of the API stays the same."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import read_id
from dialerd.store import events
from dialerd.store.errors import StoreError
from dialerd.store.file_lock import FileLock
from dialerd.store.migrate import is_new, migrate
from dialerd.store.transfer import move
from tests.contract.api.house import DEADLINE, House, Template, open_house
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


OPEN = {"calling_hours_start": "00:00", "calling_hours_end": "00:00", "max_retries": 0}
ENDINGS = ("30", "31", "32", "33", "34", "10", "15", "22", "35")
"""Of the numbers: those that answer, and some that refuse at once (pbx/callees.py)."""


class MovedTemplate(Template):
    """A database that is there already, in the place of a template."""

    def url(self, folder: Path, *, fresh: bool) -> str:
        return str(self.path).replace("postgresql:/", "postgresql://", 1)


async def live(house: House) -> str:
    """A campaign dialled to its end, with all that can be beside it; returns its id."""
    contacts = [
        {
            "phone": f"+1202500{each // 9:02}{ENDINGS[each % 9]}",
            "first_name": name,
            "priority": each % 3,
            "attributes": {"n": str(each)},
        }
        for each, name in enumerate(["Zoë", "zoe", "Åsa", "O'Brien", "Ann", "bob", "Émile", "_", "1"] * 3)
    ]
    campaign = await house.campaign(settings=OPEN)
    added = await house.ask("POST", f"/campaigns/{campaign}/contacts", json={"contacts": contacts})
    assert added.status == 200, added
    csv = b"phone,first_name\n+12025009030,A\n12,B\n+12025009030,C\n"
    upload = await house.ask("POST", f"/campaigns/{campaign}/contacts", data=csv, headers={"Content-Type": "text/csv"})
    assert upload.json["invalid"] == 1, upload
    body = {"phone_number": "+12025000111", "note": "said so"}
    assert (await house.ask("POST", "/dnc", key="admin", json=body)).json["added"] == 1
    again = {"Idempotency-Key": "the same"}
    await house.ask("POST", "/agents", key="admin", json={"name": "kept", "kind": "queue", "queue": "q"}, headers=again)
    await house.campaign("+12025007001", name="äöü of another name", description="Ünlikely 100 %")
    started = await house.ask("POST", f"/campaigns/{campaign}/start")
    assert started.status == 200, started
    with house.daemon.feed.follow(read_id(campaign) or 0) as subscription:
        async with asyncio.timeout(DEADLINE):
            while not any(each.draft.kind.value == "campaign" for each in await subscription.next()):
                pass
    assert (await house.ask("GET", f"/campaigns/{campaign}")).json["status"] == "completed"
    return campaign


async def answers(house: House, campaign: str) -> dict[str, Any]:
    """All that the API tells of what is in the store."""
    one = f"/campaigns/{campaign}"
    paths = [
        "/agents",
        "/dnc",
        *(f"/campaigns?{query}" for query in ("", "sort=name", "sort=-name", "q=of%20another", "q=%C3%9C", "q=%25")),
        *(one + rest for rest in ("", "/calls", "/callbacks", "/results.csv")),
        *(
            f"{one}/contacts?{query}"
            for query in ("limit=100", "status=completed", "outcome=answered", "q=%2B1202", "q=zo", "q=%C3%A9", "q=_")
        ),
    ]
    found: dict[str, Any] = {}
    for path in paths:
        answer = await house.ask("GET", path)
        assert answer.status == 200, (path, answer)
        found[path] = answer.body
    listed = (await house.ask("GET", f"{one}/contacts?limit=100")).json["data"]
    for each in listed:
        found[each["id"]] = (await house.ask("GET", f"{one}/contacts/{each['id']}")).json
        found[each["id"]].pop("explain")  # tells of PBX and trunks, too
    for path in ("/keys", "/tenants"):
        found[path] = (await house.ask("GET", path, key="system")).body
    again = {"Idempotency-Key": "the same"}
    body = {"name": "kept", "kind": "queue", "queue": "q"}
    found["repeat"] = (await house.ask("POST", "/agents", key="admin", json=body, headers=again)).body
    async with house.daemon.store.read() as conn:
        found["events"] = await events.after(conn, read_id(campaign) or 0, 0, 10_000)
    assert len(listed) > 20
    assert len(found["events"]) > 60
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_every_answer_stays_the_same(template: Template, tmp_path: Path, postgres_url: str) -> None:
    async with open_house(template, tmp_path, dials=True) as house:
        campaign = await live(house)
        before = await answers(house, campaign)
    source = tmp_path / "dialerd.db"
    was = digest(source)
    told: list[tuple[str, int, int]] = []
    rows = await move(f"sqlite:///{source}", postgres_url, lambda *each: told.append(each))
    assert digest(source) == was
    assert {name: done for name, done, total in told if done == total}["contact"] > 20
    assert rows == sum(done for name, done, total in told if done == total)
    moved = MovedTemplate(Path(postgres_url), template.keys)
    async with open_house(moved, tmp_path) as house:
        after = await answers(house, campaign)
        for path in before:
            assert after[path] == before[path], (path, after[path], before[path])
        assert before == after
        # And it goes on: numbers of events grow from where they were.
        other = await house.campaign("+12025008030", settings=OPEN)
        assert (await house.ask("POST", f"/campaigns/{other}/start")).status == 200
        async with house.daemon.store.read() as conn:
            new = await events.after(conn, read_id(other) or 0, 0, 10)
        assert new[0].seq == before["events"][-1].seq + 1


async def test_what_is_not_moved(template: Template, tmp_path: Path, postgres: Cluster, postgres_url: str) -> None:
    source, name = tmp_path / "dialerd.db", postgres_url.rpartition("/")[2]
    shutil.copy(template.path, source)

    async def refused(words: str, target: str = postgres_url, of: Path = source) -> None:
        with pytest.raises(StoreError, match=words):
            await move(f"sqlite:///{of}", target, lambda *_: None)

    await refused("no store at", of=tmp_path / "none.db")
    await refused("no other way", target=f"sqlite:///{tmp_path}/other.db")
    with FileLock(source):
        await refused("has the store .* open")
    assert is_new(postgres_url)
    postgres.sql("CREATE TABLE theirs (a int)", database=name)
    await refused("not empty: it has a table theirs")
    postgres.sql("DROP TABLE theirs", database=name)
    assert is_new(postgres_url)

    with sqlite3.connect(source) as lite:
        lite.execute("INSERT INTO do_not_call VALUES ('one', '+1202', 'a' || char(0) || 'Zebulon', 1)")
    lite.close()
    with pytest.raises(StoreError, match="a row of do_not_call, among those from 1 to 1") as raised:
        await move(f"sqlite:///{source}", postgres_url, lambda *_: None)
    assert "Zebulon" not in str(raised.value)
    assert postgres.sql("SELECT count(*) FROM api_key", database=name) == "0"  # all or nothing
    with sqlite3.connect(source) as lite:
        lite.execute("DELETE FROM do_not_call")
    lite.close()
    # What failed left empty tables, which are no reason to refuse.
    await move(f"sqlite:///{source}", postgres_url, lambda *_: None)
    await refused("its table api_key has rows")

    with sqlite3.connect(source) as lite:
        lite.execute("UPDATE alembic_version SET version_num = '0000'")
    lite.close()
    await refused("run dialerd migrate first")


async def test_a_difference_is_found(template: Template, tmp_path: Path, postgres: Cluster, postgres_url: str) -> None:
    source = tmp_path / "dialerd.db"
    shutil.copy(template.path, source)
    migrate(postgres_url)
    for change in ("NEW.name = NEW.name || 'x'; RETURN NEW;", "RETURN NULL;"):
        postgres.sql(
            f"CREATE OR REPLACE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {change} END $$",
            "CREATE OR REPLACE TRIGGER spoil BEFORE INSERT ON api_key FOR EACH ROW EXECUTE FUNCTION spoil()",
            database=postgres_url.rpartition("/")[2],
        )
        with pytest.raises(StoreError, match="api_key has"):
            await move(f"sqlite:///{source}", postgres_url, lambda *_: None)
        assert postgres.sql("SELECT count(*) FROM api_key", database=postgres_url.rpartition("/")[2]) == "0"


def test_a_lock_is_one_process_and_ends_with_it(tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    with FileLock(store), pytest.raises(StoreError, match=r"another dialerd \(process [0-9]+\) has the store"):
        FileLock(store).__enter__()
    with FileLock(store):
        pass
    with (tmp_path / "a.db.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another dialerd has the store"):
            FileLock(store).__enter__()
