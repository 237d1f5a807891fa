"""Measuring: closed forms met, exact methods exact, points shared, nothing to measure told.

Sampling tests have fixed seeds and draws. Each says how often it would fail without a fault.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import product
from math import ceil, log
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control

from fgbench import api, registry
from fgbench.core.estimator import Defaults, Estimate
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.estimators.fg_w import WeightForwardGradient
from fgbench.measurement import draws as drawing
from fgbench.measurement import loop as room
from fgbench.measurement import trajectories
from fgbench.measurement.design import Design
from fgbench.measurement.draw_statistics import from_gradients
from fgbench.measurement.draws import Point
from fgbench.measurement.summary import FURTHER, NOT_FINITE
from fgbench.measurement.trajectories import epoch_steps
from fgbench.records.schema import to_json
from fgbench.stats.intervals import freedom, t_quantile
from fgbench.stats.variance import relative_variance
from fgbench.workload import Workload
from tests.makers.cases import mostly_slow, slow_if
from tests.makers.measuring import (
    DATA,
    FEW,
    IMAGES,
    MIXER,
    NET,
    Counted,
    Factor,
    measured,
    workload,
)
from tests.makers.networks import batch, build

if TYPE_CHECKING:
    from torch import Tensor

ELEMENTS = 8 * 16 + 8


# closed forms


@pytest.mark.parametrize(("law", "offset"), [("gaussian", 1), ("rademacher", -1), ("sphere", -1)])
@pytest.mark.parametrize("directions", [1, 3])
def test_weight_noise_has_the_textbook_variance(law: str, offset: int, directions: int) -> None:
    found = measured(f"fg_w[law={law},directions={directions}]")
    assert found["elements"] == ELEMENTS
    expected = (ELEMENTS + offset) / directions
    assert found["predicted_variance"] == pytest.approx(expected, rel=1e-12)


def covered(method: Any, draws: int, where: Workload | None = None) -> int:
    """Of 10 seeds, how many have the predicted variance inside the interval of one point."""
    found = [measured(method, where=where, seed=seed, draws=draws) for seed in range(10)]
    return sum(
        f["relative_variance"]["low"] <= f["predicted_variance"] <= f["relative_variance"]["high"]
        for f in found
    )


@dataclass(frozen=True)
class Louder(WeightForwardGradient):
    """Noise a tenth too large, with the prediction of the right one."""

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        grads = super().__call__(view, noise, state).grads
        return Estimate(grads={name: 1.21 * g for name, g in grads.items()})


@pytest.mark.parametrize(
    "method", slow_if(["fg_w", "fg_w[law=rademacher]", "fg_a/local"], "fg_w[law=rademacher]".__eq__)
)
def test_measured_variance_meets_the_closed_form(method: str) -> None:
    # 10 intervals of 95 % that cover 93 % at least: below 7 with odds of 4e-3 per method
    assert covered(method, 64) >= 7


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fg_a", "fg_a/local-pg", "fg_a[law=sphere]/local-pg"])
def test_measured_variance_of_activity_noise_meets_it_on_localmixer(method: str) -> None:
    # as above, on two blocks of four patches and three groups
    assert covered(method, 64, workload(f"{MIXER}[channels=12,groups=3,side=2]", IMAGES)) >= 7


@pytest.mark.slow
def test_noise_that_is_too_loud_is_seen() -> None:
    # the variance is 1.46 times the predicted one: 2.6 standard errors of 64 draws
    assert covered(Louder(), 64) < 7


@dataclass(frozen=True)
class Documented(WeightForwardGradient):
    """Another closed form."""

    form: Any = None

    def predicted_variance(self, view: Any, state: Any) -> Any:
        return self.form


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({}, "predicted_variance of Documented has no body.0.l0.weight"),
        ({"nope": torch.ones(())}, "unknown parameter in predicted_variance of Documented 'nope'"),
    ],
)
def test_a_closed_form_of_other_parameters_is_no_number(form: Any, said: str) -> None:
    found = measured(Documented(form=form))
    assert found["status"] == "failed"
    assert said in found["reason"]
    assert measured(Documented())["predicted_variance"] is None


# what an estimate may know of time


@dataclass(frozen=True)
class Annealed(WeightForwardGradient):
    """A forward gradient whose length depends on the step, and that keeps what it saw."""

    seen: Any = None

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        self.seen.append(noise.step)
        grads = super().__call__(view, noise, state).grads
        return Estimate(grads={name: g / (1 + noise.step) for name, g in grads.items()})


@pytest.mark.parametrize("engine", ["dual", "auto"])
def test_the_step_is_that_of_the_moment_and_not_the_number_of_a_draw(engine: str) -> None:
    """At the start it is the method itself, number by number; after 3 steps a quarter of it."""
    plain = measured("fg_w", draws=32, engine=engine, moments=(0.0, 3.0), along="backprop")
    seen: list[int] = []
    found = measured(
        Annealed(seen=seen), draws=32, engine=engine, moments=(0.0, 3.0), along="backprop"
    )
    assert set(seen) == {0, 3}
    (start, later), (own, quarter) = found["per_moment"], plain["per_moment"]
    assert start["scale"] == own["scale"]
    assert start["relative_variance"]["value"] == own["relative_variance"]["value"]
    assert later["scale"]["value"] == pytest.approx(quarter["scale"]["value"] / 4, rel=1e-9)


# exact methods and planted scales


@pytest.mark.parametrize("locality", ["end", "module", "local"])
def test_backprop_is_exact(locality: str) -> None:
    found = measured(f"bp/{locality}", batches=2, where=workload("mlp-2x8"))
    for name, value in (("relative_variance", 0.0), ("efficiency", 1.0), ("scale", 1.0)):
        number = found[name]
        assert number["value"] == pytest.approx(value, abs=1e-12)
        assert number["low"] == number["high"] == number["value"]
    assert found["bias"]["value"] == 0.0
    assert (found["bias"]["p_value"], found["bias"]["detectable"]) == (1.0, 0.0)
    gap = found["locality_gap"]["value"]
    if locality == "end":
        assert gap == 0.0
        assert found["cosine"]["value"] == pytest.approx(1.0, abs=1e-12)
    else:
        assert gap > 0.01
        assert found["cosine"]["value"] < 0.999
    for place in found["per_site"].values():
        assert place["relative_variance"]["value"] == 0.0
        assert place["bias"]["value"] == 0.0


def test_feedback_alignment_is_deterministic_and_biased() -> None:
    found = measured("FA")
    assert found["draws"] == 6
    assert found["relative_variance"]["value"] == 0.0
    assert found["bias"]["value"] > 0.1
    assert (found["bias"]["p_value"], found["bias"]["detectable"]) == (0.0, 0.0)
    assert found["efficiency"]["value"] < 0.99


def test_a_cosine_has_no_ends_outside_one() -> None:
    found = measured("FA", batches=2)["cosine"]  # two points: the t interval alone is far wider
    assert -1.0 <= found["low"] <= found["value"] <= found["high"] <= 1.0


@pytest.mark.slow
def test_a_planted_scale_shows() -> None:
    found = measured(Factor(1.1))
    assert found["scale"]["value"] == pytest.approx(1.1, rel=1e-12)
    assert found["scale"]["low"] == found["scale"]["high"]
    assert found["bias"]["value"] == pytest.approx(0.1, rel=1e-9)
    assert found["bias"]["p_value"] == 0.0
    assert found["efficiency"]["value"] == pytest.approx(1.0, abs=1e-12)  # which no scale changes
    assert found["relative_variance"]["value"] == 0.0

    noisy = measured(Factor(1.1, spread=0.3), draws=256)
    low, high = noisy["scale"]["low"], noisy["scale"]["high"]
    assert 1.0 < low <= 1.1 <= high  # 5 % of seeds would miss 1.1
    assert noisy["bias"]["p_value"] < 1e-3
    fair = measured(Factor(1.0, spread=0.3), draws=256)
    assert fair["scale"]["low"] <= 1.0 <= fair["scale"]["high"]
    assert fair["bias"]["p_value"] > 1e-3


# points


@dataclass(frozen=True)
class Witness(Defaults):
    """Notes what it is shown; another name makes another method."""

    seen: Any
    name: str = ""

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        params: dict[str, Tensor] = view.params
        flat = torch.cat([p.detach().reshape(-1) for p in params.values()])
        drawn = noise.normal("w", (2,))
        self.seen.append(
            (self.name, tuple(view.start[:, 0, 0].sum(1).tolist()), flat, drawn.tolist())
        )
        return Estimate(grads=view.reverse())


def test_methods_meet_the_same_points_and_noise() -> None:
    seen: list[Any] = []
    design = {"inits": 2, "batches": 2, "draws": 3, "moments": (0.0, 1.0)}
    measured(Witness(seen, "a"), Witness(seen, "b"), **design)
    a, b = ([s for s in seen if s[0] == name] for name in "ab")
    assert len(a) == len(b) == 2 * 2 * 2 * 3
    for (_, x, w, u), (_, other_x, other_w, other_u) in zip(a, b, strict=True):
        assert (x, u) == (other_x, other_u)
        assert torch.equal(w, other_w)
    assert len({x for _, x, _, _ in a}) == 8  # every batch is fresh
    assert len({tuple(u) for _, _, _, u in a}) == 24  # and every draw
    assert len({tuple(w.tolist()) for _, _, w, _ in a}) == 4  # one network per init and moment


def networks(moments: tuple[float, ...]) -> list[Tensor]:
    seen: list[Any] = []
    measured(Witness(seen), moments=moments, draws=2)
    return [w for _, _, w, _ in seen[::2]]


def test_a_moment_is_the_same_network_whatever_else_is_asked() -> None:
    start, soon, later = networks((0.0, 1e-6, 2.0))
    assert torch.equal(start, soon)  # less than a step away
    assert not torch.equal(start, later)
    assert torch.equal(networks((2.0,))[0], later)
    chain = workload().chain(0)
    flat = torch.cat([p.detach().reshape(-1) for p in chain.body_parameters().values()])
    assert torch.equal(start, flat)


def test_the_trajectory_learns() -> None:
    before, after = (measured("BP", moments=(m,), where=workload(), batch=64) for m in (0.0, 20.0))
    assert before["moments"] == [0.0]
    assert after["moments"] == [20.0]
    assert epoch_steps(workload()) >= 1
    chain = workload().chain(0)
    base = chain.state_dict()
    ((_, walked),) = trajectories.at_moments(workload(), chain, 0, (20.0,))
    data = workload().data
    x = data.normalise(data.train_x, torch.float64)
    error = (chain(x).argmax(1) != data.train_y).double().mean()
    assert set(walked) == set(base)
    assert error < 0.5  # of ten classes


def test_the_n_beside_an_interval() -> None:
    one = measured("FG-W", draws=8)
    batches = measured("FG-W", draws=8, batches=3)
    inits = measured("FG-W", draws=8, inits=2, batches=3)
    for name in ("relative_variance", "scale", "cosine"):
        assert [f[name]["n"] for f in (one, batches, inits)] == [8, 3, 2]
    assert [f["inits"] for f in (one, batches, inits)] == [1, 1, 2]


def test_sites_are_named_and_add_up() -> None:
    found = measured("fg_a", where=workload("mlp-2x8"), draws=32)
    assert list(found["per_site"]) == ["body.0.l0", "body.1.l0"]
    mixer = measured("LG-FG-A", where=workload(MIXER, IMAGES), moments=(1.0,), draws=2)
    index = workload(MIXER, IMAGES).chain(0).index
    assert set(mixer["per_site"]) >= set(index)
    for place in (*found["per_site"].values(), *mixer["per_site"].values()):
        assert {"efficiency", "relative_variance", "scale", "bias", "cosine"} <= set(place)
    tested = [place["bias"] for place in found["per_site"].values()]
    adjusted = false_discovery_control([b["p_value"] for b in tested])
    assert [b["p_adjusted"] for b in tested] == pytest.approx(list(adjusted))


def test_modules_sites_and_parameters_add_up_to_the_body() -> None:
    at = located("fg_a/local", 5)
    found = drawing.draw(at, 12).places(at)
    norms = {place: s.y * s.g2 for place, s in found.items()}
    for kind in ("module", "site", "parameter"):
        some = [y for (of, _), y in norms.items() if of == kind]
        assert len(some) == {"module": 2, "site": 2, "parameter": 4}[kind]
        np.testing.assert_allclose(sum(some), norms["all", ""], rtol=1e-12)
    for site in ("body.0.l0", "body.1.l0"):
        parts = sum(norms["parameter", f"{site}.{name}"] for name in ("weight", "bias"))
        np.testing.assert_allclose(parts, norms["site", site], rtol=1e-12)
        np.testing.assert_allclose(norms["module", site[:6]], norms["site", site], rtol=1e-12)
    record = measured("fg_a", where=workload("mlp-2x8"), draws=8)
    assert list(record["per_module"]) == ["body.0", "body.1"]
    assert len(record["per_parameter"]) == 4
    sizes = [p["elements"] for p in record["per_parameter"].values()]
    assert sum(sizes) == record["elements"] == 8 * 16 + 8 + 8 * 8 + 8


def located(name: str, b: int) -> Point:
    """A method on a batch of b examples."""
    task, estimator, noise = build("mlp-2x8", name, (1, 4, 4))
    x, y = batch(b, (1, 4, 4))
    return Point(task, estimator, {}, x, y, noise, task.scheme_truth(x, y), task.end_truth(x, y))


# networks and claims


@pytest.mark.parametrize("along", mostly_slow(["backprop", "own"], 2))
def test_the_network_of_an_init_is_built_once(along: str) -> None:
    where = Counted.like(workload("mlp-2x8", "synthetic[size=4,train=256,test=32]"))
    design = {"inits": 2, "moments": (0.0,), "along": along}
    found = measured("BP", "FG-A", "LG-FG-A", where=where, **design)
    assert [one["status"] for one in found] == ["ok"] * 3
    assert where.built == [0, 1]


def test_a_network_does_not_change_when_others_are_measured_on_copies_of_it() -> None:
    alone = measured("fg_a/local", where=workload("mlp-2x8"), moments=(0.0, 1.0))
    among = measured("BP", "fg_a/local", where=workload("mlp-2x8"), moments=(0.0, 1.0))[1]
    assert to_json(alone) == to_json(among)


def test_measuring_returns_the_claims_that_it_read() -> None:
    where = workload("mlp-2x8")
    for text in ("BP", "fg_a[average=p]/local", "fg_a/contrastive-local[augment=none]"):
        chosen = registry.method(text)
        task, estimator, _ = where.task(chosen, 0)
        found = measured(text, where=where)
        assert found["claims"] == asdict(task.claims(estimator))
        assert found["claimed"] == {name: found["claims"][name] for name in ("bias", "why")}


@pytest.mark.parametrize("verb", ["measure", "speed"])
def test_a_record_has_the_claims_without_building_the_network_again(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    build_chain = Workload.chain
    monkeypatch.setattr(
        Workload, "chain", lambda self, seed: built.append(seed) or build_chain(self, seed)
    )
    few = FEW if verb == "measure" else {"batch": 8, "rounds": 3, "reference": "plain"}
    where = {"arch": NET, "data": DATA, "seed": 4}
    for one in api.run_all(verb, ["BP", "FG-A"], **where, **few):
        assert one["about"]["claims"]["slopes_only"] == (one["method"] == "FG-A")
        assert "claims" not in one
    assert built == [4]


@dataclass(frozen=True)
class NoClaims(Factor):
    """Raises when it is asked for its claims."""

    def claims(self, task: Any) -> Any:
        raise RuntimeError("no promise")


def test_claims_that_raise_end_one_method_alone() -> None:
    failed, fine = measured(NoClaims(), Factor())
    assert (failed["status"], failed["claims"]) == ("failed", None)
    assert failed["reason"].startswith("RuntimeError: no promise")
    assert fine["status"] == "ok"


# signs, errors, means


def test_signs_agree_as_often_as_the_closed_form_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """e_j = ⟨g, v⟩ v_j and g_j: 1/2 + arcsin(|g_j|/|g|)/π, zeros of g left out; wrong with 1e-6."""
    draws = 4096
    monkeypatch.setattr(from_gradients, "SIGNED", draws)
    g = torch.tensor([3.0, -2.0, 0.0, 1.0, 0.5, 1e-17], dtype=torch.float64)
    truth = {"w": g, "b": torch.tensor([1e-18], dtype=torch.float64)}
    kept = from_gradients.GradientMoments(truth, truth, draws)
    noise = Noise(4, dtype=torch.float64)
    for k in range(draws):
        v = noise.at(k).normal("v", (7,))
        slope = v[:6] @ g
        kept.add(k, {"w": slope * v[:6], "b": slope * v[6:]})
    assert kept.agreed()["b"].tolist() == [0.0] * draws
    share = 0.5 + 0.5 * kept.agreed()["w"] / 4
    on = g[[0, 1, 3, 4]].abs() / g.norm()
    expected = float((0.5 + torch.asin(on) / torch.pi).mean())
    assert abs(share.mean() - expected) < 4.9 * share.std() / draws**0.5
    counted = 0.5 + 0.5 * kept.agreed()["w"] / 6  # as if zeros had a sign
    assert abs(counted.mean() - expected) > 4.9 * counted.std() / draws**0.5


def test_signs_of_every_vector_of_signs_are_counted() -> None:
    g = torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
    kept = from_gradients.GradientMoments({"w": g}, {"w": g}, 8)
    expected = []
    for k, v in enumerate(product((-1.0, 1.0), repeat=3)):
        u = torch.tensor(v, dtype=torch.float64)
        e = (g @ u) * u
        kept.add(k, {"w": e})
        expected.append(sum(float(a.sign() * b.sign()) for a, b in zip(e, g, strict=True)))
    assert kept.agreed()["w"].tolist() == expected
    assert 0.0 in [float(g @ torch.tensor(v).double()) for v in product((-1.0, 1.0), repeat=3)]


@pytest.mark.parametrize(("factor", "share"), [(1.0, 1.0), (0.5, 1.0), (-1.0, 0.0), (0.0, 0.5)])
def test_a_factor_moves_no_sign_but_its_own(factor: float, share: float) -> None:
    found = measured(Factor(factor))
    number = found["sign_agreement"]
    assert number["value"] == number["low"] == number["high"] == share
    assert found["normalised_error"]["value"] == pytest.approx((1 - factor) ** 2, abs=1e-12)
    cosine = float(np.sign(factor))
    assert found["scheme_cosine"]["value"] == pytest.approx(cosine, abs=1e-12)
    of_mean = found["cosine_of_mean"]["value"]
    assert of_mean == (pytest.approx(cosine) if factor else None)
    assert found["signal_to_noise"]["value"] is None
    assert "no noise" in found["signal_to_noise"]["reason"]


@pytest.mark.slow
def test_unbiased_noise_has_the_signal_of_its_variance() -> None:
    elements = 4 * 16 + 4
    found = measured(
        "fg_w", draws=2048, where=workload("mlp-1x4")
    )  # resolved: 30 draws per element
    assert found["elements"] == elements
    ratio = found["signal_to_noise"]
    assert ratio["low"] <= 1 / (elements + 1) <= ratio["high"] < 2 / elements
    assert found["normalised_error"]["low"] <= elements + 1 <= found["normalised_error"]["high"]
    assert found["cosine_of_mean"]["high"] == 1.0
    assert found["cosine_of_mean"]["low"] > 0.9
    price = found["cost"]["forward_equivalents"]
    for end in ("value", "low", "high"):
        plain = found["relative_variance"][end]
        assert found["variance_times_cost"][end] == pytest.approx(plain * price)


def test_the_cosine_of_the_mean_is_that_of_the_truths() -> None:
    found = measured("bp/local", where=workload("mlp-2x8"))
    gap = found["locality_cosine"]["value"]
    assert 0 < gap < 0.999
    assert found["end"]["cosine_of_mean"]["value"] == pytest.approx(gap, rel=1e-9)
    assert found["cosine"]["value"] == pytest.approx(gap, rel=1e-9)
    assert found["cosine_of_mean"]["value"] == pytest.approx(1.0, abs=1e-12)
    assert found["scheme_cosine"]["value"] == pytest.approx(1.0, abs=1e-12)


def test_nothing_to_measure_leaves_every_new_number_out() -> None:
    found = measured("fg_a", where=workload(MIXER, IMAGES), moments=(0.0,), draws=2)
    for name in FURTHER:
        assert found[name]["value"] is None, name
    assert found["split"] is None


# draws


def test_precision_decides_the_draws() -> None:
    assert measured("FG-W", draws=8)["draws"] == 8
    assert measured("BP", draws=8, precision=0.05)["draws"] == 6  # nothing to average
    coarse = measured("fg_a", precision=0.5)
    assert coarse["draws"] == 64  # the pilot is enough
    fine = measured("fg_a", precision=0.05)
    assert fine["draws"] > 64
    number = fine["relative_variance"]
    error = log(number["high"] / number["low"]) / (2 * t_quantile(31))
    assert error < 0.1  # twice what was asked: the pilot knows its own error to 15 %


def test_a_precision_that_takes_too_many_draws_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_DRAWS", 100)
    where = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
    said: list[str] = []
    asks = Design(precision=0.001, batches=2, batch=8, moments=(0.0,))
    methods = [registry.method(name) for name in ("LG-FG-A", "BP")]
    noisy, exact = room.measure(where, methods, asks, said.append)
    assert noisy["draws"] == 100 < noisy["draws_asked"]
    assert (exact["draws"], exact["draws_asked"]) == (6, None)
    at = "LG-FG-A, init 0, moment 0, batch"
    told = f"100 draws of {noisy['draws_asked']} that the precision asks for"
    assert [line for line in said if "draws" in line] == [f"{at} {b}, {told}" for b in (0, 1)]
    (easy,) = room.measure(where, methods[:1], replace(asks, precision=0.9), said.append)
    assert easy["draws"] == easy["draws_asked"] == room.PILOT
    assert said[-1] == "LG-FG-A, init 0, moment 0, batch 1, 64 draws"


@pytest.mark.parametrize("power", [1, 3])
def test_the_draws_a_precision_needs_are_read_off_the_interval_itself(power: int) -> None:
    """Half-width of the pilot's interval over its own quantile; 1.96 would ask for too many draws."""
    rng = np.random.default_rng(7)
    d = rng.normal(size=(room.PILOT, 5)) ** power
    sums = d[:32] + d[32:]
    pilot: Any = SimpleNamespace(d2=(d**2).sum(1), gram=sums @ sums.T, x=None, control=None)
    found = relative_variance(pilot.d2, pilot.gram)
    assert found.low
    assert found.high
    half = log(found.high / found.low) / 2
    without = (pilot.d2.sum() - pilot.d2) / (room.PILOT - 1)
    t = t_quantile(freedom(32, without))
    for precision in (0.02, 0.05):
        wanted = ceil(room.PILOT * (half / t / precision) ** 2)
        assert room._needed(pilot, precision) == pytest.approx(wanted, abs=1)
        assert ceil(room.PILOT * (half / 1.96 / precision) ** 2) > 1.03 * wanted
    assert room._needed(pilot, 0.99) == room.PILOT
    assert room._needed(pilot, 1e-6) > room.MOST_DRAWS
    pilot.d2, pilot.gram = np.zeros(room.PILOT), np.zeros((32, 32))  # nothing varies
    assert room._needed(pilot, 0.05) == room.PILOT


