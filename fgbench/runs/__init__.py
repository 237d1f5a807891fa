"""Runs and their records: single runs, studies and sweeps."""
