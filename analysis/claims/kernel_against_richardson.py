"""Is a kernel over random step lengths a good way to take the bias out of finite differences?"""

from typing import Any

from audit import Claim, Point, Verdict, judged, method_of, ratio

KERNEL, EXTRAPOLATED, CENTRAL = (
    "wp[sided=kernel,directions=2]",
    "wp[sided=richardson]",
    "wp[sided=central,directions=2]",
)
CLAIM = Claim(
    "Weighting differences of random step lengths by a kernel is an effective way to reduce the bias of "
    "zeroth-order estimates.",
    "Mi, Tan, Yu, Zhu, Yuan, Huang: KerZOO: Kernel Function Informed Zeroth-Order Optimization for Accurate "
    "and Accelerated LLM Fine-Tuning, arXiv 2505.18886, abstract: \u201cthe kernel function is an effective "
    "avenue for reducing estimation bias in ZO methods\u201d.",
    f"at four passes per estimate each, the relative variance of {KERNEL} and of {CENTRAL} over that of "
    f"{EXTRAPOLATED}, which takes the same order of the step out of the bias without a random length, on "
    "mlp-1x8 and digits, batch 128, at initialisation, paired on 8 networks. The kernel is effective if its "
    "interval lies below 1, and if the bias that it removes can be seen beside the noise.",
    [
        f"measure {KERNEL} {CENTRAL} --against {EXTRAPOLATED} --arch mlp-1x8 --data digits --inits 8 "
        "--batches 1 --draws 96 --threads 1"
    ],
    "steps so large that the third derivative counts beside the noise of one estimate, averaged over very "
    "many directions; Richardson's extrapolation would still be the less noisy of the two.",
)


def judge(records: Any) -> Verdict:
    """Compare the ratio with 1, and the bias of the central difference with what can be seen."""
    found, central = (ratio(method_of(records, name)) for name in (KERNEL, CENTRAL))
    bias = method_of(records, CENTRAL)["bias"]
    words = "holds" if found["high"] < 1 else "holds in part" if found["low"] > 1 else "undecided"
    why = (
        "The kernel takes the square of the step out of the bias, by algebra, and so does Richardson's "
        f"extrapolation at {found['value']:.1f} times less variance for the same passes. At the published "
        f"step of 1e-3 there is little to remove: the central difference has a bias of {bias['value']:.2f} "
        f"[{bias['low']:.2f}, {bias['high']:.2f}] of the gradient, p = {bias['p_value']:.2f}, and "
        f"{central['value']:.2f} times the variance of the extrapolation."
    )
    return Verdict(
        words, "ratio of relative variances at equal passes, kernel over Richardson",
        *(found[name] for name in ("value", "low", "high", "n")), why,
        [Point.of("kernel over Richardson", found), Point.of("central over Richardson", central)],
        axis="ratio of relative variances at equal passes",
    )  # fmt: skip


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
