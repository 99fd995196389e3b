"""What FreeSWITCH says of itself, of its channels and of its gateways."""

from __future__ import annotations

import json

import pytest

from dialerd.pbx.driver import ChannelState, LiveChannel, TrunkState
from dialerd.pbx.esl_gateways import Gateways, GatewayState, read_gateway, read_gateway_event
from dialerd.pbx.esl_status import Status, read_channels, read_status, why_closed
from tests.fakes.esl_peer import STATUS
from tests.support.freeswitch_bench import CALL, OTHER

GATEWAY = "====\nName    \ttrunk\nPing    \t0\nPingState\t0/1/1\nState   \tNOREG\nStatus  \tUP\nUptime  \t4s\n====\n"


def row(call_id: str = CALL, **changes: str) -> dict[str, str]:
    plain = {"uuid": call_id, "presence_data": call_id, "callstate": "ACTIVE", "created_epoch": "1000"}
    return plain | changes


def listing(*rows: dict[str, str]) -> str:
    return json.dumps({"row_count": len(rows), "rows": rows})


def test_the_status_of_a_real_one() -> None:
    assert read_status(STATUS) == Status("1.10.12-release", True, 1000, 29.0)


@pytest.mark.parametrize(
    ("was", "becomes", "expected"),
    [
        ("is ready", "is not ready", Status("1.10.12-release", False, 1000, 29.0)),
        ("1000 session(s) max", "", Status("1.10.12-release", True, None, 29.0)),
        ("out of max 30", "out of max 1", Status("1.10.12-release", True, 1000, 0.0)),
        ("per Sec out of max", "", Status("1.10.12-release", True, 1000, None)),
        ("FreeSWITCH (Version", "-ERR", None),
    ],
)
def test_a_status_with_something_else_or_missing(was: str, becomes: str, expected: Status | None) -> None:
    assert was in STATUS
    assert read_status(STATUS.replace(was, becomes)) == expected


@pytest.mark.parametrize(
    ("ready", "paused", "leaving", "rate", "words"),
    [
        (True, False, False, 29.0, None),
        (True, False, False, None, None),
        (True, True, False, 29.0, "FreeSWITCH is paused for outbound calls"),
        (False, True, False, 29.0, "FreeSWITCH starts, or is paused"),
        # Elegant: status still says ready. And asap.
        (True, False, True, 29.0, "FreeSWITCH shuts down as soon as its calls have ended"),
        (False, True, True, 29.0, "FreeSWITCH shuts down as soon as its calls have ended"),
        (False, False, False, 29.0, "FreeSWITCH shuts down"),
        (True, False, False, 0.0, "FreeSWITCH's sessions-per-second of 1 let no call through"),
    ],
)
def test_why_it_takes_no_calls(ready: bool, paused: bool, leaving: bool, rate: float | None, words: str | None) -> None:
    assert why_closed(Status("1.10", ready, 1000, rate), paused=paused, leaving=leaving) == words


@pytest.mark.parametrize(
    ("callstate", "state"),
    [
        ("DOWN", ChannelState.DIALLING),
        ("DIALING", ChannelState.DIALLING),
        ("RINGING", ChannelState.RINGING),
        ("EARLY", ChannelState.RINGING),
        ("ACTIVE", ChannelState.UP),
        ("HELD", ChannelState.UP),
        ("SOMETHING", ChannelState.DIALLING),
    ],
)
def test_a_channels_state(callstate: str, state: ChannelState) -> None:
    assert read_channels(listing(row(callstate=callstate)), 1065.5) == {CALL: LiveChannel(CALL, state, 65.5)}


def test_only_channels_with_our_mark_are_ours() -> None:
    rows = [
        row(CALL, callstate="HANGUP"),
        row(OTHER, presence_data=CALL),  # the other half of a loopback channel
        row("short", presence_data="short"),
    ]
    assert read_channels(listing(*rows), 2000.0) == {}
    assert read_channels('{"row_count": 0}\n', 2000.0) == {}


@pytest.mark.parametrize("made", ["", "x", "-5", "99999999", "9" * 400, "9" * 5000])
def test_an_age_that_cannot_be_read_is_none(made: str) -> None:
    assert read_channels(listing(row(created_epoch=made)), 1000.0)[CALL].seconds == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        *("", "-ERR SQL disabled\n", "[]", "3", "{}", '{"row_count": 1, "rows": [1]}', '{"rows": []}'),
        *('{"row_count": 3}', '{"row_count": 0, "rows": [{}]}', '{"row_count": "0"}', "[" * 200_000),
    ],
)
def test_what_is_no_listing_raises(answer: str) -> None:
    with pytest.raises(ValueError, match=r"no (whole )?list of channels|Expecting value"):
        read_channels(answer, 0.0)


