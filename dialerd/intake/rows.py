"""One row of an upload, in whatever format it came: a contact, or the reason why it is none."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from dialerd.core.carried import MAX_ATTRIBUTES, UNFIT, too_long
from dialerd.core.phone import BadNumber, Validation, normalise
from dialerd.core.zone_names import known_zone

SHOWN_CHARS = 100
"""Characters of a refused value that its report repeats."""

FIELDS = ("phone_number", "first_name", "last_name", "email", "company", "timezone", "priority", "external_id")

# Names are compared without case, spaces, dashes, dots and underscores. The API's own names come first: beside a
# `phone`, a `mobile` is one attribute more.
_OWN_NAMES = {name.replace("_", ""): name for name in FIELDS} | {"phone": "phone_number"}
_SPELLINGS = {
    "phone_number": (
        "phoneno telephone telephonenumber telephoneno tel mobile mobilephone mobilenumber cell cellphone msisdn"
    ),
    "first_name": "firstname forename givenname",
    "last_name": "lastname surname familyname",
    "email": "emailaddress mail",
    "company": "companyname organisation organization",
    "timezone": "tz timezonename",
    "external_id": "externalref externalreference",
}
_OTHER_NAMES = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_BETWEEN_WORDS = re.compile(r"[\s_.\-]+")

_PRIORITY = re.compile(r"[0-9]{1,3}")
_MAX_PRIORITY = 100


@dataclass(frozen=True, slots=True)
class NewContact:
    """A contact as it was uploaded, checked. ``row`` is its row in the upload (see the reader of its format)."""

    row: int
    phone_number: str
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    company: str | None = None
    timezone: str | None = None
    priority: int = 0
    external_id: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row is no contact: the first thing wrong with it.

    ``value`` is what stood there, cut to :data:`SHOWN_CHARS`, with control characters spelled out (``\\r``).
    """

    row: int | None
    column: str | None
    value: str | None
    code: str
    message: str


class InvalidTable(Exception):
    """The whole upload is unusable. ``code`` is the API's (``invalid_csv``, ``invalid_request``)."""

    def __init__(self, code: str, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.row = row


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """The bounds and rules of an upload."""

    default_region: str | None = None
    validate: Validation = "possible"
    max_row_bytes: int = 64 * 1024
    """Bytes of one row as UTF-8; a longer one makes the upload invalid, for its end may be anywhere."""
    max_columns: int = 200
    max_name_chars: int = 100
    """Characters of an attribute's name."""
    allowed_prefixes: tuple[str, ...] = ()
    """A contact's number begins with one of these; none means any."""


class _Refused(Exception):
    def __init__(self, column: str | None, value: object, code: str, message: str) -> None:
        super().__init__(message)
        self.column = column
        self.value = value
        self.code = code
        self.message = message


class BadNames(ValueError):
    """The names of columns or keys do not fit: too many, unfit ones, or two that mean the same."""

    def __init__(self, column: str | None, code: str, message: str) -> None:
        super().__init__(message)
        self.column = column
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Columns:
    """Which name of a row means which field; every other name is an attribute."""

    fields: Mapping[str, str]
    """Field → the name under which the row has it."""
    attributes: tuple[tuple[str, str], ...]
    """(name in the row, name of the attribute), in the row's order."""
    texts: Mapping[str, str]
    """The same fields without the number."""


def field_of(name: str) -> str | None:
    """Return the field that a column's name spells; None for an attribute's."""
    plain = _plain(name)
    return _OWN_NAMES.get(plain) or _OTHER_NAMES.get(plain)


@lru_cache(maxsize=64)
def assign(names: tuple[str, ...], options: IntakeOptions) -> Columns:
    """Assign the names of columns or keys to fields. Raises :class:`BadNames`.

    The API's own names (``Phone Number``, ``first-name``) win over other spellings (``Mobile``, ``Surname``), which
    then are attributes.
    """
    _check_names(names, options)
    fields: dict[str, str] = {}
    for table in (_OWN_NAMES, _OTHER_NAMES):
        found: dict[str, str] = {}
        for name in names:
            meant = table.get(_plain(name))
            if meant is None or meant in fields:
                continue
            if meant in found:
                raise _same(found[meant], name, meant)
            found[meant] = name
        fields |= found
    taken = set(fields.values())
    attributes: dict[str, str] = {}
    for name in names:
        if name in taken:
            continue
        attribute = name.strip()
        if attribute in attributes:
            raise _same(attributes[attribute], name, attribute)
        attributes[attribute] = name
    texts = {field: name for field, name in fields.items() if field != "phone_number"}
    return Columns(fields, tuple((name, attribute) for attribute, name in attributes.items()), texts)


def read_row(row: int, values: Mapping[str, object], options: IntakeOptions) -> NewContact | RowError:
    """Check one row and make a contact of it.

    Values are text (CSV) or JSON values: numbers and booleans become their JSON text, ``null`` is the empty value. In
    an attribute a list or object is kept as JSON text; in a field it is refused. An object named ``attributes`` holds
    attributes itself, as the API shows them. Values lose surrounding spaces; empty attributes are not kept.
    """
    try:
        columns = assign(tuple(values), options)
    except BadNames as error:
        return refuse(row, error.column, None, error.code, error.message)
    return read_assigned(row, columns, values, options)


def read_assigned(
    row: int, columns: Columns, values: Mapping[str, object], options: IntakeOptions
) -> NewContact | RowError:
    """The same, where the names are assigned already."""
    try:
        number = _number(columns.fields.get("phone_number"), values, options)
        texts = {name: _bounded(key, _text(key, _flat(key, values[key]))) for name, key in columns.texts.items()}
        return NewContact(
            row=row,
            phone_number=number,
            first_name=texts.get("first_name"),
            last_name=texts.get("last_name"),
            email=texts.get("email"),
            company=texts.get("company"),
            timezone=_zone(columns.fields.get("timezone"), texts.get("timezone")),
            priority=_priority(columns.fields.get("priority"), texts.get("priority")),
            external_id=texts.get("external_id"),
            attributes=_attributes(columns, values, options),
        )
    except BadNames as error:
        return refuse(row, error.column, None, error.code, error.message)
    except _Refused as error:
        return refuse(row, error.column, error.value, error.code, error.message)


def refuse_prefix(contact: NewContact) -> RowError:
    """Report a contact whose number begins with none of the allowed prefixes."""
    return refuse(
        contact.row,
        "phone_number",
        contact.phone_number,
        "prefix_not_allowed",
        f"numbers of {contact.phone_number[:4]}… are not among the tenant's prefixes",
    )


def refuse(row: int, column: str | None, value: object, code: str, message: str) -> RowError:
    """Report a row, with its value made safe to show."""
    return RowError(
        row, None if column is None else shown(column), None if value is None else shown(value), code, message
    )


def shown(value: object) -> str:
    """Cut a value for a report, and spell out what no report should hold: control characters, lone surrogates."""
    text = value if isinstance(value, str) else _json(value) or type(value).__name__
    escaped = UNFIT.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text[:SHOWN_CHARS])
    return escaped[:SHOWN_CHARS]


