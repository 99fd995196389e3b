"""The files of asterisk-conf/ as shipped, on the real thing: rights, events, redirects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.registrar import registering
from tests.lab.ami import Ami
from tests.lab.asterisk import ASTERISK_CONF
from tests.lab.far_end import REDIRECTED_TO
from tests.lab.lab import DIALERD, Lab, User
from tests.lab.packages import LabError

_CALL = {"Channel": "PJSIP/4930200001@trunk", "Async": "true", "Timeout": "5000"}
_KEPT = {
    *("OriginateResponse", "Newchannel", "Newstate", "DialState", "DialEnd"),
    *("HangupRequest", "SoftHangupRequest", "Hangup"),
    *("UserEvent", "AgentConnect", "PeerStatus", "Registry", "FullyBooted", "Shutdown"),
}


@pytest.fixture
def ami(lab: Lab) -> Iterator[Ami]:
    with lab.ami(DIALERD) as ami:
        yield ami


@pytest.mark.parametrize("action", ["Ping", "CoreShowChannels", "CoreSettings", "DeviceStateList"])
def test_the_user_may_ask_what_the_driver_asks(ami: Ami, action: str) -> None:
    assert ami.action(action)["Response"] == "Success"


@pytest.mark.parametrize(
    "place",
    [
        {"Context": "dialerd", "Exten": "answered", "Priority": "1"},
        {"Application": "Playback", "Data": "hello-world"},
        {"Application": "Queue", "Data": "lab,,,,20"},
    ],
    ids=lambda place: place.get("Application", "Context"),
)
def test_the_user_may_originate_to_a_place_and_to_an_application_and_hang_up(ami: Ami, place: dict[str, str]) -> None:
    held = {**_CALL, "Channel": "PJSIP/4930200013@trunk", "ChannelId": f"conf-{place.get('Application', 'context')}"}
    assert ami.action("Originate", {**held, **place})["Response"] == "Success"
    made = ami.event(lambda event: event["Event"] == "Newchannel" and event["Uniqueid"] == held["ChannelId"])
    assert ami.action("Hangup", {"Channel": made["Channel"]})["Response"] == "Success"
    ami.event(lambda event: event["Event"] == "Hangup" and event["Uniqueid"] == held["ChannelId"])


@pytest.mark.parametrize(
    ("action", "headers"),
    [
        ("Command", {"Command": "core show version"}),
        ("Reload", {}),
        ("ModuleLoad", {"LoadType": "reload"}),
        ("GetConfig", {"Filename": "manager.conf"}),
        ("UpdateConfig", {"SrcFilename": "a.conf", "DstFilename": "a.conf"}),
        ("DBGet", {"Family": "a", "Key": "b"}),
        ("Getvar", {"Variable": "SHELL(id)"}),
        ("Originate", {**_CALL, "Application": "System", "Data": "true"}),
        ("Originate", {**_CALL, "Application": "Exec", "Data": "System(true)"}),
        ("Originate", {**_CALL, "Application": "AGI", "Data": "/bin/true"}),
    ],
    ids=lambda value: value.get("Application", "") if isinstance(value, dict) else value,
)
def test_the_user_may_not_run_commands_or_touch_the_configuration(
    ami: Ami, action: str, headers: dict[str, str]
) -> None:
    assert ami.action(action, headers)["Response"] == "Error"


def test_the_shipped_secret_does_not_open_the_lab(lab: Lab) -> None:
    with pytest.raises(LabError, match="refused"):
        lab.ami(User(DIALERD.name, "change-me"))


def test_the_filter_keeps_the_events_that_the_driver_reads_and_no_others(lab: Lab, ami: Ami) -> None:
    # A ring, an answer, a hand-over by a queue, a BYE by the far end.
    order = {
        **_CALL,
        "Channel": "PJSIP/4930200003@trunk",
        "Application": "Queue",
        "Data": "lab",
        "ChannelId": "conf-all",
    }
    assert ami.action("Originate", order)["Response"] == "Success"
    ami.event(lambda event: event["Event"] == "Hangup" and event["Uniqueid"] == "conf-all", seconds=20)
    ami.action("Originate", {**_CALL, "Application": "Wait", "Data": "5", "ChannelId": "conf-held"})
    made = ami.event(lambda event: event["Event"] == "Newchannel" and event["Uniqueid"] == "conf-held")
    lab.cli(f"channel request hangup {made['Channel']}")
    ami.event(lambda event: event["Event"] == "Hangup" and event["Uniqueid"] == "conf-held")
    with lab.ami() as full:
        full.action("UserEvent", {"UserEvent": "Lab"})
    ami.event(lambda event: event["Event"] == "UserEvent")
    lab.stop_far_end("trunk2")
    ami.action("PJSIPQualify", {"Endpoint": "trunk2"})
    ami.event(lambda event: event["Event"] == "PeerStatus" and event["PeerStatus"] == "Unreachable")
    with registering(lab, "trunk") as registrar:
        registrar.grant()
        ami.event(lambda event: event["Event"] == "Registry" and event["Status"] == "Registered")
    lab.stop_asterisk()
    ami.event(lambda event: event["Event"] == "Shutdown")
    assert {event["Event"] for event in ami.events} == _KEPT


def test_a_list_passes_the_filter(ami: Ami) -> None:
    order = {**_CALL, "Channel": "PJSIP/4930200013@trunk", "Application": "Wait", "Data": "5", "ChannelId": "conf-list"}
    ami.action("Originate", order)
    ami.event(lambda event: event["Event"] == "DialState" and event["DestUniqueid"] == "conf-list")
    listed = ami.listing("CoreShowChannels", {}, "CoreShowChannel", "CoreShowChannelsComplete")
    assert [channel["Uniqueid"] for channel in listed] == ["conf-list"]


def test_a_redirect_of_the_carrier_is_not_followed(lab: Lab, ami: Ami) -> None:
    order = {
        **_CALL,
        "Channel": "PJSIP/4930200030@carrier-a",
        "Application": "Wait",
        "Data": "5",
        "ChannelId": "conf-302",
    }
    assert ami.action("Originate", order)["Response"] == "Success"
    told = ami.event(lambda event: event["Event"] == "OriginateResponse")
    assert told["Response"] == "Failure"
    ami.event(lambda event: event["Event"] == "Hangup" and event["Uniqueid"] == "conf-302")
    ledger = lab.ledger_when(lambda ledger: ledger.of(["4930200030"]).all_over)
    assert [call.final_status for call in ledger.of(["4930200030"])] == [302]
    assert not ledger.of([REDIRECTED_TO]).calls


def test_the_answered_place_plays_and_hangs_up(lab: Lab, ami: Ami) -> None:
    order = {
        **_CALL,
        "Channel": "PJSIP/4930200100@carrier-a",
        "Context": "dialerd",
        "Exten": "answered",
        "Priority": "1",
    }
    assert ami.action("Originate", {**order, "ChannelId": "conf-answered"})["Response"] == "Success"
    gone = ami.event(lambda event: event["Event"] == "Hangup" and event["Uniqueid"] == "conf-answered", seconds=20)
    assert gone["Cause"] == "16"
    call = lab.ledger_when(lambda ledger: ledger.of(["4930200100"]).all_over).of(["4930200100"]).calls[0]
    assert call.ended_by == "caller"


def test_no_context_of_ours_has_an_extension_for_failures(lab: Lab) -> None:
    assert "'failed'" not in lab.cli("dialplan show dialerd")
    assert "exten => failed" not in (ASTERISK_CONF / "extensions_dialerd.conf").read_text()
