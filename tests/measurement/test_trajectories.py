"""Moment by moment along training, at a fixed cost, and how far a site is from its loss."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fgbench import api, registry
from fgbench.cli import main
from fgbench.core.cost import CostCounter
from fgbench.errors import UsageError
from fgbench.measurement import budget, trajectories
from fgbench.measurement.design import TRAJECTORIES, Design
from fgbench.measurement.draw_statistics.places import distances
from fgbench.measurement.loop import measure
from fgbench.measurement.speed.step_costs import speed
from fgbench.measurement.summary import ALONG
from fgbench.measurement.trajectories import Trajectory, at_moments, epoch_steps
from fgbench.reporting.frames.load import load
from fgbench.runs import against
from fgbench.stats.replicates import ONE_INIT
from fgbench.training import loop as training
from fgbench.training.loop import recipe_for
from fgbench.training.recipe import Recipe, default_recipe
from fgbench.training.run import TrainingRun
from tests.makers.localities import Greedy, Partial, Raises, Twins
from tests.makers.measuring import FEW, IMAGES, MIXER, Factor, measured, of, workload
from tests.makers.networks import build

NET = "mlp-2x8"
WHOLE = ("relative_variance", "efficiency", "bias", "scale", "cosine", "cosine_draws", "split")
WHOLE += ("efficiency_per_forward", "variance_times_cost")


@pytest.mark.slow
def test_the_numbers_of_a_moment_are_those_of_measuring_it_alone() -> None:
    both = measured("fg_a/local", where=workload(NET), moments=(0.0, 2.0), batches=2, draws=8)
    assert both["trajectory"] == TRAJECTORIES["backprop"]
    assert both["moment_steps"] == [0, 2 * epoch_steps(workload(NET))]
    assert [part["moment"] for part in both["per_moment"]] == both["moments"] == [0.0, 2.0]
    assert [part["steps"] for part in both["per_moment"]] == both["moment_steps"]
    for part in both["per_moment"]:
        when = (part["moment"],)
        alone = measured("fg_a/local", where=workload(NET), moments=when, batches=2, draws=8)
        assert alone["per_moment"] == []  # its numbers are the record's
        assert {name: part[name] for name in WHOLE} == {name: alone[name] for name in WHOLE}
        for name, site in part["per_site"].items():
            assert site == {key: alone["per_site"][name][key] for key in ALONG}
    start, later = (part["relative_variance"]["value"] for part in both["per_moment"])
    assert start != later
    pooled = both["relative_variance"]["value"]
    assert pooled == pytest.approx((start * later) ** 0.5, rel=1e-12)


@pytest.mark.parametrize(("data", "steps"), [("digits", 28), ("synthetic[train=7]", 1)])
def test_an_epoch_of_the_shared_trajectory_has_the_steps_of_one_of_training(
    data: str, steps: int
) -> None:
    """1,437 digits are 28 batches of 50 and a rest, which both leave out; fewer than a batch are one."""
    where = workload(NET, data)
    recipe = default_recipe(where.arch, where.data.name, exact=True)
    assert epoch_steps(where) == steps
    task, estimator, noise = where.task(registry.method("BP"), 0)
    if recipe.batch <= len(where.data.train_y):
        assert TrainingRun(task, estimator, recipe, noise, where.data).per_epoch == steps
    sizes: list[int] = []
    chain = where.chain(0)
    with where.noise(0).seeded():
        chain.attach()

    def count(module: object, args: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(args[0]))

    chain.module(0).register_forward_pre_hook(count)
    ((_, _),) = at_moments(where, chain, 0, (2.0,))
    assert set(sizes) == {min(recipe.batch, len(where.data.train_y))}


def test_figures_read_every_moment_of_a_record_as_it_is_written(tmp_path: Path) -> None:
    where = {"arch": NET, "data": "synthetic[size=4,train=64,test=32]", "records": tmp_path}
    few = {"draws": 4, "batches": 2, "batch": 8}
    api.run("measure", method="FG-A", **where, **few, moments=(0.0, 2.0), cost=12.0)
    api.run("measure", method="FG-A", **where, **few)
    records = load(tmp_path)
    assert records.damaged == {}
    assert records.notes == ()
    along = records.along()
    cosines = along[along["quantity"].eq("cosine") & along["place"].eq("all")]
    assert sorted(cosines["step"]) == [0, 0, 2 * epoch_steps(workload())]
    assert cosines["value"].notna().all()
    assert set(along.loc[along["place"] != "all", "distance"]) == {0, 1}


def test_single_draws_lie_in_their_band() -> None:
    exact = measured("bp", where=workload(NET), batches=2)["cosine_draws"]
    assert [exact[k] for k in ("value", "low", "high")] == pytest.approx([1.0] * 3, abs=1e-12)
    noisy = measured("fg_w", where=workload(NET), draws=64, batches=2)
    band, mean = noisy["cosine_draws"], noisy["cosine"]
    assert band["n"] == 128
    # one direction has the cosine |⟨v, g⟩|/|v||g|, never below 0, about |normal|/√d
    assert 0.0 <= band["low"] < 0.3 * noisy["elements"] ** -0.5
    assert band["low"] < mean["value"] < band["high"] < 3.5 * noisy["elements"] ** -0.5


# readouts of a method's own locality


def test_a_locality_gets_a_bare_network_wherever_it_is_used() -> None:
    """Measuring handed it one with readouts, training one without: it could not serve both."""
    seen: list[tuple[str, ...]] = []

    class Looking(Greedy):
        def attach(self, chain: Any) -> None:
            seen.append(tuple(sorted(chain.readouts)))
            super().attach(chain)

    method = of("bp", Looking(hidden=3))
    measured(method, where=workload(NET), moments=(0.0, 1.0))
    where = workload(NET)
    training.train(where, method, Recipe(epochs=1, batch=32, lr=0.1))
    speed(where, [method], batch=8, rounds=3, reference="plain")
    assert set(seen) == {("final",)}


@pytest.mark.parametrize("name", ["local", "aux"])
@pytest.mark.slow
def test_a_readout_of_any_name_and_size_is_measured(name: str) -> None:
    """One named local0 ended the measurement of all methods."""
    method = of("fg_a", Greedy(hidden=3, name=name))
    own, plain = measured(method, "fg_a/local", where=workload(NET), moments=(0.0, 2.0))
    assert (own["status"], plain["status"]) == ("ok", "ok")
    alone = measured("fg_a/local", where=workload(NET), moments=(0.0, 2.0))
    assert plain["relative_variance"] == alone["relative_variance"]


def waypoints(locality: Any, moments: tuple[float, ...] = (0.0, 2.0)) -> Any:
    """Return the waypoints of one method on the shared trajectory, and its network."""
    where = workload(NET)
    start = where.chain(0)
    task = where.task(of("bp", locality), 0, start).task
    points = Trajectory(where, start, 0, moments).backprop([task])
    return [point.of(0) for point in points], task


def test_readouts_of_a_locality_learn_as_those_of_the_trajectory_do() -> None:
    """Copies of its readouts under other names end where they end, bit by bit; the body is the same."""
    (start, later), _ = waypoints(Twins())
    for part in ("weight", "bias"):
        own, twin = (f"readouts.{name}0.linear.{part}" for name in ("local", "twin"))
        assert torch.equal(start.params[own], start.params[twin])
        assert torch.equal(later.params[own], later.params[twin])
        assert not torch.equal(start.params[twin], later.params[twin])
    (_, plain), _ = waypoints("end")
    assert all(torch.equal(p, later.params[n]) for n, p in plain.params.items())


@pytest.mark.parametrize(
    "locality", ["contrastive-local[augment=none]", Greedy(hidden=8, name="aux")]
)
def test_readouts_of_a_locality_lower_their_own_loss(locality: Any) -> None:
    """On batches that the locality makes: two views of every image for a projector."""
    (start, later), task = waypoints(locality, (0.0, 20.0))
    data, noise = workload(NET).data, workload(NET).noise(0)
    x, y = task.scheme.batch(*data.rows(torch.arange(32)), data, noise)
    losses = []
    for heads in (start, later):
        body = {n: p for n, p in later.params.items() if n.startswith("body")}
        readouts = {n: p for n, p in heads.params.items() if not n.startswith("body")}
        task.chain.load_state_dict({**body, **readouts}, strict=False)
        (first, *_) = task.views(x, y, CostCounter())
        losses.append(float(first.losses().mean()))
    assert losses[1] < 0.9 * losses[0]


# a locality that raises, or updates a part


@pytest.mark.parametrize("where", ["attach", "objectives", "batch", "losses"])
def test_a_locality_that_raises_fails_alone_and_its_line_is_named(where: str) -> None:
    net, bad = workload(NET), of(Factor(), Raises(where=where))
    line, inside = r"ValueError: on purpose \(localities\.py:\d+", where == "losses"
    called = line + (r", called from measuring\.py:\d+\)" if inside else r"\)")
    for moments in ((1.0,), (0.0,)):  # on the way, and at the point, where the truth comes first
        found, plain = measured(bad, "fg_a", where=net, moments=moments)
        assert (found["status"], plain["status"]) == ("failed", "ok")
        assert re.fullmatch(line + r"\)", found["reason"])
    trained = training.train(net, bad, Recipe(epochs=1, batch=32, lr=0.1))
    assert trained["status"] == "failed"
    assert re.fullmatch(called, trained["reason"])
    assert recipe_for(net, bad).epochs > 0
    timed, beside = speed(net, [bad, registry.method("BP")], batch=8, rounds=3, reference="plain")
    assert (timed["status"], beside["status"]) == ("failed", "ok")
    assert re.fullmatch(called, timed["reason"])


def test_objectives_that_update_a_part_are_measured_there() -> None:
    """It trained, and measuring ended in a KeyError."""
    for estimator in ("bp", "fg_a", "fg_w", "np"):
        found = measured(of(estimator, Partial((1,))), where=workload(NET), draws=16)
        assert found["status"] == "ok", found["reason"]
        assert found["relative_variance"]["value"] is not None
        first, second = (found["per_site"][f"body.{k}.l0"] for k in (0, 1))
        assert first["relative_variance"]["value"] is None
        assert first["reason"] == "no objective updates it"
        whole, own = (part["relative_variance"]["value"] for part in (found, second))
        assert estimator == "fg_w" or whole == pytest.approx(own, rel=1e-9)  # it has a control
    exact = measured(of("bp", Partial((1,))), where=workload(NET))
    assert exact["scale"]["value"] == pytest.approx(1.0, abs=1e-12)
    assert 0 < exact["cosine"]["value"] < 1  # beside the gradient of the whole body


def test_objectives_that_update_nothing_are_skipped_with_the_reason() -> None:
    """It was a StopIteration."""
    found, plain = measured(of("fg_a", Partial(())), "fg_a", where=workload(NET))
    assert (found["status"], plain["status"]) == ("skipped", "ok")
    assert found["reason"] == "its objectives update no module: there is no gradient to measure"


# a method's own training

TRAINED = "synthetic[size=4,train=256,test=32]"


@pytest.mark.parametrize("text", ["fg_a/local", "fg_a/contrastive-local"])
def test_a_methods_own_training_is_that_of_train(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the first two epochs the network is the one that training leaves there."""
    data = TRAINED.replace("train=256", "train=128")
    where, runs = workload(NET, data), list[TrainingRun]()

    class Seen(TrainingRun):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            runs.append(self)
            self.initial = {n: p.clone() for n, p in self.task.chain.named_parameters()}

        def assess(self) -> str:
            reason = super().assess()
            if len(self.history) == 2:
                self.after = {n: p.clone() for n, p in self.task.chain.named_parameters()}
            return reason

    monkeypatch.setattr(training, "TrainingRun", Seen)
    recipe = default_recipe(NET, "synthetic", exact=False, method=text)
    short = recipe.model_copy(update={"epochs": 2})
    monkeypatch.setattr(trajectories, "default_recipe", lambda *given: short)
    training.train(where, registry.method(text), short, seed=3)
    start, later = Trajectory(where, where.chain(3), 3, (0.0, 2.0)).own(
        registry.method(text), False
    )
    (run,) = runs
    assert later.steps == run.step == 2 * run.per_epoch > 0
    for stand, params in ((start, run.initial), (later, run.after)):
        for name, p in params.items():
            assert torch.equal(p, stand.params[name]), name
    assert not torch.equal(later.params["body.0.l0.weight"], start.params["body.0.l0.weight"])


