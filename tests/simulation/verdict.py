"""The laws of the house, over a whole world at rest: what the far ends saw against what the store says."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dialerd.core.contact import TRANSITIONS, ContactEvent
from dialerd.core.model import ContactStatus
from dialerd.dispatch.receipts import LISTING_LAG
from dialerd.pbx.simulated_pbx import LedgerEntry
from dialerd.store.schema import OUTCOME_COLUMNS
from tests.simulation.books import Books, Row
from tests.simulation.far_end import Fate
from tests.simulation.scenario import Limit, Scenario
from tests.simulation.storm import Change, Running, Span, Storm
from tests.simulation.world import Told, World

WIRE_SECONDS = 0.01
"""The ways of two orders to the far end differ by less than this."""
SETTLING_SECONDS = 60.0
"""A lowered limit binds new calls: those planned before it was lowered go out within this."""
HANGUP_SECONDS = 0.1
"""A daemon that is told of a late channel has it hung up within this."""
LOOKUP_SECONDS = 20.0
"""And within this where a daemon before it gave the call up: the store has to say so, and may fail for a while."""
COMMIT_SECONDS = 0.5
"""What is known is written within this, as long as the disk is well."""
TALK_SECONDS = 0.1
"""A conversation is measured as exactly as this."""
_OF_ANSWERED = frozenset({"answered", "abandoned"})
_OF_CANCELLED = frozenset({"no_answer", "unreachable"})
"""What a hangup that we asked for ends in, by why we asked."""
TERMINAL = frozenset({"completed", "failed", "cancelled"})
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


@dataclass
class Case:
    """What the laws are asked about."""

    world: World
    scenario: Scenario
    campaigns: list[Running]
    storm: Storm
    books: Books
    followed: dict[int, list[int]]
    """The numbers of the events that each campaign's follower was told."""

    def __post_init__(self) -> None:
        self.entries: list[LedgerEntry] = [each for pbx in self.world.pbxs.values() for each in pbx.ledger.entries]
        self.entries.sort(key=lambda each: (each.began, each.call_id))

    def late(self, entry: LedgerEntry) -> bool:
        """Whether the channel came after its call was given up: its slot and its contact may have gone to others.

        One that came later than any receipt can tell, and not in time for its daemon's last listing, came after that.
        """
        call = self.books.calls.get(entry.call_id)
        if call is None or call["outcome"] != "interrupted" or entry.call_id not in self.world.late.given_up:
            return False
        if self.on_time(entry):
            return entry.began >= self.world.late.given_up[entry.call_id]
        listable = entry.began + self.scenario.callees.listing_lag_seconds
        return listable >= self.world.late.looked[entry.call_id]

    def on_time(self, entry: LedgerEntry) -> bool:
        """Whether the channel came by when an accepted order is taken to have arrived."""
        sent = self.world.sent.get(entry.call_id)
        return sent is None or entry.began - sent.mono <= LISTING_LAG


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
                yield f"reached the far end all the same: {_shown(call)}"
        elif call["status"] != "not_sent" and call["outcome"] != "interrupted":
            yield f"never reached the far end: {_shown(call)}"


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
        for shown, driver in late.shown[entry.call_id]:
            longest = HANGUP_SECONDS if driver is late.by[entry.call_id] else LOOKUP_SECONDS
            by = min(shown + longest, math.inf if driver.ended_at is None else driver.ended_at)
            over = entry.ended is not None and entry.ended <= by
            if not over and not any(shown <= asked <= by for asked in late.asked[entry.call_id]):
                yield f"{entry}: shown at {shown:.3f}, and not hung up by {by:.3f}"


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
            yield f"not ended: {_shown(call)}"
    for name, pbx in case.world.pbxs.items():
        if pbx.channels:
            yield f"{pbx.channels} channels live on at {name}"
    if case.world.disk.connections:
        yield f"{case.world.disk.connections} connections to the store are left open"


# -- limits -------------------------------------------------------------------------------------------------------


