"""What the models say about keys: which there are at a place, what each takes, and which one a wrong one resembles."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, SecretStr

KeyPath = tuple[str | int, ...]
"""The way to a value, from the file's top: names of tables and keys, and indices in lists."""


def keys_of(kind: Any) -> Mapping[str, Any] | None:
    """The keys of a table, as the file writes them, each with its type; None for what is no table of fixed keys."""
    kind = plain(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return None


def named(kind: Any) -> Any | None:
    """The type behind each name of a table such as ``[trunk.NAME]``; None where names are not tables."""
    kind = plain(kind)
    if get_origin(kind) is not dict:
        return None
    name, value = get_args(kind)
    return value if plain(name) is str and keys_of(value) is not None else None


def is_text(kind: Any) -> bool:
    """Whether a value of this type is written as a text."""
    kind = plain(kind)
    if get_origin(kind) is Literal:
        return True
    return isinstance(kind, type) and issubclass(kind, str | SecretStr | Path)


def is_list(kind: Any) -> bool:
    """Whether a value of this type is written as a list."""
    return get_origin(plain(kind)) in (tuple, list, frozenset)


def plain(kind: Any) -> Any:
    """Take off what a type carries besides itself: its annotations, and that it may be missing."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        others = [part for part in get_args(kind) if part is not type(None)]
        if len(others) == 1:
            return plain(others[0])
    return kind


def at(root: Any, path: Iterable[str | int]) -> Any | None:
    """The type of the value at a path; None where the models know no such place."""
    kind: Any = root
    for step in path:
        keys = keys_of(kind)
        kind = keys.get(str(step)) if keys is not None else _element(plain(kind))
        if kind is None:
            return None
    return kind


def _element(kind: Any) -> Any | None:
    arguments = get_args(kind)
    if get_origin(kind) in (dict, Mapping, typing.Mapping) and len(arguments) == 2:
        return arguments[1]
    return arguments[0] if arguments and is_list(kind) else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that ``word`` resembles, to end an error with; empty where none does."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def show(path: KeyPath) -> str:
    """Write a path as the file would: ``trunk.carrier-a.caller_ids[0]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if step.replace("-", "").replace("_", "").isalnum() else f'"{step}"')
    return text
