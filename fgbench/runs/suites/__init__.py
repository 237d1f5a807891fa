"""Suites for asv: what benchmarks track, which methods they watch, and the comparison of two commits."""
