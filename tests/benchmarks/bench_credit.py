"""Credit, projections and gradients of single examples, beside loops: run by ``make bench``."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn import functional as F

from fgbench import registry
from fgbench.core import axes, projection
from fgbench.core.axes import Cells
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.core.theory.forward_gradient import example_gradients
from fgbench.localities.contrastive import Projector
from tests.makers.twin_kernels import both, timed
from tests.twins import replicated

NOISE = Noise(0)
N, B, P, G, D = 8, 32, 16, 8, 16


@both
def test_credit_of_scores_per_patch_and_group(benchmark: BenchmarkFixture, which: str) -> None:
    slopes = NOISE.normal("slopes", (N, B, P, G))
    u = NOISE.normal("u", (N, B, P, G, D))
    at = Cells("b p g", "b p g d", "")

    def twin() -> Tensor:
        found = torch.zeros(B, P, G, D)
        for k in range(N):
            for p in range(P):
                for g in range(G):
                    found[:, p, g] += slopes[k, :, p, g, None] * u[k, :, p, g]
        return found

    kernel = f"credit of {P}x{G} scores, {N} directions"
    timed(benchmark, kernel, which, lambda: axes.credit(slopes, u, at), twin)


@both
def test_credit_of_scores_that_mixing_sums(benchmark: BenchmarkFixture, which: str) -> None:
    slopes = NOISE.normal("slopes", (N, B, P, G))
    u = NOISE.normal("u", (N, B, P, G, D))
    at = Cells("b p g", "b p g d", "g")

    def twin() -> Tensor:
        found = torch.zeros(B, P, G, D)
        for k in range(N):
            for p in range(P):
                whole = sum(slopes[k, :, p, g] for g in range(G))
                for g in range(G):
                    found[:, p, g] += whole[:, None] * u[k, :, p, g]
        return found

    kernel = f"credit of {P}x{G} scores, groups mixed"
    timed(benchmark, kernel, which, lambda: axes.credit(slopes, u, at), twin)


@both
def test_inner_products_per_score(benchmark: BenchmarkFixture, which: str) -> None:
    a = NOISE.normal("a", (N, B, P, G, D))
    b = NOISE.normal("b", (B, P, G, D))
    at, sizes = Cells("b p g", "b p g d", ""), {"b": B, "p": P, "g": G}

    def twin() -> Tensor:
        rows = [
            torch.stack([(a[k, :, p] * b[:, p]).sum(-1) for p in range(P)], 1) for k in range(N)
        ]
        return torch.stack(rows)

    kernel = f"inner products of {N} directions per score"
    timed(benchmark, kernel, which, lambda: axes.inners(a, b, at, sizes), twin)


@both
def test_projection_onto_the_span(benchmark: BenchmarkFixture, which: str) -> None:
    v, g = NOISE.normal("v", (N, B, D)), NOISE.normal("g", (B, D))
    slopes = torch.einsum("nbd,bd->nb", v, g)
    at = Cells("b", "b d", "")

    def ours() -> Tensor:
        c = projection.coefficients(slopes, lambda name: v, {"w": at}, {})["w"]
        return axes.combined(c, v, at)

    def twin() -> Tensor:
        rows = []
        for b in range(B):
            basis = torch.linalg.qr(v[:, b].double().T).Q
            rows.append((D / N) * (basis @ (basis.T @ g[b].double())))
        return torch.stack(rows).float()

    timed(benchmark, f"projection onto {N} directions, {B} cells", which, ours, twin, 1e-3)


@both
@pytest.mark.parametrize("net", ["mlp-2x64", "localmixer-xs/2/4"])
def test_gradients_of_single_examples(benchmark: BenchmarkFixture, net: str, which: str) -> None:
    with NOISE.seeded():
        chain: Chain = registry.make("architectures", net, shape=(1, 8, 8), classes=10).thing
    task = Task.build(chain, registry.make("localities", "end").thing, NOISE)
    x, labels = NOISE.normal("x", (B, 1, 8, 8)), torch.arange(B) % 10
    body = chain.body_parameters()

    def ours() -> list[dict[str, Tensor]]:
        (view,) = task.views(x, labels, CostCounter())
        found = example_gradients(view)
        assert found is not None
        return found

    def twin() -> list[dict[str, Tensor]]:
        found = []
        for k in range(B):
            loss = F.cross_entropy(chain(x[k : k + 1]), labels[k : k + 1]) / B
            grads = torch.autograd.grad(loss, list(body.values()))
            found.append({n: g.double() for n, g in zip(body, grads, strict=True)})
        return found

    timed(benchmark, f"gradients of {B} examples, {net}", which, ours, twin, 1e-3)


@both
def test_contrastive_losses(benchmark: BenchmarkFixture, which: str) -> None:
    rows, patches, groups, wide, outputs = 8, 4, 4, 4, 16
    f = NOISE.normal("f", (rows, patches, groups, wide))
    with NOISE.seeded():
        head = Projector("b p g d", groups * wide, outputs, 0.5, True)
    weight, bias = head.linear.weight.detach(), head.linear.bias.detach()
    labels = torch.arange(rows)

    def ours() -> Tensor:
        with torch.no_grad():
            return head.losses(head(f), labels)

    def twin() -> Tensor:
        return replicated.contrastive(f, weight, bias, 0.5)[:, 0, 0]

    timed(benchmark, f"contrastive losses of {rows} rows", which, ours, twin)
