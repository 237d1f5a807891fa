"""Does noise on the activities make a forward gradient less noisy than noise on the weights?"""

from typing import Any

from audit import Claim, Point, Verdict, judged, method_of, ratio

CLAIM = Claim(
    "Perturbing activations instead of weights substantially reduces the variance of the forward gradient.",
    "Ren, Kornblith, Liao, Hinton: Scaling Forward Gradient With Local Losses, ICLR 2023, abstract.",
    "the relative variance of FG-A over that of FG-W on mlp-3x64 and digits, batch 128, at initialisation, "
    "paired on 10 networks. The claim holds if the interval of the ratio lies below 1.",
    [
        "measure FG-A --against FG-W --arch mlp-3x64 --data digits --inits 10 --batches 1 --draws 64 "
        "--threads 1"
    ],
    "a network with more activities per example, over all places, than weights: convolutions on large "
    "images.",
)


def judge(records: Any) -> Verdict:
    """Compare the ratio with 1."""
    found = ratio(method_of(records, "FG-A"))
    holds = found["high"] < 1.0
    words = "holds" if holds else "does not hold" if found["low"] > 1.0 else "undecided"
    why = (
        f"Noise on the activities leaves one part in {1 / found['value']:.0f} of the variance: their number, "
        "and not that of the weights, decides, and their noise averages out over the batch."
    )
    return Verdict(
        words, "ratio of relative variances, FG-A over FG-W",
        *(found[name] for name in ("value", "low", "high", "n")), why,
        [Point.of("FG-A over FG-W", found)],
    )  # fmt: skip


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
