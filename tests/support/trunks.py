"""A trunk that nothing is wrong with, whatever its calls end in; and what it was told of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from dialerd.core.outcome import Verdict
from dialerd.dispatch.live_call import LiveCall
from dialerd.pbx.driver import Ended


@dataclass
class Watched:
    """Stands for :class:`dialerd.dispatch.calls.TrunkWatch`."""

    blame: bool = False
    """Whether the trunk is to blame for what its calls end in."""
    told: list[str] = field(default_factory=list)

    def rang(self, live: LiveCall) -> None:
        self.told.append("rang")

    def answered(self, live: LiveCall) -> None:
        self.told.append("answered")

    def judge(self, live: LiveCall, verdict: Verdict, event: Ended) -> bool:
        self.told.append(verdict.outcome.value)
        return self.blame
