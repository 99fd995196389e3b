"""The Asterisk driver keeps its link, against a scripted manager that does everything wrong that a real one may."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from dialerd.clock import SystemClock
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.ami_link import AmiLink
from dialerd.pbx.ami_stream import AmiMessage
from dialerd.pbx.asterisk import AsteriskDriver
from dialerd.pbx.driver import (
    Dialling,
    InDoubt,
    LinkDown,
    LinkLost,
    LinkState,
    LinkUp,
    PbxEvent,
    Refused,
)
from tests.fakes.ami_peer import BANNER, Action, ami_peer, error, message, success
from tests.support.asterisk_bench import (
    CALL,
    OTHER,
    PERMISSION_DENIED,
    QUICK,
    Bench,
    an_order,
    hangup,
    newchannel,
    response,
)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with ami_peer() as peer:
        bench = Bench(peer)
        yield bench
        await bench.driver.stop()


async def test_logs_in_and_says_so_once(bench: Bench) -> None:
    assert bench.driver.state is LinkState.STOPPED
    await bench.up()
    assert bench.told.events == [LinkUp("22.10.0")]
    assert (bench.driver.state, bench.driver.reason) == (LinkState.UP, None)
    login = bench.peer.actions[0]
    assert (login["Action"], login["Username"], login["Secret"]) == ("Login", "dialerd", "open sesame")
    await bench.driver.stop()
    assert bench.driver.state is LinkState.STOPPED
    assert bench.told.events == [LinkUp("22.10.0")]


async def test_is_up_only_when_fully_booted(bench: Bench) -> None:
    bench.peer.answers["Login"] = success
    await bench.driver.start(bench.told)
    await bench.peer.until(lambda: len(bench.peer.actions) == 1)
    bench.peer.send(message("Event: Unrelated"))
    assert bench.driver.state is LinkState.CONNECTING
    bench.peer.send(message("Event: FullyBooted"))
    await bench.told.link(LinkUp)


async def test_without_fully_booted_it_says_what_may_be_wrong(bench: Bench) -> None:
    bench.settings(boot_deadline=0.2)
    bench.peer.answers["Login"] = success
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert "FullyBooted" in (bench.driver.reason or "")
    assert "class system" in (bench.driver.reason or "")


async def test_a_wrong_password_is_said_once_and_tried_again_slowly(bench: Bench) -> None:
    bench.peer.answers["Login"] = lambda action: error(action, "Authentication failed")
    await bench.driver.start(bench.told)
    await bench.peer.until(lambda: bench.peer.connections >= 4)
    assert bench.downs() == [LinkDown("AMI login refused: Authentication failed", refused=True)]
    assert bench.driver.state is LinkState.REFUSED
    bench.peer.answers["Login"] = lambda action: success(action) + message("Event: FullyBooted")
    await bench.told.link(LinkUp)
    assert bench.driver.reason is None


@pytest.mark.parametrize(
    ("action", "right"), [("CoreSettings", "reporting"), ("Originate", "originate"), ("Hangup", "call")]
)
async def test_a_missing_right_is_found_at_login(bench: Bench, action: str, right: str) -> None:
    bench.peer.answers[action] = lambda sent: error(sent, PERMISSION_DENIED)
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert bench.driver.state is LinkState.REFUSED
    assert f"class {right}" in (bench.driver.reason or "")


async def test_an_asterisk_that_shuts_down_is_no_wrong_password(bench: Bench) -> None:
    bench.peer.answers["Login"] = lambda action: error(action, "Asterisk is shutting down")
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert bench.downs() == [LinkDown("Asterisk is shutting down", refused=False)]


async def test_something_else_listens_there(bench: Bench) -> None:
    bench.peer.banner = b"SSH-2.0-OpenSSH_9.2\r\n"
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert "no Asterisk manager" in (bench.driver.reason or "")


async def test_nobody_listens_there(bench: Bench) -> None:
    free = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    await free.wait_closed()
    bench.driver = AsteriskDriver("main", replace(QUICK, port=port), SystemClock(seed=1))
    assert isinstance(await bench.driver.originate(an_order()), Refused)
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert f"127.0.0.1:{port}" in bench.downs()[0].reason
    refused = await bench.driver.originate(an_order())
    assert isinstance(refused, Refused)
    assert refused.verdict == Verdict(Outcome.UNREACHABLE, Fault.PBX)
    with pytest.raises(LinkLost):
        await bench.driver.live()
    with pytest.raises(LinkLost):
        await bench.driver.hangup(CALL)


async def test_a_message_in_single_bytes(bench: Bench) -> None:
    """Characters of several bytes arrive in pieces, and stay what they are."""
    await bench.up()
    await bench.driver.originate(an_order())
    link = bench.driver._link
    assert link is not None
    for byte in newchannel() + hangup(cause=17, state=0) + response(word="Failure", reason=0):
        link.data_received(bytes([byte]))
    ended = await bench.told.ended(CALL)
    assert (ended.hangup_text, ended.verdict) == ("é日", Verdict(Outcome.BUSY, Fault.CALLEE))


def many(count: int) -> list[str]:
    """Ids of calls that nobody here placed: each is told as it comes."""
    return [f"0198c0de-0000-7000-9000-{number:012d}" for number in range(count)]


async def test_a_read_of_many_messages_leaves_the_loop_to_others_in_between(bench: Bench) -> None:
    await bench.up()
    link, loop, turns, heard_in = bench.driver._link, asyncio.get_running_loop(), 0, []
    assert link is not None

    def turn() -> None:
        nonlocal turns
        turns += 1
        ticking[0] = loop.call_soon(turn)

    def told(event: PbxEvent) -> None:
        heard_in.append(turns)
        bench.told(event)

    ticking, bench.driver._sink = [loop.call_soon(turn)], told
    try:
        link.data_received(b"".join(newchannel(call_id) for call_id in many(450)))
        bench.peer.send(newchannel(CALL))  # comes behind them, for nothing is read meanwhile
        await bench.told.heard(Dialling, CALL)
    finally:
        ticking[0].cancel()
    heard = [event.call_id for event in bench.told.events if isinstance(event, Dialling)]
    assert heard == [*many(450), CALL]
    assert max(Counter(heard_in).values()) <= 100


async def test_what_was_read_before_the_end_is_told_before_it(bench: Bench) -> None:
    await bench.up()
    link, mark = bench.driver._link, bench.told.mark
    assert link is not None
    link.data_received(b"".join(newchannel(call_id) for call_id in many(450)))
    bench.peer.cut()
    await bench.told.link(LinkDown, after=mark)
    told = bench.told.events[mark:]
    assert [event.call_id for event in told if isinstance(event, Dialling)] == many(450)
    assert isinstance(told[450], LinkDown)


async def test_a_shutdown_among_the_last_words_is_why_the_link_ended(bench: Bench) -> None:
    await bench.up()
    link, mark = bench.driver._link, bench.told.mark
    assert link is not None
    link.data_received(b"".join(newchannel(call_id) for call_id in many(150)) + message("Event: Shutdown"))
    link.transport.abort()
    link.connection_lost(None)
    await bench.told.link(LinkDown, after=mark)
    assert bench.downs()[0].reason == "Asterisk shuts down"


async def test_what_was_read_and_not_told_of_a_link_that_is_given_up_is_dropped(bench: Bench) -> None:
    await bench.up()
    link, mark = bench.driver._link, bench.told.mark
    assert link is not None
    link.data_received(b"".join(newchannel(call_id) for call_id in many(450)))
    link.drop("no answer to a ping")
    await bench.told.link(LinkDown, after=mark)
    assert sum(isinstance(event, Dialling) for event in bench.told.events[mark:]) == 100


async def test_orders_of_one_turn_leave_some_dozens_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.up()
    link = bench.driver._link
    assert link is not None
    at_once, flush = [], link._flush

    def flushed() -> None:
        at_once.append(len(link._unsent))
        flush()

    monkeypatch.setattr(link, "_flush", flushed)
    async with asyncio.TaskGroup() as orders:
        for call_id in many(120):
            orders.create_task(bench.driver.originate(an_order(call_id)))
    assert [count for count in at_once if count] == [50, 50, 20]
    assert [action["ChannelId"] for action in bench.peer.actions[-120:]] == many(120)


async def test_cut_inside_a_message_and_back(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(newchannel())
    await bench.told.heard(Dialling, CALL)
    mark = bench.told.mark
    bench.peer.send(hangup()[:-20])
    bench.peer.cut()
    await bench.told.link(LinkDown, after=mark)
    await bench.told.link(LinkUp, after=mark)
    bench.peer.send(hangup(cause=17, state=0) + response(word="Failure", reason=0))
    assert (await bench.told.ended(CALL)).verdict == Verdict(Outcome.BUSY, Fault.CALLEE)


async def test_after_a_lost_link_silence_proves_nothing(bench: Bench) -> None:
    """The channel may have come and gone meanwhile: the failed response alone does not say that there was none."""
    await bench.up()
    await bench.driver.originate(an_order())
    mark = bench.told.mark
    bench.peer.cut()
    await bench.told.link(LinkUp, after=mark)
    await bench.driver.originate(an_order(OTHER))
    bench.peer.send(response(word="Failure", reason=0) + response(OTHER, word="Failure", reason=0))
    assert not (await bench.told.ended(OTHER)).channel
    assert bench.told.of(CALL) == []


async def test_a_dead_connection_is_found_by_its_ping(bench: Bench) -> None:
    bench.settings(ping_every=0.02)
    bench.peer.answers["Ping"] = lambda action: None
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert "ping" in bench.downs()[0].reason
    assert bench.driver.counters["pings_missed"] >= 1
    bench.peer.answers["Ping"] = lambda action: success(action, "Ping: Pong")
    await bench.told.link(LinkUp, after=bench.told.mark)
    pings = len(bench.peer.actions)
    await bench.peer.until(lambda: len(bench.peer.actions) > pings + 3)
    assert bench.driver.state is LinkState.UP


class HastyClock(SystemClock):
    """Keeps how long it should have slept, and does not."""

    def __init__(self) -> None:
        super().__init__(seed=1)
        self.slept: list[float] = []
        self.enough = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) >= 9:
            self.enough.set()
        await super().sleep(0)


async def test_the_back_off_doubles_to_a_bound_with_jitter(bench: Bench) -> None:
    clock = HastyClock()
    bench.peer.banner = b"HTTP/1.1 400 Bad Request\r\n"
    settings = replace(QUICK, port=bench.peer.port, retry_first=0.5, retry_most=30.0)
    bench.driver = AsteriskDriver("main", settings, clock)
    await bench.driver.start(bench.told)
    await clock.enough.wait()
    for slept, longest in zip(clock.slept, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0], strict=False):
        assert longest / 2 <= slept <= longest
    assert len({slept for slept in clock.slept if slept > 15.0}) > 1
    assert len(bench.downs()) == 1, "said once while the reason stays the same"


async def test_shutdown_is_heeded(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(message("Event: Shutdown", "Shutdown: Cleanly") + newchannel())
    await bench.told.link(LinkDown)
    assert bench.downs()[0].reason == "Asterisk shuts down"
    assert bench.told.of(CALL) == [], "nothing is heard on a link that is given up"


async def test_rubbish_is_counted_and_survived(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(b"\r\n\xff\xfe rubbish\r\n\r\nno: event\r\n\r\n" + message("Response: Success") + newchannel())
    await bench.told.heard(Dialling, CALL)
    assert bench.driver.counters["garbage"] == 2
    assert bench.driver.counters["answers_late"] == 1


async def test_a_dialplans_words_are_no_part_of_an_answer(bench: Bench) -> None:
    """``UserEvent(Shown,Name: ${CONTACT_NAME})``: a contact's name with commas in it brings headers of its own."""
    bench.peer.channels = [CALL]
    rest: list[bytes] = []

    def begin(action: Action) -> bytes:
        whole = bench.peer._listing(action)
        begun = whole.index(b"Event: ")
        rest.append(whole[begun:])
        tag = f"ActionID: {action['ActionID']}"
        forged = message("Event: UserEvent", "UserEvent: Shown", "Name: a", tag, "EventList: Complete")
        return whole[:begun] + forged

    bench.peer.answers["CoreShowChannels"] = begin
    await bench.up()
    listing = asyncio.ensure_future(bench.driver.live())
    await bench.peer.until(lambda: bool(rest))
    await bench.driver.hangup(CALL)  # answered behind the forged event
    bench.peer.send(rest[0])
    assert [channel.call_id for channel in await listing] == [CALL]


