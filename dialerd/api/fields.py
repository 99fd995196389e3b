"""The types that the API's models share, and how values that do not fit are told."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from dialerd.api.problems import INVALID_REQUEST, MOST_ERRORS, refuse, unfit
from dialerd.dispatch.errors import FieldError

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T", bound=BaseModel)

# C0, DEL, C1 and the line separators; none of them has a place in a name, and some end a header on the PBX's wire.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
PLAIN_TEXT = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
"""The same as JSON Schema says it (ECMA 262)."""
MOST_VALUES = 10_000
"""Inside one body without a list of contacts or numbers: twice what the largest tenant has."""
_SHOWN_CHARS = 100
_MESSAGE_CHARS = 500
CONTROL_MESSAGE = "must not hold line breaks or other control characters"


def _written(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_written)]
Description = Annotated[str, StringConstraints(max_length=2000)]
Search = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Reference = Annotated[str, StringConstraints(max_length=200)]
"""What names something: an id, a cursor, a tenant's name. One that names nothing is no mistake of form."""
Spelling = Annotated[str, StringConstraints(max_length=1000)]
"""A phone number as somebody wrote it; whether it is one is asked of each by itself."""


class NotNull:
    """Marks a field of a change that may be left out, and is never null: ``Annotated[Name | None, NotNull()]``.

    A field without the mark is taken away by null.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Refuse null before anything else looks at it."""
        return core_schema.no_info_before_validator_function(_given, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Say what it may be, without null."""
        return without_null(handler(schema))


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("must not be null")
    return value


def without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of what may be left out, as the schema of what it then is not: null."""
    found = {key: value for key, value in schema.items() if key != "anyOf" and not (key == "default" and value is None)}
    variants = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return {**found, **(variants[0] if len(variants) == 1 else {"anyOf": variants} if variants else {})}


class In(BaseModel):
    """A body or a query: what is not understood is an error, not silently left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Change(In):
    """The body of a PATCH: what is left out stays, so that no field has a default that the document could tell."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Leave the defaults out."""
        made = handler(schema)
        for each in handler.resolve_ref_schema(made).get("properties", {}).values():
            each.pop("default", None)
        return made


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NoQuery(In):
    """No query parameters; any that are sent are not looked at."""

    model_config = ConfigDict(extra="ignore")


class Window(In):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    offset: Annotated[int, Field(ge=0, le=10**9)] = 0
    after: Reference | None = None
    """``next`` of the part before: cheaper than a large offset."""


class Listing(Out, Generic[T]):
    """A part of a list."""

    # pydantic cannot find the docstrings of a generic model's submodels in their source.
    model_config = ConfigDict(use_attribute_docstrings=False)

    data: list[T]
    limit: int
    offset: int
    total: int
    next: Annotated[str | None, Field(description="To be sent as `after` for what follows; null at the end")]

    @classmethod
    def of(cls, items: list[T], window: Window, total: int, ids: list[str]) -> Self:
        """Make the part from one item more than was asked for, where there is one. ``ids`` are the items' cursors."""
        more = len(items) > window.limit
        return cls(
            data=items[: window.limit],
            limit=window.limit,
            offset=window.offset,
            total=total,
            next=ids[window.limit - 1] if more else None,
        )


def validate(model: type[M], value: Any, *, prefix: str = "") -> M:
    """Make a model of a value. Raises Rejected, naming every field that does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise unfit(field_errors(error, prefix=prefix, tags=getattr(model, "TAGS", frozenset()))) from None


def field_errors(error: ValidationError, *, prefix: str = "", tags: frozenset[str] = frozenset()) -> list[FieldError]:
    """The fields that do not fit, by their path in the body. ``tags`` are the names of a union's members."""
    found = []
    for each in itertools.islice(error.errors(include_url=False, include_input=False), MOST_ERRORS):
        path = [str(part)[:_SHOWN_CHARS] for part in each["loc"]]
        if path and path[0] in tags:
            del path[0]
        if each["type"].startswith("union_tag_"):
            path.append(each["ctx"]["discriminator"].strip("'"))
        message = each["msg"].removeprefix("Value error, ")[:_MESSAGE_CHARS]
        if each["type"] == "extra_forbidden":
            message = "is not a known field"
        elif each["type"] == "missing":
            message = "is required"
        found.append(FieldError(".".join(filter(None, [prefix, *path])), message))
    return found


def expect_few(value: Any) -> None:
    """Refuse a JSON value with very many others inside: each may be a mistake that is to be told. Raises Rejected."""
    waiting, count = [value], 0
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            count += len(each)
            if count > MOST_VALUES:
                raise refuse(INVALID_REQUEST, f"the body holds more than {MOST_VALUES} values")
            waiting += each.values() if isinstance(each, dict) else each


def first_errors(errors: Iterable[FieldError]) -> list[FieldError]:
    """As many as are told, and no more of them are looked for."""
    return list(itertools.islice(errors, MOST_ERRORS))


def control_characters(value: Any, path: str = "") -> Iterator[FieldError]:
    """The texts inside a JSON value, names of keys included, that hold control characters."""
    waiting: list[tuple[str, Any]] = [(path, value)]
    while waiting:
        at, each = waiting.pop()
        below: list[tuple[str, Any]] = []
        if isinstance(each, _Key):
            yield FieldError(at, CONTROL_MESSAGE)
        elif isinstance(each, str):
            if _CONTROL.search(each):
                yield FieldError(at, CONTROL_MESSAGE)
        elif isinstance(each, dict):
            for key, inner in each.items():
                shown = _CONTROL.sub("?", key[:_SHOWN_CHARS])
                place = f"{at}.{shown}" if at else shown
                if _CONTROL.search(key):
                    below.append((place, _KEY))
                below.append((place, inner))
        elif isinstance(each, list):
            below = [(f"{at}.{index}", inner) for index, inner in enumerate(each)]
        waiting += reversed(below)


class _Key:
    """In place of a value: it is the key that holds them."""


_KEY = _Key()
