"""Directory trees of pictures: what is served, cached, shared between processes and refused."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fgbench.data import imagefolder as module
from fgbench.data.files.pixels import mapped
from fgbench.data.imagefolder import imagefolder
from fgbench.data.images import Images
from fgbench.errors import DataError, UsageError
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun, evaluate
from tests.makers.networks import build


def write_tree(
    root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 5, side: int = 12
) -> Path:
    """Pictures of one colour each: red counts within the class, green is the class."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            colour = (10 * i, 100 * label, 50)
            Image.new("RGB", (2 * side, side), colour).save(root / name / f"{i}.png")
    return root


def one_line(error: pytest.ExceptionInfo[DataError], *parts: object) -> None:
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert str(part) in text


def test_imagefolder_serves_every_picture_with_its_label(tmp_path):
    root = write_tree(tmp_path / "tree", ("ant", "bee", "cat"), count=10)
    (root / "cat" / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    (root / "SOURCE.txt").write_text("one colour each")
    data = imagefolder(root=str(root), size=6, test_fraction=0.3, data_dir=str(tmp_path))
    assert (len(data.train_y), len(data.test_y)) == (21, 9)
    assert data.test_y.bincount().tolist() == [3, 3, 3]
    assert (data.shape, data.classes, data.source) == ((3, 6, 6), 3, "one colour each")
    x, y = torch.cat([data.train_x, data.test_x]), torch.cat([data.train_y, data.test_y])
    assert (x == x[:, :, :1, :1]).all()
    assert sorted(zip(x[:, 0, 0, 0].tolist(), y.tolist(), strict=True)) == sorted(
        (10 * i, label) for label in range(3) for i in range(10)
    )
    assert (x[:, 1, 0, 0] == 100 * y).all()
    assert len(set(data.train_y[:5].tolist())) > 1  # the first n are not all of one class


def test_imagefolder_keeps_the_centre_and_scales_the_shorter_side(tmp_path):
    # Columns 10 to 19 of a ramp are kept; two of them, 10 + 2j and 11 + 2j, become pixel j.
    ramp = np.tile(8 * np.arange(30, dtype=np.uint8), (10, 1))
    for name in ("a", "b"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        Image.fromarray(ramp).save(tmp_path / "tree" / name / "0.png")
        Image.fromarray(ramp.T.copy()).save(tmp_path / "tree" / name / "1.bmp")
    data = imagefolder(root=str(tmp_path / "tree"), size=5, data_dir=str(tmp_path))
    expected = torch.tensor([84, 100, 116, 132, 148]).expand(3, 5, 5)
    pixels = torch.cat([data.train_x, data.test_x])
    wide = [x for x in pixels if (x[:, 0] == x[:, 1]).all()]
    tall = [x for x in pixels if (x[..., 0] == x[..., 1]).all()]
    assert (len(wide), len(tall)) == (2, 2)
    for x in [*wide, *(x.mT for x in tall)]:
        assert (x.int() - expected).abs().max() <= 1


def test_imagefolder_modes_become_rgb(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "tree" / name / "deeper").mkdir(parents=True)
        for i, mode in enumerate(["L", "P", "1", "RGBA", "CMYK", "LA"]):
            suffix = "tif" if mode == "CMYK" else "png"
            image = Image.new("RGB", (9, 9), (255, 255, 255)).convert("L" if mode == "LA" else mode)
            image.convert(mode).save(tmp_path / "tree" / name / "deeper" / f"{i}.{suffix}")
    data = imagefolder(root=str(tmp_path / "tree"), size=4, data_dir=str(tmp_path))
    assert (data.train_x == 255).all()
    assert len(data.train_y) + len(data.test_y) == 12


def test_imagefolder_inverted_deep_and_turned_pictures(tmp_path):
    """CMYK in JPEG, sixteen bits of grey, and an EXIF orientation that is not applied."""
    for name in ("a", "b"):
        folder = tmp_path / "tree" / name
        folder.mkdir(parents=True)
        Image.new("CMYK", (8, 8), (0, 255, 0, 0)).save(folder / "0.jpg")
        Image.fromarray(np.full((8, 8), 30000, np.uint16)).save(folder / "1.png")
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        picture = Image.new("RGB", (8, 8), (0, 0, 255))
        picture.paste((255, 0, 0), (0, 0, 8, 4))
        picture.save(folder / "2.png", exif=exif)
    data = imagefolder(root=str(tmp_path / "tree"), size=8, data_dir=str(tmp_path))
    corners = torch.cat([data.train_x, data.test_x])[:, :, 0, 0].tolist()
    assert sorted(corners) == sorted([[255, 0, 255], [117] * 3, [255, 0, 0]] * 2)


def test_imagefolder_keeps_the_centre_of_test_pictures(tmp_path):
    """A ramp of 64 levels: the middle half has levels 16 to 47, and training pictures keep all."""
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "tree" / split / name).mkdir(parents=True)
            Image.fromarray(ramp).save(tmp_path / "tree" / split / name / "0.png")
    load = partial(imagefolder, root=str(tmp_path / "tree"), size=32, data_dir=str(tmp_path))
    data, plain = load(centre=0.5), load()
    assert torch.equal(data.test_x[0, 0, 0], torch.arange(16, 48, dtype=torch.uint8))
    assert torch.equal(data.train_x, plain.train_x)
    assert torch.equal(plain.test_x, plain.train_x)
    assert data.fingerprint != plain.fingerprint


def test_imagefolder_is_imagenet_among_the_data_sets_without_a_root(tmp_path):
    with pytest.raises(UsageError, match="root=PATH") as error:
        imagefolder(data_dir=str(tmp_path))
    assert str(tmp_path / "imagenet") in str(error.value)
    write_tree(tmp_path / "imagenet" / "train")
    write_tree(tmp_path / "imagenet" / "val", count=2)
    data = imagefolder(data_dir=str(tmp_path))
    assert data.shape == (3, 224, 224)
    named = imagefolder(root=str(tmp_path / "imagenet"), data_dir=str(tmp_path))
    assert named.fingerprint == data.fingerprint


def test_imagefolder_uses_train_and_val(tmp_path):
    write_tree(tmp_path / "tree" / "train", count=3)
    write_tree(tmp_path / "tree" / "val", count=2)
    data = imagefolder(root=str(tmp_path / "tree"), size=4, data_dir=str(tmp_path))
    assert (data.train_y.bincount().tolist(), data.test_y.bincount().tolist()) == ([3, 3], [2, 2])
    write_tree(tmp_path / "tree" / "val", ("bird",), count=1)
    with pytest.raises(DataError) as error:
        imagefolder(root=str(tmp_path / "tree"), size=4, data_dir=str(tmp_path))
    one_line(error, tmp_path / "tree" / "val" / "bird", "no counterpart")


def test_imagefolder_is_memory_mapped_cached_and_rebuilt_on_change(tmp_path):
    root = write_tree(tmp_path / "tree")
    folder = tmp_path / "data" / "imagefolder"
    load = partial(imagefolder, root=str(root), size=4, data_dir=str(tmp_path / "data"))
    first = load()
    (kept,) = folder.iterdir()
    written = kept.stat().st_mtime_ns
    content = kept.read_bytes()
    second = load()
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.train_x, first.train_x)
    assert kept.stat().st_mtime_ns == written
    second.train_x.zero_()  # copy on write: neither the file nor another reader sees it
    assert kept.read_bytes() == content
    assert load().train_x.any()
    assert imagefolder(root=str(root), size=5, data_dir=str(tmp_path / "data")).shape == (3, 5, 5)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc to look into")
