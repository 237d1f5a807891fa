"""Readers of data files, their downloads, and the cache of decoded pixels."""
