"""The few benchmarks of plot_history.py: they run in ten seconds with any commit since the first API."""
