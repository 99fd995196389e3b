"""The lab from a shell: ``python -m tests.lab up [--version 22|16]``, ``down``, ``status``, ``fetch``."""

from __future__ import annotations

import argparse
import sys

from tests.lab.lab import DIALERD, FULL, SHELL, Lab
from tests.lab.packages import SUITES, LabError, fetch, require_tools


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 1 with a message where it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "fetch"))
    parser.add_argument("--version", choices=tuple(SUITES), default="22", help="Asterisk's major version")
    chosen = parser.parse_args(arguments)
    try:
        return _COMMANDS[chosen.command](chosen.version)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _up(version: str) -> int:
    lab = Lab.running()
    if lab is None:
        lab = Lab(version, name=SHELL)
        lab.up()
    elif lab.version != version:
        raise LabError(f"Asterisk {lab.version} is up; take it down first: python -m tests.lab down")
    _describe(lab)
    return 0


def _down(_version: str) -> int:
    lab = Lab.running()
    if lab is None:
        print("no lab is up")
        return 0
    lab.down()
    print("the lab is down")
    return 0


def _status(_version: str) -> int:
    lab = Lab.running()
    if lab is None:
        print("no lab is up")
        return 3
    _describe(lab)
    for name, process in sorted(lab.processes.items()):
        print(f"  {name:9} pid {process.pid} {'runs' if process.alive else 'is dead'}")
    return 0


def _fetch(version: str) -> int:
    require_tools()
    print(f"Asterisk {version} is in {fetch(version).path}")
    return 0


def _describe(lab: Lab) -> None:
    ports = lab.ports
    print(", ".join(f"{name}: {version}" for name, version in lab.versions().items()))
    print(f"AMI   {lab.host}:{ports.ami}  {DIALERD.name} / {DIALERD.secret} (least rights)", end="")
    print(f", {FULL.name} / {FULL.secret} (all rights)")
    print(f"SIP   {lab.host}:{ports.sip}  trunks carrier-a, trunk :{ports.trunk}, trunk2 :{ports.trunk2}")
    print(f"      agents :{ports.agents}; dead and deadnq (nobody there), nocontact")
    print("Dial  PJSIP/<number>@trunk: its last two digits choose what the far end does (tests/lab/README.md)")
    print(f"CLI   {lab.run}/asterisk -rvvv    logs in {lab.run}/log")
    print("Down  make lab-down, or python -m tests.lab down")


_COMMANDS = {"up": _up, "down": _down, "status": _status, "fetch": _fetch}

if __name__ == "__main__":
    sys.exit(main())
