"""The FreeSWITCH driver keeps its link, against an event socket that does everything wrong that a real one may."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from dialerd.clock import SystemClock
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx import esl_link, esl_thread
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    Ceilings,
    Dialling,
    InDoubt,
    LinkDown,
    LinkLost,
    LinkState,
    LinkUp,
    Refused,
)
from tests.fakes import esl_recordings as recordings
from tests.fakes.esl_peer import GREETING, SECRET, STATUS, Answer, esl_peer, notice, rejection, reply, response
from tests.support.freeswitch_bench import CALL, OTHER, Bench, an_order

BUSY = Verdict(Outcome.BUSY, Fault.CALLEE)
REFUSALS: dict[str, tuple[dict[str, Answer], str]] = {
    "wrong password": ({"auth": lambda _: reply("-ERR invalid")}, "-ERR invalid"),
    "no events": ({"event": lambda _: reply("-ERR permission denied")}, "-ERR permission denied"),
    "no status": ({"api status": lambda _: response("-ERR status Command not found!\n")}, "-ERR status"),
}


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with esl_peer(SystemClock()) as peer:
        bench = Bench(peer)
        yield bench
        await bench.driver.stop()


async def test_logs_in_subscribes_and_says_so_once(bench: Bench) -> None:
    assert bench.driver.state is LinkState.STOPPED
    await bench.up()
    assert bench.told.events == [LinkUp("1.10.12-release", 1000, 29.0)]
    assert (bench.driver.state, bench.driver.reason) == (LinkState.UP, None)
    assert bench.peer.commands == [
        f"auth {SECRET}",
        "event plain BACKGROUND_JOB CHANNEL_CREATE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_ANSWER "
        "CHANNEL_HANGUP_COMPLETE SHUTDOWN_REQUESTED CUSTOM sofia::gateway_state sofia::gateway_add "
        "sofia::gateway_delete",
        "api status",
        "api fsctl pause_check outbound",
        "api fsctl shutdown_check",
    ]
    await bench.driver.stop()
    assert bench.driver.state is LinkState.STOPPED
    assert len(bench.told.events) == 1


async def test_one_that_takes_no_calls_is_connected_to_and_says_so_and_when_it_does_again(bench: Bench) -> None:
    """Its calls in flight are to be followed, whether it takes new ones or not."""
    bench.settings(ping_every=0.02)
    bench.peer.ready, bench.peer.checks = False, {"pause_check outbound"}
    await bench.up()
    assert bench.told.events[1:] == [Ceilings(1000, 29.0, "FreeSWITCH starts, or is paused")]
    refused = await bench.driver.originate(an_order())
    assert isinstance(refused, Refused)
    assert (refused.pbx_closed, bench.peer.orders()) == (True, [])
    bench.peer.ready, bench.peer.checks = True, set()
    await bench.told.until(lambda event: event == Ceilings(1000, 29.0, None))
    assert await bench.driver.originate(an_order()) == Accepted()
    assert bench.downs() == []


async def test_its_ceilings_are_told_when_they_change(bench: Bench) -> None:
    bench.settings(ping_every=0.02)
    await bench.up()
    bench.peer.answers["api status"] = lambda _: response(STATUS.replace("1000 session(s) max", "6 session(s) max"))
    await bench.told.until(lambda event: event == Ceilings(6, 29.0))
    asked = bench.peer.commands.count("api status")
    await bench.peer.until(lambda: bench.peer.commands.count("api status") > asked + 2)
    assert len(bench.told.events) == 2, "and not again while they stay"


async def test_one_that_does_not_tell_whether_it_is_paused_is_taken_to_be_open(bench: Bench) -> None:
    bench.peer.answers["api fsctl"] = lambda _: response("-ERR fsctl Command not found!\n")
    await bench.up()
    assert await bench.driver.originate(an_order()) == Accepted()


async def test_an_address_that_the_access_list_does_not_know_is_refused_until_it_does(bench: Bench) -> None:
    bench.peer.greeting = rejection()
    await bench.driver.start(bench.told)
    await bench.peer.until(lambda: bench.peer.connections >= 3)
    assert bench.downs() == [LinkDown("FreeSWITCH turns our address away: Access Denied, go away.", refused=True)]
    assert bench.driver.state is LinkState.REFUSED
    assert bench.peer.commands == [], "the password is not sent"
    bench.peer.greeting = GREETING
    await bench.told.link(LinkUp)


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_is_said_once_and_tried_again_slowly(bench: Bench, case: str) -> None:
    wrong, words = REFUSALS[case]
    right = {command: bench.peer.answers[command] for command in wrong}
    bench.peer.answers.update(wrong)
    await bench.driver.start(bench.told)
    await bench.peer.until(lambda: bench.peer.connections >= 3)
    assert [down.refused for down in bench.downs()] == [True]
    assert words in bench.downs()[0].reason
    assert SECRET not in bench.downs()[0].reason
    assert bench.driver.state is LinkState.REFUSED
    bench.peer.answers.update(right)
    await bench.told.link(LinkUp)
    assert bench.driver.reason is None


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"", "within"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "within"),
        (b"Content-Type: auth/request\nContent-Length: -1\n\n", "make no sense"),
        (b"Content-Type: auth/request\nContent-Length: 99999999999\n\n", "make no sense"),
        (b"Content-Type: auth/request\nContent-Length: 9999999999\n\n", "make no sense"),
        (b"x" * 100_000, "make no sense"),
        (rejection(), "Access Denied"),
        (notice(), "disconnects"),
        (reply("+OK accepted"), "nobody asked"),
        (b"\xff\xfe\xfd: \xff\n\n", "within"),
    ],
)
async def test_a_peer_that_begins_badly(bench: Bench, greeting: bytes, words: str) -> None:
    bench.settings(connect_deadline=0.2)
    bench.peer.greeting = greeting
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert words in bench.downs()[0].reason
    bench.peer.greeting = b"Content-Type: auth/request\n\n"
    await bench.told.link(LinkUp)


async def test_a_peer_that_never_answers_the_login(bench: Bench) -> None:
    bench.settings(connect_deadline=0.2)
    bench.peer.answers["auth"] = lambda _: None
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert "within 0.2 s" in bench.downs()[0].reason


async def test_nobody_listens_there(bench: Bench) -> None:
    free = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    await free.wait_closed()
    bench.settings(port=port)
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


@pytest.mark.parametrize(
    ("rubbish", "words"),
    [
        (b"Content-Type: text/event-plain\nContent-Length: -5\n\n", "make no sense"),
        (b"Content-Type: text/event-plain\nContent-Length: 2147483648\n\n", "make no sense"),
        (b"Content-Type: text/event-plain\nContent-Length: five\n\n", "make no sense"),
        (b"y" * 70_000, "make no sense"),
        (response("+OK"), "nobody asked"),
        (notice(), "Disconnected, goodbye."),
    ],
)
async def test_words_that_make_no_sense_cost_the_connection(bench: Bench, rubbish: bytes, words: str) -> None:
    await bench.up()
    mark = bench.told.mark
    bench.peer.send(rubbish)
    await bench.told.link(LinkDown, after=mark)
    assert words in bench.downs()[0].reason
    await bench.told.link(LinkUp, after=mark)


async def test_rubbish_in_whole_frames_is_counted_and_survived(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    await bench.told.heard(Answered, CALL)
    bench.peer.send(b"no header\n\nContent-Type: text/other\nContent-Length: 3\n\nabc")
    bench.peer.send(recordings.frame(b"Event-Name: CHANNEL_ANSWER\nUnique-ID: %FF\xff\nno header\n\n"))
    bench.peer.send(recordings.frame(b""))
    assert await bench.driver.hangup(CALL)
    await bench.told.ended(CALL)
    assert bench.driver.counters["garbage"] >= 2
    assert bench.downs() == []


async def test_an_encoded_line_end_forges_no_header(bench: Bench) -> None:
    """A caller may choose a name that, decoded, looks like lines of the event."""
    await bench.up()
    await bench.driver.originate(an_order(number="1202555010013"))
    await bench.told.heard(Dialling, CALL)
    forged = b"Bob%0AEvent-Name: CHANNEL_HANGUP_COMPLETE%0AHangup-Cause: UNALLOCATED_NUMBER%0A%0A"
    progress = recordings.event("answer_far_hangup", "CHANNEL_PROGRESS", CALL)
    bench.peer.send(recordings.frame(b"Caller-Caller-ID-Name: " + forged + b"\n" + progress))
    bench.peer.calls.kill(CALL)
    ended = await bench.told.ended(CALL)
    assert ended.hangup_text == "NORMAL_CLEARING"


async def test_cut_inside_a_frame_and_back(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order(number="1202555010013"))
    await bench.told.heard(Dialling, CALL)
    mark = bench.told.mark
    bench.peer.send(recordings.frame(recordings.event("sip486_busy", "CHANNEL_HANGUP_COMPLETE", CALL))[:-20])
    bench.peer.cut()
    await bench.told.link(LinkDown, after=mark)
    await bench.told.link(LinkUp, after=mark)
    bench.peer.send(recordings.frame(recordings.event("sip486_busy", "CHANNEL_HANGUP_COMPLETE", CALL)))
    assert (await bench.told.ended(CALL)).verdict == BUSY


async def test_frames_in_single_bytes(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order(number="1202555010013"))
    await bench.told.heard(Dialling, CALL)
    frame = recordings.frame(recordings.event("sip486_busy", "CHANNEL_HANGUP_COMPLETE", CALL))
    for byte in frame[:200]:
        bench.peer.send(bytes([byte]))
        await bench.peer.drain()
    bench.peer.send(frame[200:])
    assert (await bench.told.ended(CALL)).verdict == BUSY


async def test_a_dead_connection_is_found_by_its_ping(bench: Bench) -> None:
    bench.settings(ping_every=0.02, ping_deadline=0.1)
    await bench.driver.start(bench.told)
    await bench.told.link(LinkUp)
    bench.peer.answers["api status"] = lambda _: None
    await bench.told.link(LinkDown)
    assert "within 0.1 s" in bench.downs()[0].reason
    assert bench.driver.counters["pings_missed"] == 1
    bench.peer.answers["api status"] = lambda _: response(STATUS)
    await bench.told.link(LinkUp, after=bench.told.mark)
    pings = len(bench.peer.commands)
    await bench.peer.until(lambda: len(bench.peer.commands) > pings + 3)
    assert bench.driver.state is LinkState.UP


async def test_a_missed_answer_ends_the_connection_for_its_answer_may_still_come(bench: Bench) -> None:
    """Answers are told apart by their order alone: a late one would be taken for the next one's."""
    bench.settings(action_deadline=0.2)
    await bench.up()
    mark = bench.told.mark
    bench.peer.answers["api uuid_kill"] = lambda _: None
    with pytest.raises(LinkLost):
        await bench.driver.hangup(CALL)
    await bench.told.link(LinkDown, after=mark)
    await bench.told.link(LinkUp, after=mark)
    assert bench.peer.connections == 2
    bench.peer.answers["api uuid_kill"] = lambda _: response("-ERR No such channel!\n")
    assert not await bench.driver.hangup(CALL)