def test_imagefolder_pixels_lie_in_the_file(tmp_path):
    data = imagefolder(root=str(write_tree(tmp_path / "tree")), size=4, data_dir=str(tmp_path))
    (kept,) = (tmp_path / "imagefolder").iterdir()
    (line,) = (x for x in Path("/proc/self/maps").read_text().splitlines() if str(kept) in x)
    start, end = (int(address, 16) for address in line.split()[0].split("-"))
    for x in (data.train_x, data.test_x):
        assert start <= x.data_ptr() < end


def test_imagefolder_fingerprint_sees_one_byte_and_not_the_place(tmp_path):
    def load(root: Path, name: str) -> str:
        return imagefolder(root=str(root), size=4, data_dir=str(tmp_path / name)).fingerprint

    root = write_tree(tmp_path / "tree")
    before = load(root, "a")
    assert load(write_tree(tmp_path / "elsewhere" / "copy"), "b") == before
    path = root / "dog" / "2.png"
    content = bytearray(path.read_bytes())
    Image.new("RGB", (24, 12), (20, 100, 51)).save(path)  # one step in one channel
    assert len(path.read_bytes()) == len(content)
    os.utime(path, ns=(0, 0))
    assert load(root, "a") != before
    assert imagefolder(
        root=str(tmp_path / "elsewhere" / "copy"), size=4, test_fraction=0.4, data_dir=str(tmp_path)
    ).fingerprint != before  # fmt: skip


