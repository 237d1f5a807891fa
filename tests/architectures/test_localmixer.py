"""LocalMixer against a literal transcription with every size different, its counts and its declarations."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.architectures.localmixer.blocks import Block, FirstBlock
from fgbench.architectures.localmixer.layers import Channel, Grouped, Token
from fgbench.core.axes import names
from fgbench.core.cost import CostCounter
from fgbench.core.network import LocalModule, Site, Tap
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.errors import UsageError
from tests.makers.networks import batch, build
from tests.twins import localmixer as twin
from tests.twins.localmixer import paper_layout, paper_name

# torch.func.jvp loads rules that torch itself still writes with torch.jit.script
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

# b = 2, 3 channels of 6 x 12, p = 9, g = 4, d = 5, 20 channels, 7 classes, 24 pixels per patch
B, SIDE, GROUPS, CLASSES, SHAPE = 2, 3, 4, 7, (3, 6, 12)
ARCH = f"localmixer[blocks=3,side={SIDE},channels=20,groups={GROUPS}]"


def paper(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename parameters or their directions and transpose weights to ``[..., in, out]``."""
    return {paper_name(n): paper_layout(n, t.detach()) for n, t in named.items()}


def setting(method: str) -> Any:
    task, estimator, _ = build(ARCH, method, SHAPE, CLASSES)
    with torch.no_grad():  # biases start at zero and would hide their own sign
        for name, p in task.chain.named_parameters():
            p.add_(Noise(3, dtype=torch.float64).normal(name, tuple(p.shape)), alpha=0.05)
    x, y = batch(B, SHAPE, CLASSES)
    where = (x.permute(0, 2, 3, 1), SIDE, GROUPS)
    return task, estimator, x, y, paper(dict(task.chain.named_parameters())), where


def drawn(task: Any) -> tuple[DesignedNoise, dict[str, Tensor], dict[str, Tensor]]:
    """Noise for every site and parameter, and the same two in the paper's layout."""
    source = Noise(4, dtype=torch.float64)
    sites = {n: source.normal(n, (B, *s)) for n, s in task.chain.shapes().items()}
    weights = {n: source.normal(n, tuple(p.shape)) for n, p in task.chain.body_parameters().items()}
    given = {n: t.unsqueeze(0) for n, t in {**sites, **weights}.items()}
    tokens = {n for n in sites if n.endswith("l0") and n != "body.0.l0"}
    theirs = {n.replace("body.", "b"): t.mT if n in tokens else t for n, t in sites.items()}
    return DesignedNoise(0, dtype=torch.float64, given=given), theirs, paper(weights)


def worst(found: dict[str, Tensor], want: dict[str, Tensor]) -> float:
    """Largest difference relative to each array's largest entry, dead token biases absolutely."""
    assert found.keys() == want.keys()
    relative = {}
    for name, t in want.items():
        assert found[name].shape == t.shape
        top = float(t.abs().max())
        relative[name] = float((found[name] - t).abs().max()) / (top if top > 1e-12 else 1e-3)
    return max(relative.values())


def test_values_are_the_transcription() -> None:
    task, _, x, y, params, (image, side, groups) = setting("LG-BP")
    still = {n: torch.zeros_like(t) for n, t in drawn(task)[1].items()}
    _, outputs = twin.network(params, image, side, groups, still, cut=False)
    want = twin.logits(params, outputs, "final")
    torch.testing.assert_close(task.chain(x).detach(), want, rtol=1e-12, atol=1e-13)
    losses = twin.local_losses(params, outputs, y)
    for k, view in enumerate(task.views(x, y, CostCounter())):
        if view.objective.updates:
            torch.testing.assert_close(view.output(), outputs[k], rtol=1e-12, atol=1e-13)
            each = view.losses()[:, None, None].expand_as(losses[k])
            torch.testing.assert_close(each, losses[k], rtol=1e-12, atol=1e-13)


def test_activity_forward_gradient_is_the_transcription() -> None:
    task, estimator, x, y, params, (image, side, groups) = setting("LG-FG-A")
    noise, at_sites, _ = drawn(task)
    tangents = twin.activity_tangents(params, image, y, side, groups, at_sites)
    for k, view in enumerate(task.views(x, y, CostCounter())):
        if view.objective.updates:
            slopes = view.slopes(noise.directions(view.sites))[0]
            torch.testing.assert_close(slopes, tangents[k], rtol=1e-10, atol=1e-13)
    want = twin.activity_gradient(params, image, y, side, groups, at_sites)
    assert worst(paper(task.estimate(x, y, estimator, noise).body), want) < 1e-11


def test_released_weight_forward_gradient_is_the_transcription() -> None:
    task, estimator, x, y, params, (image, side, groups) = setting("fg_w[credit=released]/local-pg")
    noise, at_sites, on_weights = drawn(task)
    still = {n: torch.zeros_like(t) for n, t in at_sites.items()}
    tangents = twin.weight_tangents(params, image, y, side, groups, on_weights, still)
    want = twin.weight_gradient(tangents, groups, on_weights)
    assert worst(paper(task.estimate(x, y, estimator, noise).body), want) < 1e-11


