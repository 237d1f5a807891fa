"""One JSON file per run: its schema, its key, and the folder that holds it."""
