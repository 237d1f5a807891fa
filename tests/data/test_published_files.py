"""The data sets that lie in published files: IDX, MNIST, Fashion-MNIST, CIFAR-10, downloads.

One room of tests because all of them go through the same web server and the same refusals.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import random
import socket
import tarfile
import threading
import tracemalloc
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fgbench.data import cifar10, fashion_mnist, mnist
from fgbench.data.files import cache, idx
from fgbench.errors import DataError


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4) for size in array.shape)
    return (0x0800 + array.ndim).to_bytes(4) + sizes + array.tobytes()


IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([7, 0, 9], dtype=np.uint8)


def write_idx(path: Path, array: np.ndarray) -> Path:
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_cifar(folder: Path, per_file: int = 4) -> Path:
    """Six small batches whose pixel value says where it came from."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(cifar10.MD5S):
        records = np.empty((per_file, 3073), np.uint8)
        records[:, 0] = (np.arange(per_file) + i) % 10
        for channel in range(3):
            records[:, 1 + 1024 * channel : 1 + 1024 * (channel + 1)] = 10 * i + channel
        records[:, 1 + 32] = 200  # red, second row, first column
        (folder / name).write_bytes(records.tobytes())
    return folder


@pytest.fixture
def loopback(tmp_path, monkeypatch):
    """A web server for one folder; returns the folder and its address."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed_port():
    """An address that refuses the connection at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def real(name: str) -> Path:
    folder = os.environ.get("FGBENCH_DATA")
    if not folder:
        pytest.skip("FGBENCH_DATA is not set: no real data")
    path = Path(folder) / name
    if not path.is_dir():
        pytest.skip(f"no {name} below FGBENCH_DATA")
    return path


def one_line(error: pytest.ExceptionInfo[DataError], *parts: object) -> None:
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert str(part) in text


# --- IDX files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_reads_what_was_written(tmp_path, ending):
    images = write_idx(tmp_path / f"images{ending}", IMAGES)
    labels = write_idx(tmp_path / f"labels{ending}", LABELS)
    md5s = [hashlib.md5(idx_bytes(a)).hexdigest() for a in (IMAGES, LABELS)]
    for sums in (md5s, (None, None)):
        x, y = idx.read_pair(images, labels, *sums)
        assert x.tolist() == IMAGES[:, None].tolist()
        assert (y.tolist(), y.dtype) == (LABELS.tolist(), torch.int64)


IDX_DAMAGE = {
    "empty": (lambda content: b"", "truncated"),
    "header only": (lambda content: content[:10], "truncated"),
    "truncated": (lambda content: content[:-1], "75 bytes, but its header says 76"),
    "longer": (lambda content: content + b"x", "more than 76 bytes, but its header says 76"),
    "labels magic": (lambda content: b"\0\0\x08\1" + content[4:], "0x0801, expected 0x0803"),
    "float magic": (lambda content: b"\0\0\x0d\3" + content[4:], "0x0d03, expected 0x0803"),
    "huge header": (lambda content: content[:4] + b"\xff" * 12 + content[16:], "header says"),
    "no image": (lambda content: content[:4] + bytes(12), "is not the published file"),
    "other byte": (lambda content: content[:-1] + b"x", "is not the published file"),
}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("damage", IDX_DAMAGE)
def test_idx_refuses_damage_and_names_the_file(tmp_path, damage, ending):
    change, says = IDX_DAMAGE[damage]
    good = idx_bytes(IMAGES)
    path = tmp_path / f"images{ending}"
    path.write_bytes(gzip.compress(change(good)) if ending else change(good))
    with pytest.raises(DataError) as error:
        idx.read_idx(path, 3, hashlib.md5(good).hexdigest())
    one_line(error, path, says, "delete it", "FGBENCH_DATA")


@pytest.mark.parametrize(
    "damage",
    {
        "empty": lambda packed: b"",
        "truncated": lambda packed: packed[:-9],
        "not gzip": lambda packed: b"<html>" + packed,
        "flipped": lambda packed: packed[:20] + bytes([packed[20] ^ 255]) + packed[21:],
    }.items(),
    ids=lambda item: item[0],
)
def test_idx_refuses_a_damaged_archive(tmp_path, damage):
    path = write_idx(tmp_path / "images.gz", IMAGES)
    path.write_bytes(damage[1](path.read_bytes()))
    with pytest.raises(DataError) as error:
        idx.read_idx(path, 3, None)
    one_line(error, path, "delete it")


