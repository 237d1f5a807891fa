"""Train a network with a gradient estimate."""