@pytest.mark.slow
def test_methods_meet_their_own_networks_along_their_own_training() -> None:
    where = workload(NET, TRAINED)
    options: dict[str, Any] = {"where": where, "moments": (0.0, 2.0), "draws": 2}
    (bp, fa), (shared, _) = (
        measured("BP", "FA", along=along, **options) for along in ("own", "backprop")
    )
    assert bp["trajectory"] == TRAJECTORIES["own"]
    assert [part["steps"] for part in bp["per_moment"]] == bp["moment_steps"]
    assert bp["moment_steps"][0] == 0 < bp["moment_steps"][1]
    for one in (bp, fa, shared):
        assert one["status"] == "ok"
    start, later = ([r["per_moment"][k]["split"] for r in (bp, shared)] for k in (0, 1))
    assert start[0] == start[1]  # nothing is trained yet
    assert later[0] != later[1]  # another order of the images
    with pytest.raises(UsageError, match="recipe, got 1e"):
        measured("BP", along="own", where=where, moments=(1e6,))
    with pytest.raises(UsageError, match="'backprop'"):
        Design(along="backprob")


def test_a_training_that_diverges_is_a_result() -> None:
    @dataclass(frozen=True)
    class Wild(Factor):
        """Steps that lead nowhere."""

    found = measured(
        Wild(float("nan")), "BP", where=workload(NET, TRAINED), moments=(0.0, 2.0), along="own"
    )
    assert found[0]["status"] == "diverged"
    assert "its own training: loss not finite at step" in found[0]["reason"]
    assert found[1]["status"] == "ok"