@pytest.mark.parametrize(
    ("answer", "up", "reason"),
    [
        (GATEWAY, True, "gateway trunk is UP (NOREG)"),
        (GATEWAY.replace("UP", "DOWN"), False, "gateway trunk is DOWN (NOREG)"),
        (GATEWAY.replace("NOREG", "FAIL_WAIT").replace("UP", "DOWN"), False, "gateway trunk is DOWN (FAIL_WAIT)"),
        ("Invalid Gateway!\n", False, "gateway trunk: Invalid Gateway!"),
        ("", False, "gateway trunk: no answer"),
    ],
)
def test_a_gateways_status(answer: str, up: bool, reason: str) -> None:
    assert read_gateway("trunk", answer) == GatewayState("trunk", up, reason)


def test_a_gateways_event() -> None:
    headers = {"Event-Subclass": "sofia::gateway_state", "Gateway": "trunk", "State": "NOREG", "Ping-Status": "DOWN"}
    said = headers | {"Status": "503", "Phrase": "Service Unavailable"}
    assert read_gateway_event(said) == GatewayState(
        "trunk", False, "gateway trunk is DOWN (NOREG)", "503 Service Unavailable"
    )
    assert read_gateway_event(headers | {"Ping-Status": "UP"}) == GatewayState(
        "trunk", True, "gateway trunk is UP (NOREG)"
    )
    for missing in ("Event-Subclass", "Gateway", "Ping-Status"):
        assert read_gateway_event({name: value for name, value in headers.items() if name != missing}) is None


def test_a_gateway_that_is_taken_away_is_down_and_one_that_is_added_is_yet_to_be_asked_about() -> None:
    headers = {"Event-Subclass": "sofia::gateway_delete", "Gateway": "trunk", "profile-name": "external"}
    assert read_gateway_event(headers) == GatewayState("trunk", False, "gateway trunk was taken away")
    assert read_gateway_event(headers | {"Event-Subclass": "sofia::gateway_add"}) is None
    assert read_gateway_event({"Event-Subclass": "sofia::gateway_delete"}) is None


def test_what_a_registration_was_answered_is_told_whenever_it_comes() -> None:
    """As a real one told it: the failure while the gateway is still up, the next ones long after it went down."""
    gateways = Gateways({"a": "sofia/gateway/reg/{number}"})

    def told(state: str, status: str, said: str = "") -> list[tuple[bool, str]]:
        taken = gateways.take(GatewayState("reg", status == "UP", f"{status} ({state})", said))
        return [(each.up, each.reason) for each in taken]

    assert told("REGED", "UP") == [(True, "UP (REGED)")]
    assert told("TRYING", "UP") == []
    assert told("FAILED", "UP", "503 Service Unavailable") == []
    assert told("FAIL_WAIT", "DOWN") == [(False, "DOWN (FAIL_WAIT): 503 Service Unavailable")]
    assert told("TRYING", "DOWN") == []
    assert told("FAILED", "DOWN", "503 Service Unavailable") == [], "no news"
    assert told("FAILED", "DOWN", "403 Forbidden") == [(False, "DOWN (FAILED): 403 Forbidden")]
    assert told("FAIL_WAIT", "DOWN") == []
    assert told("REGISTER", "DOWN", "200 OK") == []
    assert told("REGED", "UP") == [(True, "UP (REGED)")]
    assert told("DOWN", "DOWN") == [(False, "DOWN (DOWN)")], "what was mended is no reason"


def test_a_change_of_a_gateway_is_told_once_of_every_trunk_through_it() -> None:
    gateways = Gateways(
        {
            "a": "sofia/gateway/one/{number}",
            "b": "sofia/gateway/one/9{number}",
            "c": "sofia/gateway/two/{number}",
            "d": "loopback/{number}/out",
            "e": "sofia/external/{number}@203.0.113.9",
        }
    )
    assert list(gateways.questions) == ["one", "two"]
    up = GatewayState("one", True, "up")
    assert gateways.take(up) == [TrunkState("a", True, "up"), TrunkState("b", True, "up")]
    assert gateways.take(GatewayState("one", True, "still up")) == []
    assert gateways.take(GatewayState("three", False, "down")) == []
    assert gateways.take(GatewayState("one", False, "down")) == [
        TrunkState("a", False, "down"),
        TrunkState("b", False, "down"),
    ]
    assert gateways.take(GatewayState("two", False, "down")) == [TrunkState("c", False, "down")]
    gateways.forget()
    assert len(gateways.take(up)) == 2
