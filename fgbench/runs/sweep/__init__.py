"""Grids of runs from a TOML file: schema, cells, workers."""
