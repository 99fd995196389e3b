"""``python -m tests.simulation SEED CONTACTS``: play one seed again, and say what came of it."""

from __future__ import annotations

import sys

from tests.simulation.play import play


def main() -> int:
    """Play; the exit status says whether all laws held."""
    seed, contacts = int(sys.argv[1]), int(sys.argv[2])
    played = play(seed, contacts)
    for each in played.broken:
        print(each)
    print(", ".join(f"{fault} {count}" for fault, count in sorted(played.happened.items())))
    print(f"{played.calls} calls, {played.daemons} daemons, {played.virtual_seconds:.0f} s; log", played.digest)
    return 1 if played.broken else 0


if __name__ == "__main__":
    sys.exit(main())
