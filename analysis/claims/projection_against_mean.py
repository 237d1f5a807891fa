"""Does projecting on the span of several directions beat averaging over them?"""

from typing import Any

from audit import Claim, Point, Verdict, judged, method_of, ratio

COUNTS, WEIGHTS = (4, 32, 256), 520
LITTLE = 1.05
CLAIM = Claim(
    "Combining the forward gradients along several tangents by an orthogonal projection approximates the "
    "gradient better than their mean.",
    "Fl\u00fcgel, Coquelin, Weiel, Debus, Streit, G\u00f6tz: Beyond Backpropagation: Optimization with "
    "Multi-Tangent Forward Gradients, IJCNN 2025, arXiv 2410.17764, abstract: \u201can improved approach to "
    "combining the forward gradients from multiple tangents based on orthogonal projections\u201d.",
    "the efficiency of fg_w[directions=n,combine=project] over that of fg_w[directions=n], on mlp-1x8 with "
    f"d = {WEIGHTS} weights and digits, batch 128, at initialisation, paired on 8 networks, for n of 4, 32 "
    "and 256. The claim holds for few directions if the interval of the ratio at 4 lies above 1.05; theory "
    "says 1 + (n + 1)/d.",
    [
        f"measure fg_w[directions={n},combine=project] --against fg_w[directions={n}] --arch mlp-1x8 --data "
        f"digits --inits 8 --batches 1 --draws {draws} --threads 1"
        for n, draws in zip(COUNTS, (64, 32, 8), strict=True)
    ],
    "as many directions as a good part of the weights or activities; or one rate for both, since the mean is "
    "longer than its projection by a factor of d/n.",
)


def judge(records: Any) -> Verdict:
    """Compare the ratio at few directions with 1, and name that at many."""
    found = [
        ratio(method_of(records, f"fg_w[directions={n},combine=project]"), "efficiency")
        for n in COUNTS
    ]
    few, _, many = found
    words = "holds" if few["low"] > LITTLE else "does not hold"
    words = "holds in part" if words == "does not hold" and many["low"] > LITTLE else words
    why = (
        f"Few directions in {WEIGHTS} dimensions are nearly orthogonal already: at 4 the projection has "
        f"{few['value']:.3f} times the efficiency of the mean. It gains where directions fill the space: "
        f"{many['value']:.2f} times at 256."
    )
    return Verdict(
        words, "ratio of efficiencies at 4 directions, projection over mean",
        *(few[name] for name in ("value", "low", "high", "n")), why,
        [Point.of(f"{n} directions", one) for n, one in zip(COUNTS, found, strict=True)],
        line=LITTLE, log=False, axis="ratio of efficiencies, projection over mean",
    )  # fmt: skip


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
