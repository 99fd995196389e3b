"""Work that has to be done is done again while the store fails, and given up where it never will be taken."""

from __future__ import annotations

import pytest

from dialerd.clock import VirtualClock
from dialerd.dispatch.persistence import persist
from dialerd.store.errors import StoreError
from tests.support.virtual import Virtual


class Work:
    """Fails in these ways, one after the other, and then succeeds."""

    def __init__(self, *failures: StoreError) -> None:
        self._failures = list(failures)
        self.done = False

    async def __call__(self) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.done = True


def test_it_is_done_again_after_a_while(virtual: Virtual) -> None:
    """Found by a storm: stops, leftovers and orphans stayed as they were until the next start."""

    async def main(clock: VirtualClock) -> None:
        work = Work(StoreError("database is locked"), StoreError("disk I/O error"))
        await persist(clock, "stops", work)
        assert work.done
        assert clock.mono() == 10.0

    virtual(main)


def test_what_will_never_be_taken_is_given_up(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        with pytest.raises(StoreError, match="too large"):
            await persist(clock, "stops", Work(StoreError("too large", permanent=True)))
        assert clock.mono() == 0.0

    virtual(main)
