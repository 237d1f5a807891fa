"""Masks of weights."""

from __future__ import annotations

import pytest
import torch

from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.masks import mask
from fgbench.errors import UsageError

NOISE = Noise(0)
WEIGHTS = {"w": NOISE.normal("w", (6, 7)), "k": NOISE.normal("k", (4, 2, 3)), "b": torch.ones(6)}


@pytest.mark.parametrize("keep", [0.01, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["small", "large", "random"])
def test_so_many_weights_of_every_matrix_are_kept(kind: str, keep: float) -> None:
    chosen = mask(f"{kind}[keep={keep}]")
    assert chosen is not None
    masks = chosen.of(WEIGHTS, NOISE)
    assert masks.keys() == {"w", "k"}  # vectors are never masked
    for name, m in masks.items():
        assert int(m.sum()) == max(1, round(keep * m.numel()))
        assert m.shape == WEIGHTS[name].shape
    shares = chosen.shares(WEIGHTS)
    assert float(shares["b"]) == 1.0
    assert float((shares["w"] + 0 * WEIGHTS["w"]).sum()) == pytest.approx(float(masks["w"].sum()))


def test_the_smallest_and_the_largest_are_kept() -> None:
    size = WEIGHTS["w"].abs()
    for kind in ("small", "large"):
        m = mask(f"{kind}[keep=0.25]").of(WEIGHTS, None)["w"].bool()  # type: ignore[union-attr]
        kept, left = size[m], size[~m]
        assert (kept.max() < left.min()) if kind == "small" else (kept.min() > left.max())


def test_equal_sizes_stay_together() -> None:
    m = mask("small[keep=0.25]").of({"w": torch.tensor([[1.0, -1.0], [1.0, 2.0]])}, None)["w"]  # type: ignore[union-attr]
    assert m.tolist() == [[1.0, 1.0], [1.0, 0.0]]


def test_a_random_choice_lives_for_its_steps() -> None:
    chosen = mask("random[keep=0.5,every=10]")
    assert chosen is not None
    found = [chosen.of(WEIGHTS, NOISE.at(step))["w"] for step in (10, 19, 20)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    draws = [chosen.of(WEIGHTS, NOISE.at(10).redrawn(k))["w"] for k in range(2)]
    assert not torch.equal(draws[0], draws[1])


def test_what_does_not_fit_is_one_line() -> None:
    assert mask("") is None
    for text, said in {
        "smal[keep=0.5]": "unknown mask 'smal'; did you mean 'small'?",
        "small[kep=0.5]": "unknown option of mask=small 'kep'; did you mean 'keep'?",
        "small[every=2]": "unknown option of mask=small 'every'",
        "small[keep=0]": "mask=small: keep is a share above 0 and at most 1, got 0",
        "large[keep=nan]": "mask=large: keep is a share above 0 and at most 1, got nan",
        "random[keep=x]": "mask=random: keep is a share above 0 and at most 1, got x",
        "random[every=0]": "mask=random: every is a whole number from 1 up, got 0",
    }.items():
        with pytest.raises(UsageError) as caught:
            mask(text)
        assert str(caught.value).startswith(said)