async def test_an_order_whose_receipt_names_another_job_is_in_doubt(bench: Bench) -> None:
    await bench.up()
    assert await bench.driver.originate(an_order(OTHER)) == Accepted()
    mark = bench.told.mark
    bench.peer.answers["bgapi originate"] = lambda _: reply(f"+OK Job-UUID: {OTHER}", f"Job-UUID: {OTHER}")
    assert isinstance(await bench.driver.originate(an_order()), InDoubt)
    await bench.told.link(LinkDown, after=mark)


@pytest.mark.parametrize(("bound", "most"), [("MAX_WAITING", 5), ("MAX_WAITING_BYTES", 50_000)])
async def test_events_faster_than_they_can_be_taken_cost_the_connection(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    """A listener that stops reading would stop FreeSWITCH's event socket for everybody."""
    monkeypatch.setattr(esl_thread, bound, most)
    await bench.up()
    mark = bench.told.mark
    event = recordings.frame(recordings.event("sip486_busy", "CHANNEL_HANGUP_COMPLETE", CALL))
    bench.peer.send(event * 2000)
    await bench.told.link(LinkDown, after=mark)
    assert "faster" in bench.downs()[0].reason
    await bench.told.link(LinkUp, after=mark)


async def test_a_fault_while_an_event_is_read_costs_the_connection_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: bytes) -> None:
        raise ZeroDivisionError

    await bench.up()
    mark = bench.told.mark
    monkeypatch.setattr("dialerd.pbx.esl_session.parse_event", fails)
    bench.peer.send(recordings.frame(b"Event-Name: CHANNEL_ANSWER\n\n"))
    await bench.told.link(LinkDown, after=mark)
    assert bench.downs() == [LinkDown("fault in the driver: ZeroDivisionError")]
    await bench.told.link(LinkUp, after=mark)


