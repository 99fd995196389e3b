"""What a standby refuses: whatever would write or dial, while another daemon dials from the store."""

from __future__ import annotations

from aiohttp import web

from dialerd.api.problems import STANDBY, Refused, refuse
from dialerd.dispatch.standby import Standby
from dialerd.store.errors import StoreNotReady

_RETRY = {"Retry-After": "5"}


HEADER = "Dialerd-Standby"
"""Tells in each answer of a standby that it is one."""


async def mark(_raw: web.Request, response: web.StreamResponse) -> None:
    """Put the header on (a signal of aiohttp's)."""
    response.headers[HEADER] = "true"


async def look(standby: Standby) -> None:
    """Let a request see what the store holds now. Raises Rejected where it cannot be read as it is, StoreError."""
    try:
        await standby.look()
    except StoreNotReady as error:
        raise refuse(STANDBY, f"{standby.reason}; {error}", _RETRY) from None


def writes(standby: Standby) -> Refused:
    """The refusal of a request that a standby does not serve."""
    return refuse(STANDBY, standby.reason, _RETRY)
