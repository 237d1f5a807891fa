"""Forms of the founding paper's released code: where an option is biased it claims so, and its mean under
an orthogonal design is exactly what theory says it is; where it is not, it equals the truth."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fgbench import api, registry
from fgbench.conformance import examine
from fgbench.core import axes
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain, LinearReadout, LocalModule, Site, Tap, untouched
from fgbench.core.noise.keyed import Noise
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.core.view import View
from tests.makers.cases import slow_if
from tests.makers.networks import batch, build, design, worst

# 3 examples, 4 patches, 2 groups of 5 channels, 6 pixels per patch, 7 classes: no two alike
MIXER = "localmixer-xs/4/8[channels=10,groups=2,side=2]"
SHAPE, CLASSES = (1, 4, 6), 7
SIZES = {"b": 3, "p": 4, "g": 2, "d": 5}
Grads = dict[str, Tensor]


def mean_of(method: str, arch: str = MIXER) -> tuple[Task, Any, Grads, Grads]:
    """The task, the estimator, its mean over an orthogonal design, and the scheme's truth."""
    task, estimator, _ = build(arch, method, SHAPE, CLASSES)
    x, y = batch(3, SHAPE, CLASSES)
    found = task.estimate(x, y, estimator, design(task, method[:4])).body
    return task, estimator, found, task.scheme_truth(x, y)


def own_score(view: View, place: Tensor, f: Tensor, named: str, shared: str) -> Tensor:
    """Every cell's gradient of its own part of ⟨f, dL/df⟩: what is left when other scores are not summed."""
    letters, found = axes.names(named), torch.zeros_like(place)
    shape = [SIZES.get(a, -1) for a in letters] if letters else list(place.shape)
    for index in product(*(range(SIZES[a]) for a in shared)):
        at = dict(zip(shared, index, strict=True))
        part = f * view.df()
        for a, i in at.items():
            part = part.narrow("bpgd".index(a), i, 1)
        (grad,) = torch.autograd.grad(part.sum(), place, retain_graph=True)
        cell = tuple(at.get(a, slice(None)) for a in letters)
        found.reshape(shape)[cell] += grad.reshape(shape)[cell]
    return found


def with_sites(view: View) -> tuple[Tensor, Grads]:
    """Run the view's window with a graph: its output, and its updated sites."""
    sites: Grads = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "site":
            sites[name] = z
        return z

    f = view.chain.run(view.start, *view.objective.window, tap)
    return f, {name: sites[name] for name in view.sites}


def expected(method: str) -> Grads:
    """The mean of ``credit=released`` by theory: scores of other cells left out, module by module."""
    task, _, _ = build(MIXER, method, SHAPE, CLASSES)
    x, y = batch(3, SHAPE, CLASSES)
    total: Grads = {}
    for view in task.views(x, y, CostCounter()):
        f, sites = with_sites(view)
        means = {}
        for name, place in (view.params if method.startswith("fg_w") else sites).items():
            cells = view.cells(name, summed=False)
            shared = "".join(a for a in cells.shared if a != "b")
            means[name] = own_score(view, place, f, cells.place, shared)
        total |= view.pull(means) if means and method.startswith("fg_a") else means
    return total


BIASED = [
    "fg_w[credit=released]/local-pg",  # the norm over all channels before a site mixes groups
    "fg_w[credit=released]/last-pg",  # later modules too
    "fg_a[credit=released]/last-p",
    "fg_a[credit=released]/last-pg",
    "fg_a[credit=released]/interlocking-pg",
]


@pytest.mark.parametrize("method", BIASED)
def test_scores_left_out_bias_as_theory_says(method: str) -> None:
    task, estimator, mean, truth = mean_of(method)
    want = expected(method)
    assert worst(mean, want) < 1e-10
    assert worst(mean, truth) > 1e-2
    assert estimator.claims(task).bias == "some"
    unbiased = registry.make("estimators", method[:4]).thing
    assert unbiased.claims(task).bias == "none"


@pytest.mark.parametrize(
    "method", ["fg_a[credit=released]/last-pg", "fg_a[credit=released]/interlocking-pg"]
)
def test_the_last_module_is_not_biased_by_what_comes_before(method: str) -> None:
    _, _, mean, truth = mean_of(method)
    last = {n: g for n, g in truth.items() if n.startswith("body.2.")}
    assert worst(mean, last) < 1e-10
    assert all(
        worst({n: mean[n]}, {n: g}) > 1e-3 for n, g in truth.items() if n == "body.0.l0.weight"
    )


HARMLESS = [
    ("fg_a[credit=released]/local-pg", MIXER),  # nothing later in the window
    ("fg_a[credit=released]/last", MIXER),  # nothing kept apart
    ("fg_w[credit=released]/last-p", MIXER),  # no weight has patches
    ("fg_w[credit=released]/end", "mlp-3x5"),
    ("fg_a[average=p]/local", "mlp-3x5"),  # no patches
    ("fg_a[norm_grad=false]/local", "mlp-3x5"),  # no norm
]


@pytest.mark.parametrize(("method", "arch"), HARMLESS)
def test_an_option_that_changes_nothing_here_claims_no_bias(method: str, arch: str) -> None:
    task, estimator, mean, truth = mean_of(method, arch)
    assert worst(mean, truth) < 1e-10
    assert estimator.claims(task).bias == "none"


