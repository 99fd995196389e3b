"""What becomes of a contact when its call has ended: completed, failed, or dialled again, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dialerd.core.contact import ContactEvent
from dialerd.core.model import Contact
from dialerd.core.outcome import BUDGET_OF_FAULT, NEVER_RETRIED, Budget, Outcome, Verdict
from dialerd.core.settings import CampaignSettings, RetryRule

MISHAP_LIMIT: Final = 20
"""How many attempts of a contact may fail by fault of trunk, PBX or daemon; the last of them ends the contact."""

MAX_DELAY: Final = timedelta(days=30)
"""However much a rule's factor makes of its delay."""

RETRIED_AFTER_ANSWER: Final = frozenset({Outcome.MACHINE, Outcome.ABANDONED, Outcome.INTERRUPTED})
"""The outcomes that bring back a contact whose call was answered: nobody there heard what the call was for."""

_MAX_EXPONENT: Final = 300
"""Far beyond any count that the limits allow; a factor of 10 stays within a float's range."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an ended call does to its contact, and why in words.

    ``callee_tries``, ``mishaps`` and ``outcomes`` are the contact's counts after this call. ``next_attempt_at`` is set
    for a retry only.
    """

    event: ContactEvent
    next_attempt_at: datetime | None
    callee_tries: int
    mishaps: int
    outcomes: dict[str, int]
    detail: str


def settle(
    settings: CampaignSettings,
    contact: Contact,
    verdict: Verdict,
    ended_at: datetime,
    *,
    connected: bool,
    stopped: bool,
    never_sent: bool,
    spared: bool = False,
) -> Settlement:
    """Settle one ended call of ``contact``, whose counts are those before the call.

    ``connected``: the call had been answered. ``stopped``: the campaign is completed or cancelled, so nothing comes
    back. ``never_sent``: for sure nothing of the attempt left the PBX; if the daemon itself withdrew it (outcome
    ``cancelled``), the contact waits again as if it had never been taken up. ``spared``: the trunk is known to be ill,
    so the call spends nothing and its contact is due at once.
    """
    over = ContactEvent.COMPLETE if connected else ContactEvent.FAIL
    if verdict.outcome is Outcome.CANCELLED and never_sent and not connected:
        counts = contact.callee_tries, contact.mishaps, dict(contact.outcomes)
        if stopped:
            return Settlement(over, None, *counts, "cancelled: never sent, and the campaign has ended")
        return Settlement(ContactEvent.RETRY, ended_at, *counts, "cancelled: never sent, spends no attempt")

    if spared and not connected:
        counts = contact.callee_tries, contact.mishaps, dict(contact.outcomes)
        said = f"{verdict.outcome.value}: its trunk is ill, spends no attempt"
        if stopped:
            return Settlement(over, None, *counts, f"{said}; the campaign has ended")
        return Settlement(ContactEvent.RETRY, ended_at, *counts, said)

    budget = _budget(verdict)
    tries = contact.callee_tries + (budget is Budget.CALLEE)
    mishaps = contact.mishaps + (budget is Budget.MISHAP)
    outcomes = dict(contact.outcomes)
    times = outcomes[verdict.outcome.value] = outcomes.get(verdict.outcome.value, 0) + 1

    rule = settings.rule_for(verdict.outcome)
    why_not = (
        _not_wanted(verdict.outcome, rule, connected=connected, stopped=stopped)
        or _rule_spent(rule, times)
        or _budget_spent(budget, tries, mishaps, settings.max_retries)
    )
    if rule is None or why_not:
        return Settlement(over, None, tries, mishaps, outcomes, f"{verdict.outcome.value}: {why_not}")
    delay = _delay(rule, times)
    again = f"retry {tries} of {settings.max_retries}" if budget is Budget.CALLEE else "again"
    spent = "" if budget is Budget.CALLEE else f", mishap {mishaps} of {MISHAP_LIMIT} ({verdict.fault.value})"
    own = "" if rule.most is None else f", {times} of {rule.most} for this outcome"
    detail = f"{verdict.outcome.value}: {again} in {_words(delay)}{spent}{own}"
    return Settlement(ContactEvent.RETRY, ended_at + delay, tries, mishaps, outcomes, detail)


def _budget(verdict: Verdict) -> Budget:
    """The budget a call spends. What was nobody's fault, and may yet be retried, is bounded like the callee's own."""
    if verdict.outcome is Outcome.INTERRUPTED:
        return Budget.MISHAP
    budget = BUDGET_OF_FAULT[verdict.fault]
    if budget is Budget.NOTHING and verdict.outcome not in NEVER_RETRIED:
        return Budget.CALLEE
    return budget


def _not_wanted(outcome: Outcome, rule: RetryRule | None, *, connected: bool, stopped: bool) -> str | None:
    if outcome is Outcome.ANSWERED and connected:
        return "the conversation was had"
    if outcome is Outcome.CANCELLED:
        return "ended by us, because somebody said stop"
    if stopped:
        return "the campaign has ended"
    if rule is None:
        return "never retried"
    if connected and outcome not in RETRIED_AFTER_ANSWER:
        return "not retried after an answer"
    return None


def _rule_spent(rule: RetryRule | None, times: int) -> str | None:
    if rule is None or rule.most is None or times <= rule.most:
        return None
    return f"its rule allows {rule.most or 'no'} {'retry' if rule.most == 1 else 'retries'}"


def _budget_spent(budget: Budget, tries: int, mishaps: int, max_retries: int) -> str | None:
    if budget is Budget.CALLEE and tries > max_retries:
        return f"all {max_retries} retries are spent" if max_retries else "the campaign allows no retries"
    if budget is Budget.MISHAP and mishaps >= MISHAP_LIMIT:
        return f"mishap {mishaps}, and {MISHAP_LIMIT} end a contact"
    return None


def _delay(rule: RetryRule, times: int) -> timedelta:
    seconds = rule.delay_seconds * rule.factor ** min(times - 1, _MAX_EXPONENT)
    return timedelta(seconds=min(seconds, MAX_DELAY.total_seconds()))


def _words(span: timedelta) -> str:
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:g} s"
    if seconds < 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"
