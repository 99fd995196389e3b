"""Settling an ended call: every rule of the two budgets, by example."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dialerd.core.contact import ContactEvent
from dialerd.core.model import Contact, ContactStatus
from dialerd.core.outcome import NEVER_RETRIED, Fault, Outcome, Verdict
from dialerd.core.retry import MAX_DELAY, MISHAP_LIMIT, Settlement, settle
from dialerd.core.settings import CampaignSettings
from tests.support.contacts import a_contact

ENDED = datetime(2026, 11, 23, 12, tzinfo=UTC)
BUSY = Verdict(Outcome.BUSY, Fault.CALLEE)
NO_ANSWER = Verdict(Outcome.NO_ANSWER, Fault.CALLEE)
CONGESTION = Verdict(Outcome.CONGESTION, Fault.TRUNK)
INTERRUPTED = Verdict(Outcome.INTERRUPTED, Fault.DAEMON)
WITHDRAWN = Verdict(Outcome.CANCELLED, Fault.DAEMON)
ANSWERED = Verdict(Outcome.ANSWERED, Fault.NONE)


def contact(callee_tries: int = 0, mishaps: int = 0, **outcomes: int) -> Contact:
    return a_contact(
        status=ContactStatus.ORIGINATED,
        attempts=callee_tries + mishaps + 1,
        callee_tries=callee_tries,
        mishaps=mishaps,
        outcomes=outcomes,
    )


def settled(verdict: Verdict, before: Contact | None = None, *flags: str, **settings: Any) -> Settlement:
    return settle(
        CampaignSettings(**settings),
        before or contact(),
        verdict,
        ENDED,
        connected="connected" in flags,
        stopped="stopped" in flags,
        never_sent="never_sent" in flags,
        spared="spared" in flags,
    )


def test_a_fault_of_the_callees_side_is_retried_after_its_rules_delay() -> None:
    assert settled(NO_ANSWER, contact(callee_tries=1, no_answer=1)) == Settlement(
        ContactEvent.RETRY, ENDED + timedelta(hours=24), 2, 0, {"no_answer": 2}, "no_answer: retry 2 of 3 in 24 h"
    )


@pytest.mark.parametrize(
    ("verdict", "delay"),
    [
        (BUSY, timedelta(hours=1)),
        (NO_ANSWER, timedelta(hours=24)),
        (Verdict(Outcome.REJECTED, Fault.CALLEE), timedelta(hours=24)),
        (CONGESTION, timedelta(minutes=30)),
        (Verdict(Outcome.UNREACHABLE, Fault.TRUNK), timedelta(minutes=30)),
        (Verdict(Outcome.FAILED, Fault.PBX), timedelta(minutes=30)),
        (INTERRUPTED, timedelta(minutes=30)),
    ],
)
def test_default_delays(verdict: Verdict, delay: timedelta) -> None:
    assert settled(verdict).next_attempt_at == ENDED + delay


def test_three_retries_are_four_attempts() -> None:
    assert settled(BUSY, contact(callee_tries=2)).event is ContactEvent.RETRY
    last = settled(BUSY, contact(callee_tries=3))
    assert (last.event, last.next_attempt_at, last.callee_tries) == (ContactEvent.FAIL, None, 4)
    assert last.detail == "busy: all 3 retries are spent"


def test_no_retries_at_all() -> None:
    only = settled(BUSY, max_retries=0)
    assert (only.event, only.detail) == (ContactEvent.FAIL, "busy: the campaign allows no retries")


def test_a_budget_lowered_under_the_count_ends_the_contact() -> None:
    assert settled(BUSY, contact(callee_tries=7), max_retries=2).event is ContactEvent.FAIL


def test_the_trunks_fault_spends_no_retry() -> None:
    ill = settled(CONGESTION, contact(callee_tries=3, mishaps=1), max_retries=3)
    assert (ill.event, ill.callee_tries, ill.mishaps) == (ContactEvent.RETRY, 3, 2)
    assert ill.detail == "congestion: again in 30 min, mishap 2 of 20 (trunk)"


def test_mishaps_have_a_limit_of_their_own() -> None:
    assert settled(CONGESTION, contact(mishaps=MISHAP_LIMIT - 2)).event is ContactEvent.RETRY
    last = settled(CONGESTION, contact(mishaps=MISHAP_LIMIT - 1))
    assert (last.event, last.next_attempt_at) == (ContactEvent.FAIL, None)
    assert last.detail == "congestion: mishap 20, and 20 end a contact"


@pytest.mark.parametrize("fault", list(Fault))
def test_interrupted_is_a_mishap_whosever_fault_it_was(fault: Fault) -> None:
    after = settled(Verdict(Outcome.INTERRUPTED, fault), contact(callee_tries=3))
    assert (after.event, after.callee_tries, after.mishaps) == (ContactEvent.RETRY, 3, 1)


def test_a_rules_own_limit_counts_its_outcome_alone() -> None:
    rejected = Verdict(Outcome.REJECTED, Fault.CALLEE)
    first = settled(rejected, contact(callee_tries=1, busy=1))
    assert first.detail == "rejected: retry 2 of 3 in 24 h, 1 of 1 for this outcome"
    second = settled(rejected, contact(callee_tries=2, busy=1, rejected=1))
    assert (second.event, second.detail) == (ContactEvent.FAIL, "rejected: its rule allows 1 retry")


def test_a_rule_may_forbid_its_outcome() -> None:
    after = settled(BUSY, retry={"busy": {"delay_seconds": 60, "most": 0}})
    assert (after.event, after.detail) == (ContactEvent.FAIL, "busy: its rule allows no retries")


def test_factor_grows_with_the_retries_of_this_outcome() -> None:
    rule = {"busy": {"delay_seconds": 45, "factor": 2}}
    delays = [settled(BUSY, contact(no_answer=9, busy=n), retry=rule).next_attempt_at for n in range(3)]
    assert delays == [ENDED + timedelta(seconds=45 * by) for by in (1, 2, 4)]
    assert settled(BUSY, retry=rule).detail == "busy: retry 1 of 3 in 45 s"


@pytest.mark.parametrize("times", [9, 10**9])
def test_no_factor_makes_a_delay_longer_than_a_month(times: int) -> None:
    rule = {"busy": {"delay_seconds": 86400, "factor": 10}}
    assert settled(BUSY, contact(busy=times), retry=rule).next_attempt_at == ENDED + MAX_DELAY


def test_zero_delay_is_at_once() -> None:
    assert settled(BUSY, retry={"busy": {"delay_seconds": 0, "factor": 10}}).next_attempt_at == ENDED


def test_a_conversation_completes_the_contact_and_spends_nothing() -> None:
    after = settled(ANSWERED, contact(callee_tries=1, mishaps=2, busy=1), "connected")
    assert after == Settlement(
        ContactEvent.COMPLETE, None, 1, 2, {"busy": 1, "answered": 1}, "answered: the conversation was had"
    )


@pytest.mark.parametrize("outcome", [Outcome.MACHINE, Outcome.ABANDONED, Outcome.INTERRUPTED])
def test_an_answered_call_that_reached_nobody_is_retried(outcome: Outcome) -> None:
    assert settled(Verdict(outcome, Fault.CALLEE), None, "connected").event is ContactEvent.RETRY
    forbidden = {outcome.value: {"delay_seconds": 60, "most": 0}}
    assert settled(Verdict(outcome, Fault.CALLEE), None, "connected", retry=forbidden).event is ContactEvent.COMPLETE


@pytest.mark.parametrize("outcome", [Outcome.BUSY, Outcome.CONGESTION, Outcome.FAILED, Outcome.CANCELLED])
def test_any_other_answered_call_completes_the_contact(outcome: Outcome) -> None:
    assert settled(Verdict(outcome, Fault.PBX), None, "connected").event is ContactEvent.COMPLETE


def test_what_is_nobodys_fault_is_bounded_like_the_callees_own() -> None:
    machine = Verdict(Outcome.MACHINE, Fault.NONE)
    assert settled(machine, contact(callee_tries=2), "connected").callee_tries == 3
    assert settled(machine, contact(callee_tries=3), "connected").event is ContactEvent.COMPLETE


@pytest.mark.parametrize("outcome", sorted(NEVER_RETRIED))
@pytest.mark.parametrize("fault", list(Fault))
def test_outcomes_that_nothing_brings_back(outcome: Outcome, fault: Fault) -> None:
    after = settled(Verdict(outcome, fault))
    assert (after.event, after.next_attempt_at, after.outcomes) == (ContactEvent.FAIL, None, {outcome.value: 1})


def test_a_number_that_does_not_exist_says_so() -> None:
    after = settled(Verdict(Outcome.INVALID_NUMBER, Fault.NUMBER))
    assert (after.detail, after.callee_tries) == ("invalid_number: never retried", 1)


def test_a_call_withdrawn_before_it_was_sent_waits_again_and_spends_nothing() -> None:
    before = contact(callee_tries=3, mishaps=19, busy=3)
    assert settled(WITHDRAWN, before, "never_sent") == Settlement(
        ContactEvent.RETRY, ENDED, 3, 19, {"busy": 3}, "cancelled: never sent, spends no attempt"
    )


def test_a_call_withdrawn_after_the_campaigns_end_fails() -> None:
    after = settled(WITHDRAWN, None, "never_sent", "stopped")
    assert (after.event, after.next_attempt_at) == (ContactEvent.FAIL, None)
    assert after.detail == "cancelled: never sent, and the campaign has ended"


def test_an_answered_call_is_not_dialled_again_though_the_driver_says_it_was_never_sent() -> None:
    assert settled(WITHDRAWN, None, "connected", "never_sent").event is ContactEvent.COMPLETE


def test_a_call_that_somebody_stopped_while_it_rang_fails() -> None:
    after = settled(WITHDRAWN)
    assert (after.event, after.detail) == (ContactEvent.FAIL, "cancelled: ended by us, because somebody said stop")


def test_a_refused_call_spends_a_mishap_though_it_was_never_sent() -> None:
    after = settled(Verdict(Outcome.FAILED, Fault.PBX), None, "never_sent")
    assert (after.event, after.mishaps) == (ContactEvent.RETRY, 1)


@pytest.mark.parametrize("verdict", [BUSY, CONGESTION, INTERRUPTED])
def test_an_ended_campaign_brings_nobody_back(verdict: Verdict) -> None:
    ringing, answered = settled(verdict, None, "stopped"), settled(verdict, None, "stopped", "connected")
    assert (ringing.event, answered.event) == (ContactEvent.FAIL, ContactEvent.COMPLETE)
    assert ringing.next_attempt_at is answered.next_attempt_at is None
    assert ringing.detail == f"{verdict.outcome.value}: the campaign has ended"


def test_the_contacts_own_counts_are_left_alone() -> None:
    before = contact(busy=1)
    settled(BUSY, before)
    assert before.outcomes == {"busy": 1}


INVALID = Verdict(Outcome.INVALID_NUMBER, Fault.TRUNK)


@pytest.mark.parametrize("verdict", [INVALID, CONGESTION, NO_ANSWER])
def test_a_call_over_an_ill_trunk_spends_nothing_and_is_due_at_once(verdict: Verdict) -> None:
    before = contact(callee_tries=3, mishaps=19, busy=3)
    after = settled(verdict, before, "spared", max_retries=3)
    said = f"{verdict.outcome.value}: its trunk is ill, spends no attempt"
    assert after == Settlement(ContactEvent.RETRY, ENDED, 3, 19, {"busy": 3}, said)


def test_a_call_over_an_ill_trunk_is_final_once_the_campaign_has_ended() -> None:
    after = settled(INVALID, None, "spared", "stopped")
    assert (after.event, after.next_attempt_at) == (ContactEvent.FAIL, None)
    assert (after.callee_tries, after.mishaps) == (0, 0)


def test_an_answer_is_an_answer_whatever_the_trunk() -> None:
    assert settled(ANSWERED, None, "spared", "connected").event is ContactEvent.COMPLETE
