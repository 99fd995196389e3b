"""The body that makes a campaign: one JSON object, or a form whose values are its fields."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from dialerd.api.bodies import JSON, JsonBody, expect_media
from dialerd.api.context import Limits
from dialerd.api.fields import (
    Change,
    Description,
    In,
    Name,
    NotNull,
    Reference,
    control_characters,
    expect_few,
    field_errors,
    first_errors,
)
from dialerd.api.forms import FILE_PART, MULTIPART, Form, read_form
from dialerd.api.problems import AGENT_UNKNOWN, refuse, unfit
from dialerd.api.strict_json import parse
from dialerd.api.uploads import File, OnInvalid, form_upload
from dialerd.clock import read_id
from dialerd.core.model import Campaign
from dialerd.core.settings import LIST_SETTINGS, OBJECT_SETTINGS, CampaignSettings
from dialerd.dispatch.errors import FieldError, Rejected
from dialerd.dispatch.requests import Upload

_OWN = ("name", "description", "agent_id")


class CampaignIn(In):
    """A new campaign. ``agent_id`` may be left out where the tenant has a default agent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Spring renewals",
                    "agent_id": "09m4x2h3vn6pb",
                    "settings": {"concurrent_calls": 20, "timezone": "America/New_York", "max_retries": 2},
                }
            ]
        }
    )

    name: Name
    description: Description | None = None
    agent_id: Reference | None = None
    settings: CampaignSettings = CampaignSettings()


class _Form(In):
    model_config = ConfigDict(
        # A model that is made at run time has no source to find docstrings in.
        use_attribute_docstrings=False,
        json_schema_extra={
            "examples": [
                {
                    "name": "Spring renewals",
                    "concurrent_calls": 20,
                    "calling_days": "mon,tue,wed,thu,fri",
                    "contacts": "phone_number,first_name,plan\n+12025550143,Ann,gold\n",
                }
            ]
        },
    )


def _form_fields() -> dict[str, Any]:
    """Every field of a form: the campaign's own, its settings flat or as one value, and the file."""
    own: dict[str, Any] = {
        "name": (Name, ...),
        "description": (Description | None, None),
        "agent_id": (Reference | None, None),
        "settings": (str | None, Field(None, description="All settings as one JSON object")),
        "on_invalid": (OnInvalid | None, None),
        FILE_PART: (File | None, Field(None, description="The contacts as CSV or NDJSON")),
    }
    for name, field in CampaignSettings.model_fields.items():
        written: Any = str if name in OBJECT_SETTINGS or name in LIST_SETTINGS else field.annotation
        own[name] = (written | None, Field(None, description=field.description))
    return own


CampaignForm = create_model(
    "CampaignForm",
    __base__=_Form,
    __doc__="A new campaign as a form. A list is JSON or separated by commas; an object is JSON.",
    **_form_fields(),
)
"""For the OpenAPI document: what a form says is read by the same models as JSON is."""


class CampaignPatch(Change):
    """What is to change; what is left out stays, each setting by itself. A setting that is null is taken away."""

    name: Annotated[Name | None, NotNull()] = None
    description: Description | None = None
    agent_id: Annotated[Reference | None, NotNull()] = None
    settings: Annotated[CampaignSettings | None, NotNull()] = None

    def over(self, campaign: Campaign) -> Campaign:
        """The campaign as it is to be. Raises Rejected: where only together its settings do not fit, among others."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"settings", "agent_id"}}
        if self.agent_id is not None:
            if (agent_id := read_id(self.agent_id)) is None:
                raise refuse(AGENT_UNKNOWN)
            given["agent_id"] = agent_id
        if self.settings is not None:
            given["settings"] = settings_over(campaign.settings.to_json(), self.settings, CampaignSettings.stored)
        return replace(campaign, **given)


def settings_over(
    known: Mapping[str, Any],
    given: CampaignSettings,
    make: Callable[[Mapping[str, Any]], CampaignSettings] = CampaignSettings.model_validate,
) -> CampaignSettings:
    """Settings that were sent, over what is known. Raises Rejected where only together they do not fit."""
    try:
        return make({**known, **given.model_dump(mode="json", exclude_unset=True)})
    except ValidationError as error:
        raise unfit(field_errors(error, prefix="settings")) from None


@dataclass(frozen=True, slots=True)
class NewCampaignRequest:
    """What was asked for, in either form."""

    campaign: CampaignIn
    upload: Upload | None = None
    flat: frozenset[str] = frozenset()
    """The settings that came as form values of their own names."""

    def settings_over(self, defaults: Mapping[str, Any]) -> CampaignSettings:
        """The settings, over the tenant's defaults. Raises Rejected where only together they do not fit."""
        return settings_over(defaults, self.campaign.settings)

    def place_of(self, setting: str) -> str:
        """Where the client sent a setting."""
        return setting if setting in self.flat else f"settings.{setting}"


