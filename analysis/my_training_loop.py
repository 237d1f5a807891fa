"""What does a training loop of my own look like with forward gradients?

``ForwardGradient`` stands in place of ``loss.backward()`` and ``optimizer.step()``; the rest of the loop
stays as it is: any optimiser, schedules, clipping, checkpoints.
"""

# %% Data and a network, as in any script
import io

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import fgbench

digits = load_digits()
x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
x_test, y_test, x, y = x[:300], y[:300], x[300:], y[300:]

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return one loss per example: no mean over the batch."""
    return F.cross_entropy(prediction, target, reduction="none", label_smoothing=0.05)


# %% The loop: losses after each ReLU, local forward gradients, Adam with a schedule
optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
forward = fgbench.ForwardGradient(net, loss, "LG-FG-A", optimizer, cut=["1", "3"])

for epoch in range(20):
    total = 0.0
    for picked in torch.randperm(len(x)).split(64):  # the last batch is smaller
        total += forward.step(x[picked], y[picked]) * len(picked)
    schedule.step()
    with torch.no_grad():
        error = (net(x_test).argmax(1) != y_test).float().mean()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: loss {total / len(x):.3f}, test error {100 * error:.1f} %")

# %% Gradients may be changed before the step
loss_before = forward.backward(x[:64], y[:64])
torch.nn.utils.clip_grad_norm_(net.parameters(), max_norm=1.0)
optimizer.step()

# %% A checkpoint: the network, and what the loop holds beside it
checkpoint = io.BytesIO()  # or the name of a file
torch.save({"net": net.state_dict(), "loop": forward.state_dict()}, checkpoint)
checkpoint.seek(0)
saved = torch.load(checkpoint)
net.load_state_dict(saved["net"])
forward.load_state_dict(saved["loop"])
print(f"goes on after step {forward.steps}")
