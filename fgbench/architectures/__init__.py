"""Architectures, one file or folder per family: functions that return a chain."""
