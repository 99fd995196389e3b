"""The command line: what each command prints, where, and with which exit status."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dialerd import __version__
from dialerd.cli import ROLES, main
from dialerd.clock import SystemClock
from dialerd.store import keys
from dialerd.store.db import Store
from dialerd.telemetry.metrics import Metrics
from tests.support import configuration

pytestmark = pytest.mark.usefixtures("restored_logs")

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a store of its own."""
    return configuration.write(tmp_path)


def run(*arguments: str | Path) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"dialerd {__version__}\n")


def test_help_needs_none_of_the_libraries() -> None:
    program = (
        "import sys; from dialerd.cli import main; main(['--help'], standalone_mode=False); "
        "print(*{'sqlalchemy', 'pydantic', 'aiohttp', 'alembic', 'panoramisk', 'rich', 'structlog'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert "check-config" in done.stdout
    assert done.stdout.splitlines()[-1] == ""


def test_a_good_configuration(config: Path) -> None:
    result = run("check-config", "--config", config)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok\n", "")


def test_warnings_do_not_fail_the_check(config: Path) -> None:
    config.write_text(config.read_text().replace("max_channels = 5", "max_channels = 2", 1))
    result = run("check-config", "--config", config)
    assert (result.exit_code, result.stdout) == (0, "ok\n")
    assert result.stderr == "warning: trunk.one.max_channels: is above that of pbx.sim, which binds\n"


@pytest.mark.parametrize(
    "command",
    [
        ("check-config",),
        ("serve",),
        ("migrate",),
        ("keys", "create", "--tenant", "default", "--role", "admin"),
    ],
)
def test_every_command_tells_all_problems_of_the_configuration(command: Sequence[str], config: Path) -> None:
    text = config.read_text().replace("max_channels = 5", "max_channels = 0", 1).replace('"sim"', '"sin"')
    config.write_text(text)
    result = run(*command, "--config", config)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sorted(result.stderr.splitlines()) == [
        "pbx.sim.max_channels: must be above 0, not 0",
        "trunk.one.pbx: names no [pbx.…]: 'sin'; did you mean sim?",
    ]
    assert not list(config.parent.glob("*.db"))


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    result = run("check-config", "--config", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory\n"


def test_the_environment_counts(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALERD_SERVER__LISTEM", "x")
    result = run("check-config", "--config", config)
    assert result.exit_code == 2
    assert "DIALERD_SERVER__LISTEM: names no key" in result.stderr


def test_migrate_makes_a_store_and_leaves_a_current_one_alone(config: Path) -> None:
    first, second = run("migrate", "--config", config), run("migrate", "--config", config)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == second.stdout
    assert first.stdout.startswith("the store is at schema ")
    assert (config.parent / "dialerd.db").exists()


def test_migrate_says_why_it_cannot(config: Path) -> None:
    config.write_text(config.read_text().replace(str(config.parent), str(config.parent / "none")))
    result = run("migrate", "--config", config)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("dialerd: migration failed: ")
    assert "Traceback" not in result.stderr


def test_migrate_leaves_another_programs_file_alone(config: Path) -> None:
    file = config.parent / "dialerd.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE invoice (id INTEGER)")
    before = file.read_bytes()
    result = run("migrate", "--config", config)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "another program's: it has tables (invoice)" in result.stderr
    assert file.read_bytes() == before


def test_a_key_is_printed_alone_and_opens_the_store(config: Path) -> None:
    result = run("keys", "create", "--config", config, "--tenant", "default", "--role", "operator")
    assert (result.exit_code, result.stderr) == (0, "")
    (key,) = result.stdout.splitlines()
    parts = keys.split(key)
    assert parts is not None

    async def stored() -> keys.StoredKey | None:
        store = Store(f"sqlite:///{config.parent}/dialerd.db", SystemClock(), Metrics())
        await store.open()
        try:
            async with store.read() as conn:
                return await keys.get(conn, parts[0])
        finally:
            await store.close()

    found = asyncio.run(stored())
    assert found is not None
    assert found.fits(parts[1])
    assert (found.principal.tenant, found.principal.role) == ("default", keys.Role.OPERATOR)
    assert key.encode() not in (config.parent / "dialerd.db").read_bytes()


def test_a_key_that_cannot_be_stored_leaves_standard_output_empty(config: Path) -> None:
    assert run("migrate", "--config", config).exit_code == 0
    with sqlite3.connect(config.parent / "dialerd.db") as connection:
        connection.execute("DROP TABLE api_key")
    result = run("keys", "create", "--config", config, "--tenant", "default", "--role", "admin")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "dialerd: OperationalError: no such table: api_key" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--role", "admin"), "--tenant is missing"),
        (("--role", "admin", "--tenant", "nobody"), "there is no tenant 'nobody' in the configuration; there are: def"),
        (("--role", "system", "--tenant", "default"), "a system key belongs to no tenant"),
        (("--role", "god", "--tenant", "default"), "'god' is not one of"),
        (("--tenant", "default"), "Missing option '--role'"),
    ],
)
def test_a_key_that_cannot_be(config: Path, arguments: Sequence[str], message: str) -> None:
    result = run("keys", "create", "--config", config, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not list(config.parent.glob("*.db"))


def test_a_system_key_belongs_to_nobody(config: Path) -> None:
    result = run("keys", "create", "--config", config, "--role", "system")
    assert result.exit_code == 0
    assert keys.split(result.stdout.strip()) is not None


def test_the_roles_are_those_of_the_store() -> None:
    assert tuple(role.value for role in keys.Role) == ROLES
