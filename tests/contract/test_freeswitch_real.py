"""What leaves wire.py, asked back from a real FreeSWITCH: every variable is itself, and no other call came up."""

from __future__ import annotations

import pytest

from dialerd.clock import stream
from dialerd.pbx import wire
from dialerd.pbx.driver import Answered, HandedOver
from dialerd.pbx.freeswitch import FreeSwitchDriver
from tests.contract.pbx_harness import SOON, Harness, Rig

pytestmark = pytest.mark.freeswitch

NASTY = {
    "CONTACT_QUOTES": "O'Brien 'said' \"no\"",
    "CONTACT_LONE_QUOTE": "it's",
    "CONTACT_BACKSLASHES": "\\ \\\\ \\n \\s \\' \\, end\\",
    "CONTACT_COMMAS": "a,b,,c=d,origination_caller_id_number=911",
    "CONTACT_BLANKS": "  two  before and after  ",
    "CONTACT_BRACES": "} &park() {x=y} [z=w] <v=u>",
    "CONTACT_CALLS": "a:_:sofia/gateway/trunk/4930100:_:_:",
    "CONTACT_NESTED": "origination_nested_vars=true",
    "CONTACT_FUNCTION": "${system(id)} $${domain} $\\{uuid}",
    "CONTACT_DELIMITER": "^^;a;b",
    "CONTACT_ARRAY": "ARRAY::a|:b",
    "CONTACT_WORD": "undef",
    "CONTACT_UNICODE": "Łódź 日本 🦊",
}
PIECES = [*"\\'\",=: {}[]<>()$|&^!#a9é日", ":_:", "\\s", "\\n", "''", "${", "^^"]
DRAWN = 40
"""Variables of drawn characters, beside those that somebody thought of."""


async def asked_back(driver: FreeSwitchDriver, call_id: str, name: str) -> str:
    answer = await driver._ask(wire.esl_api("uuid_getvar", call_id, name))
    return answer.body.decode()


def test_every_variable_is_itself(freeswitch_real: Harness) -> None:
    draw = stream("variables on the wire")
    drawn = {f"CONTACT_{n}": "".join(PIECES[int(draw() * len(PIECES))] for _ in range(20)) for n in range(DRAWN)}
    variables = NASTY | drawn

    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        assert isinstance(driver, FreeSwitchDriver)
        order = rig.order("00", variables=variables, caller_id="\"A, 'B' & C\" <+12025550199>")
        call_id = await rig.place(driver, recorder, order)
        await recorder.heard(Answered, call_id, SOON)
        read = {name: await asked_back(driver, call_id, name) for name in variables}
        assert read == {name: value.replace("{", "(").replace("}", ")") for name, value in variables.items()}
        assert await asked_back(driver, call_id, "origination_caller_id_number") == "+12025550199"
        assert await asked_back(driver, call_id, "origination_caller_id_name") == "A, 'B' & C"
        assert await asked_back(driver, call_id, "export_vars") == ",".join(variables)
        assert await driver.hangup(call_id)
        await recorder.ended(call_id, SOON)
        assert await rig.far_end_count(call_id) == 1

    freeswitch_real.run(scenario)


def test_a_loopback_call_is_followed_by_its_own_half(freeswitch_real: Harness) -> None:
    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        through = rig.order("00", dial="loopback/12025550100/dialerd-out", place=rig.queue, hands_over=True)
        call_id = await rig.place(driver, recorder, through)
        await recorder.heard(HandedOver, call_id, SOON)
        assert [channel.call_id for channel in await driver.live()] == [call_id]
        assert await driver.hangup(call_id)
        assert (await recorder.ended(call_id, SOON)).verdict.outcome == "answered"
        await rig.wait_listed(driver, set())

    freeswitch_real.run(scenario)


@pytest.mark.parametrize(
    ("digits", "outcome"), [("00", "answered"), ("10", "busy"), ("16", "unreachable"), ("18", "unreachable")]
)
def test_the_shipped_route_ends_a_call_with_the_cause_of_its_last_attempt(
    freeswitch_real: Harness, digits: str, outcome: str
) -> None:
    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        through = rig.order(digits, dial=f"loopback/120255501{digits}/dialerd-out")
        call_id = await rig.place(driver, recorder, through)
        if outcome == "answered":
            await recorder.heard(Answered, call_id, SOON)
            assert await driver.hangup(call_id)
        assert (await recorder.ended(call_id, SOON)).verdict.outcome == outcome

    freeswitch_real.run(scenario)
