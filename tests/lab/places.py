"""Places: each lab has a run directory and a block of ports of its own, recorded so that others keep off."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.packages import HERE, LabError, locked
from tests.lab.ports import BLOCKS, block
from tests.lab.processes import Process

RUNS = HERE / "run"
ASTERISK = "asterisk"
"""The name of the Asterisk among a lab's processes; the others are far ends."""

_STATE = "lab.json"
_STOP_SECONDS = 3.0


@dataclass(slots=True)
class Place:
    """A block of ports and a run directory that belong to one lab, as recorded in its lab.json."""

    version: str
    block: int
    run: Path
    sockets: Path
    """Sockets live in a short path: a Unix socket's may have 107 bytes at most."""
    owner: Process | None
    """The process whose end is the lab's end; None: it stays until it is taken down."""
    processes: dict[str, Process]

    def write(self) -> None:
        """Record it, so that other processes know."""
        state = {
            "version": self.version,
            "block": self.block,
            "sockets": str(self.sockets),
            "owner": asdict(self.owner) if self.owner else None,
            "processes": {name: asdict(process) for name, process in self.processes.items()},
        }
        fresh = self.run / f"{_STATE}.new"
        fresh.write_text(json.dumps(state, indent=1))
        fresh.rename(self.run / _STATE)

    @property
    def alive(self) -> bool:
        """Whether its owner lives; without an owner, whether anything of it does."""
        return self.owner.alive if self.owner else any(process.alive for process in self.processes.values())


def read_place(run: Path) -> Place | None:
    """Read the record of a run directory; None where no lab is up in it."""
    try:
        state = json.loads((run / _STATE).read_text())
    except FileNotFoundError:
        return None
    return Place(
        version=state["version"],
        block=state["block"],
        run=run,
        sockets=Path(state["sockets"]),
        owner=Process(**state["owner"]) if state["owner"] else None,
        processes={name: Process(**process) for name, process in state["processes"].items()},
    )


def take_place(version: str, name: str | None) -> Place:
    """Take a free place, after clearing away what dead owners left behind.

    A named lab takes block 0 and stays the caller's until its owner is struck out. LabError where nothing is free.
    """
    with locked("places"):
        _clear_dead()
        if name is not None:
            return _take(version, 0, RUNS / name)
        for number in range(1, BLOCKS):
            if not (RUNS / str(number) / _STATE).exists() and block(number).free:
                return _take(version, number, RUNS / str(number))
    raise LabError(f"all {BLOCKS - 1} places for labs are taken; see {RUNS}")


def _take(version: str, number: int, run: Path) -> Place:
    if read_place(run) is not None:
        raise LabError("a lab is up already: see `python -m tests.lab status`, or take it down first")
    if not block(number).free:
        raise LabError(f"somebody else listens on a port that the lab needs: {block(number).as_dict()}")
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    place = Place(version, number, run, Path(tempfile.mkdtemp(prefix="dialerd-lab-")), Process.current(), {})
    place.write()
    return place


def _clear_dead() -> None:
    for state in RUNS.glob(f"*/{_STATE}"):
        place = read_place(state.parent)
        if place is not None and not place.alive:
            tear_down(place)


def tear_down(place: Place) -> None:
    """Stop whatever still runs in it and give it back; logs and messages stay until it is taken again."""
    for name, process in sorted(place.processes.items()):
        process.stop(signal.SIGTERM if name == ASTERISK else signal.SIGKILL, _STOP_SECONDS)
    shutil.rmtree(place.sockets, ignore_errors=True)
    (place.run / _STATE).unlink(missing_ok=True)
