"""InfoPro: the two parts of the loss written out, their bounds, and the images that batches bring."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fgbench import registry
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.targets import Targets
from fgbench.data.synthetic import synthetic
from fgbench.localities.infopro import ImageAndLabel, InfoPro, contrasts
from fgbench.workload import Workload
from tests.makers.networks import worst
from tests.makers.places import ARCHS, exact, made, truth_by_hand


def supervised(z: Tensor, y: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss, example by example."""
    found = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        scores = torch.stack([z[i] @ z[j] / temperature for j in others])
        positive = [n for n, j in enumerate(others) if y[j] == y[i]]
        log_p = scores - scores.logsumexp(0)
        found.append(-log_p[positive].mean() if positive else 0 * scores.sum())
    return torch.stack(found)


def literal(chain: Chain, name: str, f: Tensor, y: Targets, contrast: bool) -> Tensor:
    """The loss of each example, written out."""
    if name == "final":
        return F.cross_entropy(chain.read(name, f), y.labels, reduction="none")
    net = chain.readout(name)
    assert isinstance(net, ImageAndLabel)
    w = dict(net.named_parameters())
    if w["decoder.weight"].dim() == 4:
        h = F.interpolate(f, (4, 4), mode="bilinear", align_corners=True)
        h = F.conv2d(h, w["first.weight"], w["first.bias"], padding=1).relu()
        pixels = F.conv2d(h, w["decoder.weight"], w["decoder.bias"], padding=1).flatten(1)
        pooled = f.mean((2, 3))
    else:
        pixels = f.flatten(1) @ w["decoder.weight"].T + w["decoder.bias"]
        pooled = f if f.dim() == 2 else f.mean(1).flatten(1)
    p = pixels.sigmoid()
    image = y.given["image"]
    reconstruction = -(image * p.log() + (1 - image) * (1 - p).log()).mean(1)
    h = (pooled @ w["hidden.0.weight"].T + w["hidden.0.bias"]).relu()
    scores = h @ w["linear.weight"].T + w["linear.bias"]
    if contrast:
        task = supervised(F.normalize(scores, dim=1), y.labels, 0.07)
    else:
        task = F.cross_entropy(scores, y.labels, reduction="none")
    return net.weights[0] * reconstruction + net.weights[1] * task


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("arch", ARCHS)
def test_gradients_are_those_of_the_formula(arch: str, contrast: bool) -> None:
    name = "infopro-contrast" if contrast else "infopro"
    task, x, labels = made(
        arch, f"{name}[lambda1=3.0,lambda1_last=1.0,lambda2=0.5,lambda2_last=2.0]"
    )
    y = Targets(labels, {"image": x.flatten(1).sigmoid()})

    def losses(o: Objective, f: Tensor) -> Tensor:
        return literal(task.chain, o.readout, f, y, contrast)

    assert worst(task.scheme_truth(x, y), truth_by_hand(task, x, losses)) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["infopro", "infopro-contrast"])
@pytest.mark.parametrize("arch", ARCHS)
def test_every_estimator_follows_it(arch: str, name: str) -> None:
    task, x, labels = made(arch, name)
    exact(task, x, Targets(labels, {"image": x.flatten(1).sigmoid()}))


def test_weights_go_from_end_to_end() -> None:
    task, _, _ = made(
        "mlp-4x8", "infopro[lambda1=5.0,lambda1_last=0.0,lambda2=0.5,lambda2_last=1.0]"
    )
    found = [task.chain.readout(f"aux{k}").weights for k in range(3)]
    assert found == [(5.0, 0.5), (2.5, 0.75), (0.0, 1.0)]


def test_without_the_image_it_is_dgl_with_one_hidden_layer() -> None:
    task, x, labels = made("mlp-4x8", "infopro[lambda1=0.0,lambda1_last=0.0]")
    other, _, _ = made("mlp-4x8", "dgl[hidden=128,depth=1]")
    with torch.no_grad():
        for k in range(3):
            own = task.chain.readout(f"aux{k}").state_dict()
            net = other.chain.readout(f"aux{k}")
            net.load_state_dict({n: own[n] for n in net.state_dict()})
    y = Targets(labels, {"image": x.flatten(1).sigmoid()})
    assert worst(task.scheme_truth(x, y), other.scheme_truth(x, labels)) < 1e-12


def test_a_perfect_reconstruction_costs_the_entropy_of_the_pixels() -> None:
    task, x, labels = made("mlp-2x6", "infopro")
    net = task.chain.readout("aux0")
    assert isinstance(net, ImageAndLabel)
    image = x.flatten(1).sigmoid()
    scores = torch.zeros(4, 5, dtype=x.dtype)
    entropy = -(image * image.log() + (1 - image) * (1 - image).log()).mean(1)
    found = net.losses(torch.cat([scores, x.flatten(1)], 1), labels, None, image)
    torch.testing.assert_close(found, 5 * entropy + log(5))
    off = net.losses(torch.cat([scores, x.flatten(1) + 0.3], 1), labels, None, image)
    assert bool((off > found).all())


def test_equal_features_contrast_by_the_number_of_others() -> None:
    z = torch.ones(6, 3, dtype=torch.float64) / 3**0.5
    found = contrasts(z, torch.tensor([0, 0, 1, 1, 1, 2]), 0.07)
    want = torch.tensor(
        [log(5)] * 5 + [0.0], dtype=torch.float64
    )  # the last has no other of its class
    torch.testing.assert_close(found, want)
    own = F.normalize(Noise(0, dtype=torch.float64).normal("z", (6, 3)), dim=1)
    y = torch.tensor([0, 0, 1, 1, 1, 2])
    torch.testing.assert_close(contrasts(own, y, 0.5), supervised(own, y, 0.5))


def test_batches_bring_the_image_before_it_is_normalised() -> None:
    data = synthetic(size=4, train=20, test=10)
    pixels, labels = data.rows(torch.arange(6))
    x, y, given = InfoPro().batch(pixels, labels, data, Noise(0))
    assert torch.equal(x, data.normalise(pixels))
    assert torch.equal(y, labels)
    assert torch.equal(given["image"], (pixels / data.peak).flatten(1).float())
    assert 0 <= float(given["image"].min()) < float(given["image"].max()) <= 1


def test_other_data_and_networks_are_refused_in_one_line() -> None:
    workload = Workload.of("mlp-2x4", "wine")
    task = workload.task(registry.method("bp/infopro"), seed=0).task
    assert task.scheme.refused.startswith("infopro reconstructs images")