@pytest.mark.slow
def test_no_more_is_unpacked_than_is_expected(tmp_path):
    """A bomb of 128 MB in 128 kB, and headers that announce too much, are refused at their beginning."""
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in IMAGES.shape)
    bomb = zlib.compressobj(wbits=31)
    packed = [bomb.compress(header)] + [bomb.compress(bytes(1 << 24)) for _ in range(8)]
    whole = b"".join(packed) + bomb.flush()
    lies = gzip.compress(header[:4] + b"\0\0\xff\xff" * 3 + bytes(1 << 20))
    for content, size, says in (
        (whole, None, "more than 76 bytes"),
        (whole, 76, "more than 76 bytes"),
        (whole, 75, "its header says 76 bytes, expected 75"),
        (lies, None, "expected at most"),
        (lies, 47_040_016, "expected 47040016"),
    ):
        path = tmp_path / "images.gz"
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(DataError) as error:
            idx.read_idx(path, 3, None, size)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()
        one_line(error, path, says, "delete it")
    plain = tmp_path / "images"
    with plain.open("wb") as file:  # of which no byte lies on the disk
        file.write(header)
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="more than 76 bytes"):
        idx.read_idx(plain, 3, None)


def test_what_is_no_data_is_not_read_whole(tmp_path):
    write_cifar(tmp_path)
    for name in ("data_batch_1.bin", "SOURCE.txt"):
        with (tmp_path / name).open("r+b" if name[0] == "d" else "wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(
        DataError, match=r"data_batch_1\.bin has 1099511627776 bytes, expected 12292"
    ):
        cifar10.load_batches(tmp_path, "", {}, per_file=4)
    assert len(cache.source_of(tmp_path)) == 10_000


def test_the_sizes_of_published_files_are_known():
    for sums in (mnist.SUMS, fashion_mnist.SUMS):
        images = [28 * 28 * n + 16 for n in (60_000, 10_000)]
        labels = [n + 8 for n in (60_000, 10_000)]
        assert [s.size for n, s in sums.items() if "images" in n] == images
        assert [s.size for n, s in sums.items() if "labels" in n] == labels


def test_idx_refuses_a_file_without_data_even_where_no_checksum_is_known(tmp_path):
    path = write_idx(tmp_path / "labels", LABELS[:0])
    with pytest.raises(DataError, match="holds no data"):
        idx.read_idx(path, 1, None)


def test_idx_refuses_different_counts(tmp_path):
    images = write_idx(tmp_path / "images.gz", IMAGES)
    labels = write_idx(tmp_path / "labels.gz", LABELS[:2])
    with pytest.raises(DataError) as error:
        idx.read_pair(images, labels, None, None)
    one_line(error, "3 images", "2 labels", images, labels)


# --- MNIST and Fashion-MNIST ----------------------------------------------------------------------


@pytest.fixture
def made_mnist(monkeypatch):
    """Four small files in the place of MNIST's, with their checksums; returns the archives."""
    generator = np.random.default_rng(0)
    archives, sums = {}, {}
    for file in mnist.SUMS:
        count = 6 if file.startswith("train") else 3
        images = "images" in file
        array = generator.integers(0, 256 if images else 10, (count, 28, 28) if images else count)
        content = idx_bytes(array.astype(np.uint8))
        archives[file] = gzip.compress(content, mtime=0)
        sums[file] = idx.Sums(
            hashlib.md5(archives[file]).hexdigest(), hashlib.md5(content).hexdigest()
        )
    monkeypatch.setattr(mnist, "SUMS", sums)
    return archives


