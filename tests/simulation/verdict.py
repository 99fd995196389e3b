"""The laws of the house, over a whole world at rest: what the far ends saw against what the store says."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta

from dialerd.core.outcome import Outcome
from dialerd.pbx.simulated_pbx import LedgerEntry
from dialerd.store.schema import from_micros
from tests.simulation import tellings
from tests.simulation.books import Row
from tests.simulation.case import Case, overlaps, shown
from tests.simulation.scenario import Limit
from tests.simulation.storm import Change, Running, Span

WIRE_SECONDS = 0.01
"""The ways of two orders to the far end differ by less than this."""
TIMER_SECONDS = 2e-6
"""A timer may fire so much early."""
GIVING_UP_SECONDS = 0.1
"""Whoever rings for too long is hung up within this."""
SETTLING_SECONDS = 60.0
"""A lowered limit binds new calls: those planned before it was lowered go out within this."""
HANGUP_SECONDS = 0.1
"""A daemon that is told of a late channel has it hung up within this."""
LOOKUP_SECONDS = 20.0
"""And within this where a daemon before it gave the call up: the store has to say so, and may fail for a while."""
TERMINAL = frozenset({"completed", "failed", "cancelled"})


def broken(case: Case) -> list[str]:
    """Every law that does not hold, with what broke it; none: all hold."""
    return [f"{law.__name__}: {fault}" for law in LAWS for fault in itertools.islice(law(case), 5)]


def nothing_showed_at_once(case: Case) -> Iterator[str]:
    """No task failed, nothing was dropped, no order was sent twice."""
    yield from case.world.faults


def an_attempt_is_at_most_one_call(case: Case) -> Iterator[str]:
    """At the far ends: at most one call per attempt; one that never came is known not to be sent, or interrupted."""
    reached = Counter(entry.call_id for entry in case.entries)
    for call_id, count in reached.items():
        if count > 1:
            yield f"{call_id} reached the far ends {count} times"
        if call_id not in case.books.calls:
            yield f"{call_id} is no attempt of ours"
    for call in case.books.calls.values():
        if reached[call["id"]]:
            if call["status"] == "not_sent":
                yield f"reached the far end all the same: {shown(call)}"
        elif call["status"] != "not_sent" and call["outcome"] != "interrupted":
            yield f"never reached the far end: {shown(call)}"


def a_number_has_one_live_call(case: Case) -> Iterator[str]:
    """On all PBXs together: a contact is dialled again only after its last call is over, or given up."""
    by_number: dict[str, list[LedgerEntry]] = defaultdict(list)
    for entry in case.entries:
        if not case.late(entry):
            by_number[entry.number].append(entry)
    for number, calls in by_number.items():
        for early, late in itertools.pairwise(calls):
            if early.ended is None or early.ended > late.began:
                yield f"{number}: {early} and {late}"


def a_late_channel_is_hung_up(case: Case) -> Iterator[str]:
    """Nobody follows it: a daemon that is told of it has it hung up, as long as it runs, or it ends before that."""
    late = case.world.late
    for entry in case.entries:
        if not case.late(entry):
            continue
        for told_at, driver in late.shown[entry.call_id]:
            longest = HANGUP_SECONDS if driver is late.by[entry.call_id] else LOOKUP_SECONDS
            by = min(told_at + longest, math.inf if driver.ended_at is None else driver.ended_at)
            over = entry.ended is not None and entry.ended <= by
            if not over and not any(told_at <= asked <= by for asked in late.asked[entry.call_id]):
                yield f"{entry}: shown at {told_at:.3f}, and not hung up by {by:.3f}"


def attempts_are_numbered_without_a_gap(case: Case) -> Iterator[str]:
    """The attempts of a contact are 1, 2, 3 …, and it counts as many."""
    of_contacts = case.books.calls_of_contacts()
    for contact in case.books.contacts.values():
        numbered = [call["attempt"] for call in of_contacts.get(contact["id"], [])]
        if numbered != list(range(1, contact["attempts"] + 1)):
            yield f"{contact['phone_number']} counts {contact['attempts']} attempts: {numbered}"


def everything_ends(case: Case) -> Iterator[str]:
    """Every campaign, every contact, every call; and nothing is held for what has ended."""
    for campaign in case.books.campaigns.values():
        if campaign["status"] not in TERMINAL:
            yield f"campaign {campaign['id']} is {campaign['status']}"
    left: dict[tuple[int, str], list[str]] = defaultdict(list)
    for contact in case.books.contacts.values():
        if contact["status"] not in TERMINAL:
            left[contact["campaign_id"], contact["status"]].append(contact["phone_number"])
    for (campaign_id, status), numbers in left.items():
        yield f"{len(numbers)} contacts of campaign {campaign_id} are {status}, {', '.join(numbers[:3])} among them"
    for call in case.books.calls.values():
        if call["status"] not in ("ended", "not_sent") or call["ended_at"] is None:
            yield f"not ended: {shown(call)}"
    for name, pbx in case.world.pbxs.items():
        if pbx.channels:
            yield f"{pbx.channels} channels live on at {name}"
    if case.world.disk.connections:
        yield f"{case.world.disk.connections} connections to the store are left open"


# -- limits -------------------------------------------------------------------------------------------------------


def no_limit_is_exceeded(case: Case) -> Iterator[str]:
    """Calls at once and calls per second, of every holder, as the far ends saw them.

    Only a channel that came after its call was given up may be one too many (until it is hung up), and only one that
    came later than any receipt can tell may bunch with others. Orders left with the guard between them, whatever became
    of them: how long each took from there to its far end blurs it.
    """
    guard = case.world.config.dispatch.cps_guard_ms / 1000
    sent = [(call, mono) for call, mono, _ in case.sent()]
    calls = case.books.calls
    holders: list[tuple[str, Callable[[Row], bool], Callable[[float], list[Limit]]]] = []
    for name, limit in case.scenario.trunks.items():
        holders.append((f"trunk {name}", _where("trunk", name), _fixed(limit)))
    for name, limit in case.scenario.pbxs.items():
        own = Limit(min(limit.slots or 10**6, case.scenario.callees.max_channels), limit.rate)
        holders.append((f"pbx {name}", _where("pbx", name), _fixed(own)))
    for name, limit in case.scenario.tenants.items():
        holders.append((f"tenant {name}", _where("tenant", name), _fixed(limit)))
    for running in case.campaigns:
        own_id = running.campaign.id
        holders.append((f"campaign {own_id}", _where("campaign_id", own_id), _changing(running.limits)))
    for agent_id, slots in {each.campaign.agent_id: _agent_slots(case, each) for each in case.campaigns}.items():
        holders.append((f"agent {agent_id}", _where("agent_id", agent_id), _fixed(Limit(slots))))
    for name, theirs, limits in holders:
        entries = [entry for entry in case.entries if entry.call_id in calls and theirs(calls[entry.call_id])]
        kept = [entry for entry in entries if not case.late(entry)]
        yield from (f"{name}: {fault}" for fault in _too_many(kept, limits))
        on_time = [entry for entry in entries if case.on_time(entry)]
        yield from (f"{name}: {fault}" for fault in _too_fast([entry.began for entry in on_time], limits))
        orders = sorted(mono for call, mono in sent if theirs(call))
        yield from (f"{name}, as sent: {fault}" for fault in _too_fast(orders, limits, guard))


def _agent_slots(case: Case, running: Running) -> int | None:
    return case.scenario.places[case.scenario.lists[case.campaigns.index(running)].place].slots


def _where(column: str, value: object) -> Callable[[Row], bool]:
    return lambda call: bool(call[column] == value)


def _fixed(limit: Limit) -> Callable[[float], list[Limit]]:
    return lambda _at: [limit]


def _changing(changes: list[Change]) -> Callable[[float], list[Limit]]:
    """Every limit that may have been the one a call was planned under."""

    def at(moment: float) -> list[Limit]:
        settled = [each for each in changes if each.stands and each.over <= moment - SETTLING_SECONDS]
        # Of two that were asked for at once, either may be the last: answers come in another order than commits.
        return [
            each.limit
            for each in changes
            if each.asked <= moment and not any(later.asked >= each.over for later in settled if later is not each)
        ]

    return at


def _too_many(entries: list[LedgerEntry], limits: Callable[[float], list[Limit]]) -> Iterator[str]:
    ends = sorted(entry.ended for entry in entries if entry.ended is not None)
    over = 0
    for index, entry in enumerate(entries):
        while over < len(ends) and ends[over] <= entry.began:
            over += 1
        allowed = [limit.slots for limit in limits(entry.began)]
        most = None if None in allowed else max(each for each in allowed if each is not None)
        if most is not None and index + 1 - over > most:
            yield f"{index + 1 - over} calls at once at {entry.began:.3f}, and {most} are allowed"


def _too_fast(moments: list[float], limits: Callable[[float], list[Limit]], guard: float = 0.0) -> Iterator[str]:
    for index, moment in enumerate(moments):
        allowed = [limit.rate for limit in limits(moment)]
        if None in allowed:
            continue
        rate = max(each for each in allowed if each is not None)
        whole = max(1, math.floor(rate))
        least = whole / rate + guard - TIMER_SECONDS
        if index >= whole and (apart := moment - moments[index - whole]) < least:
            yield f"{whole + 1} calls in {apart:.3f} s at {moment:.3f}, and {rate:g} a second are allowed"


# -- what people and the law forbid -------------------------------------------------------------------------------


def no_call_outside_the_window(case: Case) -> Iterator[str]:
    """When an order went out, its campaign's hours were open by the wall clock."""
    settings = {each.campaign.id: each.campaign.settings for each in case.campaigns}
    for call, mono, wall in case.sent():
        own = settings[call["campaign_id"]]
        opens, closes, at = own.opens(), own.closes(), wall.time()
        held = opens == closes or (opens <= at < closes if opens < closes else at >= opens or at < closes)
        if not held:
            yield f"sent at {wall} ({mono:.3f}), and its hours are {opens} to {closes}: {shown(call)}"
        if own.end_at is not None and wall > own.end_at + timedelta(seconds=WIRE_SECONDS) and mono not in _jumped(case):
            yield f"sent at {wall}, after end_at: {shown(call)}"


