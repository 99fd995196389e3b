"""Webhooks as values: who is told of what, what became of each delivery, and when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

RETRY_FOR = timedelta(days=1)
"""How long a delivery is tried, and how long an endpoint may fail before it is switched off."""
OVERLAP = timedelta(days=1)
"""How long a replaced secret still signs beside the new one."""
_FIRST, _FACTOR = 5.0, 3.0
LONGEST, LONGEST_PROBE = 3600.0, 900.0
"""Seconds between two attempts of a delivery, and between two probes of an endpoint that fails altogether."""


class WebhookStatus(StrEnum):
    """Whether an endpoint is told of anything."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class DeliveryStatus(StrEnum):
    """What became of the delivery of an event to an endpoint."""

    RETRYING = "retrying"
    WAITING = "waiting"
    """An earlier one of the same contact is not delivered yet."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """Given up, after a day or because the endpoint was switched off."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint of a tenant, or of one of its campaigns."""

    id: int
    tenant: str
    campaign_id: int | None
    url: str
    description: str | None
    kinds: frozenset[str]
    """The kinds of events that it is told of; none: all."""
    status: WebhookStatus
    disabled_reason: str | None
    secret: str
    old_secret: str | None
    old_secret_until: datetime | None
    position: int
    """Every event up to this number is settled, or has a delivery of its own in the store."""
    failing_since: datetime | None
    """The first failure after the last success."""
    created_at: datetime

    def wants(self, tenant: str | None, campaign_id: int, kind: str) -> bool:
        """Whether it is to be told of an event."""
        if tenant != self.tenant or (self.campaign_id is not None and campaign_id != self.campaign_id):
            return False
        return not self.kinds or kind in self.kinds

    def secrets(self, now: datetime) -> tuple[str, ...]:
        """The secrets that sign now, the newest first."""
        if self.old_secret is None or self.old_secret_until is None or now >= self.old_secret_until:
            return (self.secret,)
        return (self.secret, self.old_secret)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to an endpoint."""

    webhook_id: int
    seq: int
    """The event's number."""
    campaign_id: int
    contact_id: int | None
    kind: str
    status: DeliveryStatus
    attempts: int
    status_code: int | None
    """Of the last answer; None: there was none."""
    error: str | None
    created_at: datetime
    """When it was first tried, or had to wait."""
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None


def delay(failures: int, chance: float, longest: float = LONGEST) -> float:
    """Seconds until the next attempt after so many failures: 5, 15, 45 …, a fifth more or less by ``chance``."""
    # The exponent is bounded before the power: a float has an end.
    plain = min(longest, _FIRST * _FACTOR ** min(max(failures, 1) - 1, 20))
    return plain * (0.8 + 0.4 * chance)
