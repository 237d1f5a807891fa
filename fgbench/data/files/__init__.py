"""Readers of published data files, and the cache they are downloaded to."""
