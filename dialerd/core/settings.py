"""A campaign's settings: one model for the API, the store and the planner, so that none can drift."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Final, Literal, Self, TypeVar, get_origin
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dialerd.core.carried import MAX_CAMPAIGN_VARIABLES, UNFIT, too_long
from dialerd.core.outcome import NEVER_RETRIED, Outcome
from dialerd.core.zone_names import known_zone

_HHMM = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_VARIABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
T = TypeVar("T")

# Far more than anybody needs: they keep what one client sends from costing all others their calls.
MOST_TRUNKS = 100
MOST_CALLER_IDS = 1000
MOST_BLACKOUTS = 1000
MOST_PREFIXES = 1000
MOST_TENANT_TRUNKS = 1000
MOST_VARIABLES = 100
MOST_NAME_CHARS = 64
MOST_VALUE_CHARS = 1000
MOST_BYTES: Final = 64 * 2**10
"""Of all settings together as JSON: a page of campaigns shows two hundred times as much."""


def once(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values without repeats, in the order in which they first came."""
    return tuple(dict.fromkeys(values))


Once = AfterValidator(once)
"""Marks a list in which a repeat says nothing."""
NameText = Annotated[str, StringConstraints(max_length=MOST_NAME_CHARS)]
"""The name of something else, which is looked up elsewhere."""
NumberText = Annotated[str, StringConstraints(max_length=32)]
_Hhmm = Annotated[str, StringConstraints(max_length=32)]


_STORED = object()
"""The context in which settings are read that were accepted once."""


