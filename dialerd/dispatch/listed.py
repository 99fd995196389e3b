"""The do-not-call lists between a call's commit and its sending: whoever was told that a number is listed is obeyed."""

from __future__ import annotations

import structlog

from dialerd.core.model import Call
from dialerd.store import do_not_call
from dialerd.store.db import Store
from dialerd.store.errors import StoreError

log = structlog.get_logger(__name__)


class ListWatch:
    """Counts the changes of the lists, so that a call asks the store again only where one came since its commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.version = 0
        """Grows with each change of any tenant's list, before whoever asked for it is told."""

    def changed(self) -> None:
        """Numbers were put on a list."""
        self.version += 1

    async def objection(self, call: Call) -> str | None:
        """Why a call must not go out by its tenant's list as it stands now; None: it may."""
        try:
            async with self._store.read() as conn:
                listed = await do_not_call.listed(conn, call.tenant, [call.phone_number])
        except StoreError as error:
            log.warning("do_not_call_not_asked", call_id=call.id, reason=str(error))
            return "the do-not-call list cannot be asked"
        return do_not_call.REASON if listed else None
