"""On a Debian 12 with its own systemd: the package and `make install`, from nothing over an upgrade back to nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dialerd import __version__
from tests.packaging.container import Container

pytestmark = pytest.mark.deb

ROOT = Path(__file__).parents[2]
NEWER = "99.0"
LONGEST = 600.0
LEFT_RUNNING = 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8088/readyz").status)'

SCHEMA = """
import sqlite3
asked = sqlite3.connect("/var/lib/dialerd/dialerd.db").execute
for each in ("select version_num from alembic_version", "select count(*) from tried_by_test"):
    print(asked(each).fetchone()[0])
"""
CONFIG = """
[pbx.main]
driver = "simulated"
max_calls_per_second = 50
max_channels = 50
[pbx.main.simulated]
shares = { answer = 1.0 }
post_dial_seconds = [0.0, 0.1]
ring_seconds = [0.0, 0.1]
talk_seconds = [0.1, 0.2]
[trunk.a]
pbx = "main"
dial = "PJSIP/{number}@a"
max_calls_per_second = 50
max_channels = 50
[tenant.default]
max_calls_per_second = 50
max_concurrent_calls = 50
trunks = ["a"]
[tenant.default.settings]
calling_hours_start = "00:00"
calling_hours_end = "00:00"
concurrent_calls = 10
"""
MIGRATION = '''
"""A table more."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{last}", None, None


def upgrade() -> None:
    op.create_table("tried_by_test", sa.Column("id", sa.Integer, primary_key=True))