class RetryRule(BaseModel):
    """When a contact is dialled again after one outcome.

    The n-th retry comes ``delay_seconds * factor ** (n - 1)`` after the call ended; ``most`` bounds how often this
    outcome alone brings a contact back (0 forbids it).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    delay_seconds: Annotated[float, Field(ge=0, le=30 * 86400)]
    factor: Annotated[float, Field(ge=1, le=10)] = 1.0
    most: Annotated[int, Field(ge=0, le=100)] | None = None


DEFAULT_RETRY: dict[Outcome, RetryRule] = {
    Outcome.BUSY: RetryRule(delay_seconds=3600),
    Outcome.NO_ANSWER: RetryRule(delay_seconds=86400),
    Outcome.REJECTED: RetryRule(delay_seconds=86400, most=1),
    Outcome.CONGESTION: RetryRule(delay_seconds=1800),
    Outcome.UNREACHABLE: RetryRule(delay_seconds=1800),
    Outcome.FAILED: RetryRule(delay_seconds=1800),
    Outcome.INTERRUPTED: RetryRule(delay_seconds=1800, most=3),
    Outcome.MACHINE: RetryRule(delay_seconds=86400),
    Outcome.ABANDONED: RetryRule(delay_seconds=3 * 86400, most=1),
}
"""Busy an hour, no answer a day, ill trunks half an hour; 72 h after an abandoned call (Ofcom, persistent misuse)."""


def _carried(value: str, info: ValidationInfo) -> str:
    """Refuse what no call could be given, but for what was stored before that was asked."""
    if info.context is _STORED:
        return value
    if UNFIT.search(value):
        raise ValueError("must not hold line breaks or other control characters")
    if (message := too_long(value)) is not None:
        raise ValueError(message)
    return value


_Carried = Annotated[str, StringConstraints(max_length=MOST_VALUE_CHARS), AfterValidator(_carried)]
_PUT_OFF_BY = (
    *("calling_hours_start", "calling_hours_end", "timezone", "calling_days", "blackouts"),
    *("contact_timezone", "max_attempts_per_day"),
)


class CampaignSettings(BaseModel):
    """The settings of a campaign, by their API names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    calling_hours_start: _Hhmm = "09:00"
    """HH:MM, by the clock of ``timezone``."""
    calling_hours_end: _Hhmm = "17:00"
    """HH:MM; an end before the start crosses midnight; equal is the whole day."""
    timezone: NameText = "UTC"
    """A name of the IANA database, such as ``America/New_York``."""
    calling_days: Annotated[tuple[Weekday, ...], Field(max_length=len(WEEKDAYS))] = WEEKDAYS
    """Days on which calls are made."""
    blackouts: Annotated[tuple[date, ...], Field(max_length=MOST_BLACKOUTS), Once] = ()
    """Dates without calls, such as 2030-12-25."""
    contact_timezone: Literal["campaign", "number"] = "campaign"
    """``number``: the hours hold in every zone where the callee's number may lie."""
    concurrent_calls: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Calls at once, from the journal to the hangup, ringing included."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Per contact, for faults of the callee's side; 3 make four attempts."""
    answer_timeout: Annotated[float, Field(ge=5, le=300)] = 30.0
    """Seconds of ringing before the call is given up."""
    max_call_seconds: Annotated[int, Field(ge=1, le=86400)] = 3600
    """Seconds from the answer after which the call is hung up."""
    retry: Annotated[dict[Outcome, RetryRule], Field(max_length=len(Outcome))] = Field(default_factory=dict)
    """Per outcome, instead of its own rule: busy after an hour; no_answer and machine after a day; rejected once,
    after a day; congestion, unreachable and failed after half an hour; interrupted the same, three times; abandoned
    once, after three days. ``factor`` lengthens each further delay, ``most`` bounds the retries for this outcome."""
    caller_ids: Annotated[tuple[NumberText, ...], Field(max_length=MOST_CALLER_IDS), Once] = ()
    """Numbers of the tenant's to show; none means the trunk's."""
    trunks: Annotated[tuple[NameText, ...], Field(max_length=MOST_TRUNKS), Once] = ()
    """In order of choice; none means the tenant's."""
    max_calls_per_second: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """None: no limit of its own."""
    priority: Annotated[int, Field(ge=0, le=10)] = 0
    """Each step doubles the campaign's share of what is scarce; none starves."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """The campaign's share of what is scarce, beside the tenant's other campaigns."""
    max_attempts_per_day: Annotated[int, Field(ge=1, le=100)] | None = None
    """Per contact; a day begins at midnight where the callee is. None: no limit."""
    start_at: datetime | None = None
    """No call before."""
    end_at: datetime | None = None
    """The campaign completes then, whatever is left; pending contacts are cancelled."""
    keep_open: bool = False
    """The campaign does not complete when its list runs dry, and may start empty."""
    variables: Annotated[
        dict[NameText, _Carried],
        Field(max_length=MOST_VARIABLES, json_schema_extra={"maxProperties": MAX_CAMPAIGN_VARIABLES}),
    ] = Field(default_factory=dict)
    """Given to every channel as ``CAMPAIGN_`` + name; no client chooses a raw variable name. At most 25, each
    value one line of at most 900 bytes (UTF-8; commas, double quotes, backslashes, round and square brackets take two
    each)."""

    @field_validator("calling_hours_start", "calling_hours_end")
    @classmethod
    def _hhmm(cls, value: str) -> str:
        if not _HHMM.fullmatch(value):
            raise ValueError("must be a time of day as HH:MM, 00:00 to 23:59")
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return known_zone(value)

    @field_validator("calling_days")
    @classmethod
    def _days(cls, value: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
        if not value:
            raise ValueError("must name at least one day")
        return tuple(day for day in WEEKDAYS if day in value)

    @field_validator("retry")
    @classmethod
    def _retryable(cls, value: dict[Outcome, RetryRule]) -> dict[Outcome, RetryRule]:
        for outcome in value:
            if outcome in NEVER_RETRIED:
                raise ValueError(f"{outcome.value} is never retried")
        return value

    @field_validator("variables")
    @classmethod
    def _variables(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name in value:
            if not _VARIABLE_NAME.fullmatch(name):
                raise ValueError(f"{name!r}: a variable's name has letters, digits and _ only, 64 at most")
        if len(value) > MAX_CAMPAIGN_VARIABLES and info.context is not _STORED:
            raise ValueError(f"are {len(value)}; a call carries {MAX_CAMPAIGN_VARIABLES} of its campaign")
        return value

    @field_validator("start_at", "end_at")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("must carry a time zone, such as 2030-01-31T09:00:00Z")
        try:
            return value if value is None else value.astimezone(UTC)
        except OverflowError:
            raise ValueError("lies outside the years that the calendar has") from None

    @model_validator(mode="after")
    def _order(self) -> CampaignSettings:
        if self.start_at and self.end_at and self.end_at <= self.start_at:
            raise ValueError("end_at must come after start_at")
        return self

    @model_validator(mode="after")
    def _small(self) -> CampaignSettings:
        # Without variables, whatever the bounds of the others allow is far less.
        if self.variables and len(self.model_dump_json().encode()) > MOST_BYTES:
            raise ValueError(f"the settings take more than {MOST_BYTES} bytes: the variables hold too much")
        return self

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Self:
        """Read settings that an earlier version may have taken without the bounds of today.

        Lists lose repeats and what is beyond their bound, values are cut, and variables for which there is no room are
        left out: who has such a campaign must be able to change it, and the others to go on with theirs. Raises
        ValidationError.
        """
        try:
            return cls.model_validate(values, context=_STORED)
        except ValidationError:
            return cls.model_validate(_cut(values), context=_STORED)

    def opens(self) -> time:
        """The local time of day at which calling begins."""
        return time.fromisoformat(self.calling_hours_start)

    def closes(self) -> time:
        """The local time of day at which calling ends."""
        return time.fromisoformat(self.calling_hours_end)

    def zone(self) -> ZoneInfo:
        """The campaign's time zone."""
        return ZoneInfo(self.timezone)

    def puts_off_otherwise(self, changed: CampaignSettings) -> bool:
        """Whether contacts that these settings put off may be due sooner by changed ones."""
        return any(getattr(self, name) != getattr(changed, name) for name in _PUT_OFF_BY)

    def rule_for(self, outcome: Outcome) -> RetryRule | None:
        """The retry rule of an outcome; None where it is never retried."""
        if outcome in NEVER_RETRIED:
            return None
        return self.retry.get(outcome) or DEFAULT_RETRY.get(outcome)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values, for the store and the API."""
        return self.model_dump(mode="json")


def _cut(stored: Mapping[str, Any]) -> dict[str, Any]:
    bounds = {"trunks": MOST_TRUNKS, "caller_ids": MOST_CALLER_IDS, "blackouts": MOST_BLACKOUTS}
    cut = {**stored, **{name: once(tuple(stored[name]))[:most] for name, most in bounds.items() if name in stored}}
    variables: dict[str, str] = cut.pop("variables", {})
    room = MOST_BYTES - len(CampaignSettings.model_validate(cut).model_dump_json().encode())
    kept = {}
    for name, value in variables.items():
        short = value[:MOST_VALUE_CHARS]
        room -= len(json.dumps({name: short}, ensure_ascii=False).encode())
        if room > 0:
            kept[name] = short
    return {**cut, **({"variables": kept} if variables else {})}


def _settings_of(kind: type) -> frozenset[str]:
    return frozenset(
        name for name, each in CampaignSettings.model_fields.items() if get_origin(each.annotation) is kind
    )


LIST_SETTINGS, OBJECT_SETTINGS = _settings_of(tuple), _settings_of(dict)
"""The settings that are lists and objects: in a form and on a command line they are written otherwise than as JSON."""
