"""What can go wrong with the store."""

from __future__ import annotations


class StoreError(Exception):
    """The store failed; what was asked changed nothing."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        """The same write would fail again (a constraint), so that it is useless to repeat it."""


class StoreTakenOver(StoreError):
    """Another daemon dials from this store now: nothing of ours may be written any more."""


class StoreNotReady(StoreError):
    """The store's schema is not the one this version needs."""
