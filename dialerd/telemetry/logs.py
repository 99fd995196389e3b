"""Structured logs on standard error: JSON lines or a console's colours, with phone numbers and secrets masked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from dialerd.clock import Clock, show_id
from dialerd.core.model import Call

_CALLS = logging.getLogger("dialerd.calls")
_call_log = structlog.get_logger(_CALLS.name)
_NUMBER_KEYS = frozenset({"caller_id", "dial", "e164", "number", "phone", "phone_number"})
_SECRET_KEYS = frozenset({"api_key", "authorization", "password", "secret", "token"})
_BETWEEN = r"[ ().-]"
"""What may stand between the digits of a number that a person has written."""
_NUMBER_IN_TEXT = re.compile(
    rf"(\+|%2[bB])([1-9]\d{{9,}}|[1-9](?:{_BETWEEN}{{0,2}}\d){{6,}})"  # E.164, as we write it, and as people do
    # As a PBX writes it in words of its own, and however long a carrier's prefix is; a time in microseconds is none.
    r"|(?<![\w.+-])()((?!1[5-9]\d{14}(?!\d))\d{10,})(?!\w|\.\d)"
    r"|(?<=/)()(\d{6,})(?=@|-[0-9a-f]{8}(?![\w-]))"  # in a dial string, and in a channel's name
    # National: 202-555-0100, (202) 555-0100, 01 23 45 67 89, 030 1234567. Dates, addresses and UUIDs are none.
    rf"|(?<![\w.:+-])()(\(?\d{{2,5}}\)?{_BETWEEN}{{1,2}}\d{{3,4}}{_BETWEEN}\d{{3,4}}"
    rf"|\d\d(?:{_BETWEEN}\d\d){{4}}|0\d{{1,4}}{_BETWEEN}\d{{5,}})(?![\w:]|[.-]\d)"
)
_DIGITS = re.compile(rf"()(\d(?:{_BETWEEN}{{0,2}}\d){{5,}})")
_HIDDEN = "***"
_ROW_IDS = frozenset({"agent_id", "callback_id", "campaign_id", "contact_id", "import_id", "webhook_id"})
QUIET_LIBRARIES = ("panoramisk", "aiosqlite", "asyncio", "sqlalchemy", "alembic", "aiohttp.access")
"""Kept at warnings whatever our own level is: panoramisk writes whole actions, the login's secret among them."""


def configure(
    level: Literal["debug", "info", "warning", "error"],
    style: Literal["json", "console"],
    clock: Clock,
    *,
    full_numbers: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Send structlog's and the standard library's logs to ``stream`` (standard error), one line for each event.

    Phone numbers are shown in full only with ``full_numbers``; secrets never. May be called again to change it all.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    # One chain for structlog's events and for other libraries' records, so that neither can pass the mask by.
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        _Stamp(clock),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        show_ids,
        Mask(full_numbers=full_numbers),
        _renderer(style, handler.stream),
    ]
    extras = [structlog.stdlib.ExtraAdder()]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=chain, foreign_pre_chain=extras))
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def of_call(call: Call) -> dict[str, str | int]:
    """The fields of every line that concerns a call."""
    return {"call_id": call.id, "campaign_id": call.campaign_id, "tenant": call.tenant}


def debug_call(event: str, call: Call, **fields: str | None) -> None:
    """Log a step of a call where the level is debug. Asked of the level first: this stands on every call's way."""
    if _CALLS.isEnabledFor(logging.DEBUG):
        _call_log.debug(event, **of_call(call), pbx=call.pbx, trunk=call.trunk, **fields)


def show_ids(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor that writes the ids of rows as the API does: whoever has one finds it in the log."""
    for key in _ROW_IDS & event.keys():
        if isinstance(event[key], int):
            event[key] = show_id(event[key])
    return event


class Mask:
    """A structlog processor that hides secrets, and the middle of phone numbers, in every field of an event."""

    def __init__(self, *, full_numbers: bool) -> None:
        self._full_numbers = full_numbers

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Mask one event."""
        return {key: self._field(key, value) for key, value in event.items()}

    def _field(self, key: str, value: Any) -> Any:
        if key.lower() in _SECRET_KEYS:
            return _HIDDEN
        if key.lower() in _NUMBER_KEYS and isinstance(value, str) and not self._full_numbers:
            return mask_number(value)
        return self._value(value)

    def _value(self, value: Any) -> Any:
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, Mapping):
            return {str(key): self._field(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(inner) for inner in value]
        return str(value) if self._full_numbers else _NUMBER_IN_TEXT.sub(_masked, str(value))


def mask_number(number: str) -> str:
    """Hide the middle of a phone number: ``+12025550100`` becomes ``+120******00``."""
    return _DIGITS.sub(_masked, number)


def _masked(found: re.Match[str]) -> str:
    sign, number = (each for each in found.groups() if each is not None)
    digits = [place for place, each in enumerate(number) if each.isdigit()]
    hidden = set(digits[3:-2])
    return sign + "".join("*" if place in hidden else each for place, each in enumerate(number))


class _Stamp:
    """A structlog processor that adds the clock's time (RFC 3339, UTC)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["timestamp"] = self._clock.wall().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return event


def _renderer(style: Literal["json", "console"], stream: TextIO) -> Processor:
    if style == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
