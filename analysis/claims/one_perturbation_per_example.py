"""Does a perturbation of its own for every example divide the variance by the batch size?"""

from typing import Any

from audit import Claim, Point, Verdict, inverse, judged

BATCH = 32
CLAIM = Claim(
    "With one weight perturbation per example the variance of a zeroth-order estimate shrinks with the batch "
    "size, other than with the one shared perturbation of MeZO.",
    "Tan, Zhao, Yang, Zhang, Yu, Zhang: GRZO: Group-Relative Zeroth-Order Optimization for Large Language "
    "Model Fine-Tuning, arXiv 2606.02857, abstract: \u201cvariance shrinking proportionally to the batch "
    "size\u201d.",
    f"the relative variance of fg_w, one perturbation for the batch as in MeZO, over that of "
    f"fg_w[share=none], on mlp-1x32 and digits with batches of {BATCH}, paired on 8 networks, at "
    "initialisation and after 5 "
    f"epochs of backprop. If the claim holds the gain is {BATCH}; where gradients of examples are "
    "independent it is 1.",
    [
        f"measure fg_w[share=none] --against fg_w --arch mlp-1x32 --data digits --inits 8 --batches 1 "
        f"--batch {BATCH} --draws 64 --moments 0,5 --threads 1"
    ],
    "batches whose examples agree in their gradients, as before anything is learned, or those of a language "
    "model whose tokens count as examples.",
)


def judge(records: Any) -> Verdict:
    """Compare the gain with the batch size, at the later moment."""
    own = next(row for row in records.of("measure") if "share" in row["estimator"])
    first, gain = (inverse(part["against"]["relative_variance"]) for part in own["per_moment"])
    some = "holds in part" if gain["low"] > 1 else "does not hold"
    words = "holds" if gain["high"] >= BATCH else some
    why = (
        "The variance itself falls as one over the batch, but so does the squared gradient wherever examples "
        f"disagree: the gain over one shared perturbation is {first['value']:.2f} at initialisation and "
        f"{gain['value']:.2f} after 5 epochs, not {BATCH}."
    )
    return Verdict(
        words, "gain after 5 epochs", *(gain[name] for name in ("value", "low", "high", "n")), why,
        [Point.of("at initialisation", first), Point.of("after 5 epochs", gain)], line=float(BATCH),
        axis="ratio of relative variances, one perturbation for all over one for each example",
    )  # fmt: skip


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
