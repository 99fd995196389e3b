"""What a benchmark finds: figures, ratios of us to a baseline in one run, and growth; each with what it must reach."""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

Run = Callable[[], Awaitable[float]]
"""Does the work once and returns its rate, or what it cost."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure must reach."""

    limit: float
    least: bool
    """Whether the figure may not be less; otherwise it may not be more."""

    def holds(self, value: float) -> bool:
        """Whether a figure is within it."""
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {shown(self.limit)}"


def at_most(limit: float) -> Bound:
    """A figure that may not be more."""
    return Bound(limit, False)


def at_least(limit: float) -> Bound:
    """A figure that may not be less."""
    return Bound(limit, True)


class Finding(Protocol):
    """One line of the table. ``key`` is its name for as long as it is measured: reasons are written down under it."""

    @property
    def key(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> float: ...

    @property
    def unit(self) -> str: ...

    @property
    def bound(self) -> Bound | None: ...

    @property
    def against(self) -> str: ...

    def detail(self) -> str:
        """The figures that the value is made of, in words; empty where there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure by itself."""

    key: str
    name: str
    value: float
    unit: str
    bound: Bound | None = None
    against: str = ""
    """What stands beside it, in words: the baseline, or where it was counted."""
    made_of: str = ""

    def detail(self) -> str:
        return self.made_of


@dataclass(frozen=True, slots=True)
class Ratio:
    """Us over the baseline, by the medians of all rounds; rates or costs."""

    key: str
    name: str
    measured: str
    """The unit of both."""
    ours: tuple[float, ...]
    baseline: tuple[float, ...]
    against: str
    bound: Bound | None = None
    unit: str = "×"

    @property
    def value(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.baseline)

    def detail(self) -> str:
        return f"{spread(self.ours)} beside {spread(self.baseline)} {self.measured}"


@dataclass(frozen=True, slots=True)
class Growth:
    """What something costs at sizes a decade apart. Its value is the slope of cost over size, both as logarithms.

    0 is flat, 1 as much more as there is more of it. A logarithm's slope falls from decade to decade.
    """

    key: str
    name: str
    measured: str
    sizes: tuple[int, ...]
    costs: tuple[float, ...]
    bound: Bound | None = None
    against: str = ""
    unit: str = "slope"

    @property
    def value(self) -> float:
        return statistics.linear_regression(
            [math.log10(size) for size in self.sizes], [math.log10(cost) for cost in self.costs]
        ).slope

    def detail(self) -> str:
        pairs = zip(self.sizes, self.costs, strict=True)
        return "; ".join(f"{size:,}: {shown(cost)}" for size, cost in pairs) + f" {self.measured}"


def reached(found: Finding) -> bool | None:
    """Whether a figure is as good as it must be; None where nothing is asked of it."""
    return None if found.bound is None else found.bound.holds(found.value)


def line(found: Finding) -> str:
    """A finding in words, for people who watch."""
    said = f"{found.name}: {shown(found.value)} {found.unit}"
    if found.against:
        said += f" of {found.against}" if isinstance(found, Ratio) else f" ({found.against})"
    if found.bound is not None:
        said += f"  [{found.bound}: {'reached' if reached(found) else 'NOT REACHED'}]"
    return said + (f"\n    {found.detail()}" if found.detail() else "")


def as_dict(found: Figure | Ratio | Growth) -> dict[str, Any]:
    """A finding as JSON has it, with the words and the judgement that the table takes from it."""
    return {
        **asdict(found),
        "kind": type(found).__name__.lower(),
        "value": found.value,
        "must": None if found.bound is None else str(found.bound),
        "reached": reached(found),
        "detail": found.detail(),
    }


async def abab(ours: Run, baseline: Run, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Run both in turn, so many times each, so that a noisy machine is noisy for both."""
    our_figures, their_figures = [], []
    for _ in range(rounds):
        our_figures.append(await ours())
        their_figures.append(await baseline())
    return tuple(our_figures), tuple(their_figures)


def share(values: Sequence[float], part: float) -> float:
    """The value that this part of all, from 0 to 1, does not exceed: ``share(v, 0.99)`` is the p99."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def spread(values: Sequence[float]) -> str:
    """The median, with the least and the most where they are several."""
    middle = shown(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({shown(min(values))} to {shown(max(values))})"


def shown(value: float) -> str:
    """A figure as people read it: three digits that count, none of them after the point of a large one."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
