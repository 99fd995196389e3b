"""The lab itself: what the far ends do, what the ledger counts, and that the PBX can be hurt and comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.lab.ami import Ami, Headers
from tests.lab.far_end import BEHAVIOURS, REDIRECTED_TO, behaviour_of
from tests.lab.lab import Lab
from tests.lab.ledger import FarCall, Ledger
from tests.lab.processes import Process

_OFFER_SECONDS = 6
_END_SECONDS = 20.0


def _place(ami: Ami, number: str, call_id: str, *, trunk: str = "trunk", exten: str = "hold") -> Headers:
    return ami.action(
        "Originate",
        {
            "Channel": f"PJSIP/{number}@{trunk}",
            "ChannelId": call_id,
            "Context": "dialer",
            "Exten": exten,
            "Priority": "1",
            "Timeout": str(_OFFER_SECONDS * 1000),
            "Async": "true",
            "CallerID": "<12025550199>",
        },
    )


def _hangup_of(ami: Ami, call_id: str) -> Headers:
    return ami.event(lambda event: event["Event"] == "Hangup" and event["Uniqueid"] == call_id, seconds=_END_SECONDS)


def _seen(lab: Lab, *numbers: str) -> Mapping[str, FarCall]:
    def complete(ledger: Ledger) -> bool:
        return ledger.of(numbers).all_over and set(ledger.of(numbers).by_number()) == set(numbers)

    calls = lab.ledger_when(complete, "trunk").of(numbers).by_number()
    assert all(len(each) == 1 for each in calls.values())
    return {number: each[0] for number, each in calls.items()}


def test_an_answered_and_a_busy_call_are_in_the_ledger_with_their_ends(lab: Lab) -> None:
    answered, busy = "4930100001", "4930100010"
    with lab.ami() as ami:
        assert _place(ami, answered, "lab-answered")["Response"] == "Success"
        assert _place(ami, busy, "lab-busy")["Response"] == "Success"
        _hangup_of(ami, "lab-answered")
        _hangup_of(ami, "lab-busy")
    seen = _seen(lab, answered, busy)
    assert seen[answered].final_status == 200
    assert seen[answered].ended_by == "callee"
    assert seen[answered].from_user == "12025550199"
    assert seen[answered].over_at - seen[answered].invited_at == pytest.approx(1.0, abs=0.5)
    assert (seen[busy].final_status, seen[busy].ended_by) == (486, "callee")


def test_every_behaviour_is_as_its_table_says(lab: Lab) -> None:
    numbers = [f"49301001{code}" for code in BEHAVIOURS]
    with lab.ami() as ami:
        for number in numbers:
            _place(ami, number, f"lab-{number}")
        for number in numbers:
            # Those that hold are hung up by us once the others are through.
            if behaviour_of(number).talk is not None or not behaviour_of(number).answers:
                _hangup_of(ami, f"lab-{number}")
        lab.cli("channel request hangup all")
        for number in numbers:
            _hangup_of(ami, f"lab-{number}")
    for number, call in _seen(lab, *numbers).items():
        _check(number, call)
    assert not lab.ledger().of([REDIRECTED_TO]).calls


def _check(number: str, call: FarCall) -> None:
    expected = behaviour_of(number)
    first = {"ring": {180}, "early": {183}, "trying": {100}, None: set()}[expected.first]
    assert call.provisional == first, number
    if expected.silent:
        # Repeated after 0.5, 1.5 and 3.5 s (RFC 3261, timer A), and no other call for it.
        assert (call.final_status, call.ended_at) == (None, None)
        assert call.retransmissions >= 2
    elif expected.status == 0:
        assert (call.final_status, call.ended_by) == (487, "caller"), number
    elif expected.answers:
        assert call.answered_at is not None
        assert call.answered_at - call.invited_at == pytest.approx(expected.wait, abs=0.5), number
        assert (call.final_status, call.ended_by) == (200, "caller" if expected.talk is None else "callee"), number
    else:
        assert (call.final_status, call.ended_by) == (expected.status, "callee"), number


def test_both_trunks_and_the_shipped_trunk_are_separate_far_ends(lab: Lab) -> None:
    with lab.ami() as ami:
        for trunk in ("trunk", "trunk2", "carrier-a"):
            _place(ami, "4930100211", f"lab-{trunk}", trunk=trunk)
            assert _hangup_of(ami, f"lab-{trunk}")["Cause"] == "1"
    assert len(lab.ledger("trunk").of(["4930100211"])) == 2
    assert len(lab.ledger("trunk2").of(["4930100211"])) == 1


@pytest.mark.parametrize("endpoint", ["dead", "nocontact"])
def test_nothing_is_sent_where_asterisk_knows_that_nobody_is_there(lab: Lab, endpoint: str) -> None:
    with lab.ami() as ami:
        _place(ami, "4930100300", f"lab-{endpoint}", trunk=endpoint)
        told = ami.event(lambda event: event["Event"] == "OriginateResponse", seconds=_END_SECONDS)
        assert (told["Response"], told["Reason"]) == ("Failure", "0")
    assert not lab.ledger().of(["4930100300"]).calls


@pytest.mark.parametrize("exten", ["agent", "queue"])
def test_an_answered_call_reaches_the_agents_phone(lab: Lab, exten: str) -> None:
    before = len(lab.ledger("agents"))
    with lab.ami() as ami:
        _place(ami, f"493010040{len(exten)}01", f"lab-{exten}", exten=exten)
        _hangup_of(ami, f"lab-{exten}")
    legs = lab.ledger_when(lambda ledger: len(ledger) > before and ledger.all_over, "agents").calls[before:]
    assert [leg.number for leg in legs] == ["10000"]
    assert legs[0].final_status == 200


def test_core_restart_now_brings_the_same_process_back(lab: Lab) -> None:
    before = lab.processes["asterisk"]
    lab.restart_asterisk()
    assert lab.processes["asterisk"] == before
    assert before.alive
    with lab.ami() as ami:
        _place(ami, "4930100510", "lab-after-restart")
        assert _hangup_of(ami, "lab-after-restart")["Cause"] == "17"


def test_a_killed_asterisk_is_dead_until_it_is_started_again(lab: Lab) -> None:
    lab.kill_asterisk()
    assert not lab.processes["asterisk"].alive
    with pytest.raises(ConnectionRefusedError):
        lab.ami()
    lab.start_asterisk()
    with lab.ami() as ami:
        assert ami.action("Ping")["Response"] == "Success"


def test_a_far_end_that_vanishes_is_noticed_and_its_calls_stay_in_the_ledger(lab: Lab) -> None:
    with lab.ami() as ami:
        _place(ami, "4930100610", "lab-before", trunk="trunk2")
        _hangup_of(ami, "lab-before")
        lab.stop_far_end("trunk2")
        ami.action("PJSIPQualify", {"Endpoint": "trunk2"})
        ami.event(
            lambda event: event.get("EndpointName") == "trunk2" and event.get("ContactStatus") == "Unreachable",
            seconds=_END_SECONDS,
        )
    lab.start_far_end("trunk2")
    lab.await_reachable(["trunk2"])
    assert len(lab.ledger("trunk2").of(["4930100610"])) == 1


def test_two_labs_run_beside_each_other(lab: Lab) -> None:
    with Lab(lab.version) as other:
        assert other.ports.ami != lab.ports.ami
        with other.ami() as ami:
            _place(ami, "4930100710", "lab-other")
            _hangup_of(ami, "lab-other")
        assert len(other.ledger()) == 1
    assert not lab.ledger().of(["4930100710"]).calls
    assert all(process.alive for process in lab.processes.values())


_DIES = """
import os, signal, sys
from tests.lab.lab import Lab
lab = Lab(sys.argv[1])
lab.up()
print(*(f"{process.pid}:{process.born}" for process in lab.processes.values()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_test_run_leaves_behind_is_cleared_away_by_the_next(lab: Lab) -> None:
    command = [sys.executable, "-c", _DIES, lab.version]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    left = [Process(*map(int, word.split(":"))) for word in told.stdout.split()]
    assert len(left) == 4
    assert all(process.alive for process in left)
    with Lab(lab.version):
        assert not any(process.alive for process in left)
