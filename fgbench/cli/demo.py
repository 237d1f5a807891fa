"""The demo: five methods on scikit-learn's digits, measured, trained and timed in about a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fgbench import api

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["BP", "FG-W", "FG-A", "LG-FG-W", "LG-FG-A"]
ARCH, DATA = "mlp-3x64", "digits"
SEEDS = 3


def run_demo(out: Path) -> None:
    """Measure, train and time five methods; print one table and draw two figures.

    Args:
        out: folder of the figures. Records go to ``records`` below it; runs that are already there are
            not repeated.

    Example:
        >>> from pathlib import Path
        >>> run_demo(Path("demo"))  # doctest: +SKIP
    """
    from fgbench.cli.progress import Progress
    from fgbench.reporting.figures import learning_curves, relative_variance
    from fgbench.reporting.frames.load import load

    folder = out / "records"
    case: dict[str, Any] = {"arch": ARCH, "data": DATA, "records": folder, "threads": 1}
    print(
        f"{len(METHODS)} methods on {DATA}: measure, train with {SEEDS} seeds, time. This takes one to two "
        "minutes on two cores and needs no network.",
        flush=True,
    )
    steps = SEEDS + 2
    with Progress("demo") as progress:
        progress.start(f"step 1 of {steps}, measure")
        measured = api.run_all("measure", METHODS, draws=128, batches=4, progress=progress, **case)
        trained = []
        for seed in range(SEEDS):
            progress.start(f"step {seed + 2} of {steps}, train seed {seed}")
            trained.append(api.run_all("train", METHODS, seed=seed, progress=progress, **case))
        progress.start(f"step {steps} of {steps}, speed")
        timed = api.run_all("speed", METHODS, reference="plain", progress=progress, **case)
    _show(measured, trained, timed)
    frames = load(folder)
    files = [*relative_variance.draw(frames, out), *learning_curves.draw(frames, out)]
    print("figures: " + ", ".join(str(f) for f in files if f.suffix == ".png"))


def _show(
    measured: list[dict[str, Any]], trained: list[list[dict[str, Any]]], timed: list[dict[str, Any]]
) -> None:
    """Print one row per method: variance with its prediction, bias, test error, cost."""
    from fgbench.reporting.terminal.table import console, make
    from fgbench.stats import reporting
    from fgbench.stats.bias_verdict import adjusted_p_values

    epochs = [run["epochs"] for run in trained[0]]
    table = make(
        f"{ARCH} on {DATA}",
        ["method", "relative variance", "theory", "bias", "test error %", "step / backprop", "fwd"],
        f"{max(m['draws'] for m in measured)} draws x {measured[0]['batches']} batches of "
        f"{measured[0]['batch']}, one network, 95 % intervals in brackets. Error: mean over "
        f"{len(trained)} seeds after {min(epochs)} to {max(epochs)} epochs, with the smallest and largest in "
        f"brackets. Steps: median of {timed[0]['rounds']} interleaved rounds on one CPU thread, over the "
        "plain PyTorch step of the same model; BP is the same gradient computed by fgbench. fwd: forward "
        "equivalents per estimate. Relative variance and bias are against the gradient of the method's own "
        "objectives; p and interval of a bias are over draws, p adjusted for the number of rows (Holm).",
    )
    for i, (m, p) in enumerate(zip(measured, adjusted_p_values(measured), strict=True)):
        errors = [100 * runs[i]["test_error"] for runs in trained if runs[i]["status"] == "ok"]
        table.add_row(
            m["method"], reporting.number(m["relative_variance"]), reporting.number(m["predicted_variance"]),
            reporting.bias(m["bias"], p), reporting.spread(errors), reporting.number(timed[i]["ratio_to_bp"]),
            reporting.number(m["cost"]["forward_equivalents"]),
        )  # fmt: skip
    console().print(table)
