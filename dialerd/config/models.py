"""The configuration as frozen models: every key, its unit, its default and its own bounds."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, Strict, StringConstraints
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dialerd.core import model, phone
from dialerd.core.places import AllowedPlaces, ways_out
from dialerd.core.settings import MOST_CALLER_IDS, MOST_PREFIXES, MOST_TENANT_TRUNKS, CampaignSettings, Once
from dialerd.pbx.callees import DEFAULT_SHARES, SimulatedSettings

_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})")
_SQLITE_FILE = re.compile(r"sqlite:///.*[^/]")
_POSTGRES = re.compile(r"postgresql://[^/?#\s]*/[^/?#\s]+(\?[^#\s]*)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_PREFIX = re.compile(r"\+[1-9][0-9]{0,14}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_APPLICATION = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_CONTEXT = re.compile(r"[A-Za-z0-9_.*#+-]{1,79}")
HOME_PORT = {"asterisk": 5038, "freeswitch": 8021, "simulated": 0}
"""The port of each driver's control link where the configuration names none (manager.conf, event_socket.conf)."""


def _listen(value: str) -> str:
    found = _LISTEN.fullmatch(value)
    if not found or int(found["port"]) > 65535:
        raise ValueError("must be an address and a port, such as 127.0.0.1:8088 or [::1]:8088")
    return value


def _store_url(value: str) -> str:
    """Its error repeats no part of the URL, which may hold a password."""
    if value.startswith("postgres"):
        if not _POSTGRES.fullmatch(value):
            raise ValueError(
                "must name a database of PostgreSQL, such as postgresql://dialerd:password@localhost/dialerd"
            )
    elif not _SQLITE_FILE.fullmatch(value) or value.endswith(":memory:"):
        raise ValueError(
            "must name a SQLite file, such as sqlite:////var/lib/dialerd/dialerd.db, or a database of PostgreSQL"
        )
    return value


def _caller_id(value: str) -> str:
    phone.digits(value)
    return value


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise ValueError("must be the beginning of a number in E.164, such as +1 or +4420")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name has letters, digits, - and _ only, and begins with a letter or a digit; 63 at most")
    return value


def _one_line(value: str) -> str:
    if not value or _CONTROL.search(value):
        raise ValueError("must be a text without line breaks or other control characters, and not empty")
    return value


def _application(value: str) -> str:
    if not _APPLICATION.fullmatch(value):
        raise ValueError("must be the name of a dialplan application alone, such as Playback")
    return value


def _context(value: str) -> str:
    if not _CONTEXT.fullmatch(value):
        raise ValueError("must be the name of a dialplan context alone, such as dialerd")
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError("must be a network, such as 10.0.0.0/8, 192.168.7.20/32 or fd00::/8") from None


def _simulated() -> SimulatedSettings:
    # The default shares are a read-only view, which pydantic cannot write out.
    return SimulatedSettings(shares=dict(DEFAULT_SHARES))


Text = Annotated[str, StringConstraints(max_length=4096)]
Name = Annotated[Text, AfterValidator(_name)]
Line = Annotated[Text, AfterValidator(_one_line)]
Region = Annotated[Text, AfterValidator(phone.check_region)]
CallerId = Annotated[Text, AfterValidator(_caller_id)]
Prefix = Annotated[Text, AfterValidator(_prefix)]
CallerIds = Annotated[tuple[CallerId, ...], Field(max_length=MOST_CALLER_IDS), Once]
Count = Annotated[int, Strict(), Field(ge=1, le=10**9)]
Rate = Annotated[float, Strict(), Field(gt=0, le=10_000)]
Slots = Annotated[int, Strict(), Field(gt=0, le=1_000_000)]
Seconds = Annotated[float, Strict(), Field(gt=0, le=3600)]


class Section(BaseModel):
    """A table of the file. No key passes unknown, and no error repeats a value that may be a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ServerConfig(Section):
    """``[server]``: the REST API, the event streams, /metrics and the health pages."""

    listen: Annotated[Text, AfterValidator(_listen)] = "127.0.0.1:8088"
    """The address and TCP port of the API; port 0 lets the system choose."""
    max_body_bytes: Annotated[int, Strict(), Field(ge=1024, le=2**40)] = 256 * 2**20
    """The largest request, an uploaded contact list included."""
    upload_folder: Path | None = None
    """Where uploads are kept while they are read; None: beside a SQLite store, by its name with ``-uploads``; else
    ``uploads`` in the unit's ``StateDirectory``, or a folder among the temporary files."""
    tls_certificate: Path | None = None
    """PEM file of the server's certificate, and of those between it and its authority; None: plain HTTP."""
    tls_key: Path | None = None
    """PEM file of its private key, without a passphrase."""

    @property
    def host(self) -> str:
        """The address to listen on, an IPv6 address without its brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port to listen on; 0 lets the system choose."""
        return int(self.listen.rpartition(":")[2])


