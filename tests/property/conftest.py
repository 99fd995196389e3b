"""How the property tests run: no deadline per example, for the machines that run them are shared and noisy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("dialerd", deadline=None, print_blob=True)
settings.load_profile("dialerd")
