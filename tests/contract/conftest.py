"""The kinds of PBX that the contract suite runs against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.pbx_harness import AsteriskHarness, Harness, SimulatedHarness
from tests.lab.lab import Lab


@pytest.fixture(scope="session")
def asterisk_22() -> Iterator[Harness]:
    """The lab with Asterisk 22."""
    with Lab("22") as lab:
        yield AsteriskHarness(lab)


@pytest.fixture(scope="session")
def asterisk_16() -> Iterator[Harness]:
    """The lab with Asterisk 16."""
    with Lab("16") as lab:
        yield AsteriskHarness(lab)


@pytest.fixture(
    params=[
        "simulated",
        pytest.param("asterisk_22", marks=pytest.mark.lab),
        pytest.param("asterisk_16", marks=pytest.mark.lab),
    ]
)
def harness(request: pytest.FixtureRequest) -> Harness:
    """Every kind of PBX in turn."""
    if request.param == "simulated":
        return SimulatedHarness()
    lab: Harness = request.getfixturevalue(request.param)
    return lab
