"""Benchmarks for asv: lower is better, and one factor, 1.1, alarms for every number.

asv takes the suites from the working tree and fgbench from each measured commit. The suites therefore import
with any version of fgbench and without torch, reach it through ``fgbench.api.run`` and the gate's probes, and
give every row a literal name. FGBENCH_TIER picks the tier: ``smoke`` (the default), ``full`` or ``gpu``.
``fgbench suites`` lists what is watched.
"""
