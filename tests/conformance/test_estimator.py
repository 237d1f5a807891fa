"""Every registered estimator holds what it claims, and every check rejects a planted fault.

Long, because every planted fault is a small estimator of its own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from fgbench import registry
from fgbench.conformance import Outcome, check_estimator, estimator, examine, pure, reach, sampled
from fgbench.conformance import unbiased as exact
from fgbench.conformance.agreement import compare
from fgbench.conformance.nets import (
    CONVOLUTION,
    CONVOLUTIONS,
    DEEP,
    LEAST,
    MIXER,
    OPAQUE,
    SMOOTH,
    TINY,
    Case,
    Net,
)
from fgbench.conformance.nets import FEW as SMALL
from fgbench.conformance.outcome import Fault
from fgbench.core import axes
from fgbench.core.autodiff import no_reverse
from fgbench.core.axes import Cells
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import law
from fgbench.errors import UsageError
from tests.makers.cases import mostly_slow, slow_if
from tests.makers.paths import ROOT

torch.set_num_threads(1)


def wrong(outcomes: list[Outcome]) -> list[str]:
    """Everything that did not hold."""
    return [f"{one.check}: {one.detail}" for one in outcomes if not one.held]


def judged(outcomes: list[Outcome]) -> list[Outcome]:
    """Everything that was tested."""
    return [one for one in outcomes if one.judged]


def test_outcomes_are_told_as_they_are_found() -> None:
    told: list[Outcome] = []

    def stop(outcome: Outcome) -> None:
        told.append(outcome)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_estimator("bp/end", stop)
    assert [one.check for one in told] == ["protocol", "supports"]
    del told[:]
    found = check_estimator("bp/end", lambda one: told.append(one))
    assert found == told


SHORT = ("bp", "dfa")  # of others a basis of slopes or passes takes long
SAMPLED = ("feedsign", "pezo", "rlr")  # a sign; orders beside directions: means without a design


@pytest.mark.parametrize(
    "name", slow_if(registry.entries("estimators"), lambda name: name not in SHORT)
)
def test_every_registered_estimator_holds_its_claims(name: str) -> None:
    before = (np.random.get_state()[1].tobytes(), random.getstate())  # noqa: NPY002
    found = check_estimator(name)
    assert wrong(found) == []
    assert {"protocol", "supports", "gate", "pure", "deterministic"} <= {one.check for one in found}
    sampled_only = [one.check for one in found if "draws, smallest p" in one.detail]
    assert bool(sampled_only) == (name in SAMPLED)
    assert before == (np.random.get_state()[1].tobytes(), random.getstate())  # noqa: NPY002


# ---- estimators as a user writes them ------------------------------------------------------------


@dataclass(frozen=True)
class Weights(Defaults):
    """Weight perturbation by hand: it reads its own rows, one after the other."""

    directions: int = 1
    factor: float = 1.0
    law: str = "gaussian"

    def claims(self, task: Any) -> Claims:
        return Claims(bias="none", backward="none", slopes_only=True)

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        v = noise.directions(view.shapes, self.directions, self.law)
        s = view.slopes(v).flatten(1).sum(1)
        grads = {}
        for name in view.shapes:
            rows = [s[i] * v.rows(name, i, i + 1)[0] for i in range(self.directions)]
            grads[name] = self.factor * sum(rows) / self.directions
        return Estimate(grads=grads)


@dataclass(frozen=True)
class Activities(Defaults):
    """Activity perturbation, each site's directions drawn by themselves, some of them scaled."""

    factor: float = 1.0
    only: str = ""

    def claims(self, task: Any) -> Claims:
        return Claims(bias="none", backward="segment", slopes_only=True)

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites)
        credit = view.credit(view.slopes(u), u)
        scaled = {n: self.factor * c if n.endswith(self.only) else c for n, c in credit.items()}
        return Estimate(credit=scaled)


@pytest.mark.slow
@pytest.mark.parametrize("made", [Weights(), Activities()])
def test_an_estimator_written_by_hand_passes(made: Any) -> None:
    assert wrong(examine(made, ["local-pg"])) == []


def test_a_file_is_checked_by_its_path(tmp_path: Path) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    example = re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert example is not None
    file = tmp_path / "sign_a.py"
    file.write_text(re.sub(r"@register\(.*\)\n", "", example[1]))
    found = check_estimator(f"{file}:SignOfSlope[directions=2]/local-pg")
    assert wrong(found) == []
    assert "claims bias='some'" in found[-1].detail
    assert "4 nets and localities" in next(one.detail for one in found if one.check == "pure")


@pytest.mark.slow
def test_a_scale_of_two_percent_is_named_exactly() -> None:
    made = Weights(factor=1.02)
    found = wrong(estimator.bias(made, [Case.build(net, "end", made) for net in (TINY, OPAQUE)]))
    assert len(found) == 3  # on each net, and as it is on the smallest
    assert all("scale 1.0200 on body.0.l0, 1.0200 on body.1.l0" in one for one in found)
    case = Case.build(OPAQUE, "module", Activities(factor=1.02, only="1.l0"))
    with pytest.raises(Fault, match=r"scale 1\.0200 on body\.1\.l0, expected 1$"):
        exact.unbiased(case)


