"""Keyed random numbers and the directions drawn from them."""
