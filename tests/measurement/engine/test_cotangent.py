"""Both engines give the same slopes, estimates and moments, draw by draw under the same noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fgbench.core import axes
from fgbench.core.axes import Cells
from fgbench.core.cost import CostCounter
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.oracles import Oracles
from fgbench.core.view import View
from fgbench.estimators.fg_a import ActivityForwardGradient
from fgbench.measurement import draws as drawing
from fgbench.measurement import loop as measuring
from fgbench.measurement.design import Design
from fgbench.measurement.draw_statistics import from_credit
from fgbench.measurement.draw_statistics import implicit_gradients as calls
from fgbench.measurement.draw_statistics.from_credit import CreditMoments
from fgbench.measurement.draw_statistics.from_gradients import GradientMoments
from fgbench.measurement.draws import Point
from fgbench.measurement.engine import cotangent
from fgbench.measurement.engine.cotangent import Engine
from fgbench.measurement.engine.cotangent_view import CotangentView, Refused
from fgbench.measurement.loop import measure
from fgbench.registry import method
from fgbench.workload import Workload
from tests.makers.networks import batch, build

MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"  # no two sizes alike
SHAPE = (2, 4, 6)


def point(arch: str, name: str, b: int = 3) -> Point:
    """An estimator on a batch of b examples."""
    task, estimator, noise = build(arch, name, SHAPE)
    x, y = batch(b, SHAPE)
    state = estimator.init_state(task.scheme, noise)
    truth, end = task.scheme_truth(x, y), task.end_truth(x, y)
    return Point(task, estimator, state, x, y, noise, truth, end)


def difference(at: Point, draws: int) -> float:
    """Largest difference of what both engines keep, relative to the largest number of its kind."""
    found = [drawing.draw(at, draws, e).places(at) for e in ("dual", "cotangent")]
    worst = 0.0
    for place, series in found[0].items():
        for name in ("x", "y", "d2", "gram", "end_x", "end_y", "control", "agreement"):
            a, b = (getattr(s, name) for s in (series, found[1][place]))
            assert (a is None) == (b is None)
            if a is not None:
                worst = max(worst, float(np.abs(a - b).max() / np.abs(a).max()))
    return worst


CASES = [
    *((arch, f"fg_a/{where}") for arch in ("mlp-3x8", MIXER, "cnn-tiny[width=4]")
      for where in ("end", "module", "local", "overlap")),
    *((MIXER, f"fg_a/{where}") for where in ("local-p", "local-pg")),
    (MIXER, "fg_a[directions=3]/overlap-pg"), (MIXER, "fg_a[directions=3]/last-pg"),
    (MIXER, "fg_a[directions=3,law=sphere]/local-pg"), (MIXER, "fg_a[share=b]/local-p"),
    (MIXER, "fg_a[credit=released,average=p]/local-p"), ("mlp-3x8", "fg_a[norm_grad=false]"),
    ("mlp-3x8", "fg_w"), ("mlp-3x8", "fg_w[share=none,law=rademacher]/local"),
    (MIXER, "fg_w/local-pg"), (MIXER, "fg_w[directions=2]/module"), ("cnn-tiny[width=4]", "fg_w/local"),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "name"), CASES)
def test_both_engines_agree_draw_by_draw(arch: str, name: str) -> None:
    assert difference(point(arch, name), 14) < 1e-10


def test_they_agree_on_two_views_whose_keys_are_held() -> None:
    assert difference(point("mlp-2x8", "fg_a/contrastive-local[augment=none]", 4), 8) < 1e-10


def test_single_precision_agrees_to_its_rounding() -> None:
    where = Workload.of("mlp-2x32", "synthetic[size=4,train=64,test=32]")
    few = {"draws": 70, "batches": 1, "batch": 8}  # fewer examples than inputs: by pairs
    one, other = (
        measure(where, [method("FG-A")], Design(**few, engine=e))[0] for e in ("dual", "cotangent")
    )
    for name in ("relative_variance", "scale", "efficiency"):
        assert one[name]["value"] == pytest.approx(other[name]["value"], rel=1e-5)


def test_they_agree_where_every_index_takes_a_pass_of_its_own() -> None:
    at = point(MIXER, "fg_a/module-pg")
    assert difference(at, 40) < 1e-10  # more draws than blocks


@pytest.mark.parametrize(("draws", "step"), [(40, 1), (70, 32)])
def test_they_agree_whichever_draws_are_taken_together(
    draws: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_credit, "BUFFER", 2 * 8 * 27)  # two draws of 3 examples and 9 columns
    at = point("mlp-2x8", "fg_a/local")
    tally = drawing.by_cotangents(at, draws).tally
    assert isinstance(tally, CreditMoments)
    runs = list(tally.runs())
    assert sorted(k for run in runs for k in run) == list(range(draws))
    assert max(map(len, runs)) == tally.together == 2
    assert {run.step for run in runs} == {step}
    assert difference(at, draws) < 1e-10


def test_pairs_are_taken_where_the_batch_is_smaller_than_the_fan_in() -> None:
    few, many = (drawing.by_cotangents(point("mlp-2x8", "fg_a", b), 4).tally for b in (3, 60))
    assert isinstance(few, CreditMoments)
    assert isinstance(many, CreditMoments)
    assert [(call.paired, len(call.names)) for call in few._every] == [(True, 2)] * 2
    assert [(call.paired, len(call.names)) for call in many._every] == [(False, 1)] * 4
    assert difference(point("mlp-2x8", "fg_a", 60), 6) < 1e-10


# planted faults: a wrong engine refuses, or what it keeps differs


def _forgotten(letter: str) -> Callable[[Any], None]:
    """Forget that an axis is mixed after a site."""
    cells = CotangentView.cells

    def fewer(self: CotangentView, name: str, **options: bool) -> Cells:
        meet = cells(self, name, **options)
        return replace(meet, mixed=" ".join(a for a in axes.names(meet.mixed) if a != letter))

    return lambda patch: patch.setattr(CotangentView, "cells", fewer)


def _mean_twice(patch: Any) -> None:
    df = View.df
    patch.setattr(CotangentView, "df", lambda self: df(self) / len(self.start))


def _unmasked(patch: Any) -> None:
    credit = CotangentView._credit
    patch.setattr(CotangentView, "_credit", lambda self, s, u, at, on: credit(self, s, u, at, None))


REFUSED = {
    "a missed mixed axis": (_forgotten("g"), "its slopes differ"),
    "another missed mixed axis": (_forgotten("p"), "its slopes differ"),
    "1/B twice": (_mean_twice, "its slopes differ"),
    "a dropped mask": (_unmasked, "its gradient differs"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_fault_of_the_slopes_or_the_credit_is_refused(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = point(MIXER, "fg_a/overlap-pg")
    drawing.by_cotangents(at, 40)
    plant, reason = REFUSED[fault]
    plant(monkeypatch)
    with pytest.raises(Refused, match=reason):
        drawing.by_cotangents(at, 40)


def test_a_mask_dropped_for_draws_together_makes_them_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CotangentView, "_factors", {})
    assert difference(point("mlp-2x8", "fg_a"), 8) < 1e-10
    monkeypatch.setattr(Engine, "_same", lambda *given: True)
    assert isinstance(drawing.by_cotangents(point("mlp-2x8", "fg_a"), 8).tally, GradientMoments)


@pytest.mark.parametrize("arch", ["mlp-2x8", MIXER])
def test_inputs_that_are_not_the_layers_own_form_the_gradients(
    arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = calls._inputs
    monkeypatch.setattr(calls, "_inputs", lambda entry: 1.01 * inputs(entry))
    assert isinstance(drawing.by_cotangents(point(arch, "fg_a"), 4).tally, GradientMoments)
    assert difference(point(arch, "fg_a"), 4) < 1e-10


def test_block_sums_about_another_mean_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    grams = calls.ImplicitGradients.grams
    monkeypatch.setattr(calls.ImplicitGradients, "grams", lambda self, n: grams(self, 0 * n))
    assert difference(point("mlp-2x8", "fg_a"), 4) > 1e-3


# what the engine refuses, with the reason


@dataclass(frozen=True)
class Elsewhere(ActivityForwardGradient):
    """Claims exact slopes at the clean point and takes them at other parameters."""

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        return super().__call__(view.with_(params=view.params), noise, state)


@dataclass(frozen=True)
class Reversed(Defaults):
    """Claims slopes alone and takes the gradient."""

    def claims(self, task: Any) -> Claims:
        return Claims(slopes_only=True)

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        return Estimate(grads=view.reverse())


REASONS = [
    ("mlp-2x8", "np", "does not claim slopes_only"),
    ("mlp-2x8", Elsewhere(), "other oracles than exact slopes"),
    ("mlp-2x8", Reversed(), "other oracles than exact slopes"),
    (
        "mlp-2x8",
        "fg_a/contrastive[stop_keys=false,augment=none]",
        "losses of 'end' couple the examples",
    ),
    (MIXER, "fg_a/module-pg", "reverse passes, which cost more than the slopes of 6 draws"),
]


@pytest.mark.parametrize(("arch", "chosen", "reason"), REASONS)
def test_what_would_not_be_exact_or_faster_is_refused(arch: str, chosen: Any, reason: str) -> None:
    at = point(arch, chosen if isinstance(chosen, str) else "fg_a", 4)
    at = at if isinstance(chosen, str) else replace(at, estimator=chosen)
    with pytest.raises(Refused, match=reason):
        drawing.by_cotangents(at, 6)
    assert drawing.draw(at, 6).engine == "dual"
    drawn, fallback = drawing.try_cotangents(at, 6, "auto")
    assert drawn is None
    assert reason in fallback


MORE = sorted({n for n in dir(View) if n[0] != "_"} - {n for n in dir(Oracles) if n[0] != "_"})


@pytest.mark.parametrize("name", MORE)
def test_an_oracle_that_only_a_view_has_is_refused(name: str) -> None:
    """The engine's view is no view that takes methods back: it has the oracles and nothing else."""
    assert [
        *("from_module", "gradients", "inputs", "losses_along", "only", "output_tangent"),
        *(
            "perturb_in_place",
            "perturbed",
            "pull",
            "reverse",
            "site_tangents",
            "slopes_apart",
            "with_",
        ),
    ] == MORE
    assert not issubclass(CotangentView, View)
    at = point("mlp-2x8", "fg_a")
    (view,) = at.task.views(at.x, at.labels, CostCounter())
    engine_view = CotangentView(view, on_sites=True)
    with pytest.raises(Refused, match="other oracles than exact slopes"):
        getattr(engine_view, name)
    with pytest.raises(AttributeError, match="no_such_oracle"):
        _ = engine_view.no_such_oracle
    with pytest.raises(Refused, match="differences of values"):
        engine_view.slopes(at.noise.directions(view.sites), step=0.1)