@pytest.mark.parametrize("axis", ["p", "g"])
def test_an_axis_that_the_credit_does_not_sum_is_a_bias_under_some_locality(
    axis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later modules mix patches: only a loss that keeps them and is read behind such a module shows it."""
    sound = Cells.cell_axis

    def kept_apart(self: Cells, kept: str) -> str:
        own = kept == axis and axis in axes.names(self.place)
        return kept if own else sound(self, kept)

    monkeypatch.setattr(Cells, "cell_axis", kept_apart)
    made = registry.make("estimators", "fg_a").thing
    off = []
    for where in estimator.LOCALITIES:
        case = Case.build(MIXER, where, made)
        try:
            compare(case, exact.at_once(case)[0], "the mean")
        except Fault:
            off.append(where)
    assert "module-pg" in off
    assert ("local-pg" in off) == (axis == "g")


def test_its_own_number_of_directions_is_what_counts() -> None:
    case = Case.build(TINY, "local", Weights(directions=3))
    assert "the mean over 120 orthonormal draws" in exact.unbiased(case)


def test_a_wrong_name_or_option_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="fg_a"):
        check_estimator("fg_aa")
    with pytest.raises(UsageError, match="directions"):
        check_estimator("fg_a[direction=2]")


# ---- planted faults: each is rejected by its check, which says so --------------------------------


@dataclass(frozen=True)
class Planted(Defaults):
    """Activity perturbation with something done before it, in its place, or to its result."""

    does: Callable[..., Any]
    bias: Any = "some"
    backward: Any = "segment"
    deterministic: bool = False
    slopes_only: bool = False

    def claims(self, task: Any) -> Claims:
        return Claims(self.bias, self.backward, self.deterministic, self.slopes_only)

    def init_state(self, task: Any, noise: Any) -> Any:
        return {o.name: {"kept": torch.zeros(3, dtype=noise.dtype)} for o in task.objectives}

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        found = self.does(view, noise, state)
        return found if isinstance(found, Estimate) else good(view, noise)


def good(view: Any, noise: Any, law: str = "gaussian") -> Estimate:
    u = noise.directions(view.sites, 1, law)
    return Estimate(credit=view.credit(view.slopes(u), u))


def zeros(view: Any, **more: Any) -> dict[str, torch.Tensor]:
    return {n: torch.zeros(s, **{"dtype": torch.float64, **more}) for n, s in view.shapes.items()}


calls = iter(range(10_000))


def counted(view: Any, noise: Any, state: Any) -> Estimate:
    first = next(iter(view.shapes))
    grads = zeros(view)
    grads[first] += next(calls)
    return Estimate(grads=grads)


def first_missing(view: Any, noise: Any, state: Any) -> Estimate:
    return Estimate(grads=dict(list(zeros(view).items())[1:]))


def transposed(view: Any, noise: Any, state: Any) -> Estimate:
    return Estimate(grads={n: g[None] for n, g in zeros(view).items()})


def not_finite(view: Any, noise: Any, state: Any) -> Estimate:
    return Estimate(grads={n: g / 0 for n, g in zeros(view).items()})


def with_graph(view: Any, noise: Any, state: Any) -> Estimate:
    u = noise.directions(view.sites)
    at = torch.ones((), dtype=torch.float64, requires_grad=True)
    return Estimate(credit={n: at * c for n, c in view.credit(view.slopes(u), u).items()})


def move_parameter(view: Any, noise: Any, state: Any) -> None:
    with torch.no_grad():
        next(iter(view.params.values())).add_(1e-6)


def accumulate(view: Any, noise: Any, state: Any) -> None:
    p = next(iter(view.params.values()))
    p.grad = torch.zeros_like(p)


IMPURE: dict[str, tuple[Callable[..., Any], str]] = {
    "it counts its calls": (
        counted,
        "the same noise gave two estimates: gradient of body.0.l0.weight",
    ),
    "a missing gradient": (first_missing, "no gradient for body.0.l0.weight"),
    "a shape": (transposed, r"has shape \(1, 4, 4\), expected \(4, 4\)"),
    "a type": (
        lambda v, n, s: Estimate(grads=zeros(v, dtype=torch.float32)),
        "expected .* torch.float64, got .* torch.float32",
    ),
    "a name": (
        lambda v, n, s: Estimate(grads={**zeros(v), "body.7.l0.weight": torch.zeros(2)}),
        "unknown parameter in the gradient of Planted 'body.7.l0.weight'",
    ),
    "not finite": (not_finite, "is not finite"),
    "a graph": (with_graph, "credit of body.0.l0 carries autograd's graph"),
    "a graph on gradients": (
        lambda v, n, s: Estimate(grads={k: g.requires_grad_() for k, g in zeros(v).items()}),
        "grads of body.0.l0.weight carries autograd's graph",
    ),
    "a state of another type": (
        lambda v, n, s: Estimate(grads=zeros(v), new_state={"kept": torch.zeros(3)}),
        "returned state 'kept' as torch.float32, it was torch.float64",
    ),
    "a readout's gradient that is drawn": (
        lambda v, n, s: Estimate(
            grads=zeros(v),
            readouts={
                k: p.detach() * next(calls)
                for k, p in v.chain.readout_parameters(v.objective.readout).items()
            },
        ),
        "two estimates: gradient of readouts",
    ),
    "the batch": (lambda v, n, s: v.start.add_(1.0), "changed the batch"),
    "the labels": (lambda v, n, s: v.labels.zero_(), "changed the labels"),
    "the state": (lambda v, n, s: s["kept"].add_(1), "changed state kept of end"),
    "a parameter": (move_parameter, "changed parameter body.0.l0.weight"),
    "a parameter's grad": (accumulate, r"left a \.grad"),
    "torch's random state": (lambda v, n, s: torch.randn(1), "torch's global random state"),
    "numpy's random state": (
        lambda v, n, s: np.random.rand(),  # noqa: NPY002
        "changed numpy's global random state",
    ),
    "python's random state": (
        lambda v, n, s: random.random(),
        "changed python's global random state",
    ),
    "threads": (lambda v, n, s: torch.set_num_threads(2), "number of threads from 1 to 2"),
    "the default dtype": (
        lambda v, n, s: torch.set_default_dtype(torch.float64),
        "the default dtype from torch.float32 to torch.float64",
    ),
    "grad mode": (lambda v, n, s: torch.set_grad_enabled(False), "changed grad mode"),
    "a state of another name": (
        lambda v, n, s: Estimate(grads=zeros(v), new_state={"other": torch.zeros(3)}),
        "new_state of Planted lacks 'kept'",
    ),
}


@pytest.fixture
def world() -> Iterator[None]:
    """Put back what planted estimators change."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        yield
    np.random.set_state(states[0])  # noqa: NPY002
    random.setstate(states[1])
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("fault", IMPURE)
def test_purity_rejects(fault: str) -> None:
    does, said = IMPURE[fault]
    with pytest.raises((Fault, UsageError), match=said):
        pure.pure(Case.build(TINY, "end", Planted(does)))


def test_purity_allows_what_a_library_rounds_from_call_to_call() -> None:
    """LAPACK's 2.8e-17, and no more: a thousand millionths are another estimate."""

    def rounded(size: float) -> Planted:
        def does(view: Any, noise: Any, state: Any) -> Estimate:
            credit = good(view, noise).credit or {}
            first = next(iter(credit))
            credit[first] = credit[first] + size * (next(calls) % 7)
            return Estimate(credit=credit)

        return Planted(does)

    for check in (pure.pure, pure.deterministic, pure.chunks):
        assert check(Case.build(TINY, "end", rounded(2.8e-17)))
    with pytest.raises(Fault, match="the same noise gave two estimates"):
        pure.pure(Case.build(TINY, "end", rounded(1e-9)))


def test_a_state_in_another_type_than_the_network_is_named() -> None:
    class Short(Planted):
        def init_state(self, task: Any, noise: Any) -> Any:
            return {o.name: {"kept": torch.zeros(3)} for o in task.objectives}

    said = "init_state: 'kept' of end is torch.float32 where the network is torch.float64"
    with pytest.raises(Fault, match=said):
        pure.pure(Case.build(TINY, "end", Short(lambda v, n, s: None)))


def test_purity_allows_a_parameter_moved_and_moved_back() -> None:
    def there_and_back(view: Any, noise: Any, state: Any) -> Estimate:
        v = noise.directions(view.shapes)
        with view.perturb_in_place(v, 0, 1e-3) as moved:
            change = moved.losses().mean() - view.losses().mean()
        return Estimate(grads={n: 1e3 * change * v.rows(n, 0, 1)[0] for n in v.names})

    assert pure.pure(Case.build(TINY, "end", Planted(there_and_back)))


def test_deterministic_is_held_to_both_ways() -> None:
    same = Planted(lambda v, n, s: Estimate(grads=zeros(v)))
    with pytest.raises(Fault, match="either it does not use the noise"):
        pure.deterministic(Case.build(TINY, "end", same))
    with pytest.raises(Fault, match="claims deterministic, but other noise gave another"):
        pure.deterministic(
            Case.build(TINY, "end", Planted(lambda v, n, s: None, deterministic=True))
        )


def with_base(view: Any, noise: Any, state: Any, purpose: str = "") -> Estimate:
    """A control variate: its own directions, and those of the base it subtracts."""
    u = noise.directions(view.sites)
    own = view.credit(view.slopes(u), u)
    base = good(view, noise.child(purpose) if purpose else noise).credit or {}
    return Estimate(credit={n: c - 0.5 * base[n] for n, c in own.items()})


def drawn_twice(view: Any, noise: Any, state: Any) -> None:
    noise.normal("dither", (4,))
    noise.normal("dither", (4,))


@pytest.mark.parametrize("does", [with_base, drawn_twice])
def test_a_key_that_serves_two_purposes_is_named(does: Any) -> None:
    key = r"path draws, step 0, '(body\.0\.l0|dither)', block 0, normal \(.*\).*; give one of them"
    with pytest.raises(Fault, match=key):
        pure.noise_keys(Case.build(TINY, "end", Planted(does)))


def test_a_purpose_of_its_own_and_redrawn_blocks_are_no_clash() -> None:
    def child(view: Any, noise: Any, state: Any) -> Estimate:
        return with_base(view, noise, state, "base")

    def redrawn(view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites)
        u._budget = 0  # nothing is kept: every chunk is drawn again
        return Estimate(credit=view.credit(view.slopes(u), u.masked(view.masks())))

    for does in (child, redrawn):
        for locality in ("module", "local"):  # windows share their draws by design
            pure.noise_keys(Case.build(TINY, locality, Planted(does)))


def by_chunk(view: Any, noise: Any, state: Any) -> Estimate:
    size = view.window.chunk(True)
    u = noise.at(size).directions(view.sites)
    return Estimate(credit=view.credit(view.slopes(u), u))


def from_global(view: Any, noise: Any, state: Any) -> Estimate:
    return Estimate(credit={n: torch.randn(s, dtype=torch.float64) for n, s in view.sites.items()})


@pytest.mark.usefixtures("world")
def test_directions_depend_on_nothing_else() -> None:
    with pytest.raises(Fault, match="one by one it is off by"):
        pure.chunks(Case.build(TINY, "end", Planted(by_chunk)))
    with pytest.raises(Fault, match="changed with what was drawn before it"):
        pure.chunks(Case.build(TINY, "end", Planted(from_global)))


# ---- reach ---------------------------------------------------------------------------------------


def loss_of(view: Any) -> torch.Tensor:
    with torch.enable_grad():
        f = view.chain.run(view.start, *view.objective.window)
        prediction = view.chain.read(view.objective.readout, f)
        return torch.nn.functional.cross_entropy(prediction, view.labels)


def by_backward(view: Any, noise: Any, state: Any) -> None:
    loss_of(view).backward()


def by_grad(view: Any, noise: Any, state: Any) -> None:
    torch.autograd.grad(loss_of(view), list(view.params.values()))


def by_func(view: Any, noise: Any, state: Any) -> None:
    names = list(view.params)

    def loss(*values: torch.Tensor) -> torch.Tensor:
        new = dict(zip(names, values, strict=True))
        prediction = torch.func.functional_call(view.chain, new, (view.start,))
        return torch.nn.functional.cross_entropy(prediction, view.labels)

    torch.func.grad(loss)(*[p.detach() for p in view.params.values()])


def by_reverse(view: Any, noise: Any, state: Any) -> None:
    view.reverse()


def by_nodes(view: Any, noise: Any, state: Any) -> None:
    """Trajectory autograd's graph by hand, from node to node, without its engine."""
    todo = [(loss_of(view).grad_fn, torch.ones((), dtype=torch.float64))]
    while todo:
        node, grad = todo.pop()
        if node is None or grad is None or "AccumulateGrad" in type(node).__name__:
            continue
        found = node(grad) if callable(node) else node.apply(grad)
        found = found if isinstance(found, tuple) else (found,)
        todo += [(n, g) for (n, _), g in zip(node.next_functions, found, strict=True)]


@pytest.mark.parametrize("backward", ["none", "segment"])
@pytest.mark.parametrize("does", [by_backward, by_grad, by_func, by_reverse])
def test_reverse_mode_is_refused(does: Any, backward: str) -> None:
    found = judged(examine(Planted(does, backward=backward), ["end"]))
    assert [one.check for one in found] == ["protocol", "supports", "gate"]
    who = f"Planted claims backward='{backward}' but called reverse mode"
    assert not found[-1].held
    assert who in found[-1].detail


def by_own_gate(view: Any, noise: Any, state: Any) -> Estimate:
    with no_reverse.opened():
        return Estimate(grads=view.reverse())


def by_a_thread(view: Any, noise: Any, state: Any) -> Estimate:
    with ThreadPoolExecutor(1) as pool:
        return Estimate(grads=pool.submit(view.reverse).result())


@pytest.mark.parametrize("backward", ["none", "segment"])
def test_an_estimator_that_opens_the_gate_itself_is_found(backward: str) -> None:
    found = judged(examine(Planted(by_own_gate, backward=backward), ["end"]))[-1]
    assert not found.held
    assert found.detail.startswith(f"claims backward='{backward}' but opens the gate itself")
    found = judged(examine(Planted(by_a_thread, backward=backward), ["end"]))[-1]
    assert not found.held
    assert "called reverse mode" in found.detail
    with pytest.raises(Fault, match=r"calls view\.reverse; that is 'network'"):
        reach.reach(Case.build(TINY, "end", Planted(by_own_gate, backward=backward)))


def broken(view: Any, noise: Any, state: Any) -> Estimate:
    raise ZeroDivisionError("its own")


@pytest.mark.parametrize("backward", ["none", "segment", "network"])
def test_what_an_estimator_raises_is_no_matter_of_the_gate(backward: str) -> None:
    found = judged(examine(Planted(broken, backward=backward), ["end"]))
    assert [one.check for one in found] == ["protocol", "supports", "runs"]
    here = broken.__code__.co_firstlineno + 1
    said = rf"ZeroDivisionError: its own \(test_estimator\.py:{here}\) \(on mlp-2x4/end\)"
    assert re.fullmatch(said, found[-1].detail)


def test_an_estimator_that_exits_is_a_finding_and_not_the_end() -> None:
    def leave(view: Any, noise: Any, state: Any) -> Estimate:
        raise SystemExit(0)

    found = judged(examine(Planted(leave), ["end"]))
    assert [one.check for one in found] == ["protocol", "supports", "runs"]
    assert found[-1].detail.startswith("SystemExit: 0 (test_estimator.py:")


ESTIMATES: list[str] = []


def later(view: Any, noise: Any, state: Any) -> None:
    ESTIMATES.append(str(view.shapes))
    if ESTIMATES.count(ESTIMATES[-1]) > 1:  # the first estimate on a network goes well
        raise ZeroDivisionError("its own")


def test_what_it_raises_later_is_told_with_its_line() -> None:
    ESTIMATES.clear()
    found = [one for one in examine(Planted(later), ["end"]) if not one.held]
    assert {"pure", "deterministic"} <= {one.check for one in found}
    here = later.__code__.co_firstlineno + 3
    assert all(f"ZeroDivisionError: its own (test_estimator.py:{here})" in o.detail for o in found)


@pytest.mark.parametrize("name", ["supports", "init_state"])
def test_what_it_raises_while_it_is_set_up_is_told_with_its_line(name: str) -> None:
    def fail(self: Any, *args: Any) -> None:
        raise ZeroDivisionError("its own")

    made = type("Made", (Planted,), {name: fail})(lambda v, n, s: None)
    found = judged(examine(made, ["end"]))
    assert [one.check for one in found] == ["protocol", "supports"]
    assert f"its own (test_estimator.py:{fail.__code__.co_firstlineno + 1})" in found[-1].detail


def test_nodes_walked_by_hand_are_refused_by_opaque_operations() -> None:
    ordinary, opaque = (Case.build(net, "end", Planted(by_nodes)) for net in (SMOOTH, OPAQUE))
    assert "held under these two checks" in reach.gated([ordinary])  # the engine alone sees nothing
    with pytest.raises(
        Fault, match=r"the backward of an opaque operation was run.*opaque operations"
    ):
        reach.gated([ordinary, opaque])


def backprop_by_hand(view: Any, noise: Any, state: Any) -> Estimate:
    """Multiply the error with what it takes for the weights of linear layers, from last to first."""
    (head, _) = view.chain.readout_parameters(view.objective.readout).values()
    acts = view.activities()
    back, grads = view.output_error() @ head, {}
    inputs = [view.start.flatten(1), *acts.values()]
    for (name, out), x in reversed(list(zip(acts.items(), inputs, strict=False))):
        back = back * (1 - out**2)
        grads |= {f"{name}.weight": back.T @ x, f"{name}.bias": back.sum(0)}
        back = back @ view.params[f"{name}.weight"]
    return Estimate(grads={n: grads[n].detach() for n in view.params})


def test_a_backprop_by_hand_is_unbiased_only_where_it_knows_the_layers() -> None:
    made = Planted(backprop_by_hand, bias="none", backward="none", deterministic=True)
    assert "draws nothing" in exact.unbiased(Case.build(SMOOTH, "end", made))
    with pytest.raises(Fault, match="opaque operations/end"):
        reach.gated([Case.build(OPAQUE, "end", made)])


def test_the_gate_says_what_it_established() -> None:
    found = examine(Planted(lambda v, n, s: None), ["end"])
    detail = next(one.detail for one in found if one.check == "gate")
    assert "held under these two checks" in detail
    assert "opaque operations" in detail


def chained(view: Any, noise: Any, state: Any) -> Estimate:
    """Backprop by pulls, each from the answer of the one before."""
    readout = ("readout", view.objective.readout)
    at = view.pull({readout: view.output_error()}, to="taps")
    credit = {}
    for _ in range(3 * len(view.sites)):
        credit |= {place[1]: c for place, c in at.items() if place[0] == "site"}
        at = view.pull(at, to="taps") if at else {}
    return Estimate(credit=credit)


def crossing(view: Any, noise: Any, state: Any) -> Estimate:
    return Estimate(grads=view.reverse())


REACH: dict[str, tuple[Planted, str]] = {
    "credit": (Planted(lambda v, n, s: None, backward="none"), "returns credit"),
    "a pull": (
        Planted(
            lambda v, n, s: Estimate(grads=v.pull(good(v, n).credit)),
            backward="none",
        ),
        "calls view.pull",
    ),
    "a pull of what is probed": (
        Planted(
            lambda v, n, s: Estimate(grads=v.probe(n.directions(v.sites))),
            backward="none",
        ),
        "calls view.probe",
    ),
    "a chain of pulls": (Planted(chained, backward="segment"), "chains pulls"),
    "another module": (Planted(crossing, backward="module"), "across a module's input"),
}


@pytest.mark.parametrize("fault", REACH)
def test_reach_rejects(fault: str) -> None:
    made, said = REACH[fault]
    found = estimator.judge("reach", lambda: reach.reach(Case.build(SMOOTH, "end", made)))
    assert not found.held
    assert said in found.detail


def test_one_module_at_a_time_is_within_the_claim_module() -> None:
    made = Planted(crossing, backward="module")
    assert "no gradient passes" in reach.reach(Case.build(SMOOTH, "local", made))


@pytest.mark.parametrize(
    ("does", "used"),
    [
        (lambda v, n, s: v.losses(), "losses"),
        (lambda v, n, s: v.slopes(n.child("a").directions(v.sites), step=1e-3), r"slopes\(step\)"),
        (lambda v, n, s: v.chain.run(v.start, 0, 1), "chain, start"),
        (lambda v, n, s: v.masks(), "masks"),
    ],
)
def test_another_oracle_is_named(does: Any, used: str) -> None:
    with pytest.raises(Fault, match=f"claims slopes_only but used {used}"):
        reach.slopes_only(Case.build(TINY, "end", Planted(does, slopes_only=True)))


# ---- protocol, claims, skips ---------------------------------------------------------------------


def test_what_is_missing_from_the_protocol_is_named() -> None:
    class Bare:
        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            return good(view, noise)

    (found,) = judged(examine(Bare()))
    assert "lacks claims, supports, init_state, predicted_variance; inherit" in found.detail


def test_a_claim_that_does_not_exist_is_refused() -> None:
    found = judged(examine(Planted(lambda v, n, s: None, bias="little"), ["end"]))
    assert not found[-1].held
    assert "unknown claim of bias 'little'; valid: none, scale, some, vanishing" in found[-1].detail


def test_what_is_not_supported_is_skipped_with_its_reason() -> None:
    @dataclass(frozen=True)
    class Picky(Activities):
        reason: Any = "needs two modules in a window"
        always: bool = False

        def supports(self, task: Any) -> str:
            alone = self.always or all(o.window[1] - o.window[0] < 2 for o in task.objectives)
            return self.reason if alone else ""

    found = examine(Picky(), ["end", "local"])
    assert wrong(found) == []
    assert f"skipped on {TINY.name}/local and 3 more: needs two modules" in found[1].detail
    assert not any("/local" in one.check for one in found)
    assert "nothing is checked" in judged(examine(Picky(always=True)))[-1].detail
    assert "must return a reason" in judged(examine(Picky(reason=True, always=True)))[-1].detail


def test_an_architecture_asked_for_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimator, "NETS", (TINY,))
    found = {one.check: one for one in check_estimator("fg_a/end", arch="mlp-2x3")}
    assert wrong(list(found.values())) == []
    assert "unbiased on mlp-2x3/end" in found
    assert "(2 nets and localities)" in found["pure"].detail
    with pytest.raises(UsageError, match="unknown architecture 'mlpp'"):
        check_estimator("fg_a", arch="mlpp")


