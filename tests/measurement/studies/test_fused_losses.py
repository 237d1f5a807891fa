"""Replicated and fused losses: the same numbers, their growth in memory, budget, record and figure data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import api
from fgbench.cli.main import run
from fgbench.core import microbatch
from fgbench.core.network import LinearReadout
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.measurement.studies import fused_losses
from fgbench.reporting.figures import fusion as drawing
from fgbench.reporting.frames.load import load
from tests.twins.contrastive import Contrastive
from tests.twins.replicated import replicated

# torch.func.jvp loads rules that torch itself still writes with torch.jit.script
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

SHAPE = (6, 3, 2, 4)
SMALL: dict[str, Any] = {"patches": 3, "channels": 4, "classes": 5, "batch": 6, "rounds": 3}
MAKES = {
    "cross entropy": LinearReadout,
    "contrastive": lambda axes, features, classes: Contrastive(features, 7),
}


def case(make: Any = LinearReadout) -> Any:
    return fused_losses.Case(Noise(0, dtype=torch.float64), SHAPE, 5, lambda *a: make(*a).double())


def test_the_replicated_loss_is_the_literal_one() -> None:
    one = case()
    heads = dict(one.readout.named_parameters())
    found = one.losses(one.f, heads)
    want = replicated(one.f, heads["linear.weight"], heads["linear.bias"], one.labels)
    torch.testing.assert_close(found, want)
    for slow, literal in zip(
        torch.autograd.grad(found[:, 1, 0].sum(), heads.values()),
        torch.autograd.grad(want[:, 1, 0].sum(), heads.values()),
        strict=True,
    ):
        torch.testing.assert_close(slow, literal)


@pytest.mark.parametrize("what", fused_losses.PASSES)
@pytest.mark.parametrize("make", MAKES)
def test_both_give_the_same_numbers(make: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = case(MAKES[make])
    assert one.difference(what) < 1e-13
    monkeypatch.setattr(one, "runs", (slice(0, 2), slice(2, 6)))
    assert one.difference(what) < 1e-13


@pytest.mark.parametrize("what", fused_losses.PASSES)
def test_a_planted_fault_is_a_difference(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = case()
    real = fused_losses.readout_losses.read

    def off(*given: Any) -> Any:
        found = real(*given)
        for part in found.df:
            part[0, 0, 0, 0] *= 1.001
        return found

    monkeypatch.setattr(fused_losses.readout_losses, "read", off)
    assert one.difference(what) > 1e-7


def test_every_copy_has_the_whole_gradient_of_the_readout() -> None:
    one = case()
    slow, fast = one.replicated("gradient"), one.fused("gradient")
    for a, b in zip(slow[1:], fast[len(one.runs) :], strict=True):
        torch.testing.assert_close(a, 3 * 2 * b)  # 3 patches, 2 groups


def test_rows_are_tidy_and_memory_grows_by_a_power_less() -> None:
    rows = fused_losses.fusion([2, 16], **{**SMALL, "batch": 8, "patches": 16, "channels": 8})
    assert [(r["groups"], r["pass"], r["implementation"]) for r in rows] == [
        (g, what, name)
        for g in (2, 16)
        for what in ("tangent", "gradient")
        for name in ("replicated", "fused")
    ]
    by = {(r["groups"], r["pass"], r["implementation"]): r for r in rows}
    for what in fused_losses.PASSES:
        grown = {
            name: by[16, what, name]["peak_mb"] / by[2, what, name]["peak_mb"]
            for name in ("replicated", "fused")
        }
        assert grown["replicated"] > 40  # towards 64: the square of the groups
        assert grown["fused"] < 10  # 8: as the input itself
        fast = by[16, what, "fused"]
        ratio = by[16, what, "replicated"]["peak_mb"] / fast["peak_mb"]
        assert fast["memory_ratio"] == pytest.approx(ratio)
        assert fast["memory_ratio"] > 50
        assert fast["difference"] < 1e-4
        assert fast["ms"]["n"] == fast["time_ratio"]["n"] == 3


def test_what_may_need_too_much_memory_is_skipped_with_the_reason() -> None:
    rows = fused_losses.fusion([1, 2, 8], **SMALL, memory_gb=2e-5)
    ran = {(r["groups"], r["implementation"]): r["status"] for r in rows}
    assert ran[1, "replicated"] == "ok"
    assert ran[8, "replicated"] == "skipped"
    assert all(status == "ok" for (_, name), status in ran.items() if name == "fused")
    for row in rows:
        skipped = row["status"] == "skipped"
        assert skipped == ("ms" not in row) == bool(row["reason"])
        assert ("GB, more than the 2e-05 GB it may use" in row["reason"]) == skipped
        alone = row["implementation"] == "replicated" or ran[row["groups"], "replicated"] != "ok"
        assert ("time_ratio" in row) != alone


class Peeking(LinearReadout):
    """Looks at one patch more than at the others."""

    def forward(self, f: Tensor, *tap: Any) -> Tensor:
        return super().forward(f * torch.linspace(0, 2, f.shape[1])[:, None, None])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"groups": []}, "ascending"),
        ({"groups": [4, 2]}, r"\[4, 2\]"),
        ({"groups": [0, 2]}, "from 1 up"),
        ({"patches": 0}, "patches=0"),
        ({"rounds": 0}, "rounds=0"),
        ({"make": Peeking}, "through their mean alone"),
    ],
)
def test_what_cannot_be_compared_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fused_losses.fusion(**{"groups": [1, 2], **SMALL, **wrong})


@pytest.mark.slow
def test_a_record_becomes_a_figure(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--patches", "4", "--channels", "4", "--batch", "4", "--rounds", "3"]
    folder = str(tmp_path / "records")
    assert run(["fusion", "--groups", "1,2,8", *small, "--memory", "1e-4", "-o", folder]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "replicated at 8 groups not run: may need" in told
    assert run(["figure", "fusion", folder, "-o", str(tmp_path / "out")]) == 0
    table = load(tmp_path / "records").fusions()
    assert len(table) == 12
    assert drawing.plotted(table)["ms"].notna().sum() == 10
    caption = drawing._caption(drawing.plotted(table), named=False).replace("\n", " ")
    assert "Replicated at 8 groups not run: may need" in caption
    assert "Fused at 2 groups: tangent " in caption
    assert "bar: range, n = 3 interleaved rounds" in caption
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"fusion.{e}" for e in ("png", "pdf", "csv", "txt")
    }
    with pytest.raises(UsageError, match="'groupz'"):
        api.fusion(groupz=[1])
    assert run(["fusion", "--groups", "1,x"]) == 2
    assert "'1,x'" in capsys.readouterr().err


def test_the_batch_is_cut_as_anywhere_else() -> None:
    one = case()
    assert one.runs == microbatch.cut(6, 3 * 2 * 4 * 8, one.f.device)