def test_mnist_is_fetched_once_and_checked(
    made_mnist, loopback, tmp_path, monkeypatch, closed_port
):
    served, url = loopback
    for file, packed in made_mnist.items():
        (served / f"{file}.gz").write_bytes(packed)
    monkeypatch.setattr(mnist, "URL", url)
    data = mnist.mnist(data_dir=str(tmp_path / "data"))
    assert (data.train_x.shape, data.test_x.shape) == ((6, 1, 28, 28), (3, 1, 28, 28))
    raw = tmp_path / "data" / "MNIST" / "raw"
    assert sorted(p.name for p in raw.iterdir()) == sorted(f"{file}.gz" for file in made_mnist)
    monkeypatch.setattr(mnist, "URL", closed_port)
    (raw / "SOURCE.txt").write_text("made up\n")
    again = mnist.mnist(data_dir=str(tmp_path / "data"))
    assert (again.fingerprint, again.source) == (data.fingerprint, "made up")


def test_mnist_plain_files_count_before_archives(made_mnist, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file, packed in made_mnist.items():
        (raw / f"{file}.gz").write_bytes(packed)
    packed_only = mnist.mnist(data_dir=str(tmp_path))
    for file, packed in made_mnist.items():
        (raw / file).write_bytes(gzip.decompress(packed))
        (raw / f"{file}.gz").write_bytes(b"never read")
    assert mnist.mnist(data_dir=str(tmp_path)).fingerprint == packed_only.fingerprint


def test_a_download_with_the_wrong_checksum_is_refused(made_mnist, loopback, tmp_path, monkeypatch):
    served, url = loopback
    for file in made_mnist:
        (served / f"{file}.gz").write_bytes(b"something else")
    monkeypatch.setattr(mnist, "URL", url)
    with pytest.raises(DataError) as error:
        mnist.mnist(data_dir=str(tmp_path / "data"))
    one_line(error, "train-images-idx3-ubyte.gz", url, "checksum is wrong", "FGBENCH_DATA")
    assert list((tmp_path / "data").rglob("*ubyte*")) == []


def test_a_file_the_server_lacks_is_one_line(loopback, tmp_path):
    with pytest.raises(DataError) as error:
        cache.download(f"{loopback[1]}absent.gz", "0" * 32, tmp_path)
    one_line(error, tmp_path / "absent.gz", loopback[1], "404", "FGBENCH_DATA")


@pytest.mark.parametrize(
    ("module", "load"),
    [
        (mnist, mnist.mnist),
        (fashion_mnist, fashion_mnist.fashion_mnist),
        (cifar10, cifar10.cifar10),
    ],
)
def test_no_network_is_one_line(module, load, closed_port, tmp_path, monkeypatch):
    archive = "" if module is not cifar10 else "cifar-10-binary.tar.gz"
    monkeypatch.setattr(module, "URL", closed_port + archive)
    with pytest.raises(DataError) as error:
        load(data_dir=str(tmp_path))
    one_line(error, tmp_path, closed_port, "is missing", "FGBENCH_DATA")


def test_fashion_mnist_is_found_where_debian_puts_it(tmp_path, monkeypatch):
    images = bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 9, 8])
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 1, 4])
    sums, debian = {}, tmp_path / "debian"
    debian.mkdir()
    for name in fashion_mnist.SUMS:
        content = images if "images" in name else labels
        (debian / f"{name}.gz").write_bytes(gzip.compress(content))
        sums[name] = idx.Sums(archive="", content=hashlib.md5(content).hexdigest())
    monkeypatch.setattr(fashion_mnist, "SUMS", sums)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", debian)
    data = fashion_mnist.fashion_mnist(data_dir=str(tmp_path / "empty"))
    assert (data.train_x.flatten().tolist(), data.test_y.tolist()) == ([9, 8], [4])
    own = tmp_path / "own" / "FashionMNIST" / "raw"
    own.mkdir(parents=True)
    (own / "train-labels-idx1-ubyte").write_bytes(b"")  # files of one's own come first
    monkeypatch.setattr(fashion_mnist, "URL", "http://127.0.0.1:9/")
    with pytest.raises(DataError):
        fashion_mnist.fashion_mnist(data_dir=str(tmp_path / "own"))


def test_reading_files_leaves_global_random_state_alone(tmp_path):
    write_cifar(tmp_path)
    write_idx(tmp_path / "labels.gz", LABELS)

    def states():
        numpy = np.random.get_state()  # noqa: NPY002
        return random.getstate(), numpy[1].tobytes(), numpy[2:], torch.get_rng_state().tolist()

    before = states()
    cifar10.load_batches(tmp_path, "", {}, per_file=4)
    idx.read_idx(tmp_path / "labels.gz", 1, None)
    assert states() == before