@pytest.mark.parametrize("method", ["fg_a[average=p]/local[keep=b g]", "fg_w[average=p]/local-pg"])
def test_averaged_losses_shrink_the_gradient_by_their_number(method: str) -> None:
    task, estimator, mean, truth = mean_of(method)
    assert worst(mean, {n: g / 4 for n, g in truth.items()}) < 1e-10
    assert estimator.claims(task).bias == "some"
    both = registry.make("estimators", method.partition("[")[0] + "[average=p g]").thing
    x, y = batch(3, SHAPE, CLASSES)
    smaller = task.estimate(x, y, both, design(task, method[:4])).body
    assert worst(smaller, {n: g / 8 for n, g in truth.items()}) < 1e-10


def test_averaged_losses_shrink_the_predicted_variance_by_the_square() -> None:
    for name in ("fg_a", "fg_w"):
        task, plain, _ = build("mlp-2x4[activation=tanh]", f"{name}/end", SHAPE, CLASSES)
        averaged = registry.make("estimators", f"{name}[average=c]").thing
        (view,) = task.views(*batch(3, SHAPE, CLASSES), CostCounter())
        one, other = (e.predicted_variance(view, {}) for e in (plain, averaged))
        assert one
        assert worst({n: v / 16 for n, v in one.items()}, other) < 1e-12


def test_without_the_norm_the_credit_of_a_site_is_that_of_its_raw_output() -> None:
    task, estimator, mean, truth = mean_of("fg_a[norm_grad=false]/local-pg")
    assert estimator.claims(task).bias == "some"
    x, y = batch(3, SHAPE, CLASSES)
    want: Grads = {}
    for view in task.views(x, y, CostCounter()):
        if view.objective.updates:
            f, sites = with_sites(view)
            exact = torch.autograd.grad(f, list(sites.values()), view.df())
            want |= view.pull({("op", n): g for n, g in zip(sites, exact, strict=True)})
    assert worst(mean, want) < 1e-10
    assert worst(mean, truth) > 1e-2


class Pooled(LocalModule):
    """A linear operation whose site is the mean of pairs of its raw outputs."""

    sites = (Site("l0", "b c"),)
    mixes = "c"

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.l0 = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        z = tap("op", "l0", self.l0(x.flatten(1))).unflatten(1, (-1, 2))
        return tap("out", "l0", torch.relu(tap("site", "l0", z.mean(2))))


def test_a_site_of_another_shape_than_its_raw_output_is_refused_with_the_reason() -> None:
    with Noise(0).seeded():
        chain = Chain([Pooled(4, 3)], {"final": LinearReadout("b c", 3, 2)}, (1, 2, 2), 2).double()
    task = Task(Scheme(chain, registry.make("localities", "end").thing))
    plain, without = (
        registry.make("estimators", t).thing for t in ("fg_a", "fg_a[norm_grad=false]")
    )
    assert plain.supports(task) == ""
    reason = "norm_grad=false takes body.0.l0 (3,) for its raw output, which is (6,)"
    assert without.supports(task) == reason


OPTIONS = ["fg_a[norm_grad=false]", "fg_a[credit=released]", "fg_w[average=p]", "dfa[error=own]"]


LONG = ("fa[error=own,heads=summed]", "wp[sided=central]", "fg_w[average=p]", "dfa[error=own]")


@pytest.mark.parametrize("text", slow_if(dict.fromkeys([*OPTIONS, *LONG]), LONG.__contains__))
@pytest.mark.slow
def test_every_option_holds_what_it_claims(text: str) -> None:
    found = examine(registry.make("estimators", text).thing, ["local-pg"])
    assert [one.detail for one in found if not one.held] == []


# what a user sees


def measured(*methods: str, side: int, size: int) -> list[dict[str, Any]]:
    return api.run_all(
        "measure",
        methods,
        arch=f"localmixer[blocks=1,side={side},channels=12,groups=4]",
        data=f"synthetic[size={size},classes=3,train=64,test=32]",
        moments=(0.0,),
        draws=128,
        batches=1,
        batch=16,
        seed=2,
    )


@pytest.mark.slow
def test_measure_rejects_the_released_credit_and_not_the_summed_one() -> None:
    """64 directions × 128 draws, fixed, where 5 % is detectable; a false rejection has odds of 1e-3."""
    released, summed = measured(
        "fg_w[credit=released,directions=64]/local-pg",
        "fg_w[directions=64]/local-pg",
        side=1,
        size=2,
    )
    assert released["bias"]["p_value"] < 1e-3
    assert released["bias"]["low"] > 0
    assert summed["bias"]["p_value"] > 1e-3
    assert summed["bias"]["detectable"] < released["bias"]["value"]


def test_measure_shows_the_size_of_averaged_losses() -> None:
    """Scale 1/4 and bias 3/4 with four patches; 128 draws of 64 directions leave less than 0.1 open."""
    (found,) = measured("fg_a[average=p,directions=64]/local", side=2, size=4)
    assert found["scale"]["low"] < 0.25 < found["scale"]["high"]
    assert found["scale"]["high"] - found["scale"]["low"] < 0.1
    assert found["bias"]["low"] > 0.6
    assert found["bias"]["p_value"] < 1e-3