def no_limit_is_exceeded(case: Case) -> Iterator[str]:
    """Calls at once and calls per second, of every holder, as the far ends saw them.

    Only a channel that came after its call was given up may be one too many (until it is hung up), and only one that
    came later than any receipt can tell may bunch with others.
    """
    calls = case.books.calls
    holders: list[tuple[str, Callable[[LedgerEntry], bool], Callable[[float], list[Limit]]]] = []
    for name, limit in case.scenario.trunks.items():
        holders.append((f"trunk {name}", _where(calls, "trunk", name), _fixed(limit)))
    for name, limit in case.scenario.pbxs.items():
        own = Limit(min(limit.slots or 10**6, case.scenario.callees.max_channels), limit.rate)
        holders.append((f"pbx {name}", _where(calls, "pbx", name), _fixed(own)))
    for name, limit in case.scenario.tenants.items():
        holders.append((f"tenant {name}", _where(calls, "tenant", name), _fixed(limit)))
    for running in case.campaigns:
        own_id = running.campaign.id
        holders.append((f"campaign {own_id}", _where(calls, "campaign_id", own_id), _changing(running.limits)))
    for agent_id, slots in {each.campaign.agent_id: _agent_slots(case, each) for each in case.campaigns}.items():
        holders.append((f"agent {agent_id}", _where(calls, "agent_id", agent_id), _fixed(Limit(slots))))
    for name, theirs, limits in holders:
        entries = [entry for entry in case.entries if theirs(entry)]
        kept = [entry for entry in entries if not case.late(entry)]
        yield from (f"{name}: {fault}" for fault in _too_many(kept, limits))
        on_time = [entry for entry in entries if case.on_time(entry)]
        yield from (f"{name}: {fault}" for fault in _too_fast(on_time, limits))


def _agent_slots(case: Case, running: Running) -> int | None:
    return case.scenario.places[case.scenario.lists[case.campaigns.index(running)].place].slots


def _where(calls: dict[str, Row], column: str, value: object) -> Callable[[LedgerEntry], bool]:
    return lambda entry: entry.call_id in calls and calls[entry.call_id][column] == value


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


def _too_fast(entries: list[LedgerEntry], limits: Callable[[float], list[Limit]]) -> Iterator[str]:
    for index, entry in enumerate(entries):
        allowed = [limit.rate for limit in limits(entry.began)]
        if None in allowed:
            continue
        rate = max(each for each in allowed if each is not None)
        whole = max(1, math.floor(rate))
        if index >= whole and (apart := entry.began - entries[index - whole].began) < whole / rate:
            yield f"{whole + 1} calls in {apart:.3f} s at {entry.began:.3f}, and {rate:g} a second are allowed"


# -- what people and the law forbid -------------------------------------------------------------------------------


def no_call_outside_the_window(case: Case) -> Iterator[str]:
    """When an order went out, its campaign's hours were open by the wall clock."""
    settings = {each.campaign.id: each.campaign.settings for each in case.campaigns}
    for call, mono, wall in _sent(case):
        own = settings[call["campaign_id"]]
        opens, closes, at = own.opens(), own.closes(), wall.time()
        held = opens == closes or (opens <= at < closes if opens < closes else at >= opens or at < closes)
        if not held:
            yield f"sent at {wall} ({mono:.3f}), and its hours are {opens} to {closes}: {_shown(call)}"
        if own.end_at is not None and wall > own.end_at + timedelta(seconds=WIRE_SECONDS) and mono not in _jumped(case):
            yield f"sent at {wall}, after end_at: {_shown(call)}"


def _jumped(case: Case) -> list[float]:
    return case.storm.jumps


def nobody_on_the_do_not_call_list_is_called(case: Case) -> Iterator[str]:
    """Not from the moment on at which whoever listed the number was told so."""
    for call, mono, _ in _sent(case):
        if any(span.since < mono < span.until for span in case.storm.listed.get(call["phone_number"], [])):
            yield f"on the list, and sent at {mono:.3f}: {_shown(call)}"


def a_paused_campaign_is_silent(case: Case) -> Iterator[str]:
    """Not a call from the moment on at which whoever paused or stopped it was told so."""
    quiet: dict[int, list[Span]] = {each.campaign.id: each.quiet for each in case.campaigns}
    for call, mono, _ in _sent(case):
        if any(span.since < mono < span.until for span in quiet[call["campaign_id"]]):
            yield f"sent at {mono:.3f} while its campaign was not active: {_shown(call)}"


