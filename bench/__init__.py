"""Benchmarks: each pairs us with a bare baseline in one run, and prints the ratio."""
