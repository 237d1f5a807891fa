"""Time and memory of whole steps beside those of backprop."""
