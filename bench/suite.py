"""All benchmarks by name, in the order of the table: a line for each, with its deadline in seconds."""

from __future__ import annotations

from bench import answers, calls, growth, imports, lists, memory, slots, start, streams, wire
from bench.context import Benchmark

BENCHMARKS = (
    Benchmark("calls", calls.run, 420, lab=True),
    Benchmark("slots", slots.run, 300, lab=True),
    Benchmark("wire", wire.run, 180),
    Benchmark("wire-postgres", wire.run_postgres, 240),
    Benchmark("memory", memory.run, 180),
    Benchmark("freed", wire.run_freed, 180),
    Benchmark("streams", streams.run, 180),
    Benchmark("imports", imports.run, 600),
    Benchmark("lists", lists.run, 240),
    Benchmark("clearing", lists.run_clearing, 420),
    Benchmark("claims", lists.run_claims, 600),
    Benchmark("start", start.run, 240),
    Benchmark("answers", answers.run, 180),
    Benchmark("growth", growth.run, 480),
    Benchmark("growth-streams", growth.run_streams, 120),
)