def test_imagefolder_fingerprint_sees_what_the_decoder_makes_of_the_files(tmp_path, monkeypatch):
    load = partial(imagefolder, root=str(write_tree(tmp_path / "tree")), size=4)
    before = load(data_dir=str(tmp_path / "a")).fingerprint
    assert load(data_dir=str(tmp_path / "b")).fingerprint == before
    monkeypatch.setattr(ImageOps, "fit", lambda image, size, **_: Image.new("RGB", size, (1, 2, 3)))
    assert load(data_dir=str(tmp_path / "c")).fingerprint != before


def test_imagefolder_refuses_trees_that_are_none(tmp_path):
    def refused(root: Path, *parts: object) -> None:
        with pytest.raises(DataError) as error:
            imagefolder(root=str(root), size=4, data_dir=str(tmp_path / "data"))
        one_line(error, "imagefolder", *parts)

    refused(tmp_path / "absent", tmp_path / "absent", "not a folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path / "empty", "0 class folders")
    refused(write_tree(tmp_path / "one", ("cat",)), "1 class folders")
    hollow = write_tree(tmp_path / "hollow")
    (hollow / "eel").mkdir()
    (hollow / "eel" / "readme.md").write_text("to do")
    refused(hollow, hollow / "eel", "holds no image")
    refused(write_tree(tmp_path / "single", count=1), "one image per class")
    write_tree(tmp_path / "split" / "train")
    refused(tmp_path / "split", "1 class folders", "train/ and val/")
    write_tree(tmp_path / "split" / "test", ("cat", "dog"))
    (tmp_path / "split" / "train" / "eel").mkdir()
    refused(tmp_path / "split", tmp_path / "split" / "train" / "eel", "holds no image")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"test_fraction": 0.0}, {"test_fraction": 1.0}, {"centre": 0.0}, {"centre": 1.1}],
)
def test_imagefolder_refuses_nonsense(tmp_path, options):
    with pytest.raises(UsageError, match="size must be 1 or more"):
        imagefolder(root=str(write_tree(tmp_path)), **options)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text"])
def test_imagefolder_names_the_broken_picture(tmp_path, suffix, damage):
    root = write_tree(tmp_path / "tree", count=3)
    path = root / "dog" / f"broken.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    changed = {"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello" * 99}
    path.write_bytes(changed[damage])
    with pytest.raises(DataError) as error:
        imagefolder(root=str(root), size=4, data_dir=str(tmp_path / "data"))
    one_line(error, path, "not a picture")
    assert not (tmp_path / "data" / "imagefolder").exists()  # nothing was made, no folder either


def png_with_a_broken_chunk() -> bytes:
    """A picture whose second block of pixels has no valid name: Pillow raises SyntaxError."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(noise).save(packed, "PNG")
    first, name, second = packed.getvalue().partition(b"IDAT")
    return first + name + second.replace(b"IDAT", b"*Y\x07\x18", 1)


def test_imagefolder_takes_a_large_picture_without_a_word(tmp_path, monkeypatch):
    """Pillow warns from 89 megapixels on and refuses at 179; here from 10 pixels on and at 21."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    tree = write_tree(tmp_path / "tree")
    large = next(iter(sorted((tree / "cat").iterdir())))
    Image.new("RGB", (4, 4)).save(large.with_suffix(".png"))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match="DecompressionBombError"):
            imagefolder(root=str(tree), size=2, data_dir=str(tmp_path / "data"))
        for picture in tree.rglob("*.*"):
            Image.new("RGB", (4, 4)).save(picture.with_suffix(".png"))
            if picture.suffix != ".png":
                picture.unlink()
        assert imagefolder(root=str(tree), size=2, data_dir=str(tmp_path / "data")).shape == (
            3,
            2,
            2,
        )
    assert [str(each.message) for each in seen] == []


