"""Is forward mode ever cheaper than backprop that keeps few activities?"""

from typing import Any

from audit import Claim, Point, Verdict, judged, method_of

FORWARD = ("FG-A", "FG-W", "LG-FG-A")
EXACT = ("BP", "BP-CKPT", "BP-ACC", "bp[parts=8,recompute=auto]")
CLAIM = Claim(
    "Backprop with checkpointing is the better way to train with little memory: forward mode saves memory "
    "only at a cost in time and accuracy.",
    "Panchal, Choudhary, Brun, Guan: The Cost of Avoiding Backpropagation, arXiv 2506.21833, abstract: "
    "\u201cBP with checkpointing outperforms FmAD and ZO variants\u201d.",
    "time and peak memory of a step of FG-A, FG-W and LG-FG-A, and of backprop plain, with activities "
    "computed again (BP-CKPT), with the batch in parts (BP-ACC) and with both, on mlp-16x256 and digits, "
    "batch 512, interleaved in one run. The claim holds if some form of exact backprop needs no more memory "
    "than the leanest of the forward gradients and less time than the fastest: the interval of the ratio of "
    "times lies above 1.",
    [
        f"speed {' '.join((*FORWARD, *EXACT))} --arch mlp-16x256 --data digits --batch 512 --rounds 20 "
        "--reference plain --threads 1"
    ],
    "a quiet machine, since these times were taken beside other work and their intervals are wide; "
    "networks whose weights are few beside their activities, a device on which tangents are cheap, or losses "
    "that cannot be differentiated in reverse.",
)


def judge(records: Any) -> Verdict:
    """Compare the fastest forward gradient with the fastest exact one that needs no more memory than any."""
    rows = {name: method_of(records, name, "speed") for name in (*FORWARD, *EXACT)}
    memory = {name: row["peak_ratio_to_bp"] for name, row in rows.items()}
    time = {name: row["ratio_to_bp"] for name, row in rows.items()}
    least = min(memory[name] for name in FORWARD)
    lean = [name for name in EXACT if memory[name] <= least]
    best = min(lean or EXACT, key=lambda name: time[name]["value"])
    quick = min(FORWARD, key=lambda name: time[name]["value"])
    found = {
        "value": time[quick]["value"] / time[best]["value"],
        "low": time[quick]["low"] / time[best]["high"],
        "high": time[quick]["high"] / time[best]["low"],
    }
    words = "holds" if lean and found["low"] > 1 else "holds in part" if lean else "does not hold"
    words = "does not hold" if found["high"] < 1 else words
    why = (
        f"{best} gives the exact gradient with {memory[best]:.2f} of the memory of plain backprop in "
        f"{time[best]['value']:.2f} of its time. The forward gradients need {least:.2f} of that memory at "
        f"least, and {quick}, the fastest, {time[quick]['value']:.2f} of the time for an estimate that is "
        "all noise beside it. Judged is the cost of a step; accuracy follows from the noise."
    )
    points = [
        Point.of(f"{name} (memory {memory[name]:.2f})", time[name]) for name in (*FORWARD, *EXACT)
    ]
    return Verdict(
        words, f"ratio of times, {quick} over {best}", *found.values(), time[quick]["n"], why, points,
        axis="time of a step over that of plain backprop",
    )  # fmt: skip


if __name__ == "__main__":
    judged(__file__, CLAIM, judge)
