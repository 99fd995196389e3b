"""A B A B: two ways of doing the same, in turn, so that a noisy machine is noisy for both."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Run = Callable[[], Awaitable[float]]
"""Does the work once and returns its rate, in units per second."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, and what the issue asks of it."""

    name: str
    value: float
    unit: str
    wanted: str = ""

    def lines(self) -> list[str]:
        """The figure in words."""
        return [f"{self.name}: {self.value:.4g} {self.unit}" + (f"  (wanted: {self.wanted})" if self.wanted else "")]


@dataclass(frozen=True, slots=True)
class Result:
    """Rates of us and of the baseline, one per round."""

    name: str
    unit: str
    ours: tuple[float, ...]
    baseline: tuple[float, ...]
    against: str

    @property
    def ratio(self) -> float:
        """Our median rate over the baseline's."""
        return statistics.median(self.ours) / statistics.median(self.baseline)

    def lines(self) -> list[str]:
        """The result in words and figures."""
        return [
            f"{self.name}: {self.ratio:.2f} of {self.against}",
            f"    ours      {_spread(self.ours)} {self.unit}",
            f"    baseline  {_spread(self.baseline)} {self.unit}",
        ]


async def abab(name: str, unit: str, against: str, ours: Run, baseline: Run, rounds: int) -> Result:
    """Run both in turn, so many times each."""
    our_rates, their_rates = [], []
    for _ in range(rounds):
        our_rates.append(await ours())
        their_rates.append(await baseline())
    return Result(name, unit, tuple(our_rates), tuple(their_rates), against)


def _spread(rates: tuple[float, ...]) -> str:
    return f"{statistics.median(rates):10.1f}  ({min(rates):.1f} to {max(rates):.1f})"
