"""A long list foretold by a part of it, dialled with the same part of every limit, and its figures multiplied again.

Calls know of each other through the limits alone, so a fifth of a list through a fifth of each limit takes as long as
the whole. That holds where a fifth of each limit still is one (ten calls at once, whole calls in a rate's span), and
where no trunk falls ill, which is a matter of failures in a row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dialerd.config import Config
from dialerd.core.model import Contact
from dialerd.core.settings import CampaignSettings
from dialerd.forecast.report import words
from dialerd.forecast.run import Came, Question
from dialerd.forecast.tally import Hour, Tally, Use

K = TypeVar("K")

LEAST_CONTACTS = 10_000
"""So many at least make the part: that many draws of chance come within one percent of what all of them come to."""
LEAST_SLOTS = 10
"""A limit of calls at once is not cut below this: with a few slots, chance leaves more of them empty."""
_MOST_OFF = 0.01
"""How far a limit may be off by its rounding."""
_MOST_PARTS = 1000


@dataclass(frozen=True, slots=True)
class _Limits:
    slots: tuple[int, ...]
    rates: tuple[float, ...]


def parts(question: Question, contacts: int) -> int:
    """Into how many parts a list of so many contacts may be cut; 1: it is dialled whole."""
    if any(question.assumptions.carrier_fails(pbx) for pbx in question.config.pbx.values()):
        return 1
    limits = _limits(question)
    guard = question.config.dispatch.cps_guard_ms / 1000
    most = min(contacts // LEAST_CONTACTS, _MOST_PARTS, *(slots // LEAST_SLOTS for slots in limits.slots))
    fitting = (count for count in range(most, 1, -1) if _fits(limits, count, guard))
    return next(fitting, 1)


def part(question: Question, contacts: Sequence[Contact], count: int) -> tuple[Question, list[Contact]]:
    """Every so-manieth contact, and of each limit one of so many parts."""
    tenant, settings, agent = question.tenant, question.settings, question.agent_calls
    cut = replace(
        question,
        config=_cut_config(question.config, count),
        tenant=replace(
            tenant,
            max_concurrent_calls=_cut(tenant.max_concurrent_calls, count),
            max_calls_per_second=tenant.max_calls_per_second / count,
            max_calls_per_day=None if tenant.max_calls_per_day is None else _cut(tenant.max_calls_per_day, count),
        ),
        settings=_cut_settings(settings, count),
        agent_calls=None if agent is None else _cut(agent, count),
    )
    return cut, list(contacts[::count])


def whole(question: Question, came: Came, contacts: int) -> Came:
    """What came of the part, as it is of the whole: of so many contacts, with the limits of this question."""
    factor = contacts / came.contacts.total()
    limits = {trunk.id: trunk.max_channels - trunk.reserved_channels for trunk in question.config.trunks()}
    at_once = [question.settings.concurrent_calls, question.tenant.max_concurrent_calls, sum(limits.values())]
    if question.agent_calls is not None:
        at_once.append(question.agent_calls)
    return replace(
        came,
        tally=_multiplied(came.tally, factor, limits, min(at_once)),
        contacts=_to_total(came.contacts, contacts),
        why_not=came.why_not if came.why_rule is None else words(came.why_rule),
        settings=question.settings,
        trunk_limits=limits,
        of_part=came.contacts.total(),
    )


# -- limits -------------------------------------------------------------------------------------------------------


def _limits(question: Question) -> _Limits:
    """Every limit that a call of this campaign takes part of."""
    tenant, settings = question.tenant, question.settings
    trunks = [question.config.trunk[name] for name in settings.trunks or tenant.trunks]
    pbxs = [question.config.pbx[name] for name in {each.pbx for each in trunks}]
    slots: list[int | None] = [
        *(each.max_channels - each.reserved_channels for each in trunks),
        *(each.max_channels for each in pbxs),
        *(each.simulated.max_channels for each in pbxs if each.driver == "simulated"),
        *(tenant.max_concurrent_calls, tenant.max_calls_per_day, settings.concurrent_calls, question.agent_calls),
    ]
    rates: list[float | None] = [
        *(each.max_calls_per_second for each in trunks),
        *(each.max_calls_per_second for each in pbxs),
        *(tenant.max_calls_per_second, settings.max_calls_per_second),
    ]
    return _Limits(tuple(each for each in slots if each is not None), tuple(each for each in rates if each is not None))


def _fits(limits: _Limits, count: int, guard: float) -> bool:
    """Whether the part of each limit is, multiplied, the limit."""
    return all(_off(_cut(slots, count) * count, slots) <= _MOST_OFF for slots in limits.slots) and all(
        _off(_pace(rate / count, guard) * count, _pace(rate, guard)) <= _MOST_OFF for rate in limits.rates
    )


def _off(found: float, wanted: float) -> float:
    return abs(found - wanted) / wanted


def _pace(rate: float, guard: float) -> float:
    """Calls a second that a rate lets through with its guard, as :class:`dialerd.core.throttle.Rate` does."""
    calls = max(1, math.floor(rate))
    return calls / (calls / rate + guard)


def _cut(limit: int, count: int) -> int:
    return max(1, round(limit / count))


def _cut_settings(settings: CampaignSettings, count: int) -> CampaignSettings:
    rate = settings.max_calls_per_second
    return settings.model_copy(
        update={
            "concurrent_calls": _cut(settings.concurrent_calls, count),
            "max_calls_per_second": None if rate is None else rate / count,
        }
    )


def _cut_config(config: Config, count: int) -> Config:
    pbxs = {
        name: each.model_copy(
            update={
                "max_channels": _cut(each.max_channels, count),
                "max_calls_per_second": each.max_calls_per_second / count,
                "simulated": replace(each.simulated, max_channels=_cut(each.simulated.max_channels, count)),
            }
        )
        for name, each in config.pbx.items()
    }
    trunks = {
        name: each.model_copy(
            update={
                "max_channels": _cut(each.max_channels - each.reserved_channels, count),
                "max_calls_per_second": each.max_calls_per_second / count,
                "reserved_channels": 0,
            }
        )
        for name, each in config.trunk.items()
    }
    return config.model_copy(update={"pbx": pbxs, "trunk": trunks})


# -- figures ------------------------------------------------------------------------------------------------------


def _multiplied(tally: Tally, factor: float, limits: dict[str, int], most: int) -> Tally:
    """``limits``: calls at once on each trunk; ``most``: of the campaign."""
    calls = round(sum(tally.outcomes.values()) * factor)
    made = replace(
        tally,
        hours=list(_hours(tally.hours, factor, most)),
        outcomes=_to_total(tally.outcomes, calls),
        answered=round(tally.answered * factor),
        all=_use(tally.all, factor, most),
    )
    made.use = {name: _use(use, factor, limits[name]) for name, use in tally.use.items()}
    return made


def _hours(hours: Sequence[Hour], factor: float, most: int) -> Iterator[Hour]:
    """Calls are rounded in their sum, so that the hours together are the calls."""
    calls = answered = 0
    for hour in hours:
        before, answered_before = round(calls * factor), round(answered * factor)
        calls, answered = calls + hour.calls, answered + hour.answered
        yield replace(
            hour,
            calls=round(calls * factor) - before,
            answered=round(answered * factor) - answered_before,
            peak=min(most, round(hour.peak * factor)),
            call_seconds=hour.call_seconds * factor,
        )


def _use(use: Use, factor: float, most: int) -> Use:
    return replace(use, peak=min(most, round(use.peak * factor)), call_seconds=use.call_seconds * factor)


def _to_total(counts: Counter[K], total: int) -> Counter[K]:
    """Multiply counts so that they come to a total: whole numbers, each less than one away from its share."""
    before = counts.total()
    made: Counter[K] = Counter()
    seen = 0
    for key, count in counts.items():
        made[key] = round((seen + count) * total / before) - round(seen * total / before)
        seen += count
    return made
