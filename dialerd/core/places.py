"""Which places agents may name: an answered call must not go on where its tenant may not dial."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from dialerd.core.model import Agent, AgentKind

SHIPPED_WAY_OUT = "dialerd-out"
"""The context of freeswitch-conf that dials whatever number it is given."""
_DEFAULT_CONTEXT = "default"
"""Where a Local/ or loopback/ channel begins that names none."""


class Objection(NamedTuple):
    """Why an agent may not be used: the field, and what is wrong with it."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class AllowedPlaces:
    """The places that the configuration allows; by default all."""

    applications: frozenset[str] | None = None
    contexts: frozenset[str] | None = None
    """None: every context but the ways out."""
    ways_out: frozenset[str] = frozenset()
    """In small letters: FreeSWITCH minds no case."""

    def objection(self, agent: Agent) -> Objection | None:
        """Why answered calls may not go to an agent; None: they may."""
        if agent.kind is AgentKind.APPLICATION:
            return _unlisted("application", agent.application, self.applications)
        if agent.kind is AgentKind.DIALPLAN:
            if self.contexts is not None:
                return _unlisted("context", agent.context, self.contexts)
            if agent.context is not None and agent.context.lower() in self.ways_out:
                message = "is not allowed by the configuration: trunks dial through it (see agents.contexts)"
                return Objection("context", message)
        return None


ANYWHERE = AllowedPlaces()


def _unlisted(field: str, value: str | None, allowed: frozenset[str] | None) -> Objection | None:
    if allowed is None or value in allowed:
        return None
    known = ", ".join(sorted(allowed)) or "none"
    return Objection(field, f"is not allowed by the configuration; allowed: {known}")


def ways_out(dials: Iterable[str]) -> frozenset[str]:
    """The contexts through which calls leave: those that these dial strings lead through, and the shipped one."""
    return frozenset(context.lower() for dial in dials if (context := context_of(dial))) | {SHIPPED_WAY_OUT}


def context_of(dial: str) -> str | None:
    """The dialplan context that a dial string leads through (``Local/…@context``, ``loopback/…/context``); or None."""
    technology, _, rest = dial.partition("/")
    if technology.lower() == "local":
        return rest.partition("/")[0].partition("@")[2] or _DEFAULT_CONTEXT
    if technology.lower() == "loopback":
        return rest.partition("/")[2].partition("/")[0] or _DEFAULT_CONTEXT
    return None
