"""docs/configuration.md, made of the models. ``python -m tests.support.configuration_page`` writes it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from dialerd.config.environment import PREFIX
from dialerd.config.keys import keys_of, named
from dialerd.config.models import Config

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/configuration.md"
EXAMPLE = ROOT / "config/dialerd.toml"

_HEAD = """\
# Configuration

Every key of `dialerd.toml`, made of the models that read it; [config/dialerd.toml](../config/dialerd.toml) is an
example that has them all. After a change of a key: `python -m tests.support.configuration_page`.

`dialerd check-config --config FILE` names everything that is wrong at once, each with its key; a key that does not
exist is an error, with the one it resembles. A path that is not absolute begins at the file's own folder.

**Variables.** A variable of the environment goes before the file: `DIALERD_`, then the table, its name and the key in
capitals, joined by two underscores, `-` written as `_`. `DIALERD_TRUNK__CARRIER_A__MAX_CHANNELS=50` is `max_channels`
of `[trunk.carrier-a]`. A table must stand in the file: variables set its keys and make none. Lists are separated by
commas, or written as JSON. A variable that names no key is an error. (The command line's own variables begin with
`DIALER_`: [cli.md](cli.md).)

**Units.** A key that ends in `_seconds` is seconds, in `_ms` milliseconds, in `_bytes` bytes, in `_hours` hours;
`_per_second` counts call attempts sent to the PBX in any one second. Numbers of telephones are E.164: `+12025550199`.
"""
_SAMPLE = re.compile(r"^# (?=[a-z_]+ *=)", re.MULTILINE)
_COMMENT = re.compile(r"^(?P<key>[a-z_]+)\s*=.*?\s{2,}# (?P<said>.+)$")
_CONTINUED = re.compile(r"^\s{20,}# (?P<said>.+)$")
_TABLE = re.compile(r"^(?:# )?\[(?P<name>[\w.-]+)\]")
_KINDS: Mapping[Any, str] = {
    str: "text",
    SecretStr: "text",
    Path: "path",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    datetime: "time with its zone",
    date: "date",
}


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(_tables(Config, ()))


def _tables(kind: Any, path: tuple[str, ...]) -> Iterator[str]:
    """The sections of all tables below a place."""
    keys = keys_of(kind)
    assert keys is not None
    own = {key: of for key, of in keys.items() if keys_of(of) is None and named(of) is None}
    if own:
        yield _section(kind, path, own)
    for key, of in keys.items():
        if keys_of(of) is not None:
            yield from _tables(_bare(of), (*path, key))
        elif (inner := named(of)) is not None:
            yield from _tables(_bare(inner), (*path, key, "NAME"))


def _section(kind: Any, path: tuple[str, ...], keys: Mapping[str, Any]) -> str:
    title = ".".join(path)
    about = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
    about = re.sub(r"^`\[[^]]*\]`: ", "", about)
    lines = ["", f"## [{title}]", "", f"{about[:1].upper()}{about[1:]}", ""]
    lines += [f"Variables: `{PREFIX}{'__'.join(path).upper()}__KEY`.", ""]
    lines += ["| key | takes | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{key}` | {_escaped(_takes(of, _metadata(kind, key)))} | {_escaped(_default(kind, key))} "
        f"| {_escaped(_meaning(kind, key, path))} |"
        for key, of in keys.items()
    ]
    return "\n".join(lines) + "\n"


def _meaning(kind: Any, key: str, path: tuple[str, ...]) -> str:
    """The docstring of the key; where it has none, the comment beside it in the example."""
    said = _docstrings(kind).get(_attribute(kind, key)) or _comments().get((*_general(path), key), "")
    said = said.replace("``", "`").replace("\n", " ")
    return f"{said[:1].upper()}{said[1:]}".rstrip(".") if said[:1].isalpha() else said.rstrip(".")


@cache
def _docstrings(kind: Any) -> Mapping[str, str]:
    """The string below each attribute of a class."""
    [body] = [
        each for each in ast.parse(textwrap.dedent(inspect.getsource(kind))).body if isinstance(each, ast.ClassDef)
    ]
    return {
        one.target.id: inspect.cleandoc(two.value.value)
        for one, two in zip(body.body, body.body[1:], strict=False)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(two, ast.Expr)
        and isinstance(two.value, ast.Constant)
        and isinstance(two.value.value, str)
    }


@cache
def _comments() -> Mapping[tuple[str, ...], str]:
    """The comments beside the keys of the example, by table and key."""
    found: dict[tuple[str, ...], str] = {}
    table: tuple[str, ...] = ()
    key: tuple[str, ...] | None = None
    for line in _SAMPLE.sub("", EXAMPLE.read_text()).splitlines():
        if header := _TABLE.match(line):
            table, key = _general(tuple(header["name"].split("."))), None
        elif comment := _COMMENT.match(line):
            key = (*table, comment["key"])
            found[key] = comment["said"]
        elif key is not None and (more := _CONTINUED.match(line)):
            found[key] += f" {more['said']}"
        else:
            key = None
    return found


def _general(path: tuple[str, ...]) -> tuple[str, ...]:
    """A table's name without the name that its owner gave it."""
    return path if len(path) < 2 else (path[0], "NAME", *path[2:])


