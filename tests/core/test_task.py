"""The walk over objectives: starts, references, what a step gives, the gate, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fgbench.core.cost import CostCounter
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.core.view import View
from fgbench.errors import BackwardRefused, UsageError
from tests.makers.networks import batch, build

SHAPE = (2, 4, 6)
MIXER = "localmixer[blocks=3,side=2,channels=12,groups=3]"


@dataclass(frozen=True)
class These:
    """A locality of given objectives."""

    which: tuple[Objective, ...]

    def attach(self, chain: Chain) -> None:
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        return self.which


@dataclass(frozen=True)
class Probe(Defaults):
    """An estimator that calls what it is given."""

    call: Callable[..., Estimate]
    claimed: Claims = field(default_factory=Claims)

    def claims(self, scheme: Scheme) -> Claims:
        return self.claimed

    def __call__(self, view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
        return self.call(view, noise, state)


def zeros(view: View) -> Estimate:
    return Estimate(grads={n: torch.zeros_like(p) for n, p in view.params.items()})


def task_of(*objectives: Objective, arch: str = "mlp-4x8") -> tuple[Task, Noise]:
    plain, _, noise = build(arch, "bp/end", SHAPE)
    return Task.build(plain.chain, These(objectives), noise), noise


def over(first: int, stop: int, *updates: int, name: str = "") -> Objective:
    readout = "final" if stop == 4 else f"local{stop - 1}"
    return Objective(name or f"{first}to{stop}", (first, stop), readout, updates or (first,))


# starts


WINDOWS = {
    "one by one": ((0, 1), (1, 2), (2, 3), (3, 4), (4, 4)),
    "overlapping": ((0, 2), (1, 3), (2, 4)),
    "a module skipped": ((0, 1), (2, 3), (3, 4)),
    "two modules skipped": ((0, 1), (3, 4)),
    "not from the input": ((2, 3), (3, 4)),
    "all from the input": ((0, 1), (0, 3), (0, 4)),
    "back again": ((1, 3), (0, 2), (2, 4)),
}


@pytest.mark.parametrize("runs", [True, False], ids=["clean pass", "no pass"])
@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
def test_every_window_starts_from_the_clean_activity(windows: Any, runs: bool) -> None:
    """Handed on where an earlier window passed, run where none did."""
    found = [replace(over(a, b), updates=() if a == b else (a,)) for a, b in windows]
    task, noise = task_of(*found)
    x, y = batch(3, SHAPE)
    for view in task.views(x, y, CostCounter()):
        want = task.chain.run(x, 0, view.objective.window[0]).detach()
        assert torch.equal(view.start, want)
        assert not view.start.requires_grad
        if runs:
            view.slopes(noise.directions(view.sites)) if view.sites else view.losses()


@pytest.mark.parametrize("method", ["LG-BP", "LG-FG-A", "LG-FG-W", "np/local", "LG-FA"])
def test_windows_that_follow_each_other_run_each_module_once(method: str) -> None:
    task, estimator, noise = build(MIXER, method, SHAPE)
    x, y = batch(3, SHAPE)
    state = estimator.init_state(task.scheme, noise)
    ledger = task.estimate(x, y, estimator, noise, state).ledger
    noisy = {"np/local": 1.0, "LG-FA": 1.0}.get(method, 0.0)  # np's noisy pass, fa's with B
    assert ledger.forwards == pytest.approx(1.0 + noisy)


def test_noise_moves_no_start() -> None:
    """A value-based estimator that perturbs parameters and sites leaves the next window's start clean."""

    def shake(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
        view.slopes(noise.directions(view.sites), step=0.5)
        view.slopes(noise.directions(view.shapes))
        view.with_(x=view.start + 1).losses()
        with view.perturb_in_place(noise.directions(view.shapes), 0, 0.5) as there:
            there.losses()
        return zeros(view)

    task, noise = task_of(over(0, 1), over(1, 2), over(2, 3), over(3, 4))
    x, y = batch(3, SHAPE)
    starts = {}

    def watch(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
        starts[view.objective.window[0]] = view.start
        return shake(view, noise, state)

    clean = {k: task.chain.run(x, 0, k).detach() for k in range(4)}
    task.estimate(x, y, Probe(watch), noise)
    for k, start in starts.items():
        torch.testing.assert_close(start, clean[k], rtol=1e-12, atol=1e-14)


# references and the readouts' own gradients


def gradient(loss: Tensor, named: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {
        n: torch.zeros_like(p) if g is None else g
        for (n, p), g in zip(named.items(), grads, strict=True)
    }


def close(found: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert found.keys() == want.keys()
    for name, w in want.items():
        torch.testing.assert_close(found[name], w, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("arch", ["mlp-3x8", MIXER, "cnn-tiny[width=4]"])
@pytest.mark.parametrize("locality", ["end", "module", "local"])
def test_truths_and_readouts_by_plain_autograd(arch: str, locality: str) -> None:
    task, estimator, noise = build(arch, f"bp/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    chain = task.chain
    f = x
    losses: dict[str, Tensor] = {}
    own: dict[str, Tensor] = {}
    for k in range(len(chain)):
        f = chain.run(f.detach() if locality == "local" else f, k, k + 1)
        name = chain.local_readout(k) if locality != "end" else "final"
        if locality != "end" or k == len(chain) - 1:
            losses[name] = nn.functional.cross_entropy(chain.read(name, f), y)
            own |= gradient(losses[name], chain.readout_parameters(name))
    body = chain.body_parameters()
    truth = gradient(sum(losses.values(), torch.zeros(())), body)
    if "final" not in losses:  # a readout that reads the last module alone
        final = nn.functional.cross_entropy(chain.read("final", f.detach()), y)
        own |= gradient(final, chain.readout_parameters("final"))
    close(task.scheme_truth(x, y), truth)
    end = nn.functional.cross_entropy(chain(x), y)
    close(task.end_truth(x, y), gradient(end, body))
    step = task.estimate(x, y, estimator, noise)
    close(step.body, truth)
    close(step.readouts, own)
    assert step.loss is not None
    torch.testing.assert_close(step.loss, end.detach())
    forward = task.estimate(x, y, build(arch, "fg_a", SHAPE)[1], noise)
    close(forward.readouts, own)  # exact whatever the estimator


# one step


def test_a_step_collects_states_by_objective() -> None:
    seen: dict[str, dict[str, Tensor]] = {}

    def learn(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
        name = view.objective.name
        seen[name] = state
        found = zeros(view)
        if name == "0to1":
            return replace(found, state_grads={"b": torch.ones(2)})
        return replace(found, new_state={"b": torch.zeros(2)})

    task, noise = task_of(over(0, 1), over(1, 4))
    x, y = batch(3, SHAPE)
    given = {name: {"b": torch.full((2,), 3.0)} for name in ("0to1", "1to4")}
    step = task.estimate(x, y, Probe(learn), noise, given)
    assert seen == given
    assert list(step.state_grads) == ["0to1"]
    assert list(step.new_state) == ["1to4"]


def test_a_step_has_the_losses_of_objectives_where_all_were_read() -> None:
    task, noise = task_of(over(0, 1), over(1, 4))
    x, y = batch(3, SHAPE)
    nothing = Probe(lambda view, *_: zeros(view))
    losses = task.estimate(x, y, nothing, noise).losses  # read for the exact gradients of the heads
    views = {view.objective.name: view for view in task.views(x, y, CostCounter())}
    assert list(losses) == ["0to1", "1to4"]
    for name, (weight, each) in losses.items():
        assert weight == views[name].objective.weight
        torch.testing.assert_close(each, views[name].losses())
    first, last = task.objectives
    some = Task(Scheme(task.chain, These((replace(first, head=False), last))))
    assert some.estimate(x, y, nothing, noise).losses == {}


def test_a_site_in_several_windows_meets_one_direction() -> None:
    met: dict[str, Tensor] = {}

    def draw(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
        for name, rows in noise.directions(view.sites).chunk(0, 1).items():
            assert torch.equal(met.setdefault(name, rows), rows)
        return zeros(view)

    task, noise = task_of(over(0, 2, 0, 1), over(1, 3, 1, 2), over(2, 4, 2, 3))
    x, y = batch(3, SHAPE)
    task.estimate(x, y, Probe(draw), noise)
    assert len(met) == 4


def test_windows_add_up_and_readouts_may_be_left_out() -> None:
    def ones(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
        return Estimate(grads={n: torch.ones_like(p) for n, p in view.params.items()})

    silent = replace(over(2, 3), head=False)
    alone = Objective("read", (4, 4), "final", ())
    task, noise = task_of(over(0, 2, 0, 1), over(1, 2), silent, alone)
    x, y = batch(3, SHAPE)
    step = task.estimate(x, y, Probe(ones), noise)
    assert {n: float(g.mean()) for n, g in step.body.items() if n.endswith("bias")} == {
        "body.0.l0.bias": 1.0, "body.1.l0.bias": 2.0, "body.2.l0.bias": 1.0,
    }  # fmt: skip
    assert {n.split(".")[1] for n in step.readouts} == {"local1", "final"}
    assert step.loss is not None
    torch.testing.assert_close(step.loss, nn.functional.cross_entropy(task.chain(x), y).detach())
    nothing_read = Task(Scheme(task.chain, These((over(0, 1),)))).estimate(x, y, Probe(ones), noise)
    assert nothing_read.loss is None


def test_the_same_seed_builds_the_same_heads() -> None:
    heads = [
        {
            n: p
            for n, p in build("mlp-4x8", "LG-BP", SHAPE)[0].chain.named_parameters()
            if "local" in n
        }
        for _ in range(2)
    ]
    assert len(heads[0]) == 6
    assert all(torch.equal(heads[0][n], heads[1][n]) for n in heads[0])


# the gate


def full(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
    return Estimate(grads=view.reverse())


def by_hand(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
    loss = view.chain(view.start).square().sum()
    loss.backward()
    return zeros(view)


@pytest.mark.parametrize("backward", ["none", "segment"])
@pytest.mark.parametrize("call", [full, by_hand])
def test_reverse_mode_is_refused_where_the_claims_exclude_it(call: Any, backward: Any) -> None:
    task, noise = task_of(over(0, 4))
    x, y = batch(3, SHAPE)
    with pytest.raises(BackwardRefused, match=f"Probe claims backward='{backward}'"):
        task.estimate(x, y, Probe(call, Claims(backward=backward)), noise)
    task.estimate(x, y, Probe(full, Claims(backward="network")), noise)  # and allowed again
    w = torch.ones((), requires_grad=True)
    (w * 2).backward()
    assert w.grad == 2


def test_pulls_and_readouts_pass_the_gate() -> None:
    def pull(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
        view.losses(), view.output_error(), view.readout_grads()
        credit = {n: noise.normal(n, s) for n, s in view.sites.items()}
        view.pull(credit, to="taps")
        return Estimate(grads=view.pull(credit))

    task, noise = task_of(over(0, 4))
    x, y = batch(3, SHAPE)
    task.estimate(x, y, Probe(pull, Claims(backward="segment")), noise)


# what is refused


@pytest.mark.parametrize(
    ("objectives", "words"),
    [
        ((over(0, 1, name="a"), over(1, 2, name="a")), "distinct names, got"),
        ((over(0, 5),), r"window \(0, 5\) outside"),
        ((over(2, 1),), r"window \(2, 1\) outside"),
        ((over(-1, 1),), r"window \(-1, 1\) outside"),
        ((over(1, 2, 0),), "updates modules outside its window"),
        ((over(1, 2, 2),), "updates modules outside its window"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(objectives: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        task_of(*objectives)


def test_an_estimate_needs_credit_or_gradients() -> None:
    task, noise = task_of(over(0, 4))
    x, y = batch(3, SHAPE)
    with pytest.raises(UsageError, match="Probe returned neither credit nor grads"):
        task.estimate(x, y, Probe(lambda *_: Estimate()), noise)


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (
            lambda view, u, s: Estimate(credit=view.shapes),
            "^Probe: credit is by site, and body.0.l0.weight is a parameter; return grads=$",
        ),
        (
            lambda view, u, s: Estimate(grads=view.credit(s, u)),
            "^Probe: grads are by parameter, and body.0.l0 is a site; return credit=$",
        ),
        (
            lambda view, u, s: Estimate(credit=view.credit(s.sum(), u)),
            r"^slopes have shape \(\), expected \[n, b\] with n = 1$",
        ),
        (
            lambda view, u, s: Estimate(credit=view.credit(s[0], u)),
            r"^slopes have shape \(3,\), expected \[n, b\] with n = 1$",
        ),
        (
            lambda view, u, s: Estimate(credit=view.credit(torch.cat([s, s]), u)),
            r"^slopes have shape \(2, 3\), expected \[n, b\] with n = 1$",
        ),
    ],
)
def test_credit_of_a_wrong_kind_or_shape_is_one_line(give: Any, words: str) -> None:
    def call(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
        u = noise.directions(view.sites)
        return give(view, u, view.slopes(u))

    task, noise = task_of(over(0, 4))
    x, y = batch(3, SHAPE)
    with pytest.raises(UsageError, match=words):
        task.estimate(x, y, Probe(call, Claims(backward="segment")), noise)


def test_credit_at_other_taps_covers_every_site_too() -> None:
    def at(kind: str, *names: str) -> Any:
        def call(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
            every = {n: noise.normal(n, s) for n, s in view.sites.items()}
            return Estimate(credit={(kind, n): every.get(n, torch.zeros(1)) for n in names})

        return Probe(call, Claims(backward="segment"))

    task, noise = task_of(over(0, 2, 0, 1))
    x, y = batch(3, SHAPE)
    for kind in ("op", "site", "out"):
        step = task.estimate(x, y, at(kind, "body.0.l0", "body.1.l0"), noise)
        assert all(bool(g.any()) for g in step.body.values())
        with pytest.raises(UsageError, match=r"gave no credit for body\.1\.l0"):
            task.estimate(x, y, at(kind, "body.0.l0"), noise)
        with pytest.raises(UsageError, match=r"unknown site in the credit of Probe 'body\.9\.l0'"):
            task.estimate(x, y, at(kind, "body.0.l0", "body.9.l0"), noise)


def test_an_estimate_may_bring_the_gradient_of_its_own_readout() -> None:
    def bring(heads: dict[str, Tensor]) -> Any:
        def call(view: View, noise: Noise, state: dict[str, Tensor]) -> Estimate:
            return Estimate(grads=zeros(view).grads, readouts=heads)

        return Probe(call)

    task, noise = task_of(over(0, 2), over(2, 4))
    x, y = batch(3, SHAPE)
    exact = task.estimate(x, y, Probe(lambda view, *_: zeros(view)), noise).readouts
    name, other = "readouts.local1.linear.weight", "readouts.local1.linear.bias"
    given = {name: exact[name] + 1, other: exact[other] * 0}
    one, _ = task.objectives
    alone = Task(Scheme(task.chain, These((one,))))
    found = alone.estimate(x, y, bring(given), noise).readouts
    assert found.keys() == given.keys()
    assert all(torch.equal(found[n], given[n]) for n in given)
    unread = Task(Scheme(task.chain, These((replace(one, head=False),))))
    assert unread.estimate(x, y, bring(given), noise).readouts == {}
    for wrong, words in (
        ({name: given[name]}, "gave no readout gradient for readouts.local1.linear.bias"),
        ({**given, other: torch.zeros(2)}, r"linear.bias has shape \(2,\), expected \(5,\)"),
        ({**given, "readouts.final.linear.bias": given[other]}, "unknown parameter in the readout"),
    ):
        with pytest.raises(UsageError, match=words):
            alone.estimate(x, y, bring(wrong), noise)
