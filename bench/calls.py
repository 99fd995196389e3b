"""Calls through a real Asterisk, counted at its far end, against a bare AMI script; what they cost; and the knee."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench.bare import BareScript
from bench.context import Bench, Found
from bench.measure import Figure, Ratio, at_least, at_most, shown, spread
from bench.meters import cpu_seconds
from bench.real import GUARD, Desk, FarEnd, real
from dialerd.clock import SystemClock
from tests.lab.ledger import Ledger

OFFERED = 120.0
_SWEPT = (100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 500.0)
_ENOUGH = 0.95
"""Of the offered rate: who gives less, or loses a call, is beyond the knee."""
_SECONDS = 90.0
_clock = SystemClock()


@dataclass(frozen=True, slots=True)
class _Round:
    """One list of calls, offered at a rate."""

    offered: float
    rate: float
    """Calls per second that the far end answered, from its first INVITE to its last."""
    failed: int
    """Calls that it did not answer."""
    asterisk: float
    """Seconds of a core that Asterisk took per call."""
    own: float = 0.0
    """Seconds of a core that the daemon took per call."""

    @property
    def kept_up(self) -> bool:
        return self.failed == 0 and self.rate >= _ENOUGH * self.offered

    def __str__(self) -> str:
        return f"{self.offered:g}→{self.rate:.0f}" + (f" ({self.failed} lost)" if self.failed else "")


async def run(bench: Bench) -> Found:
    """Calls of a second at one offered rate, in turn with a bare script; then a sweep of rates."""
    offered, calls = bench.pick((OFFERED, 1500), (40.0, 40))
    async with real(bench) as desk:
        agent_id = await desk.api.agent("answered")
        ours: list[_Round] = []
        bare: list[_Round] = []
        for _ in range(bench.rounds):
            ours.append(await _ours(desk, agent_id, calls, offered))
            bare.append(await _bare(desk, calls, offered))
        yield Ratio(
            "calls",
            f"calls/s through Asterisk, 1 s calls, offered {offered:g}/s",
            "calls/s",
            tuple(each.rate for each in ours),
            tuple(each.rate for each in bare),
            "a bare AMI script firing the same Originates",
            at_least(0.98),
        )
        lost, theirs = sum(each.failed for each in ours), sum(each.failed for each in bare)
        yield Figure(
            "calls.lost",
            f"calls of {calls * bench.rounds:,} that the far end did not answer",
            lost,
            "",
            at_most(theirs),
            f"{theirs} of the bare script's",
        )
        yield _cpu(ours, bare)
        async for figure in _knees(bench, desk, agent_id):
            yield figure


def _cpu(ours: list[_Round], bare: list[_Round]) -> Figure:
    own = statistics.median(each.own for each in ours)
    return Figure(
        "calls.cpu",
        "our processor time per call",
        statistics.median(each.own / each.asterisk for each in ours),
        "×",
        at_most(0.25),
        "Asterisk's own, over the same calls",
        f"{shown(own * 1000)} beside {spread([each.asterisk * 1000 for each in ours])} ms a call; "
        f"Asterisk takes {spread([each.asterisk * 1000 for each in bare])} ms a call of the bare script",
    )


async def _knees(bench: Bench, desk: Desk, agent_id: str) -> Found:
    swept, seconds = bench.pick((_SWEPT, 6.0), (_SWEPT[:1], 0.3))
    ours: list[_Round] = []
    bare: list[_Round] = []
    for offered in swept:
        for rounds, go in ((ours, True), (bare, False)):
            # Who was beyond the knee twice running has shown where it is.
            if len(rounds) >= 2 and not any(each.kept_up for each in rounds[-2:]):
                continue
            calls = round(offered * seconds)
            rounds.append(await (_ours(desk, agent_id, calls, offered) if go else _bare(desk, calls, offered)))
    knee, theirs = _knee(ours), _knee(bare)
    yield Figure(
        "calls.knee",
        "the knee: the highest rate offered that the far end sees in full and answers",
        knee,
        "calls/s",
        against=f"{theirs:g} calls/s of the bare script",
        made_of=f"offered→seen, ours {', '.join(map(str, ours))}; bare {', '.join(map(str, bare))}",
    )


def _knee(rounds: list[_Round]) -> float:
    return max((each.offered for each in rounds if each.kept_up), default=0.0)


async def _ours(desk: Desk, agent_id: str, calls: int, offered: float) -> _Round:
    numbers = desk.numbers(calls, "00")
    campaign_id = await desk.api.campaign(
        agent_id,
        [{"phone_number": f"+{number}"} for number in numbers],
        concurrent_calls=10_000,
        max_calls_per_second=offered * GUARD,
        max_retries=0,
    )
    far_end = FarEnd(desk.lab)
    own, asterisk = cpu_seconds(desk.daemon.pid), cpu_seconds(desk.asterisk_pid)
    await desk.api.step(campaign_id, "start")
    await desk.finished(campaign_id, _SECONDS)
    own, asterisk = cpu_seconds(desk.daemon.pid) - own, cpu_seconds(desk.asterisk_pid) - asterisk
    seen = await far_end.over(numbers, 5.0)
    return _round(offered, calls, seen, asterisk, own)


async def _bare(desk: Desk, calls: int, offered: float) -> _Round:
    numbers = desk.numbers(calls, "00")
    far_end = FarEnd(desk.lab)
    asterisk = cpu_seconds(desk.asterisk_pid)
    async with BareScript(desk.lab, events=False) as script:
        await script.fire(numbers, "answered", offered)
        seen = await far_end.over(numbers, 15.0)
    return _round(offered, calls, seen, cpu_seconds(desk.asterisk_pid) - asterisk)


def _round(offered: float, calls: int, seen: Ledger, asterisk: float, own: float = 0.0) -> _Round:
    answered = [call.invited_at for call in seen if call.answered_at is not None]
    span = max(answered) - min(answered) if len(answered) > 1 else 0.0
    rate = (len(answered) - 1) / span if span else 0.0
    return _Round(offered, rate, calls - len(answered), asterisk / calls, own / calls)
