"""What of a changed configuration a running daemon can take up, and what has to wait for its next start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from dialerd.config import keys
from dialerd.config.models import Config, PbxConfig

AT_ONCE: Mapping[str, frozenset[str]] = {
    "numbers": frozenset({"validation", "default_region"}),
    "agents": frozenset({"applications", "contexts"}),
    "dispatch": frozenset({"setup_seconds", "drain_seconds"}),
    "logging": frozenset({"level", "format", "full_numbers"}),
}
"""Keys that bind as soon as they are read again, by table. Tables and keys that are not named wait for a start."""
_TLS = frozenset({"tls_certificate", "tls_key"})
"""At once as well, as long as there is a certificate before and after."""
PBX_LIMITS = frozenset({"max_calls_per_second", "max_channels"})
PBX_LINK = frozenset({"username", "secret", "secret_file", "action_deadline_seconds", "ping_seconds"})
"""From the PBX's next connection on; one that was refused is tried at once."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new in a configuration that was read again."""

    config: Config
    """The configuration as it binds from now on: the new one, with the old values of what has to wait."""
    applied: tuple[str, ...]
    """Keys, and tables that came (``trunk.b``) or went (``trunk.c (gone)``)."""
    waiting: tuple[str, ...]
    """Keys whose new values bind at the next start only."""


def changes(running: Config, wanted: Config, links: Mapping[str, PbxConfig]) -> Changes:
    """Compare a configuration that was read again with the one that runs.

    ``links``: every PBX that the daemon has a driver for, with the settings that it was made of. One that left the
    file while calls lived on it is still among them, and may come back.
    """
    applied: list[str] = []
    waiting: list[str] = []
    sections: dict[str, Any] = {}
    for field, info in Config.model_fields.items():
        section = info.alias or field
        old, new = getattr(running, field), getattr(wanted, field)
        if field == "pbx":
            sections[field] = _pbxs(old, new, links, applied, waiting)
        elif field in ("trunk", "tenant"):
            sections[field] = new
            applied += [*_came_and_went(section, old, new), *sorted(_changed(section, old, new))]
        else:
            sections[field] = _section(section, old, new, _live(field, old, new), applied, waiting)
    return Changes(running.model_copy(update=sections), tuple(applied), tuple(waiting))


def _live(field: str, old: Any, new: Any) -> frozenset[str]:
    """The keys of a table that can change now."""
    if field == "server" and old.tls_certificate is not None and new.tls_certificate is not None:
        return _TLS
    return AT_ONCE.get(field, frozenset())


def _section(path: str, old: Any, new: Any, live: frozenset[str], applied: list[str], waiting: list[str]) -> Any:
    """The table that binds from now on; what changed in it is added to one of the lists."""
    if not isinstance(old, BaseModel):
        if old != new:
            waiting.append(path)
        return old
    taken: dict[str, Any] = {}
    for name, info in type(old).model_fields.items():
        if getattr(old, name) == getattr(new, name):
            continue
        (applied if name in live else waiting).append(f"{path}.{info.alias or name}")
        if name in live:
            taken[name] = getattr(new, name)
    return old.model_copy(update=taken)


def _pbxs(
    old: Mapping[str, PbxConfig],
    new: Mapping[str, PbxConfig],
    links: Mapping[str, PbxConfig],
    applied: list[str],
    waiting: list[str],
) -> dict[str, PbxConfig]:
    applied += _came_and_went("pbx", old, new)
    taken: dict[str, PbxConfig] = {}
    for name, pbx in new.items():
        before = links.get(name)
        if before is None:
            taken[name] = pbx
            continue
        # Another machine's secret must not be shown to this one: its settings wait together.
        same = (before.driver, before.host, before.link_port) == (pbx.driver, pbx.host, pbx.link_port)
        live = PBX_LIMITS | PBX_LINK if same else PBX_LIMITS
        taken[name] = _section(keys.show(("pbx", name)), before, pbx, live, applied, waiting)
    return taken


def _came_and_went(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    came = [keys.show((section, name)) for name in new if name not in old]
    return came + [f"{keys.show((section, name))} (gone)" for name in old if name not in new]


def _changed(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in old.keys() & new.keys():
        for key, info in type(new[name]).model_fields.items():
            if getattr(old[name], key) != getattr(new[name], key):
                yield keys.show((section, name, info.alias or key))
