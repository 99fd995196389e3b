"""The planner, rule by rule: what it lets through, what it says where it does not, and when it asks to be asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dialerd.core.fairness import Lane
from dialerd.core.model import CampaignStatus
from dialerd.core.plan import PATIENCE, _Round, opening, plan
from dialerd.core.rules import LEAD, explain
from dialerd.core.snapshot import FARTHEST, HORIZON, CampaignView, Gate, Plan, PlannedCall, horizon
from dialerd.core.throttle import Key, Level
from tests.support.contacts import a_contact
from tests.support.planning import GUARD, NOON, World, a_campaign, a_view, at, some_contacts

A, B, MAIN = Key(Level.TRUNK, "a"), Key(Level.TRUNK, "b"), Key(Level.PBX, "main")


def first_refusal(world: World, view: CampaignView, seconds: float = 0.0) -> str | None:
    """The first rule of explain that does not hold."""
    rules = explain(world.snapshot(view), view, at(seconds))
    return next((reason.rule for reason in rules if not reason.holds), None)


def trunks_of(plan: Plan) -> Counter[str]:
    return Counter(call.trunk.id for call in plan.calls)


class TestRulesOfACampaign:
    def test_a_due_contact_is_dialled_at_once(self) -> None:
        world, view = World(), a_view()
        plan = world.plan(view)
        (call,) = plan.calls
        assert (call.contact, call.trunk.id, call.send_at) == (view.contacts[0], "a", 0.0)
        own = (Key(Level.TENANT, "one"), Key(Level.CAMPAIGN, 1), Key(Level.AGENT, 1))
        assert set(call.keys) == {A, MAIN, Key(Level.TRUNK_PACE, "a"), Key(Level.PBX_OWN, "main"), *own}

    def test_contacts_go_in_their_order(self) -> None:
        view = a_view(contacts=5)
        assert [call.contact for call in World().plan(view).calls] == list(view.contacts)

    @pytest.mark.parametrize("status", [each for each in CampaignStatus if each is not CampaignStatus.ACTIVE])
    def test_only_an_active_campaign_dials(self, status: CampaignStatus) -> None:
        world, view = World(), a_view(a_campaign(status=status))
        plan = world.plan(view)
        assert not plan.calls
        assert plan.reasons[1].rule == first_refusal(world, view) == "status"

    def test_a_closed_system_dials_nothing_and_says_why(self) -> None:
        world, view = World(), a_view()
        world.system = Gate(False, "the daemon is stopping")
        plan = world.plan(view)
        assert not plan.calls
        assert plan.wake_at is None
        assert plan.reasons[1].detail == "the daemon is stopping"

    def test_an_unknown_tenant_has_no_rules_to_evaluate(self) -> None:
        world, view = World(), a_view(a_campaign(tenant="gone"))
        assert not world.plan(view).calls
        assert world.plan(view).reasons[1].rule == first_refusal(world, view) == "tenant"

    def test_no_agent_no_call(self) -> None:
        world, view = World(), a_view(agent=None)
        assert not world.plan(view).calls
        assert world.plan(view).reasons[1].rule == first_refusal(world, view) == "agent"

    def test_closed_hours_name_the_moment_they_open(self) -> None:
        world = World()
        view = a_view(a_campaign(calling_hours_start="13:00", calling_hours_end="17:00"))
        plan = world.plan(view)
        assert not plan.calls
        assert plan.reasons[1].until == NOON + timedelta(hours=1)
        assert plan.wake_at == pytest.approx(3600, abs=0.01)
        assert plan.wake_at is not None
        assert plan.wake_at > 3600

    def test_the_tenants_day_is_spent(self) -> None:
        world, view = World(), a_view(contacts=5)
        world.tenants["one"] = replace(world.tenants["one"], max_calls_per_day=12)
        world.placed_today["one"] = 10
        plan = world.plan(view)
        assert len(plan.calls) == 2
        assert plan.reasons[1].rule == "max_calls_per_day"
        assert plan.reasons[1].until == datetime(2026, 3, 3, tzinfo=UTC)

    def test_no_trunk_is_named(self) -> None:
        world, view = World(), a_view(a_campaign(trunks=("elsewhere",)))
        plan = world.plan(view)
        assert not plan.calls
        assert plan.reasons[1].rule == first_refusal(world, view) == "trunks"


class TestContacts:
    def test_none_at_hand_and_none_known_is_hungry(self) -> None:
        plan = World().plan(a_view(contacts=0))
        assert plan.hungry == (1,)
        assert plan.reasons[1].rule == "contacts"
        assert plan.wake_at is None

    def test_what_falls_due_later_is_woken_for(self) -> None:
        world, view = World(), a_view(contacts=0, next_due=NOON + timedelta(minutes=5))
        plan = world.plan(view)
        assert plan.reasons[1].until == NOON + timedelta(minutes=5)
        assert plan.wake_at == pytest.approx(300, abs=0.01)
        assert plan.wake_at is not None
        assert plan.wake_at > 300
        assert first_refusal(world, view) == "contacts"

    def test_whoever_fell_due_is_fetched_even_while_others_are_at_hand(self) -> None:
        assert World().plan(a_view(contacts=1, next_due=NOON)).hungry == (1,)

    def test_whoever_waits_for_more_is_hungry_even_without_a_slot(self) -> None:
        """Otherwise a freed slot would wait for the store."""
        world, view = World(), a_view(a_campaign(concurrent_calls=1), contacts=0)
        world.book.take("other", (Key(Level.CAMPAIGN, 1),))
        assert world.plan(view).hungry == (1,)

    def test_a_contact_whose_hours_are_closed_steps_aside_for_the_next(self) -> None:
        sleeper = a_contact(id=1, timezone="America/Los_Angeles")
        waking = a_contact(id=2, timezone="Europe/London", phone_number="+442079460000")
        campaign = a_campaign(calling_hours_start="09:00", calling_hours_end="17:00")
        plan = World().plan(a_view(campaign, [sleeper, waking]))
        assert [call.contact.id for call in plan.calls] == [2]
        (deferral,) = plan.deferrals
        # Nine in Los Angeles is five in UTC, where the campaign closes: both are open once summer time has begun there.
        assert (deferral.contact.id, deferral.until) == (1, datetime(2026, 3, 8, 16, tzinfo=UTC))

    def test_a_contact_in_a_zone_that_nobody_knows_is_not_dialled(self) -> None:
        plan = World().plan(a_view(contacts=[a_contact(timezone="Mars/Olympus")]))
        assert not plan.calls
        assert [deferral.until for deferral in plan.deferrals] == [None]

    def test_all_deferred_is_said(self) -> None:
        plan = World().plan(a_view(contacts=some_contacts(3, timezone="Mars/Olympus")))
        assert len(plan.deferrals) == 3
        assert plan.reasons[1].rule == "contacts"


class TestLimits:
    @pytest.mark.parametrize("key", [A, MAIN, Key(Level.TENANT, "one"), Key(Level.CAMPAIGN, 1), Key(Level.AGENT, 1)])
    def test_no_plan_takes_more_slots_than_there_are(self, key: Key) -> None:
        world, view = World(), a_view(a_campaign(trunks=("a",)), contacts=9)
        snapshot = world.snapshot(view)
        world.book.set(key, 3, None, GUARD)
        world.book.take("other", (key,))
        planned = plan(snapshot, at(0))
        assert len(planned.calls) == 2
        assert planned.reasons[1].rule == f"{key.level.value}_slots"
        assert planned.wake_at is None  # a slot frees with an event

    def test_no_more_is_planned_than_goes_out_within_the_horizon(self) -> None:
        world, view = World(trunk_rate=10), a_view(a_campaign(trunks=("a",)), contacts=9)
        plan = world.plan(view)
        assert [call.send_at for call in plan.calls] == [0.0]
        assert plan.reasons[1].rule == "trunk_rate"
        assert plan.wake_at == pytest.approx(0.106 - LEAD, abs=0.003)

    def test_a_fast_trunk_gets_several_at_their_own_moments(self) -> None:
        world, view = World(trunk_rate=200), a_view(a_campaign(trunks=("a",)), contacts=20)
        moments = [call.send_at for call in world.plan(view).calls]
        assert len(moments) == 10
        assert moments == pytest.approx([index * (1 + GUARD) / 200 for index in range(10)])

    def test_a_round_begins_for_a_rate_when_its_moment_is_near_and_then_plans_ahead(self) -> None:
        world, view = World(trunk_rate=200), a_view(a_campaign(trunks=("a",)), contacts=40)
        planned = world.plan(view)
        world.place(planned.calls)
        left = replace(view, contacts=view.contacts[10:])
        assert planned.wake_at is not None
        assert not world.plan(left, seconds=planned.wake_at - 0.005).calls
        moments = [call.send_at for call in world.plan(left, seconds=planned.wake_at).calls]
        assert moments[0] == pytest.approx(planned.wake_at + LEAD, abs=0.003)
        assert moments[-1] > planned.wake_at + HORIZON - 0.006

    def test_a_round_that_takes_long_looks_farther_ahead(self) -> None:
        """There are hundreds of campaigns: the longer a round takes, the more calls it is to plan."""
        assert [horizon(took) for took in (0.0, 0.004, 0.02, 9.0)] == [HORIZON, HORIZON, 0.2, FARTHEST]
        world, view = World(trunk_rate=200), a_view(a_campaign(trunks=("a",)), contacts=90)
        planned = plan(replace(world.snapshot(view), horizon=0.2), at(0))
        moments = [call.send_at for call in planned.calls]
        assert moments == pytest.approx([index * (1 + GUARD) / 200 for index in range(38)])
        assert planned.wake_at == pytest.approx(0.2 - LEAD, abs=0.008)

    def test_a_wake_at_the_edge_is_not_in_vain(self) -> None:
        """However the moment rounds: whoever is woken for a rate is served, and does not ask for that moment again."""
        for index in range(300):
            world, now = World(), index * 1234.567891
            view = a_view(a_campaign(max_calls_per_second=1 + index % 7), contacts=3)
            world.place(world.plan(view, seconds=now).calls)
            left = replace(view, contacts=view.contacts[1:])
            woken = world.plan(left, seconds=now).wake_at
            assert woken is not None
            assert len(world.plan(left, seconds=woken).calls) == 1, (now, woken)

    def test_the_next_trunk_takes_what_the_first_cannot(self) -> None:
        world, view = World(trunk_slots=2), a_view(contacts=9)
        assert trunks_of(world.plan(view)) == {"a": 2, "b": 2}

    def test_the_campaign_chooses_the_order(self) -> None:
        assert trunks_of(World(trunk_slots=2).plan(a_view(a_campaign(trunks=("b", "a")), contacts=3))) == {
            "b": 2,
            "a": 1,
        }

    @pytest.mark.parametrize("key", [A, MAIN])
    def test_a_closed_gate_is_not_passed(self, key: Key) -> None:
        world, view = World(), a_view(a_campaign(trunks=("a",)))
        world.gates[key] = Gate(False, "it rains", NOON + timedelta(seconds=30))
        plan = world.plan(view)
        assert not plan.calls
        assert plan.reasons[1].rule == first_refusal(world, view) == f"{key.level.value}_state"
        assert plan.wake_at == pytest.approx(30, abs=0.01)

    def test_a_closed_trunk_is_passed_by(self) -> None:
        world, view = World(), a_view(contacts=2)
        world.gates[A] = Gate(False, "paused")
        assert trunks_of(world.plan(view)) == {"b": 2}

    def test_the_limit_of_one_campaign_leaves_the_trunk_to_the_other(self) -> None:
        world = World(trunk_slots=10)
        narrow = a_view(a_campaign(1, concurrent_calls=1, trunks=("a",)), contacts=9)
        wide = a_view(a_campaign(2, trunks=("a",)), contacts=20)
        plan = world.plan(narrow, wide)
        assert Counter(call.campaign.id for call in plan.calls) == {1: 1, 2: 9}
        assert plan.reasons[1].rule == "campaign_slots"
        assert plan.reasons[2].rule == "trunk_slots"


class TestFairness:
    def run(self, world: World, views: list[CampaignView], rounds: int) -> Counter[int]:
        """One slot frees in each round, the oldest call's; returns who was served how often."""
        served: Counter[int] = Counter()
        live: list[PlannedCall] = []
        left = {view.campaign.id: list(some_contacts(2 * rounds, view.campaign.id)) for view in views}
        for index in range(rounds):
            now = [replace(view, contacts=tuple(left[view.campaign.id][:5])) for view in views]
            plan = world.plan(*now, seconds=float(index))
            world.place(plan.calls)
            for call in plan.calls:
                served[call.campaign.id] += 1
                left[call.campaign.id].remove(call.contact)
            live += plan.calls
            world.end(live.pop(0))
        return served

    def test_tenants_share_a_trunk_however_many_campaigns_they_have(self) -> None:
        crowd = [a_view(a_campaign(index, "one", trunks=("a",))) for index in (1, 2, 3)]
        alone = a_view(a_campaign(9, "two", trunks=("a",)))
        served = self.run(World(trunk_slots=4), [*crowd, alone], 300)
        assert served[9] == pytest.approx(150, abs=4)
        for each in (1, 2, 3):
            assert served[each] == pytest.approx(50, abs=4)

    def test_priority_doubles_and_weight_multiplies(self) -> None:
        views = [
            a_view(a_campaign(1, trunks=("a",))),
            a_view(a_campaign(2, trunks=("a",), priority=1)),
            a_view(a_campaign(3, trunks=("a",), weight=5)),
        ]
        served = self.run(World(trunk_slots=4), views, 400)
        assert [served[each] for each in (1, 2, 3)] == pytest.approx([50, 100, 250], abs=5)

    def test_one_round_is_as_fair_as_many(self) -> None:
        views = [a_view(a_campaign(each, trunks=("a",)), contacts=20) for each in (1, 2)]
        plan = World(trunk_slots=10).plan(*views)
        assert Counter(call.campaign.id for call in plan.calls) == {1: 5, 2: 5}


