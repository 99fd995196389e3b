"""The doctor at a real Asterisk: five planted faults, each named with its mend, and not a word against what is well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import SystemClock
from dialerd.core.model import Agent, AgentKind
from dialerd.doctor.examination import examine
from dialerd.doctor.findings import Finding, Level, exit_status
from dialerd.store import agents
from dialerd.store.db import Store
from dialerd.store.migrate import migrate
from dialerd.telemetry.metrics import Metrics
from tests.integration.house import await_unreachable
from tests.lab.lab import DIALERD, Lab

POOR = "dialerd-poor"
MAX_CALLS = 2000
"""maxcalls of the lab's asterisk.conf."""


@pytest.fixture
def poor(lab: Lab) -> Iterator[None]:
    """A manager user without the right to originate, as after a slip of the editor."""
    conf = lab.run / "etc/manager.conf"
    before = conf.read_text()
    conf.write_text(f"{before}\n[{POOR}]\nsecret = {DIALERD.secret}\nread = call,system\nwrite = call,reporting\n")
    lab.cli("manager reload")
    yield
    conf.write_text(before)
    lab.cli("manager reload")


def pbx(lab: Lab, **other: Any) -> dict[str, Any]:
    """A PBX of the configuration: the lab's, with the user of asterisk-conf/."""
    return {
        "driver": "asterisk",
        "host": lab.host,
        "port": lab.ports.ami,
        "username": DIALERD.name,
        "secret": DIALERD.secret,
        "max_calls_per_second": 100.0,
        "max_channels": 500,
        **other,
    }


def trunk(through: str, dial: str) -> dict[str, Any]:
    """A trunk of the configuration."""
    return {"pbx": through, "dial": dial, "max_calls_per_second": 10.0, "max_channels": 100}


async def examined(
    lab: Lab, folder: Path, pbxs: dict[str, Any], trunks: dict[str, Any], context: str = "dialerd"
) -> list[Finding]:
    """Run the doctor with a store in which the tenant's default agent is a place in ``context``."""
    store = folder / "dialerd.db"
    await make_store(store, Agent(1, "lab", "desk", AgentKind.DIALPLAN, context=context, exten="answered"))
    tables = {
        "store": {"url": f"sqlite:///{store}"},
        **{f"pbx.{name}": table for name, table in pbxs.items()},
        **{f"trunk.{name}": table for name, table in trunks.items()},
        "tenant.lab": {
            "max_calls_per_second": 100.0,
            "max_concurrent_calls": 500,
            "trunks": list(trunks),
            "default_agent": "desk",
        },
    }
    config = folder / "dialerd.toml"
    config.write_text(
        "\n".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
            for name, table in tables.items()
        )
    )
    private(config)
    before = lab.cli("core show channels count")
    found = await examine(config, {}, SystemClock())
    assert lab.cli("core show channels count") == before, "nothing may be dialled"
    return found


async def make_store(path: Path, agent: Agent) -> None:
    """A store with one agent."""
    url = f"sqlite:///{path}"
    migrate(url)
    store = Store(url, SystemClock(), Metrics())
    await store.open()
    try:
        await store.write(lambda tx: agents.save(tx, agent))
    finally:
        await store.close()
    private(path)


def private(path: Path) -> None:
    """Nobody else's to read."""
    path.chmod(0o600)


