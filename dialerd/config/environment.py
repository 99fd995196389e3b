"""Environment variables over the file: ``DIALERD_TRUNK__CARRIER_A__DIAL`` sets ``dial`` of ``[trunk.carrier-a]``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dialerd.config import keys
from dialerd.config.keys import KeyPath

PREFIX = "DIALERD_"


@dataclass(slots=True)
class Overlay:
    """What the environment did: which variable set which key, and which variables name none."""

    origin: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


class _NoSuchKey(Exception):
    """A variable that names no key; the message says why."""


def overlay(data: dict[str, Any], environ: Mapping[str, str], root: type) -> Overlay:
    """Set in ``data`` every key that a variable names.

    Names are compared without case, ``-`` counting as ``_``. A table such as ``[trunk.carrier-a]`` must stand in the
    file: a variable sets keys of it, and makes none. A list is JSON or separated by commas, a table of free keys JSON.
    """
    done = Overlay()
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        try:
            path, kind = _resolve(variable.removeprefix(PREFIX).split("__"), data, root)
        except _NoSuchKey as error:
            done.problems.append((variable, str(error)))
            continue
        node: Any = data
        for step in path[:-1]:
            node = node.setdefault(step, {}) if isinstance(node, dict) else None
        # Where the file has something else in a table's place, the check of the file says so.
        if isinstance(node, dict):
            node[path[-1]] = _value(environ[variable], kind)
            done.origin[tuple(path)] = variable
    return done


def _resolve(segments: list[str], data: Mapping[str, Any], root: type) -> tuple[list[str], Any]:
    path: list[str] = []
    kind: Any = root
    node: Any = data
    for segment in segments:
        fixed, table = keys.keys_of(kind), keys.named(kind)
        if fixed is not None:
            name = _match(segment, fixed, "names no key of the configuration")
            kind = fixed[name]
        elif table is not None:
            name = _match(segment, node if isinstance(node, dict) else {}, f"names no [{path[0]}.…] of the file")
            kind = table
        else:
            raise _NoSuchKey(f"{keys.show(tuple(path))} is set as a whole, not by parts")
        path.append(name)
        node = node.get(name) if isinstance(node, dict) else None
    if keys.keys_of(kind) is not None or keys.named(kind) is not None:
        raise _NoSuchKey(f"names the table [{keys.show(tuple(path))}], not one of its keys")
    return path, kind


def _match(segment: str, known: Mapping[str, Any], complaint: str) -> str:
    found = [name for name in known if _plain(name) == _plain(segment)]
    if not found:
        raise _NoSuchKey(complaint + keys.did_you_mean(segment, [name.replace("-", "_").upper() for name in known]))
    if len(found) > 1:
        raise _NoSuchKey(f"could mean {' or '.join(found)}")
    return found[0]


def _plain(name: str) -> str:
    return name.replace("-", "_").lower()


def _value(text: str, kind: Any) -> Any:
    """Read a variable's text as the file's syntax would give it; what cannot be read stays a text, and is refused."""
    if keys.is_text(kind):
        return text
    if keys.is_list(kind) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except ValueError:
        return text
