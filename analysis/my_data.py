"""Do forward gradients learn a task of my own?

Data are arrays, tensors, torch data sets or batches: ``(x, y)``, or ``(x, y, x_test, y_test)``. Integer
targets are labels, real ones are numbers to predict; a loss and metrics of my own replace the usual ones.
"""

# %% A task: predict where a damped oscillator is after some time
import numpy as np
import torch
from torch import nn

import fgbench

numbers = np.random.default_rng(0)
x = numbers.uniform(-1, 1, (1200, 3)).astype("float32")  # position, velocity, log of the time
time = np.exp(x[:, 2])
y = np.exp(-0.3 * time) * (x[:, 0] * np.cos(2 * time) + x[:, 1] * np.sin(2 * time) / 2)
y = y[:, None].astype("float32")


def net() -> nn.Module:
    """Make a small network; a function, so that every method and seed gets one of its own."""
    return nn.Sequential(
        nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )


# %% Train by four methods, and evaluate by a metric of my own
results = fgbench.train(
    ["BP", "FG-A", "LG-FG-A", "FG-W"],
    arch=net,
    data=(x, y),
    cut="auto",
    metrics={"off": lambda prediction, target: (prediction - target).abs().mean(1)},
    epochs=10,
    batch=64,
    optimizer="adam",
    lr=0.003,
)
print(results)

# %% Every number is in a table
frame = results.frame
print(frame[frame["split"].eq("test")].groupby("method")["loss"].min())

# %% The trained networks are ordinary modules
with torch.no_grad():
    print(results["FG-A"].model(torch.tensor([[0.5, 0.0, 0.1]])))

# %% How noisy are the estimates at the start?
print(fgbench.measure(["FG-A", "FG-W"], arch=net, data=(x, y), draws=32, batches=2))
