"""The client's commands as they are typed: mistakes, a daemon that is not there, a reader that has enough."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from dialerd.cli import main
from dialerd.client import top, top_view
from dialerd.client.errors import UNREACHABLE, USAGE

DEADLINE = 30.0


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody answers."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        # Bound, and not listening: no other program can come to sit there.
        yield f"http://127.0.0.1:{chosen.getsockname()[1]}"


def run(*arguments: str, url: str = "http://127.0.0.1:1", home: str = "/nonexistent") -> Result:
    """Type a command."""
    environ = {"DIALER_URL": url, "DIALER_KEY": "k", "XDG_CONFIG_HOME": home}
    return CliRunner().invoke(main, list(arguments), env=environ)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("campaigns", "create"), "Missing option '--name'"),
        (("campaigns", "create", "--name", "x", "--setting", "concurrent_calls"), "--setting wants NAME=VALUE"),
        (("campaigns", "create", "--name", "x", "--setting", "=1"), "--setting wants NAME=VALUE"),
        (("campaigns", "create", "--name", "x", "--setting", "name=y"), "name is no setting"),
        (("campaigns", "create", "--name", "x", *("--setting", "weight=1") * 2), "--setting weight is given twice"),
        (("campaigns", "create", "--name", "x", "--on-invalid", "maybe"), "'maybe' is not one of"),
        (("campaigns", "update", "c"), "say what is to change"),
        (("campaigns", "update", "c", "--description", "x", "--clear", "description"), "is given, and cleared"),
        (("campaigns", "update", "c", "--clear", "name"), "is not 'description'"),
        (("campaigns", "update", "c", "--setting", "retry={"), "--setting retry: must be JSON"),
        (("campaigns", "update", "c", "--setting", "agent_id=1"), "agent_id is no setting"),
        (("campaigns", "list", "--status", "running!"), "is not one of"),
        (("agents", "update", "x"), "say what is to change"),
        (("agents", "update", "x", "--queue", "q", "--application", "a"), "give one of"),
        (("tenants", "create", "x"), "Missing option '--max-calls-per-second'"),
        (("tenants", "update", "x", "--clear", "weight"), "is not one of"),
        (("webhooks", "update", "x"), "say what is to change"),
        (("campaigns", "show"), "Missing argument 'CAMPAIGN'"),
        (("callbacks", "create", "c", "--due", "2030-01-01T00:00:00Z"), "give --number or --contact"),
        (("callbacks", "create", "c", "--due", "x", "--number", "1", "--contact", "2"), "give --number or --contact"),
        (("agents", "create", "x"), "give one of --dialplan, --queue and --application"),
        (("agents", "create", "x", "--queue", "q", "--dialplan", "c,e"), "give one of"),
        (("agents", "create", "x", "--dialplan", "c"), "--dialplan wants CONTEXT,EXTEN"),
        (("agents", "create", "x", "--dialplan", "c,e,first"), "--dialplan wants CONTEXT,EXTEN"),
        (("dnc", "add"), "Missing argument"),
        (("tail",), "Missing argument"),
        (("tail", "c", "--event", "rung"), "is not one of"),
        (("tail", "c", "--after", "-1"), "is not in the range"),
        (("top", "--interval", "0"), "is not in the range"),
        (("keys", "create", "--role", "viewer", "--json"), "go with --url or --api"),
        (("keys", "create", "--role", "viewer", "--key", "k"), "go with --url or --api"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("campaigns", "list"),
        ("tail", "c"),
        ("top",),
        ("top", "--json"),
        ("results", "c"),
        ("dnc", "add", "+12025550100"),
    ],
)
def test_a_daemon_that_is_not_there(arguments: tuple[str, ...], nobody: str) -> None:
    result = run(*arguments, url=nobody)
    assert (result.exit_code, result.stdout) == (UNREACHABLE, "")
    assert result.stderr.startswith(f"dialerd: {nobody}: ")
    assert "Traceback" not in result.stderr


def test_a_client_without_a_key(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["campaigns", "list"], env={"DIALER_KEY": None, "XDG_CONFIG_HOME": str(tmp_path)})
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert result.stderr.startswith("dialerd: there is no key: give DIALER_KEY")


def test_a_reader_that_has_enough_is_no_failure_to_complain_of() -> None:
    # A pipe whose reading end is closed before anything is written.
    reading, writing = os.pipe()
    os.close(reading)
    program = "from dialerd.cli import main; main(['--help'])"
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=pipe, stderr=subprocess.PIPE, timeout=DEADLINE, check=False
        )
    assert done.stderr == b""
    assert done.returncode == 1


def test_completion_is_clicks_own() -> None:
    program = "from dialerd.cli import main; main(prog_name='dialerd')"
    environ = {
        **os.environ,
        "_DIALERD_COMPLETE": "bash_complete",
        "COMP_WORDS": "dialerd campaigns st",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert done.stdout.split() == ["plain,start", "plain,stop"]


# top


def trunk(**values: Any) -> dict[str, Any]:
    """A trunk as the API shows it."""
    return {
        "id": "carrier",
        "pbx": "main",
        "state": "up",
        "reason": None,
        "channels_in_use": 3,
        "max_channels": 10,
        "calls_per_second": 1.5,
        "max_calls_per_second": 5.0,
        "answer_seizure_ratio": 0.42,
        **values,
    }


def campaign(**stats: Any) -> dict[str, Any]:
    """A campaign as the API shows it."""
    counts = {"total": 10, "pending": 4, "originated": 1, "connected": 1, "completed": 3, "failed": 1, "cancelled": 0}
    known = {"calls_placed": 20, "calls_in_flight": 2, "answer_rate": 0.5, "estimated_completion_at": None}
    return {
        "id": "c1",
        "name": "[bold]Spring",
        "settings": {"concurrent_calls": 7},
        "stats": {**counts, **known, **stats},
    }


def snapshot(at: float = 0.0, **given: Any) -> top_view.Snapshot:
    """What was seen at one moment."""
    campaigns = {"data": [given.pop("campaign", campaign())], "pagination": {"total": 1}}
    return top_view.Snapshot(at, **{"trunks": {"data": [trunk()]}, "campaigns": campaigns, "tenants": None, **given})


def shown(now: top_view.Snapshot, earlier: top_view.Snapshot | None = None, trouble: str | None = None) -> list[str]:
    """The screen's lines."""
    sink = io.StringIO()
    Console(file=sink, width=140).print(top_view.View(now, earlier, trouble))
    return [line.rstrip() for line in sink.getvalue().splitlines()]