def settings_from_values(values: Mapping[str, str], defaults: Mapping[str, Any]) -> CampaignSettings:
    """Settings that were written as the values of a form, over defaults. Raises Rejected, with each wrong one."""
    if unknown := values.keys() - CampaignSettings.model_fields:
        raise unfit([FieldError(name, "is not a setting of a campaign") for name in sorted(unknown)])
    return _from_form(Form(values={"name": "-", **values})).settings_over(defaults)


class CampaignBody:
    """Reads both forms of a new campaign."""

    def __init__(self, model: type[CampaignIn]) -> None:
        self._json = JsonBody(model)

    @property
    def media(self) -> dict[str, type[BaseModel] | None]:
        return {**self._json.media, MULTIPART: CampaignForm}

    @contextlib.asynccontextmanager
    async def open(self, raw: web.Request, limits: Limits) -> AsyncIterator[NewCampaignRequest]:
        if expect_media(raw, (JSON, MULTIPART)) == JSON:
            async with self._json.parse(raw, limits, NewCampaignRequest) as asked:
                yield asked
            return
        async with read_form(raw, limits) as form:
            yield _from_form(form)


def _from_form(form: Form) -> NewCampaignRequest:
    values = dict(form.values)
    on_invalid = values.pop("on_invalid", None)
    whole = _json_object("settings", values.pop("settings", "{}"))
    own = {name: values.pop(name) for name in _OWN if name in values}
    known = {name: value for name, value in values.items() if name in CampaignSettings.model_fields}
    errors = [FieldError(name, "is not a known field") for name in values.keys() - known.keys()]
    errors += [FieldError(name, "is in the settings, too") for name in known.keys() & whole.keys()]
    if FILE_PART in form.names and form.file is None:
        errors.append(FieldError(FILE_PART, "must be a file"))
    if errors:
        raise unfit(sorted(errors, key=lambda each: each.field))
    flat = {name: _setting(name, value) for name, value in known.items()}
    body = {**own, "settings": whole | flat}
    expect_few(body)
    try:
        campaign = CampaignIn.model_validate(body)
    except ValidationError as error:
        raise unfit(_flattened(field_errors(error), flat)) from None
    if unclean := first_errors(control_characters(body)):
        raise unfit(_flattened(unclean, flat))
    return NewCampaignRequest(campaign, form_upload(form, OnInvalid.of(on_invalid)), frozenset(flat))


def _setting(name: str, value: str) -> Any:
    """A setting's form value: lists may be JSON or separated by commas, objects are JSON, the rest is as it is."""
    if name in OBJECT_SETTINGS:
        return _json_object(name, value)
    if name in LIST_SETTINGS:
        return _json(name, value) if value.lstrip().startswith("[") else [each.strip() for each in value.split(",")]
    return value


def _json_object(name: str, text: str) -> dict[str, Any]:
    value = _json(name, text)
    if not isinstance(value, dict):
        raise unfit([FieldError(name, "must be a JSON object")])
    return value


def _json(name: str, text: str) -> Any:
    try:
        return parse(text.encode())
    except Rejected:
        raise unfit([FieldError(name, "must be JSON")]) from None


def _flattened(errors: list[FieldError], flat: Mapping[str, Any]) -> list[FieldError]:
    """Name a setting as it was sent."""
    found = []
    for each in errors:
        inner = each.field.removeprefix("settings.")
        sent_flat = inner.partition(".")[0] in flat and inner != each.field
        found.append(FieldError(inner, each.message) if sent_flat else each)
    return found
