"""Do the small weights hold more than their share of the gradient?"""

from typing import Any

from audit import Claim, Point, Verdict, judged, method_of

SMALL, ANY, LARGE = (f"fg_w[mask={kind}[keep=0.25]]" for kind in ("small", "random", "large"))
CLAIM = Claim(
    "Zeroth-order noise on a carefully chosen part of the weights, the small ones, does better than noise on "
    "all of them.",
    "Liu, Zhu, Gong, Cheng, Hsieh, You: Sparse MeZO: Less Parameters for Better Performance in Zeroth-Order "
    "LLM Fine-Tuning, NeurIPS 2025, arXiv 2402.15751, abstract: \u201capplies ZO only to a carefully chosen "
    "subset of parameters\u201d, with gains in \u201cboth performance and convergence speed over MeZO\u201d.",
    f"the efficiency of {SMALL}, and for comparison of {ANY} and {LARGE}, over that of fg_w on mlp-1x32 and "
    "digits, batch 128, paired on 8 networks, at initialisation and after 5 epochs of backprop. A quarter of "
    "the weights gains exactly if it holds more than a quarter of the squared gradient: if the interval of "
    "the ratio lies above 1.",
    [
        f"measure {SMALL} {ANY} {LARGE} --against fg_w --arch mlp-1x32 --data digits --inits 8 --batches 1 "
        "--draws 48 --moments 0,5 --threads 1"
    ],
    "fine-tuning of a pretrained language model, where the gradient may sit elsewhere; or the other reason "
    "that the paper gives, that noise on large weights disturbs the loss more and limits the rate, which a "
    "variance at one point does not see.",
)


def judge(records: Any) -> Verdict:
    """Compare the ratio of the small weights with 1, at the later moment."""
    found = {
        name: [part["against"]["efficiency"] for part in method_of(records, name)["per_moment"]]
        for name in (SMALL, ANY, LARGE)
    }
    first, last = found[SMALL]
    words = "holds" if last["low"] > 1 else "does not hold" if last["high"] < 1 else "undecided"
    why = (
        f"The smallest quarter of every matrix has {last['value']:.2f} times the efficiency of noise on all "
        f"weights after 5 epochs, {first['value']:.2f} times at initialisation; any quarter has "
        f"{found[ANY][1]['value']:.2f} and the largest {found[LARGE][1]['value']:.2f} times. Small weights "
        "are those that the gradient has moved least. Judged is the estimate, not the training that it is "
        "used in."
    )
    points = [
        Point.of(f"{kind} quarter, {when}", one)
        for kind, name in (("smallest", SMALL), ("any", ANY), ("largest", LARGE))
        for when, one in zip(("epoch 0", "epoch 5"), found[name], strict=True)
    ]
    return Verdict(
        words, "ratio of efficiencies after 5 epochs, smallest quarter over all",
        *(last[name] for name in ("value", "low", "high", "n")), why, points,
        axis="ratio of efficiencies, a quarter of the weights over all",
    )  # fmt: skip


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
