"""The SIP gateways of a FreeSWITCH: what it says of them, and which trunks of ours go through which.

Pure: no socket, no clock. Sources: ``cmd_status`` in mod_sofia.c; ``sofia_reg_fire_custom_gateway_state_event``,
``sofia_reg_check_gateway`` and ``sofia_reg_add_gateway`` in sofia_reg.c of FreeSWITCH.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dialerd.pbx.driver import TrunkState

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


class Gateways:
    """Follows the gateways that trunks go through. ``trunks``: their dial strings, by their ids."""

    def __init__(self, trunks: Mapping[str, str]) -> None:
        self._trunks: dict[str, list[str]] = {}
        for trunk, dial in trunks.items():
            if (found := _GATEWAY.match(dial)) is not None:
                self._trunks.setdefault(found["name"], []).append(trunk)
        self._up: dict[str, bool] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The gateways that matter."""
        return tuple(self._trunks)

    def take(self, gateway: GatewayState) -> list[TrunkState]:
        """Take a gateway's state; return what is new in it of our trunks."""
        if self._up.get(gateway.name) is gateway.up:
            return []
        trunks = self._trunks.get(gateway.name, [])
        if trunks:
            self._up[gateway.name] = gateway.up
        return [TrunkState(trunk, gateway.up, gateway.reason) for trunk in trunks]

    def forget(self) -> None:
        """Know nothing any more: the link is lost, and everything is told anew after it."""
        self._up.clear()


def read_gateway(name: str, answer: str) -> GatewayState:
    """Read the answer to ``sofia status gateway NAME``. Its Status decides: where it is DOWN, calls are refused."""
    fields = {found["name"]: found["value"] for found in _FIELD.finditer(answer)}
    if "Status" not in fields:
        return GatewayState(name, False, f"gateway {name}: {answer.strip().partition(chr(10))[0] or 'no answer'}")
    return GatewayState(name, fields["Status"] == "UP", _words(name, fields["Status"], fields.get("State", "")))


def read_gateway_event(headers: Mapping[str, str]) -> GatewayState | None:
    """Read what an event tells of a gateway's state; None: nothing."""
    subclass, name, status = headers.get("Event-Subclass"), headers.get("Gateway"), headers.get("Ping-Status")
    if subclass == _DELETED and name:
        return GatewayState(name, False, f"gateway {name} was taken away")
    if subclass != _STATE or not name or not status:
        return None
    said = " ".join(filter(None, (headers.get("Status"), headers.get("Phrase"))))
    return GatewayState(name, status == "UP", _words(name, status, headers.get("State", ""), said))


def _words(name: str, status: str, state: str, said: str = "") -> str:
    return f"gateway {name} is {status}" + (f" ({state})" if state else "") + (f": {said}" if said else "")