async def test_the_ids_of_a_links_actions_cannot_be_guessed(bench: Bench) -> None:
    await bench.up()
    mark = bench.told.mark
    bench.peer.cut()
    await bench.told.link(LinkUp, after=mark)
    tags = [action["ActionID"].rpartition(":")[0] for action in bench.peer.actions]
    assert len(set(tags)) == 2, "one for each link"
    assert min(map(len, tags)) >= 12


async def test_a_row_that_cannot_be_taken_fails_the_question_and_nothing_else(bench: Bench) -> None:
    """A list without it would be a shorter one: whoever is missing would be taken for gone."""
    bench.peer.channels = [CALL, OTHER]
    link = await AmiLink.connect("127.0.0.1", bench.peer.port, lambda _: None, 1 << 18, 2.0, "tag")
    rows: list[str] = []

    def each(row: AmiMessage) -> None:
        rows.append(row.get("uniqueid"))
        raise ValueError("cannot be read")

    try:
        with pytest.raises(LinkLost, match="ValueError"):
            await link.ask([("Action", "CoreShowChannels")], 2.0, each)
        assert rows == [CALL], "what comes behind it is not looked at"
        assert link.errors == 1
        assert (await link.ask([("Action", "Ping")], 2.0)).response == "Success"
    finally:
        link.drop("done")


