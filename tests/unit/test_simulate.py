"""`dialerd simulate`: each limit shows in the forecast as it should, and what cannot be foretold is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from dialerd.cli import main
from dialerd.clock import StepClock
from dialerd.forecast.assumptions import Unfit, completed, seconds
from dialerd.forecast.report import WORDS, span
from dialerd.pbx.callees import Behaviour

pytestmark = pytest.mark.usefixtures("restored_logs")

CONFIG = """
[pbx.main]
driver = "asterisk"
username = "dialerd"
secret = "x"
max_calls_per_second = {rate}
max_channels = 500
[trunk.a]
pbx = "main"
dial = "PJSIP/{{number}}@a"
max_calls_per_second = {rate}
max_channels = {channels}
probe_seconds = 600.0
[tenant.one]
max_calls_per_second = 100
max_concurrent_calls = 500
trunks = ["a"]
{tenant}
[tenant.one.settings]
concurrent_calls = 500
calling_hours_start = "00:00"
calling_hours_end = "00:00"
"""
ALL_ANSWER = ("--answer-rate", "1")
MONDAY = "2026-03-02T12:00:00Z"


class Bench:
    """Forecasts over one configuration file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "dialerd.toml"
        self.configure()

    def configure(self, rate: float = 50, channels: int = 200, tenant: str = "") -> None:
        """Write the file."""
        self._path.write_text(CONFIG.format(rate=rate, channels=channels, tenant=tenant))

    def run(self, *options: str | Path) -> Result:
        """Run the command."""
        start = () if "--start-at" in options else ("--start-at", MONDAY)
        return CliRunner().invoke(main, ["simulate", "--config", str(self._path), *start, *map(str, options)])

    def ask(self, *options: str | Path, done: bool = True) -> Any:
        """The forecast as JSON."""
        result = self.run("--json", *options)
        assert (result.exit_code, result.stderr) == (0 if done else 1, "")
        return json.loads(result.stdout)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def longest(told: Any) -> str:
    """The rule that kept calls back longest."""
    return str(told["kept_back_by"][0]["rule"])


def test_half_the_calls_per_second_take_twice_as_long(bench: Bench) -> None:
    took = []
    for rate in (8, 4):
        bench.configure(rate=rate)
        told = bench.ask("--contacts", "200", *ALL_ANSWER, "--talk-seconds", "1-1", "--ring-seconds", "0-0")
        # The trunk's and the PBX's are the same here; the PBX's own guard makes neither of them the sooner.
        assert told["limited_most_by"] == "trunk_rate"
        took.append(told["seconds"])
    # The last call lasts no longer than post-dial delay and talking, 4 s, whatever the rate.
    sending = 200 / 8 * (1 + 0.06)
    assert took[0] == pytest.approx(sending + 2.5, abs=1.5)
    assert took[1] == pytest.approx(2 * sending + 2.5, abs=1.5)


def test_slots_give_calls_an_hour_by_their_length(bench: Bench) -> None:
    bench.configure(channels=10)
    told = bench.ask("--contacts", "300", *ALL_ANSWER, "--talk-seconds", "54-54", "--ring-seconds", "4.25-4.25")
    assert (longest(told), told["limited_most_by"]) == ("trunk_slots", "trunk_slots")
    # Post-dial delay, 1.75 s in the mean, ringing and talk: a minute a call.
    assert told["calls_per_hour"]["average"] == pytest.approx(10 * 60, rel=0.03)
    assert told["slots"]["a"]["peak"] == told["slots"]["a"]["limit"] == 10
    assert told["slots"]["a"]["average"] == pytest.approx(10, rel=0.03)
    assert told["outcomes"] == {"answered": 300}


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--setting", "concurrent_calls=5"), "campaign_slots"),
        (("--setting", "max_calls_per_second=0.5"), "campaign_rate"),
        (("--agent-calls", "3"), "agent_slots"),
    ],
)
def test_what_limits_is_named(bench: Bench, options: Sequence[str], rule: str) -> None:
    told = bench.ask("--contacts", "60", *ALL_ANSWER, *options)
    assert told["limited_most_by"] == longest(told) == rule
    assert rule in WORDS


