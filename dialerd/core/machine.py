"""One step of a state machine from a table; what is not in the table raises."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class IllegalTransition(Exception):
    """An event came that the table does not allow in this state."""

    def __init__(self, state: StrEnum, event: StrEnum) -> None:
        super().__init__(f"{event.value!r} is not possible in state {state.value!r}")
        self.state = state
        self.event = event


def step(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """Return the state that follows; raise :class:`IllegalTransition` where the table has no row."""
    try:
        return table[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


def mermaid(table: Mapping[tuple[S, E], S]) -> str:
    """Draw a table as a Mermaid state diagram: docs/states.md is made of this."""
    lines = ["stateDiagram-v2"]
    lines += [f"    {source.value} --> {target.value}: {event.value}" for (source, event), target in table.items()]
    return "\n".join(lines)
