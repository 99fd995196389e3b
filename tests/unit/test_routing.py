"""Which trunks a campaign may use and which caller ID it shows, at a cost that no list of a client's raises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dialerd.core.model import Campaign, Tenant, Trunk
from dialerd.core.routing import caller_id, choices
from dialerd.core.settings import CampaignSettings
from tests.support.contacts import a_contact
from tests.support.planning import a_campaign

TENANT = Tenant("one", 1.0, 1, ("a", "b"), caller_ids=("+12025550101", "+12025550102", "+12025550103"))
TRUNK = Trunk("a", "main", "PJSIP/{number}@a", 1.0, 1)


class Read(tuple[str, ...]):
    """A list that counts how often it is read."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        Read.times += 1
        return super().__iter__()


@pytest.fixture(autouse=True)
def _unread() -> None:
    Read.times = 0


def stored(**lists: tuple[str, ...]) -> Campaign:
    """A campaign whose settings no bound has looked at, as one of an earlier version."""
    return replace(a_campaign(), settings=CampaignSettings().model_copy(update=lists))


def test_a_campaign_dials_through_its_own_trunks_among_its_tenants_and_else_through_those() -> None:
    assert choices(a_campaign(trunks=("b", "theirs", "a")), TENANT) == ("b", "a")
    assert choices(a_campaign(), TENANT) == TENANT.trunks


def test_each_trunk_is_a_choice_once_however_often_it_is_named() -> None:
    assert choices(stored(trunks=("b",) * 200_000 + ("a",)), TENANT) == ("b", "a")


def test_a_list_of_trunks_is_read_once_and_not_at_every_call() -> None:
    campaign = stored(trunks=Read(("b", "a")))
    assert {choices(campaign, TENANT) for _ in range(1000)} == {("b", "a")}
    assert Read.times == 1


def test_a_list_of_caller_ids_is_read_once_and_not_at_every_call() -> None:
    campaign = stored(caller_ids=Read(TENANT.caller_ids))
    trunk = replace(TRUNK, caller_ids=Read(TENANT.caller_ids[1:]))
    shown = {caller_id(campaign, TENANT, trunk, a_contact(id=number)) for number in range(1000)}
    assert shown == set(TENANT.caller_ids[1:])
    assert Read.times == 2


def test_a_changed_tenant_is_asked_anew() -> None:
    campaign = a_campaign(trunks=("b", "a"))
    assert choices(campaign, TENANT) == ("b", "a")
    assert choices(campaign, replace(TENANT, trunks=("a",))) == ("a",)


def test_answers_that_are_kept_are_bounded_and_stay_right() -> None:
    campaigns = [a_campaign(trunks=("b", "a")[: 1 + number % 2]) for number in range(10_000)]
    for _ in range(2):
        assert [len(choices(each, TENANT)) for each in campaigns] == [1 + number % 2 for number in range(10_000)]