@pytest.mark.parametrize("method", ["L-BP", "LG-BP"])
def test_the_replicated_loss_has_the_gradient_of_the_plain_one(method: str) -> None:
    """Its sum over p and g has the same gradient in the body and P·G times that of the heads."""
    task, estimator, x, y, params, (image, side, groups) = setting(method)
    still = {n: torch.zeros_like(t) for n, t in drawn(task)[1].items()}
    live = {n: t.clone().requires_grad_() for n, t in params.items()}
    _, outputs = twin.network(live, image, side, groups, still, cut=method == "LG-BP")
    total = torch.stack([loss.sum() / B for loss in twin.local_losses(live, outputs, y)]).sum()
    wanted = [n for n in live if not n.startswith("final")]
    grads = dict(zip(wanted, torch.autograd.grad(total, [live[n] for n in wanted]), strict=True))
    step = task.estimate(x, y, estimator, Noise(0))
    body = {n: g for n, g in grads.items() if n.startswith("b")}
    assert worst(paper(step.body), body) < 1e-11
    heads = {n: g / (SIDE**2 * GROUPS) for n, g in grads.items() if n.startswith("head")}
    found = {n: g for n, g in paper(step.readouts).items() if n.startswith("head")}
    assert worst(found, heads) < 1e-11


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        ("localmixer-s/1/1", (1, 28, 28), 10, 271_892),
        ("localmixer-m/1/16", (1, 28, 28), 10, 429_076),
        ("localmixer-m/8/16", (3, 32, 32), 10, 918_770),
        ("localmixer-l/8/64", (3, 32, 32), 10, 13_074_674),
        ("localmixer-l/32/64", (3, 224, 224), 100, 17_335_796),
    ],
)
def test_parameter_counts_of_the_paper(name: str, shape: Any, classes: int, count: int) -> None:
    with torch.device("meta"):
        chain = registry.make("architectures", name, shape=shape, classes=classes).thing
    assert sum(p.numel() for p in chain.parameters()) == count


@pytest.mark.parametrize("init", ["kaiming", "lecun", "constant"])
def test_initial_deviations(init: str) -> None:
    """A sample deviation of n normals is within 6/√(2n) of its own: a false alarm of 2e-9 a weight."""
    name = f"localmixer[blocks=2,side=6,channels=480,groups=2,init={init}]"
    with Noise(0).seeded():
        chain = registry.make("architectures", name, shape=(3, 36, 36), classes=10).thing
    factor = {"kaiming": 2.0, "lecun": 1.0, "constant": 1e9}[init]
    seen = set()
    for parameter, p in chain.named_parameters():
        if parameter.endswith("bias") or "final" in parameter:
            assert not p.any()
            continue
        fan_in, p = p.shape[-1], p.detach()
        std = min(factor / sqrt(fan_in), 0.1)
        seen.add(fan_in)
        assert abs(float(p.std()) / std - 1) < 6 / sqrt(2 * p.numel())
        assert abs(float(p.mean())) < 6 * std / sqrt(p.numel())
    assert seen == {108, 240, 36, 480}


@pytest.mark.parametrize("method", ["BP", "L-BP", "LG-FG-A", "FG-A"])
def test_token_biases_are_dead(method: str) -> None:
    task, estimator, x, y, _, _ = setting(method)
    body = task.estimate(x, y, estimator, Noise(0, dtype=torch.float64)).body
    for k in (1, 2):
        assert float(body[f"body.{k}.l0.bias"].abs().max()) < 1e-13
        assert float(body[f"body.{k}.l0.weight"].abs().max()) > 1e-4


def jacobian_axes(module: LocalModule, x: Tensor, start: str, end: str | None) -> set[str]:
    """Axes among p, g and d along which values at ``start`` reach values elsewhere at ``end``.

    Places are ``kind name``, or the module's input and output for "" and None.
    """
    shape = list(x.shape) if start == "" else []

    def run(offset: Tensor | None) -> Tensor:
        found: list[Tensor] = []

        def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
            if f"{kind} {name}" == start:
                shape[:] = z.shape
                z = z if offset is None else z + offset
            if f"{kind} {name}" == end:
                found.append(z)
            return z

        listener: Tap = tap
        out = module(x if start or offset is None else x + offset, listener)
        return found[0] if end else out

    run(None)
    at = torch.zeros(shape, dtype=x.dtype)
    found = torch.autograd.functional.jacobian(run, at)
    sizes = (SIDE**2, GROUPS, 5)
    reached = found.reshape(*sizes, *sizes).abs() > 1e-9
    mixed = set()
    for i, letter in enumerate("pgd"):
        others = [k for k in range(6) if k not in (i, i + 3)]
        if (reached.sum(others) > 0).fill_diagonal_(False).any():
            mixed.add(letter)
    return mixed


def declared(module: LocalModule, site: Site) -> tuple[set[str], set[str]]:
    return set(names(site.mixed_after)), set(names(site.op_mixes))


@pytest.mark.parametrize("which", ["first", "later"])
def test_declared_mixing_is_that_of_the_jacobian(which: str) -> None:
    with Noise(0).seeded():
        first = which == "first"
        module: LocalModule = (
            FirstBlock(SIDE, Channel(24, 20, "kaiming"), Grouped(GROUPS, 5, 5, "kaiming"))
            if first
            else Block(
                Token(SIDE**2, "kaiming"),
                Channel(20, 20, "kaiming"),
                Grouped(GROUPS, 5, 5, "kaiming"),
            )
        )
    module.to(torch.float64)
    shape = (1, *SHAPE) if first else (1, SIDE**2, GROUPS, 5)
    x = Noise(6, dtype=torch.float64).normal("x", shape)
    for site in module.sites:
        after = jacobian_axes(module, x, f"site {site.name}", None)
        op = jacobian_axes(module, x, f"op {site.name}", f"site {site.name}")
        assert (after, op) == declared(module, site)
    if not first:
        assert jacobian_axes(module, x, "", None) == set(names(module.mixes))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("side=5", "5 patches per side do not divide a 6x12 image"),
        ("side=3,channels=21,groups=4", "4 groups do not divide 21 channels"),
        ("side=0", "side='0'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        registry.make("architectures", f"localmixer[{options}]", shape=SHAPE, classes=3)