# a fixed cost


@dataclass(frozen=True)
class Some:
    """Has directions."""

    directions: int = 1


def price(one: Any) -> float:
    return 1.5 + 2.0 * float(one.directions)


@pytest.mark.parametrize(("most", "directions"), [(3.5, 1), (5.4, 1), (5.5, 2), (64.0, 31)])
def test_as_many_directions_as_fit(most: float, directions: int) -> None:
    found = budget.fitted(Some(7), price, most)
    assert found.estimator == Some(directions)
    assert found.spent == price(found.estimator) <= most < price(Some(directions + 1))
    assert found.note == ""


def test_what_does_not_fit_says_so() -> None:
    dear = budget.fitted(Some(), price, 3.0)
    assert dear.estimator is None
    assert dear.note == "an estimate costs 3.5 forward equivalents, more than the 3 asked"
    alone = budget.fitted(Factor(), lambda one: 3.0, 64.0)
    assert (alone.estimator, alone.spent, alone.note) == (Factor(), 3.0, budget.ALONE)
    assert budget.fitted(Factor(), lambda one: 3.0, 2.0).estimator is None
    steps = budget.fitted(Some(), lambda one: float(one.directions + (one.directions > 2)), 4.0)
    assert steps.estimator == Some(3)  # the line through one and two would have promised four
    assert steps.spent == 4.0


