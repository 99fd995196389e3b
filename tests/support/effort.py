"""How much a test run tries: all of it, or a share of it in the run that is made all day long (make check)."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

QUICK = os.environ.get("TEST_EFFORT") == "quick"
STORM = 1.0 if os.environ.get("TEST_EFFORT") == "soak" else 0.2
"""The share of a storm on the real Asterisk that a run takes: all of it in ``make soak``."""
_STORMS, STORM_CONTACTS = (50, 200) if QUICK else (300, 300)
_FIRST, _LAST = (int(each) for each in os.environ.get("STORM_SEEDS", f"0-{_STORMS - 1}").split("-"))
STORM_SEEDS = range(_FIRST, _LAST + 1)
"""Seeds of the simulated storm, a second or two of a core each. A process may play some of them (STORM_SEEDS=0-22)."""
_SHARE = 5
_FEWEST = 10


def examples(full: int) -> int:
    """So many examples of a property: all of them in the whole test run, a fifth of them in a quick one."""
    return max(_FEWEST, full // _SHARE) if QUICK else full


def seeds(count: int) -> list[object]:
    """So many seeds: the first for every check, all of them for the whole test run."""
    return [pytest.param(seed, marks=[pytest.mark.slow] if seed else []) for seed in range(count)]


def some(values: Sequence[object]) -> list[object]:
    """Every fifth of them for every check, all of them for the whole test run."""
    return [
        pytest.param(value, marks=[pytest.mark.slow] if index % _SHARE else []) for index, value in enumerate(values)
    ]
