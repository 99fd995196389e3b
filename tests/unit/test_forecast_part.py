"""A long list foretold by a part of it: where that may be done, and that it comes to the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dialerd.cli import main
from dialerd.config import parse
from dialerd.core.settings import CampaignSettings
from dialerd.forecast import part
from dialerd.forecast.assumptions import Assumptions
from dialerd.forecast.run import Question
from dialerd.pbx.callees import Behaviour

pytestmark = pytest.mark.usefixtures("restored_logs")

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
LIMITS = {
    "pbx_rate": "20",
    "pbx_slots": "200",
    "rate": "10",
    "slots": "100",
    "reserved": "0",
    "tenant_rate": "10",
    "tenant_slots": "100",
    "tenant": "",
    "driver": "asterisk",
}
CONFIG = """
[pbx.main]
driver = "{driver}"
{secret}
max_calls_per_second = {pbx_rate}
max_channels = {pbx_slots}
[trunk.a]
pbx = "main"
dial = "PJSIP/{{number}}@a"
max_calls_per_second = {rate}
max_channels = {slots}
reserved_channels = {reserved}
[pbx.other]
driver = "asterisk"
username = "dialerd"
secret = "x"
max_calls_per_second = 3
max_channels = 7
[trunk.other]
pbx = "other"
dial = "PJSIP/{{number}}@b"
max_calls_per_second = 3
max_channels = 7
[tenant.one]
max_calls_per_second = {tenant_rate}
max_concurrent_calls = {tenant_slots}
trunks = ["a"]
{tenant}
[tenant.one.settings]
concurrent_calls = 60
"""


def written(limits: Mapping[str, str]) -> str:
    """The configuration with these limits."""
    wanted = {**LIMITS, **limits}
    secret = "" if wanted["driver"] == "simulated" else 'username = "dialerd"\nsecret = "x"'
    return CONFIG.format(secret=secret, **wanted)


@pytest.mark.parametrize(
    ("limits", "asked", "parts"),
    [
        pytest.param({}, {}, 5, id="a sixth of ten calls a second is another pace"),
        pytest.param(
            {"rate": "12", "tenant_rate": "12", "pbx_rate": "24", "slots": "120", "tenant_slots": "120"},
            {},
            6,
            id="of twelve it is not",
        ),
        pytest.param({"slots": "40"}, {}, 2, id="ten slots at least; a fourth of ten a second is another pace"),
        pytest.param({"slots": "50", "reserved": "30"}, {}, 2, id="what is reserved is no slot"),
        pytest.param({"slots": "19"}, {}, 1, id="nineteen slots are not cut"),
        pytest.param({"pbx_slots": "41"}, {}, 1, id="nor is what leaves a rest"),
        pytest.param({"tenant_slots": "101"}, {}, 5, id="unless the rest is small"),
        pytest.param({"tenant_rate": "0.7"}, {}, 1, id="less than a call a second, of which its guard is less"),
        pytest.param({"tenant": "max_calls_per_day = 1001"}, {}, 5, id="a thousand calls a day, and one"),
        pytest.param({"tenant": "max_calls_per_day = 9"}, {}, 1, id="nine calls a day"),
        pytest.param({}, {"max_calls_per_second": 4.0}, 2, id="the campaign's rate"),
        pytest.param({}, {"concurrent_calls": 12}, 1, id="the campaign's slots"),
        pytest.param({}, {"agent_calls": 20}, 2, id="the agent's slots"),
        pytest.param({}, {"trunks": ("other",)}, 1, id="another trunk"),
        pytest.param({}, {"congestion": 0.01}, 1, id="a carrier that fails"),
        pytest.param({"driver": "simulated"}, {}, 1, id="one that fails by the configuration"),
        pytest.param({}, {"contacts": 19_999}, 1, id="a short list"),
        pytest.param({}, {"contacts": 20_000}, 2, id="one that is just long enough"),
        pytest.param({}, {"contacts": 10_000_000}, 5, id="one that is long"),
    ],
)
def test_into_how_many_parts_a_list_is_cut(limits: dict[str, str], asked: dict[str, Any], parts: int) -> None:
    contacts, agent_calls = asked.pop("contacts", 100_000), asked.pop("agent_calls", None)
    shares = {Behaviour.CONGESTION: asked.pop("congestion")} if "congestion" in asked else {}
    config = parse(written(limits), {}, Path("dialerd.toml"), Path.read_text)
    (tenant,) = config.tenants()
    settings = CampaignSettings.model_validate({**tenant.settings, **asked})
    question = Question(config, tenant, settings, START, Assumptions(shares), agent_calls)
    assert part.parts(question, contacts) == parts


@given(counts=st.dictionaries(st.text(max_size=3), st.integers(1, 1000), min_size=1), total=st.integers(1, 100_000))
def test_counts_are_multiplied_to_their_total(counts: dict[str, int], total: int) -> None:
    made = part._to_total(Counter(counts), total)
    assert made.total() == total
    whole = sum(counts.values())
    assert all(abs(made[name] - count * total / whole) <= 1 for name, count in counts.items())


def foretold(folder: Path, *options: str, **limits: str) -> Any:
    """The forecast as JSON."""
    path = folder / "dialerd.toml"
    path.write_text(written(limits))
    start = ("--start-at", START.isoformat())
    result = CliRunner().invoke(main, ["simulate", "--config", str(path), "--json", *start, *options])
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "limits"),
    [
        pytest.param((), {}, id="slots"),
        pytest.param((), {"rate": "4", "tenant_rate": "20"}, id="rate"),
        pytest.param((), {"tenant": "max_calls_per_day = 1000"}, id="day"),
        pytest.param(("--agent-calls", "40"), {}, id="agent"),
    ],
)
def test_a_part_comes_to_what_the_whole_comes_to(
    tmp_path: Path, options: tuple[str, ...], limits: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "LEAST_CONTACTS", 400)
    asked = ("--contacts", "2403", "--answer-rate", "0.4", "--talk-seconds", "30-90", *options)
    some, all_of_it = (foretold(tmp_path, *asked, *each, **limits) for each in ((), ("--whole",)))
    assert some["contacts_dialled"] < 1300 < all_of_it["contacts_dialled"] == 2403
    assert some["seconds"] == pytest.approx(all_of_it["seconds"], rel=0.05)
    assert some["calls"] == pytest.approx(all_of_it["calls"], rel=0.05)
    assert some["limited_most_by"] == all_of_it["limited_most_by"]
    slot_seconds = [told["slots"]["a"]["average"] * told["busy_seconds"] for told in (some, all_of_it)]
    assert slot_seconds[0] == pytest.approx(slot_seconds[1], rel=0.05)
    assert some["slots"]["a"]["limit"] == all_of_it["slots"]["a"]["limit"] == 100
    for told in (some, all_of_it):
        by_status = {name: count for name, count in told["contacts"].items() if name != "total"}
        assert sum(by_status.values()) == told["contacts"]["total"] == 2403
        assert sum(hour["calls"] for hour in told["hours"]) == told["calls"] == sum(told["outcomes"].values())
        assert max(hour["slots_peak"] for hour in told["hours"]) <= 60


@pytest.mark.slow
def test_whoever_reads_is_told_of_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "LEAST_CONTACTS", 100)
    path = tmp_path / "dialerd.toml"
    path.write_text(written({}))
    asked = ["simulate", "--config", str(path), "--start-at", START.isoformat(), "--contacts", "501"]
    assert "foretold by 101 of them" in CliRunner().invoke(main, asked).stdout
    assert "foretold" not in CliRunner().invoke(main, [*asked, "--whole"]).stdout
