"""A daemon on the lab's real Asterisk, set up to be measured: no log files, no CDRs, and limits out of the way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.context import Bench
from bench.house import configuration, running
from dialerd.clock import SystemClock
from tests.integration.client import Api
from tests.integration.daemon import Daemon
from tests.lab.lab import DIALERD, Lab
from tests.lab.ledger import Ledger
from tests.lab.places import ASTERISK

GUARD = 1.06
"""A limit is kept with the default cps_guard_ms to spare: to offer a rate, the limit lies that much above it."""
MOST_CALLS = 1900
"""At once; the lab's Asterisk takes 2,000."""
_QUIET = {"logger.conf": "[general]\n[logfiles]\n", "cdr.conf": "[general]\nenable = no\n"}
_EVERY = 0.5
_clock = SystemClock()


@dataclass(slots=True)
class Desk:
    """The parts that a benchmark works with; numbers are never given twice."""

    lab: Lab
    daemon: Daemon
    api: Api
    given: int = 0

    def numbers(self, count: int, behaviour: str) -> list[str]:
        """Give numbers, without a plus, that the far end treats alike (two digits, see ``tests.lab.far_end``)."""
        first, self.given = self.given, self.given + count
        return [f"1303{20_000 + index:05d}{behaviour}" for index in range(first, first + count)]

    @property
    def asterisk_pid(self) -> int:
        return self.lab.processes[ASTERISK].pid

    async def finished(self, campaign_id: str, seconds: float) -> None:
        """Wait until a campaign is through. Asked now and then: a stream of events would cost the daemon work."""
        deadline = _clock.mono() + seconds
        while (await self.api.show(campaign_id))["status"] not in ("completed", "cancelled"):
            if _clock.mono() > deadline:
                raise TimeoutError(f"the campaign is not through after {seconds:g} s")
            await _clock.sleep(_EVERY)


class FarEnd:
    """What the far end of the lab's ``trunk`` sees from now on."""

    def __init__(self, lab: Lab) -> None:
        self._log = lab.run / "log/trunk.messages"
        self._from = self._log.stat().st_size

    def calls(self, numbers: Iterable[str]) -> Ledger:
        """Its calls to these numbers."""
        with self._log.open("rb") as log:
            log.seek(self._from)
            return Ledger.parse(log.read(), "trunk").of(numbers)

    async def over(self, numbers: list[str], seconds: float) -> Ledger:
        """Wait, at most so long, until all these were called and all calls are over; returns what was seen by then."""
        deadline = _clock.mono() + seconds
        while True:
            seen = self.calls(numbers)
            if (len(seen) >= len(numbers) and seen.all_over) or _clock.mono() > deadline:
                return seen
            await _clock.sleep(_EVERY)


@contextlib.asynccontextmanager
async def real(bench: Bench, *, channels: int = MOST_CALLS, calls_per_second: float = 2000.0) -> AsyncIterator[Desk]:
    """Run a lab and a daemon whose trunk carries so much."""
    with Lab("22") as lab:
        bench.versions.update({name: said.removeprefix(f"{name} ") for name, said in lab.versions().items()})
        _quieten(lab)

        def write(store: Path, port: int) -> str:
            return _configuration(lab, store, port, channels, calls_per_second)

        async with running(bench.folder, bench.stock, write) as (daemon, api):
            yield Desk(lab, daemon, api)


def _quieten(lab: Lab) -> None:
    """Take from Asterisk what it does beside its calls, and see that it is taken."""
    for name, text in _QUIET.items():
        (lab.run / "etc" / name).write_text(text)
    lab.cli("logger reload")
    lab.cli("module reload cdr")
    channels, cdr = lab.cli("logger show channels"), lab.cli("cdr show status")
    assert "messages" not in channels, channels
    assert "Disabled" in cdr, cdr


def _configuration(lab: Lab, store: Path, port: int, channels: int, calls_per_second: float) -> str:
    manager = {"host": lab.host, "port": lab.ports.ami, "username": DIALERD.name, "secret": DIALERD.secret}
    return configuration(
        store,
        port,
        trunk="trunk",
        channels=channels,
        calls_per_second=calls_per_second,
        pbx={"pbx.main": {"driver": "asterisk", **manager}},
    )
