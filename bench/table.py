"""Writes bench/RESULTS.md from the figures that the benchmarks left as JSON, so that none of them can be typed wrong.

What a person has to say, why a figure falls short above all, stands in bench/notes.toml under the figure's key.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.measure import shown

_HEAD = """# Results of the benchmarks

Made by `make bench` from `bench/results.json` and the reasons in `bench/notes.toml`; a test holds it equal to both.
`make bench BENCH="--only NAME"` measures one benchmark anew and leaves the others as they are.

Each ratio was taken in one run, we and the baseline in turn (A B A B): the medians count, and stand with the least and
the most. Calls are counted at the far end. Asterisk writes no log file and no CDRs meanwhile.
"""
_ABSENT = "–"


def write(results: Path, notes: Path, names: Iterable[str]) -> str:
    """The page. ``names``: all benchmarks in their order, so that one that never ran is missed.

    Raises ValueError where all were measured and a note has the key of no figure.
    """
    entries: Mapping[str, Any] = read(results)
    words: Mapping[str, str] = tomllib.loads(notes.read_text()) if notes.exists() else {}
    names = list(names)
    known = {found["key"] for entry in entries.values() for found in entry["found"]}
    strangers = sorted(set(words) - known - set(names))
    # One that was not measured yet, or that failed, cannot tell which keys it has.
    if strangers and all(name in entries and not entries[name]["error"] for name in names):
        raise ValueError(f"{notes.name} has notes on what was not measured: {', '.join(strangers)}")
    found = [(each, words.get(each["key"], "")) for name in names for each in entries.get(name, {"found": ()})["found"]]
    parts = [_HEAD, _machine(entries, names)]
    asked = [_asked(each, why) for each, why in found if each["must"] is not None and each["kind"] != "growth"]
    if asked:
        parts.append(
            _section("What is asked", "what|beside|figure|must be|reached|in full, and why it falls short", asked)
        )
    grown = [_growth(each, why) for each, why in found if each["kind"] == "growth"]
    if grown:
        parts.append(
            _section("Growth", "what|cost at each size|slope|must be|reached|why", grown)
            + "\nThe slope is that of the cost over the size, both as logarithms: 0 is flat, 1 is as much more as "
            "there is more of it.\n"
        )
    others = [_other(each, why) for each, why in found if each["must"] is None and each["kind"] != "growth"]
    if others:
        parts.append(_section("Beside them", "what|figure|in full", others))
    parts.append(_runs(entries, names, words))
    return "\n".join(parts)


def read(results: Path) -> dict[str, Any]:
    """What the benchmarks left; nothing where none ran."""
    return dict(json.loads(results.read_text())) if results.exists() else {}


def _asked(found: Mapping[str, Any], why: str) -> tuple[str, ...]:
    return (
        found["name"],
        found["against"] or _ABSENT,
        _value(found),
        found["must"],
        _judged(found),
        _join(found["detail"], why),
    )


def _growth(found: Mapping[str, Any], why: str) -> tuple[str, ...]:
    slope = f"{found['value']:.2f}"
    return (found["name"], found["detail"], slope, found["must"] or _ABSENT, _judged(found), why)


def _other(found: Mapping[str, Any], why: str) -> tuple[str, ...]:
    name = f"{found['name']}, beside {found['against']}" if found["against"] else found["name"]
    return (name, _value(found), _join(found["detail"], why))


def _value(found: Mapping[str, Any]) -> str:
    return f"{shown(found['value'])} {found['unit']}".strip()


def _judged(found: Mapping[str, Any]) -> str:
    return {True: "yes", False: "**no**", None: _ABSENT}[found["reached"]]


def _join(*texts: str) -> str:
    return "; ".join(text for text in texts if text)


def _machine(entries: Mapping[str, Any], names: Iterable[str]) -> str:
    """The machine, once where all ran on the same; a value that differed stands with each that it had."""
    seen: dict[str, list[str]] = {}
    for name in names:
        for key, value in entries.get(name, {"machine": {}})["machine"].items():
            if value not in seen.setdefault(key, []):
                seen[key].append(value)
    if not seen:
        return "Nothing has been measured yet.\n"
    return "Measured on: " + ", ".join(f"{key} {' / '.join(values)}" for key, values in seen.items()) + ".\n"


def _runs(entries: Mapping[str, Any], names: Iterable[str], words: Mapping[str, str]) -> str:
    rows = []
    for name in names:
        entry = entries.get(name)
        if entry is None:
            rows.append((name, "never", "", "", "", _join("**not measured**", words.get(name, ""))))
            continue
        state = f"**failed**: {entry['error']}" if entry["error"] else "ran"
        if entry["short"]:
            state += " (**short**: its figures say nothing about speed)"
        load = " → ".join(f"{each:g}" for each in entry["load"])
        rows.append(
            (name, entry["date"], entry["commit"], f"{entry['seconds']:.0f}", load, _join(state, words.get(name, "")))
        )
    return _section("The runs", "benchmark|date|commit|seconds|load|", rows)


def _section(title: str, columns: str, rows: Iterable[tuple[str, ...]]) -> str:
    heads = columns.split("|")
    lines = [heads, ["---"] * len(heads), *rows]
    table = "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
    return f"## {title}\n\n{table}\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
