"""Rules that turn gradients into steps where PyTorch has none."""
