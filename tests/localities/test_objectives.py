"""Localities as objectives: each is the sum that plain autograd finds from its definition, whatever the
estimator, and an unbiased estimate equals it exactly under an orthogonal design in float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fgbench import registry
from fgbench.core.network import Chain
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.errors import UsageError
from tests.makers.cases import slow_if
from tests.makers.networks import batch, build, design, worst
from tests.makers.wrapped import Subject, under

# 3 examples, 4 patches, 2 groups of 5 channels, 6 pixels per patch, 7 classes: no two alike
MIXER = "localmixer-xs/4/8[channels=10,groups=2,side=2]"
ARCHS = ["mlp-4x5", MIXER, "cnn-tiny[width=4]"]
SHAPE, CLASSES = (1, 4, 6), 7
Grads = dict[str, Tensor]


def made(arch: str, method: str) -> tuple[Task, Tensor, Tensor]:
    task, _, _ = build(arch, method, SHAPE, CLASSES)
    x, y = batch(3, SHAPE, CLASSES)
    return task, x, y


def loss(chain: Chain, name: str, f: Tensor, y: Tensor) -> Tensor:
    return chain.readout(name).losses(chain.read(name, f), y).mean()


def gradient(chain: Chain, total: Tensor, modules: range | tuple[int, ...]) -> Grads:
    params = chain.body_parameters(tuple(modules))
    found = torch.autograd.grad(total, list(params.values()), retain_graph=True)
    return dict(zip(params, found, strict=True))


def added(*parts: Grads) -> Grads:
    total: Grads = {}
    for part in parts:
        for name, g in part.items():
            total[name] = total[name] + g if name in total else g
    return total


def last(chain: Chain, x: Tensor, y: Tensor) -> Grads:
    stop = len(chain)
    f = chain.run(x, 0, stop)
    return gradient(chain, loss(chain, chain.local_readout(stop - 1), f, y), range(stop))


def overlap(chain: Chain, x: Tensor, y: Tensor) -> Grads:
    """Pairs of modules, cut before each, with the loss of the second."""
    parts = []
    for k in range(len(chain) - 1):
        f = chain.run(chain.run(x, 0, k).detach(), k, k + 2)
        parts.append(gradient(chain, loss(chain, chain.local_readout(k + 1), f, y), (k, k + 1)))
    return added(*parts)


def two_passes(chain: Chain, x: Tensor, y: Tensor) -> Grads:
    """Every module's loss in two passes, cut after even and after odd modules, all summed."""
    parts = []
    for odd in (0, 1):
        f, total = x, torch.zeros(())
        for k in range(len(chain)):
            f = chain.run(f, k, k + 1)
            total = total + loss(chain, chain.local_readout(k), f, y)
            f = f.detach() if k % 2 == odd else f
        parts.append(gradient(chain, total, range(len(chain))))
    return added(*parts)


def interlocking(n: int) -> Callable[[Chain, Tensor, Tensor], Grads]:
    def found(chain: Chain, x: Tensor, y: Tensor) -> Grads:
        """Every module from the loss at its window's end, through a graph of the whole net."""
        parts = []
        for k in range(len(chain)):
            stop = min(k + n, len(chain))
            readout = "final" if stop == len(chain) else chain.local_readout(stop - 1)
            total = loss(chain, readout, chain.run(x, 0, stop), y)
            parts.append(gradient(chain, total, (k,)))
        return added(*parts)

    return found


DEFINITIONS = {
    "last": last,
    "overlap": overlap,
    "overlap[losses=every]": two_passes,
    "interlocking[n=1]": interlocking(1),
    "interlocking": interlocking(2),
    "interlocking[n=3]": interlocking(3),
    "interlocking[n=9]": interlocking(9),
}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("locality", DEFINITIONS)
def test_the_truth_is_what_autograd_finds_from_the_definition(locality: str, arch: str) -> None:
    task, x, y = made(arch, f"bp/{locality}")
    want = DEFINITIONS[locality](task.chain, x, y)
    truth = task.scheme_truth(x, y)
    assert truth.keys() == want.keys()
    assert worst(truth, want) < 1e-12
    bp = registry.make("estimators", "bp").thing
    assert worst(task.estimate(x, y, bp, design(task, "fg_a")).body, want) < 1e-12


def test_no_two_definitions_are_one() -> None:
    """But for n = 3 and n = 9 on three modules, where both are backprop."""
    task, x, y = made(MIXER, "bp/overlap")
    found = {name: define(task.chain, x, y) for name, define in DEFINITIONS.items()}
    same = found.pop("interlocking[n=9]")
    assert worst(found["interlocking[n=3]"], same) < 1e-12
    for one, other in combinations(found.values(), 2):
        assert worst(one, other) > 1e-3


@pytest.mark.parametrize("arch", ["mlp-4x5", "cnn-tiny[width=4]"])
def test_interlocking_goes_from_local_losses_to_backprop(arch: str) -> None:
    task, x, y = made(arch, "bp/interlocking[n=1]")
    same = [
        Task(Scheme(task.chain, registry.make("localities", t).thing)) for t in ("local", "last")
    ]
    depth = len(task.chain)
    end = task.end_truth(x, y)
    assert worst(task.scheme_truth(x, y), same[0].scheme_truth(x, y)) < 1e-12
    assert worst(same[1].scheme_truth(x, y), end) < 1e-12
    for n in range(1, depth + 1):
        locality = registry.make("localities", f"interlocking[n={n}]").thing
        truth = Task(Scheme(task.chain, locality)).scheme_truth(x, y)
        exact = {k for k in range(depth) if worst_of(truth, end, k) < 1e-12}
        assert exact == set(range(depth - n, depth))  # the last n modules have backprop's gradient


