"""What a daemon says of itself holds no secret and no whole phone number: its log at its loudest, errors, metrics."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.ami_calls import AmiCallsAtPlay
from tests.fakes.ami_peer import AmiPeer, ami_peer, error
from tests.integration.client import Api
from tests.integration.daemon import TENANT, Daemon, Stock, toml

AMI_SECRET = "the-manager's-password-5871"
NUMBERS = [f"+1202500{index:04d}" for index in range(12)]
DIGITS = [number.lstrip("+") for number in NUMBERS]
GUESS = "dk_0000000000000_a-guess-that-is-none"


def configuration(store: Path, port: int, *, ami: int, full_numbers: bool) -> str:
    limits = {"max_calls_per_second": 50.0, "max_channels": 50}
    return toml(
        {
            "server": {"listen": f"127.0.0.1:{port}"},
            "store": {"url": f"sqlite:///{store}"},
            "logging": {"level": "debug", "full_numbers": full_numbers},
            "dispatch": {"drain_seconds": 0.0},
            "webhooks": {"allow_private": ["127.0.0.0/8"]},
            "pbx.main": {
                "driver": "asterisk",
                "host": "127.0.0.1",
                "port": ami,
                "username": "dialerd",
                "secret": AMI_SECRET,
                **limits,
            },
            "trunk.out": {"pbx": "main", "dial": "Local/{number}@out", **limits},
            f"tenant.{TENANT}": {"max_calls_per_second": 50.0, "max_concurrent_calls": 50, "trunks": ["out"]},
            f"tenant.{TENANT}.settings": {"calling_hours_start": "00:00", "calling_hours_end": "00:00"},
        }
    )


async def a_day(daemon: Daemon, api: Api, peer: AmiPeer) -> tuple[list[str], list[str]]:
    """Let happen what happens in a day, mishaps too; returns secrets that were made, and what was answered."""
    hook = await api.ask("POST", "/webhooks", json={"url": "https://127.0.0.1:1/hook", "events": []})
    await api.ask("POST", "/dnc", json={"phone_number": NUMBERS[0]})
    rows = [{"phone_number": number, "first_name": "Ann"} for number in NUMBERS[1:]]
    campaign = await api.campaign(await api.agent("answered"), rows, concurrent_calls=1)
    bad = [{"phone_number": number} for number in (NUMBERS[3], NUMBERS[0], NUMBERS[2] + "00000000")]
    url = f"{daemon.url}/api/v1/campaigns/{campaign}/contacts"
    async with api.session.post(url, json={"contacts": bad}) as answer:
        assert answer.status in (200, 201, 400)
    await api.step(campaign, "start")
    await daemon.logged("call_ended")
    # A login that is refused, an order that is refused, a link that ends in the middle, words that make no sense.
    peer.answers["Originate"] = lambda action: error(action, f"no channel for {action.get('Channel', '')}")
    await daemon.logged("originate_refused")
    peer.answers["Login"] = lambda action: error(action, "Authentication failed")
    peer.send(b"Event: Hangup\r\nno header\r\n" + b"x" * 10)
    peer.cut()
    await daemon.logged("pbx_down", refused=True)
    said = []
    for path, headers in (
        ("/api/v1/campaigns", {"Authorization": f"Bearer {GUESS}"}),
        ("/api/v1/campaigns", {"Authorization": f"Basic {GUESS}"}),
        (f"/api/v1/campaigns?api_key={daemon.key}", {}),
        (f"/api/v1/dnc/{NUMBERS[1]}", {}),
        (f"/api/v1/{daemon.key}", {"Authorization": f"Bearer {daemon.key}"}),
        ("/readyz", {}),
        ("/metrics", {}),
    ):
        async with aiohttp.ClientSession() as session, session.get(daemon.url + path, headers=headers) as answer:
            said.append(f"{answer.headers} {await answer.text()}")
    config = daemon._folder / "dialerd.toml"
    config.write_text(config.read_text() + f'\n[pbx.other]\nsecret = "{AMI_SECRET}"\nwrong = true\n')
    os.kill(daemon.pid, signal.SIGHUP)
    await daemon.logged("config_not_reloaded")
    return [str(hook["secret"])], said


@pytest.mark.slow
@pytest.mark.parametrize("full_numbers", [False, True])
async def test_no_secret_and_no_number(tmp_path: Path, stock: Stock, full_numbers: bool) -> None:
    async with ami_peer() as peer:
        AmiCallsAtPlay(peer)
        daemon = Daemon(
            tmp_path, stock, lambda store, port: configuration(store, port, ami=peer.port, full_numbers=full_numbers)
        )
        api = Api(daemon)
        try:
            await daemon.start()
            async with asyncio.timeout(60):
                made, said = await a_day(daemon, api, peer)
        finally:
            await api.close()
            await daemon.stop()
    log = "\n".join(daemon._lines)
    assert len(daemon.log) > 30
    # What is drawn at random may hold an underscore itself.
    secrets = [AMI_SECRET, *(key.split("_", 2)[2] for key in (daemon.key, GUESS)), *made]
    for secret in secrets:
        assert secret not in log
        assert not [each for each in said if secret in each]
    assert ("whsec_" in log) is False
    whole = re.compile("|".join(DIGITS))
    assert (whole.search(log) is not None) is full_numbers, "numbers are masked unless they were asked for"
    assert not [each for each in said[-2:] if whole.search(each)], "and never in metrics"
