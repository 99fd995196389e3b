"""The doctor's findings from facts: what is wrong, and the line that mends it."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dialerd.cli import main
from dialerd.config import Config, PbxConfig
from dialerd.doctor import host, store
from dialerd.doctor.findings import Finding, Level, error, exit_status, lines, note, ok, to_json, warning
from dialerd.store import schema
from dialerd.store.migrate import migrate
from tests.support.configuration import SMALL

pytestmark = pytest.mark.usefixtures("restored_logs")

ROOT = Path(__file__).parents[2]

PBX = PbxConfig.model_validate(
    {
        "driver": "asterisk",
        "username": "dialerd",
        "secret": "open sesame",
        "max_calls_per_second": 10.0,
        "max_channels": 100,
        "action_deadline_seconds": 2.0,
    }
)

# The machine.


def test_the_clock() -> None:
    assert host.check_clock(True).level is Level.OK
    assert host.check_clock(None).level is Level.NOTE
    assert host.check_clock(False).mend == "run: timedatectl set-ntp true"


def test_zones_without_data_are_named() -> None:
    (found,) = host.check_zones(["Europe/London", "UTC", "UTC"])
    assert found == ok("clock.zones", "data of all zones in use: Europe/London, UTC")
    (found,) = host.check_zones(["UTC", "Mars/Olympus", ""][:2])
    assert (found.level, "Mars/Olympus" in found.message) == (Level.ERROR, True)


@pytest.mark.parametrize(("limit", "level"), [(1024, "warning"), (65_536, "ok"), (-1, "ok")])
def test_open_files(limit: int, level: str) -> None:
    config = Config(pbx={"main": PBX})
    found = host.check_open_files(host.OpenFiles(limit, of_unit=True), config)
    assert found.level == level
    assert found.message.startswith("dialerd.service may open ")
    if level == "warning":
        assert found.mend == "dialerd.service [Service] LimitNOFILE = 65536"


async def test_the_machine_can_be_asked() -> None:
    assert (await host.open_files()).limit != 0
    assert await host.clock_synchronised() in (True, False, None)


def test_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(0o644)
    found = host.file_mode(path)
    assert found is not None
    assert host.check_private("c", found, "a secret").mend == f"run: chmod o-rwx {path}"
    path.chmod(0o640)
    found = host.file_mode(path)
    assert found is not None
    assert host.check_private("c", found, "a secret").level is Level.OK
    assert host.file_mode(tmp_path / "none") is None


# The store.


async def of_store(path: Path) -> dict[str, Finding]:
    """What is found of a store."""
    facts, _ = await store.examine(f"sqlite:///{path}")
    return {each.check: each for each in store.check(facts)}


async def test_a_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    found = await of_store(tmp_path / "dialerd.db")
    assert found["store.file"].level is Level.OK
    assert not (tmp_path / "dialerd.db").exists()
    found = await of_store(tmp_path / "none" / "dialerd.db")
    assert found["store.file"].level is Level.ERROR
    assert found["store.space"].level is Level.NOTE


async def test_a_good_store(tmp_path: Path) -> None:
    path = tmp_path / "dialerd.db"
    migrate(f"sqlite:///{path}")
    path.chmod(0o600)
    before = path.read_bytes()
    found = await of_store(path)
    assert {each.level for name, each in found.items() if name != "store.space"} == {Level.OK}
    assert found["store.schema"].message == f"schema {schema.REVISION}"
    assert path.read_bytes() == before


async def test_a_store_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "dialerd.db"
    migrate(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
    connection.close()
    found = (await of_store(path))["store.schema"]
    assert (found.level, found.mend) == (Level.ERROR, "stop the daemon, then run: dialerd migrate")


async def test_what_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "dialerd.db"
    path.write_text("not a database, and long enough to be looked at as one " * 10)
    found = (await of_store(path))["store.file"]
    assert found.level is Level.ERROR
    assert "file is not a database" in found.message


async def test_a_store_that_somebody_keeps_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_LOCK_SECONDS", 0.01)
    path = tmp_path / "dialerd.db"
    migrate(f"sqlite:///{path}")
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        assert "locked" in (await of_store(path))["store.file"].message
    finally:
        connection.close()


def test_root_is_told_that_it_sees_more_than_the_daemon(tmp_path: Path) -> None:
    theirs = host.FileMode(tmp_path / "x.db", "dialerd", 0o600)
    facts = store.StoreFacts(
        tmp_path / "x.db", exists=True, folder_writable=True, file=theirs, revision=schema.REVISION, free=5 << 30
    )
    assert "store.user" not in {each.check for each in store.check(facts)}
    found = {each.check: each for each in store.check(replace(facts, as_root=True))}["store.user"]
    assert (found.level, found.mend) == (Level.NOTE, "run: sudo -u dialerd dialerd doctor …")


@pytest.mark.parametrize(("free", "level"), [(50 << 20, "error"), (500 << 20, "warning"), (5 << 30, "ok")])
def test_space(tmp_path: Path, free: int, level: str) -> None:
    facts = store.StoreFacts(tmp_path / "x.db", exists=False, folder_writable=True, free=free)
    assert next(iter(store.check(facts))).level == level


# The whole.


def test_exit_status_and_lines() -> None:
    found = [ok("a", "well"), note("b.c", "unseen"), warning("d", "odd", "do this")]
    assert exit_status(found[:2]) == 0
    assert exit_status(found) == 1
    assert exit_status([*found, error("e", "bad")]) == 2
    assert lines(found) == [
        "ok       a    well",
        "note     b.c  unseen",
        "warning  d    odd",
        "              -> do this",
    ]
    assert to_json(found)[2] == {"check": "d", "level": "warning", "message": "odd", "mend": "do this"}


CONFIG = SMALL + 'default_agent = "desk"\n'


def test_the_command(tmp_path: Path) -> None:
    config = tmp_path / "dialerd.toml"
    config.write_text(CONFIG.format(folder=tmp_path))
    result = CliRunner().invoke(main, ["doctor", "--config", str(config)])
    assert result.exit_code == 1
    assert "warning  tenant.default.default_agent" in result.stdout
    assert "is simulated: nobody is called" in result.stdout
    told = CliRunner().invoke(main, ["doctor", "--config", str(config), "--json"])
    found = {each["check"]: each["level"] for each in json.loads(told.stdout)["findings"]}
    assert found["config"] == "ok"
    assert found["tenant.default.default_agent"] == "warning"


def test_an_agent_from_before_the_contexts_were_listed(tmp_path: Path) -> None:
    config, path = tmp_path / "dialerd.toml", tmp_path / "dialerd.db"
    migrate(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        for number, context in enumerate(("sales", "routes")):
            connection.execute(
                "INSERT INTO agent (id, tenant, name, kind, context, exten, priority, created_at) "
                "VALUES (?, 'default', ?, 'dialplan', ?, 's', 1, 0)",
                (number, context, context),
            )
    connection.close()
    config.write_text('[agents]\ncontexts = ["sales"]\n' + CONFIG.format(folder=tmp_path))
    told = CliRunner().invoke(main, ["doctor", "--config", str(config), "--json"])
    (found,) = [each for each in json.loads(told.stdout)["findings"] if each["check"] == "agents.allowed"]
    assert found["level"] == "error"
    assert found["message"].startswith("agent 'routes' of tenant default: its context 'routes' is not allowed")
    assert found["mend"] == "dialerd.toml [agents] contexts, or change the agent"


def test_a_configuration_that_cannot_be_used_is_all_that_is_told(tmp_path: Path) -> None:
    config = tmp_path / "dialerd.toml"
    config.write_text(CONFIG.format(folder=tmp_path).replace("max_channels = 5", "max_channels = 0"))
    result = CliRunner().invoke(main, ["doctor", "--config", str(config)])
    assert result.exit_code == 2
    assert [line.split()[:3] for line in result.stdout.splitlines() if not line.lstrip().startswith("->")] == [
        ["error", "config", "pbx.sim.max_channels:"],
        ["error", "config", "trunk.one.max_channels:"],
    ]


def test_the_page_names_every_check() -> None:
    page = (ROOT / "docs/doctor.md").read_text()
    source = "".join(each.read_text() for each in (ROOT / "dialerd/doctor").glob("*.py"))
    checks = set(re.findall(r'"((?:agents|config|clock|host|store|server)\.\w+)"', source))
    checks |= {name.replace("{name}", "NAME") for name in re.findall(r'f"(pbx\.\{name\}\.\w+)"', source)}
    assert {"pbx.NAME.maxcalls", "store.schema", "clock.zones"} <= checks
    looked_at, answers = page.split("## Which check answers what")
    for part in (looked_at, answers):
        assert [each for each in sorted(checks) if f"`{each}`" not in part] == []