def test_cotangents_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cotangent, "HELD", 100)
    with pytest.raises(Refused, match="its cotangents would take"):
        drawing.by_cotangents(point("mlp-2x8", "fg_a"), 6)


# draws in one call


@dataclass(frozen=True)
class Centred(ActivityForwardGradient):
    """Takes the mean slope of its directions away, so that draws may not be mixed."""

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites, self.directions)
        slopes = view.slopes(u)
        return Estimate(credit=view.credit(slopes - slopes.mean(0), u))


@dataclass(frozen=True)
class Shaken(ActivityForwardGradient):
    """Uses other noise beside its directions."""

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites, self.directions)
        slopes: Tensor = view.slopes(u)
        return Estimate(credit=view.credit(slopes + noise.normal("more", slopes.shape), u))


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (Centred(directions=3), "give other credit"),
        (Shaken(directions=2), "Unstacked: noise.normal"),
    ],
)
def test_an_estimator_that_takes_draws_one_by_one_gets_them_so(estimator: Any, reason: str) -> None:
    at = replace(point("mlp-2x8", "fg_a/local"), estimator=estimator)
    assert difference(at, 9) < 1e-10
    engine = Engine(at.task, estimator, {}, at.x, at.labels)
    engine.prepare(at.noise, 100)
    engine.credits([at.noise.at(k) for k in range(3)])
    assert reason in engine.one_by_one


