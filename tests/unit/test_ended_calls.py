"""The ids of calls that have ended lately."""

from __future__ import annotations

from dialerd.pbx.ended import EndedCalls


def test_the_oldest_is_forgotten_for_the_newest() -> None:
    calls = EndedCalls(most=2)
    for call_id in ("a", "b", "c"):
        calls.add(call_id)
    assert [call_id in calls for call_id in ("a", "b", "c")] == [False, True, True]


def test_one_that_is_added_again_takes_no_other_ones_place() -> None:
    calls = EndedCalls(most=2)
    for call_id in ("a", "b", "b", "b"):
        calls.add(call_id)
    assert "a" in calls
    assert "b" in calls
