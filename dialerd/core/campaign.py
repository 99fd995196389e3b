"""The campaign's state machine, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from dialerd.core.model import CampaignStatus as S


class CampaignEvent(StrEnum):
    """What can happen to a campaign."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    FINISH = "finish"
    """Every contact is processed and no callback is pending."""
    EXPIRE = "expire"
    """``end_at`` has come."""


TRANSITIONS: Mapping[tuple[S, CampaignEvent], S] = MappingProxyType(
    {
        (S.DRAFT, CampaignEvent.START): S.ACTIVE,
        (S.PAUSED, CampaignEvent.START): S.ACTIVE,
        (S.ACTIVE, CampaignEvent.PAUSE): S.PAUSED,
        (S.PAUSED, CampaignEvent.RESUME): S.ACTIVE,
        (S.DRAFT, CampaignEvent.STOP): S.CANCELLED,
        (S.ACTIVE, CampaignEvent.STOP): S.CANCELLED,
        (S.PAUSED, CampaignEvent.STOP): S.CANCELLED,
        (S.ACTIVE, CampaignEvent.FINISH): S.COMPLETED,
        (S.ACTIVE, CampaignEvent.EXPIRE): S.COMPLETED,
        (S.PAUSED, CampaignEvent.EXPIRE): S.COMPLETED,
    }
)

FINISHED: frozenset[S] = frozenset({S.COMPLETED, S.CANCELLED})
"""Nothing brings a campaign back from here."""