def _check_names(names: Sequence[str], options: IntakeOptions) -> None:
    if len(names) > options.max_columns:
        raise BadNames(
            None, "too_many_columns", f"there are {len(names)} columns; at most {options.max_columns} are read"
        )
    for name in names:
        if not name.strip():
            raise BadNames(name, "bad_name", "a column has no name")
        if len(name) > options.max_name_chars:
            message = f"the name '{shown(name)}…' is longer than {options.max_name_chars} characters"
            raise BadNames(name, "bad_name", message)
        if UNFIT.search(name):
            raise BadNames(name, "control_character", f"the name '{shown(name)}' holds a control character")


def _plain(name: str) -> str:
    return _BETWEEN_WORDS.sub("", name).lower()


def _same(first: str, second: str, meant: str) -> BadNames:
    message = f"the columns '{shown(first)}' and '{shown(second)}' both mean {shown(meant)}; rename one of them"
    return BadNames(second, "duplicate_column", message)


def _number(column: str | None, values: Mapping[str, object], options: IntakeOptions) -> str:
    text = None if column is None else _text(column, _flat(column, values[column]))
    if text is None:
        raise _Refused(column or "phone_number", None, "number_missing", "the telephone number is missing")
    try:
        return normalise(text, options.default_region, options.validate)
    except BadNumber as error:
        raise _Refused(column, text, error.code, error.message) from None


def _attributes(columns: Columns, values: Mapping[str, object], options: IntakeOptions) -> dict[str, str]:
    kept: dict[str, str] = {}
    for key, attribute in columns.attributes:
        value = values[key]
        inner: Mapping[str, object] = {attribute: value}
        if attribute == "attributes" and isinstance(value, dict):
            inner = value
            _check_names(tuple(inner), options)
        for raw, content in inner.items():
            name = raw.strip()
            text = _bounded(name, _text(name, content))
            if text is None:
                continue
            if name in kept:
                raise _Refused(name, text, "duplicate_column", "the attribute is given twice")
            kept[name] = text
    if len(kept) > MAX_ATTRIBUTES:
        message = f"has {len(kept)} attributes that are not empty; a call carries {MAX_ATTRIBUTES}"
        raise _Refused(None, None, "too_many_attributes", message)
    return kept


def _flat(column: str, value: object) -> object:
    if isinstance(value, list | dict):
        raise _Refused(column, value, "not_text", "must be a text, not a list or an object")
    return value


def _text(column: str, value: object) -> str | None:
    """A value as text without surrounding spaces; None where that is empty."""
    text = value if isinstance(value, str) else _json(value)
    if text is None:
        raise _Refused(column, value, "not_text", "cannot be written as text")
    # What is printable is fit; of the rest a few are no harm.
    if not text.isprintable() and UNFIT.search(text):
        raise _Refused(column, text, "control_character", "holds a control character, such as a line break")
    return text.strip() or None


def _bounded(column: str, text: str | None) -> str | None:
    if text is not None and (message := too_long(text)) is not None:
        raise _Refused(column, text, "too_long", message)
    return text


def _json(value: object) -> str | None:
    """A JSON value as text (``null`` is the empty one); None for what JSON cannot say: NaN, a too deep nesting."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and math.isfinite(value) and abs(value) < 2**53:
        return str(int(value))
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return None


def _zone(column: str | None, zone: str | None) -> str | None:
    try:
        return None if zone is None else known_zone(zone)
    except ValueError:
        message = "is not an IANA time zone, such as Europe/London"
        raise _Refused(column, zone, "unknown_timezone", message) from None


def _priority(column: str | None, text: str | None) -> int:
    if text is None:
        return 0
    if not _PRIORITY.fullmatch(text) or int(text) > _MAX_PRIORITY:
        raise _Refused(column, text, "bad_priority", f"must be a whole number from 0 to {_MAX_PRIORITY}")
    return int(text)
