"""Whose turn it is among the campaigns of a round: what the heaps say is what comparing all of them says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dialerd.core import fairness
from dialerd.core.fairness import Lane, Marks
from dialerd.core.model import Tenant, Trunk
from dialerd.core.throttle import Key, Level, Shares
from tests.support.effort import examples
from tests.support.planning import AGENT, a_campaign, a_view

TRUNKS = [Trunk(name, pbx, "PJSIP/{number}@x", 1, 1) for name, pbx in (("a", "one"), ("b", "one"), ("c", "two"))]
TENANTS = [Tenant(name, 1, 1, ("a", "b", "c"), weight=weight) for name, weight in (("x", 1.0), ("y", 1.0), ("z", 2.0))]

lanes = st.lists(
    st.tuples(
        st.sampled_from(TENANTS),
        st.sampled_from(TRUNKS),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([1.0, 1.0, 3.0]),
    ),
    min_size=4,
    max_size=12,
)
before = st.lists(st.tuples(st.integers(0, 11), st.sampled_from(TRUNKS)), max_size=12)
"""Who was served in rounds before, and over which trunk."""
steps = st.lists(
    st.tuples(
        st.sampled_from(["serve the least", "serve the least", "serve", "leave", "by another trunk"]),
        st.integers(0, 11),
        st.sampled_from(TRUNKS),
    ),
    max_size=40,
)


def _served_least(waiting: Iterable[Lane]) -> Lane:
    def turn(lane: Lane) -> tuple[float, ...]:
        above = (crowd.marks[owner] - crowd.least for crowd, owner in lane.crowds)
        return *above, lane.view.campaign.id

    return min(waiting, key=turn)


def _shares(made: Sequence[Lane], served: Iterable[tuple[int, Trunk]]) -> Shares:
    shares = Shares()
    for index, trunk in served:
        lane = made[index % len(made)]
        for holder, owner in (
            (Key(Level.TRUNK, trunk.id), lane.tenant.id),
            (Key(Level.PBX, trunk.pbx), lane.tenant.id),
        ):
            shares.serve(holder, owner, lane.tenant.weight, {each.tenant.id for each in made})
        within = [each.view.campaign.id for each in made if each.tenant is lane.tenant]
        shares.serve(Key(Level.TENANT, lane.tenant.id), lane.view.campaign.id, lane.weight, within)
    return shares


A, B, C = TRUNKS
X, Y, _ = TENANTS
CROWD = [(X, A, 0, 1.0), (X, C, 0, 1.0), (Y, A, 0, 1.0), (Y, C, 0, 2.0), (X, B, 0, 5.0)]


@settings(max_examples=examples(400))
@given(lanes, before, steps)
# Who is served on one trunk, leaves it or comes over from it brings the tenant forward on another, where equals wait.
@example(CROWD[:4], [(1, C), (3, C)], [("serve", 0, A)])
@example(CROWD[:4], [(1, C), (3, C)], [("leave", 0, A)])
@example(CROWD, [(1, C), (3, C), (4, B)], [("by another trunk", 0, C)])
def test_the_heaps_say_what_comparing_all_says(
    wanted: list[tuple[Tenant, Trunk, int, float]],
    served: list[tuple[int, Trunk]],
    taken: list[tuple[str, int, Trunk]],
) -> None:
    waiting = []
    for number, (tenant, trunk, priority, weight) in enumerate(wanted, 1):
        campaign = a_campaign(number, tenant.id, priority=priority, weight=weight)
        lane = Lane(a_view(campaign), tenant, AGENT)
        lane.go_by(trunk, probe=False)
        waiting.append(lane)
    marks = Marks(_shares(waiting, served))
    marks.note_waiting(waiting)
    for step, index, trunk in taken:
        least = marks.least()
        assert least is _served_least(waiting)
        lane = waiting[index % len(waiting)]
        if step == "serve the least":
            marks.serve(least)
        elif step == "serve":
            marks.serve(lane)  # as who waited long is
        elif step == "by another trunk":
            marks.leave(lane)
            lane.go_by(trunk, probe=False)
            marks.join(lane)
        elif len(waiting) > 1:
            marks.leave(lane)
            waiting.remove(lane)
    assert marks.least() is _served_least(waiting)


def test_a_round_of_many_calls_costs_no_more_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tenants in turn: each call puts the one that was served back by one place, and looks at no call before it."""
    looked, turn = [0], fairness._Way._turn

    def counted(way: fairness._Way, group: fairness._Group) -> fairness._Turn:
        looked[0] += 1
        return turn(way, group)

    monkeypatch.setattr(fairness._Way, "_turn", counted)
    waiting = []
    for number, tenant in enumerate((X, Y), 1):
        lane = Lane(a_view(a_campaign(number, tenant.id)), tenant, AGENT)
        lane.go_by(A, probe=False)
        waiting.append(lane)
    marks = Marks(Shares())
    marks.note_waiting(waiting)
    for calls in range(1, 501):
        marks.serve(marks.least())
        assert looked[0] <= 2 + 4 * calls
