"""No value can become another variable, call, application, command or line on a FreeSWITCH."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialerd.pbx import wire
from dialerd.pbx.driver import Originate, Place
from tests.fakes.esl_syntax import Misread, read_originate
from tests.support.effort import examples

CALL = "0198c0de-0000-7000-8000-000000000001"
NASTY = st.lists(
    st.sampled_from(
        [*"\\'\",=: {}[]<>()$|&^!#aZ9é日", ":_:", "\\s", "\\n", "''", "${", "^^", "origination_nested_vars=true"]
    ),
    max_size=40,
).map("".join)
LINES = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
ONE_LINE = NASTY | st.text(alphabet=LINES, max_size=80)
NAMES = st.from_regex(r"CONTACT_[A-Z0-9_]{1,20}", fullmatch=True)
OUR_OWN = {
    *("origination_uuid", "originate_timeout", "ignore_early_media", "presence_data", "outbound_redirect_fatal"),
    *("execute_on_answer", "origination_caller_id_number", "export_vars"),
}


def an_order(**changes: Any) -> Originate:
    plain: dict[str, Any] = {
        "call_id": CALL,
        "dial": "sofia/gateway/carrier-a/12025550100",
        "caller_id": "+12025550199",
        "place": Place(context="dialerd", exten="answered"),
        "setup_seconds": 30.0,
        "max_call_seconds": 3600,
    }
    return Originate(**(plain | changes))


def argument_of(command: wire.EslCommand) -> str:
    """The argument of a ``bgapi originate``, as FreeSWITCH's event socket reads it."""
    line, header, end, rest = command.decode().split("\n")
    assert (header, end, rest) == (f"Job-UUID: {CALL}", "", "")
    assert line.startswith("bgapi originate ")
    return line.removeprefix("bgapi originate ")


def round_brackets(value: str) -> str:
    return value.replace("{", "(").replace("}", ")")


@given(st.dictionaries(NAMES, ONE_LINE.filter(bool), max_size=6))
@settings(max_examples=examples(400))
def test_variables_stay_what_they_are_and_no_other_comes_up(variables: dict[str, str]) -> None:
    read = read_originate(argument_of(wire.esl_originate(an_order(variables=variables), CALL)))
    ours = {name: value for name, value in read.variables.items() if name.startswith("CONTACT_")}
    assert ours == {name: round_brackets(value) for name, value in variables.items()}
    assert read.variables.keys() - ours.keys() == OUR_OWN - (set() if variables else {"export_vars"})
    assert set(filter(None, read.variables.get("export_vars", "").split(","))) == variables.keys()
    assert read.dial == "sofia/gateway/carrier-a/12025550100"
    assert (read.place, read.dialplan, read.context) == ("answered", "XML", "dialerd")


@given(ONE_LINE.filter(bool))
def test_no_value_is_evaluated(value: str) -> None:
    argument = argument_of(wire.esl_originate(an_order(variables={"CONTACT_NAME": value}), CALL))
    assert "${" not in read_originate(argument).variables["CONTACT_NAME"]


def test_what_freeswitch_itself_must_do_is_in_the_order() -> None:
    read = read_originate(argument_of(wire.esl_originate(an_order(caller_id='"A & B" <+12025550199>'), CALL)))
    assert read.variables == {
        "origination_uuid": CALL,
        "originate_timeout": "31",
        "ignore_early_media": "true",
        "presence_data": CALL,
        "outbound_redirect_fatal": "true",
        "execute_on_answer": "sched_hangup +3601 ALLOTTED_TIMEOUT",
        "origination_caller_id_number": "+12025550199",
        "origination_caller_id_name": "A & B",
    }


def test_a_loopback_channel_stays_in_its_call() -> None:
    read = read_originate(argument_of(wire.esl_originate(an_order(dial="loopback/12025550100/out/XML"), CALL)))
    assert read.variables["loopback_bowout"] == "false"
    assert read.dial == "loopback/12025550100/out/XML"


@given(ONE_LINE)
def test_an_applications_data_stays_its_data(data: str) -> None:
    place = Place(application="playback", data=data)
    if ")" in data or re.search(r"\$\\*\{", data):
        with pytest.raises(wire.WireError):
            wire.esl_originate(an_order(place=place), CALL)
        return
    command = wire.esl_originate(an_order(place=place), CALL)
    assert read_originate(argument_of(command)).application == ("playback", data)


