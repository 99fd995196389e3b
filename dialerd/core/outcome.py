"""What became of a call, whose fault it was, and which budget of the contact it spends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of a call attempt, as the API shows it."""

    ANSWERED = "answered"
    MACHINE = "machine"
    ABANDONED = "abandoned"
    """Answered, and ended before anybody took it."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"
    INVALID_NUMBER = "invalid_number"
    CONGESTION = "congestion"
    UNREACHABLE = "unreachable"
    """No reply at all, or the trunk is down."""
    INTERRUPTED = "interrupted"
    """Its fate could not be learnt: the PBX forgot it while nobody listened."""
    CANCELLED = "cancelled"
    """Ended by us before an answer, because somebody said stop."""
    FAILED = "failed"


class Fault(StrEnum):
    """Whose fault an outcome was."""

    CALLEE = "callee"
    NUMBER = "number"
    TRUNK = "trunk"
    PBX = "pbx"
    DAEMON = "daemon"
    NONE = "none"


class Budget(StrEnum):
    """Which of a contact's two budgets an attempt spends."""

    CALLEE = "callee"
    """``max_retries`` of the campaign."""
    MISHAP = "mishap"
    """The limit on faults of trunk, PBX and daemon."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome with its fault: what the rest of the house knows of how a call ended."""

    outcome: Outcome
    fault: Fault


BUDGET_OF_FAULT: dict[Fault, Budget] = {
    Fault.CALLEE: Budget.CALLEE,
    Fault.NUMBER: Budget.CALLEE,
    Fault.TRUNK: Budget.MISHAP,
    Fault.PBX: Budget.MISHAP,
    Fault.DAEMON: Budget.MISHAP,
    Fault.NONE: Budget.NOTHING,
}

NEVER_RETRIED: frozenset[Outcome] = frozenset({Outcome.ANSWERED, Outcome.INVALID_NUMBER, Outcome.CANCELLED})
"""Outcomes that no rule can bring back: the conversation was had, the number does not exist, or somebody said stop."""