class StoreConfig(Section):
    """``[store]``: where everything is kept."""

    url: Annotated[Text, AfterValidator(_store_url), Field(repr=False)] = "sqlite:////var/lib/dialerd/dialerd.db"
    """The SQLite file; four slashes: a path from the root."""


class PbxConfig(Section):
    """``[pbx.NAME]``: one PBX, its control link and the limits over all its trunks together."""

    driver: Literal["asterisk", "freeswitch", "simulated"]
    """``simulated`` calls nobody: its callees are imagined."""
    host: Line = "127.0.0.1"
    """Where its control link (AMI, or the event socket) listens."""
    port: Annotated[int, Strict(), Field(ge=1, le=65535)] | None = None
    username: Line | None = None
    """Of the AMI user; FreeSWITCH's event socket has none."""
    secret: Annotated[SecretStr, Field(max_length=1000)] | None = None
    """Read from ``secret_file`` where that is given."""
    secret_file: Path | None = None
    """A file whose only line is the secret."""
    max_calls_per_second: Rate
    max_channels: Slots
    action_deadline_seconds: Seconds = 10.0
    """How long the PBX may take to answer one order or question; then an originate is in doubt."""
    ping_seconds: Seconds = 10.0
    """Between two signs of life that we ask the link for."""
    simulated: SimulatedSettings = Field(default_factory=_simulated)

    @property
    def link_port(self) -> int:
        """The port of the control link: the one given, or the driver's usual one."""
        return self.port if self.port is not None else HOME_PORT[self.driver]

    @property
    def plain_secret(self) -> str:
        """The secret as the PBX is told it; empty where none is given."""
        return "" if self.secret is None else self.secret.get_secret_value()


class TrunkConfig(Section):
    """``[trunk.NAME]``: a way out through one PBX."""

    pbx: Text
    """The NAME of its ``[pbx.NAME]``."""
    dial: Annotated[Text, AfterValidator(phone.check_template)]
    """The dial string. Of +12025550100, ``{number}`` is 12025550100, ``{e164}`` the same with its plus, ``{national}``
    2025550100. Asterisk: ``PJSIP/{number}@carrier-a``, or ``Local/{number}@from-internal`` by routes of its own
    dialplan; FreeSWITCH: ``sofia/gateway/carrier-a/{number}``, or ``loopback/{number}/dialerd-out``."""
    max_calls_per_second: Rate
    """Call attempts sent in any one second."""
    max_channels: Slots
    """Calls at once, ringing included."""
    reserved_channels: Annotated[int, Strict(), Field(ge=0, le=1_000_000)] = 0
    """Of ``max_channels``, how many are kept free for inbound calls."""
    caller_ids: CallerIds = ()
    caller_id_format: phone.NumberFormat = "e164"
    suspend_after: Annotated[int, Strict(), Field(ge=2, le=1000)] = 20
    """Failures in a row after which it gets no more calls but probes."""
    probe_seconds: Seconds = 8.0
    """Between two calls that try a suspended trunk."""


class TenantConfig(Section):
    """``[tenant.NAME]``: a customer of the dialer."""

    max_calls_per_second: Rate
    """Over all its campaigns."""
    max_concurrent_calls: Slots
    """Calls at once over all its campaigns, ringing included."""
    trunks: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST_TENANT_TRUNKS)]
    default_agent: Line | None = None
    default_region: Region | None = None
    weight: Annotated[float, Strict(), Field(gt=0, le=1000)] = 1.0
    """The tenant's share of a trunk that is scarce, beside the other tenants'."""
    caller_ids: CallerIds = ()
    """The numbers that it owns and may show; none: those of its trunks."""
    allowed_prefixes: Annotated[tuple[Prefix, ...], Field(max_length=MOST_PREFIXES), Once] = ()
    """Beginnings of the numbers that it may dial; none: every number."""
    max_calls_per_day: Count | None = None
    """Call attempts of all its campaigns in a day (UTC)."""
    max_calls_per_number: Count | None = None
    """Call attempts to one number, over all its campaigns, in any ``number_period_hours``."""
    number_period_hours: Annotated[float, Strict(), Field(gt=0, le=8784)] = 168.0
    """The rolling period of ``max_calls_per_number``."""
    settings: CampaignSettings = CampaignSettings()
    """Defaults of its campaigns' settings."""


class NumbersConfig(Section):
    """``[numbers]``: which phone numbers are accepted, and how national ones are read."""

    validation: Annotated[phone.Validation, Field(alias="validate")] = "possible"
    default_region: Region | None = None


class AgentsConfig(Section):
    """``[agents]``: what answered calls may be handed to."""

    applications: Annotated[tuple[Annotated[Text, AfterValidator(_application)], ...], Field(max_length=1000)] = ()
    """The dialplan applications that an agent of kind ``application`` may name. None by default: some run commands."""
    contexts: Annotated[tuple[Annotated[Text, AfterValidator(_context)], ...], Field(max_length=1000)] | None = None
    """The dialplan contexts that an agent of kind ``dialplan`` may name. None: every one but those that trunks dial
    through and ``dialerd-out``, from which answered calls would go on to any number."""


