"""What one FreeSWITCH tells, through the daemon's own driver: login, limits, gateways, and the places of agents."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from dialerd.clock import Clock
from dialerd.config import PbxConfig, TrunkConfig
from dialerd.core.model import Agent, AgentKind
from dialerd.doctor.findings import Finding, error, note, ok, warning
from dialerd.pbx.driver import Ceilings, LinkDown, LinkLost, LinkUp, PbxDriver, PbxEvent, Place, TrunkState
from dialerd.pbx.esl_link import EslLink, EslSettings
from dialerd.pbx.esl_places import Places
from dialerd.pbx.esl_session import TURNED_AWAY
from dialerd.pbx.esl_status import sessions_of_a_call
from dialerd.pbx.esl_thread import EslThread
from dialerd.pbx.linked import LoginRefused
from dialerd.pbx.wire import WireError

OLDEST = (1, 10)
_LINK_SECONDS = 15.0
_GATEWAY_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class FreeSwitchFacts:
    """Everything that was told."""

    down: str | None = None
    """Why there is no link."""
    refused: bool = False
    """FreeSWITCH answers, and denies the login."""
    up: LinkUp | None = None
    closed: str | None = None
    """Why it takes no new calls at present."""
    trunks: Mapping[str, TrunkState] = field(default_factory=dict)
    places: Mapping[int, str | None] = field(default_factory=dict)
    """By agent: why its place is refused; None: it is known. An agent that is missing could not be asked for."""


async def examine(driver: PbxDriver, trunks: Mapping[str, TrunkConfig]) -> FreeSwitchFacts:
    """Let the driver connect, and listen to what it tells. Nothing is dialled."""
    first: asyncio.Future[LinkUp | LinkDown] = asyncio.get_running_loop().create_future()
    told: dict[str, TrunkState] = {}
    closed: list[str | None] = [None]
    complete = asyncio.Event()
    # A trunk without a gateway is never told of.
    expected = {name for name, trunk in trunks.items() if trunk.dial.startswith("sofia/gateway/")}

    def hear(event: PbxEvent) -> None:
        if isinstance(event, LinkUp | LinkDown) and not first.done():
            first.set_result(event)
        elif isinstance(event, Ceilings):
            closed.append(event.closed)
        elif isinstance(event, TrunkState):
            told[event.trunk] = event
        if expected <= told.keys():
            complete.set()

    await driver.start(hear)
    try:
        async with asyncio.timeout(_LINK_SECONDS):
            link = await first
        if isinstance(link, LinkDown):
            return FreeSwitchFacts(down=link.reason, refused=link.refused)
        try:
            async with asyncio.timeout(_GATEWAY_SECONDS if expected else 0):
                await complete.wait()
        except TimeoutError:
            pass  # those that were not told of are notes
        return FreeSwitchFacts(up=link, closed=closed[-1], trunks=dict(told))
    except TimeoutError:
        return FreeSwitchFacts(down=driver.reason or f"no answer within {_LINK_SECONDS:g} s")
    finally:
        await driver.stop()


async def ask_places(settings: EslSettings, agents: tuple[Agent, ...], clock: Clock) -> dict[int, str | None]:
    """Ask for the context, the queue or the application of each agent, as the driver does before a call."""
    thread, places, found = EslThread("doctor"), Places(clock), dict[int, str | None]()
    thread.start()
    link: EslLink | None = None
    try:
        link = await EslLink.connect(thread, settings, lambda _: None)
        ask = partial(link.ask, deadline=settings.action_deadline)
        for agent in agents:
            found[agent.id] = await places.refusal(_place_of(agent), ask)
    except (LinkLost, LoginRefused, WireError, TimeoutError):
        pass  # those that were not asked for are missing, and said to be
    finally:
        if link is not None:
            link.drop("closed by us")
        await thread.stop()
    return found


def _place_of(agent: Agent) -> Place:
    if agent.kind is AgentKind.DIALPLAN:
        return Place(context=agent.context, exten=agent.exten, priority=agent.priority)
    if agent.kind is AgentKind.QUEUE:
        return Place(queue=agent.queue)
    return Place(application=agent.application)


def check(
    name: str,
    pbx: PbxConfig,
    trunks: Mapping[str, TrunkConfig],
    agents: tuple[Agent, ...],
    facts: FreeSwitchFacts,
) -> Iterator[Finding]:
    """Tell all that is wrong with it. Pure."""
    if facts.up is None:
        yield _down(name, pbx, facts)
        return
    yield ok(f"pbx.{name}.login", f"FreeSWITCH answers at {pbx.host}:{pbx.link_port}, logged in, and tells its events")
    yield _version(name, facts.up.version)
    if facts.closed is not None:
        yield error(
            f"pbx.{name}.ready",
            f"it takes no new calls: {facts.closed}",
            "fs_cli -x 'fsctl resume' ends a pause, 'fsctl resume outbound' one of outbound calls, "
            "'fsctl shutdown cancel' a shutdown that waits for its calls, 'fsctl sps 30' a rate that lets none through",
        )
    yield _sessions(name, pbx, trunks, agents, facts.up.max_channels)
    if facts.up.max_calls_per_second is not None or facts.closed is None:  # else none is let through: told above
        yield _rate(name, pbx, trunks, agents, facts.up.max_calls_per_second)
    for trunk_name, trunk in trunks.items():
        yield _trunk(trunk_name, trunk, facts.trunks.get(trunk_name))
    for agent in agents:
        yield _place(name, agent, facts)


def _sessions(
    name: str, pbx: PbxConfig, trunks: Mapping[str, TrunkConfig], agents: tuple[Agent, ...], most: int | None
) -> Finding:
    """Whether it has sessions for all our calls; ``most``: for how many calls, before anybody takes them."""
    check, ours = f"pbx.{name}.max_sessions", pbx.max_channels
    each, legs = _legs(trunks, agents)
    shown = "any number of sessions" if most is None else _shown(most, each)
    if most is None or most * each >= ours * legs:
        return ok(check, f"FreeSWITCH takes {shown}")
    param = f'switch.conf.xml <param name="max-sessions" value="{ours * legs}"/>'
    if most < ours:
        return error(
            check,
            f"FreeSWITCH takes {shown}, and [pbx.{name}] max_channels says {ours}",
            f"{param}, or dialerd.toml [pbx.{name}] max_channels = {most}",
        )
    return warning(
        check,
        f"FreeSWITCH takes {shown}; {ours} calls at once ([pbx.{name}] max_channels) may take {ours * legs} sessions",
        f"{param}, or a lower max_channels",
    )


def _rate(
    name: str, pbx: PbxConfig, trunks: Mapping[str, TrunkConfig], agents: tuple[Agent, ...], most: float | None
) -> Finding:
    """Whether it makes sessions as fast as we dial; ``most``: how many calls a second, before anybody takes them."""
    check, ours = f"pbx.{name}.sessions_per_second", pbx.max_calls_per_second
    each, legs = _legs(trunks, agents)
    shown = "any number of new sessions" if most is None else _shown(most, each).replace("sessions", "new sessions")
    if most is None or most * each >= ours * legs:
        return ok(check, f"FreeSWITCH takes {shown} a second")
    # It refuses the last of them.
    param = f'switch.conf.xml <param name="sessions-per-second" value="{math.ceil(ours * legs) + 1}"/>'
    if most < ours:
        return error(
            check,
            f"FreeSWITCH takes {shown} a second, and [pbx.{name}] max_calls_per_second says {ours:g}",
            f"{param}, or dialerd.toml [pbx.{name}] max_calls_per_second = {math.floor(most * 100) / 100:g}",
        )
    return warning(
        check,
        f"FreeSWITCH takes {shown} a second; "
        f"{ours:g} calls ([pbx.{name}] max_calls_per_second) may take {ours * legs:g}",
        f"{param}, or a lower max_calls_per_second",
    )


def _legs(trunks: Mapping[str, TrunkConfig], agents: tuple[Agent, ...]) -> tuple[int, int]:
    """The sessions that each of our calls takes at least, and those that one may take: a queue adds its member's."""
    dials = [trunk.dial for trunk in trunks.values()]
    most = max((sessions_of_a_call([dial]) for dial in dials), default=1)
    return sessions_of_a_call(dials), most + any(agent.kind is AgentKind.QUEUE for agent in agents)


