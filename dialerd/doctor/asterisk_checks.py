"""What is wrong with an Asterisk, from what it told. Pure: facts in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dialerd.config import PbxConfig, TrunkConfig
from dialerd.core.model import Agent, AgentKind
from dialerd.doctor.asterisk import AsteriskFacts, TrunkFacts
from dialerd.doctor.findings import Finding, error, note, ok, warning
from dialerd.pbx import wire

OLDEST = 16
"""The oldest version that dialerd's tests run against."""
_WRITE = "originate,call,reporting"
_READ = "call,system,user,agent"
_NEEDED = {"Originate": "originate", "Hangup": "call", "CoreShowChannels": "reporting"}
_TOO_MUCH = {"Command": "command", "UpdateConfig": "config", "ModuleLoad": "system"}
_CLOCK_SECONDS = 2.0
_WRITE_TIMEOUT_MS = 1000
_FILES_PER_CALL = 6
"""RTP and RTCP sockets, a timer and alert pipes of one SIP channel."""


def check(
    name: str, pbx: PbxConfig, trunks: Mapping[str, TrunkConfig], agents: tuple[Agent, ...], facts: AsteriskFacts
) -> Iterator[Finding]:
    """Tell all that is wrong with it. ``trunks`` and ``agents`` are those that use it."""
    at = f"{pbx.host}:{pbx.link_port}"
    if facts.unreachable is not None:
        yield error(
            f"pbx.{name}.link",
            facts.unreachable,
            f"dialerd.toml [pbx.{name}] host, port; "
            f"manager.conf [general] enabled = yes, bindaddr, port = {pbx.link_port}",
        )
        return
    yield ok(f"pbx.{name}.link", f"Asterisk answers at {at}")
    if facts.refused is not None:
        yield error(
            f"pbx.{name}.login",
            f"the login of {pbx.username} is refused: {facts.refused}",
            f"dialerd.toml [pbx.{name}] secret, which must be manager.conf [{pbx.username}] secret; "
            f"if it is, manager.conf [{pbx.username}] permit = the address of this machine",
        )
        return
    yield ok(f"pbx.{name}.login", f"logged in as {pbx.username}")
    yield from _rights(name, pbx, facts)
    yield from _core(name, pbx, facts)
    yield _results(name, facts.keeps_results)
    for trunk_name, trunk in trunks.items():
        yield _trunk(trunk_name, trunk, facts.trunks.get(trunk_name, TrunkFacts(None)))
    for agent in agents:
        yield _place(name, agent, facts.places.get(agent.id))


def _rights(name: str, pbx: PbxConfig, facts: AsteriskFacts) -> Iterator[Finding]:
    section = f"manager.conf [{pbx.username}]"
    missing = [right for action, right in _NEEDED.items() if action not in facts.actions]
    if missing:
        yield error(
            f"pbx.{name}.write",
            f"{pbx.username} may not write class {', '.join(missing)}: no call can be placed and followed",
            f"{section} write = {_WRITE}",
        )
    elif too_much := [right for action, right in _TOO_MUCH.items() if action in facts.actions]:
        yield warning(
            f"pbx.{name}.write",
            f"{pbx.username} may also write class {', '.join(too_much)}: who has its secret can run commands",
            f"{section} write = {_WRITE}",
        )
    else:
        yield ok(f"pbx.{name}.write", f"{pbx.username} may write what it needs, and no more")
    if not facts.fully_booted:
        yield error(
            f"pbx.{name}.read",
            f"no FullyBooted came: Asterisk still starts, or {pbx.username} may not read class system",
            f"{section} read = {_READ}",
        )
    elif facts.hears_outcomes is False:
        yield error(
            f"pbx.{name}.read",
            "no OriginateResponse came: calls would seem never to end",
            f"{section} read = {_READ}; its eventfilter must let OriginateResponse through",
        )
    elif facts.hears_outcomes is None:
        yield note(f"pbx.{name}.read", "whether outcomes are heard could not be tried: Originate is not allowed")
    else:
        yield ok(f"pbx.{name}.read", "events of classes system and call are heard")
    yield _write_timeout(name, section, facts.write_timeout)


def _write_timeout(name: str, section: str, told: int | None) -> Finding:
    check, mend = f"pbx.{name}.writetimeout", f"{section} writetimeout = 5000"
    if told is None:
        return note(check, "not visible to this user; the default of 100 ms is too little for a busy machine", mend)
    if told < _WRITE_TIMEOUT_MS:
        return warning(check, f"Asterisk drops a reader that is {told} ms behind", mend)
    return ok(check, f"Asterisk waits {told} ms for a reader that is behind")


