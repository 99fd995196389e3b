"""The links to the PBXs that are configured: each has a driver, which is made, changed and let go of here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from dialerd.clock import Clock
from dialerd.config import Config, PbxConfig
from dialerd.pbx.asterisk import AsteriskDriver, AsteriskSettings
from dialerd.pbx.driver import PbxDriver
from dialerd.pbx.esl_link import EslSettings
from dialerd.pbx.freeswitch import FreeSwitchDriver
from dialerd.pbx.simulated import SimulatedDriver, SimulatedPbx
from dialerd.telemetry.metrics import Metrics

Make = Callable[[str, PbxConfig, Mapping[str, str], Clock], PbxDriver]
"""Makes the driver of a PBX from its name, its configuration and the dial strings of its trunks."""


class Links:
    """The drivers by the names of their PBXs, those of PBXs that left the configuration included, until let go of."""

    def __init__(self, clock: Clock, metrics: Metrics, make: Make | None = None) -> None:
        self._clock = clock
        self._metrics = metrics
        self._make = make or make_driver
        self.drivers: dict[str, PbxDriver] = {}
        self.made_of: dict[str, PbxConfig] = {}
        """What each driver was made of, or changed to since."""

    def take_up(self, config: Config) -> list[str]:
        """Make drivers of the PBXs that are new, and change the others; returns the names of those that were made.

        A driver that was changed uses its settings from its next connection on.
        """
        made = [name for name in config.pbx if name not in self.drivers]
        for name, pbx in config.pbx.items():
            if name in made:
                self.drivers[name] = self._make(name, pbx, dials_of(config, name), self._clock)
                self._count(name)
            else:
                self._change(name, pbx)
            self.made_of[name] = pbx
        return made

    async def let_go(self, name: str) -> None:
        """Close the link to a PBX, and forget it."""
        del self.made_of[name]
        self._metrics.unwatch_link(name)
        await self.drivers.pop(name).stop()

    async def stop(self) -> None:
        """Close all links, and forget none: whoever asks is told that they are stopped."""
        for driver in tuple(self.drivers.values()):
            await driver.stop()

    def _change(self, name: str, pbx: PbxConfig) -> None:
        if pbx == self.made_of[name]:
            return
        driver = self.drivers[name]
        if isinstance(driver, AsteriskDriver):
            driver.use(asterisk_settings(pbx))
        elif isinstance(driver, FreeSwitchDriver):
            driver.use(esl_settings(pbx))

    def _count(self, name: str) -> None:
        driver = self.drivers[name]
        if isinstance(driver, AsteriskDriver | FreeSwitchDriver):
            self._metrics.watch_link(name, functools.partial(getattr, driver, "counters"))


def dials_of(config: Config, pbx: str) -> dict[str, str]:
    """The dial strings of a PBX's trunks, by their names."""
    return {trunk.id: trunk.dial for trunk in config.trunks() if trunk.pbx == pbx}


def make_driver(name: str, pbx: PbxConfig, trunks: Mapping[str, str], clock: Clock) -> PbxDriver:
    """Make the driver of a PBX. ``trunks``: the dial strings of its trunks, by their names."""
    if pbx.driver == "simulated":
        return SimulatedDriver(name, SimulatedPbx(pbx.simulated, clock), clock, trunks)
    if pbx.driver == "freeswitch":
        return FreeSwitchDriver(name, esl_settings(pbx), clock, trunks)
    return AsteriskDriver(name, asterisk_settings(pbx), clock, trunks)


def asterisk_settings(pbx: PbxConfig) -> AsteriskSettings:
    """How to reach an Asterisk, as it is configured."""
    return AsteriskSettings(
        host=pbx.host,
        port=pbx.link_port,
        username=pbx.username or "",
        secret=pbx.plain_secret,
        action_deadline=pbx.action_deadline_seconds,
        ping_every=pbx.ping_seconds,
    )


def esl_settings(pbx: PbxConfig) -> EslSettings:
    """How to reach a FreeSWITCH, as it is configured."""
    return EslSettings(
        host=pbx.host,
        port=pbx.link_port,
        secret=pbx.plain_secret,
        action_deadline=pbx.action_deadline_seconds,
        ping_every=pbx.ping_seconds,
    )
