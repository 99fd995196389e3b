"""What the service manager is told: that the daemon is ready, alive, and stopping (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

import structlog

from dialerd.clock import Clock

log = structlog.get_logger(__name__)

_STATUS_EVERY = 5.0
"""Seconds between two lines of ``systemctl status``, where no watchdog asks for more."""


class ServiceManager:
    """A line to systemd. Where the daemon was not started by it, nothing is told to anybody."""

    def __init__(self, clock: Clock, environ: Mapping[str, str]) -> None:
        self._clock = clock
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with @ in the environment, and with NUL in the address (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = _watchdog_seconds(environ)

    @property
    def feed_every(self) -> float:
        """Seconds between two signs of life: a third of what the watchdog allows, so that one may come late."""
        return _STATUS_EVERY if self._watchdog is None else min(_STATUS_EVERY, self._watchdog / 3)

    def ready(self, status: str) -> None:
        """The daemon serves, and connects to its PBXs."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The daemon reads its configuration again; :meth:`ready` follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.mono() * 1e6)}")

    def stopping(self, seconds: float) -> None:
        """The daemon stops, and may take so many seconds: longer than the unit's TimeoutStopSec, if need be."""
        self._tell("STOPPING=1", "STATUS=finishing the calls in flight", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    async def feed(self, status: Callable[[], str]) -> None:
        """Give signs of life for as long as the event loop turns: one that is stuck is what the watchdog is for."""
        if not self._address:
            return
        while True:
            self._tell(*(() if self._watchdog is None else ("WATCHDOG=1",)), f"STATUS={status()}")
            await self._clock.sleep(self.feed_every)

    def _tell(self, *fields: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.setblocking(False)
                line.sendto("\n".join(fields).encode(), self._address)
        except OSError as error:
            # Not heard once is no harm; a watchdog that hears nothing at all acts by itself.
            log.warning("service_manager_not_told", reason=str(error))


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """How long the watchdog waits for a sign of life; None: there is none, or it watches another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        seconds = int(environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return None
    return seconds if seconds > 0 else None