def test_a_basis_that_would_be_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST", 39)
    found = list(estimator.bias(Weights(), [Case.build(TINY, "end", Weights()), small()]))
    assert [one.judged for one in found] == [True, False]
    assert found[-1].check == f"bias, exactly, on {TINY.name}/end"
    assert found[-1].detail == "it draws 40 numbers; left to the smaller nets"


def small() -> Case:
    return Case.build(SMALL, "end", Weights())


# ---- bias ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slope(Defaults):
    """Weight perturbation with another function of the slope and the direction."""

    form: Callable[..., Any]
    law: str = "gaussian"

    def __post_init__(self) -> None:
        law(self.law)

    def claims(self, task: Any) -> Claims:
        return Claims(bias="none", backward="none")

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        v = noise.directions(view.shapes, 1, self.law)
        rows = {n: v.rows(n, 0, 1)[0] for n in v.names}
        d = sum(t.numel() for t in rows.values())
        square = sum(float((t * t).sum()) for t in rows.values())
        s = view.slopes(v).sum()
        return Estimate(grads={n: self.form(s, t, square / d) for n, t in rows.items()})


def test_a_control_variate_is_no_pure_square_and_still_exact() -> None:
    """A constant plus a square: ⟨g − c, v⟩ v + c, with mean g for every c."""

    @dataclass(frozen=True)
    class Shifted(Defaults):
        shift: float = 0.3

        def claims(self, task: Any) -> Claims:
            return Claims(bias="none", backward="none")

        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            v = noise.directions(view.shapes)
            rows = {n: v.rows(n, 0, 1)[0] for n in v.names}
            s = view.slopes(v).sum() - self.shift * sum(t.sum() for t in rows.values())
            return Estimate(grads={n: s * t + self.shift for n, t in rows.items()})

    for net in (TINY, CONVOLUTIONS):
        assert "orthonormal" in exact.unbiased(Case.build(net, "end", Shifted()), as_it_is=True)


