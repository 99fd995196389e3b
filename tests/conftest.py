"""For every test: what a skip means, virtual time, and metrics of one's own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from dialerd import collector
from dialerd.telemetry.metrics import Metrics
from tests.support.compiled import share_compiled
from tests.support.effort import examples
from tests.support.logs import restored_logs
from tests.support.postgres import Cluster, Shared
from tests.support.virtual import virtual

__all__ = ["metrics", "restored_logs", "virtual"]

# No deadline per example: the machines that run the tests are shared and noisy.
settings.register_profile("dialerd", deadline=None, print_blob=True, max_examples=examples(100))
settings.load_profile("dialerd")

# Tracebacks as Python writes them: rich ones, with every local, take a fifth of a second each.
structlog.configure(processors=[structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)])

collector.relax()
share_compiled()

_NOTHING_MAY_BE_SKIPPED = os.environ.get("CI", "").lower() == "true"


def pytest_collection_finish() -> None:
    """Thousands of collected tests live to the end: the collector need not walk through them again and again."""
    collector.settle()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Whichever worker has started the run's PostgreSQL, the run itself removes it."""
    if not hasattr(session.config, "workerinput"):
        Shared(_folder_of_run(session.config)).remove()


def _folder_of_run(config: pytest.Config) -> Path:
    # A worker's base is a folder in that of the run.
    base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined] # the hook has no fixtures
    return base.parent if hasattr(config, "workerinput") else base


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skipped test is a failed one: what is not run there is run nowhere."""
    report = yield
    # An expected failure is reported as skipped too, but it was run.
    if _NOTHING_MAY_BE_SKIPPED and report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for whole modules."""
    report = yield
    if _NOTHING_MAY_BE_SKIPPED and report.skipped:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"nothing may be skipped with CI=true: {reason}"


@pytest.fixture
def metrics() -> Metrics:
    """Metrics in a registry of their own."""
    return Metrics()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Cluster:
    """The run's own PostgreSQL."""
    return Shared(_folder_of_run(request.config)).get()


_databases = itertools.count()


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """A new, empty database of it."""
    name = f"test_{os.getpid()}_{next(_databases)}"
    yield postgres.create(name)
    postgres.drop(name)