async def test_a_fault_while_an_answer_is_read_fails_the_question(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that was read by half would settle calls that live."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    await bench.up()
    monkeypatch.setattr("dialerd.pbx.freeswitch.read_channels", fails)
    with pytest.raises(LinkLost, match="fault in the driver: ZeroDivisionError"):
        await bench.driver.live()
    monkeypatch.undo()
    assert await bench.driver.live() == ()
    assert (bench.driver.counters["handler_errors"], bench.downs()) == (1, [])


async def test_a_fault_while_a_gateways_state_is_read_costs_the_connection_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    bench.trunks = {"a": "sofia/gateway/trunk/{number}"}
    bench.settings(ping_every=0.02)
    await bench.up()
    mark = bench.told.mark
    monkeypatch.setattr("dialerd.pbx.freeswitch.read_gateway", fails)
    await bench.told.link(LinkDown, after=mark)
    assert bench.downs()[0] == LinkDown("fault in the driver: ZeroDivisionError")
    monkeypatch.undo()
    await bench.told.link(LinkUp, after=mark)


async def test_commands_without_answers_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esl_link, "MAX_ASKED", 3)
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.answers["bgapi originate"] = lambda _: None
    orders = [an_order(f"0198c0de-0000-7000-8000-00000000010{number}") for number in range(4)]
    tasks = [asyncio.create_task(bench.driver.originate(order)) for order in orders]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert [isinstance(task.result(), Refused) for task in done] == [True], "what was surely not sent is refused"
    await bench.driver.stop()
    receipts = await asyncio.gather(*tasks)
    assert sum(isinstance(receipt, InDoubt) for receipt in receipts) == 3


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
    bench.peer.greeting = notice()
    bench.settings(clock, retry_first=0.5, retry_most=30.0)
    await bench.driver.start(bench.told)
    await clock.enough.wait()
    for slept, longest in zip(clock.slept, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0], strict=False):
        assert longest / 2 <= slept <= longest
    assert len({slept for slept in clock.slept if slept > 15.0}) > 1
    assert len(bench.downs()) == 1, "said once while the reason stays the same"


