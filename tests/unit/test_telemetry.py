"""Logs that mask what they must, and metrics with bounded labels."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
import structlog

from dialerd.clock import VirtualClock, VirtualLoop
from dialerd.telemetry import logs
from dialerd.telemetry.metrics import Metrics

NUMBER = "+12025550100"


class Written:
    """What was logged, as JSON values."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def configure(
        self,
        level: Literal["debug", "info", "warning", "error"] = "info",
        style: Literal["json", "console"] = "json",
        *,
        full_numbers: bool = False,
    ) -> None:
        """Log to here. The clock stands at the start of 2030."""
        loop = VirtualLoop()
        clock = VirtualClock(loop, seed=1, start=datetime(2030, 1, 1, tzinfo=UTC))
        loop.close()
        logs.configure(level, style, clock, full_numbers=full_numbers, stream=self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def one(self) -> dict[str, Any]:
        (event,) = self.events
        return event


@pytest.fixture
def written(restored_logs: None) -> Written:
    """Logs go here once configured."""
    return Written()


def test_an_event_is_one_json_line(written: Written) -> None:
    written.configure()
    structlog.get_logger("dialerd.test").info("call_placed", trunk="carrier-a", calls=3)
    assert written.one == {
        "event": "call_placed",
        "level": "info",
        "logger": "dialerd.test",
        "timestamp": "2030-01-01T00:00:00.000Z",
        "trunk": "carrier-a",
        "calls": 3,
    }


def test_a_line_break_in_a_value_makes_no_second_line(written: Written) -> None:
    written.configure()
    structlog.get_logger().info("row_refused", value='x"\n{"event": "forged"}')
    assert written.one["value"] == 'x"\n{"event": "forged"}'


def test_the_level_is_obeyed_by_all(written: Written) -> None:
    written.configure("warning")
    structlog.get_logger().info("too_low")
    logging.getLogger("other").info("too low")
    structlog.get_logger().warning("high_enough")
    logging.getLogger("other").warning("high %s", "enough")
    assert [event["event"] for event in written.events] == ["high_enough", "high enough"]


@pytest.mark.parametrize("level", ["debug", "info"])
def test_libraries_that_log_secrets_are_kept_at_warnings(written: Written, level: Literal["debug", "info"]) -> None:
    written.configure(level)
    for name in ("panoramisk.manager", "panoramisk.ami_protocol", "aiosqlite", "sqlalchemy.engine"):
        logging.getLogger(name).info("Action: Login, Secret: hunter2")
        logging.getLogger(name).warning("not able to reconnect")
    assert [event["event"] for event in written.events] == ["not able to reconnect"] * 4


@pytest.mark.parametrize("key", ["secret", "password", "token", "authorization", "Secret", "api_key"])
def test_secrets_are_never_shown(written: Written, key: str) -> None:
    written.configure("debug", full_numbers=True)
    structlog.get_logger().debug("login", **{key: "hunter2", "inner": {key: "hunter2"}})
    assert "hunter2" not in written.text
    assert written.one[key] == "***"


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("phone_number", NUMBER, "+120******00"),
        ("number", "2025550100", "202*****00"),
        ("caller_id", "12025550199", "120******99"),
        ("dial", "PJSIP/12025550100@carrier-a", "PJSIP/120******00@carrier-a"),
        ("path", "/api/v1/dnc/%2B12025550100", "/api/v1/dnc/%2B120******00"),
        ("reason", f"{NUMBER} was refused", "+120******00 was refused"),
        ("reason", "no channel for Local/12025550100@out", "no channel for Local/120******00@out"),
        ("reason", "PJSIP/5550100@a is gone", "PJSIP/555**00@a is gone"),
        ("reason", "a frame of more than 16777216 bytes", "a frame of more than 16777216 bytes"),
        ("reason", "since 1772452828.284, 1772452828284876 on 10.0.0.1:46705", None),
        ("reason", "no channel for PJSIP/9988776612025550100@a", "no channel for PJSIP/998**************00@a"),
        ("reason", "PJSIP/12025550100-00000012 is gone", "PJSIP/120******00-00000012 is gone"),
        ("reason", "PJSIP/5550100-0000002f is gone", "PJSIP/555**00-0000002f is gone"),
        ("reason", "DAHDI/i1/12025550100-5 is gone", "DAHDI/i1/120******00-5 is gone"),
        ("reason", "9988776612025550100 is no number", "998**************00 is no number"),
        ("reason", "nobody answers at 12025550100.", "nobody answers at 120******00."),
        ("path", "/api/v1/dnc/202-555-0100", "/api/v1/dnc/202-***-**00"),
        ("path", "/api/v1/dnc/+1 202 555 0100", "/api/v1/dnc/+1 20* *** **00"),
        ("path", "/api/v1/dnc/(202) 555-0100", "/api/v1/dnc/(202) ***-**00"),
        ("reason", "202.555.0100, 01 23 45 67 89, 030 1234567", "202.***.**00, 01 2* ** ** 89, 030 *****67"),
        ("number", "(202) 555-0100", "(202) ***-**00"),
        ("reason", "from 2026-11-29 10:46:27 to 2026-11-29T10:46:27.284Z, within 2026-11-29 10:46", None),
        ("reason", "192.168.100.200:5060 and 127.0.0.1 port 46705 and [2001:db8::1]:5038", None),
        ("reason", "asterisk-1772452828.284 of 0198a3f2-7c1e-7b60-9d0c-5a41c07f2b11", None),
        ("reason", "/var/lib/dialerd/imports/12345678-1234-7000-8000-123456789012.csv", None),
        ("campaign_id", "0sc5yb2rc0007", None),
        ("contact", {"phone_number": NUMBER}, {"phone_number": "+120******00"}),
        ("contacts", [NUMBER, (NUMBER,)], ["+120******00", ["+120******00"]]),
        ("error", ValueError(NUMBER), "+120******00"),
        ("call_id", "12345678-1234-7000-8000-123456789012", "12345678-1234-7000-8000-123456789012"),
        ("calls", 12025550100, 12025550100),
    ],
)
def test_the_middle_of_a_phone_number_is_masked(written: Written, key: str, value: object, shown: object) -> None:
    written.configure()
    structlog.get_logger().info("something", **{key: value})
    assert written.one[key] == (value if shown is None else shown)


