"""Every registered architecture is what it declares, and every check rejects a planted fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench import registry
from fgbench.architectures import localmixer
from fgbench.conformance import Outcome, check_architecture
from fgbench.conformance.architecture import examine_chain, pulls, taps
from fgbench.conformance.mixing import mixing
from fgbench.conformance.nets import CONVOLUTIONS, OPAQUE, SEED, filled
from fgbench.conformance.outcome import Fault, NotJudged
from fgbench.conformance.structure import check_structure
from fgbench.core.network import Chain, LinearReadout, LocalModule, Site, Tap, untouched
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.workload import Workload

torch.set_num_threads(1)

SMALL = {  # sizes of axes all differ; what is not listed is checked with its defaults
    "cnn": "cnn[width=8]",
    "gpt": "gpt-2x6[heads=2]",
    "gru": "gru-2x5",
    "localmixer": "localmixer[blocks=3,side=2,channels=12,groups=3]",
    "lstm": "lstm-1x5",
    "mlp": "mlp-2x7",
    "mlp-pinn": "mlp-pinn-2x5",
    "resnet": "resnet-8[width=4,groups=2]",
    "rnn": "rnn-1x5",
    "vit": "vit-2x6[heads=2]",
}
DATA = {"gpt": "copy[symbols=4,length=3,delay=2,train=8,test=4]"}  # of networks that read no images


def wrong(outcomes: list[Outcome]) -> list[str]:
    """Everything that did not hold."""
    return [f"{one.check}: {one.detail}" for one in outcomes if not one.held]


@pytest.mark.parametrize("name", registry.entries("architectures"))
def test_every_registered_architecture_is_what_it_declares(name: str) -> None:
    text = SMALL.get(name, name)
    workload = Workload.of(text, DATA[name]) if name in DATA else None
    small = {} if name in ("cnn", "localmixer", "mlp") else {"shape": (2, 4, 6)}
    found = check_architecture(text, workload=workload, **small)
    assert wrong(found) == []
    slow = [
        one.detail for one in found if one.check.startswith("slopes") and "warning" in one.detail
    ]
    assert slow == []  # a call without a rule of its own
    checks = {o.check for o in found}
    assert {"pulls", "slopes along weights", "examples apart", "readouts"} <= checks
    assert {"taps", "mixing in module 0"} <= checks or {"parameters", "reach in module 0"} <= checks


@pytest.mark.parametrize(
    "text",
    [
        "localmixer-xs/4/8",
        "localmixer-xs/8/16",
        "cnn-small",
        "mlp-3x256",
        "mlp-2x7[activation=gelu]",
    ],
)
def test_sizes_that_are_used_are_what_they_declare(text: str) -> None:
    found = check_architecture(text)
    assert wrong(found) == []
    assert not any("warning" in one.detail for one in found)


@pytest.mark.parametrize("net", [CONVOLUTIONS, OPAQUE])
def test_the_nets_of_the_estimator_checks_are_what_they_declare(net: Any) -> None:
    noise = Noise(SEED, dtype=torch.float64)
    found = examine_chain(net.build(noise), noise)
    assert wrong(found) == []
    blind = [one.check for one in found if "torch.func.jvp sees no tangent" in one.detail]
    lost = ["slopes along activities", "slopes along weights"]  # torch loses them at a custom_op
    assert blind == (lost if net == OPAQUE else [])


def test_a_shape_that_does_not_fit_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="patches per side do not divide"):
        check_architecture("localmixer-m/8/16", shape=(1, 10, 10))


# ---- planted faults in declarations --------------------------------------------------------------


def mixer(**changed: Any) -> Chain:
    """A LocalMixer whose later blocks declare something else."""
    noise = Noise(SEED, dtype=torch.float64)
    with noise.seeded():
        chain = localmixer.localmixer(
            shape=(3, 4, 6), classes=5, blocks=2, side=2, channels=12, groups=3
        )
    for name, value in changed.items():
        setattr(chain.body[1], name, value)
    return filled(Chain(list(chain.body), dict(chain.readouts), (3, 4, 6), 5).double(), noise)


def blocks(**first: str) -> tuple[Site, ...]:
    """The sites of a later block, the first one declared differently."""
    declared = {
        "axes": "b p (g d)",
        "mixed_after": "g d",
        "op_mixes": "g d",
        "shared": "g d",
        **first,
    }
    return (Site("l0", **declared), *localmixer.Block.sites[1:])


PARAMS = localmixer.Block.param_axes
MISDECLARED: dict[str, tuple[dict[str, Any], str]] = {
    "a site": (
        {"sites": blocks(mixed_after="")},
        "g mixes from site l0 to the output, declared ''",
    ),
    "units of a group": (
        {"sites": blocks(mixed_after="g")},
        "d mixes from site l0 to the output, declared 'g'",
    ),
    "a norm over all channels": (
        {"sites": blocks(op_mixes="")},
        "g mixes from op l0 to site l0, declared ''",
    ),
    "the module": ({"mixes": "g d"}, "p mixes from the input to the output, declared 'g d'"),
    "axes of a site": (
        {"sites": (blocks()[0], blocks()[1], Site("l2", "b p d g", op_mixes="d", shared="p"))},
        "axes d have size 3, but",
    ),
    "transposed parts": (
        {"sites": blocks(axes="b p (d g)", mixed_after="d", op_mixes="d g")},
        "g mixes",
    ),
    "axes of a parameter": (
        {"param_axes": {**PARAMS, "l0.weight": "i p"}},
        "p mixes from parameter l0.weight to the output",
    ),
    "a norm before a parameter": (
        {
            "sites": (blocks()[0], Site("l1", "b p (g d)", "d", shared="p"), blocks()[2]),
        },
        "g mixes from parameter l1.weight to the output",
    ),
    "a parameter without a site": (
        {"param_axes": {**PARAMS, "l3.weight": "g d i"}},
        "'l3.weight', which is no parameter of a site",
    ),
    "composed output axes": ({"out_axes": "b p (g d)"}, "out_axes 'b p (g d)'"),
}


@pytest.mark.parametrize("fault", MISDECLARED)
def test_a_wrong_declaration_is_rejected(fault: str) -> None:
    changed, said = MISDECLARED[fault]
    found = examine_chain(mixer(**changed), Noise(0, dtype=torch.float64))
    assert [one.check for one in found if not one.held] == ["mixing in module 1"]
    assert said in found[-2].detail
    assert (found[-1].check, found[-1].judged) == ("shared weights in module 1", False)


UNSHARED = {
    "patches in place of channels": (blocks(shared="p"), "along p, declared 'p'"),
    "a shared axis undeclared": (blocks(shared="g"), "op l0 shares its weights along d"),
    "an axis declared in vain": (blocks(shared="p g d"), "op l0 has weights of its own along p"),
}


@pytest.mark.parametrize("fault", UNSHARED)
def test_wrongly_declared_sharing_is_rejected(fault: str) -> None:
    sites, said = UNSHARED[fault]
    found = examine_chain(mixer(sites=sites), Noise(0, dtype=torch.float64))
    assert [one.check for one in found if not one.held] == ["shared weights in module 1"]
    assert any(said in one.detail for one in found)


@pytest.mark.parametrize(("op_mixes", "held"), [("g d", True), ("g", False), ("", False)])
def test_a_norm_over_channels_of_unknown_groups_is_seen(op_mixes: str, held: bool) -> None:
    """Its input has half the channels, so nothing says which of them would make a group."""
    noise = Noise(0, dtype=torch.float64)
    with noise.seeded():
        chain = localmixer.localmixer(
            shape=(3, 4, 6), classes=5, blocks=2, side=2, channels=12, groups=3, channel_ratio="2"
        )
    chain.body[1].sites = blocks(op_mixes=op_mixes)
    chain = filled(Chain(list(chain.body), dict(chain.readouts), (3, 4, 6), 5).double(), noise)
    said = wrong(examine_chain(chain, noise))
    expected = f"mixing in module 1: gd mixes from op l0 to site l0, declared {op_mixes!r}"
    assert said == ([] if held else [expected])


def test_what_is_right_is_not_rejected_and_what_is_vain_is_a_warning() -> None:
    noise = Noise(0, dtype=torch.float64)
    found = examine_chain(mixer(), noise)
    assert wrong(found) == []
    assert not any("warning" in one.detail for one in found)
    vain = (*blocks()[:2], Site("l2", "b p g d", mixed_after="p g", op_mixes="d", shared="p"))
    found = examine_chain(mixer(sites=vain), noise)
    assert wrong(found) == []
    (detail,) = (one.detail for one in found if one.check == "mixing in module 1")
    assert "declared mixed in vain" in detail
    assert "p from site l2 to the output, g from site l2 to the output" in detail


# ---- planted faults in modules -------------------------------------------------------------------


class Free(LocalModule):
    """Two layers with whatever ``run`` does to them."""

    sites = (Site("l0", "b c", mixed_after="c"), Site("l1", "b c"))
    mixes = "c"

    def __init__(self, run: Callable[..., Tensor], inputs: int, **parts: nn.Module) -> None:
        super().__init__()
        self.l0, self.l1 = nn.Linear(inputs, 6), nn.Linear(6, 4)
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        return self.run(self, x.flatten(1), tap)


def layer(module: Any, name: str, x: Tensor, tap: Tap) -> Tensor:
    z = tap("site", name, tap("op", name, getattr(module, name)(x)))
    return tap("out", name, torch.tanh(z))


def fine(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return layer(module, "l1", layer(module, "l0", x, tap), tap)


def branching(module: Any, x: Tensor, tap: Tap) -> Tensor:
    h = layer(module, "l0", x, tap)
    return layer(module, "l1", 2 * h if isinstance(h, Tensor) else h, tap)


def straight_through(module: Any, x: Tensor, tap: Tap) -> Tensor:
    h = layer(module, "l0", x, tap)
    return layer(module, "l1", h + FakeGradient.apply(h), tap)


class FakeGradient(torch.autograd.Function):
    """Zero forward, a gradient of its own backward."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return h * 0

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def over_examples(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return fine(module, x - x.mean(0), tap)


def batch_norm(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return fine(module, module.bn(x), tap)


def dropping(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return fine(module, F.dropout(x, 0.5), tap)


def another_under_a_tap(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return fine(module, x if tap.tap is untouched else x + 1e-6, tap)


def silent(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return layer(module, "l1", torch.tanh(tap("site", "l0", module.l0(x))), tap)


def twice(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return fine(module, x, tap) + fine(module, x, tap)


def unannounced(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return tap("out", "l2", fine(module, x, tap))


def ignoring(module: Any, x: Tensor, tap: Tap) -> Tensor:
    z = module.l0(x)
    tap("op", "l0", z)
    h = tap("out", "l0", torch.tanh(tap("site", "l0", z)))
    return layer(module, "l1", h, tap)


def bypassing(module: Any, x: Tensor, tap: Tap) -> Tensor:
    z = tap("site", "l0", tap("op", "l0", module.l0(x)))
    h = tap("out", "l0", torch.tanh(z))
    return layer(module, "l1", h + z, tap)


def trained_by_none(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return module.after(fine(module, x, tap))


def sorted_units(module: Any, x: Tensor, tap: Tap) -> Tensor:
    return fine(module, torch.logcumsumexp(x, 1), tap)


FAULTS: dict[str, tuple[Callable[..., Tensor], dict[str, nn.Module], str, str]] = {
    "isinstance(x, Tensor)": (branching, {}, "slopes along activities", "the value under forward"),
    "an autograd Function": (straight_through, {}, "slopes along activities", "autograd.Function"),
    "a mean over examples": (over_examples, {}, "examples apart", "depends on example"),
    "batch norm in training": (
        batch_norm,
        {"bn": nn.BatchNorm1d(6)},
        "a function of its input",
        "changes buffer body.0.bn.",
    ),
    "dropout": (dropping, {}, "a function of its input", "draws from the global generator"),
    "another value under a tap": (another_under_a_tap, {}, "a function of its input", "two passes"),
    "a tap that is missing": (silent, {}, "taps", "fired site"),
    "a tap that fires twice": (twice, {}, "taps", "fired op, site, out, op"),
    "a tap without a site": (unannounced, {}, "taps", "no declared site: out body.0.l2"),
    "what the tap returns": (ignoring, {}, "mixing in module 0", "returns at op l0 is not used"),
    "a way round the out tap": (bypassing, {}, "pulls", "from body.0.l1 reaches site body.0.l0"),
    "a parameter after every site": (
        trained_by_none,
        {"after": nn.Linear(4, 4)},
        "pulls",
        "body.0.after.weight is reached from no site",
    ),
}


PAIR = Noise(1).normal("x", (2, 2, 3))


def chain_of(run: Callable[..., Tensor], **parts: nn.Module) -> Chain:
    with Noise(SEED).seeded():
        body: list[LocalModule] = [Free(run, 6, **parts), Free(fine, 4)]
        return Chain(body, {"final": LinearReadout("b c", 4, 3)}, (2, 3), 3).double()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_module_is_rejected(fault: str) -> None:
    run, parts, check, said = FAULTS[fault]
    found = examine_chain(chain_of(run, **parts), Noise(0, dtype=torch.float64))
    assert any(one.startswith(f"{check}: ") and said in one for one in wrong(found)), wrong(found)


STRUCTURE = ("examples apart", "a function of its input", "taps", "pulls", "mixing in module 0")


def structure(run: Callable[..., Tensor], **parts: nn.Module) -> None:
    with Noise(SEED).seeded():
        check_structure(chain_of(run, **parts).float(), PAIR)


@pytest.mark.parametrize("fault", [name for name, one in FAULTS.items() if one[2] in STRUCTURE])
def test_what_makes_every_number_wrong_is_found_before_a_run(fault: str) -> None:
    run, parts, _, said = FAULTS[fault]
    with pytest.raises(Fault, match=re.escape(said.removeprefix("returns at op "))):
        structure(run, **parts)


def test_a_wrong_parameter_is_named_with_its_call() -> None:
    line = trained_by_none.__code__.co_firstlineno + 1
    called = rf"linear \(test_architecture\.py:{line}\) uses it outside every site"
    with Noise(SEED).seeded():
        after = nn.Linear(4, 4)
    with pytest.raises(Fault, match=called):
        structure(trained_by_none, after=after)
    with pytest.raises(Fault, match=r"body\.0\.idle\.weight .* no call uses it"):
        structure(fine, idle=after)


def test_the_module_without_a_fault_passes() -> None:
    check_structure(chain_of(fine).float(), PAIR)
    found = examine_chain(chain_of(fine), Noise(0, dtype=torch.float64))
    assert wrong(found) == []


class Flat(LocalModule):
    """No site and no parameter."""

    mixes = "c"

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        return x.flatten(1).flip(1)


def test_what_has_nothing_to_test_is_not_judged() -> None:
    with Noise(SEED).seeded():
        chain = Chain([Flat()], {"final": LinearReadout("b c", 6, 3)}, (2, 3), 3)
    check_structure(chain, PAIR)
    chain.double()
    for name, check in {
        "no site is declared": lambda: taps(chain, PAIR.double()),
        "no module has a parameter": lambda: pulls(chain, PAIR.double()),
        "no place has an axis in common": lambda: mixing(chain, 0, PAIR.double()),
    }.items():
        with pytest.raises(NotJudged, match=name):
            check()


class OverExamples(LinearReadout):
    """Centres the examples before it reads them: its losses are fine, its predictions are not."""

    def forward(self, f: Tensor, tap: Tap = untouched) -> Tensor:
        return super().forward(f - f.mean(0), tap)


def test_a_readout_over_examples_is_rejected() -> None:
    chain = chain_of(fine)
    with Noise(SEED).seeded():
        chain.readouts["local0"] = OverExamples("b c", 4, 3).double()
    found = wrong(examine_chain(chain, Noise(0, dtype=torch.float64)))
    assert len(found) == 1
    assert found[0].startswith("readouts: ")
    assert "the prediction of readout local0 of example 0 depends on example" in found[0]


def test_a_tied_weight_is_rejected() -> None:
    chain = chain_of(fine)
    chain.body[1].l1.weight = nn.Parameter(chain.body[1].l1.weight)  # its own
    assert wrong(examine_chain(chain, Noise(0, dtype=torch.float64))) == []
    chain.body[1].l1.weight = chain.body[0].l1.weight
    with pytest.raises(Fault, match="are one parameter"):
        check_structure(chain.float(), PAIR)
    chain.double()
    found = wrong(examine_chain(chain, Noise(0, dtype=torch.float64)))
    assert any("body.0.l1.weight, body.1.l1.weight are one parameter" in one for one in found)


def test_a_call_without_a_rule_is_a_warning() -> None:
    found = examine_chain(chain_of(sorted_units), Noise(0, dtype=torch.float64))
    assert wrong(found) == []
    (slopes,) = (one for one in found if one.check == "slopes along activities")
    assert "warning" not in slopes.detail  # nothing moves before the first site of the first module
    chain = chain_of(fine)
    chain.body[1].run = sorted_units
    found = examine_chain(chain, Noise(0, dtype=torch.float64))
    assert wrong(found) == []
    (slopes,) = (one for one in found if one.check == "slopes along activities")
    assert "exact but slow without a rule: logcumsumexp ×1" in slopes.detail
