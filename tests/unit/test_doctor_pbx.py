"""The doctor at a PBX: what it asks, what it finds in what was told, and the line that mends it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from dialerd.clock import SystemClock
from dialerd.config import PbxConfig, TrunkConfig
from dialerd.core.model import Agent, AgentKind
from dialerd.doctor import asterisk, asterisk_checks, freeswitch
from dialerd.doctor.asterisk import AsteriskFacts, TrunkFacts
from dialerd.doctor.findings import Finding, Level
from dialerd.pbx.driver import LinkUp, TrunkState
from dialerd.pbx.esl_session import TURNED_AWAY
from dialerd.pbx.freeswitch import FreeSwitchDriver
from tests.fakes.ami_peer import ami_peer, message, success
from tests.fakes.ami_peer import error as refusing
from tests.fakes.esl_peer import esl_peer
from tests.support.freeswitch_bench import QUICK

pytestmark = pytest.mark.usefixtures("restored_logs")

PBX = PbxConfig.model_validate(
    {
        "driver": "asterisk",
        "username": "dialerd",
        "secret": "open sesame",
        "max_calls_per_second": 10.0,
        "max_channels": 100,
        "action_deadline_seconds": 2.0,
    }
)
TRUNKS = {
    "a": TrunkConfig.model_validate(
        {"pbx": "main", "dial": "PJSIP/{number}@carrier", "max_calls_per_second": 1.0, "max_channels": 5}
    )
}
DESK = Agent(7, "one", "desk", AgentKind.DIALPLAN, context="dialerd", exten="answered")
QUEUE = Agent(8, "one", "sales", AgentKind.QUEUE, queue="sales")
PLAYER = Agent(9, "one", "player", AgentKind.APPLICATION, application="Playback")
WELL = AsteriskFacts(
    fully_booted=True,
    actions=frozenset({"Originate", "Hangup", "CoreShowChannels", "CoreSettings"}),
    core={"asteriskversion": "22.10.1", "coremaxcalls": "0", "coremaxloadavg": "0.000000", "coremaxfilehandles": "0"},
    clock_ahead=0.1,
    hears_outcomes=True,
    trunks={"a": TrunkFacts("PJSIP/carrier", "NOT_INUSE", "user")},
    places={7: True, 8: True, 9: None},
    keeps_results=True,
    write_timeout=5000,
)


def checked(facts: AsteriskFacts, *agents: Agent) -> dict[str, Finding]:
    """What is found, by check."""
    return {each.check: each for each in asterisk_checks.check("main", PBX, TRUNKS, agents, facts)}


def test_nothing_is_said_against_what_is_well() -> None:
    found = checked(WELL, DESK)
    assert {each.level for each in found.values()} == {Level.OK}
    assert set(found) == {
        *("pbx.main.link", "pbx.main.login", "pbx.main.write", "pbx.main.read", "pbx.main.writetimeout"),
        *("pbx.main.version", "pbx.main.maxcalls", "pbx.main.results", "trunk.a", "pbx.main.agent"),
    }


@pytest.mark.parametrize(
    ("facts", "check", "level", "mend"),
    [
        (AsteriskFacts(unreachable="no connection"), "link", "error", "manager.conf [general] enabled = yes"),
        (AsteriskFacts(refused="Authentication failed"), "login", "error", "dialerd.toml [pbx.main] secret"),
        (replace(WELL, actions=WELL.actions - {"Hangup"}), "write", "error", "write = originate,call,reporting"),
        (replace(WELL, actions=WELL.actions | {"Command"}), "write", "warning", "write = originate,call,reporting"),
        (replace(WELL, fully_booted=False), "read", "error", "read = call,system,user,agent"),
        (replace(WELL, hears_outcomes=False), "read", "error", "eventfilter must let OriginateResponse through"),
        (replace(WELL, hears_outcomes=None), "read", "note", None),
        (replace(WELL, write_timeout=100), "writetimeout", "warning", "[dialerd] writetimeout = 5000"),
        (replace(WELL, write_timeout=None), "writetimeout", "note", "[dialerd] writetimeout = 5000"),
        (replace(WELL, core={}), "version", "note", None),
        (replace(WELL, core={"asteriskversion": "13.2"}), "version", "warning", "upgrade"),
        (replace(WELL, core={"asteriskversion": "GIT-master"}), "version", "note", None),
        (replace(WELL, core={"coremaxcalls": "99"}), "maxcalls", "error", "asterisk.conf [options] maxcalls = 100"),
        (replace(WELL, core={"coremaxcalls": "100"}), "maxcalls", "ok", None),
        (replace(WELL, core={"coremaxcalls": "many"}), "maxcalls", "ok", None),
        (replace(WELL, core={"coremaxloadavg": "0.9"}), "maxload", "warning", "asterisk.conf [options] maxload"),
        (replace(WELL, core={"coremaxfilehandles": "599"}), "maxfiles", "warning", "maxfiles = 600"),
        (replace(WELL, clock_ahead=-31.0), "clock", "warning", "the same time server"),
        (replace(WELL, keeps_results=False), "results", "warning", "#include extensions_dialerd.conf"),
        (replace(WELL, keeps_results=None), "results", "note", None),
    ],
)
def test_each_fault_of_an_asterisk_has_its_mend(facts: AsteriskFacts, check: str, level: str, mend: str | None) -> None:
    found = checked(facts)[f"pbx.main.{check}"]
    assert found.level == level
    assert (found.mend is None) if mend is None else (mend in (found.mend or ""))


@pytest.mark.parametrize(
    ("facts", "level", "mend"),
    [
        (
            TrunkFacts("PJSIP/carrier", "INVALID"),
            "error",
            "dialerd.toml [trunk.a] dial = 'PJSIP/{number}@carrier', or pjsip",
        ),
        (TrunkFacts("context out", "INVALID"), "error", "dialerd.toml [trunk.a] dial"),
        (TrunkFacts("PJSIP/carrier", "UNAVAILABLE"), "error", "pjsip.conf [carrier] type = aor"),
        (TrunkFacts("PJSIP/carrier", "INUSE", "uri_pjsip"), "warning", "pjsip.conf [carrier] redirect_method = user"),
        (TrunkFacts("PJSIP/carrier"), "note", None),
        (TrunkFacts(None), "note", None),
        (TrunkFacts("context out", "EXISTS"), "ok", None),
    ],
)
def test_each_fault_of_a_trunk_has_its_mend(facts: TrunkFacts, level: str, mend: str | None) -> None:
    found = checked(replace(WELL, trunks={"a": facts}))["trunk.a"]
    assert found.level == level
    assert (found.mend is None) if mend is None else (mend in (found.mend or ""))


@pytest.mark.parametrize(
    ("agent", "known", "level", "mend"),
    [
        (DESK, False, "error", "extensions.conf [dialerd] exten => answered,1"),
        (DESK, None, "note", None),
        (QUEUE, True, "ok", None),
        (QUEUE, False, "error", "queues.conf [sales]"),
        (PLAYER, None, "note", None),
    ],
)
def test_each_agents_place_is_looked_at(agent: Agent, known: bool | None, level: str, mend: str | None) -> None:
    found = checked(replace(WELL, places={agent.id: known}), agent)["pbx.main.agent"]
    assert found.level == level
    assert repr(agent.name) in found.message
    assert (found.mend is None) if mend is None else (mend in (found.mend or ""))


# Talking to a manager.


async def test_what_is_asked_dials_nobody_and_is_asked_once() -> None:
    async with ami_peer() as peer:
        values = {"DEVICE_STATE(PJSIP/carrier)": "NOT_INUSE", "DIALPLAN_EXISTS(dialerd,answered,1)": "1"}
        values["QUEUE_EXISTS(sales)"] = "0"
        peer.answers |= {
            "ListCommands": lambda action: success(action, "Originate: x", "Hangup: y", "CoreShowChannels: z"),
            "Getvar": lambda action: success(action, f"Value: {values.get(action['Variable'], '')}"),
            "Ping": lambda action: success(action, f"Timestamp: {SystemClock().wall().timestamp() + 60}"),
            "Originate": lambda action: (
                success(action)
                + message("Event: OriginateResponse", "Response: Failure", f"ActionID: {action['ActionID']}")
            ),
        }
        facts = await asterisk.examine(
            PBX.model_copy(update={"port": peer.port}), TRUNKS, (DESK, QUEUE, PLAYER), SystemClock()
        )
        asked = Counter(action["Action"] for action in peer.actions)
        (probe,) = [action for action in peer.actions if action["Action"] == "Originate"]
    assert asked == {
        "Login": 1,
        "ListCommands": 1,
        "CoreSettings": 1,
        "Ping": 1,
        "Originate": 1,
        "Getvar": 5,
    }
    assert (probe["Channel"], probe.get("Context")) == ("DialerdDoctor/none", None)
    assert facts.fully_booted
    assert facts.hears_outcomes is True
    assert facts.core["asteriskversion"] == "22.10.0"
    assert facts.trunks == {"a": TrunkFacts("PJSIP/carrier", "NOT_INUSE", "")}
    assert facts.places == {7: True, 8: False, 9: None}
    assert facts.clock_ahead is not None
    assert 55 < facts.clock_ahead < 65


async def test_a_user_who_may_configure_has_its_writetimeout_read() -> None:
    async with ami_peer() as peer:
        peer.answers |= {
            "ListCommands": lambda action: success(action, "GetConfig: x"),
            "Getvar": lambda action: refusing(action, "Permission denied"),
            "GetConfig": lambda action: success(action, "Line-000000-000001: writetimeout=250"),
        }
        facts = await asterisk.examine(PBX.model_copy(update={"port": peer.port}), TRUNKS, (DESK,), SystemClock())
    assert facts.write_timeout == 250
    assert facts.trunks == {"a": TrunkFacts("PJSIP/carrier", None, None)}
    assert facts.places == {7: None}


async def test_a_refused_login_and_a_manager_that_is_gone_are_facts() -> None:
    async with ami_peer() as peer:
        peer.answers["Login"] = lambda action: refusing(action, "Authentication failed")
        pbx = PBX.model_copy(update={"port": peer.port})
        assert (await asterisk.examine(pbx, {}, (), SystemClock())).refused == "Authentication failed"
        assert "open sesame" not in str(checked(AsteriskFacts(refused="Authentication failed")))
    facts = await asterisk.examine(pbx, {}, (), SystemClock())
    assert facts.unreachable is not None
    assert "no connection" in facts.unreachable


# FreeSWITCH.


FS = PBX.model_copy(update={"driver": "freeswitch", "username": None})
GATEWAY = {"g": TRUNKS["a"].model_copy(update={"dial": "sofia/gateway/carrier/{number}"})}


@pytest.mark.parametrize(
    ("facts", "check", "level", "mend"),
    [
        (
            freeswitch.FreeSwitchFacts(down="refused", refused=True),
            "pbx.fs.login",
            "error",
            "event_socket.conf.xml password",
        ),
        (
            freeswitch.FreeSwitchFacts(down=f"{TURNED_AWAY}: Access Denied, go away.", refused=True),
            "pbx.fs.login",
            "error",
            "apply-inbound-acl names a list of acl.conf.xml",
        ),
        (
            freeswitch.FreeSwitchFacts(up=LinkUp("1.10"), closed="FreeSWITCH is paused for outbound calls"),
            "pbx.fs.ready",
            "error",
            "fsctl resume outbound",
        ),
        (freeswitch.FreeSwitchFacts(down="gone"), "pbx.fs.link", "error", "listen-port = 8021"),
        (freeswitch.FreeSwitchFacts(up=LinkUp("1.10")), "pbx.fs.login", "ok", None),
        (freeswitch.FreeSwitchFacts(up=LinkUp("1.10.12")), "pbx.fs.version", "ok", None),
        (freeswitch.FreeSwitchFacts(up=LinkUp("1.8.7")), "pbx.fs.version", "warning", "upgrade"),
        (freeswitch.FreeSwitchFacts(up=LinkUp("git")), "pbx.fs.version", "note", None),
        (
            freeswitch.FreeSwitchFacts(up=LinkUp("1.10", 99)),
            "pbx.fs.max_sessions",
            "error",
            'name="max-sessions" value="100"',
        ),
        (freeswitch.FreeSwitchFacts(up=LinkUp("1.10", 100)), "pbx.fs.max_sessions", "ok", None),
        (
            freeswitch.FreeSwitchFacts(up=LinkUp("1.10", None, 9.0)),
            "pbx.fs.sessions_per_second",
            "error",
            'name="sessions-per-second" value="11"',
        ),
        (freeswitch.FreeSwitchFacts(up=LinkUp("1.10")), "trunk.g", "note", None),
        (freeswitch.FreeSwitchFacts(up=LinkUp("1.10")), "pbx.fs.agent", "note", None),
        (freeswitch.FreeSwitchFacts(up=LinkUp("1.10"), places={7: None}), "pbx.fs.agent", "ok", None),
        (
            freeswitch.FreeSwitchFacts(up=LinkUp("1.10"), places={7: "no"}),
            "pbx.fs.agent",
            "error",
            'context name="dialerd"',
        ),
        (
            freeswitch.FreeSwitchFacts(
                up=LinkUp("1.10"), trunks={"g": TrunkState("g", False, "gateway carrier is DOWN")}
            ),
            "trunk.g",
            "error",
            "dialerd.toml [trunk.g] dial = 'sofia/gateway/carrier/{number}'",
        ),
        (
            freeswitch.FreeSwitchFacts(up=LinkUp("1.10"), trunks={"g": TrunkState("g", True, "gateway carrier is UP")}),
            "trunk.g",
            "ok",
            None,
        ),
    ],
)
def test_each_fault_of_a_freeswitch_has_its_mend(
    facts: freeswitch.FreeSwitchFacts, check: str, level: str, mend: str | None
) -> None:
    found = {each.check: each for each in freeswitch.check("fs", FS, GATEWAY, (DESK,), facts)}[check]
    assert found.level == level
    assert (found.mend is None) if mend is None else (mend in (found.mend or ""))


@pytest.mark.parametrize(
    ("dial", "agent", "most", "level"),
    [
        ("sofia/gateway/carrier/{number}", DESK, 100, "ok"),
        ("sofia/gateway/carrier/{number}", QUEUE, 199, "warning"),
        ("sofia/gateway/carrier/{number}", QUEUE, 200, "ok"),
        # Through loopback/ the driver tells calls of three sessions.
        ("loopback/{number}/dialerd-out", DESK, 99, "error"),
        ("loopback/{number}/dialerd-out", DESK, 100, "ok"),
        ("loopback/{number}/dialerd-out", QUEUE, 133, "warning"),
        ("loopback/{number}/dialerd-out", QUEUE, 134, "ok"),
    ],
)
def test_sessions_must_be_enough_for_all_legs_of_the_calls(dial: str, agent: Agent, most: int, level: str) -> None:
    """100 calls at once, and 10 a second: ten times as many of the one as of the other."""
    trunks = {"g": TRUNKS["a"].model_copy(update={"dial": dial})}
    facts = freeswitch.FreeSwitchFacts(up=LinkUp("1.10", most, most / 10))
    found = {each.check: each for each in freeswitch.check("fs", FS, trunks, (agent,), facts)}
    assert found["pbx.fs.max_sessions"].level == level
    assert found["pbx.fs.sessions_per_second"].level == level


def test_one_trunk_of_several_through_loopback_is_warned_of_by_its_legs() -> None:
    dials = {"g": "sofia/gateway/carrier/{number}", "l": "loopback/{number}/dialerd-out"}
    trunks = {name: TRUNKS["a"].model_copy(update={"dial": dial}) for name, dial in dials.items()}
    for most, level in ((299, "warning"), (300, "ok")):
        facts = freeswitch.FreeSwitchFacts(up=LinkUp("1.10", most))
        found = {each.check: each for each in freeswitch.check("fs", FS, trunks, (DESK,), facts)}
        assert found["pbx.fs.max_sessions"].level == level


async def test_a_freeswitch_is_asked_through_the_daemons_own_driver() -> None:
    clock = SystemClock()
    trunks = {"g": TRUNKS["a"].model_copy(update={"dial": "sofia/gateway/trunk/{number}"})}
    async with esl_peer(clock) as peer:
        settings = replace(QUICK, port=peer.port)
        dials = {name: trunk.dial for name, trunk in trunks.items()}
        facts = await freeswitch.examine(FreeSwitchDriver("fs", settings, clock, dials), trunks)
        asked = (
            DESK,
            replace(DESK, id=70, context="dialler"),
            replace(QUEUE, queue="sales@default"),
            replace(QUEUE, id=80, queue="sale@default"),
            PLAYER,
            replace(PLAYER, id=90, application="Mooh"),
        )
        facts = replace(facts, places=await freeswitch.ask_places(settings, asked, clock))
        assert not peer.orders(), "nothing may be dialled"
        peer.checks.add("pause_check outbound")
        paused = await freeswitch.examine(FreeSwitchDriver("fs", settings, clock, dials), trunks)
        assert (paused.closed, facts.closed) == ("FreeSWITCH is paused for outbound calls", None)
        assert paused.trunks == facts.trunks, "the rest is told all the same"
        refused = FreeSwitchDriver("fs", replace(settings, secret="wrong"), clock, dials)
        assert (await freeswitch.examine(refused, trunks)).refused
        assert await freeswitch.ask_places(replace(settings, secret="wrong"), asked, clock) == {}
    gone = await freeswitch.examine(FreeSwitchDriver("fs", settings, clock, dials), trunks)
    assert not gone.refused
    assert "no connection" in (gone.down or "")
    assert facts.places == {
        **dict.fromkeys((DESK.id, QUEUE.id, PLAYER.id)),
        70: "FreeSWITCH knows no dialplan context 'dialler'",
        80: "FreeSWITCH knows no queue 'sale@default'",
        90: "FreeSWITCH knows no application 'Mooh'",
    }
    found = {each.check: each.level for each in freeswitch.check("fs", FS, trunks, (), facts)}
    assert found["pbx.fs.login"] is Level.OK
    assert found["trunk.g"] is Level.OK
