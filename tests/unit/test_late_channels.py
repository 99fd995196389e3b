"""Whose a channel is that no call in flight stands for: bounded questions to the store; nobody else's is touched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dialerd.clock import VirtualClock
from dialerd.dispatch.calls import Calls
from dialerd.dispatch.journal import Journal
from dialerd.dispatch.late import ASKED_AGAIN, LateChannels
from dialerd.pbx.driver import LinkLost
from dialerd.store import calls as stored
from dialerd.store.db import Store
from dialerd.telemetry.metrics import Metrics
from tests.support.virtual import Virtual


class Bench:
    """Late channels with everything around them in memory. ``known``: the store's calls, PBX and whether ended."""

    def __init__(self, clock: VirtualClock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.metrics = clock, metrics
        self.known: dict[str, tuple[str, bool]] = {}
        self.given_up: dict[str, str] = {}
        self.in_flight: dict[str, object] = {}
        self.questions: list[list[str]] = []
        self.hung_up: list[tuple[str, str]] = []
        self.noted: list[str] = []
        self.link_lost = False
        self.tasks: list[asyncio.Task[None]] = []
        calls = SimpleNamespace(given_up=self.given_up, get=self.in_flight.get)
        store = SimpleNamespace(read=self.read, write=self.write)
        journal = SimpleNamespace(durable=self.at_once)
        monkeypatch.setattr(stored, "ended_by_id", self.ended_by_id)
        monkeypatch.setattr(stored, "note_hangup", self.note)
        self.late = LateChannels(
            cast(Store, store),
            cast(Journal, journal),
            cast(Calls, calls),
            clock,
            metrics,
            spawn=self.spawn,
            hang_up=self.hang_up,
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        await self.clock.sleep(0.1)
        yield None

    async def write(self, work: Any) -> None:
        await work(SimpleNamespace(conn=None))

    async def at_once(self) -> None:
        """Every step is durable."""

    async def ended_by_id(self, _conn: object, ids: list[str]) -> dict[str, tuple[str, bool]]:
        self.questions.append(ids)
        return {each: self.known[each] for each in ids if each in self.known}

    async def note(self, _conn: object, call_id: str, _text: str) -> None:
        self.noted.append(call_id)

    async def hang_up(self, pbx: str, call_id: str) -> bool:
        if self.link_lost:
            raise LinkLost("gone")
        self.hung_up.append((pbx, call_id))
        return True

    def dropped(self) -> float:
        return float(self.metrics.dropped.labels("late_channel")._value.get())


@pytest.fixture
def play(virtual: Virtual, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a scene on a bench."""

    def run(scene: Any) -> None:
        async def main(clock: VirtualClock) -> None:
            bench = Bench(clock, metrics, monkeypatch)
            await scene(bench)
            await asyncio.gather(*bench.tasks)

        virtual(main)

    return run


def test_a_flood_of_anothers_channels_is_asked_about_in_bounds(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        for _ in range(3):
            for index in range(2500):
                bench.late.seen("main", f"another's {index}")
            await bench.clock.sleep(1)
        asked = [each for question in bench.questions for each in question]
        assert len(asked) == len(set(asked)) == 2500
        assert bench.dropped() == 1500 + 500, "what there was no room for is counted, and asked about the next time"
        assert bench.hung_up == []

    play(scene)


def test_only_a_call_that_has_ended_on_this_pbx_is_meant(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.known = {"late": ("main", True), "of another daemon": ("main", False), "elsewhere": ("spare", True)}
        for call_id in ("late", "of another daemon", "elsewhere", "unknown"):
            bench.late.seen("main", call_id)
        await bench.clock.sleep(1)
        assert bench.hung_up == [("main", "late")]
        assert bench.noted == ["late"]
        bench.known["of another daemon"] = ("main", True)
        bench.late.seen("main", "of another daemon")
        await bench.clock.sleep(1)
        assert bench.hung_up[1:] == [("main", "of another daemon")], "what had not ended is asked about again"

    play(scene)


def test_what_was_given_up_here_needs_no_store(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.given_up["late"] = "main"
        bench.late.seen("main", "late")
        await bench.clock.sleep(0)
        assert bench.hung_up == [("main", "late")]
        assert bench.questions == []

    play(scene)


def test_one_that_still_shows_itself_is_hung_up_again_and_counted_once(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.given_up["late"] = "main"
        for _ in range(4):
            bench.late.seen("main", "late")  # dialling, ringing, answered
            await bench.clock.sleep(ASKED_AGAIN / 4)
        await bench.clock.sleep(ASKED_AGAIN)
        bench.late.seen("main", "late")
        await bench.clock.sleep(0.1)
        assert bench.hung_up == [("main", "late")] * 2
        assert bench.metrics.late_channels.labels("main")._value.get() == 1
        assert bench.noted == ["late"]

    play(scene)


def test_a_link_that_is_lost_is_asked_when_it_is_back(play: Any) -> None:
    async def scene(bench: Bench) -> None:
        bench.given_up["late"] = "main"
        bench.link_lost = True
        bench.late.seen("main", "late")
        await bench.clock.sleep(0.1)
        bench.link_lost = False
        bench.late.seen("main", "late")  # listed
        await bench.clock.sleep(0.1)
        assert bench.hung_up == [("main", "late")]
        assert bench.metrics.late_channels.labels("main")._value.get() == 1

    play(scene)