@pytest.mark.parametrize(
    "wrong",
    [
        {"draws": 1}, {"inits": 0}, {"batches": 0}, {"batch": 0}, {"precision": 0.0},
        {"precision": 1.0}, {"precision": float("nan")}, {"moments": ()}, {"moments": (-1.0,)},
        {"moments": (float("nan"),)}, {"moments": (float("inf"),)}, {"moments": (1.0, 1.0)},
    ],
)  # fmt: skip
def test_a_design_that_measures_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong)))):
        Design(**wrong)


# nothing to measure


def numbers(found: Any) -> list[float]:
    """Every number below efficiency, variance, bias, scale and cosine."""
    names = ("efficiency", "relative_variance", "bias", "scale", "cosine", "locality_gap")
    return [found[n][e] for n in names for e in ("value", "low", "high") if found[n][e] is not None]


def test_a_zero_truth_is_null_with_its_reason() -> None:
    found = measured("FG-W", where=workload(MIXER, IMAGES), moments=(0.0,))
    assert found["reason"] == "the truth is zero"
    assert numbers(found) == []
    assert found["efficiency_debiased"] is None
    assert {p["reason"] for p in found["per_site"].values()} == {"the truth is zero"}


def test_local_losses_have_a_truth_from_the_start() -> None:
    found = measured("LG-FG-A", where=workload(MIXER, IMAGES), moments=(0.0,))
    reasons = {name: p["reason"] for name, p in found["per_site"].items()}
    assert reasons["body.0.l0"] == ""
    assert found["relative_variance"]["value"] is not None
    assert found["cosine"]["value"] is None  # the end-to-end gradient is zero there


