"""The whole daemon on a played FreeSWITCH (a replay of recordings), alone and beside a real Asterisk."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import SystemClock
from tests.fakes.esl_peer import SECRET, EslPeer, esl_peer
from tests.integration.client import Api
from tests.integration.daemon import CALLER_ID, TENANT, Daemon, Stock, toml
from tests.integration.evidence import Numbers, check_one_at_a_time, check_told
from tests.lab.lab import DIALERD, Lab

DEADLINE = 60.0
ROOMY = {"max_calls_per_second": 100.0, "max_channels": 500}
EXPECTED = {
    "01": ("answered", "none", "ended"),
    "03": ("answered", "none", "ended"),
    "10": ("busy", "callee", "ended"),
    "11": ("invalid_number", "number", "ended"),
    "13": ("no_answer", "callee", "ended"),
    "15": ("rejected", "callee", "ended"),
    "16": ("no_answer", "callee", "ended"),
    "23": ("invalid_number", "number", "ended"),
}


def freeswitch_at(peer: EslPeer) -> dict[str, dict[str, Any]]:
    """The PBX ``fs`` and its trunk ``fs-trunk``."""
    where = {"host": "127.0.0.1", "port": peer.port, "secret": SECRET, "ping_seconds": 0.5}
    return {
        "pbx.fs": {"driver": "freeswitch", **where, **ROOMY},
        "trunk.fs-trunk": {
            "pbx": "fs",
            "dial": "sofia/gateway/trunk/{number}",
            "caller_ids": [CALLER_ID],
            **ROOMY,
        },
    }


def asterisk_at(lab: Lab) -> dict[str, dict[str, Any]]:
    """The PBX ``ast`` and its trunk ``ast-trunk``."""
    login = {"username": DIALERD.name, "secret": DIALERD.secret}
    return {
        "pbx.ast": {"driver": "asterisk", "host": lab.host, "port": lab.ports.ami, **login, **ROOMY},
        "trunk.ast-trunk": {"pbx": "ast", "dial": "PJSIP/{number}@trunk", "caller_ids": [CALLER_ID], **ROOMY},
    }


@contextlib.asynccontextmanager
async def daemon_on(
    folder: Path, stock: Stock, pbxs: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[tuple[Daemon, Api]]:
    """Run a daemon on these PBXs; it must end well, and have logged no fault."""
    trunks = [name.removeprefix("trunk.") for name in pbxs if name.startswith("trunk.")]
    tenant = {"max_calls_per_second": 100.0, "max_concurrent_calls": 500, "trunks": trunks}

    def configuration(store: Path, port: int) -> str:
        return toml(
            {
                "server": {"listen": f"127.0.0.1:{port}"},
                "store": {"url": f"sqlite:///{store}"},
                "dispatch": {"drain_seconds": 0.0},
                "logging": {"level": "debug", "full_numbers": True},
                **pbxs,
                f"tenant.{TENANT}": tenant,
                f"tenant.{TENANT}.settings": {"calling_hours_start": "00:00", "calling_hours_end": "00:00"},
            }
        )

    daemon = Daemon(folder, stock, configuration)
    try:
        await daemon.start()
        api = Api(daemon)
        try:
            yield daemon, api
        finally:
            await api.close()
        assert await daemon.stop() == 0
        assert not daemon.faults(), daemon.faults()
    except BaseException:
        print(daemon.show())
        raise
    finally:
        await daemon.stop()


def reached(peer: EslPeer) -> Counter[str]:
    """How often each call reached the far end."""
    return Counter(call.call_id for call in peer.calls.far_end)


@pytest.mark.slow
async def test_a_campaign_over_everything_that_a_far_end_can_do(tmp_path: Path, stock: Stock) -> None:
    numbers = Numbers(221)
    async with esl_peer(SystemClock()) as peer, daemon_on(tmp_path, stock, freeswitch_at(peer)) as (_, api):
        rows = [{"phone_number": numbers.next(suffix), "name": "O'Hara, {x}"} for suffix in EXPECTED for _ in range(3)]
        agent = await api.agent("hold", context="dialerd")
        campaign = await api.campaign(agent, rows, concurrent_calls=30, max_retries=0, answer_timeout=5)
        async with api.follow(campaign) as follower:
            await api.step(campaign, "start")
            await follower.finished(DEADLINE)
            check_told(follower.told, await api.contacts(campaign))
        calls = await api.calls(campaign)
        check_one_at_a_time(calls)
        assert len(calls) == len(rows)
        for call in calls:
            assert (call["outcome"], call["fault"], call["status"]) == EXPECTED[call["phone_number"][-2:]], call
        assert reached(peer) == {call["id"]: 1 for call in calls}


@pytest.mark.slow
async def test_a_daemon_that_dies_takes_its_calls_up_again(tmp_path: Path, stock: Stock) -> None:
    numbers = Numbers(222)
    async with esl_peer(SystemClock()) as peer, daemon_on(tmp_path, stock, freeswitch_at(peer)) as (daemon, api):
        agent = await api.agent("hold", context="dialerd")
        rows = [{"phone_number": numbers.next("00")} for _ in range(16)]
        campaign = await api.campaign(agent, rows, concurrent_calls=16, max_retries=0)
        async with api.follow(campaign) as follower:
            await api.step(campaign, "start")
            await follower.until(lambda: follower.count("connected") == 16, DEADLINE, "all talk")
            await daemon.kill()
            placed = list(peer.calls.channels)
            lost, lived = set(placed[:8]), set(placed[8:])
            for call_id in lost:
                peer.calls.far_end_hangs_up(call_id)
            await daemon.start()
            for call_id in lived:
                peer.calls.far_end_hangs_up(call_id)
            await follower.settled(16, DEADLINE)
            check_told(follower.told, await api.contacts(campaign))
        calls = await api.calls(campaign)
        assert reached(peer) == {call["id"]: 1 for call in calls}
        outcomes = {call["id"]: call["outcome"] for call in calls}
        assert {outcomes[call] for call in lived} == {"answered"}
        assert {outcomes[call] for call in lost} == {"interrupted"}


async def test_a_campaign_on_two_pbxs_of_different_kinds_fails_over(lab: Lab, tmp_path: Path, stock: Stock) -> None:
    numbers = Numbers(223)
    async with (
        esl_peer(SystemClock()) as peer,
        daemon_on(tmp_path, stock, freeswitch_at(peer) | asterisk_at(lab)) as (daemon, api),
    ):
        for pbx in ("fs", "ast"):
            await daemon.logged("pbx_known", pbx=pbx)
        agent = await api.agent("hold")

        async def dial(expected: str) -> None:
            # One at a time: what one trunk cannot take at this moment goes to the next one.
            rows = [{"phone_number": numbers.next("01")} for _ in range(2)]
            campaign = await api.campaign(agent, rows, concurrent_calls=1, trunks=["fs-trunk", "ast-trunk"])
            async with api.follow(campaign) as follower:
                await api.step(campaign, "start")
                await follower.finished(DEADLINE)
            calls = await api.calls(campaign)
            assert {(call["pbx"], call["outcome"]) for call in calls} == {(expected, "answered")}
            assert len(calls) == len(rows)

        await dial("fs")
        peer.gateway_state("trunk", "DOWN", "Request%20Timeout")
        await daemon.logged("trunk_down", trunk="fs-trunk")
        await dial("ast")
        peer.gateway_state("trunk", "UP")
        await daemon.logged("trunk_up", trunk="fs-trunk")
        await dial("fs")
        await peer.kill()
        await daemon.logged("pbx_down", pbx="fs")
        await dial("ast")
        mark = len(daemon.log)
        await peer.boot()
        await daemon.logged("pbx_known", pbx="fs", after=mark)
        await dial("fs")
        assert set(reached(peer).values()) == {1}
