"""No value can become another header, action, variable or function on an Asterisk."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.pbx import wire
from dialerd.pbx.driver import Originate, Place

NASTY = st.text(alphabet=st.sampled_from('\\",()[]=: ;&$|{}<>%#_aZ9é日'), max_size=60)
LINES = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
ONE_LINE = NASTY | st.text(alphabet=LINES, max_size=80)
NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True)
HUNDREDS = 400


def as_asterisk_splits(value: str) -> list[str]:
    """What Asterisk makes of a ``Variable`` header: its own splitting of arguments, character for character.

    A model of ``__ast_app_separate_args`` (main/app.c) with a comma as delimiter and quotes and backslashes removed,
    checked against Asterisk 22.10 and 16.28 by asking them for the variables.
    """
    arguments, current = [], ""
    parens = brackets = 0
    quoted = False
    position = 0
    while position < len(value):
        char = value[position]
        if char == "(":
            parens += 1
        elif char == ")":
            parens = max(0, parens - 1)
        elif char == "[":
            brackets += 1
        elif char == "]":
            brackets = max(0, brackets - 1)
        elif char == '"':
            quoted = not quoted
            position += 1
            continue
        elif char == "\\":
            position += 1
            assert position < len(value), "Asterisk would read past the end of its string"
            char = value[position]
        elif char == "," and not parens and not quoted and not brackets:
            arguments.append(current)
            current = ""
            position += 1
            continue
        current += char
        position += 1
    return [*arguments, current]


def an_order(**changes: object) -> Originate:
    plain: dict[str, object] = {
        "call_id": "0198c0de-0000-7000-8000-000000000001",
        "dial": "PJSIP/12025550100@carrier-a",
        "caller_id": "+12025550199",
        "place": Place(context="dialerd", exten="answered"),
        "setup_seconds": 30.0,
        "max_call_seconds": 3600,
    }
    return Originate(**(plain | changes))  # type: ignore[arg-type]


@given(NAMES, ONE_LINE)
def test_a_variable_stays_one_variable(name: str, value: str) -> None:
    assert as_asterisk_splits(wire.ami_variable(name, value)) == [f"__{name}={value}"]


@given(st.dictionaries(NAMES, ONE_LINE, max_size=8), ONE_LINE)
def test_an_order_is_one_action_with_its_own_headers_only(variables: dict[str, str], data: str) -> None:
    place = Place(application="Playback", data=data)
    try:
        headers = wire.ami_originate(an_order(place=place, variables=variables), "o:1")
    except wire.WireError:
        assert max(len(value.encode()) for value in [data, *variables.values()]) > wire.MAX_LINE_BYTES / 2 - 100
        return
    text = wire.ami_action(headers)
    assert text.endswith("\r\n\r\n")
    assert text.count("\r\n\r\n") == 1
    lines = text[:-4].split("\r\n")
    assert lines == [f"{name}: {value}" for name, value in headers]
    assert [line for line in lines if line.startswith("Action:")] == ["Action: Originate"]
    given_variables = [line.removeprefix("Variable: ") for line in lines if line.startswith("Variable: ")]
    assert given_variables[0] == "TIMEOUT(absolute)=3630"
    assert [as_asterisk_splits(value) for value in given_variables[1:]] == [
        [f"__{name}={value}"] for name, value in variables.items()
    ]
    assert [name for name, _ in headers] == [
        *(["Action", "ActionID", "Channel", "ChannelId", "Async", "Timeout", "CallerID", "Application", "Data"]),
        *["Variable"] * (1 + len(variables)),
    ]


@given(ONE_LINE, st.characters(categories=["Cc", "Zl", "Zp"]), ONE_LINE)
def test_no_control_character_passes_anywhere(before: str, bad: str, after: str) -> None:
    assert unicodedata.category(bad) in ("Cc", "Zl", "Zp")
    value = before + bad + after
    with pytest.raises(wire.WireError, match="CONTACT_NAME") as caught:
        wire.ami_action([("Action", "Originate"), ("Variable", f"__CONTACT_NAME={value}")])
    assert caught.value.field == "CONTACT_NAME"
    assert bad not in str(caught.value)
    changes: dict[str, dict[str, object]] = {
        "dial": {"dial": f"PJSIP/{value}@carrier-a"},
        "call_id": {"call_id": value},
        "caller_id": {"caller_id": f'"{value}" <+12025550199>'},
        "context": {"place": Place(context=value, exten="answered")},
        "exten": {"place": Place(context="dialerd", exten=value)},
        "application": {"place": Place(application=value)},
        "data": {"place": Place(application="Playback", data=value)},
        "CONTACT_NAME": {"variables": {"CONTACT_NAME": value}},
        "variable name": {"variables": {value: "x"}},
    }
    for field, change in changes.items():
        with pytest.raises(wire.WireError) as refused:
            wire.ami_originate(an_order(**change), "o:1")
        assert refused.value.field == field
    with pytest.raises(wire.WireError):
        wire.ami_hangup(value)
    with pytest.raises(wire.WireError):
        wire.ami_action([(value, "x")])


@given(st.text(max_size=30))
def test_only_strict_names_become_variables(name: str) -> None:
    strict = name.isascii() and name[:1].isalpha() and name.isupper() and name.replace("_", "A").isalnum()
    if strict:
        assert wire.ami_variable(name, "x") == f"__{name}=x"
    else:
        with pytest.raises(wire.WireError):
            wire.ami_variable(name, "x")


@given(ONE_LINE)
def test_a_dial_string_holds_no_syntax(value: str) -> None:
    try:
        headers = dict(wire.ami_originate(an_order(dial=f"PJSIP/{value}@carrier-a"), "o:1"))
    except wire.WireError:
        return
    assert headers["Channel"] == f"PJSIP/{value}@carrier-a"
    assert not set(value) & set(' "\\,()[]{}$&|<>%^')


@given(ONE_LINE, st.from_regex(r"\+?[0-9]{1,15}", fullmatch=True))
def test_a_caller_name_cannot_bring_another_number(name: str, number: str) -> None:
    """As Asterisk reads it (main/callerid.c): the number stands in the last pair of angle brackets."""
    try:
        shown = wire.caller_id(f'"{name}" <{number}>')
    except wire.WireError:
        assert set(name) & set('"<>\\') or len(name) > 80
        return
    assert shown[shown.rindex("<") :] == f"<{number}>"
    assert shown == (f'"{name.strip()}" <{number}>' if name.strip() else f"<{number}>")
    assert not set(name) & set('"<>\\')


@given(st.integers(1, HUNDREDS))
def test_what_asterisk_would_not_read_is_not_sent(count: int) -> None:
    """A line or an action that is too long is refused here: Asterisk would throw it away."""
    value = "é" * count
    line = f"Variable: __CONTACT_NAME={value}".encode()
    order = an_order(variables={"CONTACT_NAME": value, **{f"CONTACT_{number}": "x" for number in range(count // 3)}})
    if len(line) > wire.MAX_LINE_BYTES or 10 + count // 3 + 2 > wire.MAX_HEADERS:
        with pytest.raises(wire.WireError):
            wire.ami_originate(order, "o:1")
    else:
        assert len(wire.ami_originate(order, "o:1")) <= wire.MAX_HEADERS


@pytest.mark.parametrize(
    ("dial", "channel"),
    [
        ("Local/12025550100@out", "Local/12025550100@out/n"),
        ("local/12025550100@out", "local/12025550100@out/n"),
        ("Local/12025550100@out/j", "Local/12025550100@out/nj"),
        ("Local/12025550100@out/n", "Local/12025550100@out/n"),
        ("Local/12025550100@out/jn", "Local/12025550100@out/jn"),
        ("PJSIP/12025550100@local", "PJSIP/12025550100@local"),
        ("PJSIP/trunk/sip:12025550100@192.0.2.1", "PJSIP/trunk/sip:12025550100@192.0.2.1"),
    ],
)
def test_a_local_channel_is_not_optimised_away(dial: str, channel: str) -> None:
    order = Originate("a", dial, None, Place(context="a", exten="b"), 5.0, 60)
    assert dict(wire.ami_originate(order, "1"))["Channel"] == channel


def test_a_queue_is_the_queue_application() -> None:
    headers = dict(wire.ami_originate(an_order(place=Place(queue="sales")), "o:1"))
    assert (headers["Application"], headers["Data"]) == ("Queue", "sales")


@given(ONE_LINE)
def test_a_queues_name_brings_no_options(name: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9_.*#+@-]{1,79}", name):
        assert dict(wire.ami_originate(an_order(place=Place(queue=name)), "o:1"))["Data"] == name
    else:
        with pytest.raises(wire.WireError) as refused:
            wire.ami_originate(an_order(place=Place(queue=name)), "o:1")
        assert refused.value.field == "queue"


@pytest.mark.parametrize("more", [0, 1])
def test_a_dial_string_that_asterisk_would_cut_is_not_sent(more: int) -> None:
    """It copies the Channel header into 256 bytes: what is cut off would be the end of a number, and another called."""
    dial = "PJSIP/12025550100@".ljust(255 + more, "a")
    if more:
        with pytest.raises(wire.WireError, match="dial"):
            wire.ami_originate(an_order(dial=dial), "o:1")
    else:
        assert ("Channel", dial) in wire.ami_originate(an_order(dial=dial), "o:1")