def a_promise_is_not_kept_too_early(case: Case) -> Iterator[str]:
    """Whoever was promised a callback is not called before its time. The clock may go back once it was kept."""
    kept: set[int] = set()
    for call, mono, wall in sorted(_sent(case), key=lambda each: each[1]):
        for span in case.storm.promised.get(call["phone_number"], []):
            if span.due is None or not span.since < mono < span.until or id(span) in kept:
                continue
            if wall >= span.due:
                kept.add(id(span))
            else:
                yield f"sent at {wall}, and a callback was promised for {span.due}: {_shown(call)}"


def _sent(case: Case) -> Iterator[tuple[Row, float, datetime]]:
    for call_id, moment in case.world.sent.items():
        if call_id in case.books.calls:
            yield case.books.calls[call_id], moment.mono, moment.wall.astimezone(UTC)


# -- events and counters ------------------------------------------------------------------------------------------


def no_result_is_lost(case: Case) -> Iterator[str]:
    """An end that a daemon heard is what the store says, unless that daemon died before it could write it."""
    for call_id, told in case.world.told.items():
        call = case.books.calls.get(call_id)
        if call is None or not _written(case, call_id, told):
            continue
        event, answered = told.event, call["answered_at"] is not None
        outcomes = _OF_ANSWERED if answered else _OF_CANCELLED if event.verdict.outcome == "cancelled" else frozenset()
        if call["outcome"] not in outcomes | ({event.verdict.outcome} if not answered else set()):
            yield f"the PBX had told {event.verdict}: {_shown(call)}"
        if (call["hangup_cause"], call["sip_status"]) != (event.hangup_cause, event.sip_status):
            yield f"the PBX had told cause {event.hangup_cause} and {event.sip_status}: {_shown(call)}"
        if (call["status"] == "not_sent") == (event.channel or answered):
            yield f"the PBX had told {event}: {_shown(call)}"


def _written(case: Case, call_id: str, told: Told) -> bool:
    """Whether whoever heard an end lived on for long enough to write it, after it had looked up what it had to."""
    if told.generation in case.world.unwritten:
        return False
    died = case.world.killed.get(told.generation, math.inf)
    known = max(told.at, case.world.looked_up[call_id].over) if call_id in case.world.looked_up else told.at
    if died <= known + COMMIT_SECONDS:
        return False
    return died == math.inf or not any(_overlaps(span, known, died) for span in case.storm.disk_trouble)


def _overlaps(span: Span, since: float, until: float) -> bool:
    return span.since <= until and span.until >= since


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
            if any(_overlaps(span, began, fate.ended) for span in case.storm.untrue[name]):
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
        yield f"{expected}, from {fate.answered:.3f} to {fate.ended:.3f}: {_shown(call)}"
    talk = fate.ended - fate.answered
    jumped = any(fate.answered - TALK_SECONDS <= jump <= fate.ended + TALK_SECONDS for jump in case.storm.jumps)
    if not jumped and (call["talk_seconds"] is None or abs(call["talk_seconds"] - talk) > TALK_SECONDS):
        yield f"it talked for {talk:.3f} s: {_shown(call)}"


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
            yield f"{dict(told)}: {_shown(call)}"
        if told["connected"] != (call["answered_at"] is not None):
            yield f"connected told {told['connected']} times: {_shown(call)}"


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


def _shown(call: Row) -> str:
    return str({name: value for name, value in call.items() if value is not None and name != "caller_id"})


LAWS: tuple[Callable[[Case], Iterator[str]], ...] = (
    nothing_showed_at_once,
    an_attempt_is_at_most_one_call,
    a_number_has_one_live_call,
    a_late_channel_is_hung_up,
    attempts_are_numbered_without_a_gap,
    everything_ends,
    no_limit_is_exceeded,
    no_call_outside_the_window,
    nobody_on_the_do_not_call_list_is_called,
    a_paused_campaign_is_silent,
    a_promise_is_not_kept_too_early,
    no_result_is_lost,
    an_answered_call_is_told_as_it_was,
    events_walk_the_table,
    a_call_tells_each_step_once,
    a_follower_hears_every_event_once,
    counters_equal_a_count,
)
