"""The lab for the integration tests: a real Asterisk per version, brought up once, made as new after every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.integration.daemon import Stock
from tests.lab.lab import Lab
from tests.lab.packages import SUITES, LabError, suite_of

_CHOSEN = "LAB_ASTERISK"
_NEWEST = next(iter(SUITES))
_DIFFER = frozenset({"test_asterisk_conf", "test_local_dial", "test_outcomes", "test_trunk_states"})
"""Where the versions of Asterisk tell different things. The rest is about the daemon, and runs on the newest alone."""


def _versions(module: str) -> list[str]:
    """The versions that LAB_ASTERISK names (separated by commas); by default those that may matter to the module."""
    chosen = [version for version in os.environ.get(_CHOSEN, "").replace(" ", "").split(",") if version]
    for version in chosen:
        try:
            suite_of(version)
        except LabError as error:
            raise pytest.UsageError(f"{_CHOSEN}: {error}") from None
    return chosen or (list(SUITES) if module.rpartition(".")[2] in _DIFFER else [_NEWEST])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each version that may matter to it."""
    if "running_lab" in metafunc.fixturenames:
        versions = _versions(metafunc.module.__name__)
        ids = [f"asterisk{version}" for version in versions]
        metafunc.parametrize("running_lab", versions, indirect=True, ids=ids, scope="package")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the lab, so that ``-m "not lab"`` leaves it out."""
    for item in items:
        if isinstance(item, pytest.Function) and "running_lab" in item.fixturenames:
            item.add_marker("lab")


@pytest.fixture(scope="package")
def running_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab that is up for all tests of this package; those of one version run before the next version comes up."""
    with Lab(request.param) as lab:
        yield lab


@pytest.fixture
def lab(running_lab: Lab) -> Iterator[Lab]:
    """The lab for one test. Whatever the test stops or leaves ringing is put right behind it."""
    yield running_lab
    running_lab.settle()


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """A new store with a key, for the daemons of all tests."""
    return Stock.make(tmp_path_factory.mktemp("stock"))
