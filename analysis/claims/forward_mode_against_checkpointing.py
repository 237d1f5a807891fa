"""Is forward mode ever cheaper than backprop that keeps few activities?"""

from audit import Claim, judged

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
    "networks whose weights are few beside their activities, a device on which tangents are cheap, or losses "
    "that cannot be differentiated in reverse.",
)


if __name__ == "__main__":
    judged(__file__, CLAIM, lambda records: None)