def test_a_tenants_calls_of_a_day(bench: Bench) -> None:
    bench.configure(tenant="max_calls_per_day = 20")
    told = bench.ask("--contacts", "50", *ALL_ANSWER)
    assert [hour["calls"] for hour in told["hours"]] == [20, 20, 10]
    assert [hour["at"][:16] for hour in told["hours"]] == ["2026-03-02T12:00", "2026-03-03T00:00", "2026-03-04T00:00"]
    assert longest(told) == "max_calls_per_day"


def test_hours_close_over_night_and_the_clocks_change(bench: Bench) -> None:
    """Two hours a day in New York, a call every two minutes, from a Friday on: that Sunday the clocks go forward."""
    hours = ("--setting", "calling_hours_start=09:00", "--setting", "calling_hours_end=11:00")
    bench.configure(rate=1 / 120)
    told = bench.ask(
        *("--contacts", "200", *ALL_ANSWER, "--talk-seconds", "1-1", "--setting", "timezone=America/New_York", *hours),
        *("--start-at", "2026-03-06T12:00:00Z"),
    )
    assert longest(told) == "calling_hours"
    begun = [hour["at"] for hour in told["hours"] if hour["calls"]]
    assert begun[:4] == [
        "2026-03-06T09:00:00-05:00",
        "2026-03-06T10:00:00-05:00",
        "2026-03-07T09:00:00-05:00",
        "2026-03-07T10:00:00-05:00",
    ]
    assert begun[4:6] == ["2026-03-08T09:00:00-04:00", "2026-03-08T10:00:00-04:00"]
    assert sum(hour["calls"] for hour in told["hours"][:2]) == pytest.approx(2 * 30, abs=3)


def test_a_list_that_does_not_get_done(bench: Bench) -> None:
    bench.configure(rate=0.2)
    ends = ("--setting", "end_at=2026-03-02T12:10:00Z")
    told = bench.ask("--contacts", "500", *ALL_ANSWER, *ends, done=False)
    assert (told["done"], told["done_at"]) == (False, None)
    assert "ended 2026-03-02 12:10Z (end_at)" in told["why_not"]
    assert told["contacts"]["pending"] == pytest.approx(500 - 600 * 0.2, abs=5)

    told = bench.ask(
        "--contacts", "500", *ALL_ANSWER, "--setting", "max_calls_per_second=0.001", "--days", "1", done=False
    )
    assert told["why_not"] == "1 days are over"
    assert told["seconds"] <= timedelta(days=1).total_seconds()


def test_each_contacts_own_zone_counts(bench: Bench, tmp_path: Path) -> None:
    listed = tmp_path / "contacts.csv"
    listed.write_text(
        "phone_number,timezone\n+12025550101,\n+12025550102,America/Los_Angeles\n+12025550102,\nnonsense,\n"
    )
    hours = ("--setting", "calling_hours_start=09:00", "--setting", "calling_hours_end=17:00")
    result = bench.run("--contacts", listed, *ALL_ANSWER, *hours, "--json")
    assert (result.exit_code, result.stderr) == (0, f"1 rows of {listed} are no contacts, and are left out\n")
    told = json.loads(result.stdout)
    assert told["contacts"]["total"] == 2
    # The campaign's own hours, in UTC, count too: they end as those of Los Angeles begin, until the clocks change.
    assert [hour["at"][:13] for hour in told["hours"]] == ["2026-03-02T12", "2026-03-08T16"]
    by_number = bench.run("--contacts", listed, *ALL_ANSWER, "--setting", "contact_timezone=number", *hours, "--json")
    assert [hour["at"][:13] for hour in json.loads(by_number.stdout)["hours"]] == ["2026-03-02T14", "2026-03-02T17"]


def test_attempts_of_a_day_are_counted(bench: Bench) -> None:
    retry = '--setting=retry={"no_answer": {"delay_seconds": 60}}'
    share = ("--share", "no_answer=1")
    free = bench.ask("--contacts", "20", *share, retry, "--setting", "max_retries=2")
    held = bench.ask(
        "--contacts", "20", *share, retry, "--setting", "max_retries=2", "--setting", "max_attempts_per_day=1"
    )
    assert free["calls"] == held["calls"] == 60
    assert free["seconds"] < 3600
    assert [hour["at"][:10] for hour in held["hours"]] == ["2026-03-02", "2026-03-03", "2026-03-04"]


def test_a_carrier_that_is_congested_slows_its_trunk(bench: Bench) -> None:
    bench.configure(rate=10)
    told = bench.ask("--contacts", "200", "--share", "congestion=0.1", "--setting", "max_retries=0")
    assert "trunk_pace_rate" in {each["rule"] for each in told["kept_back_by"]}


