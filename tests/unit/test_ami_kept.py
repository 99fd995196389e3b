"""What an Asterisk keeps of answered calls: read, asked for, deleted, and let grow old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from dialerd.clock import SystemClock
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.ami_kept import KEEP, read_kept
from dialerd.pbx.asterisk import AsteriskDriver
from dialerd.pbx.driver import Ended, Kept, LinkLost, LinkUp
from tests.fakes.ami_peer import Action, ami_peer, error, message, success
from tests.support.asterisk_bench import CALL, OTHER, QUICK, Bench, an_order

ANSWERED = Verdict(Outcome.ANSWERED, Fault.NONE)
END = datetime(2026, 3, 2, 12, 0, 0, 250_000, tzinfo=UTC)
ENTRY = f"1|{END.timestamp():.3f}|12.500|16||"


def test_an_entry_is_read() -> None:
    assert read_kept(CALL, ENTRY) == Kept(Ended(CALL, ANSWERED, 16, talk_seconds=12.5), END, handed_over=True)


@pytest.mark.parametrize(
    ("entry", "handed_over"), [("1|1|1|16|TIMEOUT|", False), ("1|1|1|16||TRUE", False), ("1|1|1|16||", True)]
)
def test_a_queue_that_let_go_of_the_call_handed_it_to_nobody(entry: str, handed_over: bool) -> None:
    kept = read_kept(CALL, entry)
    assert kept is not None
    assert kept.handed_over is handed_over


def test_without_cdrs_the_talk_is_not_known() -> None:
    kept = read_kept(CALL, "1|1772452800.25||0||")
    assert kept is not None
    assert (kept.ended.talk_seconds, kept.ended.hangup_cause) == (None, None)


@pytest.mark.parametrize("entry", ["", "1", "2|1|1|16||", "1||1|16||", "1|never|1|16||", "1|1e9|1|16||", "a|b|c|d|e|f"])
def test_what_is_no_entry_of_ours_is_none(entry: str) -> None:
    assert read_kept(CALL, entry) is None


@pytest.mark.parametrize("entry", ["1|999999999999|3|16||", "1|253402300800|3|16||", "1|1772452800|604801|16||"])
def test_an_entry_with_a_moment_or_a_talk_that_no_call_can_have_is_none_of_ours(entry: str) -> None:
    assert read_kept(CALL, entry) is None


@given(end=st.from_regex(r"\A[0-9]{1,12}(\.[0-9]{1,9})?\Z"), talk=st.from_regex(r"\A([0-9]{1,12}(\.[0-9]{1,9})?)?\Z"))
def test_whatever_an_entry_counts_it_is_read_or_none_of_ours(end: str, talk: str) -> None:
    kept = read_kept(CALL, f"1|{end}|{talk}|16||")
    if kept is not None:
        assert 0 <= (kept.ended.talk_seconds or 0.0) <= timedelta(days=7).total_seconds()


class Keeper(Bench):
    """A manager whose dialplan keeps results."""

    def begin(self, **changes: float) -> None:
        self.entries: dict[str, str] = {}
        self.peer.answers["ShowDialPlan"] = lambda action: (
            success(action, "EventList: start")
            + message("Event: ShowDialPlanComplete", f"ActionID: {action['ActionID']}", "EventList: Complete")
        )
        self.peer.answers["DBGet"] = self.get
        self.peer.answers["DBGetTree"] = self.tree
        self.peer.answers["Setvar"] = self.delete
        settings = replace(QUICK, port=self.peer.port, **changes)  # type: ignore[arg-type]
        self.driver = AsteriskDriver("main", settings, SystemClock(seed=1))

    def get(self, action: Action) -> bytes:
        entry = self.entries.get(action["Key"])
        if entry is None:
            return error(action, "Database entry not found")
        return self.listed(action, "DBGetResponse", {action["Key"]: entry})

    def tree(self, action: Action) -> bytes:
        return self.listed(action, "DBGetTreeResponse", {f"/dialerd/{key}": val for key, val in self.entries.items()})

    def listed(self, action: Action, event: str, entries: dict[str, str]) -> bytes:
        tag = f"ActionID: {action['ActionID']}"
        rows = [
            message(f"Event: {event}", tag, "Family: dialerd", f"Key: {key}", f"Val: {val}")
            for key, val in entries.items()
        ]
        end = message(f"Event: {action['Action']}Complete", tag, "EventList: Complete", f"ListItems: {len(rows)}")
        return success(action, "Message: Result will follow", "EventList: start") + b"".join(rows) + end

    def delete(self, action: Action) -> bytes:
        self.entries.pop(action["Variable"].removeprefix("DB_DELETE(dialerd/").removesuffix(")"), None)
        return success(action)

    async def gone(self, *call_ids: str) -> None:
        await self.peer.until(lambda: not self.entries.keys() & set(call_ids))


@pytest_asyncio.fixture
async def keeper() -> AsyncIterator[Keeper]:
    async with ami_peer() as peer:
        keeper = Keeper(peer)
        keeper.begin()
        yield keeper
        await keeper.driver.stop()


async def test_orders_ask_for_it_where_the_dialplan_can(keeper: Keeper) -> None:
    await keeper.up()
    await keeper.driver.originate(an_order())
    assert r"CHANNEL(hangup_handler_push)=dialerd-result\,s\,1" in "".join(keeper.peer.texts)


async def test_kept_calls_are_told_and_discarded_ones_deleted(keeper: Keeper) -> None:
    await keeper.up()
    keeper.entries = {CALL: ENTRY, OTHER: "nonsense"}
    assert (await keeper.driver.kept([CALL, OTHER, "01890000-0000-7000-8000-00000000dead"])).keys() == {CALL}
    keeper.driver.discard([CALL])
    await keeper.gone(CALL)
    assert keeper.entries.keys() == {OTHER}


async def test_an_entry_with_an_impossible_moment_is_as_good_as_none(keeper: Keeper) -> None:
    await keeper.up()
    keeper.entries = {CALL: "1|999999999999|3|16||", OTHER: ENTRY}
    assert (await keeper.driver.kept([CALL, OTHER])).keys() == {OTHER}


async def test_more_than_fit_into_one_round_are_deleted_all_the_same(keeper: Keeper) -> None:
    await keeper.up()
    ids = [f"01890000-0000-7000-8000-{index:012d}" for index in range(350)]
    keeper.entries = dict.fromkeys(ids, ENTRY)
    keeper.driver.discard(ids)
    await keeper.gone(*ids)


async def test_what_nobody_asked_for_in_a_day_is_deleted_at_the_next_link(keeper: Keeper) -> None:
    now = SystemClock().wall()
    old, young = now - KEEP * 1.1, now - KEEP * 0.9
    nonsense = {"01890000-0000-7000-8000-00000000dead": "1|999999999999|3|16||"}
    ours = {CALL: f"1|{old.timestamp():.3f}|1|16||", OTHER: f"1|{young.timestamp():.3f}|1|16||"}
    keeper.entries = nonsense | ours
    await keeper.up()
    await keeper.gone(CALL)
    assert keeper.entries.keys() == {OTHER, *nonsense}


async def test_a_deletion_without_an_answer_does_not_end_all_deleting(keeper: Keeper) -> None:
    """A deadline that is missed is no lost link."""
    keeper.begin(action_deadline=0.2)
    keeper.peer.answers["DBGetTree"] = lambda action: error(action, "Database entry not found")
    await keeper.up()
    keeper.entries = {CALL: ENTRY, OTHER: ENTRY}
    keeper.peer.answers["Setvar"] = lambda _: None
    keeper.driver.discard([CALL])
    await keeper.peer.until(lambda: keeper.peer.actions[-1]["Action"] == "Setvar")
    keeper.peer.answers["Setvar"] = keeper.delete
    keeper.driver.discard([OTHER])
    await keeper.gone(OTHER)
    assert keeper.entries.keys() == {CALL}
    assert keeper.peer.connections == 1
    assert keeper.driver.counters["results_left"] == 1


@pytest.mark.parametrize("key", ["not an id", "x" * 300, "a/b", ""])
async def test_old_entries_that_nobody_can_ask_to_delete_are_left(keeper: Keeper, key: str) -> None:
    keeper.entries = {key: ENTRY, CALL: ENTRY}
    await keeper.up()
    await keeper.gone(CALL)
    keeper.entries[OTHER] = ENTRY
    keeper.driver.discard([OTHER])
    await keeper.gone(OTHER)
    assert keeper.entries.keys() == {key}


async def test_without_a_listing_of_old_entries_others_are_deleted_all_the_same(keeper: Keeper) -> None:
    keeper.begin(action_deadline=0.2)
    keeper.peer.answers["DBGetTree"] = lambda _: None
    await keeper.up()
    keeper.entries = {CALL: ENTRY}
    keeper.driver.discard([CALL])
    await keeper.gone(CALL)


async def test_a_lost_link_says_so_and_the_next_one_is_asked(keeper: Keeper) -> None:
    await keeper.up()
    keeper.entries = {CALL: ENTRY}
    keeper.peer.answers["DBGet"] = lambda _: keeper.peer.cut()
    mark = keeper.told.mark
    with pytest.raises(LinkLost):
        await keeper.driver.kept([CALL])
    keeper.driver.discard([CALL])  # nothing to tell it to
    await keeper.told.link(LinkUp, after=mark)
    keeper.peer.answers["DBGet"] = keeper.get
    assert (await keeper.driver.kept([CALL])).keys() == {CALL}
    keeper.driver.discard([CALL])
    await keeper.gone(CALL)


async def test_where_the_dialplan_keeps_nothing_nothing_is_asked(keeper: Keeper) -> None:
    keeper.peer.answers["ShowDialPlan"] = lambda action: error(action, "Did not find context dialerd-result")
    await keeper.up()
    assert await keeper.driver.kept([CALL]) == {}
    keeper.driver.discard([CALL])
    await keeper.driver.originate(an_order())
    await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, in which a question would have left
    assert not {"DBGet", "DBGetTree", "Setvar"} & {action["Action"] for action in keeper.peer.actions}
    assert "hangup_handler_push" not in "".join(keeper.peer.texts)
