"""Training: one loop for every method, recipes, checkpoints and captured steps."""