@dataclass(frozen=True)
class Failing(ActivityForwardGradient):
    """Fails from its second call on."""

    calls: Any = None

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        self.calls.append(1)
        if len(self.calls) > 2:
            raise IndexError("of its own")
        return super().__call__(view, noise, state)


def test_an_error_of_the_estimator_itself_is_raised() -> None:
    """One that several draws raise is kept as the reason; if one draw raises it too it is not hidden."""
    at = point("mlp-2x8", "fg_a")
    engine = Engine(at.task, Failing(calls=[]), {}, at.x, at.labels)
    engine.prepare(at.noise, 100)
    with pytest.raises(IndexError, match="of its own"):
        engine.credits([at.noise.at(k) for k in range(3)])
    assert engine.one_by_one == "several draws in one call raise IndexError: of its own"


@dataclass(frozen=True)
class Handled(ActivityForwardGradient):
    """Handles the gradients that its credit was pulled back to, or the slopes that weigh it."""

    slopes: bool = False

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites, self.directions)
        if self.slopes:
            return Estimate(grads=view.probe(u, weigh=torch.sign))
        return Estimate(grads={name: 2 * g for name, g in view.probe(u).items()})


@pytest.mark.parametrize(("slopes", "kept"), [(True, CreditMoments), (False, GradientMoments)])
def test_gradients_that_an_estimator_handles_are_formed(slopes: bool, kept: Any) -> None:
    at = replace(point(MIXER, "fg_a/local-pg"), estimator=Handled(slopes=slopes))
    assert difference(at, 14) < 1e-10
    assert isinstance(drawing.by_cotangents(at, 14).tally, kept)


