"""Every registered locality holds, and every check of a locality rejects a planted fault."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fgbench import registry
from fgbench.conformance import Outcome, check_locality, locality
from fgbench.conformance.locality import LAYERS, NETS
from fgbench.conformance.nets import Case
from fgbench.conformance.outcome import Fault, judge
from fgbench.core.network import Chain, LinearReadout, Readout, Tap, untouched
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.errors import UsageError
from fgbench.localities.local import Local
from tests.makers.cases import slow_if
from tests.makers.localities import Auxiliary, Greedy, Partial, Raises, Twins


def wrong(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.check: o.detail for o in outcomes if not o.held}


NAMES = registry.names("localities")


@pytest.mark.parametrize("name", slow_if(NAMES, lambda name: name != "local"))
def test_every_registered_locality_holds(name: str) -> None:
    found = check_locality(name)
    assert wrong(found) == {}
    assert {o.check for o in found if o.judged} >= {
        "attach",
        "objectives",
        "readouts",
        "gradients",
        "cuts",
    }


@pytest.mark.parametrize(
    "made",
    slow_if([Greedy(8), Twins(), Partial((1,)), Greedy(8, "aux")], lambda m: m != Greedy(8, "aux")),
)
def test_localities_of_others_hold(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fgbench.conformance.locality.NETS", (LAYERS,))
    assert wrong(check_locality(made)) == {}


# ---- planted faults ------------------------------------------------------------------------------


class Bare:
    """No locality."""

    def attach(self, chain: Chain) -> None: ...


@dataclass(frozen=True)
class Faulty(Local):
    """Losses of every module, with a fault.

    Args:
        how: the fault.
    """

    how: str = ""

    def attach(self, chain: Chain) -> None:
        if self.how == "it draws from another generator":
            torch.manual_seed(torch.seed())
        super().attach(chain)
        if self.how == "it changes the body":
            with torch.no_grad():
                next(chain.body.parameters()).mul_(2.0)
        if self.how == "one head for all networks":
            chain.readouts["local0"] = shared(chain)
        if self.how == "a head of another type":
            chain.readouts["local0"] = copy.deepcopy(chain.readout("local0")).float()
        heads = {
            "an unpriced head": Unpriced,
            "a head that stops derivatives": Stopped,
            "a head that couples examples": Coupled,
            "a loss per batch": OneLoss,
        }
        if self.how in heads:
            chain.put("local0", 0, lambda have, n: heads[self.how](have, n, chain.classes))
        if self.how == "a head through the next module":
            head = Through(chain.module(1), chain.local_readout(1), chain)
            head.criterion = chain.criterion
            chain.readouts["local0"] = head

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        found = list(super().objectives(chain))
        if self.how == "other objectives at every call":
            CALLS.append(1)
            found[0] = replace(found[0], name=f"call{len(CALLS)}")
        if self.how == "a weight of zero":
            found[0] = replace(found[0], weight=0.0)
        if self.how == "a module twice":
            found[0] = replace(found[0], updates=(0, 0))
        if self.how == "noise of rows that are not there":
            found[0] = replace(found[0], repeats=3)
        if self.how == "a window beyond the end":
            found[0] = replace(found[0], window=(0, 99))
        if self.how == "a head taught twice":
            found.insert(1, replace(found[0], name="again"))
        if self.how == "predictions that nobody teaches":
            found = [replace(o, head=o.readout != "final") for o in found]
        return tuple(found)


CALLS: list[int] = []
SHARED: dict[int, Readout] = {}


def shared(chain: Chain) -> Readout:
    """One head for every network of a size."""
    size = sum(p.numel() for p in chain.parameters())
    return SHARED.setdefault(size, chain.readout("local0"))


class Unpriced(LinearReadout):
    """A head that multiplies as often as there are examples, which its price for one example hides."""

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        flat = f.flatten(1)
        for _ in range(8 * (len(flat) > 1)):
            f = f + 0 * (flat @ flat.new_ones(flat.shape[1], flat.shape[1])).view(f.shape)
        return super().forward(f, tap)


class Stopped(LinearReadout):
    """A head whose loss stops a derivative and does not say that it holds."""

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        return super().losses(prediction * prediction.detach().exp(), labels)


class Coupled(LinearReadout):
    """A head whose loss compares the examples and does not say that it is coupled."""

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        return super().losses(prediction - prediction.mean(0), labels)


class OneLoss(LinearReadout):
    """A head with one loss for the batch."""

    def losses(self, prediction: Tensor, labels: Tensor, held: Tensor | None = None) -> Tensor:
        return F.cross_entropy(prediction, labels)


class Through(Readout):
    """A head that runs through a module of the body."""

    def __init__(self, module: Any, name: str, chain: Chain) -> None:
        super().__init__()
        self._of = (module, chain.readout(name))

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        module, readout = self._of
        return readout(module(f))  # type: ignore[no-any-return]


FAULTS = {
    "it draws from another generator": ("attach", "attach() made another readouts.local0"),
    "it changes the body": ("attach", "attach() changed body.0.l0.weight"),
    "one head for all networks": ("attach", "attach() gave two networks the same readouts.local0"),
    "a head of another type": (
        "attach",
        "readouts.local0.linear.weight torch.float32, the network is",
    ),
    "a window beyond the end": ("attach", "window (0, 99) outside the chain's modules"),
    "other objectives at every call": (
        "objectives",
        "objectives() returned others the second time",
    ),
    "a weight of zero": ("objectives", "has weight 0.0, expected a number above 0"),
    "a module twice": ("objectives", "updates a module twice"),
    "noise of rows that are not there": (
        "objectives",
        "repeats the noise of 3 rows, and a batch has 1",
    ),
    "a head taught twice": ("readouts", "'local0' is taught by module0, again, 2 times in a step"),
    "predictions that nobody teaches": (
        "readouts",
        "'final' makes the predictions, and no objective",
    ),
    "a head that stops derivatives": (
        "gradients",
        "where a loss stops derivatives its readout holds",
    ),
    "a loss per batch": ("gradients", "have shape [], expected one per row"),
    "a head through the next module": ("cuts", "reaches body.1.l0.weight"),
    "a head that couples examples": ("rows apart", "does not say coupled = True"),
    "an unpriced head": ("prices", "times the operations that it is priced at"),
}


def outcome(thing: Any, check: str) -> Outcome:
    """The outcome of one check on the smallest network, or of what comes before it where that fails."""
    cases: list[Case] = []
    made = registry.Made("mine", {}, thing, "")
    built = judge("attach", lambda: locality.attached(made, [LAYERS], cases), thing)
    if check == "attach" or not built.held:
        return built
    run = {**locality.CHECKS, "batch": locality.batch}[check]
    return judge(check, lambda: run(cases[0]), thing)


@pytest.mark.parametrize("how", FAULTS)
def test_a_planted_fault_is_refused_by_its_check(how: str) -> None:
    check, said = FAULTS[how]
    found = outcome(Faulty(how=how), check)
    assert (found.check, found.held) == (check, False)
    assert said in found.detail


def test_what_is_no_locality_is_told_what_it_lacks() -> None:
    assert wrong(check_locality(Bare())) == {"protocol": "lacks objectives"}


@pytest.mark.parametrize("where", ["attach", "objectives", "losses"])
def test_a_locality_that_raises_is_a_finding_with_its_line(where: str) -> None:
    found = wrong(check_locality(Raises(where=where)))
    assert any("ValueError: on purpose (localities.py:" in detail for detail in found.values())


@dataclass(frozen=True)
class Batches(Local):
    """Losses of every module on batches of its own, with a fault."""

    how: str = ""
    copies = 2

    def batch(self, pixels: Tensor, labels: Tensor, data: Any, noise: Any) -> tuple[Tensor, Tensor]:
        x = data.normalise(pixels, torch.float32 if self.how == "a type" else noise.dtype)
        if self.how == "rows":
            return x, labels
        if self.how == "global":
            x = x + torch.randn(())
        if self.how == "memory":
            CALLS.append(1)
            x = x + len(CALLS)
        if self.how == "pixels":
            pixels.zero_()
        return torch.cat([x, x]), labels.repeat(2)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("rows", "made 4 rows and 4 labels of 4 images, expected 8 of each"),
        ("global", "batch() changed torch's global random state"),
        ("memory", "the same noise made two batches"),
        ("pixels", "batch() changed the examples of the data set"),
        ("a type", "batch() made inputs of torch.float32, the noise is torch.float64"),
    ],
)
def test_a_batch_with_a_fault_is_refused(how: str, said: str) -> None:
    with Noise(0).seeded():
        assert outcome(Batches(), "batch").held
        found = outcome(Batches(how=how), "batch")
    assert not found.held
    assert said in found.detail


@dataclass(frozen=True)
class Predicts(Local):
    """Losses of every module, and predictions of its own, with a fault."""

    how: str = ""

    def predictions(self, chain: Chain, x: Tensor) -> Tensor:
        found = chain(x)
        if self.how == "classes":
            return found[:, 1:]
        if self.how == "examples":
            return found - found.mean(0)
        if self.how == "memory":
            CALLS.append(1)
            return found + len(CALLS)
        return found


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("classes", "predictions() returned [4, 4], expected [4, 5]"),
        ("examples", "depends on the examples beside it"),
        ("memory", "gave two predictions for the same inputs"),
    ],
)
def test_predictions_with_a_fault_are_refused(how: str, said: str) -> None:
    assert outcome(Predicts(), "predictions").held
    found = outcome(Predicts(how=how), "predictions")
    assert not found.held
    assert said in found.detail


def test_an_end_that_is_no_objective_is_refused() -> None:
    @dataclass(frozen=True)
    class Ends(Local):
        weight: float = 1.0

        def end(self, chain: Chain) -> Objective:
            last = len(chain)
            found = Objective("end", (0, last), "final", tuple(range(last)))
            return replace(found, weight=self.weight)

    assert outcome(Ends(), "end").held
    assert "is not finite" in outcome(Ends(weight=float("nan")), "end").detail


def test_heads_that_never_move_are_found() -> None:
    class Dead(Auxiliary):
        def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
            return 0 * super().forward(f)

    @dataclass(frozen=True)
    class Idle(Greedy):
        def attach(self, chain: Chain) -> None:
            for k in range(len(chain) - 1):
                chain.put(f"local{k}", k, lambda have, n: Dead(n, 4, chain.classes))

    assert "it does not learn" in outcome(Idle(), "readouts").detail
    assert "move no parameter of the readout" in outcome(Idle(), "training").detail


def test_a_locality_that_supports_no_network_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "names", lambda kind: [])  # architectures that are tried last

    @dataclass(frozen=True)
    class Picky(Local):
        most: int = 99

        def supports(self, chain: Chain) -> str:
            return "" if len(chain) > self.most else "needs a long chain"

    made = registry.Made("mine", {}, Picky(), "")
    with pytest.raises(Fault, match=r"supports none of the networks, .*needs a long chain"):
        locality.attached(made, NETS, [])
    made = registry.Made("mine", {}, Picky(most=3), "")
    assert f"skipped on {NETS[1].name}" in locality.attached(made, NETS, [])


@pytest.mark.slow
def test_an_architecture_asked_for_is_checked_too() -> None:
    found = {o.check: o for o in check_locality("local", arch="mlp-2x3")}
    assert "(4 nets and localities)" in found["objectives"].detail
    with pytest.raises(UsageError, match="unknown architecture 'mlpp'"):
        check_locality("local", arch="mlpp")
    with pytest.raises(UsageError, match="local"):
        check_locality("locall")
