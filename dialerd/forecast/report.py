"""What a forecast tells: as JSON, as tables, and as a plot by the hour. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dialerd.core.model import ContactStatus
from dialerd.forecast.run import Came, Question
from dialerd.forecast.tally import Hour, Kept

_WAITING = frozenset({"calling_hours", "contacts"})
"""Rules that keep calls back because it is not their time, however large the limits are."""
WORDS: Mapping[str, str] = {
    "calling_hours": "the calling hours are closed (calling_hours_start, calling_hours_end, calling_days, blackouts)",
    "contacts": "nobody is due: retries wait for their time, or contacts for their own hours (retry, contact_timezone)",
    "campaign_slots": "the campaign's calls at once (concurrent_calls)",
    "campaign_rate": "the campaign's calls per second (max_calls_per_second)",
    "agent_slots": "the agent's calls at once (max_concurrent_calls of the agent)",
    "tenant_slots": "the tenant's calls at once ([tenant] max_concurrent_calls)",
    "tenant_rate": "the tenant's calls per second ([tenant] max_calls_per_second)",
    "trunk_slots": "the trunk's calls at once ([trunk] max_channels)",
    "trunk_rate": "the trunk's calls per second ([trunk] max_calls_per_second)",
    "trunk_pace_rate": "the trunk is slowed, for its carrier answers that it is congested",
    "trunk_state": "the trunk is suspended after failures in a row",
    "pbx_slots": "the PBX's calls at once ([pbx] max_channels)",
    "pbx_rate": "the PBX's calls per second ([pbx] max_calls_per_second)",
    "max_calls_per_day": "the tenant's calls in a day ([tenant] max_calls_per_day)",
}


def to_json(question: Question, came: Came) -> dict[str, Any]:
    """The whole forecast, for programs. Times are UTC, spans are seconds."""
    tally = came.tally
    done = question.start + timedelta(seconds=came.seconds)
    dialled = [hour for hour in tally.hours if hour.calls]
    calls = sum(tally.outcomes.values())
    elapsed = sum(each.seconds for each in tally.kept.values()) or 1.0
    return {
        "started_at": _utc(question.start),
        "done": came.why_not is None,
        "done_at": _utc(done) if came.why_not is None else None,
        "why_not": came.why_not,
        "contacts_dialled": came.contacts.total() if came.of_part is None else came.of_part,
        "seconds": round(came.seconds, 3),
        "contacts": {"total": came.contacts.total(), **{each.value: came.contacts[each] for each in _SHOWN}},
        "calls": calls,
        "answer_rate": tally.answered / calls if calls else None,
        "calls_per_hour": {
            # Over the time in which calls were up: nights and the wait for retries would tell nothing of the pace.
            "average": round(calls / tally.busy_seconds * 3600, 1) if tally.busy_seconds else 0.0,
            "peak": max((hour.calls for hour in dialled), default=0),
        },
        "busy_seconds": round(tally.busy_seconds, 3),
        "slots": {
            name: {
                "average": round(use.call_seconds / tally.busy_seconds, 2) if tally.busy_seconds else 0.0,
                "peak": use.peak,
                "limit": came.trunk_limits[name],
            }
            for name, use in tally.use.items()
        },
        "kept_back_by": [
            {
                "rule": rule,
                "level": each.level,
                "seconds": round(each.seconds, 3),
                "share": round(each.seconds / elapsed, 4),
                "detail": each.detail,
            }
            for rule, each in ranked(tally.kept)
        ],
        "limited_most_by": limiting(tally.kept),
        "outcomes": dict(tally.outcomes.most_common()),
        "hours": [
            {
                "at": hour.begins.isoformat(),
                "calls": hour.calls,
                "answered": hour.answered,
                "slots_average": round(hour.call_seconds / 3600, 2),
                "slots_peak": hour.peak,
            }
            for hour in tally.hours
            if hour.calls or hour.call_seconds
        ],
        "assumed": _assumed(question),
    }


_SHOWN = (ContactStatus.COMPLETED, ContactStatus.FAILED, ContactStatus.CANCELLED, ContactStatus.PENDING)


def _assumed(question: Question) -> dict[str, Any]:
    found = {}
    for index, (name, pbx) in enumerate(question.config.pbx.items()):
        settings = question.assumptions.settings(pbx, question.seed + index)
        found[name] = {
            "shares": {behaviour.value: round(share, 4) for behaviour, share in settings.shares.items()},
            "post_dial_seconds": settings.post_dial_seconds,
            "ring_seconds": settings.ring_seconds,
            "talk_seconds": settings.talk_seconds,
        }
    return {"seed": question.seed, "agent_calls": question.agent_calls, "pbx": found}


def ranked(kept: Mapping[str, Kept]) -> list[tuple[str, Kept]]:
    """The rules that kept calls back, longest first."""
    return sorted(((rule, each) for rule, each in kept.items() if each.seconds > 0), key=lambda pair: -pair[1].seconds)


def limiting(kept: Mapping[str, Kept]) -> str | None:
    """The limit that kept calls back longest while it was their time: the one to raise. None: there was none."""
    return next((rule for rule, _ in ranked(kept) if rule not in _WAITING), None)


def words(rule: str) -> str:
    """A rule, with the key that sets it."""
    return WORDS.get(rule, rule)


def span(seconds: float) -> str:
    """A span of time as people say it: ``3 d 4 h``, ``2 h 05 min``, ``41 s``."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def days(hours: list[Hour], most: int) -> list[tuple[str, Hour]]:
    """The hours in which calls were up, each with its name; added up to days where there are more than ``most``."""
    busy = [hour for hour in hours if hour.calls or hour.call_seconds]
    if len(busy) <= most:
        return [(f"{hour.begins:%a %d %b %H:%M}", hour) for hour in busy]
    added: dict[str, Hour] = {}
    for hour in busy:
        day = added.setdefault(f"{hour.begins:%a %d %b %Y}", Hour(hour.begins.replace(hour=0)))
        day.calls += hour.calls
        day.answered += hour.answered
        day.call_seconds += hour.call_seconds
        day.peak = max(day.peak, hour.peak)
    return list(added.items())


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
