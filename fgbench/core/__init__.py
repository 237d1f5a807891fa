"""Networks with taps, objectives, the oracles of an estimator, and the task that runs a scheme."""
