"""Does feedback alignment fail in a deep convolutional network, and sign symmetry not?"""

from typing import Any

import numpy as np
from audit import Claim, Point, Verdict, is_of, judged
from scipy import stats

METHODS = {"BP": "BP", "FA": "FA", "sign symmetry": "sign_symmetry-usf"}
SEEDS, EPOCHS = 8, 4
CLAIM = Claim(
    "Feedback alignment fails to scale to deep convolutional networks, and feedback that agrees with the "
    "weights in sign alone is competitive with backpropagation there.",
    "Moskovitz, Litwin-Kumar, Abbott: Feedback alignment in deep convolutional networks, arXiv 1812.06488, "
    "abstract: \u201cagreement of weight sign but not magnitude, can achieve performance competitive with "
    "backpropagation\u201d; likewise Xiao, Chen, Liao, Poggio, ICLR 2019, arXiv 1811.03567.",
    "test errors of BP, FA and sign_symmetry-usf on resnet-20[width=4] (20 layers) and digits after "
    f"{EPOCHS} epochs with the recipe of each, {SEEDS} seeds. The claim holds if the mean excess of sign "
    "symmetry over BP lies below 3 points and that of FA above it.",
    [
        f"train BP FA sign_symmetry-usf --arch resnet-20[width=4] --data digits --epochs {EPOCHS} --seeds "
        f"{SEEDS}"
    ],
    "longer training, a tuned rate for FA, or images on which backprop itself is not near its floor.",
)


def judge(records: Any) -> Verdict:
    """Compare the excess errors, paired by seed, with the margin."""
    errors = {}
    for name, method in METHODS.items():
        rows = [r for r in records.of("train") if is_of(r, method)]
        errors[name] = 100 * np.array(
            [r["test_error"] for r in sorted(rows, key=lambda r: r["seed"])]
        )
    found = {name: _mean(errors[name] - errors["BP"]) for name in ("FA", "sign symmetry")}
    fails, near = found["FA"]["low"] > MARGIN, found["sign symmetry"]["high"] < MARGIN
    words = "holds" if fails and near else "holds in part" if fails or near else "undecided"
    why = (
        f"Backprop errs on {errors['BP'].mean():.1f} %, sign symmetry on "
        f"{errors['sign symmetry'].mean():.1f} % and feedback alignment on "
        f"{errors['FA'].mean():.1f} % of the test digits."
    )
    points = [Point.of(f"{name} \u2212 BP", one) for name, one in found.items()]
    return Verdict(
        words, "excess test error of FA over BP in points", *found["FA"].values(), SEEDS, why, points,
        line=MARGIN, log=False,
    )  # fmt: skip


MARGIN = 3.0


def _mean(excess: Any) -> dict[str, float]:
    """Return the mean and its 95 % t interval."""
    half = float(stats.t.ppf(0.975, len(excess) - 1) * excess.std(ddof=1) / len(excess) ** 0.5)
    middle = float(excess.mean())
    return {"value": middle, "low": middle - half, "high": middle + half}


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
