"""Estimators, intervals and tests, on numpy and scipy alone."""