def _attribute(kind: Any, key: str) -> str:
    if issubclass(kind, BaseModel):
        fields: Mapping[str, FieldInfo] = kind.model_fields
        return next(name for name, field in fields.items() if (field.alias or name) == key)
    return key


def _metadata(kind: Any, key: str) -> list[Any]:
    return list(kind.model_fields[_attribute(kind, key)].metadata) if issubclass(kind, BaseModel) else []


def _default(kind: Any, key: str) -> str:
    name = _attribute(kind, key)
    if issubclass(kind, BaseModel):
        field: FieldInfo = kind.model_fields[name]
        if field.is_required():
            return "**required**"
        return _written(field.get_default(call_default_factory=True))
    return _written(getattr(kind(), name))


def _written(value: Any) -> str:
    """A value as the file would have it; – for none."""
    if value is None or value in ((), {}, frozenset()):
        return "–"
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml_key(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return json.dumps(value if not isinstance(value, StrEnum) else value.value)


def _toml_key(key: Any) -> str:
    return str(key.value) if isinstance(key, StrEnum) else str(key)


def _takes(kind: Any, metadata: Iterable[Any]) -> str:
    """What a value of this type may be, in words."""
    bounds = list(metadata)
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            bounds += more
        elif get_origin(kind) in (Union, types.UnionType):
            kind = next(part for part in get_args(kind) if part is not type(None))
        else:
            break
    flat = [part for each in bounds for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments) if len(arguments) < 3 else _listed(arguments)
    if origin is tuple and Ellipsis not in arguments:
        return "two numbers, the lower one first"
    if origin in (tuple, list, frozenset):
        return f"list: {_takes(arguments[0], ())}{_sizes(flat)}"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _listed([each.value for each in kind])
    if (isinstance(kind, type) and issubclass(kind, BaseModel)) or dataclasses.is_dataclass(kind):
        return "table: " + ", ".join(f"`{key}`" for key in keys_of(kind) or ())
    if arguments:
        return f"table: {_takes(arguments[0], ())} = {_takes(arguments[1], ())}"
    return _KINDS[kind] + _range(flat)


def _range(bounds: Iterable[Any]) -> str:
    words = []
    for each in bounds:
        match each:
            case Ge(ge=low):
                words.append(f"{low} or more")
            case Gt(gt=low):
                words.append(f"above {low}")
            case Le(le=high):
                words.append(f"at most {high}")
            case Lt(lt=high):
                words.append(f"below {high}")
    return "".join(f", {word}" for word in words)


def _sizes(bounds: Iterable[Any]) -> str:
    words = [f"at least {each.min_length}" for each in bounds if isinstance(each, MinLen)]
    words += [f"at most {each.max_length}" for each in bounds if isinstance(each, MaxLen)]
    return "".join(f", {word}" for word in words)


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(f"`{each}`" for each in values)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
