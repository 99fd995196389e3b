"""Whatever the hours, the moment and the list: nobody is called while any zone that the number may lie in is closed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import phonenumbers
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from dialerd.core.model import Agent, AgentKind, Campaign, CampaignStatus, Contact, Moment, Pbx, Tenant, Trunk
from dialerd.core.plan import plan
from dialerd.core.settings import WEEKDAYS, CampaignSettings
from dialerd.core.snapshot import CampaignView, Plan, Snapshot
from dialerd.core.throttle import Book, Key, Level, Shares
from dialerd.core.zones import callee_zones, zones_of
from tests.support.contacts import a_contact
from tests.support.effort import examples

AGENT = Agent(7, "one", "sales", AgentKind.DIALPLAN, context="c", exten="s")
TENANT = Tenant("one", 100.0, 100, ("a",))
TRUNK = Trunk("a", "main", "PJSIP/{number}@a", 100.0, 100)
HOLDERS = (
    Key(Level.TRUNK, "a"),
    Key(Level.PBX, "main"),
    Key(Level.TENANT, "one"),
    Key(Level.CAMPAIGN, 1),
    Key(Level.AGENT, 7),
)

NUMBERS = (
    "+12125550100",
    "+13105550100",
    "+18085550100",
    "+18002345678",
    "+442079460000",
    "+81312345678",
    "+61893210000",
    "+61412345678",
    "+79161234567",
    "+5511961234567",
    "+97715512345",
    "+80012345678",
)
times_of_day = st.builds(lambda hour, minute: f"{hour:02d}:{minute:02d}", st.integers(0, 23), st.integers(0, 59))
moments = st.timedeltas(timedelta(), timedelta(days=730)).map(lambda since: datetime(2026, 1, 1, tzinfo=UTC) + since)
days = st.dates(date(2026, 1, 1), date(2028, 1, 1))
rules = st.builds(
    CampaignSettings,
    calling_hours_start=times_of_day,
    calling_hours_end=times_of_day,
    calling_days=st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True).map(tuple),
    blackouts=st.lists(days, max_size=20).map(tuple),
    timezone=st.sampled_from(["UTC", "Asia/Tokyo", "America/New_York"]),
    contact_timezone=st.just("number"),
    start_at=st.none() | moments,
)
zones = st.none() | st.sampled_from(["Europe/London", "Pacific/Auckland", "America/Los_Angeles"])


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """A number of any kind in any country, its last digits changed."""
    region = draw(st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)))
    kind = draw(st.sampled_from([PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.TOLL_FREE]))
    number = phonenumbers.example_number_for_type(region, kind) or phonenumbers.example_number(region)
    assert number is not None
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    return e164[:-3] + draw(st.text("0123456789", min_size=3, max_size=3))


lists = st.lists(st.tuples(st.sampled_from(NUMBERS) | numbers(), zones), min_size=1, max_size=12)


def inside(settings: CampaignSettings, zone: str, at: datetime) -> bool:
    """Whether the wall clock of a zone shows calling hours of a calling day, said as plainly as can be."""
    local = at.astimezone(ZoneInfo(zone))
    shown, day = f"{local:%H:%M}", local.date()
    start, end = settings.calling_hours_start, settings.calling_hours_end
    if start > end and shown < end:
        day -= timedelta(days=1)
    elif start != end and not (start <= shown < end if start < end else shown >= start):
        return False
    return WEEKDAYS[day.weekday()] in settings.calling_days and day not in settings.blackouts


def places(contact: Contact) -> tuple[str, ...]:
    """Where a contact may be, as the library says it."""
    from phonenumbers.timezone import UNKNOWN_TIMEZONE, time_zones_for_geographical_number, time_zones_for_number

    if contact.timezone is not None:
        return (contact.timezone,)
    number = phonenumbers.parse(contact.phone_number)
    found = time_zones_for_number(number)
    if UNKNOWN_TIMEZONE in found:  # not given out: at least the zones of its area
        found = time_zones_for_geographical_number(number)
    return () if UNKNOWN_TIMEZONE in found else tuple(found)


def planned(settings: CampaignSettings, contacts: list[Contact], now: datetime) -> Plan:
    campaign = Campaign(1, "one", "a campaign", None, 7, CampaignStatus.ACTIVE, settings, now)
    book = Book()
    for key in HOLDERS:
        book.set(key, 1000, None, 0.06)
    snapshot = Snapshot(
        campaigns=[CampaignView(campaign, AGENT, contacts, None)],
        tenants={"one": TENANT},
        trunks={"a": TRUNK},
        pbxs={"main": Pbx("main", 100.0, 100)},
        gates={},
        book=book,
        shares=Shares(),
    )
    return plan(snapshot, Moment(now, 1000.0))


@given(rules, lists, moments)
@example(
    CampaignSettings(contact_timezone="number"),
    [(number, None) for number in NUMBERS],
    datetime(2026, 3, 2, 17, tzinfo=UTC),
)
@hypothesis_settings(max_examples=examples(300))
def test_nobody_is_called_while_a_zone_of_the_number_is_closed(
    settings: CampaignSettings, listed: list[tuple[str, str | None]], now: datetime
) -> None:
    contacts = [a_contact(id=n, phone_number=each, timezone=zone) for n, (each, zone) in enumerate(listed)]
    done = planned(settings, contacts, now)
    called = {call.contact.id for call in done.calls}
    deferred = {deferral.contact.id: deferral for deferral in done.deferrals}
    if settings.start_at is not None and now < settings.start_at:
        assert not called
        assert not deferred
        assert done.reasons[1].until == settings.start_at
        return
    # Limits are far away: each is either called or put off, so that a closed one hides nobody.
    assert called.isdisjoint(deferred)
    assert called | set(deferred) == {contact.id for contact in contacts}
    for contact in contacts:
        zones = places(contact)
        open_everywhere = bool(zones) and all(inside(settings, zone, now) for zone in zones)
        if contact.id in called:
            assert open_everywhere, contact
        elif set(zones_of(contact.phone_number)) == set(zones) or contact.timezone is not None:
            assert not open_everywhere, contact


@given(rules, lists, moments)
@hypothesis_settings(max_examples=examples(200))
def test_who_is_put_off_can_be_called_when_told_and_is_not_asked_before(
    settings: CampaignSettings, listed: list[tuple[str, str | None]], now: datetime
) -> None:
    contacts = [a_contact(id=n, phone_number=each, timezone=zone) for n, (each, zone) in enumerate(listed)]
    for deferral in planned(settings, contacts, now).deferrals:
        if deferral.until is None:
            zones = callee_zones(settings, deferral.contact)
            assert zones is None or "never opens" in deferral.detail
            continue
        assert deferral.until > now
        assert [call.contact for call in planned(settings, [deferral.contact], deferral.until).calls]
        just_before = deferral.until - timedelta(microseconds=1)
        assert not planned(settings, [deferral.contact], just_before).calls


@given(st.sampled_from(NUMBERS), moments)
def test_the_campaign_s_own_hours_are_not_asked(number: str, now: datetime) -> None:
    """The same list dials the same whatever zone the campaign names."""
    contact = a_contact(phone_number=number)
    answers = [
        planned(CampaignSettings(contact_timezone="number", timezone=zone), [contact], now)
        for zone in ("UTC", "Asia/Tokyo", "America/New_York")
    ]
    assert len({bool(answer.calls) for answer in answers}) == 1
    assert len({tuple(each.until for each in answer.deferrals) for answer in answers}) == 1
    by_campaign = planned(CampaignSettings(timezone="Asia/Tokyo"), [contact], now)
    assert bool(by_campaign.calls) == inside(CampaignSettings(), "Asia/Tokyo", now)


@given(rules, moments)
def test_a_campaign_that_has_ended_calls_nobody_in_any_zone(settings: CampaignSettings, now: datetime) -> None:
    ended = settings.model_copy(update={"start_at": None, "end_at": now})
    done = planned(ended, [replace(a_contact(), timezone="UTC")], now)
    assert not done.calls
    assert not done.deferrals
    assert not done.reasons[1].holds
    assert "end_at" in done.reasons[1].detail
