"""`make install` below a folder: what it puts there and takes back, and that what it put there runs with all data."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.lab.packages import locked
from tests.support import configuration

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LONGEST = 240.0
DEADLINE = 30.0
HOME = "opt/elsewhere/dialerd"
"""PREFIX, without its slash: another one than the default, for that is what a path written down somewhere forgets."""


def make(target: str, destination: Path, **variables: str) -> str:
    """Run a target of the Makefile for a machine below a folder; returns what it printed."""
    where = {"DESTDIR": str(destination), "PREFIX": f"/{HOME}", **variables}
    told = [f"{name}={value}" for name, value in where.items()]
    # Another worker may have taken some of these tests: the wheel is built in one place.
    with locked("build"):
        done = subprocess.run(
            ["make", "--no-print-directory", target, *told],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, however it ends."""
    return subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def files(folder: Path) -> set[str]:
    """Everything below a folder that is no folder itself."""
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_symlink() or not each.is_dir()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine with a file of somebody else's, on which dialerd was installed."""
    machine = tmp_path_factory.mktemp("machine")
    other = machine / "usr/local/bin/other"
    other.parent.mkdir(parents=True)
    other.write_text("#!/bin/sh\n")
    make("install", machine)
    return machine


@pytest.fixture
def program(installed: Path) -> list[str]:
    """The installed command. Its own first line names a path that is not there: DESTDIR is not /."""
    home = installed / HOME
    return [str(home / "bin/python"), "-I", str(home / "bin/dialerd")]


def test_what_lies_where(installed: Path) -> None:
    beside = {each for each in files(installed) if not each.startswith((f"{HOME}/lib/", f"{HOME}/share/doc/"))}
    assert {each for each in beside if not Path(each).name.startswith("python")} == {
        "etc/dialerd/dialerd.toml",
        f"{HOME}/bin/dialerd",
        f"{HOME}/lib64",
        f"{HOME}/pyvenv.cfg",
        f"{HOME}/share/dialerd/dialerd.toml",
        "usr/local/bin/dialerd",
        "usr/local/bin/other",
        "usr/local/lib/systemd/system/dialerd.service",
        "usr/local/lib/sysusers.d/dialerd.conf",
        "usr/local/lib/tmpfiles.d/dialerd.conf",
        "usr/local/share/bash-completion/completions/dialerd",
        "usr/local/share/fish/vendor_completions.d/dialerd.fish",
        "usr/local/share/zsh/site-functions/_dialerd",
    }
    assert (installed / "usr/local/bin/dialerd").readlink() == Path(f"/{HOME}/bin/dialerd")
    assert (installed / f"{HOME}/bin/dialerd").read_text().startswith(f"#!/{HOME}/bin/python -I\n")
    unit = (installed / "usr/local/lib/systemd/system/dialerd.service").read_text()
    assert f"ExecStart=/{HOME}/bin/dialerd serve" in unit
    assert "/opt/dialerd" not in unit
    assert (installed / "etc/dialerd/dialerd.toml").stat().st_mode & 0o777 == 0o640


def test_no_path_of_the_build_is_left_and_no_tool_of_development(installed: Path) -> None:
    home = installed / HOME
    assert run("grep", "-rlF", "-e", str(installed), "-e", f"{ROOT}/", str(home)).stdout == ""
    packages = {each.name.partition("-")[0].lower() for each in home.glob("lib/python3*/site-packages/*.dist-info")}
    assert {"dialerd", "aiohttp", "sqlalchemy"} <= packages
    assert packages.isdisjoint({"pip", "setuptools", "wheel", "pytest", "mypy", "ruff", "hypothesis"})


