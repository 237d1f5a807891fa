"""How does MeZO's cosine with the gradient fall with the number of weights?"""

from typing import Any

from audit import Claim, Point, Verdict, judged

from fgbench.reporting.plotting.power_law import power

WIDTHS = (4, 8, 16, 32, 64)
INPUTS = 65  # of a unit that reads a digit: 64 pixels and a bias
CLAIM = Claim(
    "The variance of zeroth-order gradient estimates typically grows in proportion to the number of "
    "parameters.",
    "Yu, Zhou, Wang, Li, Tian, Huang: Zeroth-Order Fine-Tuning of LLMs in Random Subspaces, ICCV 2025, arXiv "
    "2410.08989, abstract: \u201cscales linearly with the model\u2019s parameter dimension\u201d.",
    "the efficiency of mezo, which goes as its squared cosine with the gradient, on mlp-1x4, 1x8, 1x16, 1x32 "
    "and 1x64 and digits, batch 128, at initialisation, 8 networks each, and the exponent of its power law "
    "in the number of weights. The claim holds if the interval of the exponent contains \u22121 and is not "
    "wider than 0.1 to either side.",
    [
        f"measure mezo --arch mlp-1x{width} --data digits --inits 8 --batches 1 --draws 64 --threads 1"
        for width in WIDTHS
    ],
    "differences whose step is so large, or whose numbers are so coarse, that curvature or rounding "
    "outweighs the slope.",
)


def judge(records: Any) -> Verdict:
    """Fit the exponent."""
    rows = {row["arch"]: row["efficiency"] for row in records.of("measure")}
    found = [rows[f"mlp-1x{width}"] for width in WIDTHS]
    ends = ([one[end] for one in found] for end in ("value", "low", "high", "n"))
    law = power([INPUTS * width for width in WIDTHS], *ends)
    narrow = law.high - law.low < 0.2
    words = "holds" if law.low <= -1 <= law.high else "does not hold"
    words = words if narrow or words == "does not hold" else "undecided"
    why = (
        f"The efficiency is {found[0]['value']:.2g} with {INPUTS * WIDTHS[0]} weights and "
        f"{found[-1]['value']:.2g} with {INPUTS * WIDTHS[-1]:,}; theory says 1/(d + 2). A cosine falls as "
        "the root of it: at 10\u2079 weights it is some 3 in 100,000."
    )
    points = [
        Point(f"{INPUTS * width:,} weights", *(INPUTS * width * one[end] for end in ("value", "low", "high")))
        for width, one in zip(WIDTHS, found, strict=True)
    ]  # fmt: skip
    return Verdict(
        words, "exponent of the efficiency in the number of weights",
        law.exponent, law.low, law.high, int(found[0]["n"]), why, points, log=False,
        axis="efficiency times number of weights", meaning="theory, 1 / number of weights",
    )  # fmt: skip


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