@pytest.mark.parametrize("net", [TINY, CONVOLUTIONS, OPAQUE])
def test_a_dropped_example_is_found(net: Net) -> None:
    def apart(view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites)
        s = view.slopes(u).clone()
        s[:, 0] = 0.0  # the first example's score never reaches its units
        return Estimate(credit=view.credit(s, u))

    with pytest.raises(Fault, match=r"scale -?\d.* on body.*, expected 1"):
        exact.unbiased(Case.build(net, "local", Planted(apart, bias="none")))


@pytest.mark.slow
def test_a_norm_that_mixes_groups_is_found() -> None:
    """Scores of groups kept apart across a norm over all channels, as the paper's code does."""

    def released(view: Any, noise: Any, state: Any) -> Estimate:
        v = noise.directions(view.shapes)
        cells = partial(view.cells, summed=False)
        return Estimate(grads=view.credit(view.slopes(v), v, cells))

    made = Planted(released, bias="none", backward="none")
    assert exact.unbiased(Case.build(MIXER, "local-p", made))
    with pytest.raises(Fault, match=r"body\.0\.l0"):
        exact.unbiased(Case.build(MIXER, "local-pg", made))


def test_signs_are_enumerated_where_a_mean_is_no_square() -> None:
    def cubic(factor: float) -> Slope:
        # t³ = t for signs: unbiased for this law alone, and of degree four
        return Slope(lambda s, t, q: factor * s * t**3, law="rademacher")

    case = Case.build(LEAST, "end", cubic(1.0))
    with pytest.raises(exact.NoDesign):
        exact.unbiased(case)
    assert "64 vectors of signs" in exact.enumerated(case)
    with pytest.raises(Fault, match=r"scale 1\.0200"):
        exact.enumerated(Case.build(LEAST, "end", cubic(1.02)))
    with pytest.raises(exact.NoDesign, match="gaussian"):
        exact.enumerated(Case.build(LEAST, "end", Slope(lambda s, t, q: s * t**3)))
    found = list(estimator.bias(cubic(1.0), [Case.build(SMOOTH, "end", cubic(1.0))]))
    assert wrong(found) == []
    names = {f"unbiased on {net.name}/end" for net in (LEAST, DEEP)}
    assert {one.check for one in judged(found)} == names


