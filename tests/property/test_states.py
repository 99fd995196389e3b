"""The two tables, walked at random: what a campaign and its contacts may become, however events come."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dialerd.core import campaign, contact
from dialerd.core.campaign import CampaignEvent
from dialerd.core.contact import ContactEvent
from dialerd.core.machine import IllegalTransition, step
from dialerd.core.model import CampaignStatus, ContactStatus
from tests.support.effort import examples

ENDS = frozenset({ContactEvent.COMPLETE, ContactEvent.RETRY, ContactEvent.FAIL})


class CampaignWalk(RuleBasedStateMachine):
    """Any order of commands; a model of three facts says what must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.status = CampaignStatus.DRAFT
        self.ever_started = False
        self.finished_as: CampaignStatus | None = None

    @rule(event=st.sampled_from(CampaignEvent))
    def happens(self, event: CampaignEvent) -> None:
        before = self.status
        try:
            self.status = step(campaign.TRANSITIONS, before, event)
        except IllegalTransition:
            assert self.status is before
            return
        assert self.finished_as is None, "a finished campaign moved"
        self.ever_started |= self.status is CampaignStatus.ACTIVE
        if self.status in campaign.FINISHED:
            self.finished_as = self.status
        if event is CampaignEvent.FINISH:
            assert before is CampaignStatus.ACTIVE, "a paused campaign never completes for want of contacts"

    @precondition(lambda self: self.finished_as is None)
    @rule()
    def stop_is_always_possible(self) -> None:
        assert step(campaign.TRANSITIONS, self.status, CampaignEvent.STOP) is CampaignStatus.CANCELLED

    @invariant()
    def only_what_was_started_pauses_or_completes(self) -> None:
        assert self.ever_started or self.status in {CampaignStatus.DRAFT, CampaignStatus.CANCELLED}

    @invariant()
    def finished_stays_finished(self) -> None:
        assert self.finished_as in {None, self.status}


class ContactWalk(RuleBasedStateMachine):
    """Any order of events; the model counts the live calls of the contact."""

    def __init__(self) -> None:
        super().__init__()
        self.status = ContactStatus.PENDING
        self.live = 0
        self.answered = False

    @rule(event=st.sampled_from(ContactEvent))
    def happens(self, event: ContactEvent) -> None:
        try:
            after = step(contact.TRANSITIONS, self.status, event)
        except IllegalTransition:
            return
        if event is ContactEvent.ORIGINATE:
            self.live += 1
            self.answered = False
        elif event is ContactEvent.ANSWER:
            self.answered = True
        elif event in ENDS:
            self.live -= 1
            assert event is ContactEvent.RETRY or self.answered is (event is ContactEvent.COMPLETE)
        self.status = after

    @precondition(lambda self: self.status in contact.IN_FLIGHT)
    @rule()
    def a_live_call_can_always_be_retried(self) -> None:
        assert step(contact.TRANSITIONS, self.status, ContactEvent.RETRY) is ContactStatus.PENDING

    @precondition(lambda self: self.status is ContactStatus.CANCELLED)
    @rule(event=st.sampled_from(ContactEvent))
    def nothing_brings_a_cancelled_contact_back(self, event: ContactEvent) -> None:
        with pytest.raises(IllegalTransition):
            step(contact.TRANSITIONS, self.status, event)

    @invariant()
    def a_contact_has_one_live_call_exactly_while_it_is_in_flight(self) -> None:
        assert self.live == (1 if self.status in contact.IN_FLIGHT else 0)


CampaignWalk.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30)
ContactWalk.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30)
TestCampaignWalk = CampaignWalk.TestCase
TestContactWalk = ContactWalk.TestCase
