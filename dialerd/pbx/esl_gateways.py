"""The SIP gateways of a FreeSWITCH: what it says of them, and which trunks of ours go through which.

Pure: no socket, no clock. Sources: ``cmd_status`` in mod_sofia.c; ``sofia_reg_fire_custom_gateway_state_event``,
``sofia_reg_check_gateway`` and ``sofia_reg_add_gateway`` in sofia_reg.c of FreeSWITCH.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dialerd.pbx import wire
from dialerd.pbx.driver import TrunkState
from dialerd.pbx.phrase import phrase

_STATE, ADDED, _DELETED = "sofia::gateway_state", "sofia::gateway_add", "sofia::gateway_delete"
GATEWAY_EVENTS = (_STATE, ADDED, _DELETED)
"""The subclasses of the CUSTOM events that tell of gateways. The state of one that was added is not told by itself."""

_GATEWAY = re.compile(r"sofia/gateway/(?P<name>[^/]+)/")
_FIELD = re.compile(r"^(?P<name>State|Status) *\t(?P<value>\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class GatewayState:
    """The state of one SIP gateway, with the reason in FreeSWITCH's own words."""

    name: str
    up: bool
    reason: str
    said: str = ""
    """The response that made it so (``403 Forbidden``), where the event tells: to a ping, or to a registration."""


def gateway_of(dial: str) -> str | None:
    """The name of the gateway that a dial string leads through; None where it names none."""
    found = _GATEWAY.match(dial)
    return None if found is None else found["name"]


class Gateways:
    """Follows the gateways that trunks go through. ``trunks``: their dial strings, by their ids."""

    def __init__(self, trunks: Mapping[str, str]) -> None:
        self.unwatched: dict[str, str] = {}
        """Trunks whose gateways cannot be asked for, each with the reason. The configuration refuses them."""
        self.questions: dict[str, wire.EslCommand] = {}
        """How the gateways that matter are asked for, by their names."""
        self._trunks: dict[str, list[str]] = {}
        for trunk, dial in trunks.items():
            if (name := gateway_of(dial)) is None:
                continue
            try:
                self.questions[name] = wire.esl_gateway(name)
            except wire.WireError as error:
                self.unwatched[trunk] = f"its gateway's name {error.rule}"
            else:
                self._trunks.setdefault(name, []).append(trunk)
        self._up: dict[str, bool] = {}
        self._failure: dict[str, str] = {}
        """The latest failure of each. A registration's is told before the gateway is down by it, or long after."""
        self._shown: dict[str, str] = {}

    def take(self, gateway: GatewayState) -> list[TrunkState]:
        """Take a gateway's state; return what is new in it of our trunks: also another failure of one that is down."""
        name = gateway.name
        if name not in self._trunks:
            return []
        failed = bool(gateway.said) and not gateway.said.startswith("2")
        if failed:
            self._failure[name] = gateway.said
        elif gateway.said or gateway.up:
            self._failure.pop(name, None)
        shown = gateway.said if gateway.up else self._failure.get(name, "")
        if self._up.get(name) is gateway.up and (gateway.up or shown in ("", self._shown.get(name))):
            return []
        self._up[name], self._shown[name] = gateway.up, shown
        reason = f"{gateway.reason}: {shown}" if shown else gateway.reason
        return [TrunkState(trunk, gateway.up, reason) for trunk in self._trunks[name]]

    def forget(self) -> None:
        """Know nothing any more: the link is lost, and everything is told anew after it."""
        self._up.clear()
        self._failure.clear()
        self._shown.clear()


def read_gateway(name: str, answer: str) -> GatewayState:
    """Read the answer to ``sofia status gateway NAME``. Its Status decides: where it is DOWN, calls are refused."""
    fields = {found["name"]: found["value"] for found in _FIELD.finditer(answer)}
    if "Status" not in fields:
        first = phrase(answer.strip().partition("\n")[0])
        return GatewayState(name, False, f"gateway {name}: {first or 'no answer'}")
    return GatewayState(name, fields["Status"] == "UP", _words(name, fields["Status"], fields.get("State", "")))


def read_gateway_event(headers: Mapping[str, str]) -> GatewayState | None:
    """Read what an event tells of a gateway's state; None: nothing."""
    subclass, name, status = headers.get("Event-Subclass"), headers.get("Gateway"), headers.get("Ping-Status")
    if subclass == _DELETED and name:
        return GatewayState(name, False, f"gateway {name} was taken away")
    if subclass != _STATE or not name or not status:
        return None
    said = phrase(" ".join(filter(None, (headers.get("Status"), headers.get("Phrase")))))
    return GatewayState(name, status == "UP", _words(name, status, headers.get("State", "")), said)


def _words(name: str, status: str, state: str) -> str:
    return phrase(f"gateway {name} is {status}" + (f" ({state})" if state else ""))
