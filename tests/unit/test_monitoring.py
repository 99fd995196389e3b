"""What docs/ gives to Prometheus and Grafana, held against a scrape of a daemon that has dialled."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dialerd.clock import VirtualClock
from dialerd.telemetry.metrics import DROPPED, Metrics
from tests.lab.packages import require_tools
from tests.simulation.house import House, numbers
from tests.support.virtual import run_virtual

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "docs/grafana/dialerd.json"
RULES = ROOT / "docs/prometheus/alerts.yml"
PAGE = ROOT / "docs/monitoring.md"

_NAME = re.compile(r"\b(?:dialerd|process)_[a-z_]+\b")
_SELECTOR = re.compile(r"\b((?:dialerd|process)_[a-z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-z_]+)(=~|!=|=|!~)"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")
_OF_THE_SCRAPE = {"instance", "job"}
"""Labels that Prometheus itself puts on."""


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[tuple[tuple[str, str], ...]]]:
    """By the name of each sample, the labels that it was scraped with, of a daemon after a campaign."""
    folder = tmp_path_factory.mktemp("monitoring")

    async def main(clock: VirtualClock) -> str:
        house = House(clock, folder)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(20), concurrent_calls=20, max_retries=0)
            await house.ended(campaign.id)
            return daemon.metrics.render().decode()

    found: dict[str, set[tuple[tuple[str, str], ...]]] = {}
    for family in text_string_to_metric_families(run_virtual(1, main)):
        for sample in family.samples:
            found.setdefault(sample.name, set()).add(tuple(sorted(sample.labels.items())))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard and of the alerts, with where it stands."""
    board = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]["query"]
    for rule in re.split(r"- alert: ", RULES.read_text())[1:]:
        name, _, rest = rule.partition("\n")
        expr = re.search(r"expr: (?:>\n)?(.*?)\n\s+(?:for|labels):", rest, re.DOTALL)
        assert expr is not None, name
        yield name, expr[1]


def labels_of(name: str, metrics: Metrics) -> set[str]:
    """The labels that a metric can have."""
    if name.startswith("process_"):
        return set(_OF_THE_SCRAPE)
    found = metrics.families.get(_SUFFIX.sub("", name))
    assert found is not None, f"there is no metric {name}"
    return {*found, *_OF_THE_SCRAPE} | ({"le"} if name.endswith("_bucket") else set())


def test_there_are_queries_to_hold() -> None:
    assert sum(1 for _ in expressions()) > 50


@pytest.mark.parametrize(("where", "query"), [*expressions()])
def test_every_query_asks_for_what_is_there(where: str, query: str, scrape: Any, metrics: Metrics) -> None:
    names = set(_NAME.findall(query))
    assert names or query.startswith("up{"), query
    for name in names:
        assert name in scrape or name.removesuffix("_bucket") in metrics.families, f"{where}: {name} is not scraped"
        # A gauge of a trunk or a counter that has not risen may be missing from one scrape; its labels are known.
        for sample in scrape.get(name, ()):
            assert {label for label, _ in sample} <= labels_of(name, metrics) | {"version"}
    for name, selector in _SELECTOR.findall(query):
        for label, operator, value in _MATCHER.findall(selector):
            assert label in labels_of(name, metrics), f"{where}: {name} has no label {label}"
            if operator == "=" and label not in _OF_THE_SCRAPE and name in scrape:
                words = {dict(sample).get(label) for sample in scrape[name]}
                assert value in words, f"{where}: {label} of {name} is never {value!r}, but one of {words}"
    grouped = {label.strip() for found in _GROUPING.findall(query) for label in found.split(",")}
    for name in names:
        assert grouped <= labels_of(name, metrics), f"{where}: {name} has not all of {grouped}"


def test_every_metric_of_ours_is_scraped_or_counts_what_did_not_happen(scrape: Any, metrics: Metrics) -> None:
    shown = {_SUFFIX.sub("", name) for name in scrape if name.startswith("dialerd_") and not name.endswith("_created")}
    assert shown <= set(metrics.families)
    silent = {name for name in set(metrics.families) - shown if not metrics.families[name]}
    assert not silent, f"a metric without labels has a value always: {silent}"


def test_what_may_be_dropped_is_there_from_the_start(scrape: Any) -> None:
    used = set()
    for path in (ROOT / "dialerd").rglob("*.py"):
        used |= set(re.findall(r"""\.dropped\.labels\((?:what=)?"([a-z_]+)"\)""", path.read_text()))
    assert used == set(DROPPED)
    assert {dict(sample)["what"] for sample in scrape["dialerd_dropped_total"]} == used


def test_panels_have_ids_titles_and_words() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"], panel["title"]


def test_the_page_lists_every_metric_with_its_labels(metrics: Metrics) -> None:
    listed = dict(re.findall(r"^\| `(dialerd_[a-z_]+)` \| ([^|]*)\|", PAGE.read_text(), re.MULTILINE))
    labels = {name: tuple(re.findall(r"`([a-z]+)`", words)) for name, words in listed.items()}
    assert labels == metrics.families


def test_the_page_says_what_to_do_about_each_alert() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert re.findall(r"^\| `(Dialerd\w+)` \|", PAGE.read_text(), re.MULTILINE) == alerts


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["check", "rules", RULES.name], ["test", "rules", "alerts.test.yml"]], ids=["check", "test"]
)
def test_promtool_accepts_the_alerts(command: list[str]) -> None:
    require_tools({"promtool": "prometheus"})
    done = subprocess.run(
        ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_promtool_parses_the_dashboards_queries(tmp_path: Path) -> None:
    require_tools({"promtool": "prometheus"})
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    plain = [
        query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$trunk", ".*") for query in queries
    ]
    rules = {
        "groups": [{"name": "board", "rules": [{"record": f"q:{i}", "expr": each} for i, each in enumerate(plain)]}]
    }
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps(rules))  # JSON is YAML, too
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(plain)} rules found" in done.stdout + done.stderr


def test_alerts_are_tested_each() -> None:
    tested = set(re.findall(r"alertname: (\w+)", (RULES.parent / "alerts.test.yml").read_text()))
    assert tested == set(re.findall(r"- alert: (\w+)", RULES.read_text()))
