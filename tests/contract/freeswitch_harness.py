"""FreeSWITCH in the contract suite: its part played by a peer from recordings, or a real one where somebody has it.

A real one is named by ``FREESWITCH_ESL=host:port:password`` (``make test-freeswitch``). It needs what
``freeswitch-conf/`` gives, and in its context ``dialerd`` an extension ``hold`` that keeps an answered call (``park``):
of two contexts of one name FreeSWITCH sees the first alone. Further gateways ``trunk`` and ``carrier-a`` whose far end
behaves by the last two digits of the number as the lab's does (tests/lab/far_end.py), a gateway ``dead`` that is pinged
and down, none named ``nocontact``, and a mod_callcenter queue ``lab@default`` with an agent who answers. The suite
hangs up nothing but its own calls, and leaves none of them behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dialerd.clock import Clock, SystemClock
from dialerd.pbx.driver import PbxDriver, Place
from dialerd.pbx.esl_link import EslSettings
from dialerd.pbx.freeswitch import FreeSwitchDriver
from tests.contract.pbx_harness import SOON, Harness, Rig, Scenario, Traits, play
from tests.fakes.esl_peer import SECRET, EslPeer, esl_peer
from tests.fakes.proxy import Proxy
from tests.support.esl_observer import EslObserver
from tests.support.recorder import Recorder


class FreeSwitchRig(Rig):
    """A FreeSWITCH behind a proxy."""

    traits = Traits(keeps_results=False, freeswitch_causes=True)
    hold = Place(context="dialerd", exten="hold")
    queue = Place(queue="lab@default")

    def __init__(self, clock: Clock, proxy: Proxy, secret: str, batch: int) -> None:
        super().__init__(clock, batch)
        self._proxy = proxy
        self._secret = secret

    def dial(self, number: str, trunk: str) -> str:
        return f"sofia/gateway/{trunk}/{number}"

    def make_driver(self, *, admitted: bool) -> PbxDriver:
        settings = EslSettings(
            host=self._proxy.host,
            port=self._proxy.port,
            secret=self._secret if admitted else "wrong",
            action_deadline=self.receipt_deadline,
            ping_every=0.5,
            ping_deadline=2.0,
            retry_first=0.1,
            retry_most=0.5,
        )
        return FreeSwitchDriver("contract", settings, self.clock)

    async def up(self) -> tuple[PbxDriver, Recorder]:
        driver, recorder = await super().up()
        # The driver asks once whether FreeSWITCH knows the place; an order that stops at that was surely not sent.
        await recorder.ended(await self.place(driver, recorder, self.order("10")), SOON)
        return driver, recorder

    async def cut_link(self) -> None:
        self._proxy.cut()

    async def cut_link_inside_message(self) -> None:
        self._proxy.cut_inside_message()  # the next answer to a ping, at the latest

    async def hold_link(self) -> None:
        self._proxy.hold()

    async def resume_link(self) -> None:
        self._proxy.resume()

    async def restore_link(self) -> None:
        self._proxy.restore()


class PlayedRig(FreeSwitchRig):
    """FreeSWITCH's part is played by a peer: a replay of recordings, not a FreeSWITCH."""

    def __init__(self, clock: Clock, peer: EslPeer, proxy: Proxy) -> None:
        super().__init__(clock, proxy, SECRET, batch=0)
        self._peer = peer

    async def kill_pbx(self) -> None:
        await self._peer.kill()

    async def boot_pbx(self) -> None:
        await self._peer.boot()

    async def far_end_count(self, call_id: str) -> int:
        return sum(call.call_id == call_id for call in self._peer.calls.far_end)

    async def far_end_over(self, call_id: str) -> bool:
        calls = [call for call in self._peer.calls.far_end if call.call_id == call_id]
        return bool(calls) and all(call.over for call in calls)


class RealRig(FreeSwitchRig):
    """A real FreeSWITCH, whose own channels stand for what its far end sees."""

    at_once = 18  # its own limit is 30 sessions a second, unless somebody raised it

    def __init__(self, clock: Clock, observer: EslObserver, proxy: Proxy, secret: str, batch: int) -> None:
        super().__init__(clock, proxy, secret, batch)
        self._observer = observer

    async def kill_pbx(self) -> None:
        pytest.skip("somebody's FreeSWITCH is not killed")

    async def boot_pbx(self) -> None:
        raise AssertionError("it was not killed")

    async def far_end_count(self, call_id: str) -> int:
        await self._observer.hear_of(call_id)
        return self._observer.made.count(call_id)

    async def far_end_over(self, call_id: str) -> bool:
        return call_id in self._observer.over

    async def close(self) -> None:
        """Stop the drivers, and end what they could not: the next scenario has the same FreeSWITCH."""
        await super().close()
        for call_id in self._numbers:
            await self._observer.end(call_id)


class PlayedFreeSwitchHarness(Harness):
    """Runs each scenario on a played FreeSWITCH of its own."""

    def run(self, scenario: Scenario) -> None:
        asyncio.run(play(scenario, self._rig()))

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[Rig]:
        clock = SystemClock()
        async with esl_peer(clock) as peer, Proxy("127.0.0.1", peer.port) as proxy:
            yield PlayedRig(clock, peer, proxy)


class RealFreeSwitchHarness(Harness):
    """Runs scenarios on one real FreeSWITCH, one after the other; the numbers of each run are its own."""

    def __init__(self, address: str) -> None:
        host, port, self._secret = address.split(":", 2)
        self._host, self._port = host, int(port)
        self._runs = 0

    def run(self, scenario: Scenario) -> None:
        self._runs += 1
        asyncio.run(play(scenario, self._rig(self._runs)))

    @asynccontextmanager
    async def _rig(self, batch: int) -> AsyncIterator[Rig]:
        async with (
            EslObserver(self._host, self._port, self._secret) as observer,
            Proxy(self._host, self._port) as proxy,
        ):
            yield RealRig(SystemClock(), observer, proxy, self._secret, batch)
