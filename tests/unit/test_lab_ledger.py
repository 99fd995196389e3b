"""The lab's ledger: what counts as a call, when it begins, when it is over."""

from __future__ import annotations

import math

import pytest

from tests.lab.ledger import FarCall, Ledger, LedgerError

_T0 = 1_767_268_800.0  # 2026-01-01 12:00:00 UTC


class Log:
    """Writes a message log as SIPp does."""

    def __init__(self) -> None:
        self.text = b""

    def message(self, at: float, way: str, text: str, content: bytes = b"") -> Log:
        stamp = f"2026-01-01 12:{int(at // 60):02}:{at % 60:09.6f}"
        body = text.replace("\n", "\r\n").encode() + content
        size = f"received [{len(body)}] bytes :" if way == "received" else f"sent ({len(body)} bytes):"
        self.text += f"{'-' * 47} {stamp}\nUDP message {size}\n\n".encode() + body + b"\n"
        return self

    def request(
        self, at: float, method: str, call_id: str, *, way: str = "received", tag: str = "", **more: str
    ) -> Log:
        number = more.pop("number", "4930100")
        extra = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in more.items())
        return self.message(
            at,
            way,
            f"{method} sip:{number}@127.0.0.1:5070 SIP/2.0\n"
            f'From: "Shop" <sip:12025550199@127.0.0.1>;tag=pbx\nTo: <sip:{number}@127.0.0.1>{tag}\n'
            f"Call-ID: {call_id}\nCSeq: 7 {method}\n{extra}\n",
        )

    def response(self, at: float, status: int, method: str, call_id: str, *, way: str = "sent") -> Log:
        return self.message(
            at, way, f"SIP/2.0 {status} Whatever\nTo: <sip:x@y>;tag=far\nCall-ID: {call_id}\nCSeq: 7 {method}\n\n"
        )

    def only(self) -> FarCall:
        calls = Ledger.parse(self.text, "trunk").calls
        assert len(calls) == 1
        return calls[0]


def _since_t0(moment: float | None) -> float:
    assert moment is not None
    return round(moment - _T0, 6)


def test_an_answered_call_lasts_from_the_first_invite_to_the_bye() -> None:
    log = Log().request(1.25, "INVITE", "a", number="493012", X_Call="c-1")
    log.response(1.5, 180, "INVITE", "a").response(2, 200, "INVITE", "a").request(2.1, "ACK", "a", tag=";tag=far")
    log.request(5.5, "BYE", "a", tag=";tag=far").response(5.6, 200, "BYE", "a")
    call = log.only()
    assert (call.far_end, call.call_id, call.number, call.from_user) == ("trunk", "a", "493012", "12025550199")
    assert call.headers["x-call"] == "c-1"
    assert [_since_t0(moment) for moment in (call.invited_at, call.answered_at, call.ended_at)] == [1.25, 2, 5.5]
    assert (call.final_status, call.provisional, call.ended_by) == (200, {180}, "caller")
    assert _since_t0(call.last_heard_at) == 5.6


def test_the_callees_own_bye_ends_it_when_sent_and_a_crossing_one_changes_nothing() -> None:
    log = Log().request(0, "INVITE", "a").response(1, 200, "INVITE", "a")
    log.request(2, "BYE", "a", way="sent").request(2.01, "BYE", "a").response(2.02, 200, "BYE", "a", way="received")
    call = log.only()
    assert (_since_t0(call.ended_at), call.ended_by) == (2, "callee")


def test_retransmissions_and_reinvites_are_no_calls() -> None:
    log = Log().request(0, "INVITE", "a").request(0.5, "INVITE", "a").request(1.5, "INVITE", "a")
    log.response(2, 200, "INVITE", "a").request(3, "INVITE", "a", tag=";tag=far").response(3.1, 200, "INVITE", "a")
    call = log.only()
    assert (call.retransmissions, _since_t0(call.invited_at), _since_t0(call.answered_at)) == (2, 0, 2)
    assert call.over_at == math.inf


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
def test_a_final_failure_ends_the_call_when_it_is_first_sent(status: int) -> None:
    log = Log().request(0, "INVITE", "a").response(1, status, "INVITE", "a").response(1.5, status, "INVITE", "a")
    call = log.only()
    assert (call.final_status, _since_t0(call.ended_at), call.ended_by) == (status, 1, "callee")


def test_a_cancelled_call_is_over_with_the_cancel() -> None:
    log = Log().request(0, "INVITE", "a").response(0.1, 180, "INVITE", "a").request(4, "CANCEL", "a")
    call = log.response(4.1, 200, "CANCEL", "a").response(4.2, 487, "INVITE", "a").only()
    assert (call.final_status, _since_t0(call.ended_at), call.ended_by) == (487, 4, "caller")
    assert call.answered_at is None


