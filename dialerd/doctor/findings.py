"""What the doctor finds: one line per check, and the exit status that follows from all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Could not be looked at from here. Does not count."""
    WARNING = "warning"
    """Works, and will surprise somebody."""
    ERROR = "error"
    """Calls fail, or the daemon does not start."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    """What was looked at, such as ``pbx.main.login``: stable, for scripts."""
    level: Level
    message: str
    mend: str | None = None
    """The exact line to change, with its file; None where there is nothing to do."""


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, message)


def note(check: str, message: str, mend: str | None = None) -> Finding:
    """It could not be looked at."""
    return Finding(check, Level.NOTE, message, mend)


def warning(check: str, message: str, mend: str | None = None) -> Finding:
    """It works, and will surprise somebody."""
    return Finding(check, Level.WARNING, message, mend)


def error(check: str, message: str, mend: str | None = None) -> Finding:
    """It does not work."""
    return Finding(check, Level.ERROR, message, mend)


def exit_status(findings: Iterable[Finding]) -> int:
    """0: all well; 1: warnings and no error; 2: errors."""
    levels = {finding.level for finding in findings}
    if Level.ERROR in levels:
        return 2
    return 1 if Level.WARNING in levels else 0


def lines(findings: Iterable[Finding]) -> list[str]:
    """Write the findings for people: a line each, with its mend on the line below."""
    found = list(findings)
    width = max((len(finding.check) for finding in found), default=0)
    shown = []
    for finding in found:
        shown.append(f"{finding.level.value:<7}  {finding.check:<{width}}  {finding.message}")
        if finding.mend is not None:
            shown.append(f"{'':<7}  {'':<{width}}  -> {finding.mend}")
    return shown


def to_json(findings: Iterable[Finding]) -> list[dict[str, str | None]]:
    """Write the findings for programs."""
    return [
        {
            "check": finding.check,
            "level": finding.level.value,
            "message": finding.message,
            "mend": finding.mend,
        }
        for finding in findings
    ]