def nobody_is_tried_again_too_early(case: Case) -> Iterator[str]:
    """A retry comes no sooner than its rule says, by the wall clock, but for promises and by fault of a trunk.

    The clock may go back once it was planned.
    """
    settings = {each.campaign.id: each.campaign.settings for each in case.campaigns}
    jumped = _jumped(case)
    went = {
        call["id"]: wall
        for call, mono, wall in case.sent()
        if call["phone_number"] not in case.storm.promised
        and not any(jump <= mono < jump + SETTLING_SECONDS for jump in jumped)
    }
    for calls in case.books.calls_of_contacts().values():
        for early, late in itertools.pairwise(calls):
            if early["fault"] == "trunk" or late["id"] not in went:
                continue
            rule = settings[early["campaign_id"]].rule_for(Outcome(early["outcome"]))
            due = from_micros(early["ended_at"]) + timedelta(seconds=0.0 if rule is None else rule.delay_seconds)
            if went[late["id"]] < due:
                yield f"sent at {went[late['id']]}, and due at {due}: {shown(late)}"


def nobody_rings_for_too_long(case: Case) -> Iterator[str]:
    """Whoever does not answer is hung up by the campaign's own limit, where one daemon heard all of it in time."""
    settings = {each.campaign.id: each.campaign.settings for each in case.campaigns}
    for call_id, (rang, over) in case.world.rung.items():
        call = case.books.calls[call_id]
        longest = settings[call["campaign_id"]].answer_timeout + GIVING_UP_SECONDS
        untrue = case.storm.untrue[call["pbx"]]
        if over - rang > longest and not any(overlaps(span, rang, over) for span in untrue):
            yield f"rang for {over - rang:.3f} s: {shown(call)}"


