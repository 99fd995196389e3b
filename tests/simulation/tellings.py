"""The laws of what the store tells of its calls: their ends, their events, and the counters kept beside them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from dialerd.core.contact import TRANSITIONS, ContactEvent
from dialerd.core.model import ContactStatus
from dialerd.store.schema import OUTCOME_COLUMNS
from tests.simulation.books import Row
from tests.simulation.case import Case, overlaps, shown
from tests.simulation.far_end import Fate
from tests.simulation.world import Told

COMMIT_SECONDS = 0.5
"""What is known is written within this, as long as the disk is well."""
TALK_SECONDS = 0.1
"""A conversation is measured as exactly as this."""
_OF_ANSWERED = frozenset({"answered", "abandoned"})
_OF_CANCELLED = frozenset({"no_answer", "unreachable"})
"""What a hangup that we asked for ends in, by why we asked."""
_END_KINDS = ("completed", "failed", "retry_scheduled")
_STEPS = {
    "originated": {ContactEvent.ORIGINATE},
    "connected": {ContactEvent.ANSWER},
    "completed": {ContactEvent.COMPLETE},
    "failed": {ContactEvent.FAIL},
    "cancelled": {ContactEvent.CANCEL},
    "retry_scheduled": {ContactEvent.RETRY, ContactEvent.PUT_BACK},
    "callback_scheduled": {ContactEvent.CALLBACK},
}


def no_result_is_lost(case: Case) -> Iterator[str]:
    """An end that a daemon heard is what the store says, unless that daemon died before it could write it."""
    for call_id, told in case.world.told.items():
        call = case.books.calls.get(call_id)
        if call is None or not _written(case, call_id, told):
            continue
        event, answered = told.event, call["answered_at"] is not None
        outcomes = _OF_ANSWERED if answered else _OF_CANCELLED if event.verdict.outcome == "cancelled" else frozenset()
        if call["outcome"] not in outcomes | ({event.verdict.outcome} if not answered else set()):
            yield f"the PBX had told {event.verdict}: {shown(call)}"
        if (call["hangup_cause"], call["sip_status"]) != (event.hangup_cause, event.sip_status):
            yield f"the PBX had told cause {event.hangup_cause} and {event.sip_status}: {shown(call)}"
        if (call["status"] == "not_sent") == (event.channel or answered):
            yield f"the PBX had told {event}: {shown(call)}"


def _written(case: Case, call_id: str, told: Told) -> bool:
    """Whether whoever heard an end lived on for long enough to write it, after it had looked up what it had to."""
    if told.generation in case.world.unwritten:
        return False
    died = case.world.killed.get(told.generation, math.inf)
    known = max(told.at, case.world.looked_up[call_id].over) if call_id in case.world.looked_up else told.at
    if died <= known + COMMIT_SECONDS:
        return False
    return died == math.inf or not any(overlaps(span, known, died) for span in case.storm.disk_trouble)


def an_answered_call_is_told_as_it_was(case: Case) -> Iterator[str]:
    """Whoever heard of it and whenever, its PBX has kept it: it was answered, and how long it talked.

    Not where the PBX told its events late or not at all over a link that stayed, could not be asked what it kept, or
    had been given up while the callee still talked.
    """
    for name, pbx in case.world.pbxs.items():
        for call_id, fate in pbx.fates.items():
            call = case.books.calls.get(call_id)
            if call is None or fate.answered is None or fate.ended is None:
                continue
            if case.world.late.given_up.get(call_id, math.inf) < fate.ended:
                continue
            began = case.world.sent[call_id].mono
            if any(overlaps(span, began, fate.ended) for span in case.storm.untrue[name]):
                continue
            if call_id in case.world.looked_up and case.world.looked_up[call_id].failed:
                continue
            yield from _unlike(case, call, fate)


def _unlike(case: Case, call: Row, fate: Fate) -> Iterator[str]:
    assert fate.answered is not None
    assert fate.ended is not None
    expected = "answered" if fate.handed_over or not call["hands_over"] else "abandoned"
    # Whoever answers in the moment in which the ringing is given up is hung up.
    given_up = call["outcome"] == "abandoned" and call["hung_up_by"] == "dialer"
    if call["outcome"] != expected and not given_up:
        yield f"{expected}, from {fate.answered:.3f} to {fate.ended:.3f}: {shown(call)}"
    talk = fate.ended - fate.answered
    jumped = any(fate.answered - TALK_SECONDS <= jump <= fate.ended + TALK_SECONDS for jump in case.storm.jumps)
    if not jumped and (call["talk_seconds"] is None or abs(call["talk_seconds"] - talk) > TALK_SECONDS):
        yield f"it talked for {talk:.3f} s: {shown(call)}"


def events_walk_the_table(case: Case) -> Iterator[str]:
    """Per contact the events are steps of the table, in order, and end where the contact is."""
    states: dict[int, str] = defaultdict(lambda: "pending")
    for event in case.books.events:
        contact_id = event["contact_id"]
        if contact_id is None:
            continue
        was, now, kind = states[contact_id], event["status"], event["kind"]
        if kind == "ringing":
            lawful = was == now == "originated"
        elif kind == "callback_scheduled" and was == "pending":
            lawful = now == "pending"
        else:
            steps = ((ContactStatus(was), step) for step in _STEPS[kind])
            lawful = any(TRANSITIONS.get(each) == now for each in steps)
        if not lawful:
            yield f"from {was} by {event}"
        states[contact_id] = now
    for contact in case.books.contacts.values():
        if states[contact["id"]] != contact["status"]:
            yield f"{contact['phone_number']} is {contact['status']}, and its events end in {states[contact['id']]}"


def a_call_tells_each_step_once(case: Case) -> Iterator[str]:
    """One ``originated``, at most one ``ringing`` and ``connected``, and one end.

    A contact that failed and is put back, as its trunk was to blame, is told again by the same call.
    """
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for event in case.books.events:
        if event["call_id"] is not None:
            kinds[event["call_id"]][event["kind"]] += 1
    for call_id, call in case.books.calls.items():
        told = kinds[call_id]
        put_back = told["failed"] == told["retry_scheduled"] == 1 and call["fault"] == "trunk"
        ends = sum(told[kind] for kind in _END_KINDS) - put_back
        if told["originated"] != 1 or ends != 1 or told["ringing"] > 1 or told["connected"] > 1:
            yield f"{dict(told)}: {shown(call)}"
        if told["connected"] != (call["answered_at"] is not None):
            yield f"connected told {told['connected']} times: {shown(call)}"


def a_follower_hears_every_event_once(case: Case) -> Iterator[str]:
    """Whoever follows a campaign, and comes back to it after each break, hears all events once, in order."""
    for campaign_id, heard in case.followed.items():
        written = [event["seq"] for event in case.books.events if event["campaign_id"] == campaign_id]
        if heard != written:
            missed, unknown = set(written) - set(heard), set(heard) - set(written)
            yield f"campaign {campaign_id}: missed {sorted(missed)[:5]}, made up {sorted(unknown)[:5]}"


def counters_equal_a_count(case: Case) -> Iterator[str]:
    """The counters that are kept with the transitions are what a count over the rows gives."""
    calls: dict[int, list[Row]] = defaultdict(list)
    for call in case.books.calls.values():
        calls[call["campaign_id"]].append(call)
    for campaign_id, stats in case.books.stats.items():
        listed = [each for each in case.books.contacts.values() if each["campaign_id"] == campaign_id]
        placed = [each for each in calls[campaign_id] if (each["status"], each["outcome"]) != ("not_sent", "cancelled")]
        answered = [each for each in placed if each["answered_at"] is not None]
        counted = Counter(each["status"] for each in listed)
        came = Counter(each["outcome"] for each in placed)
        expected = {
            **{status.value: counted[status.value] for status in ContactStatus},
            "calls_placed": len(placed),
            "calls_withdrawn": len(calls[campaign_id]) - len(placed),
            "calls_answered": len(answered),
            "talk_millis": sum(round((each["talk_seconds"] or 0.0) * 1000) for each in answered),
            **{column: came[name.value] for name, column in OUTCOME_COLUMNS.items()},
        }
        yield from _differences(campaign_id, expected, stats)
        lasts = Counter((each["last_outcome"], each["status"]) for each in listed if each["last_outcome"])
        kept = {(row["outcome"], row["status"]): row["contacts"] for row in _of(case.books.outcomes, campaign_id)}
        for key in lasts.keys() | kept.keys():
            if lasts[key] != kept.get(key, 0):
                yield f"campaign {campaign_id}: {key} counted {lasts[key]}, kept {kept.get(key, 0)}"


def _of(rows: Iterable[Row], campaign_id: int) -> list[Row]:
    return [row for row in rows if row["campaign_id"] == campaign_id]


def _differences(campaign_id: int, expected: dict[str, int], stats: Row) -> Iterator[str]:
    for name, count in expected.items():
        if stats[name] != count:
            yield f"campaign {campaign_id}: {name} counted {count}, kept {stats[name]}"


LAWS: tuple[Callable[[Case], Iterator[str]], ...] = (
    no_result_is_lost,
    an_answered_call_is_told_as_it_was,
    events_walk_the_table,
    a_call_tells_each_step_once,
    a_follower_hears_every_event_once,
    counters_equal_a_count,
)
