"""Arguments and options that several commands share, as annotated types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Methods = Annotated[
    list[str],
    typer.Argument(
        metavar="METHOD...",
        help="A preset (LG-FG-A) or estimator\\[options]/locality\\[options], such as "
        "fg_a\\[directions=4]/local-pg or ./mine.py:Mine/end.",
    ),
]
Arch = Annotated[
    str,
    typer.Option(
        help="Architecture, such as mlp-3x256 or localmixer-m/8/16, or a class or function of your own "
        "that returns a PyTorch module: ./net.py:make_net\\[width=64]."
    ),
]
Cut = Annotated[
    str,
    typer.Option(
        help="Modules after which a network of your own is cut: names with commas between, a regular "
        "expression, the name of a ModuleList or Sequential, or auto. 'fgbench show' lists what there is."
    ),
]
Sites = Annotated[
    str,
    typer.Option(
        help="Where noise enters a network of your own: ops (after every weight operation), post (not "
        "before a norm or gain), min (nor after norms), or a regular expression."
    ),
]
OutAxes = Annotated[
    str,
    typer.Option(
        "--out-axes",
        help="Letters of the axes of its modules' outputs, the example first, such as 'b t c'; noise is "
        "smaller where scores are kept apart along them.",
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="Data set: digits, mnist, topics, diabetes, arrays[path=xy.npz], ./data.py:make, ..."
    ),
]
Seed = Annotated[int, typer.Option(help="First seed.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds, counted up from --seed.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Dtype = Annotated[str, typer.Option(help="float32 or float64.")]
Threads = Annotated[
    int, typer.Option(min=1, help="CPU threads; more than one helps only for large networks.")
]
DataDir = Annotated[
    str | None,
    typer.Option(help="Folder of data files; default: FGBENCH_DATA if set, else the user's cache."),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Time that each method may take, its file included; one that takes longer has failed.",
    ),
]
RecordsDir = Annotated[
    Path | None, typer.Option("--records", "-o", help="Folder of records, one JSON file per run.")
]
KeptDir = Annotated[
    Path | None,
    typer.Option(
        "--records",
        "-o",
        help="Folder of records, one JSON file per run; default: none are kept.",
        show_default=False,
    ),
]
OnlyMethods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="GLOB",
        help="Only methods that match, ignoring their options: fg_a/*, */local-pg, LG-*; repeatable.",
    ),
]
OnlyArchs = Annotated[
    list[str] | None,
    typer.Option("--arch", metavar="GLOB", help="Only architectures that match; repeatable."),
]
OnlyData = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="GLOB", help="Only data sets that match; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON array instead of a table.")]
Reuse = Annotated[
    bool,
    typer.Option(help="Use finished records of the same run made by other code, and mark them."),
]
Forwards = Annotated[
    float | None,
    typer.Option(
        metavar="PASSES",
        help="Length as compute, in place of epochs: forward equivalents in passes over the training set. An "
        "epoch of backprop costs 3.",
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        help="Length as time, in place of epochs: seconds of training on this machine, without evaluation."
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(
        help="The largest difference that does not matter, an error as a fraction; default: fixed for the "
        "data set (digits 0.03, mnist 0.005, cifar10 0.02, other errors 0.02)."
    ),
]
