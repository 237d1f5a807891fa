"""The augmentations, literally: one image, one pixel at a time, in plain Python numbers."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from math import exp, floor, log, sqrt

Image = list[list[list[float]]]  # [channel][row][column]
Draw = Callable[[str], float]  # a uniform number by name


def size(x: Image) -> tuple[int, int, int]:
    return len(x), len(x[0]), len(x[0][0])


def each(x: Image, change: Callable[[int, int, int], float]) -> Image:
    channels, height, width = size(x)
    return [
        [[change(c, i, j) for j in range(width)] for i in range(height)] for c in range(channels)
    ]


def clip(v: float) -> float:
    return min(max(v, 0.0), 1.0)


def crop(x: Image, least: float, u: Draw) -> Image:
    _, height, width = size(x)
    area = least + (1 - least) * u("area")
    low, high = max(3 / 4, area * width / height), min(4 / 3, width / (area * height))
    if low > high:  # no allowed shape fits: the nearest that does
        low = high = area * width / height if low > 4 / 3 else width / (area * height)
    ratio = exp(log(low) + u("ratio") * (log(high) - log(low)))
    h, w = sqrt(area * height * width / ratio), sqrt(area * height * width * ratio)
    top, left = u("top") * (height - h), u("left") * (width - w)

    def look(c: int, i: int, j: int) -> float:
        y = min(max(top + (i + 0.5) * h / height - 0.5, 0), height - 1)
        z = min(max(left + (j + 0.5) * w / width - 0.5, 0), width - 1)
        i0, j0 = min(floor(y), height - 2), min(floor(z), width - 2)
        a, b = y - i0, z - j0
        return (
            (1 - a) * (1 - b) * x[c][i0][j0]
            + (1 - a) * b * x[c][i0][j0 + 1]
            + a * (1 - b) * x[c][i0 + 1][j0]
            + a * b * x[c][i0 + 1][j0 + 1]
        )

    return each(x, look)


def mirror(x: Image) -> Image:
    return [[row[::-1] for row in plane] for plane in x]


def gray(x: Image, i: int, j: int) -> float:
    if len(x) != 3:
        return sum(plane[i][j] for plane in x) / len(x)
    return 0.299 * x[0][i][j] + 0.587 * x[1][i][j] + 0.114 * x[2][i][j]


def brightness(x: Image, factor: float) -> Image:
    return each(x, lambda c, i, j: clip(x[c][i][j] * factor))


def contrast(x: Image, factor: float) -> Image:
    _, height, width = size(x)
    mean = sum(gray(x, i, j) for i in range(height) for j in range(width)) / (height * width)
    return each(x, lambda c, i, j: clip(factor * x[c][i][j] + (1 - factor) * mean))


def saturation(x: Image, factor: float) -> Image:
    if len(x) != 3:
        return x
    return each(x, lambda c, i, j: clip(factor * x[c][i][j] + (1 - factor) * gray(x, i, j)))


def hue(x: Image, turn: float) -> Image:
    if len(x) != 3:
        return x

    def turned(c: int, i: int, j: int) -> float:
        h, s, v = colorsys.rgb_to_hsv(*(plane[i][j] for plane in x))
        return colorsys.hsv_to_rgb((h + turn) % 1, s, v)[c]

    return each(x, turned)


def colours(
    x: Image, strengths: tuple[float, float, float, float], order: list[int], u: Draw
) -> Image:
    b, c, s, h = strengths
    changes = [
        lambda x: brightness(x, 1 - b + 2 * b * u("brightness")),
        lambda x: contrast(x, 1 - c + 2 * c * u("contrast")),
        lambda x: saturation(x, 1 - s + 2 * s * u("saturation")),
        lambda x: hue(x, -h + 2 * h * u("hue")),
    ]
    for which in order:
        x = changes[which](x)
    return x


def without_colour(x: Image) -> Image:
    return each(x, lambda c, i, j: gray(x, i, j)) if len(x) == 3 else x


def blur(x: Image, sigma: float) -> Image:
    height = size(x)[1]

    def line(values: list[float], at: int) -> float:
        radius = len(values) // 10 // 2
        near = [k for k in range(at - radius, at + radius + 1) if 0 <= k < len(values)]
        weights = [exp(-((k - at) ** 2) / (2 * sigma**2)) for k in near]
        return sum(w * values[k] for w, k in zip(weights, near, strict=True)) / sum(weights)

    rows = each(x, lambda c, i, j: line(x[c][i], j))
    return each(x, lambda c, i, j: line([rows[c][k][j] for k in range(height)], i))


def solarise(x: Image) -> Image:
    return each(x, lambda c, i, j: 1 - x[c][i][j] if x[c][i][j] >= 0.5 else x[c][i][j])
