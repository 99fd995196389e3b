"""The limits of everybody who sets some, in one book: of trunks, PBXs, tenants, campaigns and agents."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dialerd.core.model import Agent, Call, Campaign, Pbx, Tenant, Trunk
from dialerd.core.throttle import Book, Key, Level
from dialerd.telemetry.metrics import Metrics

_MEASURED = frozenset({Level.TRUNK, Level.PBX, Level.TENANT})


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration says beyond the tables of PBXs, trunks and tenants."""

    cps_guard_seconds: float = 0.06
    setup_seconds: float = 10.0
    """Allowed for post-dial delay, on top of a campaign's answer_timeout."""


@dataclass(frozen=True, slots=True)
class Configured:
    """What the configuration names now. Whoever looks here sees each change."""

    tenants: Mapping[str, Tenant]
    trunks: Mapping[str, Trunk]
    pbxs: dict[str, Pbx]


class LimitBook:
    """Keeps :class:`dialerd.core.throttle.Book` true to the configuration, the campaigns and the agents."""

    def __init__(self, configured: Configured, guard_seconds: float, metrics: Metrics) -> None:
        self.book = Book()
        self._guard = guard_seconds
        self._configured = configured
        self._metrics = metrics
        self.take_up()
        for tenant in configured.tenants.values():
            self.tenant(tenant)
        metrics.before_render.append(self._measure)

    def take_up(self) -> None:
        """Set the limits of the trunks and PBXs of the configuration as it is now."""
        for trunk in self._configured.trunks.values():
            self._set(
                Key(Level.TRUNK, trunk.id), trunk.max_channels - trunk.reserved_channels, trunk.max_calls_per_second
            )
        for pbx in self._configured.pbxs.values():
            self._set(Key(Level.PBX, pbx.id), pbx.max_channels, pbx.max_calls_per_second)

    def sweep(self) -> bool:
        """Forget trunks, PBXs and tenants that left the configuration; False: calls occupy some of them yet."""
        configured = self._configured
        named: dict[Level, Collection[str]] = {
            Level.TRUNK: configured.trunks,
            Level.TRUNK_PACE: configured.trunks,
            Level.PBX: configured.pbxs,
            Level.PBX_OWN: configured.pbxs,
            Level.TENANT: configured.tenants,
        }
        gone = [key for key, _ in self.book.items() if key.level in named and key.name not in named[key.level]]
        free = [key for key in gone if not self.book.get(key).used]
        for key in free:
            self.book.drop(key)
            self._metrics.forget_slots(key.level.value, str(key.name))
        return len(free) == len(gone)

    def pbx_own(self, pbx: str, max_channels: int | None, max_calls_per_second: float | None) -> None:
        """Set the ceilings of a PBX's own configuration, which bind beside ours."""
        self._set(Key(Level.PBX_OWN, pbx), max_channels, max_calls_per_second)

    def tenant(self, tenant: Tenant) -> None:
        """Set a tenant's limits."""
        self._set(Key(Level.TENANT, tenant.id), tenant.max_concurrent_calls, tenant.max_calls_per_second)

    def campaign(self, campaign: Campaign) -> None:
        """Set a campaign's limits."""
        settings = campaign.settings
        self._set(Key(Level.CAMPAIGN, campaign.id), settings.concurrent_calls, settings.max_calls_per_second)

    def drop_campaign(self, campaign_id: int, now: float) -> None:
        """Forget a campaign's limits, once none of its calls is in flight and its rate has nothing to remember."""
        self.book.drop(Key(Level.CAMPAIGN, campaign_id), now)

    def agent(self, agent: Agent) -> None:
        """Set an agent's limits."""
        self._set(Key(Level.AGENT, agent.id), agent.max_concurrent_calls, None)

    def _set(self, key: Key, slots: int | None, per_second: float | None) -> None:
        self.book.set(key, slots, per_second, self._guard)

    def _measure(self) -> None:
        for key, capacity in self.book.items():
            if key.level in _MEASURED:
                self._metrics.slots_used.labels(key.level.value, key.name).set(capacity.used)
                if capacity.slots is not None:
                    self._metrics.slots_limit.labels(key.level.value, key.name).set(capacity.slots)
                if capacity.rate is not None:
                    limit = self._metrics.calls_per_second_limit.labels(key.level.value, key.name)
                    limit.set(capacity.rate.per_second)


def keys_of(call: Call) -> Iterable[Key]:
    """The holders of limits that a call occupies."""
    yield Key(Level.TRUNK, call.trunk)
    yield Key(Level.TRUNK_PACE, call.trunk)
    yield Key(Level.PBX, call.pbx)
    yield Key(Level.PBX_OWN, call.pbx)
    yield Key(Level.TENANT, call.tenant)
    yield Key(Level.CAMPAIGN, call.campaign_id)
    if call.agent_id is not None:
        yield Key(Level.AGENT, call.agent_id)