def test_a_queue_is_mod_callcenters() -> None:
    read = read_originate(argument_of(wire.esl_originate(an_order(place=Place(queue="sales@default")), CALL)))
    assert read.application == ("callcenter", "sales@default")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("call_id", {"call_id": "not-a-uuid"}),
        ("call_id", {"call_id": CALL + "0"}),
        ("dial", {"dial": "sofia/gateway/a/1:_:sofia/gateway/b/2"}),
        ("dial", {"dial": "sofia/gateway/a/1,sofia/gateway/b/2"}),
        ("dial", {"dial": "sofia/gateway/a/1|sofia/gateway/b/2"}),
        ("dial", {"dial": "{x=y}sofia/gateway/a/1"}),
        ("dial", {"dial": "[x=y]sofia/gateway/a/1"}),
        ("dial", {"dial": "sofia/gateway/a/1 &park()"}),
        ("exten", {"place": Place(context="dialerd", exten="&park")}),
        ("exten", {"place": Place(context="dialerd", exten="undef")}),
        ("context", {"place": Place(context="UNDEF", exten="1")}),
        ("context", {"place": Place(context="a b", exten="1")}),
        ("priority", {"place": Place(context="dialerd", exten="1", priority=2)}),
        ("application", {"place": Place(application="playback(x)")}),
        ("data", {"place": Place(application="playback", data="a) &park(")}),
        ("data", {"place": Place(application="playback", data="${system(id)}")}),
        ("data", {"place": Place(application="playback", data="$\\{system(id}")}),
        ("queue", {"place": Place(queue="sales) x")}),
        ("place", {"place": Place(queue="sales", context="dialerd", exten="1")}),
        ("place", {"place": Place()}),
        ("caller_id", {"caller_id": '"a" <1,b=2>'}),
        ("setup_seconds", {"setup_seconds": 0.0}),
        ("max_call_seconds", {"max_call_seconds": 10**9}),
        ("CONTACT_NAME", {"variables": {"CONTACT_NAME": "a\nBob: 1"}}),
        ("CONTACT_NAME", {"variables": {"CONTACT_NAME": "a\u2028b"}}),
        ("variable name", {"variables": {"sip_h_X": "a"}}),
        ("command", {"variables": {"CONTACT_NAME": "'" * 40_000}}),
    ],
)
def test_what_cannot_be_written_is_refused_by_its_field(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.esl_originate(an_order(**change), CALL)
    assert caught.value.field == field


@given(ONE_LINE)
def test_a_secret_is_one_line(secret: str) -> None:
    assert wire.esl_auth(secret) == f"auth {secret}\n\n".encode()


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x00b", "a b", "", "a;b", "a'b", "a${b}"])
def test_an_argument_of_an_api_command_is_one_word(value: str) -> None:
    with pytest.raises(wire.WireError):
        wire.esl_api("uuid_kill", value)


@pytest.mark.parametrize("secret", ["a\nexit", "a\r\nexit", "a\x00"])
def test_a_secret_of_two_lines_is_refused(secret: str) -> None:
    with pytest.raises(wire.WireError):
        wire.esl_auth(secret)


@pytest.mark.parametrize(
    "argument",
    ["{a=1}sofia/x/1:_:sofia/x/2 &park()", "{a=}}sofia/x/1 &park()", "{a=1sofia/x/1 &park()", "{a=1}x/1 y z w v u t s"],
)
def test_the_model_sees_what_must_not_be(argument: str) -> None:
    with pytest.raises(Misread):
        read_originate(argument)


def test_behind_loopback_the_call_stays_ours_and_no_redirect_is_followed() -> None:
    order = an_order(dial="loopback/12025550100/dialerd-out", variables={"CONTACT_NAME": "Jo"})
    read = read_originate(argument_of(wire.esl_originate(order, CALL)))
    assert read.variables["loopback_bowout"] == "false"
    assert read.variables["export_vars"] == "outbound_redirect_fatal,CONTACT_NAME"
    assert read.variables["outbound_redirect_fatal"] == "true"
