"""Which trunk an AMI message speaks of, and what it says of it."""

from __future__ import annotations

import pytest

from dialerd.pbx.ami_stream import AmiMessage, AmiStream
from dialerd.pbx.ami_trunks import DEVICES, REGISTRATIONS, AmiTrunks, device_of
from dialerd.pbx.driver import TrunkState

DIALS = {
    "north": "PJSIP/{number}@carrier",
    "south": "PJSIP/{e164}@carrier",
    "west": "PJSIP/other/sip:{number}@10.0.0.1",
}


def message(**fields: str) -> AmiMessage:
    """One message, as it comes off the wire."""
    text = "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    banner = b"Asterisk Call Manager/11.0.0\r\n"
    (made,) = AmiStream(65536).feed(banner + text.encode())
    return made


def device(name: str, state: str) -> AmiMessage:
    return message(Event="DeviceStateChange", Device=name, State=state)


def peer(name: str, status: str) -> AmiMessage:
    return message(Event="PeerStatus", ChannelType="PJSIP", Peer=name, PeerStatus=status)


@pytest.mark.parametrize(
    ("dial", "expected"),
    [
        ("PJSIP/{number}@carrier-a", "PJSIP/carrier-a"),
        ("PJSIP/carrier-a/sip:{number}@sip.example.net", "PJSIP/carrier-a"),
        ("SIP/{e164}@peer", "SIP/peer"),
        ("SIP/peer/{national}", "SIP/peer"),
        ("IAX2/user@peer/{number}", "IAX2/peer"),
        ("Local/{number}@from-internal", None),
        ("DAHDI/g1/{number}", None),
        ("PJSIP/{number}", None),
        ("nonsense", None),
    ],
)
def test_the_device_of_a_dial_template(dial: str, expected: str | None) -> None:
    assert device_of(dial) == expected


@pytest.mark.parametrize("state", ["NOT_INUSE", "INUSE", "BUSY", "RINGING", "ONHOLD", "UNKNOWN"])
def test_a_device_in_any_state_but_out_of_reach_is_up(state: str) -> None:
    trunks = AmiTrunks(DIALS)
    assert [(each.trunk, each.up) for each in trunks.take(device("PJSIP/other", state))] == [("west", True)]


@pytest.mark.parametrize("state", ["UNAVAILABLE", "INVALID"])
def test_all_trunks_of_a_device_go_down_with_it_and_are_told_once(state: str) -> None:
    trunks = AmiTrunks(DIALS)
    why = f"PJSIP/carrier is {state}"
    assert trunks.take(device("PJSIP/carrier", state)) == [
        TrunkState("north", False, why),
        TrunkState("south", False, why),
    ]
    assert trunks.take(device("PJSIP/carrier", state)) == []
    assert [(each.trunk, each.up) for each in trunks.take(device("PJSIP/carrier", "INUSE"))] == [
        ("north", True),
        ("south", True),
    ]
    assert trunks.take(device("PJSIP/carrier", "NOT_INUSE")) == []


def test_a_peer_that_is_reachable_or_not() -> None:
    trunks = AmiTrunks(DIALS)
    assert [each.up for each in trunks.take(peer("PJSIP/other", "Unreachable"))] == [False]
    assert trunks.take(peer("PJSIP/other", "Unknown")) == []
    assert [each.up for each in trunks.take(peer("PJSIP/other", "Reachable"))] == [True]
    assert trunks.take(peer("PJSIP/nobody-of-ours", "Unreachable")) == []


def test_a_registration_is_followed_where_it_was_listed() -> None:
    trunks = AmiTrunks(DIALS)
    keys = {"ServerUri": "sip:reg.example.net", "ClientUri": "sip:us@reg.example.net"}
    registry = {"ChannelType": "PJSIP", "Domain": keys["ServerUri"], "Username": keys["ClientUri"]}
    assert trunks.take(message(Event="Registry", Status="Rejected", **registry)) == [], "it may be another endpoint's"
    listed = message(
        Event="OutboundRegistrationDetail", ObjectName="reg", Endpoint="other", Status="Registered", **keys
    )
    assert [each.up for each in trunks.take(listed)] == [True]
    (down,) = trunks.take(message(Event="Registry", Status="Rejected", **registry))
    assert (down.trunk, down.up) == ("west", False)
    assert "registration" in down.reason
    # Reachable and refused: it carries nothing.
    assert trunks.take(peer("PJSIP/other", "Reachable")) == []
    assert [each.up for each in trunks.take(message(Event="Registry", Status="Registered", **registry))] == [True]


def listed(endpoint: str, status: str) -> AmiMessage:
    keys = {"ServerUri": f"sip:{endpoint}.example.net", "ClientUri": f"sip:us@{endpoint}.example.net"}
    return message(Event="OutboundRegistrationDetail", ObjectName=endpoint, Endpoint=endpoint, Status=status, **keys)


def test_what_calls_a_trunk_down_is_in_question() -> None:
    trunks = AmiTrunks(DIALS)
    assert trunks.in_question == []
    trunks.take(device("PJSIP/nobody-of-ours", "UNAVAILABLE"))
    trunks.take(listed("nobody-of-ours", "Rejected"))
    assert trunks.in_question == []
    trunks.take(peer("PJSIP/carrier", "Unreachable"))
    assert trunks.in_question == [DEVICES]
    trunks.take(listed("other", "Unregistered"))
    assert trunks.in_question == [DEVICES, REGISTRATIONS]
    trunks.take(peer("PJSIP/carrier", "Reachable"))
    assert trunks.in_question == [REGISTRATIONS]
    trunks.take(listed("other", "Registered"))
    assert trunks.in_question == []


def test_a_registration_that_is_no_longer_listed_keeps_no_trunk_down() -> None:
    trunks = AmiTrunks(DIALS)
    rows = [listed("other", "Rejected"), listed("carrier", "Rejected")]
    for row in rows:
        trunks.take(row)
    assert trunks.registered(rows) == []
    assert [(each.trunk, each.up) for each in trunks.registered(rows[1:])] == [("west", True)]


@pytest.mark.parametrize("state", ["NOT_INUSE", "INUSE", "RINGING"])
def test_the_state_of_a_call_under_way_does_not_call_an_endpoint_reachable(state: str) -> None:
    """A call that nobody answers any more goes on for half a minute, and shows as the device's state."""
    trunks = AmiTrunks(DIALS)
    trunks.take(peer("PJSIP/other", "Unreachable"))
    assert trunks.take(device("PJSIP/other", state)) == []
    assert trunks.in_question == [DEVICES]
    assert trunks.take(device("PJSIP/other", "UNAVAILABLE")) == [], "the reason it was told with stays"
    assert [each.up for each in trunks.take(device("PJSIP/other", state))] == [True]
    trunks.take(peer("PJSIP/other", "Unreachable"))
    assert trunks.take(device("PJSIP/other", state)) == [], "what was before it came back counts no more"


def test_a_new_link_begins_with_what_it_is_told() -> None:
    trunks = AmiTrunks(DIALS)
    trunks.take(device("PJSIP/carrier", "UNAVAILABLE"))
    trunks.take(device("PJSIP/other", "NOT_INUSE"))
    assert [(each.trunk, each.up) for each in trunks.known] == [("north", False), ("south", False), ("west", True)]
    trunks.forget()
    assert trunks.known == []
    assert [each.up for each in trunks.take(device("PJSIP/carrier", "UNAVAILABLE"))] == [False, False]


def test_without_endpoints_there_is_nothing_to_ask() -> None:
    assert not AmiTrunks({"out": "Local/{number}@from-internal"})
    assert AmiTrunks(DIALS)