@pytest.mark.slow
def test_methods_are_measured_at_one_cost() -> None:
    names = ("FG-W", "FG-A", "BP", "wp[directions=9]")
    found = dict(zip(names, measured(*names, where=workload(NET), cost=12.0), strict=True))
    for name, one in found.items():
        spent = one["cost"]["forward_equivalents"]
        note = budget.ALONE if name == "BP" else ""
        assert one["budget"] == {"asked": 12.0, "spent": spent, "note": note}
        assert spent <= 12.0, name
    for name, estimator in (("FG-W", "fg_w"), ("FG-A", "fg_a"), ("wp[directions=9]", "wp")):
        n = found[name]["directions"]
        assert n > 1
        more = measured(f"{estimator}[directions={n + 1}]", where=workload(NET), draws=2)
        assert more["cost"]["forward_equivalents"] > 12.0
        same = measured(f"{estimator}[directions={n}]", where=workload(NET))
        assert same["relative_variance"] == found[name]["relative_variance"]
    free = measured("FG-A", where=workload(NET), draws=2)
    assert (free["budget"], free["directions"]) == (None, 1)
    poor = measured("FG-A", where=workload(NET), cost=1.0)
    assert poor["status"] == "skipped"
    assert "more than the 1 asked" in poor["reason"]