def test_imagefolder_reads_no_file_that_is_no_picture_by_its_size(tmp_path):
    tree = write_tree(tmp_path / "tree")
    with (tree / "cat" / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError) as error:
        imagefolder(root=str(tree), size=2, data_dir=str(tmp_path / "data"))
    one_line(error, tree / "cat" / "huge.png", "not a picture")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("chunk.png", png_with_a_broken_chunk(), "SyntaxError"),
        ("size.ppm", b"P6 4 x 255\n" + bytes(48), "ValueError"),
        ("bomb.ppm", b"P6 99999 99999 255\n" + bytes(48), "DecompressionBombError"),
    ],
)
def test_imagefolder_names_the_picture_whatever_the_decoder_raises(tmp_path, name, content, kind):
    root = write_tree(tmp_path / "tree")
    (root / "cat" / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        imagefolder(root=str(root), size=4, data_dir=str(tmp_path / "data"))
    one_line(error, root / "cat" / name, "not a picture", kind)


def test_imagefolder_damaged_or_unwritable_cache_is_one_line(tmp_path):
    load = partial(imagefolder, root=str(write_tree(tmp_path / "tree")), size=4)
    load(data_dir=str(tmp_path / "data"))
    (kept,) = (tmp_path / "data" / "imagefolder").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(DataError) as error:
        load(data_dir=str(tmp_path / "data"))
    one_line(error, kept, "delete it")
    np.save(kept, np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="does not hold the expected pixels"):
        load(data_dir=str(tmp_path / "data"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError) as error:
        load(data_dir=str(tmp_path / "file"))
    one_line(error, tmp_path / "file", "FGBENCH_DATA")


def test_imagefolder_one_builds_while_others_wait(tmp_path, monkeypatch):
    load = partial(imagefolder, root=str(write_tree(tmp_path / "tree")), size=4)
    folder, written, go = tmp_path / "data" / "imagefolder", threading.Event(), threading.Event()
    seen = []

    def has_written(descriptor: int) -> None:
        seen.append(len(list(folder.glob("*.partial"))))
        written.set()
        assert go.wait(30)

    monkeypatch.setattr("os.fsync", has_written)
    with ThreadPoolExecutor(2) as pool:
        builders = [pool.submit(load, data_dir=str(tmp_path / "data"))]
        assert written.wait(30)
        builders.append(pool.submit(load, data_dir=str(tmp_path / "data")))
        done, _ = wait(builders, timeout=0.2)
        assert not done
        go.set()
        first, second = (builder.result() for builder in builders)
    assert seen == [1]
    assert first.fingerprint == second.fingerprint
    assert torch.equal(first.train_x, second.train_x)
    assert [path.suffix for path in folder.iterdir()] == [".npy"]


KILLED = """
import os, signal, sys
from fgbench.data import imagefolder as module
left, make = int(sys.argv[3]), module._decode
def decode(root, name, size, centre):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return make(root, name, size, centre)
module._decode = decode
from fgbench.data.files import pixels
pixels._AHEAD = 1
module.imagefolder(root=sys.argv[1], size=64, data_dir=sys.argv[2])
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A tree of 20 pictures, and the folder of a build killed while decoding the 18th."""
    folder = tmp_path_factory.mktemp("killed")
    root = write_tree(folder / "tree", count=10)
    command = [sys.executable, "-c", KILLED, str(root), str(folder / "data"), "17"]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    return root, folder / "data"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["none", "a pixel", "a hash", "no hashes", "a torn row"])
def test_imagefolder_goes_on_where_it_was_killed(tmp_path, monkeypatch, killed, damage):
    """What is not as its hash says is decoded again; the bytes are those of an undisturbed build."""
    root, left = killed
    whole = imagefolder(root=str(root), size=64, data_dir=str(tmp_path / "whole"))
    folder = Path(shutil.copytree(left, tmp_path / "data")) / "imagefolder"
    (pixels,), (hashes,) = folder.glob("*.partial"), folder.glob("*.hashes")
    row, begin, sound = 3 * 64 * 64, 128, 17
    assert pixels.stat().st_size == begin + sound * row
    if damage == "a pixel":
        content, sound = bytearray(pixels.read_bytes()), 12
        content[begin + sound * row + 5] ^= 1
        pixels.write_bytes(content)
    elif damage == "a hash":
        content, sound = bytearray(hashes.read_bytes()), 11
        content[64 * sound + 40] ^= 1
        hashes.write_bytes(content)
    elif damage == "no hashes":
        hashes.unlink()
        sound = 0
    elif damage == "a torn row":
        sound = 13
        os.truncate(pixels, begin + sound * row + 7)
    decoded = []
    make = module._decode
    monkeypatch.setattr(module, "_decode", lambda *given: decoded.append(given) or make(*given))
    again = imagefolder(root=str(root), size=64, data_dir=str(tmp_path / "data"))
    assert len(decoded) == 20 - sound
    assert again.fingerprint == whole.fingerprint
    for name in ("train_x", "train_y", "test_x", "test_y"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    assert [path.suffix for path in folder.iterdir()] == [".npy"]


@pytest.mark.parametrize("when", ["before", "while writing"])
def test_imagefolder_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, when):
    root = write_tree(tmp_path / "tree", count=10)
    if when == "before":
        usage = shutil.disk_usage(tmp_path)._replace(free=20 * 3 * 16)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    else:

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError) as error:
        imagefolder(root=str(root), size=4, data_dir=str(tmp_path / "data"))
    one_line(error, root, "No space left on device", "FGBENCH_DATA", "GB of free space")
    assert not (tmp_path / "data" / "imagefolder").exists()  # nothing was made, no folder either


