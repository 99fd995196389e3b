"""What one Asterisk tells over AMI, asked with the very user that the daemon logs in as. Nothing is dialled.

Everything is asked with the rights that the daemon itself needs: dialplan functions through Getvar (class call or
reporting), CoreSettings and ListCommands. That an Originate's outcome is heard is tried with a technology that no
Asterisk has, so that no channel is made (AMI, Originate: the outcome comes as OriginateResponse all the same).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dialerd.clock import Clock
from dialerd.config import PbxConfig, TrunkConfig
from dialerd.core.model import Agent, AgentKind
from dialerd.pbx import wire
from dialerd.pbx.ami_link import TAG_BYTES, AmiLink
from dialerd.pbx.ami_stream import MAX_MESSAGE_BYTES, AmiMessage
from dialerd.pbx.ami_trunks import device_of
from dialerd.pbx.driver import LinkLost

_CONNECT_SECONDS = 5.0
_EVENT_SECONDS = 5.0
_NOWHERE = "DialerdDoctor/none"
"""A channel of a technology that no Asterisk has."""
_PROBE = "doctor:originate"
_PLAIN = re.compile(r"[A-Za-z0-9_./*#+-]{1,79}")
_LOCAL = re.compile(r"Local/[^@]*@(?P<context>[A-Za-z0-9_-]+)")
_WRITE_TIMEOUT = re.compile(r"writetimeout\s*=>?\s*(\d+)")


@dataclass(frozen=True, slots=True)
class TrunkFacts:
    """A trunk as its PBX sees it."""

    place: str | None
    """The endpoint (``PJSIP/carrier-a``) or context (``Local`` channels) that its dial string names, if it does."""
    state: str | None = None
    """The endpoint's device state; for a context EXISTS or INVALID; None: could not be asked."""
    redirect_method: str | None = None


@dataclass(frozen=True, slots=True)
class AsteriskFacts:
    """Everything that was told. What could not be asked has its default."""

    unreachable: str | None = None
    """Why there is no AMI connection."""
    refused: str | None = None
    """What the login was answered."""
    fully_booted: bool = False
    """FullyBooted came: the PBX is ready, and the user may read class system."""
    actions: frozenset[str] = frozenset()
    """What the user may do."""
    core: Mapping[str, str] = field(default_factory=dict)
    """CoreSettings, by names in lower case."""
    clock_ahead: float | None = None
    """Seconds that the PBX's clock is ahead of ours."""
    hears_outcomes: bool | None = None
    """The OriginateResponse of our probe came; None: not tried."""
    trunks: Mapping[str, TrunkFacts] = field(default_factory=dict)
    places: Mapping[int, bool | None] = field(default_factory=dict)
    """By agent: whether the PBX knows its place; None: cannot be asked."""
    keeps_results: bool | None = None
    """Its dialplan has the context that keeps what became of answered calls; None: could not be asked."""
    write_timeout: int | None = None
    """Milliseconds; None: not visible to this user."""


class _Talk:
    """One AMI session, and the events that it was told."""

    def __init__(self, deadline: float, tag: str) -> None:
        self._deadline = deadline
        self._tag = tag
        self._link: AmiLink | None = None
        self.booted = asyncio.Event()
        self.told = asyncio.Event()

    async def open(self, pbx: PbxConfig) -> AmiMessage:
        """Connect and log in; returns the login's answer. Raises LinkLost."""
        self._link = await AmiLink.connect(
            pbx.host, pbx.link_port, self._hear, MAX_MESSAGE_BYTES, _CONNECT_SECONDS, self._tag
        )
        return await self.ask(
            ("Action", "Login"), ("Username", pbx.username or ""), ("Secret", pbx.plain_secret), ("Events", "on")
        )

    async def ask(self, *headers: tuple[str, str]) -> AmiMessage:
        """Send an action and wait for its answer. Raises LinkLost."""
        assert self._link is not None
        try:
            return await self._link.ask(list(headers), self._deadline)
        except TimeoutError:
            raise LinkLost(f"no answer to {headers[0][1]} within {self._deadline:g} s") from None

    async def value(self, function: str) -> str | None:
        """Evaluate a dialplan function; None where the user may not. Raises LinkLost."""
        answer = await self.ask(("Action", "Getvar"), ("Variable", function))
        return answer.get("value") if answer.response == "Success" else None

    def close(self) -> None:
        """Leave; harmless when repeated."""
        if self._link is not None:
            self._link.drop("closed by us")

    def _hear(self, message: AmiMessage) -> None:
        if message.event == "FullyBooted":
            self.booted.set()
        elif message.event == "OriginateResponse" and message.action_id == _PROBE:
            self.told.set()


