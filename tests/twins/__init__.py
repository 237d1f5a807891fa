"""Slow literal transcriptions, written from the equations and sharing no code with the library."""