def _shown(most: float, each: int) -> str:
    return f"{most:g} sessions" if each == 1 else f"{most:.3g} calls of {each} sessions"


def _version(name: str, told: str) -> Finding:
    check, found = f"pbx.{name}.version", re.match(r"(\d+)\.(\d+)", told)
    if found is None:
        return note(check, f"FreeSWITCH of the unknown version {told!r}")
    if (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return warning(
            check, f"FreeSWITCH {told} is older than {oldest}, the oldest that was tried", "upgrade FreeSWITCH"
        )
    return ok(check, f"FreeSWITCH {told}")


def _down(name: str, pbx: PbxConfig, facts: FreeSwitchFacts) -> Finding:
    reason = facts.down or "no link"
    if reason.startswith(TURNED_AWAY):
        return error(
            f"pbx.{name}.login",
            reason,
            "event_socket.conf.xml apply-inbound-acl names a list of acl.conf.xml: it must allow this machine's "
            "address; then fs_cli -x reloadacl, from a machine that it lets in, or restart FreeSWITCH",
        )
    if facts.refused:
        return error(
            f"pbx.{name}.login",
            f"the login is refused: {reason}",
            f"dialerd.toml [pbx.{name}] secret, which must be event_socket.conf.xml password",
        )
    return error(
        f"pbx.{name}.link",
        reason,
        f"dialerd.toml [pbx.{name}] host, port; event_socket.conf.xml listen-ip, listen-port = {pbx.link_port}",
    )


def _trunk(name: str, trunk: TrunkConfig, state: TrunkState | None) -> Finding:
    if state is None:
        return note(f"trunk.{name}", f"{trunk.dial} names no gateway whose state FreeSWITCH tells")
    if not state.up:
        return error(
            f"trunk.{name}",
            state.reason,
            f"dialerd.toml [trunk.{name}] dial = {trunk.dial!r}, or that gateway in FreeSWITCH's sip_profiles",
        )
    return ok(f"trunk.{name}", state.reason)


def _place(name: str, agent: Agent, facts: FreeSwitchFacts) -> Finding:
    check, whose = f"pbx.{name}.agent", f"agent {agent.name!r} of tenant {agent.tenant}"
    if agent.id not in facts.places:
        return note(check, f"{whose}: its place could not be asked for")
    if (refusal := facts.places[agent.id]) is not None:
        mend = {
            AgentKind.DIALPLAN: f'dialplan/*.xml <context name="{agent.context}">',
            AgentKind.QUEUE: f'modules.conf.xml mod_callcenter, and callcenter.conf.xml <queue name="{agent.queue}">',
            AgentKind.APPLICATION: "the module of that application in modules.conf.xml",
        }[agent.kind]
        return error(check, f"{whose}: {refusal}, so its calls are refused", f"{mend}; or change the agent")
    there = {AgentKind.DIALPLAN: "context", AgentKind.QUEUE: "queue", AgentKind.APPLICATION: "application"}[agent.kind]
    return ok(check, f"{whose}: the {there} is there")
