"""Closed forms of the variance of forward gradients."""
