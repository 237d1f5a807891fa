"""Probes: what the gate computes in the process of a tree, which may be older or newer than this package.

A probe is a module or a package here with a function ``answer(request) -> dict``. It imports the standard
library and its neighbours at its top, and ``fgbench``, which is that of the measured tree, inside its
functions. ``serve.py`` loads it under a name of its own.
"""