def worst_of(truth: Grads, end: Grads, k: int) -> float:
    """Compare one module's gradients."""
    own = [name for name in end if name.startswith(f"body.{k}.")]
    return worst({n: truth[n] for n in own}, {n: end[n] for n in own})


@pytest.mark.parametrize("locality", ["last", "overlap", "overlap[losses=every]", "interlocking"])
@pytest.mark.parametrize("arch", ["mlp-4x5", MIXER])
def test_every_readout_that_is_read_learns_once_from_its_own_mean_loss(
    arch: str, locality: str
) -> None:
    task, x, y = made(arch, f"bp/{locality}")
    chain = task.chain
    bp = registry.make("estimators", "bp").thing
    found = task.estimate(x, y, bp, design(task, "fg_a")).readouts
    read = {o.readout for o in task.objectives}
    assert {name.split(".")[1] for name in found} == read
    assert "final" in read
    for name in read:
        k = len(chain) if name == "final" else int(name.removeprefix("local")) + 1
        params = chain.readout_parameters(name)
        own = loss(chain, name, chain.run(x, 0, k).detach(), y)
        want = torch.autograd.grad(own, list(params.values()))
        assert worst(found, dict(zip(params, want, strict=True))) < 1e-12


CASES = [
    (name, arch, f"{locality}{kept}")
    for name in ("fg_a", "fg_w")
    for arch in ARCHS
    for locality in ("last", "overlap", "interlocking")
    for kept in ("", "-p", "-pg", "[keep=b p g d c h w]")
    if (name, arch) != ("fg_w", "cnn-tiny[width=4]") or (locality, kept) == ("interlocking", "")
    if arch == MIXER or kept in ("", "[keep=b p g d c h w]")  # nothing else to keep
]
CASES += [
    (name, MIXER, locality)  # the others are in test_exact, on nets some of whose sizes are alike
    for name in ("fg_a", "fg_w")
    for locality in ("end", "module", "module-pg", "local", "local-p", "local-pg")
]
CASES += [
    ("fg_a", MIXER, "overlap[losses=every,keep=b p g]"),
    ("fg_w", MIXER, "overlap[losses=every,keep=b p g]"),
    ("fg_a", MIXER, "interlocking[n=3,keep=b p g]"),
]


LONG = ("fg_w", "cnn-tiny[width=4]", "interlocking")


@pytest.mark.parametrize(("name", "arch", "locality"), slow_if(CASES, LONG.__eq__))
def test_unbiased_equals_the_scheme_truth(name: str, arch: str, locality: str) -> None:
    task, x, y = made(arch, f"{name}/{locality}")
    estimator = registry.make("estimators", name).thing
    found = task.estimate(x, y, estimator, design(task, name))
    assert worst(found.body, task.scheme_truth(x, y)) < 1e-10


@pytest.mark.parametrize(("name", "exact"), [("np", "fg_a"), ("wp", "fg_w")])
@pytest.mark.parametrize("locality", ["last-pg", "overlap-p", "interlocking", "interlocking-pg"])
def test_a_small_step_gives_the_slope(locality: str, name: str, exact: str) -> None:
    task, slopes, noise = build(MIXER, f"{exact}[directions=2]/{locality}", SHAPE, CLASSES)
    x, y = batch(3, SHAPE, CLASSES)
    difference = registry.make("estimators", f"{name}[directions=2,step=1e-8]").thing
    found = task.estimate(x, y, difference, noise).body
    assert worst(found, task.estimate(x, y, slopes, noise).body) < 1e-5


def test_one_module_has_one_window() -> None:
    task, x, y = made("mlp-1x5", "bp/overlap")
    assert [(o.window, o.updates) for o in task.objectives] == [((0, 1), (0,))]
    assert worst(task.scheme_truth(x, y), task.end_truth(x, y)) < 1e-12
    every, _, _ = made("mlp-1x5", "bp/overlap[losses=every]")
    assert worst(every.scheme_truth(x, y), task.scheme_truth(x, y)) < 1e-12


def test_a_window_of_none_is_refused() -> None:
    with pytest.raises(UsageError, match="n='0'"):
        registry.method("bp/interlocking[n=0]")


class Tied(nn.Module):
    """Four modules, the first and the last of which use one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return functional.linear(x, self.parts[0][0].weight)


def test_uses_of_one_weight_in_windows_of_their_own_learn_each_from_its_own_loss() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        subject = Subject("tied", Tied(), torch.randn(3, 5), torch.tensor([0, 4, 2]), cut="parts")
    task = under(subject, "interlocking[n=2]")
    chain, x, y = task.chain, subject.inputs, subject.targets
    found = task.scheme_truth(x, y)
    shared = next(p for n, p in chain.named_parameters() if n.endswith("parts.0.0.weight"))
    parts = chain.body.parts
    first = loss(chain, "local1", parts[1](parts[0](x)), y)
    before = parts[2](parts[1](parts[0](x))).detach()
    second = subject.loss(functional.linear(before, shared), y).mean()
    want = sum(torch.autograd.grad(each, shared)[0] for each in (first, second))
    torch.testing.assert_close(found["body.parts.0.0.weight"], want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n", [4, 9])
def test_a_window_that_teaches_one_of_two_uses_of_a_weight_is_refused(n: int) -> None:
    """The second use would count again in its own window: with n = all modules no longer backprop."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        subject = Subject("tied", Tied(), torch.randn(3, 5), torch.tensor([0, 4, 2]), cut="parts")
    refused = under(subject, f"interlocking[n={n}]").scheme.refused
    assert "module 3 of the window of module 0 shares parameters with it" in refused
    end = under(subject, "end")
    assert end.scheme.refused == ""
