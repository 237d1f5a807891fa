"""Localities, one file each: where losses are read and what they update."""
