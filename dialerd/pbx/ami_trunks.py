"""AMI messages of one PBX → the state of its trunks. Pure: no socket, no clock.

A trunk is known by the endpoint in its dial string. Asterisk tells of an endpoint's reachability in three ways, all of
which come for every change on 16 and 22: DeviceStateChange (class call), PeerStatus and ContactStatus (class system).
The device state is also what a listing gives to a user without any right to ``system``: UNAVAILABLE where no contact of
the endpoint answers its qualification. While it has calls, it tells their states instead, be it reachable or not
(``chan_pjsip_devicestate`` in chan_pjsip.c). Outbound registrations are listed, and each change is told by Registry
(class system). An endpoint of which nothing is known counts as up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from dialerd.pbx.ami_stream import AmiMessage
from dialerd.pbx.driver import TrunkState
from dialerd.pbx.phrase import phrase

DEVICES, REGISTRATIONS = "DeviceStateList", "PJSIPShowRegistrationsOutbound"
"""The actions that list how trunks are."""

_TECHNOLOGIES = ("PJSIP", "SIP", "IAX2")
_DOWN_STATES = frozenset({"UNAVAILABLE", "INVALID"})
_PEER_UP = frozenset({"Reachable", "Registered", "Lagged"})
_PEER_DOWN = frozenset({"Unreachable", "Unregistered", "Rejected"})
_REGISTRATION_DOWN = frozenset({"Rejected", "Unregistered", "Stopped"})
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


def device_of(dial: str) -> str | None:
    """The device that a dial template goes through, as Asterisk names it; None where that cannot be told.

    ``PJSIP/{number}@carrier`` and ``PJSIP/carrier/sip:{number}@host`` are both ``PJSIP/carrier``. A ``Local`` channel
    may go anywhere.
    """
    technology, _, rest = dial.partition("/")
    first = rest.partition("/")[0]
    if technology not in _TECHNOLOGIES or not first:
        return None
    peer = first.rpartition("@")[2]
    return None if _PLACEHOLDER.search(peer) else f"{technology}/{peer}"


class AmiTrunks:
    """Follows the trunks of one PBX, and tells each change once."""

    def __init__(self, trunks: Mapping[str, str]) -> None:
        """``trunks``: dial templates by the trunks' ids."""
        self._trunks: dict[str, list[str]] = {}
        for trunk, dial in trunks.items():
            if (device := device_of(dial)) is not None:
                self._trunks.setdefault(device, []).append(trunk)
        self._devices: dict[str, str | None] = {}
        """Why each device is down; None: it is up."""
        self._unavailable: set[str] = set()
        """The devices that are down by their device state too: then another one means that they are reachable."""
        self._registrations: dict[tuple[str, str], tuple[str, str]] = {}
        """By server and client: the device that a registration is for, and its status."""
        self._told: dict[str, str | None] = {}

    def __bool__(self) -> bool:
        return bool(self._trunks)

    def forget(self) -> None:
        """The link went: what was known may have changed since."""
        self._devices.clear()
        self._unavailable.clear()
        self._registrations.clear()
        self._told.clear()

    @property
    def known(self) -> list[TrunkState]:
        """Every trunk of which something is known."""
        return [_state(trunk, why) for trunk, why in self._told.items()]

    @property
    def in_question(self) -> list[str]:
        """The listings by which a trunk is down, to be asked again: an event filter may hide that it is up."""
        devices = any(self._devices.get(device) is not None for device in self._trunks)
        registrations = any(self._unregistered(device) is not None for device in self._trunks)
        return [*([DEVICES] if devices else ()), *([REGISTRATIONS] if registrations else ())]

    def registered(self, rows: Iterable[AmiMessage]) -> list[TrunkState]:
        """Take a whole listing of registrations: those that are not in it are no more. Returns what is new."""
        listed = {_registration(row) for row in rows}
        gone = self._registrations.keys() - listed
        return self._news({self._registrations.pop(key)[0] for key in gone})

    def take(self, message: AmiMessage) -> list[TrunkState]:
        """Take an event, or a row of a listing; returns what is new."""
        match message.event:
            case "DeviceStateChange":
                return self._device_state(message.get("device"), message.get("state"))
            case "PeerStatus":
                device, state = message.get("peer"), message.get("peerstatus")
                if device not in self._trunks or state not in _PEER_UP | _PEER_DOWN:
                    return []
                return self._device(device, f"{device} is {state}" if state in _PEER_DOWN else None)
            case "OutboundRegistrationDetail":
                endpoint = message.get("endpoint") or message.get("objectname")
                self._registrations[_registration(message)] = f"PJSIP/{endpoint}", message.get("status")
                return self._news([f"PJSIP/{endpoint}"])
            case "Registry":
                key = message.get("domain"), message.get("username")
                if key not in self._registrations:
                    return []
                device = self._registrations[key][0]
                self._registrations[key] = device, message.get("status")
                return self._news([device])
            case _:
                return []

    def _device_state(self, device: str, state: str) -> list[TrunkState]:
        if device not in self._trunks:
            return []
        down = self._devices.get(device)
        if state in _DOWN_STATES:
            self._unavailable.add(device)
            return self._device(device, down or f"{device} is {state}")
        # By PeerStatus alone it is down: then this may be the state of a call that nobody answers any more.
        return [] if down is not None and device not in self._unavailable else self._device(device, None)

    def _device(self, device: str, why: str | None) -> list[TrunkState]:
        self._devices[device] = why
        if why is None:
            self._unavailable.discard(device)
        return self._news([device])

    def _news(self, devices: Iterable[str]) -> list[TrunkState]:
        news = []
        for device in devices:
            why = self._why_down(device)
            for trunk in self._trunks.get(device, ()):
                if trunk not in self._told or self._told[trunk] != why:
                    self._told[trunk] = why
                    news.append(_state(trunk, why))
        return news

    def _why_down(self, device: str) -> str | None:
        return self._devices.get(device) or self._unregistered(device)

    def _unregistered(self, device: str) -> str | None:
        for (server, _), (own, status) in self._registrations.items():
            if own == device and status in _REGISTRATION_DOWN:
                return f"the registration of {device} with {phrase(server)} is {status}"
        return None


def _registration(row: AmiMessage) -> tuple[str, str]:
    return row.get("serveruri"), row.get("clienturi")


def _state(trunk: str, why: str | None) -> TrunkState:
    return TrunkState(trunk, why is None, why or "its endpoint is reachable")