def _jumped(case: Case) -> list[float]:
    return case.storm.jumps


def nobody_on_the_do_not_call_list_is_called(case: Case) -> Iterator[str]:
    """Not from the moment on at which whoever listed the number was told so."""
    for call, mono, _ in case.sent():
        if any(span.since < mono < span.until for span in case.storm.listed.get(call["phone_number"], [])):
            yield f"on the list, and sent at {mono:.3f}: {shown(call)}"


def a_paused_campaign_is_silent(case: Case) -> Iterator[str]:
    """Not a call from the moment on at which whoever paused or stopped it was told so."""
    quiet: dict[int, list[Span]] = {each.campaign.id: each.quiet for each in case.campaigns}
    for call, mono, _ in case.sent():
        if any(span.since < mono < span.until for span in quiet[call["campaign_id"]]):
            yield f"sent at {mono:.3f} while its campaign was not active: {shown(call)}"


def a_promise_is_not_kept_too_early(case: Case) -> Iterator[str]:
    """Whoever was promised a callback is not called before its time. The clock may go back once it was kept."""
    kept: set[int] = set()
    for call, mono, wall in sorted(case.sent(), key=lambda each: each[1]):
        for span in case.storm.promised.get(call["phone_number"], []):
            if span.due is None or not span.since < mono < span.until or id(span) in kept:
                continue
            if wall >= span.due:
                kept.add(id(span))
            else:
                yield f"sent at {wall}, and a callback was promised for {span.due}: {shown(call)}"


LAWS: tuple[Callable[[Case], Iterator[str]], ...] = (
    nothing_showed_at_once,
    an_attempt_is_at_most_one_call,
    a_number_has_one_live_call,
    a_late_channel_is_hung_up,
    attempts_are_numbered_without_a_gap,
    everything_ends,
    no_limit_is_exceeded,
    no_call_outside_the_window,
    nobody_is_tried_again_too_early,
    nobody_rings_for_too_long,
    nobody_on_the_do_not_call_list_is_called,
    a_paused_campaign_is_silent,
    a_promise_is_not_kept_too_early,
    *tellings.LAWS,
)
