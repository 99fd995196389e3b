"""Work in the store that has to be done and that nobody waits for: done again while the store fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from dialerd.clock import Clock
from dialerd.store.errors import StoreError

log = structlog.get_logger(__name__)

_AGAIN = 5.0
"""Seconds after which a store that fails is asked again."""


async def persist(clock: Clock, what: str, work: Callable[[], Awaitable[object]], **about: object) -> None:
    """Do a work again and again until the store takes it; it may have been done in part before.

    What the store will never take is given up at once: raises StoreError. ``about`` is logged with ``what``.
    """
    while True:
        try:
            await work()
        except StoreError as error:
            if error.permanent:
                raise
            log.error("work_put_off", what=what, **about, reason=str(error))
            await clock.sleep(_AGAIN)
        else:
            return
