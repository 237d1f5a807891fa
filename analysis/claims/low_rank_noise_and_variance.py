"""Does noise of low rank make a zeroth-order estimate less noisy than noise on every weight?"""

from typing import Any

from audit import Claim, Point, Verdict, judged, method_of, ratio

SUBSPACE, FACTORS = "subzero[rank=4,refresh=1,step=0]", "lozo[rank=2,lazy=1,step=0]"
CLAIM = Claim(
    "Perturbing within random subspaces of low rank gives a gradient estimate of lower variance than "
    "perturbing all weights.",
    "Yu, Zhou, Wang, Li, Tian, Huang: Zeroth-Order Fine-Tuning of LLMs in Random Subspaces, ICCV 2025, arXiv "
    "2410.08989, abstract: \u201cexhibits lower variance than traditional ZO methods\u201d.",
    f"the relative variance of {SUBSPACE} and of {FACTORS} over that of fg_w, all with exact slopes and new "
    "subspaces for every estimate, on mlp-1x16 and digits, batch 128, at initialisation, paired on 8 "
    "networks. The claim holds if the interval of the ratio lies below 1.",
    [
        f"measure {SUBSPACE} {FACTORS} --against fg_w --arch mlp-1x16 --data digits --inits 8 --batches 1 "
        "--draws 256 --threads 1"
    ],
    "another mean to compare with: within one subspace that is kept, the variance about the projected "
    "gradient is r\u00b2 + 1, but that mean keeps r\u00b2/(mn) of the gradient of an m by n matrix. Or "
    "gradients that lie in subspaces which the method finds.",
)


def judge(records: Any) -> Verdict:
    """Compare both ratios with 1."""
    found, other = (ratio(method_of(records, name)) for name in (SUBSPACE, FACTORS))
    lower, upper = (max(one[end] for one in (found, other)) for end in ("low", "high"))
    words = "holds" if upper < 1 else "does not hold" if lower > 1 else "undecided"
    why = (
        "A random subspace keeps the same share of the gradient and of its noise. What remains of unequal "
        "directions adds to the variance: the closed forms are mn(1 + 2/r\u00b2) \u2212 1 and mn + 1 + "
        f"2(m + n + 1)/r against mn + 1; measured {found['value']:.2f} and {other['value']:.2f} times that "
        "of noise on every weight."
    )
    return Verdict(
        words, "ratio of relative variances, subzero over fg_w",
        *(found[name] for name in ("value", "low", "high", "n")), why,
        [Point.of("subzero, rank 4", found), Point.of("lozo, rank 2", other)], log=False,
        axis="ratio of relative variances, low-rank noise over fg_w",
    )  # fmt: skip


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
