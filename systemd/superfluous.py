"""Name the installed distributions that the given one does not need: what its build needed and its running does not."""

import importlib.metadata
import re
import sys

REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(?:\[(?P<extras>[^]]*)\])?")


def canonical(name: str) -> str:
    """The one spelling of a distribution's name (PyPA's name normalisation)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def walk(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> None:
    """Add a distribution with these extras, and what is installed of its requirements."""
    if canonical(name) not in INSTALLED or (canonical(name), extras) in seen:
        return
    seen.add((canonical(name), extras))
    for line in importlib.metadata.requires(name) or []:
        asked = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        wanted = REQUIREMENT.match(line)
        if wanted and (asked is None or asked[1] in extras):
            walk(wanted["name"], frozenset(each.strip() for each in (wanted["extras"] or "").split(",")), seen)


INSTALLED = {canonical(each.metadata["Name"]) for each in importlib.metadata.distributions()}
reached: set[tuple[str, frozenset[str]]] = set()
walk(sys.argv[1], frozenset(), reached)
print(*sorted(INSTALLED - {name for name, _ in reached}))
