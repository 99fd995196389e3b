"""Python's collector of garbage, kept from stopping the event loop.

What the daemon makes is nearly always freed by its reference counts. Python's own thresholds (700, 10, 10) let the
collector walk through all that lives every few seconds: with 10,000 connections open that stopped the loop for 0.3 s
each time.
"""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (10_000, 20, 100)


def relax() -> None:
    """Let the collector look seldom; for the whole process, at its beginning."""
    gc.set_threshold(*_THRESHOLDS)


def settle() -> None:
    """What lives now stays: free what does not, and leave the rest out of all that is looked through from now on."""
    gc.collect()
    gc.freeze()
