"""Benchmarks: ratios of CPU times. Run them by ``python -m tests.benchmarks``."""
