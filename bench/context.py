"""What a benchmark is, and what it is given to run with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench.measure import Figure, Growth, Ratio
from tests.integration.daemon import Stock

Found = AsyncGenerator[Figure | Ratio | Growth, None]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bench:
    """A folder of its own, a new store to copy, and how much is wanted of it."""

    folder: Path
    """Empty at the start, and removed at the end."""
    stock: Stock
    short: bool
    """Only to see that it runs and counts: seconds altogether, and figures that say nothing about speed."""
    rounds: int
    """Of each pair: A B, and so many times in turn."""
    versions: dict[str, str] = field(default_factory=dict)
    """What else was at work, for the table's head: a benchmark adds it."""

    def pick(self, full: _T, short: _T) -> _T:
        """Choose a size."""
        return short if self.short else full


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark of the suite."""

    name: str
    run: Callable[[Bench], Found]
    """Yields what it finds as it finds it. Its docstring's first line says what it is about."""
    seconds: float
    """It has failed when it is not through by then; in short, too."""
    lab: bool = False
    """Whether it needs the lab's real Asterisk."""
