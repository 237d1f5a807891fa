"""Compare two versions of the code: same, true, worse, slower."""