def test_a_clipped_slope_is_not_taken_for_a_square() -> None:
    clipped = Slope(lambda s, t, q: s.clamp(-0.01, 0.01) * t)
    with pytest.raises(exact.NoDesign, match="second degree"):
        exact.unbiased(Case.build(TINY, "end", clipped))


@pytest.mark.parametrize("factor", mostly_slow([1.0, 1.1], 2))
def test_what_nothing_exact_judges_is_sampled(factor: float) -> None:
    """The normalised forward gradient ⟨g, v⟩ v d / |v|²: its mean is g, exactly; planted, 1.1 g.

    Fixed seeds; a false alarm has probability 1e-5.
    """
    case = Case.build(SMOOTH, "end", Slope(lambda s, t, q: factor * s * t / q))
    stages = ((256, 0.01), (512, 0.001))
    if factor == 1.0:
        assert "smallest p" in sampled.unbiased(case, stages)
    else:
        with pytest.raises(Fault, match=r"coupled scale of body\.\d\.l0 1\.\d+, expected 1 \(p "):
            sampled.unbiased(case, stages)


NORMALISED = Slope(lambda s, t, q: s * t / q)
FEW = ((48, 0.01), (96, 0.001))


def test_a_quick_check_says_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "QUICK", FEW)
    monkeypatch.setattr(sampled, "STAGES", ((64, 0.01), (128, 0.001)))
    where = [Case.build(SMOOTH, "end", NORMALISED)]
    quick = list(estimator.bias(NORMALISED, where, quick=True))
    whole = list(estimator.bias(NORMALISED, where))
    assert wrong([*quick, *whole]) == []
    names = [f"unbiased on {SMOOTH.name}/end"]
    assert [(one.check, one.judged) for one in quick[:1]] == [
        (f"bias, exactly, on {SMOOTH.name}/end", False)
    ]
    quick, whole = judged(quick), judged(whole)
    assert [one.check for one in quick] == [one.check for one in whole] == names
    assert {one.left_out for one in quick} == {"48 draws were made, 64 are the whole check"}
    assert {one.left_out for one in whole} == {""}
    assert all("48 draws, smallest p" in one.detail for one in quick)
    assert all("found four times in five" in one.detail for one in quick)
    exactly = Case.build(
        TINY, "end", Weights()
    )  # fewer draws leave nothing out where there are none
    assert {one.left_out for one in estimator.bias(Weights(), [exactly], quick=True)} == {""}