'''


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as it would be checked out, with its package built, and a newer version of each beside it."""
    folder = tmp_path_factory.mktemp("src")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("old", "new"):
        for each in listed.stdout.splitlines():
            if (ROOT / each).is_file():
                (folder / name / each).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / each, folder / name / each)
    _make_newer(folder / "new")
    for name in ("old", "new"):
        # The environment is the one of the checkout: it has pip, and nothing of it gets into a package.
        (folder / name / ".venv").symlink_to(ROOT / ".venv")
        _make("deb", folder / name)
    locked = ("--require-hashes", "-r", ROOT / "requirements.lock", "-d", folder / "wheels")
    subprocess.run([ROOT / ".venv/bin/pip", "download", "-q", *locked], timeout=LONGEST, check=True)
    for name in ("old", "new"):
        (folder / name / ".venv").unlink()
    return folder


def _make_newer(tree: Path) -> None:
    """Another version, whose store has a table more and whose configuration file says something else."""
    schema = tree / "dialerd/store/schema.py"
    for named in (tree / "pyproject.toml", tree / "dialerd/__init__.py"):
        named.write_text(named.read_text().replace(f'"{__version__}"', f'"{NEWER}"'))
    text = schema.read_text()
    last = re.search(r'^REVISION(?::[^=]*)? = "(.*)"', text, re.MULTILINE)
    assert last is not None
    schema.write_text(text.replace(last[0], last[0].replace(last[1], "9999")))
    (tree / "dialerd/store/migrations/versions/m9999_tried.py").write_text(MIGRATION.format(last=last[1]))
    config = tree / "config/dialerd.toml"
    config.write_text("# Of the newer version.\n" + config.read_text())


def _make(target: str, tree: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--no-print-directory", "--old-file=.venv/runtime.stamp", target],
        cwd=tree,
        env={**environ, "SOURCE_DATE_EPOCH": "1700000000", "DPKG_DEB_COMPRESSOR_TYPE": "gzip"},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def machine(sources: Path, tmp_path: Path) -> Iterator[Container]:
    """A booted machine on which dialerd never was."""
    with Container(tmp_path, sources) as booted:
        yield booted


def _configure(machine: Container) -> None:
    (machine.root / "etc/dialerd/dialerd.toml").write_text(CONFIG)


def _dial(machine: Container, name: str) -> str:
    """Dial a list of three to its end with the installed command; returns the campaign's id."""
    listed = machine.root / "root/contacts.csv"
    listed.write_text("phone_number\n" + "".join(f"+1202555{index:04}\n" for index in range(100, 103)))
    environ = ("env", f"DIALER_KEY={(machine.root / 'root/key').read_text().strip()}", "dialerd")
    if name == "first":
        machine.run(*environ, "agents", "create", "desk", "--dialplan", "dialerd,answered")
    made = machine.run(
        *environ, "campaigns", "create", "--json", "--name", name, "--agent", "desk", "--contacts", "/root/contacts.csv"
    )
    (campaign,) = re.findall(r'"id": "([0-9a-z]{13})"', made)[:1]
    machine.run(*environ, "campaigns", "start", campaign)
    machine.run(*environ, "tail", campaign, "--after", "0", "--until-end")
    return str(campaign)


def _results(machine: Container, campaign: str) -> list[str]:
    environ = ("env", f"DIALER_KEY={(machine.root / 'root/key').read_text().strip()}", "dialerd")
    return machine.run(*environ, "results", campaign).splitlines()


def _start(machine: Container) -> str:
    """What the installation said is to be done: doctor, enable, a key. Then a first campaign."""
    examined = json.loads(machine.run("dialerd", "doctor", "--json", user="dialerd", ok=(0, 1)))
    assert not [each for each in examined["findings"] if each["level"] == "error"], examined
    machine.run("systemctl", "enable", "--now", "dialerd")
    key = machine.run("dialerd", "keys", "create", "--tenant", "default", "--role", "admin", user="dialerd")
    (machine.root / "root/key").write_text(key)
    campaign = _dial(machine, "first")
    assert len(_results(machine, campaign)) == 1 + 3
    assert "calls in flight" in machine.run("systemctl", "show", "--property=StatusText", "dialerd")
    assert '"event": "ready"' in machine.run("journalctl", "--unit=dialerd", "--no-pager", "--output=cat")
    return campaign


def _is_active(machine: Container) -> str:
    return machine.try_run("systemctl", "is-active", "dialerd").stdout.strip()


def _check_upgraded(machine: Container, campaign: str) -> None:
    """The newer version runs, on a store of its own schema in which everything still is; and it dials."""
    assert machine.run("dialerd", "--version") == f"dialerd {NEWER}\n"
    assert _is_active(machine) == "active"
    assert machine.run("python3", "-c", LEFT_RUNNING) == "200\n"
    assert machine.run("python3", "-c", SCHEMA) == "9999\n0\n"
    assert len(_results(machine, campaign)) == 1 + 3
    assert len(_results(machine, _dial(machine, "second"))) == 1 + 3
    assert (machine.root / "etc/dialerd/dialerd.toml").read_text() == CONFIG


def test_the_package_from_nothing_to_nothing(machine: Container) -> None:
    before = machine.files()
    (old,), (new,) = ([each.name for each in (machine.source / name / "dist").glob("*.deb")] for name in ("old", "new"))
    told = machine.run("dpkg", "--install", f"/src/old/dist/{old}")
    assert "is not started" in told
    assert _is_active(machine) == "inactive"
    assert machine.try_run("systemctl", "is-enabled", "dialerd").stdout == "disabled\n"
    assert machine.run(
        "stat", "--format=%U:%G %a", "/etc/dialerd", "/etc/dialerd/dialerd.toml", "/var/lib/dialerd"
    ) == ("root:dialerd 750\nroot:dialerd 640\ndialerd:dialerd 700\n")
    _configure(machine)
    campaign = _start(machine)

    machine.run("dpkg", "--install", "--force-confdef", "--force-confold", f"/src/new/dist/{new}")
    _check_upgraded(machine, campaign)

    machine.run("dpkg", "--remove", "dialerd")
    assert _is_active(machine) == "inactive"
    left = machine.files() - before - {"root/key", "root/contacts.csv"}
    assert {each for each in left if not each.startswith(("etc/dialerd/", "var/lib/dialerd/"))} == set()
    assert {"etc/dialerd/dialerd.toml", "var/lib/dialerd/dialerd.db"} <= left
    machine.run("dpkg", "--purge", "dialerd")
    assert machine.files() - before == {"root/key", "root/contacts.csv"}
    assert machine.try_run("getent", "passwd", "dialerd").returncode == 2


def test_make_install_from_nothing_to_nothing(machine: Container) -> None:
    machine.run("cp", "-r", "/src/old", "/src/new", "/root/")
    before = machine.files()
    # There is no network inside: pip finds what it is to install, by the lock's hashes, in a folder.
    pip = ("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/src/wheels", "make", "--no-print-directory")
    told = machine.run(*pip, "--directory=/root/old", "install")
    assert "is not started" in told
    assert _is_active(machine) == "inactive"
    _configure(machine)
    campaign = _start(machine)

    told = machine.run(*pip, "--directory=/root/new", "install")
    assert "stopped" in told
    assert "was edited and stays as it is" in told
    _check_upgraded(machine, campaign)

    machine.run(*pip, "--directory=/root/new", "uninstall")
    assert _is_active(machine) == "inactive"
    left = {each for each in machine.files() - before if not each.startswith("root/")}
    assert {each for each in left if not each.startswith(("etc/dialerd/", "var/lib/dialerd/"))} == set()
    assert {"etc/dialerd/dialerd.toml", "etc/dialerd/dialerd.toml.new", "var/lib/dialerd/dialerd.db"} <= left
    machine.run(*pip, "--directory=/root/new", "uninstall", "PURGE=1")
    assert {each for each in machine.files() - before if not each.startswith("root/")} == set()
    assert machine.try_run("getent", "passwd", "dialerd").returncode == 2