def test_top_draws_trunks_and_campaigns() -> None:
    lines = shown(snapshot())
    assert lines[0] == "1.5 calls/s, 3 of 10 channels in use, 1 active campaigns"
    assert lines[3].split() == ["carrier", "main", "up", "3/10", "1.5/5", "42", "%", "-"]
    assert lines[6].split() == ["c1", "[bold]Spring", "2/7", "-", "20", "4", "40", "%", "50", "%", "-"]


def test_top_takes_a_campaigns_rate_from_two_looks() -> None:
    lines = shown(snapshot(12.0, campaign=campaign(calls_placed=30)), snapshot(10.0))
    assert lines[6].split()[3] == "5.0"


def test_top_says_what_is_ill_and_what_is_old() -> None:
    ill = snapshot(trunks={"data": [trunk(state="suspended", reason="20 failures in a row"), trunk(id="b")]})
    lines = shown(ill, None, "connection \x1blost")
    assert "1 of 2 trunks not up" in lines[0]
    assert lines[1] == "NO CONNECTION: connection \\x1blost"
    assert "20 failures in a row" in lines[4]


def test_top_of_a_standby_shows_no_figures_that_it_does_not_know() -> None:
    unknown = {"state": "unknown", "channels_in_use": None, "calls_per_second": None, "answer_seizure_ratio": None}
    lines = shown(snapshot(trunks={"data": [trunk(**unknown)]}))
    assert lines[0] == "STANDBY: another daemon dials, 1 active campaigns"
    assert lines[3].split() == ["carrier", "main", "unknown", "?/10", "?/5", "-", "-"]


def test_top_draws_tenants_with_their_slots() -> None:
    tenant = {"id": "acme", "max_calls_per_second": 5.0, "max_concurrent_calls": 9, "trunks": ["a", "b"]}
    metrics = (
        'dialerd_slots_used{level="tenant",name="acme"} 4.0\ndialerd_slots_limit{level="tenant",name="acme"} 9.0\n'
    )
    found = top_view.Snapshot(0.0, {"data": []}, None, {"data": [tenant]}, top.read_slots(metrics))
    assert shown(found)[-1].split() == ["acme", "4/9", "5", "a,", "b"]
    assert shown(top_view.Snapshot(0.0, {"data": []}, None, {"data": [tenant]}))[-1].split()[1] == "?/9"