@dataclass(frozen=True)
class Shallow(Defaults):
    """A normalised weight perturbation that gives half of the gradient below the last layer."""

    step: float = 1e-3
    bias: Any = "vanishing"
    only: str = ""
    law: str = "gaussian"

    def claims(self, task: Any) -> Claims:
        return Claims(bias=self.bias, backward="none")

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        v = noise.directions(view.shapes, 1, self.law)
        rows = {n: v.rows(n, 0, 1)[0] for n in v.names}
        square = sum(float((t * t).sum()) for t in rows.values())
        s = view.slopes(v, self.step if self.bias == "vanishing" else None).sum()
        last, wrong = max(rows).rpartition(".l0")[0], view.objective.name.startswith(self.only)
        s = s * sum(t.numel() for t in rows.values()) / square
        half = {n: 0.5 if wrong and not n.startswith(last) else 1.0 for n in rows}
        return Estimate(grads={n: half[n] * s * t for n, t in rows.items()})


def claimed_bias(made: Any, *localities: str) -> dict[str, Outcome]:
    where = [Case.build(SMOOTH, place, made) for place in localities]
    return {one.check: one for one in estimator.bias(made, where) if one.judged}


@pytest.mark.slow
@pytest.mark.parametrize("bias", ["vanishing", "none"])
def test_a_bias_is_sampled_through_two_layers(monkeypatch: pytest.MonkeyPatch, bias: str) -> None:
    """Fixed seeds; a false alarm of the one below has probability 1e-5."""
    monkeypatch.setattr(sampled, "STAGES", ((64, 0.01), (64, 0.001)))
    found = claimed_bias(Shallow(bias=bias), "end")
    assert [name for name, one in found.items() if not one.held] == [
        f"unbiased on {SMOOTH.name}/end"
    ]
    assert "scale of body.0.l0" in found[f"unbiased on {SMOOTH.name}/end"].detail


