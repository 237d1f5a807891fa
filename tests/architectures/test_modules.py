"""The built-in networks that are ordinary modules: shapes, published sizes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fgbench import registry
from fgbench.core.wrapping import Network
from fgbench.errors import UsageError

IMAGES = {"shape": (3, 32, 32), "classes": 10, "outputs": (10,), "vocabulary": None}
TEXT = {"shape": (16,), "classes": 7, "outputs": (16, 7), "vocabulary": None}


def network(text: str, **sizes: Any) -> Network:
    """Make a network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = registry.make("architectures", text, offered={**IMAGES, **sizes}).thing
    assert isinstance(made, Network)
    return made


def size(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("text", "shape", "classes", "expected"),
    [
        ("resnet-20", (3, 32, 32), 10, 269_722),  # 0.27 M (He et al. 2016, table 6)
        ("resnet-56", (3, 32, 32), 10, 853_018),  # 0.85 M
        ("resnet-110", (3, 32, 32), 10, 1_727_962),  # 1.7 M
        ("resnet-18[groups=32]", (3, 224, 224), 1000, 11_689_512),  # torchvision, timm
        ("resnet-34[groups=32]", (3, 224, 224), 1000, 21_797_672),
        ("resnet-18", (3, 32, 32), 10, 11_173_962),  # with the stem for small images
        ("vit-tiny", (3, 224, 224), 1000, 5_717_416),  # DeiT-Ti, timm vit_tiny_patch16_224
        ("vit-small", (3, 224, 224), 1000, 22_050_664),
    ],
)
def test_networks_for_images_have_the_published_sizes(
    text: str, shape: tuple[int, ...], classes: int, expected: int
) -> None:
    assert size(network(text, shape=shape, classes=classes).module) == expected


@pytest.mark.parametrize("text", ["resnet-8[width=8]", "resnet-18[width=8]", "vit-1x8"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 64)])
def test_networks_for_images_read_small_and_large_ones(text: str, shape: tuple[int, ...]) -> None:
    module = network(text, shape=shape, classes=5).module
    assert module(torch.zeros(2, *shape)).shape == (2, 5)


def test_gpt_has_the_size_of_gpt_2_but_for_its_head() -> None:
    module = network("gpt-1x768[heads=12]", **TEXT).module
    block, words, places = (size(module.get_submodule(n)) for n in ("blocks", "token", "head"))
    assert words == places == 7 * 768
    assert size(module) == block + 2 * words + 16 * 768 + 2 * 768
    assert 12 * block + (50_257 + 1024 + 2) * 768 == 124_439_808  # GPT-2, whose head is tied


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_recurrent_layers_have_their_gates(kind: str, gates: int) -> None:
    module = network(f"{kind}-2x8", **TEXT).module
    assert size(module.get_submodule("layers")) == 2 * gates * (2 * 8 * 8 + 2 * 8)


@pytest.mark.parametrize("text", ["gpt-2x8", "lstm", "gru-2x8", "rnn"])
def test_tokens_are_predicted_one_by_one_or_a_text_as_a_whole(text: str) -> None:
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    assert network(text, **TEXT).module(tokens).shape == (2, 16, 7)
    whole = network(text, **{**TEXT, "outputs": (2,), "classes": 2, "vocabulary": 7}).module
    assert whole(tokens).shape == (2, 2)
    assert whole.get_submodule("token").weight.shape[0] == 7


@pytest.mark.parametrize("text", ["lstm", "gru", "rnn-2x8"])
def test_recurrent_networks_read_numbers_and_images_by_steps(text: str) -> None:
    numbers = network(text, shape=(20, 2), classes=1, outputs=(1,)).module
    assert numbers(torch.zeros(3, 20, 2)).shape == (3, 1)
    rows = network(text).module
    assert rows(torch.zeros(3, 3, 32, 32)).shape == (3, 10)


def test_a_perceptron_for_equations_is_no_mlp() -> None:
    module = network("mlp-pinn-4x8", shape=(2,), classes=1).module
    assert size(module) == 2 * 8 + 8 + 3 * (8 * 8 + 8) + 9
    assert module(torch.zeros(5, 2)).shape == (5, 1)
    x = torch.zeros(5, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    assert bool(torch.autograd.grad(slope.sum(), x)[0].isfinite().all())


@pytest.mark.parametrize(("text", "sizes"), [("gpt-2x8[lora=2]", TEXT), ("vit-1x8[lora=2]", {})])
def test_adapters_and_the_head_learn_and_all_else_is_frozen(text: str, sizes: Any) -> None:
    module = network(text, **sizes).module
    learn = {name for name, p in module.named_parameters() if p.requires_grad}
    assert all(name.startswith("head") or ".down." in name or ".up." in name for name in learn)
    layers = [m for m in module.get_submodule("blocks").modules() if hasattr(m, "down")]
    assert len(layers) == 4 * len(module.get_submodule("blocks"))
    assert {m.down.weight.shape[0] for m in layers} == {2}


def test_adapters_change_nothing_at_first() -> None:
    sizes = {"shape": (6,), "classes": 5, "outputs": (6, 5)}
    plain, adapted = (network(f"gpt-1x8{lora}", **sizes).module for lora in ("", "[lora=2]"))
    x = torch.tensor([[0, 1, 2, 3, 4, 0]])
    assert torch.equal(plain(x), adapted(x))


def test_gpt_is_causal_and_vit_is_not() -> None:
    gpt = network("gpt-2x8", shape=(6,), classes=5, outputs=(6, 5)).module
    vit = network("vit-2x8", shape=(1, 8, 8), classes=5).module
    x, image = torch.tensor([[0, 3, 1, 4, 2, 0]]), torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    later, corner = x.clone(), image.clone()
    later[0, 4] = (x[0, 4] + 1) % 5
    corner[0, 0, 7, 7] += 1.0
    same = torch.isclose(gpt(x), gpt(later), atol=1e-6).all(2)[0]
    assert same.tolist() == [True] * 4 + [False] * 2
    assert not torch.allclose(vit(image), vit(corner))


@pytest.mark.parametrize(
    ("text", "sizes", "told"),
    [
        ("resnet-19", {}, r"18 or 34 .* 6 n \+ 2"),
        ("resnet-20[width=12]", {}, "width 12 is no multiple of its 8 groups"),
        ("vit-2x16[patch=5]", {}, "not cut by patches of 5"),
        ("vit-2x16[heads=3]", {}, "no multiple of its 3 heads"),
        ("vit-2x16", {"shape": (20,)}, r"reads images of shape \(ch, H, W\)"),
        ("gpt-2x16[heads=3]", TEXT, "no multiple of its 3 heads"),
        ("gpt-2x16", {}, r"reads tokens of shape \(t,\)"),
        ("resnet-20", {"shape": (20,)}, r"reads images of shape \(ch, H, W\)"),
        ("gpt-2y16", TEXT, "unknown architecture 'gpt-2y16'; expected gpt or gpt-LAYERSxWIDTH"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(text: str, sizes: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        network(text, **sizes)
