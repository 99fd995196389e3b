"""Whatever an endpoint does: in order per contact, nothing lost over a restart, and nothing kept without bound."""

from __future__ import annotations

import itertools
from collections import defaultdict
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dialerd.core.model import Moment
from dialerd.core.webhooks import RETRY_FOR, Delivery, DeliveryStatus
from dialerd.webhooks.lanes import ILL_AFTER, MOST_HELD, WINDOW, Item, Lanes
from dialerd.webhooks.transport import Answer
from tests.support.endpoint import AWAY, REFUSED, TAKEN
from tests.support.virtual import START

HELD = {DeliveryStatus.RETRYING, DeliveryStatus.WAITING}
CONTACTS = st.integers(0, 3)


class World:
    """An endpoint's lanes with a journal, a store and a clock around them."""

    def __init__(self, journal: list[int]) -> None:
        self.journal = dict(enumerate(journal, start=1))
        self.time = 0.0
        self.rows: dict[int, Delivery] = {}
        self.position = 0
        self.failing_since: datetime | None = None
        self.in_flight: list[Item] = []
        self.taken: list[int] = []
        self.lanes = Lanes(1, 0)

    @property
    def now(self) -> Moment:
        return Moment(START + timedelta(seconds=self.time), self.time)

    def read(self) -> None:
        """Take what there is room for."""
        for seq in range(self.lanes.read_to + 1, len(self.journal) + 1):
            if not self.lanes.room:
                break
            self.lanes.take(seq, "completed", 1, self.journal[seq], self.now.wall, self.now.wall)
            self.lanes.read_to = seq

    def send(self) -> None:
        """Send all that may be sent now."""
        while (item := self.lanes.ready(self.time)) is not None:
            self.in_flight.append(item)

    def land(self, answer: Answer) -> None:
        """Let the oldest attempt end."""
        item = self.in_flight.pop(0)
        if answer.delivered:
            self.taken.append(item.seq)
        self.lanes.answered(item, answer, self.now, 0.5)

    def write(self) -> None:
        """Commit the changes with the place in the journal."""
        self.position, self.failing_since = self.lanes.position, self.lanes.failing_since
        self.rows |= {each.seq: each for each in self.lanes.changes()}

    def restart(self) -> None:
        """What was not committed is forgotten."""
        self.in_flight.clear()
        self.lanes = Lanes(1, self.position, self.failing_since)
        held = [row for _, row in sorted(self.rows.items()) if row.status in HELD]
        self.lanes.restore(held, self.now)

    def pass_time(self) -> None:
        """Go on to the next moment at which something may be sent."""
        moment = self.lanes.next_moment()
        if moment is not None:
            self.time = max(self.time, moment)

    def check(self) -> None:
        """What holds at every moment."""
        assert len({item.lane for item in self.in_flight}) == len(self.in_flight), "two of one contact at once"
        assert self.lanes.backlog <= WINDOW + MOST_HELD
        for row in self.rows.values():
            assert row.created_at <= self.now.wall
        told = {seq for seq, row in self.rows.items() if row.status is DeliveryStatus.DELIVERED} | set(self.taken)
        for seq in range(1, self.position + 1):
            assert seq in self.rows or seq in told, f"{seq} is behind the place in the journal, and nowhere"


STEPS = st.lists(
    st.sampled_from(["read", "send", "taken", "refused", "away", "write", "restart", "time", "second"]), max_size=80
)


@given(st.lists(CONTACTS, min_size=1, max_size=30), STEPS)
def test_in_order_and_nothing_lost(journal: list[int], steps: list[str]) -> None:
    world = World(journal)
    for step in steps:
        if step in ("taken", "refused", "away") and world.in_flight:
            world.land({"taken": TAKEN, "refused": REFUSED, "away": AWAY}[step])
        elif step == "read":
            world.read()
        elif step == "send":
            world.send()
        elif step == "write":
            world.write()
        elif step == "restart":
            world.restart()
        elif step == "time":
            world.pass_time()
        elif step == "second":
            world.time += 1.0
        world.check()
    # The endpoint is well again: all of it arrives, however it was before.
    for _ in range(20 * len(journal) + 20):
        world.read()
        world.send()
        while world.in_flight:
            world.land(TAKEN)
        world.write()
        world.pass_time()
        world.check()
    assert set(world.taken) == set(world.journal)
    assert world.position == len(journal)
    assert all(row.status is DeliveryStatus.DELIVERED for row in world.rows.values())
    first_taken: dict[int, list[int]] = defaultdict(list)
    for seq in world.taken:
        lane = first_taken[world.journal[seq]]
        if seq not in lane:
            lane.append(seq)
    for lane in first_taken.values():
        assert lane == sorted(lane), "of one contact, an event was first taken after a later one"