def test_numbers_in_tracebacks_and_foreign_records_are_masked(written: Written) -> None:
    written.configure()
    try:
        raise ValueError(NUMBER)
    except ValueError:
        structlog.get_logger().exception("step_failed")
        logging.getLogger("aiohttp.server").exception("Error handling %s", NUMBER, extra={"phone_number": NUMBER})
    assert NUMBER not in written.text
    ours, foreign = written.events
    assert "ValueError: +120******00" in ours["exception"]
    assert "ValueError: +120******00" in foreign["exception"]
    assert foreign["event"] == "Error handling +120******00"


def test_numbers_are_shown_in_full_where_that_is_asked_for(written: Written) -> None:
    written.configure(full_numbers=True)
    structlog.get_logger().info("call_placed", phone_number=NUMBER, reason=f"to {NUMBER}")
    assert (written.one["phone_number"], written.one["reason"]) == (NUMBER, f"to {NUMBER}")


def test_the_console_masks_too_and_shows_no_local_variables(written: Written) -> None:
    written.configure(style="console")
    secret = "hunter2"
    try:
        raise ValueError(f"{NUMBER} {len(secret)}")
    except ValueError:
        structlog.get_logger().exception("step_failed", phone_number=NUMBER)
    assert "step_failed" in written.text
    assert "ValueError: +120******00" in written.text
    assert NUMBER not in written.text


def test_configuring_again_replaces_the_first(written: Written) -> None:
    written.configure()
    written.configure()
    structlog.get_logger().info("once")
    assert len(written.events) == 1


def test_metrics_of_two_daemons_are_apart() -> None:
    one, other = Metrics(), Metrics()
    one.calls.labels("answered", "carrier-a", "main").inc(3)
    labels = {"outcome": "answered", "trunk": "carrier-a", "pbx": "main"}
    assert one.registry.get_sample_value("dialerd_calls_total", labels) == 3
    assert other.registry.get_sample_value("dialerd_calls_total", labels) is None
    assert b'dialerd_calls_total{outcome="answered",pbx="main",trunk="carrier-a"} 3.0' in one.render()


def test_what_clients_invent_makes_no_labels(metrics: Metrics) -> None:
    metrics.observe_request("/api/v1/campaigns/{campaign_id}", "GET", 200, 0.01)
    for method in ("BREW", "X" * 1000, "get"):
        metrics.observe_request(None, method, 405, 0.01)
    (family,) = [each for each in metrics.registry.collect() if each.name == "dialerd_api_request_seconds"]
    counts = {
        (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_count")
    }
    assert counts == {
        ("/api/v1/campaigns/{campaign_id}", "GET", "200"): 1,
        ("unmatched", "other", "405"): 3,
    }


def test_what_a_driver_counts_is_read_when_it_is_asked_for(metrics: Metrics) -> None:
    counters = {"connects": 1}
    metrics.watch_link("main", lambda: counters)
    counters["connects"] += 1
    assert b'dialerd_pbx_link_total{pbx="main",what="connects"} 2.0' in metrics.render()


def test_no_metric_has_ids_for_labels(metrics: Metrics) -> None:
    allowed = {"outcome", "trunk", "pbx", "level", "name", "result", "event", "reason", "what", "version"}
    allowed |= {"route", "method", "status", "state", "seen", "queue"}
    collectors = {name: value for name, value in vars(metrics).items() if hasattr(value, "_labelnames")}
    assert len(collectors) > 15
    for name, collector in collectors.items():
        assert set(collector._labelnames) <= allowed, name