async def test_a_secret_that_cannot_be_sent_is_refused_without_a_word(bench: Bench) -> None:
    bench.driver = type(bench.driver)("main", replace(bench.driver._settings, secret="a\nexit"), SystemClock(seed=1))
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert bench.downs()[0].refused
    assert bench.peer.commands == []


async def test_stop_ends_everything_at_once(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    await bench.told.heard(Answered, CALL)
    bench.peer.answers["bgapi originate"] = lambda _: None
    pending = asyncio.create_task(bench.driver.originate(an_order(OTHER)))
    await bench.peer.until(lambda: len(bench.peer.orders()) == 2)
    await bench.driver.stop()
    assert isinstance(await pending, InDoubt)
    told = list(bench.told.events)
    bench.peer.calls.kill(CALL)
    await bench.driver.stop()
    assert bench.told.events == told
    assert not any(thread.name.startswith("esl-") for thread in threading.enumerate())


async def test_a_driver_can_be_started_again(bench: Bench) -> None:
    await bench.up()
    await bench.driver.stop()
    await bench.driver.start(bench.told)
    await bench.told.link(LinkUp, after=1)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["cut", "silent", "refused", "no status"])
async def test_a_thousand_connections_leave_no_descriptor_and_no_thread(bench: Bench, way: str) -> None:
    """250 of each kind: one that worked, one that never answers, one that refuses us, one that falls silent."""
    wrong: dict[str, dict[str, Answer]] = {
        "cut": {},
        "silent": {"auth": lambda _: None},
        "refused": {"auth": lambda _: reply("-ERR invalid")},
        "no status": {"api status": lambda _: None},
    }
    bench.peer.answers.update(wrong[way])
    deadline = 0.02 if way in ("silent", "no status") else 5.0
    bench.settings(
        connect_deadline=deadline if way == "silent" else 5.0,
        action_deadline=deadline,
        retry_first=0.001,
        retry_most=0.001,
        refused_retry=0.001,
    )
    await bench.driver.start(bench.told)
    before: tuple[int, int] | None = None
    mark = 0
    for number in range(1, 252):
        if way == "cut":
            await bench.told.link(LinkUp, after=mark)
            mark = bench.told.mark
            bench.peer.cut()
            await bench.told.link(LinkDown, after=mark)
        await bench.peer.until(lambda number=number: bench.peer.connections >= number)  # type: ignore[misc]
        if number == 20:
            before = await settled(bench)
    await bench.driver.stop()
    assert before is not None
    descriptors, threads = await settled(bench)
    assert descriptors <= before[0]
    assert threads < before[1], "the driver's own thread is gone, and no other came"


async def settled(bench: Bench) -> tuple[int, int]:
    """Descriptors and threads (but asyncio's, for names), once the peer has noticed every end but the last."""
    await bench.peer.until(lambda: len(bench.peer._writers) <= 1)
    own = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]
    return len(os.listdir("/proc/self/fd")), len(own)