def test_a_record_states_the_directions_bought() -> None:
    where = {"arch": NET, "data": "synthetic[size=4,train=64,test=32]", "dtype": "float64"}
    few = {"draws": 2, "batches": 1, "batch": 8}
    found = api.run("measure", method="FG-A", **where, **few, cost=12.0)
    assert found["settings"]["cost"] == found["budget"]["asked"] == 12.0
    assert found["options"]["directions"] == found["directions"] > 1
    assert api.run("measure", method="FG-A", **where, **few)["options"]["directions"] == 1


@pytest.mark.parametrize("cost", [0.0, -1.0, float("inf"), float("nan")])
def test_a_cost_that_buys_nothing_is_refused(cost: float) -> None:
    with pytest.raises(UsageError, match="cost"):
        Design(cost=cost)


# how far a site is from its loss


@pytest.mark.parametrize(
    ("locality", "expected"),
    [
        ("end", [2, 1, 0]), ("local", [0, 0, 0]), ("module", [0, 0, 0]), ("overlap", [1, 0, 0]),
        ("interlocking[n=2]", [1, 1, 0]), ("interlocking[n=3]", [2, 1, 0]),
    ],
)  # fmt: skip
def test_modules_between_a_site_and_its_loss_are_counted(
    locality: str, expected: list[int]
) -> None:
    task, _, _ = build("mlp-3x4", f"fg_a/{locality}", (1, 4, 4))
    found = distances(task)
    assert [found["site", f"body.{k}.l0"] for k in range(3)] == expected
    assert [found["module", f"body.{k}"] for k in range(3)] == expected


def test_a_record_tells_the_distance_of_sites_and_modules() -> None:
    found = measured("fg_a", where=workload(NET), draws=2)
    assert [site["distance"] for site in found["per_site"].values()] == [1, 0]
    assert [module["distance"] for module in found["per_module"].values()] == [1, 0]
    mixer = measured("fg_a/local", where=workload(MIXER, IMAGES), moments=(0.0,), draws=2)
    assert {site["distance"] for site in mixer["per_site"].values()} == {0}


# a truth below float noise