def test_a_vanishing_bias_is_not_enumerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all signs what is left at any step would be a fault."""
    monkeypatch.setattr(sampled, "STAGES", ((64, 0.01), (64, 0.001)))

    @dataclass(frozen=True)
    class Curved(Slope):
        step: float = 1e-3

        def claims(self, task: Any) -> Claims:
            return Claims(bias="vanishing", backward="none")

        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            v = noise.directions(view.shapes, 1, "rademacher")
            s = view.slopes(v, step=self.step).sum()
            return Estimate(grads={n: s * v.rows(n, 0, 1)[0] ** 3 for n in v.names})

    found = claimed_bias(Curved(lambda s, t, q: s, law="rademacher"), "end")
    assert [(name, one.held) for name, one in found.items()] == [
        (f"unbiased on {SMOOTH.name}/end", True)
    ]


def test_what_it_raises_on_another_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(Shallow):
        def init_state(self, scheme: Any, noise: Any) -> Any:
            if len(scheme.chain) == 1:
                raise ZeroDivisionError("one layer")
            return {}

    made = Narrow(bias="none")
    found = [one for one in claimed_bias(made, "end").values() if not one.held]
    assert [one.check for one in found] == [f"unbiased on {LEAST.name}/end"]
    assert "ZeroDivisionError: one layer" in found[0].detail
    wheres = [one for one in estimator.variances([Case.build(SMOOTH, "end", made)]) if not one.held]
    assert [one.check for one in wheres] == [f"variance on {CONVOLUTION.name}/end"]


def test_signs_are_enumerated_through_two_layers() -> None:
    """Signs have one norm: this one is of another form through its cube."""
    cubic = Slope(lambda s, t, q: s * t**3, law="rademacher")
    assert all(one.held for one in claimed_bias(cubic, "end").values())

    @dataclass(frozen=True)
    class Below(Slope):
        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            grads = super().__call__(view, noise, state).grads or {}
            last = max(grads).rpartition(".l0")[0]
            return Estimate(grads={n: g * (n.startswith(last) + 1) for n, g in grads.items()})

    twice = Below(lambda s, t, q: s * t**3 / 2, law="rademacher")
    wrong = [name for name, one in claimed_bias(twice, "end").items() if not one.held]
    assert wrong == [f"unbiased on {DEEP.name}/end"]


@pytest.mark.slow
def test_a_bias_is_sampled_under_the_locality_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under overlap a window reaches over two modules; under end and local this one is right."""
    monkeypatch.setattr(sampled, "STAGES", ((64, 0.01), (64, 0.001)))
    made = Shallow(bias="none", only="pair")
    found = claimed_bias(made, "overlap")
    assert [one.held for one in found.values()] == [False]
    assert list(found) == [f"unbiased on {SMOOTH.name}/overlap"]
    many = [Case.build(SMOOTH, place, made) for place in ("end", "module", "local", "overlap")]
    aside = [one for one in estimator.bias(made, many) if not one.judged][-1]
    assert aside.check == "bias under module, overlap"
    assert aside.detail == "sampled under end, local only; NAME/module samples it there"


def test_what_a_sampled_check_finds_is_no_smaller_than_its_power_allows() -> None:
    """Each stage rejects a deviation of that size with .9, the hardest with no more: .81 together."""
    tests = [sampled.NumberTest(name, 1.0, "", error) for name, error in (("a", 0.02), ("b", 0.03))]
    tests.append(sampled.NumberTest("coupled", 1.0, ""))
    for stages in (sampled.STAGES, sampled.QUICK):
        size = sampled.detectable(tests, stages[0][0], stages)
        power = []
        for draws, level in stages:
            t = size / (0.03 * (stages[0][0] / draws) ** 0.5)
            power.append(norm.cdf(t - norm.isf(level / (2 * len(tests)))))
        assert min(power) == pytest.approx(0.9)
    whole, less = (sampled.detectable(tests, 512, s) for s in (sampled.STAGES, sampled.QUICK))
    assert less == pytest.approx(8**0.5 * whole)  # 2.8 times, as the help says


def test_a_zeroed_site_is_seen_by_its_plain_scale() -> None:
    def silent(view: Any, noise: Any, state: Any) -> Estimate:
        credit = dict(good(view, noise).credit or {})
        credit["body.0.l0"] = 0 * credit["body.0.l0"]
        return Estimate(credit=credit)

    case = Case.build(SMOOTH, "end", Planted(silent, bias="none"))
    with pytest.raises(Fault, match=r"scale of body\.0\.l0 0\.0000 ± 0\.0000, expected 1"):
        sampled.unbiased(case, ((64, 0.01), (64, 0.001)))


def test_the_coupled_difference_of_a_forward_gradient_is_zero() -> None:
    for locality in ("end", "local"):
        draws = sampled.sample(Case.build(SMOOTH, locality, Activities()), 8, 0)
        apart = np.stack(draws.estimates) - np.stack(draws.coupled)
        assert np.abs(apart).max() < 1e-12 * np.abs(np.stack(draws.estimates)).max()
        assert not any(
            test.name == "bias" for test in draws.tests(Case.build(SMOOTH, locality, Activities()))
        )


@dataclass(frozen=True)
class Differences(Defaults):
    """Finite differences along sites, with a factor and, planted, a bias that stays."""

    step: float = 1e-3
    factor: float = 1.0
    drift: float = 0.0

    def claims(self, task: Any) -> Claims:
        return Claims(bias="vanishing", backward="segment")

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites).masked(view.masks())
        credit = view.credit(view.slopes(u, step=self.step), u)
        return Estimate(credit={n: self.factor * c + self.drift for n, c in credit.items()})


@pytest.mark.parametrize("net", [TINY, CONVOLUTIONS, OPAQUE])
def test_a_vanishing_bias_vanishes(net: Net) -> None:
    assert "at step 4e-05" in exact.vanishing(Case.build(net, "local", Differences()))