def anonymous_mib() -> float:
    """Memory of this process that lies over no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(x.split()[1]) for x in lines if x.startswith("RssAnon")) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to look into")
@pytest.mark.slow
def test_imagefolder_serves_more_pixels_than_there_is_memory(tmp_path):
    """A file with holes, three times as large as memory: only the rows that are read take any."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    row, path = 3 * 224 * 224, tmp_path / "large.npy"
    rows = 3 * memory // row
    with path.open("wb") as out:
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, 3, 224, 224)}
        np.lib.format.write_array_header_1_0(out, header)
        begin = out.tell()
        out.truncate(begin + rows * row)
        out.seek(begin + (rows - 1) * row)
        out.write(bytes([7]) * row)
    pixels, before = mapped(path), 0.0
    assert tuple(pixels.shape) == (rows, 3, 224, 224)
    data = Images(
        "large", pixels[:-2], torch.zeros(rows - 2, dtype=torch.int64), pixels[-2:],
        torch.zeros(2, dtype=torch.int64), classes=1, peak=255.0, mean=(0.0,) * 3, std=(1.0,) * 3,
        fingerprint="",
    )  # fmt: skip
    assert data.to("cpu").train_x.data_ptr() == data.train_x.data_ptr()
    small = data.held_out(5).subset(None, 3)
    task, estimator, noise = build("mlp-1x4", "BP", small.shape, 2)
    run = TrainingRun(task, estimator, Recipe(epochs=1, batch=4, lr=0.1), noise, small)
    for run.step in range(5):
        x, _ = run.batch()
        evaluate(task.chain, small, small.test_x, small.test_y)
        before = before if run.step else anonymous_mib()  # the first loads and builds what it needs
    assert x.shape == (4, 3, 224, 224)
    assert anonymous_mib() - before < 60
    held = small.train_x[:700].clone()  # what the line above would notice
    assert anonymous_mib() - before > 90
    del held
    x, _ = small.rows(torch.tensor([rows // 2, 0]))
    assert (x.shape, int(x.max())) == ((2, 3, 224, 224), 0)
    assert int(data.test_x[-1].min()) == 7


@pytest.mark.slow
def test_imagefolder_two_processes_build_one_cache(tmp_path):
    write_tree(tmp_path / "tree", count=150)
    code = (
        "import random, sys; import numpy as np, torch\n"
        "from fgbench.data.imagefolder import imagefolder\n"
        "import PIL.Image, PIL.ImageOps\n"
        "def states():\n"
        "    a, b = random.getstate(), np.random.get_state()\n"
        "    return a, b[1].tobytes(), b[2:], torch.get_rng_state().tolist()\n"
        "before = states()\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "data = imagefolder(root=sys.argv[1], size=8, data_dir=sys.argv[2])\n"
        "print(data.fingerprint, int(data.train_x.sum()), states() == before)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tree"), str(tmp_path / "data")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    data = imagefolder(root=str(tmp_path / "tree"), size=8, data_dir=str(tmp_path / "data"))
    assert outputs == [f"{data.fingerprint} {int(data.train_x.sum())} True\n"] * 2
    (kept,) = (tmp_path / "data" / "imagefolder").iterdir()
    assert kept.suffix == ".npy"
