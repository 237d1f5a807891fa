"""Augmented views against a slow twin, image by image, and the laws of what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.data import augment as ours
from fgbench.data.augment import Policy, augment
from fgbench.localities.contrastive import FIRST, SECOND
from tests.twins import augment as twin

NOISE = Noise(4, ("views",), dtype=torch.float64)
EVERYTHING = Policy(0.08, 0.5, 0.5, gray=0.3, blur=0.5, solarise=0.5)
SHAPES = [(6, 3, 11, 21), (6, 1, 8, 8), (5, 2, 20, 9), (4, 3, 3, 9)]


def images(shape: tuple[int, ...]) -> Tensor:
    """Noise, with flat and grey pixels and the corners of the cube of colours among it."""
    x = Noise(0, dtype=torch.float64).draw("uniform", "x", 0, shape)
    x[:, :, 0, :2] = 0.5
    x[:, :, 1, :3] = torch.eye(3).view(3, 3)[: shape[1]]
    x[:, :, 2, 0], x[:, :, 2, 1] = 0.0, 1.0
    return x


def literal(x: Tensor, policy: Policy, noise: Noise, skip: str = "") -> Tensor:
    """The twin on each image, from the same named draws."""
    found = []
    for k, image in enumerate(x.tolist()):

        def u(name: str, k: int = k) -> float:
            return float(noise.draw("uniform", name, 0, (len(x), 1, 1, 1)).flatten()[k])

        order = noise.draw("uniform", "order", 0, (len(x), 4)).argsort(1)[k].tolist()
        if skip == "order":
            order = [0, 1, 2, 3]
        if (policy.area < 1 or policy.flip) and skip != "crop":
            image = twin.crop(image, policy.area, u)
        if u("flip") < policy.flip and skip != "flip":
            image = twin.mirror(image)
        if u("jitter") < policy.jitter:
            strengths = (policy.brightness, policy.contrast, policy.saturation, policy.hue)
            kept = tuple(
                0.0 if skip == n else s
                for n, s in zip(
                    ("brightness", "contrast", "saturation", "hue"), strengths, strict=True
                )
            )
            image = twin.colours(image, kept, order, u)  # type: ignore[arg-type]
        if u("gray") < policy.gray and skip != "gray":
            image = twin.without_colour(image)
        if u("blur") < policy.blur and skip != "blur":
            image = twin.blur(image, 0.1 + 1.9 * u("sigma"))
        if u("solarise") < policy.solarise and skip != "solarise":
            image = twin.solarise(image)
        found.append(image)
    return torch.tensor(found, dtype=x.dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("policy", [EVERYTHING, FIRST, SECOND, Policy()])
def test_every_view_is_the_literal_one(shape: tuple[int, ...], policy: Policy) -> None:
    x = images(shape)
    for step in range(2):
        noise = NOISE.at(step)
        found = augment(x, policy, noise)
        assert float((found - literal(x, policy, noise)).abs().max()) < 1e-12
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1


ALONE = {
    "crop": Policy(0.3),
    "flip": Policy(flip=0.5),
    "brightness": Policy(jitter=1, contrast=0, saturation=0, hue=0),
    "contrast": Policy(jitter=1, brightness=0, saturation=0, hue=0),
    "saturation": Policy(jitter=1, brightness=0, contrast=0, hue=0),
    "hue": Policy(jitter=1, brightness=0, contrast=0, saturation=0),
    "order": Policy(jitter=1),
    "gray": Policy(gray=0.5),
    "blur": Policy(blur=0.5),
    "solarise": Policy(solarise=0.5),
}


@pytest.mark.parametrize("part", ALONE)
def test_every_part_alone_is_the_literal_one_and_not_the_identity(part: str) -> None:
    x = images(SHAPES[0])
    found = augment(x, ALONE[part], NOISE)
    assert float((found - literal(x, ALONE[part], NOISE)).abs().max()) < 1e-12
    assert float((found - literal(x, ALONE[part], NOISE, skip=part)).abs().max()) > 1e-3


@pytest.mark.parametrize("shape", SHAPES[1:3])
def test_images_without_three_channels_keep_brightness_and_contrast(shape: tuple[int, ...]) -> None:
    x = images(shape)
    for part in ("saturation", "hue", "gray"):
        assert float((augment(x, ALONE[part], NOISE) - x).abs().max()) < 1e-12
    for part in ("brightness", "contrast"):
        assert float((augment(x, ALONE[part], NOISE) - x).abs().max()) > 1e-3


def test_images_have_draws_of_their_own() -> None:
    """Equal images become different ones, and one image's view does not depend on the others."""
    x = images((1, 3, 21, 20)).expand(40, -1, -1, -1)
    for policy in (ALONE["crop"], ALONE["brightness"], ALONE["hue"], EVERYTHING):
        assert len(augment(x, policy, NOISE).flatten(1).unique(dim=0)) == 40
    alone = augment(x, EVERYTHING, NOISE)
    other = x.clone()
    other[1:] = 1 - x[1:]
    assert torch.equal(augment(other, EVERYTHING, NOISE)[0], alone[0])
    assert torch.equal(augment(x, EVERYTHING, NOISE), alone)
    assert not torch.equal(augment(x, EVERYTHING, NOISE.at(1)), alone)


