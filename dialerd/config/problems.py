"""Errors of the models in an administrator's words, each with its key path, and never with what may be a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dialerd.config import keys
from dialerd.config.keys import KeyPath

Problem = tuple[str, str]
"""A key path (or the name of a file or variable), and what is wrong there."""

_SENSITIVE = frozenset({"secret", "url"})
_KEY_MARK = "[key]"

_WORDS: dict[str, str] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "enum": "must be {expected}",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "string_type": 'must be a text in "quotes"',
}
_SHAPES: dict[str, str] = {
    "dataclass_type": "must be a table",
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "missing": "is missing",
    "model_attributes_type": "must be a table",
    "model_type": "must be a table",
    "named_tuple_type": "must be a list of two numbers",
    "path_type": 'must be a path in "quotes"',
    "too_short": "must have at least {min_length}",
    "tuple_type": "must be a list",
}
_UNKNOWN_KEY = frozenset({"extra_forbidden", "unexpected_keyword_argument"})


class ConfigError(Exception):
    """A configuration that cannot be used. ``problems`` has everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{path}: {message}" for path, message in problems))


def of_models(error: ValidationError, root: type, origin: Mapping[KeyPath, str]) -> list[Problem]:
    """Tell every error of the models; ``origin`` knows which keys came from the environment."""
    return [_tell(one, root, origin) for one in error.errors(include_url=False)]


def _tell(error: ErrorDetails, root: type, origin: Mapping[KeyPath, str]) -> Problem:
    path = tuple(step for step in error["loc"] if step != _KEY_MARK)
    message = _message(error, path, root)
    variable = next((name for key, name in origin.items() if path[: len(key)] == key), None)
    return keys.show(path), message + (f" (set by {variable})" if variable else "")


def _message(error: ErrorDetails, path: KeyPath, root: type) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _UNKNOWN_KEY:
        return "is not a key that dialerd knows" + keys.did_you_mean(str(path[-1]), _siblings(path, root))
    if kind == "value_error":
        return str(context["error"])
    if kind in _SHAPES:
        return _SHAPES[kind].format(**context)
    if kind in _WORDS:
        return _WORDS[kind].format(**context) + _shown(path, error["input"])
    return error["msg"]


def _siblings(path: KeyPath, root: type) -> list[str]:
    return list(keys.keys_of(keys.at(root, path[:-1])) or ())


def _shown(path: KeyPath, value: Any) -> str:
    """The refused value, where showing it helps and cannot hurt."""
    if _SENSITIVE.intersection(path) or not isinstance(value, str | int | float) or len(str(value)) > 60:
        return ""
    return f", not {json.dumps(value, ensure_ascii=False)}"
