"""Slopes as inner products with cotangents computed once, in place of forward mode."""