def _core(name: str, pbx: PbxConfig, facts: AsteriskFacts) -> Iterator[Finding]:
    if not facts.core:
        yield note(f"pbx.{name}.version", "version and limits are not told to a user without class reporting")
        return
    yield _version(name, facts.core.get("asteriskversion", ""))
    yield _max_calls(name, pbx, _number(facts.core.get("coremaxcalls")))
    load = _number(facts.core.get("coremaxloadavg"))
    if load:
        yield warning(
            f"pbx.{name}.maxload",
            f"above a load of {load:g} Asterisk refuses calls",
            "asterisk.conf [options] maxload: take it out, and let dialerd's limits hold",
        )
    files = _number(facts.core.get("coremaxfilehandles"))
    if files and files < pbx.max_channels * _FILES_PER_CALL:
        yield warning(
            f"pbx.{name}.maxfiles",
            f"Asterisk may open {files:g} files; {pbx.max_channels} channels want {pbx.max_channels * _FILES_PER_CALL}",
            f"asterisk.conf [options] maxfiles = {pbx.max_channels * _FILES_PER_CALL}",
        )
    if facts.clock_ahead is not None and abs(facts.clock_ahead) > _CLOCK_SECONDS:
        yield warning(
            f"pbx.{name}.clock",
            f"its clock and ours are {abs(facts.clock_ahead):.0f} s apart: records of the two do not match",
            "set both by the same time server",
        )


def _results(name: str, keeps: bool | None) -> Finding:
    check = f"pbx.{name}.results"
    if keeps is None:
        return note(check, f"whether the dialplan has [{wire.RESULT_CONTEXT}] could not be asked")
    if not keeps:
        return warning(
            check,
            f"the dialplan has no [{wire.RESULT_CONTEXT}]: an answered call that ends while dialerd is away is told as "
            "interrupted, and its contact is called again",
            "extensions.conf #include extensions_dialerd.conf",
        )
    return ok(check, "the dialplan keeps what became of answered calls while dialerd is away")


def _version(name: str, told: str) -> Finding:
    check = f"pbx.{name}.version"
    major = re.match(r"\D*(\d+)", told)
    if major is None:
        return note(check, f"Asterisk {told or 'of unknown version'}")
    if int(major[1]) < OLDEST:
        return warning(check, f"Asterisk {told} is older than {OLDEST}, the oldest that is tested", "upgrade Asterisk")
    return ok(check, f"Asterisk {told}")


def _max_calls(name: str, pbx: PbxConfig, most: float | None) -> Finding:
    check = f"pbx.{name}.maxcalls"
    if not most:
        return ok(check, "Asterisk sets no limit of calls")
    if most < pbx.max_channels:
        return error(
            check,
            f"Asterisk takes {most:g} calls, and [pbx.{name}] max_channels says {pbx.max_channels}: the rest fails",
            f"asterisk.conf [options] maxcalls = {pbx.max_channels}, "
            f"or dialerd.toml [pbx.{name}] max_channels = {most:g}",
        )
    return ok(check, f"Asterisk takes {most:g} calls")


def _trunk(name: str, trunk: TrunkConfig, facts: TrunkFacts) -> Finding:
    check, mend = f"trunk.{name}", f"dialerd.toml [trunk.{name}] dial = {trunk.dial!r}"
    if facts.place is None:
        return note(check, f"where {trunk.dial} leads cannot be told")
    endpoint = facts.place.partition("/")[2]
    if facts.state == "INVALID":
        return error(
            check, f"Asterisk knows no {facts.place}", f"{mend}, or pjsip.conf [{endpoint}]" if endpoint else mend
        )
    if facts.state == "UNAVAILABLE":
        return error(
            check,
            f"{facts.place} is unavailable: its far end does not answer OPTIONS, or it has no contact",
            f"pjsip.conf [{endpoint}] type = aor, contact; see: asterisk -rx 'pjsip show endpoint {endpoint}'",
        )
    if facts.state is None:
        return note(check, f"the state of {facts.place} is not told to this user")
    if facts.redirect_method == "uri_pjsip":
        return warning(
            check,
            f"{facts.place} follows redirects anywhere, past dialerd's limits and do-not-call list",
            f"pjsip.conf [{endpoint}] redirect_method = user",
        )
    return ok(check, f"{facts.place} is {facts.state.lower().replace('_', ' ')}")


def _place(pbx: str, agent: Agent, known: bool | None) -> Finding:
    check = f"pbx.{pbx}.agent"
    whose = f"agent {agent.name!r} of tenant {agent.tenant}"
    if agent.kind is AgentKind.DIALPLAN:
        place = f"{agent.context},{agent.exten},{agent.priority}"
        mend = f"extensions.conf [{agent.context}] exten => {agent.exten},{agent.priority},…; or change the agent"
    elif agent.kind is AgentKind.QUEUE:
        place = f"queue {agent.queue}"
        mend = f"queues.conf [{agent.queue}]; or change the agent"
    else:
        return note(check, f"{whose}: whether there is an application {agent.application} cannot be asked over AMI")
    if known is None:
        return note(check, f"{whose}: {place} could not be asked for")
    if not known:
        return error(check, f"{whose}: Asterisk knows no {place}, so its answered calls would be hung up", mend)
    return ok(check, f"{whose}: {place} is there")


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
