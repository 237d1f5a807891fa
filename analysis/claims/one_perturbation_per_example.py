"""Does a perturbation of its own for every example divide the variance by the batch size?"""

from pathlib import Path
from typing import Any

from audit import Claim, Verdict, judged

import fgbench

OWN, SHARED = "fg_w[share=none]", "fg_w"
BATCH = 32
CLAIM = Claim(
    "With one weight perturbation per example the variance of a zeroth-order estimate shrinks with the batch "
    "size, other than with the one shared perturbation of MeZO.",
    "Tan, Zhao, Yang, Zhang, Yu, Zhang: GRZO: Group-Relative Zeroth-Order Optimization for Large Language "
    "Model Fine-Tuning, arXiv 2606.02857, abstract.",
    f"the relative variance of {SHARED}, one perturbation for the batch as in MeZO, over that of {OWN}, on "
    f"mlp-1x32 and digits with batches of {BATCH}, paired on 8 networks, at initialisation and after 5 "
    f"epochs of backprop. If the claim holds the gain is {BATCH}; where gradients of examples are "
    "independent it is 1.",
)


def make(folder: Path) -> None:
    """Measure both on the same networks and batches, at two moments of training."""
    found = fgbench.measure(
        OWN, against=SHARED, arch="mlp-1x32", data="digits", inits=8, batches=1, batch=BATCH, draws=64,
        moments=(0, 5), threads=1,
    )  # fmt: skip
    found.save(folder)


def judge(records: Any) -> Verdict:
    """Compare the gain with the batch size, at the later moment."""
    own = next(row for row in records.of("measure") if "share" in row["estimator"])
    first, last = (part["against"]["relative_variance"] for part in own["per_moment"])
    gain = {"value": 1 / last["value"], "low": 1 / last["high"], "high": 1 / last["low"]}
    start = 1 / first["value"]
    some = "holds in part" if gain["low"] > 1 else "does not hold"
    words = "holds" if gain["high"] >= BATCH else some
    why = (
        "The variance itself falls as one over the batch, but so does the squared gradient wherever examples "
        f"disagree: the gain over one shared perturbation is {start:.2f} at initialisation and "
        f"{gain['value']:.2f} after 5 epochs, not {BATCH}."
    )
    return Verdict(words, "gain after 5 epochs", *gain.values(), last["n"], why)


if __name__ == "__main__":
    judged(__file__, CLAIM, make, judge)
