"""Passes through a window as compiled programs."""
