"""What a forecast takes for granted of callees: how many answer, how long it rings, how long they talk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dialerd.config import PbxConfig
from dialerd.pbx.callees import DEFAULT_SHARES, Behaviour, Range, SimulatedSettings

_CALLEES = frozenset(
    {
        Behaviour.ANSWER,
        Behaviour.NO_ANSWER,
        Behaviour.BUSY,
        Behaviour.DECLINE,
        Behaviour.UNAVAILABLE,
        Behaviour.UNKNOWN_NUMBER,
    }
)
"""What callees do. What carriers do is not taken for granted: somebody has to say it."""
_FAULTLESS: Mapping[str, Any] = {
    "by_number": False,
    "link_loss_per_minute": 0.0,
    "originate_in_doubt_share": 0.0,
    "lost_event_share": 0.0,
    "duplicate_event_share": 0.0,
    "late_event_share": 0.0,
    "contexts": None,
    "ledger_size": 1,
}


class Unfit(ValueError):
    """What was asked for makes no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What was said of the callees; what was not is as the configuration's simulated PBX has it, or its defaults."""

    shares: Mapping[Behaviour, float] = field(default_factory=dict)
    """Of the calls, how many meet this behaviour (0 to 1); those not named share what is left, in proportion."""
    ring_seconds: Range | None = None
    talk_seconds: Range | None = None

    def settings(self, pbx: PbxConfig, seed: int) -> SimulatedSettings:
        """The callees behind one PBX. Raises Unfit where the shares do not fit together."""
        base = pbx.simulated if pbx.driver == "simulated" else _of_real_callees(pbx)
        ring, talk = self.ring_seconds or base.ring_seconds, self.talk_seconds or base.talk_seconds
        shares = completed(self.shares, base.shares)
        return replace(base, shares=shares, ring_seconds=ring, talk_seconds=talk, seed=seed, **_FAULTLESS)

    def carrier_fails(self, pbx: PbxConfig) -> bool:
        """Whether carriers refuse or lose calls here, so that trunks may fall ill. Raises Unfit."""
        return any(share > 0 for name, share in self.settings(pbx, 1).shares.items() if name not in _CALLEES)


def _of_real_callees(pbx: PbxConfig) -> SimulatedSettings:
    """What is assumed behind a real PBX: the simulated one's callees, no fault of a carrier, and room enough."""
    shares = {name: share for name, share in DEFAULT_SHARES.items() if name in _CALLEES}
    return SimulatedSettings(shares=shares, max_channels=pbx.max_channels)


def completed(given: Mapping[Behaviour, float], base: Mapping[Behaviour, float]) -> dict[Behaviour, float]:
    """The shares that were given, and of the rest what is left, in the proportion of ``base``. They sum to one.

    Raises Unfit.
    """
    if any(not 0 <= share <= 1 for share in given.values()):
        raise Unfit("a share lies between 0 and 1")
    left = 1.0 - sum(given.values())
    rest = {name: share for name, share in base.items() if name not in given and share > 0}
    if left < -1e-9:
        raise Unfit(f"the shares come to {1.0 - left:g}, more than all calls")
    whole = sum(rest.values())
    if left > 1e-9 and not whole:
        raise Unfit(f"the shares come to {1.0 - left:g}, and nothing is said of the rest")
    return {**given, **{name: max(0.0, left) * share / whole for name, share in rest.items()}}


def seconds(text: str) -> Range:
    """A span of seconds: ``20-90``, drawn evenly between the two, or ``60``, which means 30 to 90. Raises Unfit."""
    low, dash, high = text.partition("-")
    try:
        found = (float(low), float(high)) if dash else (float(low) / 2, float(low) * 3 / 2)
    except ValueError:
        raise Unfit(f"{text!r} is no number of seconds, and no two with a dash between them") from None
    if not 0 <= found[0] <= found[1] < 86_400:
        raise Unfit(f"{text!r}: seconds are between 0 and 86,400, the lower one first")
    return found
