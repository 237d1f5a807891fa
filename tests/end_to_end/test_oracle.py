"""The arrays of the paper's released functions, in float64: agreement to the rounding they were stored with.

The reference net has b = p = g = d = 4 and hides transpositions; ``test_localmixer.py`` holds a literal
transcription with all sizes different. Stored weights are ``[in, out]``, ours ``[out, in]``; token-mixing
noise is stored ``[b, d, p]``, ours ``[b, p, (g d)]``. One declared difference: the released FG-A leaves
out the mean over the batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fgbench import registry
from fgbench.core.autodiff.dual import Dual, part, swapped
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain, LinearReadout
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.core.task import Step, Task
from fgbench.core.view import View
from tests.makers.released import DATA, LOSSES, Features, off, stored
from tests.twins.localmixer import paper_layout, paper_name
from tests.twins.replicated import replicated

# torch.func.jvp loads rules that torch itself still writes with torch.jit.script
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
DEAD = "b1.l0.b"  # constant over the channels that the next norm averages: its gradient is zero


ORACLE = stored("tiny_2blk_2x2_g4")
with np.load(DATA / "tiny_2blk_2x2_g4.npz", allow_pickle=False) as _arrays:
    CONFIG = json.loads(bytes(_arrays["config_json"]))
LABELS = ORACLE["label"].to(torch.int64)


def images() -> Tensor:
    mean, std = torch.tensor([CONFIG["mean"], CONFIG["std"]], dtype=torch.float64)
    normalised: Tensor = (ORACLE["image"] - mean) / std
    return normalised.permute(0, 3, 1, 2)


def network(transposed: bool = True) -> Chain:
    name = "localmixer[blocks=2,side=2,channels=16,groups=4]"
    with Noise(0).seeded():
        made = registry.make("architectures", name, shape=(3, 8, 8), classes=CONFIG["classes"])
    chain: Chain = made.thing.to(torch.float64)
    with torch.no_grad():
        for name, p in chain.named_parameters():
            array = ORACLE[f"param.{paper_name(name)}"]
            square = array.shape == p.shape
            p.copy_(array if square and not transposed else paper_layout(name, array))
    return chain


def noise(token_transposed: bool = True) -> DesignedNoise:
    given = {}
    for key, array in ORACLE.items():
        if key.startswith("noise.wts."):
            block, layer, what = key.removeprefix("noise.wts.").split(".")
            name = f"body.{block[1:]}.{layer}.{'weight' if what == 'w' else 'bias'}"
            given[name] = paper_layout(name, array).unsqueeze(0)
        elif key.startswith("noise.act."):
            block, layer = key.removeprefix("noise.act.").split(".")
            if key == "noise.act.b1.l0":
                array = array.mT if token_transposed else array.reshape(4, 4, 16)
            given[f"body.{block[1:]}.{layer}"] = array.unsqueeze(0)
    return DesignedNoise(0, dtype=torch.float64, given=given)


def task_of(method: str, chain: Chain | None = None) -> tuple[Task, Any]:
    parsed = registry.method(method)
    return Task(Scheme(chain or network(), parsed.locality.thing)), parsed.estimator.thing


def feedback(chain: Chain, task: Task) -> dict[str, dict[str, Tensor]]:
    """Feedback weights of every objective: those of its window and its readout."""
    return {
        o.name: {
            name: paper_layout(name, ORACLE[f"fa_back.{paper_name(name)}"])
            for name in (
                *chain.body_parameters(range(*o.window)),
                *chain.readout_parameters(o.readout),
            )
            if name.endswith("weight")
        }
        for o in task.objectives
    }


def direct(task: Task) -> dict[str, dict[str, Tensor]]:
    """Matrices ``[out, k]`` as ours, ``[k, *features]``."""
    own = {}
    for name, shape in task.chain.features().items():
        back = f"dfa_back.{paper_name(f'{name}.w')}"
        own[name] = ORACLE[back].T.reshape(-1, *shape)
        own[f"{name}.bias"] = ORACLE[f"{back[:-1]}b"]
    return {o.name: own for o in task.objectives}


def estimated(method: str, chain: Chain | None = None, drawn: DesignedNoise | None = None) -> Step:
    task, estimator = task_of(method, chain)
    made = {"dfa": direct, "fa": lambda task: feedback(task.chain, task)}
    state = made.get(registry.method(method).estimator.name, lambda task: {})(task)
    return task.estimate(images(), LABELS, estimator, drawn or noise(), state)


def mismatch(step: Step, reference: str, scale: float = 1.0) -> float:
    """Largest relative difference over all body parameters and all heads that were given."""
    found = {paper_name(n): paper_layout(n, g) for n, g in {**step.body, **step.readouts}.items()}
    assert sum(name.startswith("b") for name in found) == 10
    worst = 0.0
    for name, grad in found.items():
        want = ORACLE[f"grad.{reference}.{name}"] * (scale if name.startswith("b") else 1.0)
        dead = name == DEAD and "FG-W" not in reference and "nonorm" not in reference
        assert dead == (float(want.abs().max()) < 1e-9)
        worst = max(worst, float(grad.abs().max()) * 1e3 if dead else off(grad, want))
    return worst


METHODS = {  # ours -> reference, factor of its body gradients, heads that learn
    "BP": ("BP", 1.0, 1),
    "L-BP": ("L-BP", 1.0, 3),
    "LG-BP": ("LG-BP", 1.0, 3),
    "FA": ("FA.textbook", 1.0, 1),
    "L-FA": ("L-FA.textbook", 1.0, 3),
    "LG-FA": ("LG-FA.textbook", 1.0, 3),
    "DFA": ("DFA.textbook", 1.0, 1),
    "FG-W": ("FG-W", 1.0, 1),
    "FG-A": ("FG-A.official_sum", 1 / 4, 1),
    "fg_w[credit=released]/local-pg": ("LG-FG-W", 1.0, 3),
    "LG-FG-A": ("LG-FG-A", 1.0, 3),
}
RELEASED = {  # the released code's other forms, as options
    "fa[error=own,heads=summed]/module[keep=b p g]": ("FA.official", 1.0, 3),
    "fa[error=own]/module": ("L-FA.official", 1.0, 3),
    "fa[error=own]/local": ("LG-FA.official", 1.0, 3),
    "dfa[error=own]/end": ("DFA.official", 1.0, 1),
    "fg_a[norm_grad=false]/end": ("FG-A.official_sum.nonormgrad", 1 / 4, 1),
    "fg_a[norm_grad=false]/local-pg": ("LG-FG-A.nonormgrad", 1.0, 3),
    "fg_a[average=p]/local[keep=b g]": ("LG-FG-A.spatial0_modular1", 1.0, 3),
    "fg_a[credit=released]/last-pg": ("LG-FG-A.spatial1_modular0", 1.0, 2),
    "fg_a[credit=released,average=p]/last[keep=b g]": ("LG-FG-A.spatial0_modular0", 1.0, 2),
    "fg_w[credit=released,average=p]/local[keep=b g]": ("LG-FG-W.spatial0_modular1", 1.0, 3),
    "fg_w[credit=released]/last-pg": ("LG-FG-W.spatial1_modular0", 1.0, 2),
    "fg_w[credit=released,average=p]/last[keep=b g]": ("LG-FG-W.spatial0_modular0", 1.0, 2),
}


def test_the_eleven_methods_are_those_of_the_paper() -> None:
    """Ten as their presets; the preset LG-FG-W is the unbiased rule, the released one an option."""
    ours = [name.replace("fg_w[credit=released]/local-pg", "LG-FG-W") for name in METHODS]
    assert sorted(ours) == sorted(list(registry.PRESETS)[:11])
    assert registry.PRESETS["LG-FG-W"] == "fg_w/local-pg"


@pytest.mark.parametrize("method", {**METHODS, **RELEASED})
def test_gradients_of_body_and_heads(method: str) -> None:
    reference, scale, heads = {**METHODS, **RELEASED}[method]
    step = estimated(method)
    assert mismatch(step, reference, scale) < 1e-6
    assert len(step.readouts) == 2 * heads
    assert step.loss is not None
    assert off(step.loss, ORACLE["final_loss_mean"]) < 1e-6


@pytest.mark.parametrize("method", RELEASED)
def test_no_option_of_a_released_form_is_idle(method: str) -> None:
    reference, scale, _ = RELEASED[method]
    name, options = registry.split_options(method.partition("/")[0])
    locality = method.partition("/")[2]
    for left_out in options:
        rest = ",".join(f"{k}={v}" for k, v in options.items() if k != left_out)
        assert mismatch(estimated(f"{name}[{rest}]/{locality}"), reference, scale) > 1e-2


FAULTS: dict[str, Callable[[], float]] = {
    "weights not transposed": lambda: mismatch(estimated("BP", network(transposed=False)), "BP"),
    "token noise not transposed": lambda: mismatch(
        estimated("LG-FG-A", drawn=noise(token_transposed=False)), "LG-FG-A"
    ),
    "no mean over the batch": lambda: mismatch(estimated("FG-A"), "FG-A.official_sum"),
    "released rule not followed": lambda: mismatch(estimated("LG-FG-W"), "LG-FG-W"),
    "no locality": lambda: mismatch(estimated("FG-A"), "LG-FG-A"),
    "error of the random readouts": lambda: mismatch(estimated("LG-FA"), "LG-FA.official"),
    "error of the random readouts, directly": lambda: mismatch(estimated("DFA"), "DFA.official"),
    "norm not pulled back": lambda: mismatch(estimated("LG-FG-A"), "LG-FG-A.nonormgrad"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str) -> None:
    assert FAULTS[fault]() > 1e-2


def test_values() -> None:
    chain = network()
    assert off(chain(images()).detach(), ORACLE["logits"]) < 1e-6
    for k, view in enumerate(task_of("LG-BP", chain)[0].views(images(), LABELS, CostCounter())):
        if k == 2:
            assert off(view.losses().mean(), ORACLE["final_loss_mean"]) < 1e-6
            break
        assert off(view.output(), ORACLE[f"feat.b{k}"]) < 1e-6
        losses = view.losses()[:, None, None].expand(4, 4, 4)
        assert off(losses, ORACLE[f"local_loss.b{k}"]) < 1e-6


@pytest.mark.parametrize("kind", ["act", "wts"])
def test_tangents_of_local_losses_per_patch_and_group(kind: str) -> None:
    task, _ = task_of("LG-FG-A")
    for k, view in enumerate(task.views(images(), LABELS, CostCounter())):
        if view.objective.updates:
            u = noise().directions(view.sites if kind == "act" else view.shapes)
            assert off(view.slopes(u)[0], ORACLE[f"tangent.{kind}.b{k}"]) < 1e-6
        else:
            assert view.objective.readout == "final"


def test_tangents_of_the_final_loss() -> None:
    (view,) = task_of("FG-A")[0].views(images(), LABELS, CostCounter())
    each = view.slopes(noise().directions(view.sites))[0] * 4  # stored without the mean over b
    assert off(each, ORACLE["tangent.act.global"]) < 1e-6
    whole = view.slopes(noise().directions(view.shapes))[0].sum()
    assert off(whole, ORACLE["tangent.wts.global"]) < 1e-6


# the fused loss alone: pool over patches, concatenate groups, linear, cross entropy


def fused(case: Mapping[str, Tensor], rows: slice = slice(None)) -> View:
    """View the loss of some rows of a stored case, scores apart along p and g."""
    features = case["w"].shape[0]
    with Noise(0).seeded():
        head = LinearReadout("b p g d", features, len(case["b"]))
    chain = Chain([Features()], {"final": head}, tuple(case["x"].shape[1:]), len(case["b"]))
    chain.to(torch.float64)
    with torch.no_grad():
        head.linear.weight.copy_(case["w"].T)
        head.linear.bias.copy_(case["b"])
    objective = Objective("one", (0, 1), "final", (0,), keep="b p g")
    return View(chain, objective, case["x"][rows], case["y"][rows].argmax(1), CostCounter())


CASES = {
    which: {
        k.removeprefix(f"ce.{which}."): v for k, v in LOSSES.items() if k.startswith(f"ce.{which}.")
    }
    for which in "abc"
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fused_loss_and_its_tangent(case: Mapping[str, Tensor]) -> None:
    view, b = fused(case), len(case["x"])
    assert off(view.losses()[:, None, None].expand(case["loss"].shape), case["loss"]) < 1e-6
    of_features = view.slopes(FixedDirections({"body.0.l0": case["dx"].unsqueeze(0)}))[0] * b
    moved = {
        "readouts.final.linear.weight": Dual(case["w"].T, case["dw"].T.unsqueeze(0)),
        "readouts.final.linear.bias": Dual(case["b"], case["db"].unsqueeze(0)),
    }
    with torch.no_grad(), swapped(view.chain, moved):
        tangent = part(view.chain.read("final", view.output()))
    assert tangent is not None
    of_head = (view.output_error() * b * tangent[0]).sum(1)
    assert off(of_features + of_head[:, None, None], case["jvp"]) < 1e-6


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fused_loss_backwards(case: Mapping[str, Tensor]) -> None:
    view, b = fused(case), len(case["x"])
    copies = case["ct"][0].numel()
    weights = case["ct"][:, 0, 0]  # constant over p and g
    error = view.output_error() * b * weights[:, None]
    to_op = view.pull({("readout", "final"): error}, to="taps")
    assert list(to_op) == [("op", "readouts.final.linear")]
    found = view.pull(to_op, to="taps")
    assert off(found["out", "body.0.l0"], case["vjp_x"]) < 1e-6
    each = [fused(case, slice(n, n + 1)).readout_grads() for n in range(b)]
    for key, name in {"vjp_w": "weight", "vjp_b": "bias"}.items():
        grads = torch.stack([g[f"readouts.final.linear.{name}"] for g in each])
        total = copies * torch.tensordot(weights, grads, 1)
        assert off(total.T if key == "vjp_w" else total, case[key]) < 1e-6


@pytest.mark.parametrize(
    "sizes", [(2, 3, 4, 5, 6), (3, 1, 2, 4, 5), (2, 4, 1, 3, 5), (1, 2, 3, 5, 4)]
)
def test_fused_loss_is_the_replicated_one(sizes: tuple[int, ...]) -> None:
    """Value, slope along the features and their gradient of L[n, p, g], copy by copy."""
    b, p, g, d, k = sizes
    draw = Noise(5, dtype=torch.float64).normal
    f, tangent, w, c = (
        draw(name, shape)
        for name, shape in {
            "f": (b, p, g, d),
            "t": (b, p, g, d),
            "w": (k, g * d),
            "c": (k,),
        }.items()
    )
    y = torch.arange(b) % k
    view = fused({"x": f, "w": w.T, "b": c, "y": nn.functional.one_hot(y, k)})
    loss = replicated(f, w, c, y)
    slope = torch.func.jvp(lambda at: replicated(at, w, c, y), (f,), (tangent,))[1]
    assert off(view.losses()[:, None, None].expand_as(loss), loss) < 1e-12
    found = view.slopes(FixedDirections({"body.0.l0": tangent.unsqueeze(0)}))[0]
    assert off(found, slope / b) < 1e-12
    assert found.unique().numel() == b * p * g  # nothing is constant along an axis
    live = f.clone().requires_grad_()
    (through_copies,) = torch.autograd.grad(replicated(live, w, c, y).sum() / b, live)
    to_op = view.pull({("readout", "final"): view.output_error()}, to="taps")
    assert off(view.pull(to_op, to="taps")["out", "body.0.l0"], through_copies) < 1e-12