@pytest.mark.slow
@pytest.mark.parametrize("locality", ["end", *estimator.LOCALITIES[3:5]])
def test_a_vanishing_bias_is_judged_exactly_where_norms_curve_most(locality: str) -> None:
    """Of a norm over three channels; what no exact check judges is sampled for a minute."""
    forward, central = (registry.method(f"wp[sided={s}]") for s in ("forward", "central"))
    case = Case.build(MIXER, locality, forward.estimator.thing)
    assert "orthonormal directions" in exact.vanishing(case)
    assert "orthonormal directions" in exact.vanishing(case.of(central.estimator.thing))
    drawn = exact.Drawn.by(case.of(exact.with_step(case.estimator, exact.STEP / exact.FINER)))
    assert drawn.degree_two(5e-3)  # half of what is let through


def test_a_bias_that_stays_is_named_with_its_scale() -> None:
    with pytest.raises(Fault, match=r"does not vanish: scale 1\.02"):
        exact.vanishing(Case.build(TINY, "end", Differences(factor=1.02)))
    with pytest.raises(Fault, match="does not vanish"):
        exact.vanishing(Case.build(TINY, "end", Differences(drift=1e-3)))
    without = Planted(lambda v, n, s: None, bias="vanishing")
    with pytest.raises(Fault, match="no option named 'step'"):
        exact.vanishing(Case.build(TINY, "end", without))


@pytest.mark.parametrize("factor", [1.0, 1.02])
def test_more_directions_than_can_be_averaged_are_judged_with_one(factor: float) -> None:
    made = Weights(directions=100, factor=factor)
    (found,) = estimator.bias(made, [Case.build(CONVOLUTIONS, "end", made)])
    assert found.check == f"unbiased on {CONVOLUTIONS.name}/end, directions=1"
    assert found.held == (factor == 1.0)


# ---- what is not judged says so ------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_not_tested_is_no_success() -> None:
    found = examine(Planted(lambda v, n, s: None), ["end", "local"])
    assert wrong(found) == []
    aside = {one.check: one.detail for one in found if not one.judged}
    names = ", ".join(f"{net.name}/{way}" for net in (TINY, MIXER) for way in ("end", "local"))
    assert aside == {
        f"bias, on {names} and 4 more": "it claims bias='some'",
        "slopes only": "slopes_only is not claimed",
        "exact": "exact is not claimed",
        f"variance, on {SMALL.name}/end, {CONVOLUTION.name}/end, "
        f"{SMALL.name}/local, {CONVOLUTION.name}/local": "none is documented here",
    }
    exactly = examine(registry.make("estimators", "bp").thing, ["end"])
    assert {one.check for one in exactly if not one.judged} == {
        *("gate", "noise keys", "backward", "slopes only", "exact", "state"),
        f"variance, on {SMALL.name}/end, {CONVOLUTION.name}/end",
    }


def test_what_a_failure_leaves_out_is_named() -> None:
    found = examine(Planted(broken), ["end"])
    assert (
        found[-1].check
        == "pure, deterministic, noise keys, chunks, backward, slopes only, exact, cost, training, "
        "state, bias"
    )
    assert (found[-1].judged, found[-1].detail) == (
        False,
        "'runs' failed, and they need estimates that run as claimed",
    )


@pytest.mark.parametrize("bias", ["none", "some"])
def test_an_estimate_that_is_not_finite_is_nowhere_found_right(bias: str) -> None:
    """NaN is no other estimate, no chunk's fault, and no p-value below any level."""
    made = Planted(not_finite, bias=bias, backward="none")
    found = {one.check: one for one in examine(made, ["end"])}
    assert [name for name, one in found.items() if not one.held] == ["finite"]
    assert {name for name, one in found.items() if not one.judged} >= {
        *("deterministic", "chunks", "bias"),
    }
    with pytest.raises(Fault, match="draw 0 of 8 is not finite"):
        sampled.unbiased(Case.build(SMOOTH, "end", made), ((8, 0.01),))

    def sometimes(view: Any, noise: Any, state: Any) -> Estimate:
        credit = good(view, noise).credit or {}
        return Estimate(credit={n: c.sqrt() for n, c in credit.items()})

    with pytest.raises(Fault, match="not finite: it has a NaN or an infinity"):
        exact.unbiased(Case.build(TINY, "end", Planted(sometimes, bias="none")))


def test_a_factor_a_sign_and_a_silent_site_are_said_in_words() -> None:
    for factor, said in ((1.02, "it is 1.02 times"), (-1.0, "everywhere, the sign is turned")):
        with pytest.raises(Fault, match=said):
            exact.unbiased(Case.build(TINY, "end", Weights(factor=factor)))
    silent = r"; nothing is estimated for body\.1\.l0\.weight, body\.1\.l0\.bias$"
    with pytest.raises(Fault, match=silent):
        exact.unbiased(Case.build(TINY, "end", Activities(factor=0.0, only="1.l0")))

    def one_less(view: Any, noise: Any, state: Any) -> Estimate:
        v = noise.directions(view.shapes)
        grads = view.credit(view.slopes(v), v)
        return Estimate(grads={**grads, "body.0.l0.bias": 0 * grads["body.0.l0.bias"]})

    with pytest.raises(Fault, match=r"; nothing is estimated for body\.0\.l0\.bias$"):
        exact.unbiased(Case.build(TINY, "end", Planted(one_less, bias="none", backward="none")))


def test_too_large_everywhere_is_sampled_and_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """One direction of more numbers than are averaged, asked for as it cannot be at once."""

    def told(case: Case, **more: Any) -> str:
        raise exact.TooLarge("it draws 5000 numbers")

    monkeypatch.setattr(exact, "unbiased", told)
    monkeypatch.setattr(sampled, "STAGES", ((48, 0.01), (96, 0.001)))
    made = Weights()
    found = list(estimator.bias(made, [Case.build(TINY, "end", made)]))
    assert [one.judged for one in found] == [False, True]
    assert found[0].detail == "it draws 5000 numbers; left to the smaller nets"
    assert all("48 draws" in one.detail for one in judged(found))
