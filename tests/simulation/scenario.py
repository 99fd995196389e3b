"""What a seed stands for: limits small enough to bite, callees, campaigns with their lists, and how it storms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from dialerd.clock import stream
from dialerd.core.model import AgentKind
from dialerd.pbx.callees import Behaviour, Draw, Range, SimulatedSettings
from tests.support.virtual import START

T = TypeVar("T")

PBX_OF = {"a": "main", "b": "main", "c": "spare"}
TENANTS = ("one", "two")
TOML = """
[store]
url = "sqlite:///{{store}}"
[dispatch]
drain_seconds = {drain}
{pbxs}{trunks}{tenants}
"""


class Dice:
    """Draws from one stream: the same seed gives the same draws, whatever others draw."""

    def __init__(self, seed: str) -> None:
        self.draw: Draw = stream(seed)

    def between(self, low: float, high: float) -> float:
        """Draw a number evenly."""
        return low + (high - low) * self.draw()

    def whole(self, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return low + int((high - low + 1) * self.draw())

    def one(self, of: Sequence[T]) -> T:
        """Draw one of these."""
        return of[int(len(of) * self.draw())]

    def some(self, of: Sequence[T], most: int) -> list[T]:
        """Draw one or more of these, in an order of their own."""
        left, drawn = list(of), []
        for _ in range(self.whole(1, min(most, len(left)))):
            drawn.append(left.pop(int(len(left) * self.draw())))
        return drawn

    def chance(self, share: float) -> bool:
        """Let something happen in this share of cases."""
        return self.draw() < share


@dataclass(frozen=True)
class Limit:
    """What a holder of limits allows."""

    slots: int | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Place:
    """An agent to be made, and the campaigns that share it."""

    tenant: str
    kind: AgentKind
    slots: int | None


@dataclass(frozen=True)
class List:
    """A campaign to be made."""

    place: int
    """The index of its agent."""
    numbers: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """Everything that a seed decides before the first second."""

    seed: str
    toml: str
    trunks: dict[str, Limit]
    pbxs: dict[str, Limit]
    tenants: dict[str, Limit]
    callees: SimulatedSettings
    places: tuple[Place, ...]
    lists: tuple[List, ...]
    storm_seconds: float
    calm: float
    """Mean seconds between two faults."""
    commit_seconds: Range = (0.0, 0.02)
    """How long the disk takes for a commit while it is well."""
    away_seconds: Range = (0.0, 4.0)
    """How long nobody starts a daemon that has died."""
    changed_slots: tuple[int, int] = (1, 20)
    """The calls at once, from and to, that a campaign may be changed to while it dials."""
    changed_rates: tuple[float | None, ...] = (None, 0.7, 2, 5)
    """And its calls a second."""


def drawn(seed: str, contacts: int) -> Scenario:
    """Draw a scenario of so many contacts."""
    dice = Dice(f"{seed}/scenario")
    rate = dice.one((1.5, 2.5, 4, 7.5, 10, 20))
    trunks = {
        name: Limit(dice.whole(2, 14), rate * dice.one((0.5, 1, 1, 2)))
        for name in PBX_OF
    }  # fmt: skip
    pbxs = {name: Limit(dice.whole(4, 20), rate * dice.one((0.7, 1, 2, 50))) for name in ("main", "spare")}
    tenants = {name: Limit(dice.whole(3, 25), rate * dice.one((0.5, 1.2, 3, 50))) for name in TENANTS}
    places = tuple(
        Place(tenant, dice.one((AgentKind.DIALPLAN, AgentKind.DIALPLAN, AgentKind.QUEUE)), slots)
        for tenant in TENANTS
        for slots in ([dice.one((None, None, dice.whole(1, 8)))] * dice.whole(1, 2))
    )
    return Scenario(
        seed=seed,
        toml=_toml(dice, trunks, pbxs, tenants),
        trunks=trunks,
        pbxs=pbxs,
        tenants=tenants,
        callees=_callees(dice, seed),
        places=places,
        lists=tuple(_lists(dice, places, contacts)),
        storm_seconds=dice.between(0.3, 0.9) * contacts,
        calm=dice.one((2.0, 4.0, 8.0, 15.0)),
        # Back within the second in which the one before it dialled, or not.
        away_seconds=dice.one(((0.0, 4.0), (0.0, 0.05))),
    )


def busy(seed: str, contacts: int) -> Scenario:
    """A scenario of many contacts: wide limits, short calls, and a fault each minute or so."""
    small = drawn(seed, contacts)
    dice = Dice(f"{seed}/busy")
    trunks = {name: Limit(120, 40.0) for name in PBX_OF}
    pbxs = {name: Limit(200, 60.0) for name in ("main", "spare")}
    tenants = {name: Limit(250, 70.0) for name in TENANTS}
    wide = {"concurrent_calls": 250, "max_calls_per_second": None, "trunks": ("a", "b", "c"), "max_retries": 1}
    hours = {"calling_hours_start": "00:00", "calling_hours_end": "00:00"}
    lists = tuple(replace(each, settings={**each.settings, **wide, **hours, "end_at": None}) for each in small.lists)
    return replace(
        small,
        toml=_toml(dice, trunks, pbxs, tenants),
        trunks=trunks,
        pbxs=pbxs,
        tenants=tenants,
        places=tuple(replace(each, slots=None) for each in small.places),
        lists=lists,
        callees=replace(small.callees, max_channels=1000),
        storm_seconds=max(120.0, contacts / 30.0),
        calm=45.0,
        # A disk that turns: what comes while it does shares the next commit.
        commit_seconds=(0.02, 0.05),
        # A list of ten thousand that is dialled one call at a time from its beginning on takes longer than the calm.
        changed_slots=(60, 250),
        changed_rates=(None, 15, 30),
    )


def _toml(dice: Dice, trunks: dict[str, Limit], pbxs: dict[str, Limit], tenants: dict[str, Limit]) -> str:
    shown = "".join(
        f'[pbx.{name}]\ndriver = "simulated"\nmax_calls_per_second = {each.rate}\nmax_channels = {each.slots}\n'
        for name, each in pbxs.items()
    )
    lines = "".join(
        f'[trunk.{name}]\npbx = "{PBX_OF[name]}"\ndial = "PJSIP/{{{{number}}}}@{name}"\n'
        f"max_calls_per_second = {each.rate}\nmax_channels = {each.slots}\n"
        f"probe_seconds = {dice.whole(1, 4)}\n"
        for name, each in trunks.items()
    )
    customers = "".join(
        f"[tenant.{name}]\nmax_calls_per_second = {each.rate}\nmax_concurrent_calls = {each.slots}\n"
        'trunks = ["a", "b", "c"]\n'
        for name, each in tenants.items()
    )
    return TOML.format(drain=dice.whole(1, 30), pbxs=shown, trunks=lines, tenants=customers)


def _callees(dice: Dice, seed: str) -> SimulatedSettings:
    return SimulatedSettings(
        shares={
            Behaviour.ANSWER: 0.55,
            Behaviour.NO_ANSWER: 0.12,
            Behaviour.BUSY: 0.12,
            Behaviour.DECLINE: 0.06,
            Behaviour.UNKNOWN_NUMBER: 0.03,
            Behaviour.CONGESTION: dice.one((0.0, 0.05)),
            Behaviour.SERVER_ERROR: 0.02,
            Behaviour.NO_PROGRESS: 0.02,
            Behaviour.SILENCE: 0.02,
        },
        post_dial_seconds=(0.1, 1.5),
        ring_seconds=(0.5, 9.0),
        talk_seconds=(0.5, dice.one((5.0, 20.0))),
        max_channels=dice.one((1000, 1000, 6)),
        listing_lag_seconds=dice.one((0.0, 0.3, 1.0)),
        reconnect_seconds=dice.one(((0.2, 4.0), (0.01, 0.1))),
        seed=int(1e9 * dice.draw()),
        ledger_size=1_000_000,
    )


def _lists(dice: Dice, places: tuple[Place, ...], contacts: int) -> list[List]:
    count = dice.whole(2, 4)
    made, first = [], 0
    for index in range(count):
        size = contacts // count if index < count - 1 else contacts - first
        numbers = tuple(f"+1202{5_000_000 + first + each:07d}" for each in range(size))
        made.append(List(index % len(places), numbers, _settings(dice)))
        first += size
    return made


def _settings(dice: Dice) -> dict[str, Any]:
    # Doubled at each of the twenty mishaps that a contact may have, half a minute would come to months.
    soon = {"delay_seconds": dice.one((0, 1, 5, 30)), "factor": dice.one((1, 1, 2)), "most": 8}
    retried = ("busy", "no_answer", "rejected", "congestion", "unreachable", "failed", "abandoned")
    settings: dict[str, Any] = {
        "calling_hours_start": "00:00",
        "calling_hours_end": "00:00",
        "concurrent_calls": dice.whole(1, 20),
        "max_retries": dice.whole(0, 2),
        "max_calls_per_second": dice.one((None, None, dice.one((0.7, 1.5, 3, 8)))),
        "answer_timeout": dice.one((5.0, 8.0, 20.0)),
        "max_call_seconds": dice.one((2, 15, 60)),
        "trunks": tuple(dice.some(("a", "b", "c"), 3)),
        "retry": {**dict.fromkeys(retried, soon), "interrupted": {"delay_seconds": dice.one((1, 5, 60)), "most": 50}},
        "priority": dice.one((0, 0, 1, 5)),
        "weight": dice.one((1.0, 1.0, 3.0)),
    }
    if dice.chance(0.4):
        # The window closes in the middle of the storm, and opens again after a while.
        closes = START + timedelta(minutes=dice.whole(1, 3))
        opens = closes + timedelta(minutes=dice.whole(1, 20))
        settings |= {"calling_hours_start": f"{opens:%H:%M}", "calling_hours_end": f"{closes:%H:%M}"}
    if dice.chance(0.15):
        settings["end_at"] = START + timedelta(seconds=dice.whole(30, 400))
    return settings