def test_the_default_moment_is_where_there_is_a_truth() -> None:
    mixer = measured("BP", where=workload(MIXER, IMAGES))
    assert mixer["moments"] == [1.0]
    assert mixer["scale"]["value"] == pytest.approx(1.0)
    assert measured("BP")["moments"] == [0.0]


@dataclass(frozen=True)
class NotFinite(Defaults):
    """One entry of one draw is not a number."""

    value: float

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        grads = {name: g.clone() for name, g in view.reverse().items()}
        if noise.redraw[:1] == (2,):
            next(iter(grads.values())).view(-1)[0] = self.value
        return Estimate(grads=grads)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_estimate_that_is_not_finite_is_told_and_has_no_numbers(value: float) -> None:
    found = to_json(measured(NotFinite(value), batches=2, where=workload("mlp-2x8")))
    assert (found["status"], found["reason"]) == ("diverged", NOT_FINITE)
    assert numbers(found) == []
    assert found["per_site"]["body.0.l0"]["reason"] == NOT_FINITE
    assert found["per_site"]["body.1.l0"]["reason"] == ""  # where it was finite it was measured
    assert found["per_site"]["body.1.l0"]["scale"]["value"] == pytest.approx(1.0)


def test_an_estimate_of_zero_has_no_direction() -> None:
    found = measured(Factor(0.0))
    assert found["status"] == "ok"
    assert found["efficiency"]["value"] is None
    assert found["scale"]["value"] == 0.0
    assert found["cosine"]["value"] == 0.0
    assert found["bias"]["value"] == pytest.approx(1.0)


def test_an_estimate_that_leaves_out_a_parameter_is_told() -> None:
    @dataclass(frozen=True)
    class Partial(Defaults):
        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            grads = view.reverse()
            del grads["body.0.l0.bias"]
            return Estimate(grads=grads)

    found = measured(Partial())
    assert found["status"] == "failed"
    assert found["reason"].startswith("Partial gave no gradient for body.0.l0.bias")


def test_single_precision_does_not_look_like_noise_or_bias() -> None:
    where = workload(dtype="float32")
    exact = measured("BP", where=where)
    assert exact["bias"]["value"] == exact["relative_variance"]["value"] == 0.0
    planted = measured(Factor(1.1), where=where)
    assert planted["bias"]["value"] == pytest.approx(0.1, rel=1e-4)
    assert planted["bias"]["p_value"] == 0.0
