"""Run the benchmarks and keep their figures as JSON: ``make bench``. Bounded in time; asserts nothing about speed."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from bench import table
from bench.runner import Entry, run_all
from bench.suite import BENCHMARKS

_HERE = Path(__file__).resolve().parent
_NOTES = _HERE / "notes.toml"


def main() -> int:
    """Parse the command line and run. Returns 1 where a benchmark failed; the others ran nevertheless."""
    names = [each.name for each in BENCHMARKS]
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", choices=names, action="append", help="run this alone, or several; by default all")
    parser.add_argument("--missing", action="store_true", help="run those that --json has not, or that failed there")
    parser.add_argument("--short", action="store_true", help="only see that they run: seconds instead of minutes")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each pair (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="keep the figures in this file, beside those of other benchmarks")
    parser.add_argument("--results", type=Path, help="run nothing: write the table of --json's figures to this file")
    wanted = parser.parse_args()
    if wanted.results is not None:
        text = table.write(wanted.json or _HERE / "results.json", _NOTES, names)
        wanted.results.write_text(text)
        return 0
    chosen = [each for each in BENCHMARKS if wanted.only is None or each.name in wanted.only]
    kept = {} if wanted.json is None else table.read(wanted.json)
    if wanted.missing:
        chosen = [each for each in chosen if each.name not in kept or kept[each.name]["error"]]

    def keep(name: str, entry: Entry) -> None:
        if wanted.json is not None:
            kept[name] = entry
            fresh = wanted.json.with_name(f"{wanted.json.name}.new")
            fresh.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
            fresh.rename(wanted.json)

    rounds = 1 if wanted.short else wanted.rounds
    failed = asyncio.run(run_all(chosen, short=wanted.short, rounds=rounds, keep=keep))
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
