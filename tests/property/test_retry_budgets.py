"""Whatever calls end how: no contact is dialled beyond its budgets, and every step is one its table allows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dialerd.core.contact import TRANSITIONS, ContactEvent
from dialerd.core.machine import step
from dialerd.core.model import Contact, ContactStatus
from dialerd.core.outcome import NEVER_RETRIED, Fault, Outcome, Verdict
from dialerd.core.retry import MAX_DELAY, MISHAP_LIMIT, Settlement, settle
from dialerd.core.settings import CampaignSettings, RetryRule
from tests.support.contacts import a_contact

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

rules = st.builds(
    RetryRule,
    delay_seconds=st.floats(0, 30 * 86400),
    factor=st.floats(1, 10),
    most=st.none() | st.integers(0, 100),
)
schedules = st.builds(
    CampaignSettings,
    max_retries=st.integers(0, 6) | st.just(100),
    retry=st.dictionaries(st.sampled_from(sorted(set(Outcome) - NEVER_RETRIED)), rules, max_size=4),
)
verdicts = st.builds(Verdict, st.sampled_from(Outcome), st.sampled_from(Fault))
calls = st.tuples(verdicts, st.booleans())


def dial(contact: Contact, *, connected: bool) -> Contact:
    status = step(TRANSITIONS, contact.status, ContactEvent.ORIGINATE)
    if connected:
        status = step(TRANSITIONS, status, ContactEvent.ANSWER)
    return replace(contact, status=status, attempts=contact.attempts + 1)


def after(contact: Contact, settlement: Settlement) -> Contact:
    return replace(
        contact,
        status=step(TRANSITIONS, contact.status, settlement.event),
        callee_tries=settlement.callee_tries,
        mishaps=settlement.mishaps,
        outcomes=settlement.outcomes,
        next_attempt_at=settlement.next_attempt_at,
    )


def run(settings: CampaignSettings, ends: list[tuple[Verdict, bool]]) -> tuple[Contact, list[Verdict]]:
    """Dial one contact as long as it comes back, ending its calls as told, over and over."""
    contact, had = a_contact(), list[Verdict]()
    bound = settings.max_retries + 1 + MISHAP_LIMIT
    while contact.status is ContactStatus.PENDING:
        assert len(had) < bound, "dialled beyond both budgets together"
        verdict, connected = ends[len(had) % len(ends)]
        contact = dial(contact, connected=connected)
        settlement = settle(settings, contact, verdict, NOW, connected=connected, stopped=False, never_sent=False)
        contact = after(contact, settlement)
        had.append(verdict)
    return contact, had


@given(schedules, st.lists(calls, min_size=1, max_size=12))
def test_no_contact_is_dialled_beyond_its_budgets(settings: CampaignSettings, ends: list[tuple[Verdict, bool]]) -> None:
    contact, had = run(settings, ends)
    mishaps = [v for v in had if v.fault in {Fault.TRUNK, Fault.PBX, Fault.DAEMON} or v.outcome is Outcome.INTERRUPTED]
    assert contact.callee_tries <= settings.max_retries + 1
    assert len(had) - len(mishaps) <= settings.max_retries + 1
    assert contact.mishaps == len(mishaps) <= MISHAP_LIMIT
    assert contact.outcomes == Counter(verdict.outcome for verdict in had)
    for outcome, times in contact.outcomes.items():
        rule = settings.rule_for(Outcome(outcome))
        most = 0 if rule is None else rule.most
        assert most is None or times <= most + 1


@given(schedules, st.sampled_from([Fault.CALLEE, Fault.NUMBER, Fault.NONE]))
def test_a_rule_without_a_limit_gives_the_whole_budget(settings: CampaignSettings, fault: Fault) -> None:
    boundless = settings.model_copy(update={"retry": {Outcome.BUSY: RetryRule(delay_seconds=1)}})
    contact, had = run(boundless, [(Verdict(Outcome.BUSY, fault), False)])
    assert (contact.status, len(had)) == (ContactStatus.FAILED, settings.max_retries + 1)
    _, mishaps = run(boundless, [(Verdict(Outcome.BUSY, Fault.TRUNK), False)])
    assert len(mishaps) == MISHAP_LIMIT


@given(
    settings=schedules,
    counts=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    outcomes=st.dictionaries(st.sampled_from(sorted(Outcome)), st.integers(0, 10**12)),
    verdict=verdicts,
    connected=st.booleans(),
    stopped=st.booleans(),
    never_sent=st.booleans(),
)
def test_every_settlement_is_legal(
    settings: CampaignSettings,
    counts: tuple[int, int],
    outcomes: dict[str, int],
    verdict: Verdict,
    connected: bool,
    stopped: bool,
    never_sent: bool,
) -> None:
    contact = dial(a_contact(callee_tries=counts[0], mishaps=counts[1], outcomes=outcomes), connected=connected)
    settlement = settle(settings, contact, verdict, NOW, connected=connected, stopped=stopped, never_sent=never_sent)
    end = step(TRANSITIONS, contact.status, settlement.event)
    assert (settlement.next_attempt_at is not None) == (end is ContactStatus.PENDING)
    if settlement.next_attempt_at is not None:
        assert timedelta() <= settlement.next_attempt_at - NOW <= MAX_DELAY
    assert not (stopped and settlement.event is ContactEvent.RETRY)
    if settlement.event is ContactEvent.RETRY and verdict.outcome in NEVER_RETRIED:
        assert never_sent
        assert verdict.outcome is Outcome.CANCELLED
    spent = settlement.callee_tries - counts[0], settlement.mishaps - counts[1]
    assert spent in {(0, 0), (0, 1), (1, 0)}
    assert settlement.detail.startswith(f"{verdict.outcome.value}: ")
