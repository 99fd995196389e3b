"""What a campaign may name: agents, trunks and caller IDs of its own tenant."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import Agent, Tenant, Trunk
from dialerd.core.routing import owned_caller_ids
from dialerd.core.settings import CampaignSettings
from dialerd.dispatch.errors import FieldError, Rejected
from dialerd.store import agents


async def agent_for(conn: AsyncConnection, tenant: Tenant, agent_id: int | None) -> Agent:
    """The agent that a campaign names, or its tenant's default one.

    Raises Rejected: ``agent_not_found``, or ``invalid_request`` where there is no default.
    """
    if agent_id is not None:
        found = await agents.get(conn, tenant.id, agent_id)
    elif tenant.default_agent is not None:
        found = await agents.by_name(conn, tenant.id, tenant.default_agent)
    else:
        raise Rejected(
            "invalid_request",
            "agent_id is required: this tenant has no default agent",
            [FieldError("agent_id", "is required")],
        )
    if found is None:
        raise Rejected("agent_not_found", "there is no such agent", [FieldError("agent_id", "names no agent")])
    return found


def check_settings(tenant: Tenant, settings: CampaignSettings, trunks: Mapping[str, Trunk]) -> None:
    """Refuse trunks and caller IDs that are not the tenant's. Raises Rejected (``invalid_request``)."""
    errors = [
        FieldError("trunks", f"{name!r} is not a trunk of this tenant")
        for name in settings.trunks
        if name not in tenant.trunks
    ]
    owned = owned_caller_ids(tenant, trunks)
    errors += [
        FieldError("caller_ids", f"{number!r} is not a caller ID of this tenant")
        for number in settings.caller_ids
        if number not in owned
    ]
    if errors:
        raise Rejected("invalid_request", "the settings do not fit", errors)
