"""Do weight directions within the span of the inputs have a higher cosine with the gradient?"""

from typing import Any

from audit import Claim, Point, Verdict, judged, ratio

BATCHES = (16, 128)
WHOLE, CUT = "agzo", "agzo[rank=4]"
CLAIM = Claim(
    "Perturbing weights within the subspace of their input activations gives a higher cosine with the "
    "gradient than isotropic noise.",
    "Lin, Jiang, Song, Qiao, Xu: AGZO: Activation-Guided Zeroth-Order Optimization for LLM Fine-Tuning, ICML "
    "2026, arXiv 2601.17261, abstract: \u201cprovably yields update directions with higher cosine similarity "
    "to the true gradient than isotropic baselines\u201d.",
    f"the efficiency, which goes as the squared cosine, of {WHOLE} (the whole span) and {CUT} over that of "
    "fg_w on mlp-2x64 and digits, at initialisation, paired on 8 networks, with batches of 16 and of 128. "
    "The claim holds if the intervals of the ratios of the whole span lie above 1.",
    [
        f"measure {WHOLE} {CUT} --against fg_w --arch mlp-2x64 --data digits --inits 8 --batches 1 --batch "
        f"{b} --draws 48 --threads 1"
        for b in BATCHES
    ],
    "inputs of full rank: a batch, times the places that share a weight, larger than the fan-in, without "
    "constant pixels.",
)


def judge(records: Any) -> Verdict:
    """Compare the ratios with 1."""
    found = {
        (row["estimator"], row["settings"]["batch"]): ratio(row, "efficiency")
        for row in records.of("measure")
        if "agzo" in row["estimator"]
    }
    small, large = (found[WHOLE, b] for b in BATCHES)
    above = [one["low"] > 1 for one in (small, large)]
    words = "holds" if all(above) else "holds in part" if any(above) else "does not hold"
    why = (
        f"With 16 examples the inputs span few dimensions and the squared cosine is {small['value']:.1f} "
        f"times that of isotropic noise, with 128 {large['value']:.1f} times. Cutting the span to rank 4 "
        f"gives {found[CUT, 16]['value']:.1f} and {found[CUT, 128]['value']:.1f} times, at the price of a "
        "bias."
    )
    points = [
        Point.of(f"{name}, batch {b}", found[name, b]) for b in BATCHES for name in (WHOLE, CUT)
    ]
    return Verdict(
        words, "ratio of efficiencies with a batch of 16, agzo over fg_w",
        *(small[name] for name in ("value", "low", "high", "n")), why, points,
        axis="ratio of efficiencies, agzo over fg_w",
    )  # fmt: skip


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
