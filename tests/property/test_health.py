"""A trunk's health over any history: when it may be suspended, what lifts that, and how far it is slowed."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.core.health import (
    CUT,
    FEW_CONTACTS,
    LEAST_RATE,
    LEAST_SHARE,
    MOST_RETRY_AFTER,
    RECOVERY,
    Failure,
    Health,
    Ill,
    Judgement,
    Rules,
    Sign,
    sign_of,
)
from dialerd.core.outcome import Fault, Outcome, Verdict

RULES = Rules(per_second=10.0, suspend_after=5, probe_seconds=8.0)
FAILURES = (Sign.CONGESTED, Sign.FAULT, Sign.NUMBER)


def failure(number: int, sent_at: float, contact_id: int | None = None) -> Failure:
    return Failure(f"call {number}", number if contact_id is None else contact_id, sent_at, "congestion (SIP 503)")


def streak(sign: Sign, count: int, health: Health | None = None, start: float = 0.0) -> Judgement:
    """So many failures in a row, of as many contacts, each sent and ended at its own second."""
    judgement = Judgement(health or Health())
    for index in range(count):
        at = start + index
        judgement = judgement.health.ended(RULES, sign, failure(index, at), at)
    return judgement


def suspended(sign: Sign) -> Health:
    """Suspended at second 4, the next probe at 12."""
    return streak(sign, RULES.suspend_after).health


@dataclass(frozen=True)
class Happening:
    sign: Sign
    contact_id: int
    took: float


HAPPENINGS = st.lists(
    st.builds(
        Happening,
        sign=st.sampled_from(Sign),
        contact_id=st.integers(1, 8),
        took=st.floats(0.0, 30.0),
    ),
    max_size=60,
)


@given(HAPPENINGS)
def test_a_trunk_is_suspended_only_after_so_many_failures_of_calls_sent_after_the_last_carried_one(
    history: list[Happening],
) -> None:
    """Held against a plain recount over the whole history: nothing is forgotten or counted twice."""
    health = Health()
    ended = sorted(enumerate(history), key=lambda item: item[0] + item[1].took)
    seen: list[tuple[float, Happening]] = []
    for number, each in ended:
        sent_at, now = float(number), number + each.took
        judgement = health.ended(RULES, each.sign, failure(number, sent_at, each.contact_id), now)
        seen.append((sent_at, each))
        if judgement.health.suspension is not None and health.suspension is None:
            last = max((at for at, other in seen if other.sign is Sign.CARRIED), default=-math.inf)
            kinds = {Sign.NUMBER} if each.sign is Sign.NUMBER else {Sign.CONGESTED, Sign.FAULT}
            counted = [other for at, other in seen if at > last and other.sign in kinds]
            assert len(counted) >= RULES.suspend_after
            assert len({other.contact_id for other in counted}) >= FEW_CONTACTS
            assert judgement.spared
            assert f"call {number}" not in judgement.put_back, "what is being settled is spared, not put back"
            return
        health = judgement.health
        assert judgement.put_back == ()
        assert all(len(failures) <= RULES.suspend_after for failures in health.streaks.values())


@given(HAPPENINGS, st.floats(0.0, 1000.0))
def test_a_slowed_trunk_keeps_a_share_and_gets_all_of_it_back(history: list[Happening], later: float) -> None:
    health, now = Health(), 0.0
    least = max(LEAST_SHARE, LEAST_RATE / RULES.per_second)
    for number, each in enumerate(history):
        before = health.share(now)
        now += each.took
        assert health.share(now) >= before, "nothing but congestion takes from it"
        health = health.ended(RULES, each.sign, failure(number, now, each.contact_id), now).health
        share = health.share(now)
        assert least - 1e-9 <= share <= 1.0
        if each.sign is Sign.CONGESTED:
            assert share <= max(least, CUT) + 1e-9
    back = health.share(now + later)
    assert back >= min(1.0, health.share(now) + RECOVERY * later) - 1e-9
    assert health.share(now + 1 / RECOVERY) == 1.0


def test_congestion_of_calls_sent_before_a_cut_cuts_no_further() -> None:
    health = Health().ended(RULES, Sign.CONGESTED, failure(1, 0.0), 1.0).health
    for number in range(2, 5):
        health = health.ended(RULES, Sign.CONGESTED, failure(number, 0.9), 1.1).health
    assert health.share(1.1) == pytest.approx(CUT + 0.1 * RECOVERY)
    health = health.ended(RULES, Sign.CONGESTED, failure(9, 1.2), 1.3).health
    assert health.share(1.3) == pytest.approx((CUT + 0.3 * RECOVERY) * CUT)


@pytest.mark.parametrize("per_second", [0.2, 1.0, 5.0, 200.0])
def test_no_trunk_is_slowed_below_the_least(per_second: float) -> None:
    health, rules = Health(), Rules(per_second)
    for number in range(15):
        now = number / 100
        health = health.ended(rules, Sign.CONGESTED, failure(number, now, contact_id=1), now).health
    expected = max(per_second * LEAST_SHARE, min(LEAST_RATE, per_second))
    assert health.share(0.15) * per_second == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("sign", FAILURES)
def test_the_streak_suspends_spares_the_last_and_puts_back_the_others(sign: Sign) -> None:
    before = streak(sign, RULES.suspend_after - 1)
    assert before.health.suspension is None
    assert not before.spared
    judgement = streak(sign, RULES.suspend_after)
    suspension = judgement.health.suspended
    assert suspension is not None
    assert suspension.ill is (Ill.NUMBERS if sign is Sign.NUMBER else Ill.FAULTS)
    assert suspension.seen == "5 calls in a row ended in congestion (SIP 503)"
    assert judgement.spared
    assert judgement.put_back == tuple(f"call {index}" for index in range(4))
    assert judgement.health.probe_at == 4 + RULES.probe_seconds


@pytest.mark.parametrize("contacts", [1, 2])
def test_one_or_two_contacts_say_nothing_of_the_trunk(contacts: int) -> None:
    health = Health()
    for index in range(50):
        judgement = health.ended(RULES, Sign.FAULT, failure(index, index, index % contacts), index)
        assert not judgement.spared
        health = judgement.health
    assert health.suspension is None


@pytest.mark.parametrize("sign", FAILURES)
def test_a_late_answer_of_a_call_sent_before_does_not_hide_the_illness(sign: Sign) -> None:
    judgement = streak(sign, 3, start=10.0)
    still = judgement.health.carried(sent_at=5.0)
    assert len(next(iter(still.streaks.values()))) == 3
    assert not still.carried(sent_at=12.0).streaks


def test_failures_of_calls_sent_before_a_carried_one_do_not_count() -> None:
    health = Health().carried(sent_at=100.0)
    judgement = streak(Sign.NUMBER, 20, health, start=50.0)
    assert judgement.health.suspension is None
    assert not judgement.health.streaks


def test_unknown_numbers_and_faults_are_counted_apart() -> None:
    health = Health()
    for index in range(8):
        sign = Sign.NUMBER if index % 2 else Sign.FAULT
        health = health.ended(RULES, sign, failure(index, index), index).health
    assert health.suspension is None
    assert {ill: len(failures) for ill, failures in health.streaks.items()} == {Ill.FAULTS: 4, Ill.NUMBERS: 4}


@pytest.mark.parametrize("sign", FAILURES)
@pytest.mark.parametrize("later", FAILURES)
def test_whatever_ends_badly_while_suspended_is_spared(sign: Sign, later: Sign) -> None:
    judgement = suspended(sign).ended(RULES, later, failure(9, 3.5), 5.0)
    assert judgement.spared
    assert judgement.health.suspended is not None


@pytest.mark.parametrize("sign", FAILURES)
def test_a_probe_that_is_carried_lifts_the_suspension(sign: Sign) -> None:
    health = suspended(sign).probing(RULES, 12.0)
    assert health.probe_at == 20.0
    lifted = health.ended(RULES, Sign.CARRIED, failure(9, 12.0), 13.0).health
    assert lifted.suspension is None
    late = lifted.ended(RULES, sign, failure(10, 3.9), 14.0)
    assert late.spared, "it was sent while the trunk was ill"
    assert not late.health.streaks


def test_a_probe_that_is_refused_as_an_unknown_number_shows_that_calls_are_taken_again() -> None:
    assert suspended(Sign.FAULT).ended(RULES, Sign.NUMBER, failure(9, 12.0), 12.1).health.suspension is None
    assert suspended(Sign.NUMBER).ended(RULES, Sign.FAULT, failure(9, 12.0), 12.1).health.suspended is not None
    assert suspended(Sign.FAULT).ended(RULES, Sign.NUMBER, failure(9, 3.0), 12.1).health.suspended is not None


@pytest.mark.parametrize("sign", FAILURES)
def test_a_ringing_probe_opens_on_probation(sign: Sign) -> None:
    rings = suspended(sign).rang(sent_at=12.0)
    assert rings.suspended is None
    again = rings.ended(RULES, sign, failure(9, 12.5), 14.0)
    assert again.spared
    assert again.health.suspended is not None
    assert again.health.probe_at == 14.0 + RULES.probe_seconds
    earlier = rings.ended(RULES, sign, failure(9, 3.0), 14.0)
    assert earlier.spared
    assert earlier.health.suspended is None, "it was sent before the probe"
    assert rings.carried(12.0).suspension is None
    assert rings.carried(3.0).suspension is not None, "that call was sent before the trunk fell ill"


def test_a_trunk_that_is_down_spares_everybody_and_is_tried_as_soon_as_it_is_up() -> None:
    ill = streak(Sign.FAULT, 3).health
    judgement = ill.went_down("unplugged")
    assert judgement.put_back == ("call 0", "call 1", "call 2")
    assert judgement.health.ended(RULES, Sign.FAULT, failure(7, 3.0), 4.0).spared
    up = judgement.health.came_up(20.0)
    assert up.down is None
    assert up.ended(RULES, Sign.FAULT, failure(8, 19.0), 40.0).spared, "it was sent while the trunk was down"
    assert not up.ended(RULES, Sign.FAULT, failure(8, 21.0), 40.0).spared
    assert suspended(Sign.FAULT).went_down("unplugged").health.came_up(6.0).probe_at == 6.0


def test_a_retry_after_is_kept_within_reason() -> None:
    health = Health().asked_to_wait(5.0, 100.0)
    assert health.not_before == 105.0
    assert health.asked_to_wait(1.0, 100.0).not_before == 105.0
    assert Health().asked_to_wait(3600.0, 0.0).not_before == MOST_RETRY_AFTER
    assert Health().asked_to_wait(-5.0, 10.0).not_before == 10.0
    asked = suspended(Sign.CONGESTED).asked_to_wait(30.0, 4.0)
    assert asked.probe_at == 34.0
    assert asked.hurried(5.0).probe_at == 5.0


@pytest.mark.parametrize(("outcome", "fault"), list(itertools.product(Outcome, Fault)))
def test_every_verdict_has_a_sign(outcome: Outcome, fault: Fault) -> None:
    verdict = Verdict(outcome, fault)
    assert sign_of(verdict, answered=True, rang=True) is Sign.CARRIED
    sign = sign_of(verdict, answered=False, rang=False)
    if fault is Fault.TRUNK:
        assert sign is (Sign.CONGESTED if outcome is Outcome.CONGESTION else Sign.FAULT)
    elif outcome is Outcome.INVALID_NUMBER:
        assert sign is Sign.NUMBER
    else:
        assert sign is (Sign.CARRIED if fault is Fault.CALLEE else Sign.NOTHING)


def test_a_call_that_we_cancelled_tells_only_where_it_rang() -> None:
    cancelled = Verdict(Outcome.CANCELLED, Fault.NONE)
    assert sign_of(cancelled, answered=False, rang=True) is Sign.CARRIED
    assert sign_of(cancelled, answered=False, rang=False) is Sign.NOTHING
