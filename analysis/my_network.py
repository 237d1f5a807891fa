"""How noisy is each estimate on a network of my own, and what does a step cost?

Any PyTorch module is measured as it is. ``cut`` names where it is cut for local losses: here after each child
of ``blocks``. ``out_axes`` names the axes of their outputs, so that scores are kept apart where they can be.
"""

# %% A network that knows nothing of fgbench
import torch
from torch import nn

import fgbench


class Block(nn.Module):
    """A residual block: a group norm and two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute ``[b, c, h, w]``."""
        out: torch.Tensor = x + self.second(self.first(self.norm(x)).relu())
        return out


class Net(nn.Module):
    """Three blocks between a stem and a linear head."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(3))
        self.head = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits ``[b, 10]``."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


torch.manual_seed(0)
net = Net()

# %% One gradient, by the names of the network's own parameters
x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
gradient = fgbench.estimate("FG-A[directions=8]", model=net, batch=(x, y), loss="cross_entropy")
print(f"loss {gradient.loss:.3f}, cost {gradient.cost:.1f} forward passes")
print(gradient["head.weight"].shape)

# %% Variance, bias and cost of four methods on the digits
results = fgbench.measure(
    ["BP", "FG-W", "FG-A", "LG-FG-A"],
    model=net,
    data="digits",
    cut="blocks",
    out_axes="b c h w",
    draws=32,
    batches=2,
    batch=32,
)
print(results)
print(f"FG-A: relative variance {results['FG-A'].relative_variance.value:.0f}")

# %% Time of a step beside backprop of the same network
print(
    fgbench.speed(["FG-A", "FG-W"], model=net, data="digits", batch=32, rounds=6, reference="plain")
)

# %% The picture: a notebook shows it, and its figure can be saved
drawing = results.plot("relative_variance")
print(drawing.caption)  # drawing.figure.savefig("my_network.png")
