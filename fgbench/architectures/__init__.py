"""Architectures, one file per family: functions that return a chain."""
