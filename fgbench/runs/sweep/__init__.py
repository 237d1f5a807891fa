"""Sweeps: grids of runs, read from a TOML file and run by worker processes."""
