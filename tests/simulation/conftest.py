"""What all simulations share."""

from __future__ import annotations

from tests.support.virtual import virtual

__all__ = ["virtual"]