def test_published_names_and_checksums_are_complete():
    for sums in (mnist.SUMS, fashion_mnist.SUMS):
        assert set(sums) == {*idx._TRAIN, *idx._TEST}
    idx_sums = [*mnist.SUMS.values(), *fashion_mnist.SUMS.values()]
    every = [md5 for sums in idx_sums for md5 in (sums.archive, sums.content)]
    every += [*cifar10.MD5S.values(), cifar10.ARCHIVE_MD5]
    assert len(set(every)) == 23
    assert all(len(h) == 32 and int(h, 16) for h in every)


@pytest.mark.real
def test_real_mnist():
    real("MNIST/raw")
    data = mnist.mnist()
    assert (data.train_x.shape, data.test_x.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert data.train_y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.train_y.bincount()[[0, 5]].tolist() == [5923, 5421]
    pixels = data.train_x.float() / 255
    assert pixels.mean().item() == pytest.approx(data.mean[0], abs=5e-5)
    assert pixels.std().item() == pytest.approx(data.std[0], abs=5e-5)
    assert data.fingerprint == "fd8acb702579fc18"


@pytest.mark.real
def test_real_mnist_with_one_changed_byte_is_refused(tmp_path):
    raw = real("MNIST/raw")
    file = "t10k-labels-idx1-ubyte"
    path = raw / file
    content = (
        path.read_bytes() if path.exists() else gzip.decompress((raw / f"{file}.gz").read_bytes())
    )
    target = tmp_path / "MNIST" / "raw"
    target.mkdir(parents=True)
    for other in raw.iterdir():
        (target / other.name).symlink_to(other.resolve())
    (target / file).unlink(missing_ok=True)
    (target / file).write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    with pytest.raises(DataError) as error:
        mnist.mnist(data_dir=str(tmp_path))
    one_line(error, target / file, "is not the published file", "delete it")


# --- CIFAR-10 -------------------------------------------------------------------------------------


def test_cifar10_pixels_channels_and_labels_land_where_they_belong(tmp_path):
    data = cifar10.load_batches(write_cifar(tmp_path), "drawn by hand", {}, per_file=4)
    assert (data.train_x.shape, data.test_x.shape) == ((20, 3, 32, 32), (4, 3, 32, 32))
    assert data.train_x[:, :, 9, 9].tolist() == [
        [10 * i, 10 * i + 1, 10 * i + 2] for i in range(5) for _ in range(4)
    ]
    assert (data.train_x[:, :, 1, 0] == torch.tensor([200, 0, 0])).any(1).all()
    assert data.train_x[3, 0, 0, 1] == 0
    assert data.train_y.tolist() == [i + k for i in range(5) for k in range(4)]
    assert data.test_y.tolist() == [5, 6, 7, 8]
    assert data.train_x.is_contiguous()
    assert data.source == "drawn by hand"
    assert data.fingerprint == "ba8d038cee6ab1bc"


@pytest.mark.parametrize("at", [0, 1, 4 * 3073 - 1])
@pytest.mark.parametrize("name", ["data_batch_5.bin", "test_batch.bin"])
def test_cifar10_fingerprint_sees_one_byte(tmp_path, name, at):
    before = cifar10.load_batches(write_cifar(tmp_path), "", {}, per_file=4)
    content = bytearray((tmp_path / name).read_bytes())
    content[at] ^= 1
    (tmp_path / name).write_bytes(content)
    after = cifar10.load_batches(tmp_path, "", {}, per_file=4)
    assert after.fingerprint != before.fingerprint


def test_cifar10_refuses_damage_and_names_the_file(tmp_path):
    path = write_cifar(tmp_path) / "data_batch_3.bin"
    good = path.read_bytes()
    md5s = {path.name: hashlib.md5(good).hexdigest()}
    cifar10.load_batches(tmp_path, "", md5s, per_file=4)
    damages = {
        "0 bytes": b"",
        "12291 bytes": good[:-1],
        "12293 bytes": good + b"x",
        "label 10": bytes([10]) + good[1:],
        "is not the published file": good[:-1] + b"x",
    }
    for says, content in damages.items():
        path.write_bytes(content)
        with pytest.raises(DataError) as error:
            cifar10.load_batches(tmp_path, "", md5s if "published" in says else {}, per_file=4)
        one_line(error, path, says, "delete it")


@pytest.fixture
def full_size(tmp_path):
    """Batches of the right size that are all zero; sparse, so they take no room."""
    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    for name in cifar10.MD5S:
        with (folder / name).open("wb") as file:
            file.truncate(30_730_000)
    return folder


@pytest.mark.slow
def test_cifar10_other_pixels_need_a_source(full_size, tmp_path):
    with pytest.raises(DataError) as error:
        cifar10.cifar10(data_dir=str(tmp_path))
    one_line(error, full_size / "data_batch_1.bin", "is not the published file", "SOURCE.txt")
    (full_size / "SOURCE.txt").write_text("all black\n")
    data = cifar10.cifar10(data_dir=str(tmp_path))
    assert (len(data.train_y), len(data.test_y), data.source) == (50000, 10000, "all black")
    with (full_size / "test_batch.bin").open("r+b") as file:
        file.truncate(30_729_999)
    with pytest.raises(DataError, match=r"test_batch\.bin has 30729999 bytes"):
        cifar10.cifar10(data_dir=str(tmp_path))


def test_cifar10_never_completes_other_pixels_with_published_ones(full_size, tmp_path):
    (full_size / "SOURCE.txt").write_text("all black")
    (full_size / "data_batch_4.bin").unlink()
    with pytest.raises(DataError) as error:
        cifar10.cifar10(data_dir=str(tmp_path))
    one_line(error, full_size / "data_batch_4.bin", "SOURCE.txt", "FGBENCH_DATA")


@pytest.fixture
def cifar_archive(loopback, tmp_path, monkeypatch):
    """A small archive on a web server in the place of the published one."""
    served, url = loopback
    write_cifar(tmp_path / "made" / cifar10.FOLDER)
    (tmp_path / "made" / cifar10.FOLDER / "readme.html").write_text("not data")
    archive = served / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / cifar10.FOLDER, cifar10.FOLDER)
    monkeypatch.setattr(cifar10, "URL", url + archive.name)
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    return archive


