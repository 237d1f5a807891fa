"""Direct random target projection: hidden layers know the label and nothing of the error."""

from __future__ import annotations

import pytest
import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.losses import squared_error
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from tests.makers.feedback import grads_of, linear_net, made
from tests.makers.networks import batch, build, worst

SHAPE = (2, 4, 6)


def test_the_hidden_updates_are_their_closed_form() -> None:
    """Example by example: (B y*) φ′ times the layer's input, over the number of examples."""
    task, drtp, state = made("mlp-3x5[activation=tanh]", "drtp/end")
    x, y = batch(4, SHAPE)
    own = {n: p.detach() for n, p in task.chain.named_parameters()}
    want = {n: torch.zeros_like(p) for n, p in own.items() if n.startswith("body")}
    for image, label in zip(x, y, strict=True):
        h = image.flatten()
        for k in range(3):
            w, c = own[f"body.{k}.l0.weight"], own[f"body.{k}.l0.bias"]
            out = torch.tanh(w @ h + c)
            delta = state["end"][f"body.{k}.l0"][label] * (1 - out**2) / 4
            want[f"body.{k}.l0.weight"] += torch.outer(delta, h)
            want[f"body.{k}.l0.bias"] += delta
            h = out
    found = grads_of(task, drtp, x, y, state)
    assert worst(found, want) < 1e-12
    late = {"end": {**state["end"], "body.1.l0": 1.02 * state["end"]["body.1.l0"]}}
    assert worst(found, grads_of(task, drtp, x, y, late)) > 1e-3


def test_another_readout_changes_no_hidden_update() -> None:
    task, drtp, state = made("cnn-tiny[width=4]", "drtp/end")
    x, y = batch(4, SHAPE)
    before = grads_of(task, drtp, x, y, state)
    with torch.no_grad():
        for p in task.chain.readout_parameters("final").values():
            p.mul_(-3.0).add_(0.5)
    after = grads_of(task, drtp, x, y, state)
    assert all(torch.equal(g, after[n]) for n, g in before.items())


def test_in_a_linear_network_a_class_has_one_signal() -> None:
    """dW = Σ over classes of B's row times the sum of the inputs of the class."""
    task = linear_net(6, 4, 3)
    drtp = registry.make("estimators", "drtp").thing
    state = task.init_state(drtp, Noise(0, dtype=torch.float64))
    x, _ = batch(6, (6,))
    y = torch.tensor([0, 2, 2, 4, 0, 2])
    found = grads_of(task, drtp, x, y, state)
    b = state["end"]["body.0.l0"]
    want = sum(torch.outer(b[c], x[y == c].sum(0)) for c in (0, 2, 4)) / 6
    torch.testing.assert_close(found["body.0.l0.weight"], want, rtol=1e-12, atol=1e-14)


def test_without_feedback_the_readout_alone_learns() -> None:
    task, drtp, state = made("mlp-3x5", "drtp/end")
    zero = {"end": {n: 0 * b for n, b in state["end"].items()}}
    x, y = batch(4, SHAPE)
    step = task.estimate(x, y, drtp, Noise(0, dtype=torch.float64), zero)
    assert not any(bool(g.any()) for g in step.body.values())
    bp = task.estimate(x, y, registry.make("estimators", "bp").thing, Noise(0))
    assert worst(step.readouts, bp.readouts) < 1e-14


@pytest.mark.parametrize("maps", ["averaged", "full"])
def test_feedback_is_uniform_and_within_its_bound(maps: str) -> None:
    task, _, state = made("cnn-tiny[width=4]", f"drtp[maps={maps}]/end")
    for name, b in state["end"].items():
        features, shape = b[0].numel(), task.chain.shapes()[name]
        assert features == (shape[0] if maps == "averaged" else torch.Size(shape).numel())
        bound = (6 / features) ** 0.5
        assert float(b.abs().max()) <= bound
        # b² is bound² times the square of a uniform number, of mean 1/3 and deviation √(4/45)
        sd = (4 / 45 / b.numel()) ** 0.5
        assert abs(float(b.square().mean()) / bound**2 - 1 / 3) < 6 * sd


def test_targets_that_are_no_labels_are_refused() -> None:
    task, drtp, state = made("mlp-2x5", "drtp/end")
    (view,) = task.views(batch(3, SHAPE)[0], torch.zeros(3), CostCounter())
    with pytest.raises(UsageError, match=r"projects class labels.*expected int64, got float32"):
        drtp(view, Noise(0), state["end"])
    task.chain.criterion = squared_error
    assert "projects class labels" in drtp.supports(task.scheme)
    other, _, _ = build("mlp-2x5", "drtp/contrastive[features=3]", SHAPE)
    assert "compares examples" in drtp.supports(other.scheme)