def test_a_crop_of_the_whole_is_the_image_and_crops_have_the_area_asked_for() -> None:
    """2000 crops at fixed draws: area within its range and uniform (KS at 1e-4 is 2.2/√n = .05)."""
    x = images((2000, 1, 4, 4))
    draws = ours._Draws(NOISE, 2000)
    rows, columns = ours._cropped(Policy(1.0), draws, 4, 4)
    torch.testing.assert_close(ours._along(x, rows, columns), x)
    at = torch.arange(40, dtype=torch.float64)
    looks = [(m.squeeze(1) @ at) for m in ours._cropped(Policy(0.2), draws, 40, 40)]
    heights, widths = (2 * (look[:, 30] - look[:, 10]) for look in looks)
    area = heights * widths / 40**2
    assert 0.2 - 1e-12 < float(area.min()) < float(area.max()) < 1 + 1e-12
    empirical = torch.linspace(0, 1, 2000, dtype=torch.float64)
    assert float((area.sort().values - 0.2 - 0.8 * empirical).abs().max()) < 0.05
    ratio = widths / heights
    assert 3 / 4 - 1e-12 < float(ratio.min()) < 0.8 < 1.2 < float(ratio.max()) < 4 / 3 + 1e-12


ODDS = {f.name: f.name for f in fields(Policy) if f.name in ("flip", "gray", "blur", "solarise")}


@pytest.mark.parametrize("part", [*ODDS, "jitter"])
def test_odds_are_those_asked_for(part: str) -> None:
    """1000 images, fixed seed; 4 standard deviations of a fair share of .2 are .05."""
    x = images((1000, 3, 20, 20))
    policy = replace(Policy(), **{part: 0.2})
    changed = (augment(x, policy, NOISE) != x).flatten(1).any(1).double().mean()
    assert abs(float(changed) - 0.2) < 0.05


# the locality's batch


def batch_of(text: str, pixels: Tensor, noise: Noise, data: Any) -> tuple[Tensor, Tensor]:
    locality = registry.make("localities", text).thing
    found: tuple[Tensor, Tensor] = locality.batch(pixels, torch.arange(len(pixels)), data, noise)
    return found


@pytest.fixture(scope="module")
def data() -> Any:
    return registry.make("datasets", "synthetic[size=20,channels=3]", data_dir=None).thing


CHOICES: dict[str, Callable[[int], Policy]] = {
    "contrastive": lambda v: replace((FIRST, SECOND)[v], area=0.08, flip=0.5),
    "contrastive-local[crop=0.3,flip=false]": lambda v: replace((FIRST, SECOND)[v], area=0.3),
    "contrastive[augment=crop]": lambda v: Policy(0.08, 0.5),
    "contrastive[augment=none]": lambda v: Policy(),
}


@pytest.mark.parametrize("text", CHOICES)
def test_a_batch_is_two_normalised_views(text: str, data: Any) -> None:
    pixels = data.train_x[:5]
    x, y = batch_of(text, pixels, NOISE, data)
    assert y.tolist() == [*range(5), *range(5)]
    mean, std = (torch.tensor(s, dtype=torch.float64).view(-1, 1, 1) for s in (data.mean, data.std))
    for v, view in enumerate(x.chunk(2)):
        want = augment(pixels.double() / data.peak, CHOICES[text](v), NOISE.child(f"view{v}"))
        torch.testing.assert_close(view, (want - mean) / std, rtol=1e-10, atol=1e-10)
    if "none" not in text:
        assert float((x[:5] - x[5:]).abs().max()) > 0.1
    assert batch_of(text, pixels, NOISE.at(0), data)[0].dtype == torch.float64
    single = Noise(4, ("views",))
    assert batch_of(text, pixels, single, data)[0].dtype == torch.float32
