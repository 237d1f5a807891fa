"""Comparisons: methods tuned with one budget, trained on fresh seeds and judged against a reference."""
