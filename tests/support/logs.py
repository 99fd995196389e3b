"""Leaves the logs as a test found them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from dialerd.telemetry.logs import QUIET_LIBRARIES


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """For tests that configure the logs: afterwards they go where they went before."""
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    libraries = {name: logging.getLogger(name).level for name in QUIET_LIBRARIES}
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configuration)
    for name, their_level in libraries.items():
        logging.getLogger(name).setLevel(their_level)
