"""Leaves the logs as a test found them, or silent."""

from __future__ import annotations

import contextlib
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


@contextlib.contextmanager
def silent_logs() -> Iterator[None]:
    """Within this, nothing is logged: a simulation tells by its verdict, and writing would cost more than playing."""
    configuration, pool = structlog.get_config(), logging.getLogger("sqlalchemy.pool")
    level = pool.level
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    pool.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        structlog.configure(**configuration)
        pool.setLevel(level)
