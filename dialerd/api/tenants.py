"""/tenants: those of the configuration file are shown; others are made and changed here, with a system key."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from dialerd.api.bodies import JsonBody, NoBody
from dialerd.api.context import Request
from dialerd.api.fields import Change, In, Listing, Name, NoQuery, NotNull, Out, Window, validate
from dialerd.api.problems import CONFIGURED_IN_FILE, INVALID_REQUEST, TENANT_NOT_FOUND, refuse
from dialerd.api.routes import AnyRoute, Route
from dialerd.core import phone
from dialerd.core.model import Tenant
from dialerd.core.settings import (
    MOST_CALLER_IDS,
    MOST_PREFIXES,
    MOST_TENANT_TRUNKS,
    CampaignSettings,
    NameText,
    NumberText,
    Once,
)
from dialerd.store.keys import Role

_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
_Rate = Annotated[float, Field(gt=0, le=10_000)]
_Slots = Annotated[int, Field(ge=1, le=1_000_000)]
_Trunks = Annotated[tuple[NameText, ...], Field(min_length=1, max_length=MOST_TENANT_TRUNKS), Once]
_Region = Annotated[NameText, AfterValidator(phone.check_region)]
_CallerId = Annotated[NumberText, AfterValidator(lambda value: phone.digits(value) and value)]
_Prefix = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{0,14}$")]
_CallerIds = Annotated[tuple[_CallerId, ...], Field(max_length=MOST_CALLER_IDS), Once]
_Prefixes = Annotated[tuple[_Prefix, ...], Field(max_length=MOST_PREFIXES), Once]
_Weight = Annotated[float, Field(gt=0, le=1000)]
_Count = Annotated[int, Field(ge=1, le=10**9)]
_Hours = Annotated[float, Field(gt=0, le=8784)]


class TenantPatch(Change):
    """What is to change; what is left out stays. Its settings are replaced as a whole."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"max_calls_per_second": 20.0, "max_calls_per_day": 50000}]}
    )

    max_calls_per_second: Annotated[_Rate | None, NotNull()] = None
    max_concurrent_calls: Annotated[_Slots | None, NotNull()] = None
    trunks: Annotated[_Trunks | None, NotNull()] = None
    default_agent: Name | None = None
    default_region: _Region | None = None
    weight: Annotated[_Weight | None, NotNull()] = None
    caller_ids: Annotated[_CallerIds | None, NotNull()] = None
    allowed_prefixes: Annotated[_Prefixes | None, NotNull()] = None
    max_calls_per_day: _Count | None = None
    max_calls_per_number: _Count | None = None
    number_period_hours: Annotated[_Hours | None, NotNull()] = None
    settings: Annotated[CampaignSettings | None, NotNull()] = None


class TenantIn(In):
    """A new tenant: a customer of the dialer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "acme",
                    "max_calls_per_second": 10.0,
                    "max_concurrent_calls": 100,
                    "trunks": ["carrier-a"],
                    "allowed_prefixes": ["+1"],
                    "settings": {"timezone": "America/New_York"},
                }
            ]
        }
    )

    id: _Id
    max_calls_per_second: _Rate
    max_concurrent_calls: _Slots
    trunks: _Trunks
    """Names of the configuration's trunks, in order of choice."""
    default_agent: Name | None = None
    """The name of the agent of campaigns that name none."""
    default_region: _Region | None = None
    """How national numbers are read (ISO 3166)."""
    weight: _Weight = 1.0
    """Its share of a scarce trunk, beside the other tenants'."""
    caller_ids: _CallerIds = ()
    """The numbers that it owns, E.164; none: those of its trunks."""
    allowed_prefixes: _Prefixes = ()
    """Beginnings of the numbers that it may dial; none: every number."""
    max_calls_per_day: _Count | None = None
    max_calls_per_number: _Count | None = None
    """Over all its campaigns, in any ``number_period_hours``."""
    number_period_hours: _Hours = 168.0
    settings: CampaignSettings = CampaignSettings()
    """Defaults of its campaigns' settings."""