def test_cifar10_archive_is_fetched_and_only_missing_batches_taken(cifar_archive, tmp_path):
    root = tmp_path / "data"
    folder = root / cifar10.FOLDER
    with pytest.raises(DataError, match="expected 30730000"):  # the made batches are small
        cifar10.cifar10(data_dir=str(root))
    assert sorted(p.name for p in folder.iterdir()) == sorted(cifar10.MD5S)
    cifar_archive.unlink()
    (folder / "data_batch_1.bin").write_bytes(b"mine")
    (folder / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_1\.bin has 4 bytes"):
        cifar10.cifar10(data_dir=str(root))
    assert (folder / "data_batch_1.bin").read_bytes() == b"mine"
    assert (folder / "data_batch_2.bin").stat().st_size == 4 * 3073


def test_cifar10_archive_that_cannot_be_unpacked_is_one_line(cifar_archive, tmp_path, monkeypatch):
    cifar_archive.write_bytes(b"not an archive")
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(b"not an archive").hexdigest())
    with pytest.raises(DataError) as error:
        cifar10.cifar10(data_dir=str(tmp_path / "data"))
    one_line(error, "cifar-10-binary.tar.gz", "cannot be unpacked", "delete it")
    assert list((tmp_path / "data" / cifar10.FOLDER).iterdir()) == []


@pytest.mark.real
def test_real_cifar10():
    folder = real(cifar10.FOLDER)
    data = cifar10.cifar10()
    assert (data.train_x.shape, data.test_x.shape) == ((50000, 3, 32, 32), (10000, 3, 32, 32))
    assert data.train_y.bincount().tolist() == [5000] * 10
    assert data.test_y.bincount().tolist() == [1000] * 10
    x = data.train_x[:5000].float() / 255
    assert x.mean((0, 2, 3)).tolist() == pytest.approx(data.mean, abs=0.01)
    assert x.flatten(2).std(2).mean(0).tolist() == pytest.approx(data.std, abs=0.01)
    source = folder / "SOURCE.txt"
    assert data.source == (source.read_text().strip() if source.exists() else "")
