"""Feedback alignment, direct and layer by layer: closed forms by hand and the cases that are backprop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from tests.makers.networks import batch, build, worst

SHAPE = (2, 4, 6)


def by_hand(task: Task, x: Tensor, y: Tensor, b: dict[str, Tensor]) -> dict[str, Tensor]:
    """Direct feedback alignment of a multilayer perceptron with ReLU, example by example."""
    own = {n: p.detach() for n, p in task.chain.named_parameters()}
    depth = len(task.chain)
    found = {n: torch.zeros_like(p) for n, p in own.items() if n.startswith("body")}
    for image, label in zip(x, y, strict=True):
        inputs, pres = [image.flatten()], []
        for k in range(depth):
            w, c = own[f"body.{k}.l0.weight"], own[f"body.{k}.l0.bias"]
            pres.append(w @ inputs[-1] + c)
            inputs.append(pres[-1].clamp_min(0))
        logits = own["readouts.final.linear.weight"] @ inputs[-1]
        error = torch.softmax(logits + own["readouts.final.linear.bias"], 0)
        error[label] -= 1
        for k in range(depth):
            delta = (b[f"body.{k}.l0"].T @ error) * (pres[k] > 0) / len(x)
            found[f"body.{k}.l0.weight"] += torch.outer(delta, inputs[k])
            found[f"body.{k}.l0.bias"] += delta
    return found


def test_direct_feedback_alignment_is_its_closed_form() -> None:
    task, dfa, noise = build("mlp-3x5", "DFA", SHAPE)
    x, y = batch(4, SHAPE)
    state = dfa.init_state(task, noise)
    assert {n: b.shape for n, b in state["end"].items()} == {
        f"body.{k}.l0": (5, 5) for k in range(3)
    }
    found = task.estimate(x, y, dfa, noise, state).body
    assert worst(found, by_hand(task, x, y, state["end"])) < 1e-12
    other = {"end": {n: b * 1.02 for n, b in state["end"].items()}}
    assert worst(found, by_hand(task, x, y, other["end"])) > 1e-3


@pytest.mark.parametrize("arch", ["mlp-3x5", "cnn-tiny"])
def test_direct_feedback_through_the_head_of_each_layer_is_backprop(arch: str) -> None:
    """A head that is linear in the layer's mean output: the averaging is the head's own."""
    task, dfa, noise = build(arch, "dfa/local", SHAPE)
    x, y = batch(3, SHAPE)
    random = dfa.init_state(task, noise)
    own = dict(task.chain.named_parameters())
    state = {
        o.name: {
            name: own[f"readouts.{o.readout}.linear.weight"].detach().reshape(b.shape)
            for name, b in random[o.name].items()
        }
        for o in task.objectives
    }
    truth = task.scheme_truth(x, y)
    assert worst(task.estimate(x, y, dfa, noise, state).body, truth) < 1e-12
    assert worst(task.estimate(x, y, dfa, noise, random).body, truth) > 1e-2


MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"


@pytest.mark.parametrize("arch", ["mlp-2x8", MIXER, "cnn-tiny[width=4]"])
def test_direct_feedback_has_the_deviation_of_a_readout_on_its_features(arch: str) -> None:
    """And a layer gets at most as many teaching directions as there are classes."""
    task, _, noise = build(arch, "DFA", SHAPE)
    single, double = (
        registry.make("estimators", f"dfa[scale={s}]").thing.init_state(task, noise)["end"]
        for s in (1, 2)
    )
    for name, b in single.items():
        features = b[0].numel()
        assert torch.equal(double[name], 2 * b)
        # b² features is chi-squared of b.numel() degrees over their number: 6 deviations
        assert abs(float((b**2).mean()) * features - 1) < 6 * (2 / b.numel()) ** 0.5
    x, y = batch(9, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    dfa = registry.make("estimators", "dfa").thing
    credit = dfa(view, noise, single).credit
    assert {kind for kind, _ in credit} == {"out"}
    for (_, name), c in credit.items():
        assert c.shape == view.activities()[name].shape
        assert torch.linalg.matrix_rank(c.flatten(1)) <= min(task.chain.classes - 1, c[0].numel())


def test_direct_feedback_has_as_many_rows_as_its_own_readout_predicts() -> None:
    """A projector of 4 numbers on 5 classes; windows that share a site share its matrix."""
    text = "dfa/contrastive-module[features=4]"
    task, dfa, noise = build("mlp-2x6", text, SHAPE)
    state = dfa.init_state(task, noise)
    first, second = state["module0"]["body.0.l0"], state["module1"]["body.0.l0"]
    assert first.shape == (4, 6)
    assert first is second
    x, y = batch(4, SHAPE)
    assert task.estimate(x, y, dfa, noise, state).body.keys() == task.chain.body_parameters().keys()


# what an edit of one factor would change


@pytest.mark.parametrize("error", ["output", "own"])
@pytest.mark.parametrize("locality", ["overlap[losses=every]", "interlocking", "module"])
@pytest.mark.parametrize("arch", ["mlp-3x5", MIXER])
def test_feedback_through_the_weights_themselves_is_backprop_with_every_weight_of_a_loss(
    arch: str, locality: str, error: str
) -> None:
    """The first module's own loss has weight 2, and under interlocking an error crosses other modules.

    With B = W and the error of the readout's own predictions both ways are backprop.
    """
    task, fa, noise = build(arch, f"fa[error={error}]/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    own = dict(task.chain.named_parameters())
    random = task.init_state(fa, noise)
    state = {o: {n: own[n].detach().clone() for n in s} for o, s in random.items()}
    step = task.estimate(x, y, fa, noise, state)
    assert worst(step.body, task.scheme_truth(x, y)) < 1e-12
    bp = task.estimate(x, y, registry.make("estimators", "bp").thing, noise)
    assert worst(step.readouts, bp.readouts) < 1e-12
    for o in task.objectives:  # each weight that an error crosses is a feedback weight
        first = o.window[0] if o.updates else None
        crossed = [] if first is None else [
            n for n, p in task.chain.body_parameters(range(first, o.window[1])).items() if p.dim() > 1
        ]  # fmt: skip
        assert {n for n in state.get(o.name, {}) if n.startswith("body")} == {*crossed}


def test_feedback_for_weights_that_are_zero_has_the_scale_of_their_fan_in() -> None:
    """The final readout of LocalMixer starts at zero and has 12 inputs and 5 outputs."""
    noise = Noise(0, dtype=torch.float64)
    task, fa, _ = build(MIXER, "fa[scale=3]/end", SHAPE)
    name = "readouts.final.linear.weight"
    with torch.no_grad():
        task.chain.get_parameter(name).zero_()
    assert task.chain.get_parameter(name).shape == (5, 12)
    (state,) = task.init_state(fa, noise).values()
    source = noise.child("state").child("feedback")
    assert torch.equal(state[name], source.normal(name, (5, 12)) * (3 * (1 / 12**0.5)))
    for other, w in task.chain.body_parameters().items():
        if other in state:
            want = source.normal(other, tuple(w.shape)) * (3 * float(w.detach().std()))
            assert torch.equal(state[other], want)
