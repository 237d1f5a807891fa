"""Guesses through the next layer's weights and from the batch's activities: means, ranges and variances."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.conformance.nets import FEW, Case
from fgbench.conformance.variance import variance
from fgbench.core.cost import CostCounter
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.laws import PerExample
from fgbench.core.theory.site_gradients import site_gradients
from tests.makers.networks import batch, build, design, orthonormal, worst

SHAPE = (2, 4, 6)
MIXER = "localmixer-xs/2/4[channels=6,groups=2,side=2]"
ARCHS = ["mlp-3x5", "mlp-2x6[activation=tanh]", "cnn-tiny[width=4]"]


def viewed(arch: str, text: str, b: int = 3) -> Any:
    task, made, noise = build(arch, f"{text}/end", SHAPE)
    x, y = batch(b, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    return task, made, noise, (x, y), view


def guesses(view: Any, made: Any, noise: Any) -> dict[str, torch.Tensor]:
    """The directions that an estimator asks the slope of: ``[n, b, ...]``."""
    seen = []
    slopes = view.slopes

    def note(u: Any, step: Any = None) -> Any:
        seen.append(u)
        return slopes(u, step)

    view.slopes = note
    made(view, noise, {})
    del view.slopes
    (u,) = seen
    return {n: u.rows(n, 0, u.n) for n in u.names}


def transposed(arch: str) -> tuple[Any, ...]:
    """The transpose guess with a design of its noise: at every site but the first, and at the predictions."""
    task, made, _, data, view = viewed(arch, "fg_wt")
    b, shapes = len(data[0]), dict(list(view.sites.items())[1:])
    places = PerExample({**shapes, "final": (b, 5)})
    return task, made, orthonormal(places, per_example=True), data, view


@pytest.mark.parametrize("arch", ["mlp-3x5", "mlp-2x6[activation=tanh]", "cnn-tiny[width=4]"])
def test_the_mean_of_the_transpose_guess_is_m_mt_times_the_gradient(arch: str) -> None:
    task, made, noise, data, view = transposed(arch)
    mean, truth = made.expected(view, {}), task.scheme_truth(*data)
    assert worst(task.estimate(*data, made, noise).body, mean) < 1e-10
    assert worst(mean, truth) > 1e-2


def test_m_mt_by_hand() -> None:
    task, made, _, _, view = viewed("mlp-2x6", "fg_wt")
    own = {n: p.detach() for n, p in task.chain.named_parameters()}
    w = [own["body.1.l0.weight"], own["readouts.final.linear.weight"]]
    on, delta = view.masks(), site_gradients(view)
    credit = {}
    for k, name in enumerate(delta):
        d = on[name].double()
        credit[name] = d * ((d * delta[name]) @ w[k].T @ w[k])
    assert worst(view.pull(credit), made.expected(view, {})) < 1e-12


def test_with_orthonormal_rows_the_transpose_guess_has_no_bias() -> None:
    """Every unit on, the next layers with orthonormal rows: M Mᵀ is a projection that holds the gradient."""
    task, made, _, data, view = viewed("mlp-2x6", "fg_wt")
    chain = task.chain
    with torch.no_grad():
        for k in range(2):
            chain.get_parameter(f"body.{k}.l0.bias").fill_(50.0 * 10**k)
        for name in ("body.1.l0.weight", "readouts.final.linear.weight"):
            p = chain.get_parameter(name)
            p.copy_(torch.linalg.qr(p.T)[0].T)
    (view,) = task.views(*data, CostCounter())
    truth = task.scheme_truth(*data)
    assert all(bool(on.all()) for on in view.masks().values())
    assert worst(made.expected(view, {}), truth) < 1e-10
    perp = registry.make("estimators", "fg_perp").thing
    one, other = (e.projections(view)["body.1.l0"] for e in (perp, perp))
    w = chain.get_parameter("readouts.final.linear.weight").detach()
    assert torch.equal(one, other)
    assert float((one - w.T @ w).abs().max()) < 1e-10


@pytest.mark.parametrize("text", ["fg_wt", "fg_actmix", "fg_perp"])
def test_guesses_are_zero_where_units_are_off(text: str) -> None:
    _, made, noise, _, view = viewed("mlp-3x5", text)
    for name, y in guesses(view, made, noise).items():
        off = ~view.masks()[name]
        assert bool(off.any())
        assert float((y[0] * off).abs().max()) < 1e-12
        assert bool((y[0] * ~off).any())


def test_guesses_lie_in_the_range_of_the_next_layer() -> None:
    for text in ("fg_wt", "fg_perp"):
        _, made, noise, _, view = viewed("mlp-2x6", text)
        perp = registry.make("estimators", "fg_perp").thing
        for name, y in guesses(view, made, noise).items():
            p, flat = perp.projections(view)[name], y[0].flatten(1)
            left = flat - (p @ flat.unsqueeze(2)).squeeze(2)
            assert float(left.abs().max()) < 1e-10 * float(flat.abs().max())


@pytest.mark.parametrize("arch", [*ARCHS, MIXER])
def test_the_gradient_lies_in_the_range_of_every_layer(arch: str) -> None:
    _, made, _, _, view = viewed(arch, "fg_perp")
    narrow = 0
    for name, delta in site_gradients(view).items():
        p, flat = made.projections(view)[name], delta.flatten(1)
        left = flat - (p @ flat.unsqueeze(2)).squeeze(2)
        assert float(left.abs().max()) < 1e-10 * float(flat.abs().max())
        narrow += bool((p.diagonal(dim1=1, dim2=2).sum(1) < flat.shape[1] - 0.5).any())
    assert narrow


@pytest.mark.parametrize("locality", ["end", "local"])
@pytest.mark.parametrize("arch", ARCHS)
def test_projected_noise_has_the_gradient_as_its_mean(arch: str, locality: str) -> None:
    task, made, _ = build(arch, f"fg_perp/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    truth, noise = task.scheme_truth(x, y), design(task, "fg_a")
    assert worst(task.estimate(x, y, made, noise).body, truth) < 1e-10
    some = registry.make("estimators", "fg_perp[rank=1]").thing
    assert worst(task.estimate(x, y, some, noise).body, truth) > 1e-3


def test_projected_noise_is_unbiased_where_scores_stay_apart() -> None:
    task, made, _ = build(MIXER, "fg_perp/local-pg", SHAPE)
    x, y = batch(3, SHAPE)
    found = task.estimate(x, y, made, design(task, "fg_a")).body
    assert worst(found, task.scheme_truth(x, y)) < 1e-10


def test_a_rank_leaves_out_what_its_documented_mean_says() -> None:
    task, made, _, data, view = viewed("mlp-2x6", "fg_perp[rank=2]")
    mean = made.expected(view, {})
    assert worst(task.estimate(*data, made, design(task, "fg_a")).body, mean) < 1e-10
    assert worst(mean, task.scheme_truth(*data)) > 1e-3


def test_of_square_weights_and_units_that_are_on_it_is_the_forward_gradient() -> None:
    task, made, noise = build("mlp-2x5[activation=tanh]", "fg_perp/end", SHAPE)  # 5 classes
    x, y = batch(3, SHAPE)
    plain = registry.make("estimators", "fg_a").thing
    assert worst(*(task.estimate(x, y, e, noise).body for e in (made, plain))) < 1e-8


@pytest.mark.slow
def test_the_documented_variance_of_projected_noise_is_exact() -> None:
    made = registry.make("estimators", "fg_perp[directions=2]").thing
    assert "equals the exact one" in variance(Case.build(FEW, "end", made))


def test_one_example_has_as_many_numbers_as_the_ranges_plus_1() -> None:
    _, made, _, _, view = viewed("mlp-2x12[activation=tanh]", "fg_perp", b=1)
    found = made.predicted_variance(view, {})
    biases = [n for n in found if n.endswith("bias")]  # credit itself
    square = sum(float((view.reverse()[n] ** 2).sum()) for n in biases)
    total = sum(float(found[n]) for n in biases)
    assert total == pytest.approx(
        (12 + 5 + 1) * square, rel=1e-10
    )  # 12 units before 12, 12 before 5 classes
    plain = registry.make("estimators", "fg_a").thing.predicted_variance(view, {})
    assert sum(float(plain[n]) for n in biases) == pytest.approx((24 + 1) * square, rel=1e-10)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_mean_of_mixed_activities(arch: str) -> None:
    task, made, _, data, view = viewed(arch, "fg_actmix")
    places = PerExample(dict.fromkeys(view.sites, (3, 3)))
    noise, mean = orthonormal(places, per_example=True), made.expected(view, {})
    assert worst(task.estimate(*data, made, noise).body, mean) < 1e-10
    assert worst(mean, task.scheme_truth(*data)) > 1e-2


def test_mixed_activities_by_hand() -> None:
    _, made, noise, _, view = viewed("mlp-2x6", "fg_actmix")
    c = noise.directions(PerExample(dict.fromkeys(view.sites, (3, 3))), 1)
    for name, y in guesses(view, made, noise).items():
        mixed = c.rows(name, 0, 1)[0] @ view.activities()[name] / 3**0.5
        torch.testing.assert_close(y[0], mixed * view.masks()[name], rtol=1e-12, atol=1e-14)


def test_their_costs() -> None:
    for text, forwards, slopes, pulls in (
        ("fg_wt[directions=2]", 1.0, 2.0, 3.0),
        ("fg_actmix[directions=2]", 2.0, 2.0, 3.0),
    ):
        task, made, noise, data, _ = viewed("mlp-2x6", text)
        ledger = task.estimate(*data, made, noise).ledger
        assert (ledger.forwards, ledger.slopes, ledger.pulls) == (forwards, slopes, pulls)


def test_a_pull_to_the_sites_crosses_one_layer() -> None:
    task, _, noise, _, view = viewed("mlp-3x5", "fg_wt")
    c = noise.normal("c", (3, 5))
    back = view.pull({("site", "body.2.l0"): c}, to="sites")
    assert set(back) == {("site", "body.1.l0")}
    w = task.chain.get_parameter("body.2.l0.weight").detach()
    by_hand = (c @ w) * view.masks()["body.1.l0"]
    torch.testing.assert_close(back["site", "body.1.l0"], by_hand, rtol=1e-12, atol=1e-14)
    y = noise.normal("y", (3, 5))
    ahead = view.site_tangents(FixedDirections({"body.1.l0": y.unsqueeze(0)}), one_layer=True)
    assert set(ahead) == {("out", "body.1.l0"), ("site", "body.2.l0")}
    forward, pulled = (
        (ahead["site", "body.2.l0"][0] * c).sum(),
        (y * back["site", "body.1.l0"]).sum(),
    )
    torch.testing.assert_close(
        forward, pulled, rtol=1e-12, atol=1e-14
    )  # one is the other's transpose