@pytest.mark.parametrize("cancel_first", [True, False])
def test_an_answer_that_crosses_the_cancel_stands_until_the_bye(cancel_first: bool) -> None:
    log = Log().request(0, "INVITE", "a")
    if cancel_first:
        log.request(2, "CANCEL", "a").response(2.1, 200, "INVITE", "a")
    else:
        log.response(2, 200, "INVITE", "a").request(2.1, "CANCEL", "a")
    assert log.only().over_at == math.inf
    assert _since_t0(log.request(3, "BYE", "a").only().ended_at) == 3


def test_a_silent_far_end_does_not_know_the_end_and_counts_to_the_last_repetition() -> None:
    call = Log().request(0, "INVITE", "a").request(0.5, "INVITE", "a").request(1.5, "INVITE", "a").only()
    assert (call.ended_at, call.final_status) == (None, None)
    assert _since_t0(call.over_at) == 1.5


def test_what_belongs_to_no_call_is_left_out() -> None:
    log = Log().request(0, "OPTIONS", "ping").response(0, 200, "OPTIONS", "ping").request(1, "BYE", "stray")
    assert not Ledger.parse(log.text).calls


def test_a_message_is_read_by_its_length_whatever_it_holds_and_a_torn_end_waits() -> None:
    fake = Log().request(9, "INVITE", "forged").text
    log = Log().message(0, "received", "INVITE sip:49@h SIP/2.0\nCall-ID: a\nCSeq: 1 INVITE\n\n", fake)
    log.request(1, "INVITE", "b")
    assert [call.call_id for call in Ledger.parse(log.text)] == ["a", "b"]
    assert [call.call_id for call in Ledger.parse(log.text[:-40])] == ["a"]


def test_short_header_names_are_read_too() -> None:
    log = Log().message(
        0, "received", "INVITE sip:49@h SIP/2.0\nf: <sip:1@h>;tag=p\nt: <sip:49@h>\ni: a\nCSeq: 1 INVITE\n\n"
    )
    assert (log.only().call_id, log.only().from_user) == ("a", "1")


def test_a_message_without_call_id_is_an_error() -> None:
    with pytest.raises(LedgerError, match="without Call-ID"):
        Ledger.parse(Log().message(0, "received", "INVITE sip:49@h SIP/2.0\nCSeq: 1 INVITE\n\n").text)


def _ledger(*spans: tuple[float, float | None]) -> Ledger:
    log = Log()
    for number, (begin, end) in enumerate(spans):
        log.request(begin, "INVITE", f"c{number}", number=f"49{number % 2}").response(
            begin, 180, "INVITE", f"c{number}"
        )
        if end is not None:
            log.response(end, 486, "INVITE", f"c{number}")
    return Ledger.parse(log.text)


def test_calls_come_in_the_order_of_their_invites_and_are_grouped_and_cut_by_it() -> None:
    ledger = _ledger((3, 4), (1, 2), (2, 3))
    assert [call.call_id for call in ledger] == ["c1", "c2", "c0"]
    assert {number: len(calls) for number, calls in ledger.by_number().items()} == {"491": 1, "490": 2}
    assert [call.call_id for call in ledger.of(["490"])] == ["c2", "c0"]
    assert [call.call_id for call in ledger.since(_T0 + 2)] == ["c2", "c0"]


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(0, 1), (2, 3)], 1),
        ([(0, 2), (1, 3), (2.5, 4)], 2),
        # The end and the beginning in one moment count as together.
        ([(0, 2), (2, 3)], 2),
        ([(0, None), (5, 6), (7, 8)], 2),
    ],
)
def test_most_up_at_once(spans: list[tuple[float, float | None]], most: int) -> None:
    assert _ledger(*spans).most_up_at_once() == most


def test_all_over_knows_of_a_call_that_lives() -> None:
    assert _ledger((0, 1)).all_over
    assert not _ledger((0, 1), (2, None)).all_over


def test_shortest_gap_spans_n_calls() -> None:
    ledger = _ledger((0, 9), (0.1, 9), (0.3, 9), (1.0, 9), (1.15, 9))
    assert ledger.shortest_gap(1) == pytest.approx(0.1)
    assert ledger.shortest_gap(2) == pytest.approx(0.3)
    assert ledger.shortest_gap(4) == pytest.approx(1.15)
    assert ledger.shortest_gap(5) == math.inf
    with pytest.raises(ValueError, match="at least one"):
        ledger.shortest_gap(0)


def test_occupancy_counts_only_what_lies_inside_the_span() -> None:
    ledger = _ledger((0, 2), (1, 3), (4, None))
    assert ledger.occupancy(2, _T0, _T0 + 2) == pytest.approx(3 / 4)
    assert ledger.occupancy(1, _T0 + 2, _T0 + 5) == pytest.approx(2 / 3)
    assert ledger.occupancy(4, _T0 + 10, _T0 + 12) == pytest.approx(1 / 4)
    with pytest.raises(ValueError, match="span of time"):
        ledger.occupancy(1, _T0, _T0)
