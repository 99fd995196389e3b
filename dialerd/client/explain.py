"""An explanation of the planner, in lines. Pure."""

from __future__ import annotations

from typing import Any

from dialerd.client.text import moment, printable, table


def lines(told: Any) -> list[str]:
    """The summary, what waits, and every rule with its answer, in the planner's order."""
    found = [printable(told["summary"])]
    if told["next_moment"] is not None:
        found.append(f"next moment: {moment(told['next_moment'])}")
    if (counts := told.get("counts")) is not None:
        found.append(f"{counts['due']} due, {counts['waiting']} waiting, {counts['in_flight']} in flight")
    rows = [
        ["yes" if rule["holds"] else "NO", rule["level"], rule["rule"], rule["detail"], moment(rule["until"])]
        for rule in told["rules"]
    ]
    return [*found, "", *table(["LETS CALL", "LEVEL", "RULE", "DETAIL", "UNTIL"], rows)]