@given(st.lists(CONTACTS, min_size=2, max_size=40), CONTACTS)
def test_a_contact_that_fails_stops_no_other(journal: list[int], poisoned: int) -> None:
    world = World(journal)
    for _ in range(3 * len(journal)):
        world.read()
        world.send()
        while world.in_flight:
            bad = world.journal[world.in_flight[0].seq] == poisoned
            world.land(REFUSED if bad else TAKEN)
        world.write()
        if world.lanes.ill:
            world.pass_time()
    others = [seq for seq, contact in world.journal.items() if contact != poisoned]
    assert sorted(world.taken) == others


def test_what_fails_for_a_day_is_given_up_and_the_next_gets_its_turn() -> None:
    world = World([1, 1, 1])
    attempts: list[tuple[int, float]] = []
    world.read()
    for _ in range(200):
        world.send()
        while world.in_flight:
            attempts.append((world.in_flight[0].seq, world.time))
            world.land(REFUSED)
        world.write()
        if all(row.status is DeliveryStatus.FAILED for row in world.rows.values()):
            break
        world.pass_time()
    of_first = [at for seq, at in attempts if seq == 1]
    pauses = [after - before for before, after in itertools.pairwise(of_first)]
    assert pauses[: ILL_AFTER - 1] == [5.0, 15.0, 45.0, 135.0]
    assert max(pauses) <= 900.0  # the endpoint as a whole fails: it is probed more often than a delivery would be
    assert RETRY_FOR.total_seconds() <= of_first[-1] <= RETRY_FOR.total_seconds() + 1100
    # They waited as long as the first, and have one try each.
    assert [sum(1 for seq, _ in attempts if seq == each) for each in (2, 3)] == [1, 1]
    assert len(world.rows) == 3
    assert world.lanes.backlog == 0


def test_an_endpoint_that_is_away_is_probed_and_nothing_piles_up() -> None:
    world = World([index % 50 for index in range(1000)])
    tries = 0
    while world.time < 3600:
        world.read()
        world.send()
        while world.in_flight:
            tries += 1
            world.land(AWAY)
        world.write()
        world.time += 1
    assert world.lanes.ill
    assert tries < 100
    assert world.lanes.backlog <= WINDOW + 50
    for _ in range(1000):
        world.pass_time()
        world.read()
        world.send()
        while world.in_flight:
            world.land(TAKEN)
        world.write()
    assert sorted(set(world.taken)) == list(range(1, 1001))
    assert world.time < 3600 + 1100


def test_attempts_in_flight_when_it_falls_ill_do_not_lengthen_its_rest() -> None:
    world = World(list(range(30)))
    world.read()
    world.send()
    while world.in_flight:
        world.land(AWAY)
    assert world.lanes.ill
    moment = world.lanes.next_moment()
    assert moment is not None
    assert moment <= 6.0


def test_retry_after_is_heeded_within_bounds() -> None:
    world = World([1, 2])
    world.read()
    item = world.lanes.ready(0.0)
    assert item is not None
    world.lanes.answered(item, Answer(429, "the answer was 429", "60"), world.now, 0.5)
    assert world.lanes.ready(59.9) is None, "the whole endpoint wants to be left alone"
    assert world.lanes.ready(60.1) is not None


def test_a_store_that_takes_nothing_stops_the_sending() -> None:
    world = World(list(range(1, 4000)))
    for _ in range(50):
        world.read()
        world.send()
        while world.in_flight:
            world.land(TAKEN)
    assert 1000 <= world.lanes.unwritten <= 1000 + WINDOW
    changes = world.lanes.changes()
    world.lanes.put_back(changes)
    assert world.lanes.unwritten == len(changes)
    assert world.lanes.next_moment() is None


def test_a_delivery_made_by_hand_lets_the_next_go() -> None:
    world = World([1, 1])
    world.read()
    world.send()
    world.land(REFUSED)
    assert world.lanes.settle_by_hand(1, TAKEN, world.now)
    assert not world.lanes.settle_by_hand(1, TAKEN, world.now)
    world.send()
    assert [item.seq for item in world.in_flight] == [2]
    world.write()
    assert world.rows[1].status is DeliveryStatus.DELIVERED


def test_one_made_by_hand_while_it_is_tried_is_told_once() -> None:
    world = World([1, 1])
    world.read()
    world.send()
    world.land(REFUSED)
    world.time = 10.0
    world.send()
    assert world.lanes.settle_by_hand(1, TAKEN, world.now)
    world.land(REFUSED)
    world.write()
    assert world.rows[1].status is DeliveryStatus.DELIVERED
    world.send()
    assert [item.seq for item in world.in_flight] == [2]


def test_a_webhook_that_is_switched_off_holds_nothing() -> None:
    world = World([1, 1, 2])
    world.read()
    world.send()
    while world.in_flight:
        world.land(REFUSED)
    assert world.lanes.give_up(world.now.wall, "switched off") == 3
    world.write()
    assert {row.status for row in world.rows.values()} == {DeliveryStatus.FAILED}
    assert world.lanes.backlog == 0
    assert world.lanes.ready(1e9) is None
