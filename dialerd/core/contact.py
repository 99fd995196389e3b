"""The contact's state machine, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from dialerd.core.model import ContactStatus as S


class ContactEvent(StrEnum):
    """What can happen to a contact."""

    ORIGINATE = "originate"
    """The call is committed to the journal."""
    ANSWER = "answer"
    """Answer supervision."""
    COMPLETE = "complete"
    """A connected call ended, and no rule retries its outcome."""
    RETRY = "retry"
    """The call ended, and the outcome's rule retries it."""
    FAIL = "fail"
    """The call ended unanswered, and no retry is left."""
    CANCEL = "cancel"
    """Stopped, withdrawn by hand, on the do-not-call list, or forbidden for ever by a rule."""
    CALLBACK = "callback"
    """A callback is promised."""
    PUT_BACK = "put_back"
    """Its failure was its trunk's fault after all."""


TRANSITIONS: Mapping[tuple[S, ContactEvent], S] = MappingProxyType(
    {
        (S.PENDING, ContactEvent.ORIGINATE): S.ORIGINATED,
        (S.PENDING, ContactEvent.CANCEL): S.CANCELLED,
        (S.ORIGINATED, ContactEvent.ANSWER): S.CONNECTED,
        (S.ORIGINATED, ContactEvent.RETRY): S.PENDING,
        (S.ORIGINATED, ContactEvent.FAIL): S.FAILED,
        (S.CONNECTED, ContactEvent.COMPLETE): S.COMPLETED,
        (S.CONNECTED, ContactEvent.RETRY): S.PENDING,
        (S.COMPLETED, ContactEvent.CALLBACK): S.PENDING,
        (S.FAILED, ContactEvent.CALLBACK): S.PENDING,
        (S.FAILED, ContactEvent.PUT_BACK): S.PENDING,
    }
)

IN_FLIGHT: frozenset[S] = frozenset({S.ORIGINATED, S.CONNECTED})
"""A call of the contact may live on a PBX."""