async def test_a_message_without_end_costs_the_connection(bench: Bench) -> None:
    bench.settings(max_message_bytes=1000)
    await bench.up()
    bench.peer.send(b"X: " + b"y" * 2000)
    await bench.told.link(LinkDown)
    assert "1000 bytes" in bench.downs()[0].reason


async def test_a_sink_that_raises_stops_nothing(bench: Bench) -> None:
    def raising(event: PbxEvent) -> None:
        bench.told(event)
        if event == Dialling(CALL):
            raise RuntimeError("the sink is at fault")

    await bench.driver.start(raising)
    await bench.told.link(LinkUp)
    await bench.driver.originate(an_order())
    bench.peer.send(newchannel() + response() + hangup())
    await bench.told.ended(CALL)
    assert bench.driver.counters["sink_errors"] == 1
    assert bench.driver.state is LinkState.UP


async def test_stop_ends_everything_at_once(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.answers["Originate"] = lambda action: None
    pending = asyncio.create_task(bench.driver.originate(an_order(OTHER)))
    await bench.peer.until(lambda: len(bench.peer.orders()) == 2)
    await bench.driver.stop()
    assert isinstance(await pending, InDoubt)
    told = list(bench.told.events)
    bench.peer.send(newchannel() + hangup())
    await bench.driver.stop()
    assert bench.told.events == told


async def test_a_new_secret_is_tried_at_once_where_the_old_one_was_refused(bench: Bench) -> None:
    bench.peer.answers["Login"] = lambda action: (
        success(action) + message("Event: FullyBooted") if action["Secret"] == "new" else error(action, "Bad secret")
    )
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert bench.driver.state is LinkState.REFUSED
    bench.driver.use(replace(QUICK, port=bench.peer.port, secret="new"))
    await bench.told.link(LinkUp)
    assert [action["Secret"] for action in bench.peer.actions if action["Action"] == "Login"] == ["open sesame", "new"]


async def test_a_link_that_is_up_stays_when_its_settings_change(bench: Bench) -> None:
    await bench.up()
    bench.driver.use(replace(QUICK, port=bench.peer.port, secret="new"))
    bench.peer.cut()
    mark = bench.told.mark
    await bench.told.link(LinkUp, after=mark)
    assert [action["Secret"] for action in bench.peer.actions if action["Action"] == "Login"] == ["open sesame", "new"]


async def test_what_a_given_up_link_had_not_delivered_is_never_delivered(bench: Bench) -> None:
    """Else an order could arrive after two listings have proven that there is no such call."""
    ends: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    async def stalled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BANNER)
        await reader.readuntil(b"\r\n\r\n")  # the login, which is not answered
        try:
            await reader.read()
            ends.set_result(None)
        except ConnectionResetError as error:
            ends.set_result(error)
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(stalled, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        bench.driver = AsteriskDriver("main", replace(QUICK, port=port, action_deadline=0.1), SystemClock(seed=1))
        await bench.driver.start(bench.told)
        await bench.told.link(LinkDown)
        async with asyncio.timeout(5):
            assert isinstance(await ends, ConnectionResetError)
        await bench.driver.stop()
