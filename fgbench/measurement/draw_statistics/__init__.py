"""Moments of an estimate accumulated draw by draw."""