def test_all_is_compiled_whoever_runs_it(installed: Path) -> None:
    for source in (installed / HOME).glob("lib/python3*/site-packages/dialerd/**/*.py"):
        compiled = list((source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc"))
        assert compiled, source
        # PEP 552: hash-based and not checked against the source, so that nothing is ever written at run time.
        assert compiled[0].read_bytes()[4:8] == b"\x01\x00\x00\x00", source


def test_its_commands_need_nothing_of_the_tree(program: list[str], tmp_path: Path) -> None:
    config = configuration.write(tmp_path)
    checked = run(*program, "check-config", "--config", config)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "ok\n", "")
    made = run(*program, "migrate", "--existing", "--config", config)
    assert (made.returncode, made.stdout) == (0, "there is no store yet\n")
    assert not (tmp_path / "dialerd.db").exists()
    for options in ((), ("--existing",)):
        made = run(*program, "migrate", *options, "--config", config)
        assert (made.returncode, made.stdout.startswith("the store is at schema ")) == (0, True), made.stderr
    zones = "from dialerd.core.zones import zones_of; print(*zones_of('+14155550100'))"
    assert run(program[0], "-I", "-c", zones).stdout == "America/Los_Angeles\n"


async def test_it_serves_with_all_its_data(program: list[str], tmp_path: Path) -> None:
    """API, dashboard with its charts, documentation and migrations, all out of the wheel."""
    config = configuration.write(tmp_path)
    process = await asyncio.create_subprocess_exec(
        *program, "serve", "--config", str(config), cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
            told: dict[str, object] = {}
            while told.get("event") != "ready":
                told = json.loads(await process.stderr.readline())
            base = f"http://127.0.0.1:{told['port']}"
            for path, has in (
                ("/", "<title>"),
                ("/dashboard/vendor/uplot/uPlot.esm.js", "uPlot"),
                ("/docs", "<html"),
                ("/api/v1/openapi.json", '"openapi"'),
                ("/readyz", '"ready": true'),
            ):
                async with session.get(base + path) as answer:
                    text = await answer.text()
                    assert (answer.status, has in text) == (200, True), (path, text[:200])
    finally:
        process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert process.returncode == 0, errors


def test_completion_knows_the_commands(installed: Path, program: list[str]) -> None:
    script = (installed / "usr/local/share/bash-completion/completions/dialerd").read_text()
    assert "_DIALERD_COMPLETE=bash_complete" in script
    asked = run(*program, _DIALERD_COMPLETE="bash_complete", COMP_WORDS="dialerd camp", COMP_CWORD="1")
    assert asked.stdout.split() == ["plain,campaigns"]


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that machine, to change."""
    machine = tmp_path / "machine"
    shutil.copytree(installed, machine, symlinks=True)
    yield machine
    shutil.rmtree(machine)


def test_an_upgrade_keeps_an_edited_configuration_and_uninstall_takes_back_only_its_own(elsewhere: Path) -> None:
    config, beside = elsewhere / "etc/dialerd/dialerd.toml", elsewhere / "etc/dialerd/dialerd.toml.new"
    pristine = elsewhere / HOME / "share/dialerd/dialerd.toml"
    shipped = pristine.read_text()
    gone = elsewhere / HOME / "lib/gone.py"
    gone.write_text("# a file that the new version no longer has\n")
    mine = elsewhere / HOME / "recordings/one.wav"
    mine.parent.mkdir()
    mine.write_text("")
    # The older version brought another file, and somebody changed it since.
    pristine.write_text("# an older one\n")
    config.write_text("# mine\n")
    told = make("install", elsewhere)
    assert "was edited and stays as it is" in told
    assert (config.read_text(), beside.read_text()) == ("# mine\n", shipped)
    assert (pristine.read_text(), gone.exists(), mine.exists()) == (shipped, False, True)

    # Nobody changed it since: it is the new version's, and nothing is left beside it.
    pristine.write_text("# an older one\n")
    config.write_text("# an older one\n")
    make("install", elsewhere)
    assert (config.read_text(), beside.exists()) == (shipped, False)

    data = elsewhere / "var/lib/dialerd/dialerd.db"
    data.parent.mkdir(parents=True)
    data.write_text("")
    assert "stay" in make("uninstall", elsewhere)
    assert files(elsewhere) == {
        "etc/dialerd/dialerd.toml",
        "usr/local/bin/other",
        "var/lib/dialerd/dialerd.db",
        f"{HOME}/recordings/one.wav",
    }
    make("uninstall", elsewhere, PURGE="1")
    assert files(elsewhere) == {"usr/local/bin/other", f"{HOME}/recordings/one.wav"}


def test_the_same_sources_make_the_same_wheel(installed: Path, tmp_path: Path) -> None:
    (wheel,) = (ROOT / "dist").glob("dialerd-*.whl")
    with locked("build"):
        first = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as listed:
        assert "dialerd/store/migrations/script.py.mako" in listed.namelist()
    (ROOT / "dialerd/__pycache__").mkdir(exist_ok=True)
    make("wheel", tmp_path)
    with locked("build"):
        assert wheel.read_bytes() == first
