"""The table of causes, against what each means to a dialer."""

from __future__ import annotations

import pytest

from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.causes import CAUSES, Ending, verdict

Q850_OF_ASTERISK = [
    *[1, 2, 3, 5, 6, 7, 8, 14, 16, 17, 18, 19, 20, 21, 22, 23, 26, 27, 28, 29, 30, 31, 34, 38, 41, 42, 43, 44, 50],
    *[52, 54, 57, 58, 65, 66, 69, 81, 88, 95, 96, 97, 98, 99, 100, 101, 102, 103, 111, 127],
]

TABLE = [
    # cause, SIP status, progress, outcome, fault
    (17, 486, True, "busy", "callee"),
    (17, 600, False, "busy", "callee"),
    (17, None, False, "busy", "callee"),
    (1, 404, False, "invalid_number", "number"),
    (1, 604, False, "invalid_number", "number"),
    (3, None, False, "invalid_number", "number"),
    (22, 410, False, "invalid_number", "number"),
    (28, 484, False, "invalid_number", "number"),
    (19, 480, False, "no_answer", "callee"),
    (19, None, True, "no_answer", "callee"),
    (19, 483, False, "unreachable", "trunk"),
    (18, None, True, "no_answer", "callee"),
    (18, 480, False, "no_answer", "callee"),
    (18, 408, True, "no_answer", "callee"),
    (18, 408, False, "unreachable", "trunk"),
    (18, None, False, "unreachable", "trunk"),
    (102, None, False, "unreachable", "trunk"),
    (102, 504, False, "unreachable", "trunk"),
    (102, None, True, "no_answer", "callee"),
    (21, 603, False, "rejected", "callee"),
    (21, None, False, "rejected", "callee"),
    (21, 403, False, "rejected", "trunk"),
    (21, 401, False, "rejected", "trunk"),
    (21, 407, False, "rejected", "trunk"),
    (34, 503, False, "congestion", "trunk"),
    (42, None, False, "congestion", "trunk"),
    (38, 500, False, "congestion", "trunk"),
    (41, None, False, "congestion", "trunk"),
    (44, None, False, "congestion", "trunk"),
    (27, None, False, "unreachable", "trunk"),
    (27, 502, False, "congestion", "trunk"),
    (127, 405, False, "failed", "trunk"),
    (127, 607, False, "rejected", "callee"),
    (58, 488, False, "failed", "trunk"),
    (16, None, True, "failed", "pbx"),
    (None, None, True, "failed", "pbx"),
    (77, 299, True, "failed", "pbx"),
]


@pytest.mark.parametrize(("cause", "sip", "progress", "outcome", "fault"), TABLE)
def test_unanswered(cause: int | None, sip: int | None, progress: bool, outcome: str, fault: str) -> None:
    ending = Ending(progress=progress, cause=cause, sip_status=sip)
    assert verdict(ending) == Verdict(Outcome(outcome), Fault(fault))


@pytest.mark.parametrize("cause", Q850_OF_ASTERISK)
def test_every_cause_that_asterisk_uses_has_a_row(cause: int) -> None:
    assert cause in CAUSES or cause == 16


@pytest.mark.parametrize("cause", [None, *range(128)])
@pytest.mark.parametrize("asked", [True, False])
def test_answered_is_answered(cause: int | None, asked: bool) -> None:
    assert verdict(Ending(answered=True, cause=cause, asked=asked)) == Verdict(Outcome.ANSWERED, Fault.NONE)


@pytest.mark.parametrize("cause", [0, 4, 16, 32, 77, 126, None])
def test_the_callee_is_not_blamed_for_the_unknown(cause: int | None) -> None:
    for progress in (True, False):
        assert verdict(Ending(progress=progress, cause=cause)).fault not in (Fault.CALLEE, Fault.NUMBER)


@pytest.mark.parametrize(("cause", "sip"), [(19, 480), (None, None), (16, None)])
def test_our_own_timeout_is_judged_by_progress_alone(cause: int | None, sip: int | None) -> None:
    silent = Ending(timed_out=True, cause=cause, sip_status=sip)
    rang = Ending(timed_out=True, cause=cause, sip_status=sip, progress=True)
    assert verdict(silent) == Verdict(Outcome.UNREACHABLE, Fault.TRUNK)
    assert verdict(rang) == Verdict(Outcome.NO_ANSWER, Fault.CALLEE)


def test_without_a_channel_the_trunk_is_down() -> None:
    assert verdict(Ending(channel=False)) == Verdict(Outcome.UNREACHABLE, Fault.TRUNK)


def test_a_hangup_of_ours_cancels_unless_the_far_end_was_first() -> None:
    assert verdict(Ending(asked=True, cause=16, progress=True)) == Verdict(Outcome.CANCELLED, Fault.NONE)
    assert verdict(Ending(asked=True, cause=None)) == Verdict(Outcome.CANCELLED, Fault.NONE)
    assert verdict(Ending(asked=True, cause=17, sip_status=486)) == Verdict(Outcome.BUSY, Fault.CALLEE)


def test_a_dialplan_that_rang_out_says_normal_clearing() -> None:
    rang = Ending(cause=16, progress=True, through_dialplan=True)
    assert verdict(rang) == Verdict(Outcome.NO_ANSWER, Fault.CALLEE)
    silent = Ending(cause=16, through_dialplan=True)
    assert verdict(silent) == Verdict(Outcome.FAILED, Fault.PBX)
