"""Localities, one file each: where losses are read and which modules they update."""
