"""Does an estimator of my own keep its claims, and is it better than what exists?

An estimator is a class: what it claims, and one estimate. An object of it is checked, measured and trained
with, under any locality. This one is a forward gradient whose largest slopes are clipped: less variance for
some bias.
"""

# %% An estimator
from dataclasses import dataclass

import fgbench
from fgbench import Claims, Defaults, Estimate, Noise, State, Task, View


@dataclass(frozen=True)
class Clipped(Defaults):
    """Noise on the activities; slopes beyond a multiple of their median size are clipped.

    Args:
        at: the multiple.
    """

    at: float = 2.0

    def claims(self, task: Task) -> Claims:
        """Claim some bias, and reverse mode through one layer at most."""
        return Claims(bias="some", backward="segment")

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the credit of every site."""
        u = noise.directions(view.sites, 1)
        slopes = view.slopes(u)
        limit = self.at * float(slopes.abs().median())
        return Estimate(credit=view.credit(slopes.clamp(-limit, limit), u))


# %% What it claims, tested
report = fgbench.check((Clipped(), "end"), quick=True)
print(report)

# %% Beside the method that it changes, on the same networks and batches
results = fgbench.measure(
    [Clipped(), Clipped(at=1.0), (Clipped(), "local-pg")],
    against="FG-A",
    arch="mlp-2x32",
    data="digits",
    draws=64,
)
print(results)
clipped = results["Clipped"]
print(f"scale {clipped.scale.value:.2f}, efficiency over FG-A's {clipped.against.efficiency}")

# %% Does it train?
print(fgbench.train([Clipped(), "FG-A"], arch="mlp-2x32", data="digits", epochs=5, lr=0.01))