async def examine(
    pbx: PbxConfig, trunks: Mapping[str, TrunkConfig], agents: tuple[Agent, ...], clock: Clock
) -> AsteriskFacts:
    """Talk to one Asterisk. ``trunks`` and ``agents`` are those that use it. Raises nothing: what fails is a fact."""
    talk = _Talk(pbx.action_deadline_seconds, clock.token(TAG_BYTES))
    try:
        answer = await talk.open(pbx)
        if answer.response != "Success":
            return AsteriskFacts(refused=answer.get("message") or answer.response)
        return await _look(talk, trunks, agents, clock)
    except (LinkLost, wire.WireError) as failure:
        return AsteriskFacts(unreachable=str(failure))
    finally:
        talk.close()


async def _look(
    talk: _Talk, trunks: Mapping[str, TrunkConfig], agents: tuple[Agent, ...], clock: Clock
) -> AsteriskFacts:
    booted = await _came(talk.booted)
    commands = await talk.ask(("Action", "ListCommands"))
    actions = frozenset(name for name, _ in commands.headers) - {"Response", "ActionID"}
    core = await talk.ask(("Action", "CoreSettings"))
    ping = (await talk.ask(("Action", "Ping"))).get("timestamp")
    return AsteriskFacts(
        fully_booted=booted,
        actions=actions,
        core={name.lower(): value for name, value in core.headers} if core.response == "Success" else {},
        clock_ahead=float(ping) - clock.wall().timestamp() if re.fullmatch(r"\d+(\.\d+)?", ping) else None,
        hears_outcomes=await _hears_outcomes(talk) if "Originate" in actions else None,
        trunks={name: await _trunk(talk, trunk.dial) for name, trunk in trunks.items()},
        places={agent.id: await _knows(talk, agent) for agent in agents},
        keeps_results=await _exists(talk, "DIALPLAN_EXISTS", wire.RESULT_CONTEXT, "s", "1"),
        write_timeout=await _write_timeout(talk, actions),
    )


async def _came(event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(_EVENT_SECONDS):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _hears_outcomes(talk: _Talk) -> bool | None:
    answer = await talk.ask(
        ("Action", "Originate"),
        ("ActionID", _PROBE),
        ("Channel", _NOWHERE),
        ("Application", "Hangup"),
        ("Async", "true"),
    )
    return await _came(talk.told) if answer.response == "Success" else None


async def _trunk(talk: _Talk, dial: str) -> TrunkFacts:
    if (local := _LOCAL.match(dial)) is not None:
        known = await talk.value(f"DIALPLAN_EXISTS({local['context']})")
        state = {"1": "EXISTS", "0": "INVALID"}.get(known or "")
        return TrunkFacts(f"context {local['context']}", state)
    device = device_of(dial)
    if device is None or not _PLAIN.fullmatch(device):
        return TrunkFacts(None)
    technology, _, name = device.partition("/")
    state = await talk.value(f"DEVICE_STATE({device})")
    redirect = await talk.value(f"PJSIP_ENDPOINT({name},redirect_method)") if technology == "PJSIP" else None
    return TrunkFacts(device, state, redirect)


async def _knows(talk: _Talk, agent: Agent) -> bool | None:
    if agent.kind is AgentKind.DIALPLAN:
        return await _exists(talk, "DIALPLAN_EXISTS", agent.context or "", agent.exten or "", str(agent.priority))
    if agent.kind is AgentKind.QUEUE:
        return await _exists(talk, "QUEUE_EXISTS", agent.queue or "")
    return None


async def _exists(talk: _Talk, function: str, *parts: str) -> bool | None:
    if not all(_PLAIN.fullmatch(part) for part in parts):
        return None
    return {"1": True, "0": False}.get(await talk.value(f"{function}({','.join(parts)})") or "")


async def _write_timeout(talk: _Talk, actions: frozenset[str]) -> int | None:
    """Read the configuration where the user may, which it should not; the values of all users, the least counts."""
    if "GetConfig" not in actions:
        return None
    answer = await talk.ask(("Action", "GetConfig"), ("Filename", "manager.conf"))
    found = [int(match[1]) for _, value in answer.headers if (match := _WRITE_TIMEOUT.fullmatch(value.strip()))]
    return min(found, default=None)