def test_json_and_table_say_that_a_truth_of_zero_leaves_nothing_to_measure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ["--draws", "2", "--batches", "1", "--batch", "8", "--moments", "0", "--device", "cpu"]
    line = ["measure", "FG-A", "--arch", MIXER, "--data", IMAGES, *few]
    assert main.run([*line, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # no NaN
    assert (found["status"], found["reason"]) == ("ok", "the truth is zero")
    for name in ("efficiency", "relative_variance", "bias", "scale", "cosine"):
        assert [found[name][end] for end in ("value", "low", "high")] == [None] * 3
    assert found["variance_times_cost"]["value"] is found["split"] is None
    assert main.run(line) == 0
    out = capsys.readouterr().out
    assert out.count("undefined") == 7  # six numbers, and why
    assert "FG-A seed 0: undefined, at moment 0 the truth is zero" in out


def test_a_truth_at_rounding_level_is_undefined_and_never_divides() -> None:
    """The first layer's gradient is 1e-30 of the second's: below float noise, and not zero."""
    where = workload(NET)
    chain = where.chain(0)
    name = "body.1.l0.weight"
    state = {n: p.detach().clone() for n, p in chain.named_parameters()}
    state[name] = state[name] * 1e-30

    class Faint(type(where)):  # type: ignore[misc]
        def chain(self, seed: int) -> Any:
            made = super().chain(seed)
            made.load_state_dict(state, strict=False)
            return made

    faint = Faint(where.arch, where.data, where.device, where.dtype)
    with np.errstate(all="raise"):
        found = measure(faint, [registry.method("fg_w")], Design(**{**FEW, "moments": (0.0,)}))[0]
    assert torch.equal(faint.chain(0).state_dict()[name], state[name])
    first, second = found["per_site"].values()
    assert first["reason"] == "the truth is at rounding level"
    for kind in ("efficiency", "relative_variance", "scale", "bias", "cosine"):
        assert first[kind]["value"] is first[kind]["low"] is first[kind]["high"] is None
    assert second["reason"] == ""
    assert second["relative_variance"]["value"] > 0
    assert found["relative_variance"]["value"] > 0


# beside a reference


@pytest.mark.slow
def test_a_ratio_to_a_reference_is_paired_over_the_same_points(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Twice the directions: half the inefficiency, known better than either; the reference is 1."""
    where = ["--arch", NET, "--data", "synthetic[size=4,train=64,test=32]", "--device", "cpu"]
    few = ["--draws", "32", "--batches", "3", "--batch", "16", "--moments", "0,1", "--json"]
    asked = ["measure", "fg_a[directions=8]", "--against", "FG-A", *where, *few]
    assert main.run(asked) == 0
    more, reference = json.loads(capsys.readouterr().out)
    assert reference["method"] == more["against"]["method"] == "FG-A"
    for name in against.NAMES:
        own = reference["against"][name]
        assert [own[k] for k in ("value", "low", "high", "p_value")] == [1.0, 1.0, 1.0, 1.0]
        found = more["against"][name]
        assert found["n"] == 6
        assert found["reason"] == ONE_INIT
        logs = [
            np.log(a[name] / b[name])
            for a, b in zip(more["points"], reference["points"], strict=True)
        ]
        assert found["value"] == pytest.approx(np.exp(np.mean(logs)), rel=1e-12)
        assert found["low"] < found["value"] < found["high"]
    assert more["against"]["efficiency"]["low"] > 1 > more["against"]["relative_variance"]["high"]
    for k, part in enumerate(more["per_moment"]):
        logs = [
            np.log(a["efficiency"] / b["efficiency"])
            for a, b in zip(more["points"], reference["points"], strict=True)
            if a["moment"] == part["moment"]
        ]
        assert part["against"]["efficiency"]["value"] == pytest.approx(np.exp(np.mean(logs)))
        assert part["moment"] == float(k)
    assert main.run([*asked, "--along", "own"]) == 2
    assert "--against compares methods on the same networks" in capsys.readouterr().err
    assert main.run(["measure", "FG-A", "--against", "", *where, *few]) == 2
    assert "method '': expected a preset or" in capsys.readouterr().err


def test_what_has_no_partner_has_no_ratio() -> None:
    point = {"init": 0, "moment": 0.0, "efficiency": 0.5, "relative_variance": 1.0}
    one = {"method": "a", "seed": 0, "points": [point]}
    other = {"method": "b", "seed": 0, "points": [{**point, "efficiency": None}]}
    lone = {"method": "a", "seed": 1, "points": [point]}
    old = {"method": "old", "seed": 0}
    found = [r["against"] for r in against.against([one, other, lone, old], "b")]
    assert [f["efficiency"]["value"] for f in found] == [None] * 4
    assert [f["efficiency"]["reason"] for f in found] == [
        "1 of 1 points have no positive number: the reference's",
        "1 of 1 points have no positive number: its own and the reference's",
        *[against.UNPAIRED] * 2,
    ]
    assert found[0]["relative_variance"]["value"] == 1.0
    later = [point, {**point, "moment": 1.0}]
    lost = [{**point, "efficiency": None}, later[1]]
    ways = {"method": "a", "seed": 0, "points": lost}, {"method": "b", "seed": 0, "points": later}
    (first, own) = against.against(ways, "b")
    assert first["against"]["efficiency"]["reason"] == (
        "1 of 2 points (moment 0) have no positive number: its own"
    )
    assert own["against"]["efficiency"]["value"] == 1.0
    moved = {"method": "b", "seed": 0, "points": [{**point, "moment": 1.0}]}
    (first, _) = against.against([one, moved], "b")
    assert first["against"]["efficiency"]["reason"] == against.UNPAIRED
