"""Trunks that dial through the dialplan (``Local/…``, as FreePBX's outbound routes do), on a real Asterisk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dialerd.clock import SystemClock
from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Verdict
from dialerd.pbx import causes
from dialerd.pbx.driver import Answered, ChannelState, Ended, HandedOver, Place, Ringing
from tests.contract.pbx_harness import SOON, AsteriskRig, Rig, Scenario, play
from tests.fakes.proxy import Proxy
from tests.lab.lab import Lab

TALKING = Place(application="Dial", data="Local/tone@dialer/n,10")
"""Somebody who makes a sound: only then would Asterisk take a Local channel out of the call."""


class LocalRig(AsteriskRig):
    """A real Asterisk whose every trunk is an outbound route of its dialplan."""

    def dial(self, number: str, trunk: str) -> str:
        """Write the dial string of a number."""
        return f"Local/{number}@out"


def run(lab: Lab, scenario: Scenario) -> None:
    @asynccontextmanager
    async def rig() -> AsyncIterator[Rig]:
        async with Proxy(lab.host, lab.ports.ami) as proxy:
            yield LocalRig(SystemClock(), lab, proxy, batch=1)

    asyncio.run(play(scenario, rig()))


@pytest.mark.parametrize(
    ("behaviour", "verdict", "cause"),
    [
        ("10", causes.BUSY, 17),
        ("11", causes.INVALID_NUMBER, 1),
        ("12", causes.CONGESTION, 34),
        ("13", causes.NO_ANSWER, None),
        ("14", causes.UNREACHABLE, None),
        ("15", causes.REJECTED, 21),
        ("16", causes.NO_ANSWER, 19),
    ],
)
def test_the_outcomes_are_those_of_a_trunk_dialled_directly(
    lab: Lab, behaviour: str, verdict: Verdict, cause: int | None
) -> None:
    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        call = await rig.place(driver, recorder, rig.order(behaviour))
        ended = await recorder.ended(call, SOON)
        assert (ended.verdict, ended.sip_status, ended.channel) == (verdict, None, True)
        assert cause is None or ended.hangup_cause == cause
        await rig.wait_far_end_over(call)
        assert await rig.far_end_count(call) == 1

    run(lab, scenario)


def test_the_call_stays_ours_while_both_sides_talk(lab: Lab) -> None:
    """Asterisk would leave the far end and the agent to each other, and end the channel that bears our id."""

    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        call = await rig.place(driver, recorder, rig.order("00", place=TALKING))
        await recorder.heard(HandedOver, call, SOON)
        with pytest.raises(AssertionError, match="not told"):
            await recorder.ended(call, 1.5)
        assert [(channel.call_id, channel.state) for channel in await driver.live()] == [(call, ChannelState.UP)]
        assert await driver.hangup(call)
        ended = await recorder.ended(call, SOON)
        assert (ended.verdict, ended.hung_up_by) == (causes.ANSWERED, HungUpBy.DIALER)
        await rig.wait_far_end_over(call)

    run(lab, scenario)


def test_a_callee_who_hangs_up_ends_it(lab: Lab) -> None:
    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        call = await rig.place(driver, recorder, rig.order("01", place=TALKING))
        assert (await recorder.ended(call, SOON)).verdict == causes.ANSWERED
        assert {Ringing, Answered, Ended} <= {type(event) for event in recorder.of(call)}
        await rig.wait_far_end_over(call)

    run(lab, scenario)


def test_asterisk_itself_ends_a_call_that_lasts_too_long(lab: Lab) -> None:
    """Setup and talking time together, from the making of the channel: the backstop for a daemon that is gone."""

    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        call = await rig.place(driver, recorder, rig.order("00", place=TALKING, setup_seconds=2.0, max_call_seconds=1))
        assert (await recorder.ended(call, SOON)).verdict == causes.ANSWERED
        await rig.wait_far_end_over(call)

    run(lab, scenario)


def test_our_hangup_while_it_rings_reaches_the_far_end(lab: Lab) -> None:
    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        call = await rig.place(driver, recorder, rig.order("13"))
        await recorder.heard(Ringing, call, SOON)
        assert await driver.hangup(call)
        assert (await recorder.ended(call, SOON)).verdict == causes.CANCELLED
        await rig.wait_far_end_over(call)

    run(lab, scenario)
