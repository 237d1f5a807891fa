"""LocalMixer's options: values against loops over patches, exact unbiasedness, declarations, defaults."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.architectures.localmixer.blocks import NORMS
from fgbench.conformance import check_architecture
from fgbench.core.cost import CostCounter
from fgbench.core.network import untouched
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.errors import UsageError
from tests.makers.cases import mostly_slow
from tests.makers.networks import batch, build, orthonormal
from tests.twins import mixer_options as twin

# torch.func.jvp loads rules that torch itself still writes with torch.jit.script
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

# block 0: p = 144, 14 hidden, d = 5 in g = 2; block 1: p = 36, 10 come in, 42 hidden, d = 15 in g = 2;
# block 2: p = 9, 30 come in, 84 hidden, d = 10 in g = 6; b = 4, 11 classes, 6 pixels per patch
APART = (
    "localmixer[blocks=3,side=12,channels=10,hidden=14,groups=2,pool=2,channel_ratio=3 2,"
    "group_ratio=1 3{}]"
)
OPTIONS = {  # of a small net whose exact mean costs little
    "depthwise": "channels=6,groups=2,token=depthwise",
    "wide kernel": "channels=6,groups=2,token=depthwise,kernel=5",
    "hidden": "channels=6,groups=2,hidden=10",
    "pooled": "channels=6,groups=2,pool=2",
    "pooled by maximum": "channels=6,groups=2,pool=2,pool_kind=max",
    "more groups": "channels=12,groups=2,group_ratio=3",
    "more channels": "channels=6,groups=2,channel_ratio=3",
    "scores of tokens": "channels=6,groups=2,token_scores=patch",
    "no norms": "channels=6,groups=2,norms=",
    "scores of tokens without norms": "channels=6,groups=2,token_scores=patch,norms=begin",
    "all at once": "channels=6,groups=2,hidden=10,pool=2,channel_ratio=3,token=depthwise",
    "all, without norms after layers": (
        "channels=6,groups=2,hidden=10,pool=2,channel_ratio=3,norms=begin middle local final"
    ),
}
SHAPE, CLASSES, B = (2, 4, 16), 7, 3
LOCALITIES = ["end", "module", "local", "local-p", "local-pg"]


def small(options: str) -> str:
    return f"localmixer[blocks=2,side=4,{options}]"


def worst(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """Return the largest difference relative to the largest entry of the whole truth."""
    top = max(float(g.abs().max()) for g in truth.values())
    return max(float((found[name] - g).abs().max()) for name, g in truth.items()) / top


# values


@pytest.mark.parametrize(
    ("options", "kernel", "kind", "norms"),
    [
        ("", 0, "avg", NORMS),
        (",token=depthwise", 3, "avg", NORMS),
        (",token=depthwise,kernel=5,pool_kind=max", 5, "max", NORMS),
        (",norms=middle final", 0, "avg", ("middle", "final")),
        (",norms=begin post local,token=depthwise", 3, "max", ("begin", "post", "local")),
    ],
)
def test_values_are_the_loops(options: str, kernel: int, kind: str, norms: Any) -> None:
    """No two axes of a block have one size."""
    if kind == "max" and "max" not in options:
        options += ",pool_kind=max"
    shape = (3, 12, 24)
    chain = build(APART.format(options), "BP", shape, 11)[0].chain
    with torch.no_grad():  # biases start at zero and would hide their own sign
        for name, p in chain.named_parameters():
            p.add_(Noise(3, dtype=torch.float64).normal(name, tuple(p.shape)), alpha=0.05)
    params = {n: p.detach() for n, p in chain.named_parameters()}
    x, _ = batch(4, shape, 11)
    plan = twin.Plan((12, 6, 3), (2, 2, 6), (1, 2, 2), kernel, kind, frozenset(norms))
    want = twin.outputs(params, x.permute(0, 2, 3, 1), plan)
    assert [tuple(f.shape) for f in want] == [(4, 144, 2, 5), (4, 36, 2, 15), (4, 9, 6, 10)]
    with torch.no_grad():
        for k, f in chain.segments(x, 0, 3, untouched):
            torch.testing.assert_close(f, want[k], rtol=1e-11, atol=1e-12)
            read = chain.read(f"local{k}", f)
            expected = twin.logits(params, want, f"local{k}", plan.norms)
            torch.testing.assert_close(read, expected, rtol=1e-11, atol=1e-12)
        expected = twin.logits(params, want, "final", plan.norms)
        torch.testing.assert_close(chain(x), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("side", "stride"), [(6, 2), (6, 3), (8, 4), (5, 5), (4, 1)])
def test_windows_cover_the_grid(side: int, stride: int) -> None:
    """Every patch is seen by a window, whatever the stride; the pooled grid is side / stride."""
    arch = f"localmixer[blocks=2,side={side},channels=4,groups=2,pool={stride},norms=begin]"
    chain = build(arch, "BP", (1, side, side))[0].chain
    x = torch.ones(1, side**2, 2, 2, dtype=torch.float64, requires_grad=True)
    pooled = chain.body[1].pool(x.flatten(2))
    assert pooled.shape == (1, (side // stride) ** 2, 4)
    (grad,) = torch.autograd.grad(pooled.sum(), x)
    assert bool((grad > 0).all())


# exact unbiasedness


@cache
def setting(options: str, method: str) -> Any:
    return build(small(options), method, SHAPE, CLASSES)


@cache
def design(options: str, on: str) -> DesignedNoise:
    chain = setting(options, "fg_a/end")[0].chain
    if on == "sites":
        places = {n: (B, *s) for n, s in chain.shapes().items()}
    else:
        places = {n: tuple(p.shape) for n, p in chain.body_parameters().items()}
    found: DesignedNoise = orthonormal(places, per_example=on == "sites")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("locality", mostly_slow(list(LOCALITIES), 2))
@pytest.mark.parametrize("name", ["fg_a", "fg_w"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_forward_gradients_are_unbiased(options: str, name: str, locality: str) -> None:
    task, estimator, _ = setting(options, f"{name}/{locality}")
    x, y = batch(B, SHAPE, CLASSES)
    noise = design(options, "sites" if name == "fg_a" else "weights")
    found = task.estimate(x, y, estimator, noise).body
    assert worst(found, task.scheme_truth(x, y)) < 1e-10


def test_scores_of_the_wrong_patch_are_rejected() -> None:
    """Planted: token weights credited per input patch, whose columns move every output patch."""
    task, estimator, _ = setting(OPTIONS["scores of tokens"], "fg_w/module[keep=b p g]")
    x, y = batch(B, SHAPE, CLASSES)
    noise, truth = design(OPTIONS["scores of tokens"], "weights"), task.scheme_truth(x, y)
    assert worst(task.estimate(x, y, estimator, noise).body, truth) < 1e-10
    block = task.chain.body[1]
    before = block.param_axes
    try:
        block.param_axes = {**before, "l0.weight": "i p"}
        assert worst(task.estimate(x, y, estimator, noise).body, truth) > 1e-3
    finally:
        block.param_axes = before


def test_scores_of_tokens_are_less_noisy() -> None:
    """By the closed form: a row of the weight is credited with its own patch's score alone."""
    for locality, less in (("local-p", True), ("local-pg", True), ("local", False), ("end", False)):
        variance = []
        for options in ("channels=6,groups=2", OPTIONS["scores of tokens"]):
            task, estimator, _ = setting(options, f"fg_w/{locality}")
            x, y = batch(B, SHAPE, CLASSES)
            view = list(task.views(x, y, CostCounter()))[1 if "local" in locality else 0]
            variance.append(estimator.predicted_variance(view, {}))
        for name in variance[0]:
            summed, apart = (float(v[name]) for v in variance)
            if less and "1.l0" in name:
                assert apart < 0.5 * summed
            else:
                assert apart == pytest.approx(summed, rel=1e-12)


