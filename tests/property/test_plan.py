"""Whatever the snapshot: nothing is planned that a rule forbids, silence has a reason, and no wake is in vain."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from dialerd.core.model import CampaignStatus, Contact
from dialerd.core.plan import opening, plan
from dialerd.core.rules import explain
from dialerd.core.snapshot import HORIZON, CampaignView, Gate, Plan
from dialerd.core.throttle import Key, Level
from dialerd.core.windows import window
from tests.support.contacts import a_contact
from tests.support.effort import examples
from tests.support.planning import AGENT, GUARD, NOON, World, a_campaign, at

rates = st.sampled_from([0.5, 1, 2.5, 10, 60, 400])
slots = st.integers(0, 6)
zones = st.none() | st.sampled_from(["UTC", "America/Los_Angeles", "Asia/Tokyo", "Europe/London"])
hours = st.sampled_from([("00:00", "00:00"), ("09:00", "17:00"), ("13:00", "17:00"), ("20:00", "12:30")])
gates = st.just(Gate(True)) | st.builds(
    Gate, st.just(False), st.just("closed"), st.none() | st.integers(1, 9000).map(lambda s: NOON + timedelta(seconds=s))
)


@st.composite
def views(draw: st.DrawFn, campaign_id: int) -> CampaignView:
    opens, closes = draw(hours)
    campaign = a_campaign(
        campaign_id,
        draw(st.sampled_from(["one", "two"])),
        draw(st.sampled_from([CampaignStatus.ACTIVE] * 5 + [CampaignStatus.PAUSED])),
        calling_hours_start=opens,
        calling_hours_end=closes,
        concurrent_calls=draw(st.integers(1, 5)),
        max_calls_per_second=draw(st.none() | rates),
        trunks=draw(st.sampled_from([(), ("a",), ("b", "a")])),
        priority=draw(st.integers(0, 2)),
    )
    contacts = [
        a_contact(id=campaign_id * 100 + index, campaign_id=campaign_id, timezone=draw(zones))
        for index in range(draw(st.integers(0, 8)))
    ]
    return CampaignView(
        campaign,
        draw(st.sampled_from([AGENT] * 9 + [None])),
        contacts,
        draw(st.none() | st.integers(-100, 9000).map(lambda s: NOON + timedelta(seconds=s))),
        loading=draw(st.booleans()),
        waiting_since=draw(st.none() | st.floats(-60, 0)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World()
    for name in ("a", "b"):
        world.book.set(Key(Level.TRUNK, name), draw(slots), draw(rates), GUARD)
        world.gates[Key(Level.TRUNK, name)] = draw(gates)
    world.book.set(Key(Level.PBX, "main"), draw(st.integers(0, 12)), draw(rates), GUARD)
    world.gates[Key(Level.PBX, "main")] = draw(gates)
    for name in ("one", "two"):
        world.book.set(Key(Level.TENANT, name), draw(slots), draw(rates), GUARD)
        world.tenants[name] = replace(world.tenants[name], max_calls_per_day=draw(st.none() | st.integers(0, 5)))
    world.placed_today["one"] = draw(st.integers(0, 3))
    holders = [Key(Level.TRUNK, "a"), Key(Level.TRUNK, "b"), Key(Level.PBX, "main"), Key(Level.TENANT, "one")]
    for index in range(draw(st.integers(0, 5))):
        keys = draw(st.lists(st.sampled_from(holders), unique=True))
        world.book.take(f"before-{index}", keys)
        if draw(st.booleans()):
            moment = draw(st.floats(-2, 0))
            world.book.reserve(keys, moment)
            world.book.sent(keys, moment)
    world.system = draw(st.sampled_from([Gate(True)] * 9 + [Gate(False, "draining")]))
    return world


scenes = st.tuples(worlds(), st.integers(0, 5).flatmap(lambda n: st.tuples(*(views(1 + i) for i in range(n)))))
Scene = tuple[World, tuple[CampaignView, ...]]


@settings(max_examples=examples(120))
@given(scenes)
def test_nothing_is_planned_that_a_rule_forbids(scene: Scene) -> None:
    world, crowd = scene
    snapshot = world.snapshot(*crowd)
    used = {key: capacity.used for key, capacity in world.book.items()}
    free = {key: capacity.rate.next_free for key, capacity in world.book.items() if capacity.rate is not None}
    made = plan(snapshot, at(0))
    by_id = {view.campaign.id: view for view in crowd}
    taken: Counter[Key] = Counter()
    sends: dict[Key, list[float]] = {}
    for call in made.calls:
        view = by_id[call.campaign.id]
        assert world.system.open
        assert view.agent is not None
        assert call.campaign.status is CampaignStatus.ACTIVE
        assert call.contact in view.contacts
        assert call.trunk.id in (call.campaign.settings.trunks or ("a", "b"))
        assert window(call.campaign.settings, (), NOON).open
        if call.contact.timezone is not None:
            assert window(call.campaign.settings, (ZoneInfo(call.contact.timezone),), NOON).open
        assert 0 <= call.send_at <= HORIZON
        for key in call.keys:
            assert snapshot.gates.get(key, Gate(True)).open
            taken[key] += 1
            sends.setdefault(key, []).append(call.send_at)
    for key, count in taken.items():
        capacity = world.book.get(key)
        assert capacity.slots is None or used[key] + count <= capacity.slots
        if capacity.rate is not None:
            moments = sorted([free[key] - capacity.rate.spacing, *sends[key]])
            for early, late in itertools.pairwise(moments):
                assert late - early >= capacity.rate.spacing - 1e-9
    today = Counter(call.tenant.id for call in made.calls)
    for tenant_id, count in today.items():
        most = world.tenants[tenant_id].max_calls_per_day
        assert most is None or world.placed_today.get(tenant_id, 0) + count <= most
    dialled = [call.contact.id for call in made.calls] + [each.contact.id for each in made.deferrals]
    assert len(dialled) == len(set(dialled))


@settings(max_examples=examples(120))
@given(scenes)
def test_silence_has_a_reason_and_the_plan_repeats(scene: Scene) -> None:
    world, crowd = scene
    snapshot = world.snapshot(*crowd)
    made = plan(snapshot, at(0))
    assert made == plan(snapshot, at(0))
    placed = {call.campaign.id for call in made.calls}
    deferred = {each.contact.campaign_id for each in made.deferrals}
    for view in crowd:
        if view.campaign.id in placed:
            continue
        reason = made.reasons[view.campaign.id]
        assert not reason.holds
        assert reason.detail
        first = next((rule for rule in explain(snapshot, view, at(0)) if not rule.holds), None)
        if not made.calls and not deferred and all(each.waiting_since is None for each in crowd):
            # Nothing of this round's own is in its way, so that explain, which plans nothing, sees the same.
            assert first == reason, f"{first} {reason}"


@settings(max_examples=examples(120))
@given(scenes, st.integers(0, 6))
def test_a_round_of_a_few_calls_begins_as_that_of_all_and_goes_on_at_once(scene: Scene, most: int) -> None:
    world, crowd = scene
    snapshot = world.snapshot(*crowd)
    whole, begun = plan(snapshot, at(0)), plan(replace(snapshot, most=most), at(0))
    assert begun.calls == whole.calls[: len(begun.calls)]
    if len(begun.calls) < len(whole.calls):
        assert len(begun.calls) >= most
        assert begun.wake_at == 0.0
    else:
        assert len(begun.calls) <= most or any(each.waiting_since is not None for each in crowd)


@settings(max_examples=examples(120))
@given(scenes)
def test_nothing_is_planned_while_no_trunk_opens(scene: Scene) -> None:
    world, crowd = scene
    opens = opening(world.trunks.values(), world.gates, world.book, at(0))
    if opens is None or opens > 0:
        assert not plan(world.snapshot(*crowd), at(0)).calls


def _seen_again(crowd: tuple[CampaignView, ...], made: Plan) -> tuple[CampaignView, ...]:
    """The campaigns as the dispatcher shows them after a plan: what was planned or deferred is at hand no more."""
    gone = {call.contact.id for call in made.calls} | {each.contact.id for each in made.deferrals}

    def left(contacts: object) -> list[Contact]:
        assert isinstance(contacts, list)
        return [contact for contact in contacts if contact.id not in gone]

    return tuple(replace(view, contacts=left(view.contacts)) for view in crowd)


@settings(max_examples=examples(120))
@given(scenes)
def test_no_wake_is_in_vain(scene: Scene) -> None:
    """Asked again at the moment it named, the planner has something to do, or names a later moment: it never spins."""
    world, crowd = scene
    now = 0.0
    for _ in range(30):
        made = plan(world.snapshot(*crowd), at(now))
        world.place(made.calls)
        crowd = _seen_again(crowd, made)
        if made.wake_at is None:
            return
        assert made.wake_at >= now
        if not made.calls and not made.deferrals and not made.hungry:
            assert made.wake_at - now >= 0.001 - 1e-9
        now = made.wake_at
