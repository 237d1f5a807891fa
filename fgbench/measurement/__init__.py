"""Measure gradient estimates against true gradients: variance, bias, efficiency, cosine, time."""