class TenantOut(Out):
    """A tenant."""

    id: str
    max_calls_per_second: float
    max_concurrent_calls: int
    trunks: list[str]
    default_agent: str | None
    default_region: str | None
    weight: float
    caller_ids: list[str]
    allowed_prefixes: list[str]
    max_calls_per_day: int | None
    max_calls_per_number: int | None
    number_period_hours: float
    settings: CampaignSettings
    configured_in_file: bool
    """The configuration file has it: only there can it be changed."""


def render(tenant: Tenant, *, in_file: bool) -> TenantOut:
    """A tenant as the API shows it."""
    settings = CampaignSettings.stored(tenant.settings)
    return TenantOut(**_values(tenant), settings=settings, configured_in_file=in_file)


async def index(request: Request[Window, None]) -> Listing[TenantOut]:
    """List the tenants by their ids."""
    window, tenants = request.query, request.api.tenants
    ids = [each for each in sorted(tenants) if window.after is None or each > window.after]
    part = [_shown(request, each) for each in ids[window.offset : window.offset + window.limit + 1]]
    return Listing[TenantOut].of(part, window, len(tenants), [each.id for each in part])


async def create(request: Request[NoQuery, TenantIn]) -> TenantOut:
    """Make a tenant. It takes effect at once."""
    await request.api.tenants.create(_tenant(request.body))
    return _shown(request, request.body.id)


async def show(request: Request[NoQuery, None]) -> TenantOut:
    """Show one tenant."""
    return _shown(request, request.raw.match_info["tenant_id"])


async def change(request: Request[NoQuery, TenantPatch]) -> TenantOut:
    """Change a tenant that was made here; the next call obeys."""
    found = request.api.tenants.get(request.raw.match_info["tenant_id"])
    if found is None:
        raise refuse(TENANT_NOT_FOUND)
    request.api.tenants.expect_not_in_file(found.id)
    before = {**_values(found), "settings": dict(found.settings)}
    given = request.body.model_dump(mode="json", exclude_unset=True)
    await request.api.tenants.change(_tenant(validate(TenantIn, before | given)))
    return _shown(request, found.id)


def _shown(request: Request[Any, Any], tenant_id: str) -> TenantOut:
    tenant = request.api.tenants.get(tenant_id)
    if tenant is None:
        raise refuse(TENANT_NOT_FOUND)
    return render(tenant, in_file=request.api.tenants.in_file(tenant_id))


def _values(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "max_calls_per_second": tenant.max_calls_per_second,
        "max_concurrent_calls": tenant.max_concurrent_calls,
        "trunks": list(tenant.trunks),
        "default_agent": tenant.default_agent,
        "default_region": tenant.default_region,
        "weight": tenant.weight,
        "caller_ids": list(tenant.caller_ids),
        "allowed_prefixes": list(tenant.allowed_prefixes),
        "max_calls_per_day": tenant.max_calls_per_day,
        "max_calls_per_number": tenant.max_calls_per_number,
        "number_period_hours": tenant.number_period_hours,
    }


def _tenant(given: TenantIn) -> Tenant:
    values = given.model_dump(exclude={"settings"})
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Tenant(**{**values, **lists}, settings=given.settings.model_dump(mode="json", exclude_unset=True))


_ONE = "/tenants/{tenant_id}"
ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/tenants", Role.SYSTEM, index, Window, NoBody(), Listing[TenantOut], 200, (INVALID_REQUEST,)),
    Route(
        "POST",
        "/tenants",
        Role.SYSTEM,
        create,
        NoQuery,
        JsonBody(TenantIn),
        TenantOut,
        201,
        (INVALID_REQUEST, CONFIGURED_IN_FILE),
    ),
    Route("GET", _ONE, Role.SYSTEM, show, NoQuery, NoBody(), TenantOut, 200, (TENANT_NOT_FOUND,)),
    Route(
        "PATCH",
        _ONE,
        Role.SYSTEM,
        change,
        NoQuery,
        JsonBody(TenantPatch),
        TenantOut,
        200,
        (INVALID_REQUEST, TENANT_NOT_FOUND, CONFIGURED_IN_FILE),
    ),
)
