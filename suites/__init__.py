"""Benchmarks for asv: one number per method, lower is better.

asv takes the suites from the working tree and fgbench from each measured commit. The suites therefore import
with any version of fgbench and without torch, use only ``fgbench.api.run``, and write every name as a
literal.
"""
