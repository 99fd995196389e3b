"""Uploads on disk: beside the store, so many at once, never in its last room, and gone after whoever was killed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dialerd.api import spool
from dialerd.api.context import Limits
from tests.contract.api.house import DEADLINE, House, Template, open_house
from tests.contract.api.test_campaigns import form

CSV = {"Content-Type": "text/csv"}
GOOD = b"phone_number\n+12025550100\n"


def _folder(folder: Path) -> Path:
    return folder / "dialerd.db-uploads"


async def _turned_away(house: House, reason: str) -> float:
    metrics = (await house.ask("GET", "/~/metrics", key=None)).body.decode()
    line = f'dialerd_bodies_turned_away_total{{reason="{reason}"}} '
    return float(next(each for each in metrics.splitlines() if each.startswith(line)).removeprefix(line))


@contextlib.asynccontextmanager
async def _begun(house: House, path: str, count: int, key: str, size: int = 1_000_000) -> AsyncIterator[list[bytes]]:
    """Uploads that have begun and do not end; gives the first lines of the answers that those got who are too many."""
    head = f"POST /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nAuthorization: Bearer "
    head += f"{house.keys[key]}\r\nContent-Length: {size + 1}\r\n\r\n"
    links = [await asyncio.open_connection("127.0.0.1", house.server.port) for _ in range(count)]
    try:
        for _, writer in links:
            writer.write(head.encode() + b"phone_number\n" * (size // 13))
        answers = [asyncio.create_task(reader.readline()) for reader, _ in links]
        done, waiting = await asyncio.wait(answers, timeout=2.0)
        for each in waiting:
            each.cancel()
        yield [each.result() for each in done]
    finally:
        for _, writer in links:
            writer.close()


async def test_an_upload_lies_beside_the_store_for_nobody_else_to_read(house: House, tmp_path: Path) -> None:
    async with _begun(house, f"/campaigns/{await house.campaign()}/contacts", 1, "operator") as answers:
        assert answers == []
        [file] = _folder(tmp_path).iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(_folder(tmp_path).stat().st_mode) == 0o700


async def test_uploads_at_once_are_bounded_together_and_for_each_tenant(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, Limits(uploads=6, tenant_uploads=4)) as house:
        mine = f"/campaigns/{await house.campaign()}/contacts"
        theirs = f"/campaigns/{await house.campaign(key='other')}/contacts"
        async with _begun(house, mine, 10, "operator") as answers:
            assert [each.split()[1] for each in answers] == [b"429"] * 6
            assert len(list(_folder(tmp_path).iterdir())) == 4
            assert await _turned_away(house, "uploads") == 6
            for refused in (
                await house.ask("POST", mine, data=GOOD, headers=CSV),
                await house.ask("POST", mine, data=form(("contacts", GOOD))),
                await house.ask("POST", "/dnc", key="admin", data=GOOD, headers=CSV),
            ):
                assert refused.problem() == (429, "rate_limited")
                assert int(refused.headers["Retry-After"]) > 0
            assert (await house.ask("POST", theirs, key="other", data=GOOD, headers=CSV)).status == 200
            async with _begun(house, theirs, 4, "other") as others:
                assert [each.split()[1] for each in others] == [b"429"] * 2
        async with asyncio.timeout(DEADLINE):
            while (await house.ask("POST", mine, data=GOOD, headers=CSV)).status != 200:
                await house.ask("GET", "/agents")
        assert (await house.ask("GET", f"/campaigns/{mine.split('/')[2]}/contacts")).json["total"] == 1


async def test_the_bytes_of_uploads_are_bounded_together(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path, Limits(upload_bytes=1_000_000)) as house:
        path = f"/campaigns/{await house.campaign()}/contacts"
        async with _begun(house, path, 3, "operator", 900_000) as answers:
            assert [each.split()[1] for each in answers] == [b"429"]
            assert await _turned_away(house, "uploads") == 1


class _Disk:
    """A disk with so much room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int, whole: int) -> None:
        self.free = free
        shown = lambda _path: SimpleNamespace(f_blocks=whole, f_bavail=self.free, f_frsize=1)  # noqa: E731
        monkeypatch.setattr("os.statvfs", shown)


@pytest.mark.parametrize(("whole", "kept"), [(10**12, 2**30), (10**9, 10**8)])
async def test_no_upload_takes_the_last_room(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int, kept: int
) -> None:
    path = f"/campaigns/{await house.campaign()}/contacts"
    disk = _Disk(monkeypatch, kept + len(GOOD), whole)
    assert (await house.ask("POST", path, data=GOOD, headers=CSV)).status == 200
    for free in (kept + len(GOOD) - 1, kept - 1, 0):
        disk.free = free
        refused = await house.ask("POST", path, data=GOOD, headers=CSV)
        assert refused.problem() == (500, "database_error")
        assert "no room" in refused.json["detail"]
    assert await _turned_away(house, "disk") == 3
    assert list(_folder(tmp_path).iterdir()) == []


async def test_a_disk_that_fails_is_told_and_leaves_nothing(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/campaigns/{await house.campaign()}/contacts"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spool.Spool, "_append", full)
        assert (await house.ask("POST", path, data=GOOD, headers=CSV)).problem() == (500, "database_error")
    assert list(_folder(tmp_path).iterdir()) == []
    assert (await house.ask("POST", path, data=GOOD, headers=CSV)).status == 200


async def test_what_a_killed_process_left_is_removed_and_nothing_else(template: Template, tmp_path: Path) -> None:
    _folder(tmp_path).mkdir(mode=0o700)
    left, others, used = (_folder(tmp_path) / name for name in ("upload-left", "not-ours", "upload-used"))
    for each in (left, others, used):
        each.write_bytes(GOOD)
    with used.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        async with open_house(template, tmp_path):
            assert {each.name for each in _folder(tmp_path).iterdir()} == {others.name, used.name}


async def test_no_folder_is_left_when_the_daemon_stops(template: Template, tmp_path: Path) -> None:
    async with open_house(template, tmp_path) as house:
        path = f"/campaigns/{await house.campaign()}/contacts"
        assert (await house.ask("POST", path, data=GOOD, headers=CSV)).status == 200
        assert _folder(tmp_path).is_dir()
    assert not _folder(tmp_path).exists()


async def test_a_folder_that_is_a_link_is_not_written_to(house: House, tmp_path: Path) -> None:
    path = f"/campaigns/{await house.campaign()}/contacts"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _folder(tmp_path).symlink_to(elsewhere)
    assert (await house.ask("POST", path, data=GOOD, headers=CSV)).problem() == (500, "database_error")
    assert os.listdir(elsewhere) == []