# measuring


def leaves(found: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a record, with its path."""
    if isinstance(found, list):
        found = dict(enumerate(found))
    if not isinstance(found, dict):
        yield at, found
        return
    for name, value in found.items():
        yield from leaves(value, f"{at}/{name}")


@pytest.mark.slow
def test_records_say_which_engine_and_why() -> None:
    where = Workload.of("mlp-2x8", "synthetic[size=4,train=64,test=32]", dtype="float64")
    methods = [method(m) for m in ("FG-A", "NP", "BP")]
    few = {"draws": 8, "batches": 2, "batch": 4}
    auto, dual, fast = (
        measure(where, methods, Design(**few, engine=e)) for e in ("auto", "dual", "cotangent")
    )
    assert [r["engine"] for r in auto] == ["cotangent", "dual", "dual"]
    assert [r["engine"] for r in dual] == ["dual"] * 3
    assert [r["status"] for r in fast] == ["ok", "skipped", "skipped"]
    assert "slopes_only" in auto[1]["fallback"]
    assert fast[1]["reason"] == f"engine cotangent: {auto[1]['fallback']}"
    assert [r["fallback"] for r in (auto[0], auto[2], *dual)] == [""] * 5
    for name in ("relative_variance", "efficiency", "scale", "bias"):
        for end in ("value", "low", "high"):
            a, b = auto[0][name][end], dual[0][name][end]
            assert a == (b if b is None else pytest.approx(b, rel=1e-9, abs=1e-12))
    same = {**auto[0], "engine": "dual", "fallback": ""}
    assert list(leaves(same)) == [
        (at, value if not isinstance(value, float) else pytest.approx(value, rel=1e-6, abs=1e-9))
        for at, value in leaves({**dual[0], "fallback": ""})
    ]
    assert auto[0]["cost"] == dual[0]["cost"]  # what it costs as it is, not as it was measured


@pytest.mark.parametrize("refusing", [1, 2])
def test_a_refusal_at_one_point_ends_the_method(
    refusing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers over fewer points than the record says would be those of another design."""
    where = Workload.of("mlp-2x8", "synthetic[size=4,train=64,test=32]", dtype="float64")
    prepare, calls = Engine.prepare, []

    def sometimes(self: Engine, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == refusing:
            raise Refused("not here")
        return prepare(self, *args)

    monkeypatch.setattr(Engine, "prepare", sometimes)
    few = Design(draws=8, batches=3, batch=4, engine="cotangent")
    (found,) = measure(where, [method("FG-A")], few)
    assert (found["status"], found["reason"]) == ("skipped", "engine cotangent: not here")
    assert len(calls) == refusing


@pytest.mark.parametrize("engine", ["auto", "cotangent"])
def test_a_pilot_too_small_for_the_engine_does_not_refuse_it(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Workload.of(MIXER, "synthetic[size=4,train=64,test=32]", dtype="float64")
    monkeypatch.setattr(measuring, "PILOT", 6)
    monkeypatch.setattr(measuring, "_needed", lambda pilot, precision: 60)
    few = {"batches": 1, "batch": 4, "moments": (0.0,)}
    (alone,) = measure(where, [method("fg_a/module-pg")], Design(draws=6, engine=engine, **few))
    assert "6 draws" in alone["fallback"] + alone["reason"]
    design = Design(precision=0.1, engine=engine, **few)
    (found,) = measure(where, [method("fg_a/module-pg")], design)
    assert (found["engine"], found["fallback"], found["draws"]) == ("cotangent", "", 60)
