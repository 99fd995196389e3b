"""Foretells when campaigns will be through."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.clock import Clock
from dialerd.core.forecast import completion
from dialerd.core.model import Campaign, CampaignStatus, ContactStatus
from dialerd.core.windows import window
from dialerd.dispatch.dispatcher import Dispatcher
from dialerd.store import contact_due
from dialerd.store.campaigns import CampaignStats


class Forecasts:
    """From the rate at which contacts ended in the last minutes, the retries that wait, and the hours ahead."""

    def __init__(self, dispatcher: Dispatcher, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._clock = clock

    async def completion(self, conn: AsyncConnection, campaign: Campaign, stats: CampaignStats) -> datetime | None:
        """When an active campaign will be through at its present rate; None where that is not known.

        Retries yet to come are foretold only as far as the rate, which they have slowed down already, knows of them.
        """
        settings, pace = campaign.settings, self._dispatcher.pace(campaign.id)
        if campaign.status is not CampaignStatus.ACTIVE or settings.keep_open or pace is None:
            return None
        now = self._clock.now()
        rate = pace.per_second(now.mono, dialing=window(settings, (), now.wall).open)
        if not rate:
            return None
        left = stats.contacts[ContactStatus.PENDING] + stats.in_flight
        last_due = await contact_due.last_due(conn, campaign.id)
        return completion(settings, now.wall, left / rate, last_due or now.wall)
