"""Places that tenants share: whoever holds the fewest is next, and none is lost."""

from __future__ import annotations

import asyncio
import contextlib

from dialerd.dispatch.slots import Slots

DEADLINE = 10.0


class Holders:
    """Tasks that hold a place until they are told to leave."""

    def __init__(self, most: int) -> None:
        self.slots = Slots(most)
        self.came: list[str] = []
        """Who got a place, in this order."""
        self._leave: dict[str, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, tenant: str, times: int = 1) -> None:
        """Ask for places, and let the loop turn."""
        self.tasks += [asyncio.create_task(self._hold(tenant)) for _ in range(times)]
        await self.settle()

    async def leave(self, tenant: str) -> None:
        """One of a tenant's gives its place back."""
        self._leave[tenant].pop().set()
        await self.settle()

    async def settle(self) -> None:
        """Let everybody take the steps that he can."""
        for _ in range(5):
            await asyncio.sleep(0)  # noqa: TID251 - it only gives others their turn

    async def _hold(self, tenant: str) -> None:
        async with self.slots.take(tenant):
            self.came.append(tenant)
            leave = asyncio.Event()
            self._leave.setdefault(tenant, []).append(leave)
            async with asyncio.timeout(DEADLINE):
                await leave.wait()

    async def end(self) -> None:
        """Cancel them all."""
        for each in self.tasks:
            each.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_who_holds_the_fewest_is_next_however_many_another_asks_for() -> None:
    holders = Holders(6)
    await holders.ask("many", 50)
    assert holders.came == ["many"] * 6
    await holders.ask("few", 2)
    await holders.ask("other")
    for _ in range(3):
        await holders.leave("many")
    assert holders.came[6:] == ["few", "other", "few"]
    await holders.leave("many")
    assert holders.came[9:] == ["many"], "and nobody else wants one"
    await holders.end()


async def test_who_waits_no_more_gets_none_and_loses_none() -> None:
    holders = Holders(1)
    await holders.ask("one")
    await holders.ask("two")
    await holders.ask("three")
    holders.tasks[1].cancel()
    await holders.leave("one")
    assert holders.came == ["one", "three"]
    await holders.ask("two")
    # It is given to "two", which is cancelled before it hears of that.
    holders._leave["three"].pop().set()
    await asyncio.sleep(0)  # noqa: TID251
    holders.tasks[-1].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await holders.tasks[-1]
    await holders.ask("four")
    assert holders.came[-1] == "four"
    await holders.end()
