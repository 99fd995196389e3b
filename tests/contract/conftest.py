"""The kinds of PBX that the contract suite runs against."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.contract.freeswitch_harness import PlayedFreeSwitchHarness, RealFreeSwitchHarness
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


@pytest.fixture(scope="session")
def freeswitch_real() -> Harness:
    """The real FreeSWITCH that the environment names."""
    address = os.environ.get("FREESWITCH_ESL")
    if not address:
        pytest.skip("FREESWITCH_ESL=host:port:password names no real FreeSWITCH")
    return RealFreeSwitchHarness(address)


@pytest.fixture(
    params=[
        "simulated",
        pytest.param("freeswitch_played", marks=pytest.mark.slow),
        pytest.param("freeswitch_real", marks=pytest.mark.freeswitch),
        pytest.param("asterisk_22", marks=pytest.mark.lab),
        pytest.param("asterisk_16", marks=pytest.mark.lab),
    ]
)
def harness(request: pytest.FixtureRequest) -> Harness:
    """Every kind of PBX in turn."""
    if request.param == "simulated":
        return SimulatedHarness()
    if request.param == "freeswitch_played":
        return PlayedFreeSwitchHarness()
    real: Harness = request.getfixturevalue(request.param)
    return real
