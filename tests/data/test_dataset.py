"""The data set type and the sets that need no files: digits and synthetic."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgbench import registry
from fgbench.data import dataset, images
from fgbench.data.dataset import fingerprint
from fgbench.data.digits import digits
from fgbench.data.files import cache
from fgbench.data.images import Images
from fgbench.data.synthetic import synthetic
from fgbench.errors import DataError, UsageError

NAMES = ["cifar10", "digits", "fashion_mnist", "imagefolder", "mnist", "synthetic"]


# --- the type -------------------------------------------------------------------------------------


def small(**changes) -> Images:
    fields = {
        "name": "small",
        "train_x": torch.arange(4 * 2 * 3 * 3, dtype=torch.uint8).view(4, 2, 3, 3),
        "train_y": torch.tensor([0, 1, 2, 1]),
        "test_x": torch.zeros(2, 2, 3, 3, dtype=torch.uint8),
        "test_y": torch.tensor([2, 0]),
        "classes": 3,
        "peak": 255.0,
        "mean": (0.25, 0.5),
        "std": (0.1, 0.2),
        "fingerprint": "0" * 16,
    }
    return Images(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_x": torch.zeros(4, 2, 3, 3)}, "uint8"),
        ({"train_x": torch.zeros(4, 3, 3, dtype=torch.uint8)}, "[N, ch, H, W]"),
        ({"train_y": torch.zeros(4, dtype=torch.uint8)}, "int64"),
        ({"train_y": torch.tensor([0, 1, 2])}, "4 images and 3 labels"),
        ({"train_y": torch.tensor([0, 1, 3, 1])}, "labels 0 to 3, but 3 classes"),
        ({"test_y": torch.tensor([-1, 0])}, "test split has labels -1"),
        ({"test_x": torch.zeros(0, 2, 3, 3).byte(), "test_y": torch.zeros(0).long()}, "0 images"),
        ({"test_x": torch.zeros(2, 2, 3, 4, dtype=torch.uint8)}, "(2, 3, 4)"),
        ({"mean": (0.5,)}, "per channel"),
    ],
)
def test_a_dataset_refuses_parts_that_do_not_fit(changes, says):
    with pytest.raises(DataError, match=f"^small: .*{re.escape(says)}") as error:
        small(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("peak", [255.0, 16.0])
def test_normalise_is_the_formula(dtype, peak):
    data = small(peak=peak)
    before = data.train_x.clone()
    found = data.normalise(data.train_x, dtype)
    mean, std = (torch.tensor(v, dtype=dtype).view(2, 1, 1) for v in (data.mean, data.std))
    assert found.dtype == dtype
    tolerance = {"rtol": 50 * torch.finfo(dtype).eps, "atol": 50 * torch.finfo(dtype).eps}
    expected = (data.train_x.to(dtype) / peak - mean) / std
    torch.testing.assert_close(found, expected, **tolerance)
    torch.testing.assert_close(data.normalise(data.train_x[1], dtype), found[1])
    assert torch.equal(data.train_x, before)


def test_normalise_made_under_inference_mode_serves_autograd_later():
    data = small(mean=(0.31, 0.52))
    with torch.inference_mode():
        data.normalise(data.train_x)
    weight = torch.ones(3, requires_grad=True)
    (data.normalise(data.train_x) * weight).sum().backward()
    assert weight.grad is not None


def test_to_moves_all_and_keeps_pixels_uint8():
    moved = small().to("cpu")
    assert (moved.train_x.dtype, moved.fingerprint) == (torch.uint8, small().fingerprint)
    assert torch.equal(moved.test_x, small().test_x)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_normalise_on_the_gpu_is_that_on_the_cpu():
    data = small()
    moved = data.to("cuda")
    assert moved.train_x.is_cuda
    assert moved.test_y.is_cuda
    assert moved.train_x.dtype == torch.uint8
    found = moved.normalise(moved.train_x, torch.float64)
    torch.testing.assert_close(found.cpu(), data.normalise(data.train_x, torch.float64))


def test_subset_takes_the_first_and_changes_the_fingerprint():
    data = synthetic()
    part = data.subset(100)
    assert torch.equal(part.train_x, data.train_x[:100])
    assert torch.equal(part.train_y, data.train_y[:100])
    assert torch.equal(part.test_x, data.test_x)
    assert part.train_x.data_ptr() == data.train_x.data_ptr()
    prints = [data, part, data.subset(101), data.subset(100, 10), data.subset(None, 10)]
    assert len({d.fingerprint for d in prints}) == len(prints)
    assert data.subset(None) is data
    assert data.subset(512, 256) is data


@pytest.mark.parametrize("count", [0, -1, 513])
def test_subset_refuses_what_is_not_there(count):
    with pytest.raises(UsageError, match="1 to 512"):
        synthetic().subset(count)


def test_fingerprint_sees_every_byte_type_and_shape():
    x = torch.arange(12, dtype=torch.uint8)
    changed = x.clone()
    changed[7] += 1
    variants = [x, changed, x.view(3, 4), x.long(), x[:11]]
    prints = [fingerprint("a", v) for v in variants] + [fingerprint("b", x)]
    assert len(set(prints)) == len(prints)
    assert fingerprint("a", x.clone()) == prints[0]


# --- registered, reproducible, without side effects -----------------------------------------------


def test_all_are_registered_and_can_be_made_from_text():
    assert [n for n in registry.entries("datasets") if n in NAMES] == NAMES
    made = registry.make("datasets", "synthetic[classes=3,size=5,noise=0.5]", data_dir=None).thing
    assert made.fingerprint == synthetic(classes=3, size=5, noise=0.5).fingerprint
    with pytest.raises(UsageError, match="root=PATH"):
        registry.make("datasets", "imagefolder")


@pytest.mark.slow
def test_making_data_leaves_global_random_state_alone():
    # In a fresh process, because importing a library can draw numbers too.
    code = (
        "import random; import numpy as np, torch\n"
        "from fgbench import registry\n"
        "def states():\n"
        "    a, b = random.getstate(), np.random.get_state()\n"
        "    return a, b[1].tobytes(), b[2:], torch.get_rng_state().tolist()\n"
        "random.seed(1), np.random.seed(2), torch.manual_seed(3)\n"
        "before = states()\n"
        "for name in ('digits', 'synthetic'):\n"
        "    data = registry.make('datasets', name).thing\n"
        "    print(data.fingerprint, states() == before)\n"
        "random.random()\n"
        "print('control', states() == before)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert found[:2] == [f"{digits().fingerprint} True", f"{synthetic().fingerprint} True"]
    assert found[2] == "control False"


def test_data_root_prefers_the_argument_then_the_environment(monkeypatch):
    monkeypatch.setenv("FGBENCH_DATA", "/from/environment")
    assert cache.data_root("/from/argument") == Path("/from/argument")
    assert cache.data_root() == Path("/from/environment")
    monkeypatch.setenv("FGBENCH_DATA", "")
    assert cache.data_root().name == "fgbench"
    assert cache.data_root("~/x") == Path.home() / "x"


# --- digits and synthetic -------------------------------------------------------------------------


def test_digits_split_is_stratified_and_complete():
    from sklearn.datasets import load_digits

    data = digits()
    assert (len(data.train_y), len(data.test_y), data.shape) == (1437, 360, (1, 8, 8))
    assert data.train_x.max() == data.peak == 16
    assert data.fingerprint == "e4b181d19c4ace3b"
    counts = torch.stack([data.train_y.bincount(), data.test_y.bincount()])
    assert ((counts[1] - counts.sum(0) / 5).abs() < 1).all()
    rows = torch.cat([data.train_x, data.test_x]).flatten(1).tolist()
    assert sorted(rows) == sorted(load_digits().data.astype(int).tolist())


def test_digits_constants_are_those_of_the_training_split():
    data = digits()
    pixels = data.train_x.double() / data.peak
    assert pixels.mean().item() == pytest.approx(data.mean[0], abs=5e-5)
    assert pixels.std().item() == pytest.approx(data.std[0], abs=2e-4)


def test_synthetic_is_a_fixed_function_of_its_options():
    data = synthetic()
    assert data.fingerprint == "597ce958f284a935"
    assert torch.equal(synthetic(train=700).train_x[:512], data.train_x)
    others = [synthetic(seed=1), synthetic(noise=2.0), synthetic(size=9), synthetic(test=255)]
    assert len({d.fingerprint for d in [data, *others]}) == 5
    assert not torch.equal(data.train_x[:256], data.test_x)
    assert data.train_y.bincount(minlength=10).tolist() == [52, 52] + [51] * 8
    assert synthetic(channels=3, size=5, classes=4).shape == (3, 5, 5)


def test_synthetic_noise_is_the_ratio_of_the_two_parts():
    quiet = synthetic(noise=0.0, train=20)
    assert torch.equal(quiet.train_x[:10], quiet.train_x[10:])
    for noise in (0.5, 2.0):
        data = synthetic(noise=noise, train=4000, size=16)
        x = data.normalise(data.train_x, torch.float64)
        assert x.mean().item() == pytest.approx(0, abs=0.05)
        assert x.std().item() == pytest.approx(1, abs=0.03)
        within = torch.stack([x[data.train_y == k].var(0).mean() for k in range(10)]).mean()
        share = noise**2 / (1 + noise**2)
        assert within.item() == pytest.approx(share, rel=0.04)


@pytest.mark.parametrize(
    "options", [{"classes": 1}, {"size": 0}, {"train": 0}, {"noise": -1.0}, {"noise": float("nan")}]
)
def test_synthetic_refuses_nonsense(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        synthetic(**options)


def test_pixels_too_many_for_a_device_stay_and_rows_follow(monkeypatch):
    data = registry.make("datasets", "synthetic", data_dir=None).thing
    picked = torch.tensor([5, 0, 5])
    x, y = data.rows(picked)
    assert torch.equal(x, data.train_x[picked])
    assert torch.equal(y, data.train_y[picked])
    monkeypatch.setattr(images, "_check_labels", lambda *given: None)  # meta labels have no values
    assert data.to("meta").train_x.device.type == "meta"
    bytes_of_pixels = data.train_x.nbytes + data.test_x.nbytes
    for room, there in ((bytes_of_pixels, "meta"), (bytes_of_pixels - 1, "cpu")):
        monkeypatch.setattr(dataset, "_room", lambda device, room=room: room)
        moved = data.to("meta")
        assert {moved.train_x.device.type, moved.test_x.device.type} == {there}
        assert {moved.train_y.device.type, moved.test_y.device.type} == {"meta"}
        assert {t.device.type for t in moved.rows(picked)} == {"meta"}
