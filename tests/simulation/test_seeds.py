"""Seeded storms on the whole daemon: crashes at any step, ill PBXs and disks, people in between; and the laws hold."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from datetime import timedelta

import pytest

from dialerd.core import retry
from dialerd.core.snapshot import OPEN
from dialerd.core.throttle import Book, Rate
from dialerd.dispatch import dispatcher, recovery
from dialerd.dispatch.calls import Calls
from dialerd.dispatch.late import LateChannels
from dialerd.dispatch.limits import Configured, LimitBook
from dialerd.dispatch.listed import ListWatch
from dialerd.dispatch.live_call import LiveCall
from dialerd.dispatch.recoveries import Recoveries
from dialerd.pbx.driver import Ended
from dialerd.telemetry.metrics import Metrics
from tests.simulation.play import play
from tests.support.effort import STORM_CONTACTS, STORM_SEEDS


@pytest.mark.seeds
@pytest.mark.parametrize("seed", STORM_SEEDS)
def test_the_laws_hold_whatever_happens(seed: int) -> None:
    played = play(seed, STORM_CONTACTS)
    if played.broken:
        again = f"{sys.executable} -m tests.simulation {seed} {STORM_CONTACTS}"
        pytest.fail("\n".join([f"seed {seed} breaks laws; once more by: {again}", *played.broken]), pytrace=False)
    assert played.calls > 0


@pytest.mark.slow
def test_each_kind_of_fault_comes_to_pass() -> None:
    """What never happens shows nothing: dying at a commit was drawn for long, and no commit came by there."""
    missed: set[str] | None = None
    for seed in range(50):
        played = play(seed, 200)
        missed = played.missed if missed is None else missed & played.missed
        if not missed:
            return
    pytest.fail(f"never happened: {missed}")


def test_the_same_seed_gives_the_same_log() -> None:
    """Byte for byte: all events, calls, contacts and counters, and all that the far ends saw."""
    first, again, other = play(7, 60), play(7, 60), play(8, 60)
    assert first.log == again.log
    assert len(first.log) > 10_000
    assert other.log != first.log


@pytest.mark.slow
def test_the_same_seed_gives_the_same_log_in_another_process() -> None:
    """Nothing of a run hangs on the order of a set, on an address, or on how busy the machine is."""
    digests = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "7", "60"]
        told = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
        )
        digests.add(told.stdout.split()[-1])
    assert digests == {play(7, 60).digest}


def unguarded(configured: Configured, _guard_seconds: float, metrics: Metrics) -> LimitBook:
    """Let sends lie no farther apart than their rate says."""
    return LimitBook(configured, 0.0, metrics)


async def unlooked(recoveries: Recoveries, live: LiveCall, ended: Ended) -> None:
    """Settle a call by its end alone."""
    recoveries._calls.settle_ended(live, ended)


# What a storm meets too seldom to be caught within a minute has tests of its own in test_last_moment.py.
SABOTAGE = {
    "rates at the wire": ("no_limit_is_exceeded", 2, Rate, "lawful", lambda _self: -math.inf),
    "hours at the wire": ("no_call_outside_the_window", 55, dispatcher, "closed_hours", lambda *_: None),
    "pauses at the wire": ("a_paused_campaign_is_silent", 4, dispatcher.Dispatcher, "_objection", lambda *_: None),
    "the second listing": ("no_limit_is_exceeded", 8, recovery, "SECOND_LOOK", -1.0),
    "rates of the process before": ("no_limit_is_exceeded", 10, Book, "unknown_before", lambda *_: None),
    "the do-not-call list at the wire": (
        "nobody_on_the_do_not_call_list_is_called",
        *(11, ListWatch, "changed", lambda _self: None),
    ),
    "the PBX at the wire": ("nothing_showed_at_once", 0, Recoveries, "gate", lambda *_: OPEN),
    "a listing after the doubt": (
        "nothing_showed_at_once",
        *(73, recovery.Recovery, "_doubted", property(lambda _self: -math.inf, lambda _self, _at: None)),
    ),
    "the time to answer": ("nobody_rings_for_too_long", 0, Calls, "_hang_up_after", lambda *_: None),
    "the pause before a retry": ("nobody_is_tried_again_too_early", 1, retry, "_delay", lambda *_: timedelta()),
    "the guard of a rate": ("no_limit_is_exceeded", 0, dispatcher, "LimitBook", unguarded),
    "the end of a pause": ("nothing_showed_at_once", 24, recovery, "CLOSED_SECONDS", 3600.0),
    "what a PBX kept behind a lost link": (
        "an_answered_call_is_told_as_it_was",
        *(4, Recoveries, "look_up", unlooked),
    ),
    "late channels": ("a_late_channel_is_hung_up", 5, LateChannels, "seen", lambda *_: None),
}
"""By each safeguard, the law that shows its lack, and the first seed that did: it still may, and saves the others."""


@pytest.mark.slow
@pytest.mark.parametrize("safeguard", SABOTAGE)
def test_a_daemon_that_breaks_a_law_is_caught(safeguard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The laws can fail: each of these takes one safeguard away, and a few seeds show it."""
    law, likely, where, what, instead = SABOTAGE[safeguard]
    monkeypatch.setattr(where, what, instead, raising=False)
    for seed in (likely, *range(200)):
        if any(fault.startswith(law) for fault in play(seed, 150).broken):
            return
    pytest.fail(f"{safeguard} can be taken away, and {law} is not broken")