class TestManyCampaigns:
    def test_a_placed_call_asks_only_those_it_takes_something_from(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A round asks each campaign once, and once more whoever was served: not everybody with every call."""
        asked = 0
        original = _Round._ready

        def counted(self: _Round, lane: Lane) -> bool:
            nonlocal asked
            asked += 1
            return original(self, lane)

        monkeypatch.setattr(_Round, "_ready", counted)
        crowd = [a_view(a_campaign(each, trunks=("a",)), contacts=3) for each in range(1, 101)]
        plan = World(trunk_slots=10).plan(*crowd)
        assert len(plan.calls) == 10
        assert asked == 100 + 10

    def test_one_that_is_full_leaves_the_others_alone(self) -> None:
        full = a_view(a_campaign(1, concurrent_calls=1), contacts=5)
        plan = World().plan(full, a_view(a_campaign(2), contacts=3))
        assert Counter(call.campaign.id for call in plan.calls) == {1: 1, 2: 3}
        assert plan.reasons[1].rule == "campaign_slots"


class TestOpening:
    def opening(self, world: World, seconds: float = 0.0) -> float | None:
        return opening(world.trunks.values(), world.gates, world.book, at(seconds))

    def test_a_trunk_with_room_is_open_now(self) -> None:
        assert self.opening(World(), 5.0) == 5.0

    def test_full_trunks_open_when_somebody_tells(self) -> None:
        assert self.opening(World(trunk_slots=0)) is None

    def test_a_rate_opens_by_itself(self) -> None:
        world = World(trunk_rate=2.0)
        while calls := world.plan(a_view(contacts=9)).calls:
            world.place(calls)
        opens = self.opening(world)
        wake_at = world.plan(a_view()).wake_at
        assert opens is not None
        assert wake_at is not None
        assert 0 < opens <= wake_at
        assert self.opening(world, opens) == opens

    def test_a_closed_gate_opens_at_its_moment(self) -> None:
        world = World()
        world.gates |= {A: Gate(False, "ill"), B: Gate(False, "ill", NOON + timedelta(seconds=8))}
        assert self.opening(world) == pytest.approx(8, abs=0.01)
        world.gates = {MAIN: Gate(False, "down")}
        assert self.opening(world) is None


class TestPatience:
    def overdue(self, view: CampaignView, now: float) -> CampaignView:
        return replace(view, waiting_since=now - PATIENCE - 1)

    def test_the_patient_are_served_first_and_within_the_limits(self) -> None:
        """Several waited long, and there is one slot: it is one call."""
        world = World(trunk_slots=1)
        views = [self.overdue(a_view(a_campaign(each, trunks=("a",)), contacts=3), 100) for each in (1, 2, 3)]
        plan = world.plan(*views, seconds=100)
        assert len(plan.calls) == 1

    def test_the_patient_are_served_first_and_within_the_rate(self) -> None:
        world = World(trunk_rate=2)
        views = [self.overdue(a_view(a_campaign(each, trunks=("a",)), contacts=3), 100) for each in (1, 2, 3)]
        assert len(world.plan(*views, seconds=100).calls) == 1

    def test_who_is_served_first_is_not_paid_twice(self) -> None:
        """Being served for its patience counts in the shares like any other call, among all who waited."""
        world = World(trunk_slots=4)
        patient = self.overdue(a_view(a_campaign(1, trunks=("a",)), contacts=9), 100)
        other = a_view(a_campaign(2, trunks=("a",)), contacts=9)
        plan = world.plan(patient, other, seconds=100)
        assert Counter(call.campaign.id for call in plan.calls) == {1: 2, 2: 2}
        assert plan.calls[0].campaign.id == 1
        assert dict(plan.calls[0].waiting)[Key(Level.TENANT, "one")] == (1, 2)

    def test_what_the_patient_need_is_kept_for_them(self) -> None:
        """Campaign 1 lacks a slot of its tenant; the last one of the trunk is kept for it."""
        world = World(trunk_slots=2, tenant_slots=1)
        world.book.take("long", (Key(Level.TENANT, "one"),))
        patient = self.overdue(a_view(a_campaign(1, "one", trunks=("a",))), 100)
        others = a_view(a_campaign(2, "two", trunks=("a",)), contacts=9)
        world.tenants["two"] = replace(world.tenants["two"], max_concurrent_calls=9)
        world.book.set(Key(Level.TENANT, "two"), 9, 1000, GUARD)
        plan = world.plan(patient, others, seconds=100)
        assert Counter(call.campaign.id for call in plan.calls) == {2: 1}
        world.book.release("long")
        assert world.plan(patient, others, seconds=100).calls[0].campaign.id == 1

    def test_one_slot_is_kept_for_all_who_lack_the_same(self) -> None:
        """The next slot of their tenant can serve one of them alone: keeping more would leave the trunk idle."""
        world = World(trunk_slots=20, tenant_slots=1)
        world.book.take("long", (Key(Level.TENANT, "one"),))
        patient = [self.overdue(a_view(a_campaign(each, "one", trunks=("a",))), 100) for each in range(1, 16)]
        others = a_view(a_campaign(99, "two", trunks=("a",)), contacts=50)
        world.book.set(Key(Level.TENANT, "two"), 100, 1000, GUARD)
        plan = world.plan(*patient, others, seconds=100)
        assert len(plan.calls) == 19

    def test_the_patient_hold_up_nobodys_rate(self) -> None:
        """Whoever waits for a slot cannot use the trunk's rate: the others go on dialing at it."""
        world = World(trunk_slots=20, trunk_rate=10, tenant_slots=1)
        world.book.set(Key(Level.TENANT, "two"), 100, 1000, GUARD)
        world.book.take("long", (Key(Level.TENANT, "one"),))
        patient = self.overdue(a_view(a_campaign(1, "one", trunks=("a",))), 100)
        left, now, placed = some_contacts(20, 2), 100.0, 0
        while now < 101.0:
            plan = world.plan(patient, a_view(a_campaign(2, "two", trunks=("a",)), left), seconds=now)
            world.place(plan.calls)
            placed += len(plan.calls)
            left = [contact for contact in left if contact not in [call.contact for call in plan.calls]]
            assert plan.wake_at is not None
            now = plan.wake_at
        assert placed == pytest.approx(9.4, abs=1)

    def test_who_needs_a_slot_here_and_one_there_is_served_in_the_end(self) -> None:
        """Others need one of the two alone, and are always quicker: whenever one slot frees, they take it."""
        world = World(trunk_slots=1, tenant_slots=1)
        world.book.set(Key(Level.TENANT, "two"), 100, 1000, GUARD)
        both = a_view(a_campaign(1, "one", trunks=("a",)), contacts=3)
        of_tenant = a_campaign(2, "one", trunks=("b",))
        of_trunk = a_campaign(3, "two", trunks=("a",))
        lists = {2: some_contacts(200, 2), 3: some_contacts(200, 3)}
        live: dict[int, PlannedCall] = {}
        for index in range(100):
            # Campaign 1 comes when each of the two has its slot.
            views = [replace(both, waiting_since=1.0)] if index else []
            views += [a_view(each, lists[each.id][:3]) for each in (of_tenant, of_trunk)]
            plan = world.plan(*views, seconds=float(index))
            if any(call.campaign.id == 1 for call in plan.calls):
                assert index > PATIENCE
                return
            world.place(plan.calls)
            for call in plan.calls:
                live[call.campaign.id] = call
                lists[call.campaign.id].remove(call.contact)
            # Calls end in turn, so that one of the two slots is always taken.
            ending = live.pop(2 + index % 2, None)
            if ending is not None:
                world.end(ending)
        pytest.fail("the campaign that needs both was never served")


class TestIllTrunks:
    def test_one_probe_goes_over_a_suspended_trunk_and_the_rest_over_the_next(self) -> None:
        world, view = World(), a_view(contacts=10)
        world.gates[A] = Gate(True, "suspended", probe=True)
        calls = world.plan(view).calls
        assert [(call.trunk.id, call.probe) for call in calls] == [("a", True)] + [("b", False)] * 9

    def test_two_campaigns_send_one_probe_between_them(self) -> None:
        world = World()
        world.gates[A] = Gate(True, "suspended", probe=True)
        views = [a_view(a_campaign(number, trunks=["a"]), contacts=5) for number in (1, 2)]
        assert [call.probe for call in world.plan(*views).calls] == [True]

    def test_a_probe_obeys_the_trunks_limits(self) -> None:
        world, view = World(trunk_slots=0), a_view(a_campaign(trunks=["a"]), contacts=5)
        world.gates[A] = Gate(True, "suspended", probe=True)
        assert not world.plan(view).calls

    def test_explain_does_not_call_a_probe_dialing(self) -> None:
        world, view = World(), a_view(a_campaign(trunks=["a"]), contacts=5)
        world.gates[A] = Gate(True, "trunk a is suspended", NOON, probe=True)
        (told,) = [each for each in explain(world.snapshot(view), view, at(0)) if each.level == "trunk"]
        assert (told.rule, told.holds, told.detail, told.until) == ("trunk_state", False, "trunk a is suspended", NOON)

    def test_a_slowed_trunk_is_told_as_such_and_the_next_takes_over(self) -> None:
        world, view = World(), a_view(contacts=10)
        world.book.set(Key(Level.TRUNK_PACE, "a"), None, 2.0, GUARD)
        assert trunks_of(world.plan(view)) == {"a": 1, "b": 9}
        alone = a_view(a_campaign(2, trunks=["a"]), contacts=10)
        world.place(world.plan(alone).calls)
        (told,) = [each for each in explain(world.snapshot(alone), alone, at(0)) if each.level == "trunk"]
        assert told.rule == "trunk_pace_rate"
        assert told.detail == "trunk a is at its 2 calls per second, slowed after it answered that it is congested"
        assert told.until is not None

    def test_the_pbxs_own_ceilings_bind_and_are_told_as_such(self) -> None:
        world, view = World(), a_view(contacts=10)
        world.book.set(Key(Level.PBX_OWN, "main"), 3, None, GUARD)
        planned = world.plan(view)
        assert len(planned.calls) == 3
        world.place(planned.calls)
        told = [each for each in explain(world.snapshot(view), view, at(1)) if each.rule == "pbx_own_slots"]
        assert {(each.level, each.detail) for each in told} == {
            ("pbx", "3 of 3 calls of pbx main are in flight, which its own configuration sets")
        }


class TestOnceMore:
    def test_the_same_snapshot_gives_the_same_plan(self) -> None:
        world = World(trunk_slots=7)
        views = [a_view(a_campaign(each, tenant), contacts=5) for each, tenant in ((1, "one"), (2, "two"), (3, "one"))]
        assert world.plan(*views) == world.plan(*views)

    def test_nothing_active_nothing_planned(self) -> None:
        plan = World().plan()
        assert (plan.calls, plan.deferrals, plan.wake_at, dict(plan.reasons), plan.hungry) == ((), (), None, {}, ())

    def test_explain_names_every_rule_of_a_campaign_that_dials(self) -> None:
        world, view = World(), a_view()
        rules = explain(world.snapshot(view), view, at(0))
        assert all(reason.holds for reason in rules)
        assert [reason.rule for reason in rules][:5] == ["system", "status", "tenant", "agent", "calling_hours"]
        assert [reason.rule for reason in rules][-2:] == ["route", "route"]
