"""A running daemon on a lab, with a client: what every test of the whole dialer begins with."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.client import Api
from tests.integration.daemon import Daemon, Stock, TrunkLimits, configuration
from tests.lab.lab import Lab

UNREACHABLE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class House:
    """The parts that a test works with."""

    lab: Lab
    daemon: Daemon
    api: Api


def await_unreachable(lab: Lab, endpoint: str) -> None:
    """Wait until Asterisk has found out that nobody is there; before its first try it would still send an INVITE."""
    with lab.ami() as ami:
        ami.action("PJSIPQualify", {"Endpoint": endpoint})
        found = ami.listing(
            "PJSIPShowEndpoint", {"Endpoint": endpoint}, "ContactStatusDetail", "EndpointDetailComplete"
        )
        if not any(each["Status"] == "Unreachable" for each in found):
            ami.event(
                lambda event: event.get("EndpointName") == endpoint and event.get("ContactStatus") == "Unreachable",
                seconds=UNREACHABLE_SECONDS,
            )


@contextlib.asynccontextmanager
async def house(
    lab: Lab,
    folder: Path,
    stock: Stock,
    *,
    ami: tuple[str, int] | None = None,
    limits: Mapping[str, TrunkLimits] | None = None,
    guard_ms: int = 60,
    setup_seconds: float = 5.0,
    faults: frozenset[str] = frozenset(),
) -> AsyncIterator[House]:
    """Run a daemon on a copy of the stock in ``folder``; ``ami`` is where its PBX is, if not the lab's own address.

    When the block fails, the daemon's log is printed. When it succeeds, the daemon must end well, and must have logged
    no error but those of the events named in ``faults``.
    """
    daemon = Daemon(
        folder,
        stock,
        lambda store, port: configuration(
            lab, store, port=port, ami=ami, limits=limits or {}, setup_seconds=setup_seconds, guard_ms=guard_ms
        ),
    )
    try:
        await daemon.start()
        api = Api(daemon)
        try:
            yield House(lab, daemon, api)
        finally:
            await api.close()
        assert await daemon.stop() == 0
        unexpected = [line for line in daemon.faults() if line["event"] not in faults]
        assert not unexpected, unexpected
    except BaseException:
        print(daemon.show())
        raise
    finally:
        await daemon.stop()
