"""Benchmarks for asv: one number per method, lower is better.

The suites come from the working tree and fgbench from each measured commit. So they import with any
fgbench and without torch, reach it only through ``fgbench.api.run``, and write every name as a
literal.
"""