# declarations


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_are_what_they_declare(options: str) -> None:
    for blocks in (2, 3):
        if blocks == 3:  # the second gap as the first
            options = options.replace("pool=2", "pool=2 1").replace("ratio=3", "ratio=3 1")
        found = check_architecture(f"localmixer[blocks={blocks},side=4,{options}]")
        assert [f"{one.check}: {one.detail}" for one in found if not one.held] == []
        assert [one.detail for one in found if "warning" in one.detail] == []


# sizes


def made(text: str, shape: tuple[int, ...] = (3, 32, 32), classes: int = 10) -> Any:
    with torch.device("meta"):
        return registry.make("architectures", text, shape=shape, classes=classes).thing


@pytest.mark.parametrize(
    ("text", "trunk", "heads"),
    [
        # (48·128 + 128) + (16·8·8 + 128) + 3·[(64² + 64) + (128² + 128) + (16·8·8 + 128)]
        ("xs/8/16", 7_424 + 3 * 21_824, [1290] * 5),
        # a kernel of 9 and a bias per channel in the place of (64² + 64)
        ("xs/8/16[token=depthwise]", 7_424 + 3 * (21_824 - 4_160 + 1_280), [1290] * 5),
        ("xs/8/16[token_scores=patch]", 7_424 + 3 * 21_824, [1290] * 5),
        # hidden 1024 on M/8/16: (48·1024 + 1024) + (16·64·32 + 512), then 512·1024 + 1024 each
        (
            "m/8/16[hidden=1024]",
            50_176 + 33_280 + 3 * (4_160 + 525_312 + 33_280),
            [5_130] * 5,
        ),
        # 8, 4, 2, 1 patches per side; 128, 256, 512, 1024 channels in 16, 32, 64, 128 groups of 8
        (
            "xs/8/16[pool=2,channel_ratio=2,group_ratio=2]",
            7_424
            + (16**2 + 16 + 128 * 256 + 256 + 32 * 64 + 256)
            + (4**2 + 4 + 256 * 512 + 512 + 64 * 64 + 512)
            + (1 + 1 + 512 * 1024 + 1024 + 128 * 64 + 1024),
            [1_290, 2_570, 5_130, 10_250, 10_250],
        ),
    ],
)
def test_parameter_counts(text: str, trunk: int, heads: list[int]) -> None:
    chain = made(f"localmixer-{text}")
    assert sum(p.numel() for p in chain.body.parameters()) == trunk
    assert [sum(p.numel() for p in h.parameters()) for h in chain.readouts.values()] == heads


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("pool=3", "pool=3 does not divide the 4 patches per side before block 1"),
        ("pool=2 3", "pool=3 does not divide the 2 patches per side before block 2"),
        ("pool=2 2 2", "pool='2 2 2': expected .* or one for each of the 2 gaps"),
        ("pool=0", "pool='0': expected a whole number from 1 up"),
        ("channel_ratio=two", "channel_ratio='two': expected a whole number from 1 up"),
        ("group_ratio=", "group_ratio='': expected a whole number from 1 up"),
        ("blocks=1,pool=2", "pool='2': expected .* the 0 gaps"),
        ("group_ratio=1 5", "10 groups do not divide 12 channels in block 2"),
        ("hidden=14,group_ratio=3", "6 groups do not divide 14 hidden channels in block 1"),
        ("hidden=7", "2 groups do not divide 7 hidden channels$"),
        ("hidden=0", "hidden='0'"),
        ("groups=12", "12 groups have one channel each"),
        ("group_ratio=6 1,norms=local", "12 groups have one channel each"),
        ("hidden=2", "2 groups have one channel each"),
        ("token=depthwise,kernel=4", "kernel=4: expected an odd number"),
        ("kernel=1", "kernel='1'"),
        ("token=depthwse", "'depthwse'.*'full' or 'depthwise'"),
        ("token=depthwise,token_scores=patch", "token_scores=patch needs token=full"),
        ("norms=begin midle", "unknown norm of localmixer 'midle'; did you mean 'middle'"),
        ("pool_kind=mean", "'mean'.*'avg' or 'max'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: str, words: str) -> None:
    base = {"blocks": "3", "side": "4", "channels": "12", "groups": "2"}
    base |= dict(one.split("=") for one in options.split(","))
    text = ",".join(f"{k}={v}" for k, v in base.items())
    with pytest.raises(UsageError, match=words) as caught:
        made(f"localmixer[{text}]", (1, 8, 8))
    assert "\n" not in str(caught.value)


# defaults


def test_defaults_draw_what_they_always_drew() -> None:
    """Layer after layer from one generator, heads last: the order is part of every record."""
    with Noise(3).child("init").seeded():
        chain = registry.make(
            "architectures", "localmixer-xs/2/4", shape=(1, 8, 8), classes=7
        ).thing
    with Noise(3).child("init").seeded():
        shapes = [(64, 16), (4, 16, 16), (4, 4), (64, 64), (4, 16, 16), (7, 64), (7, 64)]
        drawn = [0.1 * torch.randn(s) for s in shapes]  # 2/√fan_in is above 0.1 throughout
    weights = [p for n, p in chain.named_parameters() if n.endswith("weight")]
    assert len(weights) == len(shapes) + 1
    for p, w in zip(weights, drawn, strict=False):
        assert torch.equal(p.detach(), w)
    assert not weights[-1].any()  # drawn and set to zero


RECORDED = {  # sums of |parameters| and of each local head's squared logits, before there were options
    ("localmixer-xs/1/1", (1, 8, 8)): (690.4037619130795, [16.13572813579045]),
    ("localmixer-xs/2/4", (1, 8, 8)): (644.2532699538133, [5.387810901414438, 3.3294240118906058]),
    ("localmixer-xs/4/8", (3, 8, 12)): (
        1008.9506462346308,
        [1.171637657346755, 0.8704631749063458, 1.6436759840916744],
    ),
    ("localmixer-m/8/16", (3, 32, 32)): (
        64652.62897470558,
        [6.069262267707674, 2.4773315786843195, 4.907320518783804, 1.3954211890840926],
    ),
    ("localmixer[blocks=3,side=2,channels=12,groups=3,init=lecun]", (2, 4, 6)): (
        64.66532356965399,
        [0.8310702516365516, 1.3232161885758376, 0.9392765445265816],
    ),
}


@pytest.mark.parametrize(("name", "shape"), RECORDED)
def test_defaults_are_as_recorded(name: str, shape: tuple[int, ...]) -> None:
    """To 1e-6: torch's own normals may differ in their last bit between processors."""
    parameters, heads = RECORDED[name, shape]
    with Noise(3).child("init").seeded():
        chain = registry.make("architectures", name, shape=shape, classes=7).thing.double()
    x = Noise(1).normal("x", (4, *shape)).double()
    found = sum(float(p.detach().abs().sum()) for p in chain.parameters())
    assert found == pytest.approx(parameters, rel=1e-6)
    with torch.no_grad():
        for k, f in chain.segments(x, 0, len(chain), untouched):
            squares = float(chain.read(f"local{k}", f).square().sum())
            assert squares == pytest.approx(heads[k], rel=1e-6)