class DispatchConfig(Section):
    """``[dispatch]``: the pace of the dispatcher."""

    cps_guard_ms: Annotated[int, Strict(), Field(ge=0, le=1000)] = 60
    """Sends n and n + rate lie more than one second and this apart: what the way to the carrier may bunch up."""
    setup_seconds: Seconds = 10.0
    """Allowed from the originate to the first ring; the PBX itself gives up after this and the answer timeout."""
    drain_seconds: Annotated[float, Strict(), Field(ge=0, le=86400)] = 30.0
    """How long a stopping daemon goes on following its calls before it leaves them to the PBX."""


class WebhooksConfig(Section):
    """``[webhooks]``: where webhooks may go, and how many at once."""

    allow_private: Annotated[tuple[Annotated[Text, AfterValidator(_network)], ...], Field(max_length=1000)] = ()
    """Networks that webhooks may reach although they are not public."""
    allow_http: Annotated[bool, Strict()] = False
    """Without TLS everybody on the way reads along, and the signature protects from changes only."""
    timeout_seconds: Annotated[float, Strict(), Field(gt=0, le=60)] = 10.0
    """For one attempt: name, connection, TLS and answer."""
    concurrency: Annotated[int, Strict(), Field(ge=1, le=100)] = 8
    """Attempts at once of one webhook."""
    max_concurrency: Annotated[int, Strict(), Field(ge=1, le=1000)] = 64
    """Attempts at once of all webhooks together."""


def _days_of_events(value: int) -> int:
    if value == 1:
        raise ValueError("must be 0 (for ever) or 2 days at least: webhooks are told for a day")
    return value


_Days = Annotated[int, Strict(), Field(ge=0, le=36_500)]


class RetentionConfig(Section):
    """``[retention]``: for how many days what is kept; 0: for ever. Older things are removed a little at a time."""

    events_days: Annotated[_Days, AfterValidator(_days_of_events)] = 90
    """Streams and webhooks can go on after an event as long as it is kept; calls and results do not need events."""
    finished_campaigns_days: _Days = 0
    """Completed, cancelled and deleted campaigns, with their contacts, calls and results."""
    deliveries_days: _Days = 14
    """What became of the deliveries of webhooks."""


class LoggingConfig(Section):
    """``[logging]``: what is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important line that is written."""
    format: Literal["json", "console"] = "json"
    """JSON for programs, or lines for a terminal."""
    full_numbers: Annotated[bool, Strict()] = False
    """Write phone numbers in full. They are personal data; by default the middle of each is masked."""


class Config(BaseSettings):
    """The whole configuration. Made by :func:`dialerd.config.load`, which also checks one table against another."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    server: ServerConfig = ServerConfig()
    store: StoreConfig = StoreConfig()
    numbers: NumbersConfig = NumbersConfig()
    agents: AgentsConfig = AgentsConfig()
    dispatch: DispatchConfig = DispatchConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    retention: RetentionConfig = RetentionConfig()
    logging: LoggingConfig = LoggingConfig()
    pbx: Annotated[dict[Name, PbxConfig], Field(max_length=1000)] = Field(default_factory=dict)
    trunk: Annotated[dict[Name, TrunkConfig], Field(max_length=10_000)] = Field(default_factory=dict)
    tenant: Annotated[dict[Name, TenantConfig], Field(max_length=10_000)] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the values from ``load`` only: it knows the file and the environment, and which of them said what."""
        return (init_settings,)

    def pbxs(self) -> tuple[model.Pbx, ...]:
        """The PBXs as the planner sees them."""
        return tuple(
            model.Pbx(id=name, max_calls_per_second=pbx.max_calls_per_second, max_channels=pbx.max_channels)
            for name, pbx in self.pbx.items()
        )

    def trunks(self) -> tuple[model.Trunk, ...]:
        """The trunks as the planner sees them."""
        return tuple(model.Trunk(id=name, **dict(trunk)) for name, trunk in self.trunk.items())

    def places(self) -> AllowedPlaces:
        """The places that agents may name."""
        contexts = self.agents.contexts
        return AllowedPlaces(
            frozenset(self.agents.applications),
            None if contexts is None else frozenset(contexts),
            ways_out(trunk.dial for trunk in self.trunk.values()),
        )

    def tenants(self) -> tuple[model.Tenant, ...]:
        """The tenants of the file, each with the campaign settings that it sets."""
        return tuple(
            model.Tenant(
                id=name,
                **{key: value for key, value in tenant if key != "settings"},
                settings=tenant.settings.model_dump(mode="json", exclude_unset=True),
            )
            for name, tenant in self.tenant.items()
        )
