"""Estimators of gradients, one file each; they do not import each other."""