def test_a_carrier_that_refuses_everything_suspends_its_trunk(bench: Bench) -> None:
    told = bench.ask("--contacts", "100", "--share", "server_error=1", "--days", "1", done=False)
    assert longest(told) == "trunk_state"
    assert told["contacts"]["pending"] > 0


def test_the_same_seed_the_same_forecast(bench: Bench) -> None:
    first, again, other = (bench.run("--json", "--contacts", "200", "--seed", seed).stdout for seed in ("1", "1", "2"))
    assert first == again != other


def test_tables_and_plots(bench: Bench, tmp_path: Path) -> None:
    picture = tmp_path / "plot.svg"
    result = bench.run("--contacts", "300", "--plot", picture, "--setting", "concurrent_calls=20")
    assert (result.exit_code, result.stderr) == (0, "")
    for wanted in ("done ", "calls per hour", "slots of a", "limited most by", "concurrent_calls", "no_answer"):
        assert wanted in result.stdout
    root = ET.parse(picture).getroot()
    bars = [each for each in root.iter() if each.get("class") == "calls"]
    assert bars
    assert sum(int(each[0].text.split(": ")[1].split()[0].replace(",", "")) for each in bars if each[0].text) > 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--contacts", "0"), "--contacts: between 1 and"),
        (("--contacts", "nowhere.csv"), "No such file"),
        (("--contacts", "9", "--setting", "concurrent_calls=0"), "--setting concurrent_calls:"),
        (("--contacts", "9", "--setting", "name=x"), "--setting name: is not a setting"),
        (("--contacts", "9", "--setting", "trunks=b"), "'b' is not a trunk of this tenant"),
        (("--contacts", "9", "--setting", "contact_timezone=number"), "give --contacts FILE"),
        (("--contacts", "9", "--answer-rate", "1.5"), "between 0 and 1"),
        (("--contacts", "9", "--share", "answer=0.7", "--share", "busy=0.7"), "more than all calls"),
        (("--contacts", "9", "--share", "asleep=0.7"), "a share of one of these: answer, "),
        (("--contacts", "9", "--talk-seconds", "9-3"), "the lower one first"),
        (("--contacts", "9", "--start-at", "2026-03-02"), "no time with its zone"),
        (("--contacts", "9", "--tenant", "two"), "there are: one"),
    ],
)
def test_what_makes_no_sense_is_refused(bench: Bench, options: Sequence[str], message: str) -> None:
    result = bench.run(*options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_shares_that_are_not_named_divide_what_is_left() -> None:
    base = {Behaviour.ANSWER: 0.5, Behaviour.BUSY: 0.1, Behaviour.NO_ANSWER: 0.3}
    assert completed({Behaviour.ANSWER: 0.2}, base) == pytest.approx(
        {Behaviour.ANSWER: 0.2, Behaviour.BUSY: 0.2, Behaviour.NO_ANSWER: 0.6}
    )
    with pytest.raises(Unfit):
        completed({Behaviour.ANSWER: 0.2}, {Behaviour.ANSWER: 1.0})
    assert (seconds("60"), seconds("20-90")) == ((30.0, 90.0), (20.0, 90.0))
    assert [span(each) for each in (41, 300, 7500, 273_600)] == ["41 s", "5 min", "2 h 05 min", "3 d 4 h"]


def test_a_step_clock_runs_its_timers_in_order() -> None:
    clock = StepClock(1, datetime(2026, 3, 2, tzinfo=UTC))
    ran: list[str] = []
    clock.call_at(2.0, lambda: ran.append("later"))

    def first() -> None:
        ran.append("first")
        clock.call_at(1.0, lambda: ran.append("at once"))

    clock.call_at(1.0, first)
    clock.call_at(1.0, lambda: ran.append("second"))
    clock.call_at(1.5, lambda: ran.append("never")).cancel()
    assert clock.step()
    assert (ran, clock.mono()) == (["first", "second", "at once"], 1.0)
    assert not clock.step(until=1.9)
    assert clock.step()
    assert (ran[3:], clock.wall()) == (["later"], datetime(2026, 3, 2, 0, 0, 2, tzinfo=UTC))
    assert not clock.step()
    assert ([*clock.numbers(3)], clock.number()) == ([1, 2, 3], 4)
