"""Benchmarks: cases and goals as data, one process per engine, peers measured in the same run."""
