"""The planner's answers in words: which rule keeps calls back, and when it lets go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dialerd.core.explain import ContactFacts, explain_campaign, explain_contact
from dialerd.core.model import CampaignStatus, Contact, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.core.places import AllowedPlaces
from dialerd.core.plan import plan
from dialerd.core.snapshot import Gate
from dialerd.core.throttle import Key, Level
from tests.support.planning import NOON, World, a_campaign, a_view, at, some_contacts

MAIN, A, B = Key(Level.PBX, "main"), Key(Level.TRUNK, "a"), Key(Level.TRUNK, "b")
NOTHING = ContactFacts(reason=None, on_do_not_call_list=False)


class TestCampaign:
    def test_names_every_rule_in_order_and_each_in_words(self) -> None:
        view = a_view()
        told = explain_campaign(World().snapshot(view), view, at(0), in_flight=0)
        assert (told.dialing, told.summary, told.next_moment) == (True, "calls are going out", None)
        assert [each.rule for each in told.rules] == [
            *("system", "status", "tenant", "agent", "calling_hours", "contacts", "max_calls_per_day"),
            *("tenant_limits", "campaign_limits", "agent_limits", "route", "route"),
        ]
        assert all(each.holds and each.detail for each in told.rules)

    def test_a_place_that_the_configuration_no_longer_allows(self) -> None:
        view = a_view()
        assert view.agent is not None
        snapshot = replace(World().snapshot(view), places=AllowedPlaces(contexts=frozenset({"sales"})))
        told = explain_campaign(snapshot, view, at(0), in_flight=0)
        words = f"its agent's context {view.agent.context!r} is not allowed by the configuration; allowed: sales"
        assert (told.dialing, told.summary) == (False, words)
        assert plan(snapshot, at(0)).calls == ()
        allowed = replace(snapshot, places=AllowedPlaces(contexts=frozenset({view.agent.context or ""})))
        assert plan(allowed, at(0)).calls

    def test_one_open_trunk_is_enough(self) -> None:
        world, view = World(gates={A: Gate(False, "trunk a is paused")}), a_view()
        told = explain_campaign(world.snapshot(view), view, at(0), in_flight=0)
        assert told.dialing
        assert [each.holds for each in told.rules][-2:] == [False, True]

    def test_of_closed_trunks_the_first_tells_why_and_the_soonest_when(self) -> None:
        later, soon = NOON + timedelta(hours=2), NOON + timedelta(hours=1)
        world = World(gates={A: Gate(False, "suspended", later), B: Gate(False, "paused", soon)})
        view = a_view()
        told = explain_campaign(world.snapshot(view), view, at(0), in_flight=0)
        assert (told.dialing, told.summary, told.next_moment) == (False, "suspended", soon)

    def test_the_link_of_the_pbx_is_told_as_it_is(self) -> None:
        words = "AMI login refused on pbx main since 2026-03-02 10:31Z"
        world, view = World(gates={MAIN: Gate(False, words)}), a_view()
        told = explain_campaign(world.snapshot(view), view, at(0), in_flight=0)
        assert (told.dialing, told.summary, told.next_moment) == (False, words, None)

    def test_a_rule_of_the_campaign_comes_before_the_trunks(self) -> None:
        world = World(gates={MAIN: Gate(False, "down")})
        view = a_view(a_campaign(status=CampaignStatus.PAUSED))
        assert explain_campaign(world.snapshot(view), view, at(0), in_flight=0).summary == "the campaign is paused"

    @pytest.mark.parametrize(("in_flight", "dialing"), [(1, True), (0, False)])
    def test_a_full_campaign_dials_and_one_that_others_crowd_out_does_not(self, in_flight: int, dialing: bool) -> None:
        world, view = World(tenant_slots=1), a_view()
        snapshot = world.snapshot(view)
        world.book.take("x", (Key(Level.TENANT, "one"),))
        told = explain_campaign(snapshot, view, at(0), in_flight=in_flight)
        assert told.dialing is dialing
        assert told.summary.endswith("1 of 1 calls of tenant one are in flight")

    def test_a_list_that_waits_says_until_when(self) -> None:
        due_at = NOON + timedelta(hours=3)
        view = a_view(contacts=0, next_due=due_at)
        told = explain_campaign(World().snapshot(view), view, at(0), in_flight=0)
        assert (told.dialing, told.next_moment) == (False, due_at)
        assert told.summary == "every pending contact waits for its time"


class TestContact:
    def told(self, contact: Contact, facts: ContactFacts = NOTHING, **settings: Any) -> tuple[str, bool, str]:
        world, view = World(), a_view(a_campaign(**settings), [contact])
        world.tenants["one"] = replace(
            world.tenants["one"], allowed_prefixes=("+1202", "+44"), max_calls_per_number=2, number_period_hours=24.0
        )
        told = explain_contact(world.snapshot(view), view, contact, facts, at(0))
        first = next((each.rule for each in told.rules if not each.holds), "none")
        return first, told.dialing, told.summary

    @pytest.mark.parametrize(
        ("changes", "rule"),
        [
            ({}, "none"),
            ({"status": ContactStatus.ORIGINATED}, "contact_status"),
            ({"next_attempt_at": NOON + timedelta(seconds=1)}, "next_attempt_at"),
            ({"next_attempt_at": NOON}, "none"),
            ({"phone_number": "+19005550100"}, "allowed_prefixes"),
            ({"dialled_at": (NOON - timedelta(hours=1),)}, "none"),
            ({"dialled_at": (NOON - timedelta(hours=1), NOON - timedelta(hours=23))}, "max_calls_per_number"),
            ({"dialled_at": (NOON - timedelta(hours=1), NOON - timedelta(hours=25))}, "none"),
        ],
    )
    def test_the_first_rule_that_forbids_it(self, changes: dict[str, Any], rule: str) -> None:
        contact = replace(some_contacts(1)[0], **changes)
        first, dialing, _ = self.told(contact)
        assert (first, dialing) == (rule, rule == "none")

    def test_its_own_zone_and_its_own_day(self) -> None:
        (contact,) = some_contacts(1, timezone="Asia/Tokyo")
        first, _, summary = self.told(contact, calling_hours_start="09:00", calling_hours_end="17:00")
        assert first == "contact_hours"
        assert "Asia/Tokyo" in summary
        (often,) = some_contacts(1, dialled_at=(NOON - timedelta(hours=1),))
        assert self.told(often, max_attempts_per_day=1)[0] == "max_attempts_per_day"
        (yesterday,) = some_contacts(1, dialled_at=(NOON - timedelta(hours=13),))
        assert self.told(yesterday, max_attempts_per_day=1)[0] == "none"

    def test_a_number_of_no_zone(self) -> None:
        contact = replace(some_contacts(1)[0], phone_number="+8835100012345")
        assert self.told(contact, contact_timezone="number")[0] == "contact_timezone"

    def test_the_do_not_call_list_and_the_reason_of_an_end(self) -> None:
        (contact,) = some_contacts(1)
        assert self.told(contact, ContactFacts(None, on_do_not_call_list=True))[0] == "do_not_call"
        ended = replace(contact, status=ContactStatus.CANCELLED, last_outcome=Outcome.BUSY)
        _, dialing, summary = self.told(ended, ContactFacts("on the do-not-call list", on_do_not_call_list=True))
        assert (dialing, summary) == (False, "the contact is cancelled: on the do-not-call list")