@pytest.mark.usefixtures("poor")
async def test_five_planted_faults_are_each_named_with_their_mend(lab: Lab, tmp_path: Path) -> None:
    pbxs = {
        "main": pbx(lab, max_channels=MAX_CALLS + 1000),
        "locked": pbx(lab, secret="not the secret"),
        "poor": pbx(lab, username=POOR),
    }
    trunks = {
        "good": trunk("main", "PJSIP/{number}@trunk"),
        "typo": trunk("main", "PJSIP/{number}@trunkk"),
        "a": trunk("locked", "PJSIP/{number}@trunk"),
        "b": trunk("poor", "PJSIP/{number}@trunk"),
    }
    found = await examined(lab, tmp_path, pbxs, trunks, context="dialler")
    errors = {each.check: each for each in found if each.level is Level.ERROR}

    assert "Authentication failed" in errors["pbx.locked.login"].message
    assert "dialerd.toml [pbx.locked] secret" in (errors["pbx.locked.login"].mend or "")

    assert "originate" in errors["pbx.poor.write"].message
    assert errors["pbx.poor.write"].mend == f"manager.conf [{POOR}] write = originate,call,reporting"

    assert "PJSIP/trunkk" in errors["trunk.typo"].message
    assert (errors["trunk.typo"].mend or "").startswith("dialerd.toml [trunk.typo] dial = 'PJSIP/{number}@trunkk'")

    assert "dialler,answered,1" in errors["pbx.main.agent"].message
    assert (errors["pbx.main.agent"].mend or "").startswith("extensions.conf [dialler] exten => answered,1")

    assert f"takes {MAX_CALLS} calls" in errors["pbx.main.maxcalls"].message
    assert "asterisk.conf [options] maxcalls = 3000" in (errors["pbx.main.maxcalls"].mend or "")

    # The unknown place is missed by whichever user asks; what else is said is said of nothing that is well.
    assert errors.keys() == {
        "pbx.locked.login",
        "pbx.poor.write",
        "trunk.typo",
        "pbx.main.agent",
        "pbx.main.maxcalls",
        "pbx.poor.agent",
    }
    assert exit_status(found) == 2


async def test_what_is_well_is_told_so(lab: Lab, tmp_path: Path) -> None:
    trunks = {"good": trunk("main", "PJSIP/{number}@trunk"), "dialplan": trunk("main", "Local/{number}@out")}
    found = {each.check: each for each in await examined(lab, tmp_path, {"main": pbx(lab)}, trunks)}
    version = {"22": "Asterisk 22.", "16": "Asterisk 16."}[lab.version]
    assert found["pbx.main.version"].message.startswith(version)
    levels = {name: each.level for name, each in found.items() if name.startswith(("pbx", "trunk", "tenant", "store"))}
    assert levels.pop("pbx.main.writetimeout") is Level.NOTE
    assert not [found[name] for name, level in levels.items() if level is not Level.OK]
    assert {"pbx.main.write", "pbx.main.read", "pbx.main.agent", "trunk.good", "trunk.dialplan"} <= levels.keys()


async def test_a_trunk_whose_far_end_is_gone(lab: Lab, tmp_path: Path) -> None:
    await_unreachable(lab, "dead")
    trunks = {"gone": trunk("main", "PJSIP/{number}@dead"), "empty": trunk("main", "PJSIP/{number}@nocontact")}
    found = {each.check: each for each in await examined(lab, tmp_path, {"main": pbx(lab)}, trunks)}
    for name in trunks:
        assert found[f"trunk.{name}"].level is Level.ERROR
        assert "is unavailable" in found[f"trunk.{name}"].message
    assert "pjsip.conf [dead]" in (found["trunk.gone"].mend or "")


async def test_a_user_with_every_right_is_warned_of_and_its_writetimeout_read(lab: Lab, tmp_path: Path) -> None:
    rich = pbx(lab, username="dialer", secret="dialersecret")
    trunks = {"good": trunk("main", "PJSIP/{number}@trunk")}
    found = {each.check: each for each in await examined(lab, tmp_path, {"main": rich}, trunks)}
    assert found["pbx.main.write"].level is Level.WARNING
    assert found["pbx.main.write"].mend == "manager.conf [dialer] write = originate,call,reporting"
    assert found["pbx.main.writetimeout"] == Finding(
        "pbx.main.writetimeout", Level.OK, "Asterisk waits 5000 ms for a reader that is behind"
    )
