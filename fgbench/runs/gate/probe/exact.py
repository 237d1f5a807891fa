"""Numbers that equal code gives bit for bit: data, weights, draws, estimates, trainings, intervals.

Everything is float64 on one CPU thread with fixed noise. A *cell* is one small computation with a name, a
kind and its numbers; ``digest`` is a hash of these. ``answer`` takes

``{"ask": "plan"}``: the names of the groups of cells, cheap ones first;
``{"ask": "group", "group": NAME}``: the cells of a group;
``{"ask": "cells", "cells": [{"method": ..., "arch": ..., "data": ...}, ...]}``: estimates of given methods.

Methods, networks and data come from the registry of the measured tree, new files included. A cell that cannot
be computed has ``n/a`` with the reason; one whose code raises has ``failed``. ``only`` restricts a request:
``{"estimators": [...], "localities": [...], "archs": [...]}``.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

Cell = dict[str, Any]
Numbers = dict[str, Any]

DATA = "synthetic[size=8,train=64,test=32]"
MIXER = "localmixer-xs/2/4[channels=6,groups=2]"
NETS = ("mlp-2x6", "cnn-tiny[width=4]", MIXER)
"""Three tiny networks: fully connected, convolutional, and with groups and patches."""
ELSEWHERE = {"noprop_dt": "noprop-2x8"}
"""Networks of localities that run on no other."""
COVER: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    NETS[0]: (("end", "local"), ("fg_a",), 0),
    NETS[1]: (("end",), ("fg_w",), 0),
    MIXER: (("end", "local-pg", "module-pg"), ("bp", "fg_a", "fg_w", "np"), 12),
}
"""By network: localities of all estimators, estimators of all localities, one of how many other pairs."""
BATCH = 3
SEED = 7

MEASURED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (NETS[0], "auto", ("bp/end", "np/end", "wp/end")),
    (NETS[0], "dual", ("fg_a/end", "fg_w/end")),
    (NETS[0], "cotangent", ("fg_a/end", "fg_w/end")),
    (NETS[1], "dual", ("fg_a/end",)),
    (MIXER, "dual", ("fg_a/local-pg", "fg_w/local-pg", "fg_a/module-pg")),
    (MIXER, "cotangent", ("fg_a/local-pg", "fg_w/local-pg")),
)
"""Methods that are measured with draws, by network and engine; every other one gives single estimates."""
DESIGN: dict[str, Any] = {
    "draws": 8,
    "batches": 1,
    "batch": 8,
    "seed": SEED,
    "dtype": "float64",
    "threads": 1,
}
UNSTABLE = {
    *(
        "key",
        "case_key",
        "commit",
        "where",
        "code",
        "about",
        "schema",
        "settings",
        "seconds",
        "objects",
    ),
    *("started", "ended", "begun", "finished", "reused", "graph", "options", "method", "step_ms"),
}
"""Fields of a record that differ from run to run, or with the words of a docstring."""
TIMES = ("seconds", "elapsed_s")
STEP_FACTORS = (4, 16)
"""Multiples of a finite-difference step at which its error is read."""
DEAR = 1.0
"""Passes per parameter from which an estimator is left out on all but the smallest network."""
TEXTS = "abcdefgh ijklmnop\nqrstuv wxyz. " * 40


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one request.

    Args:
        request: see the module.

    Returns:
        ``groups``, or ``cells`` and the ``modules`` of fgbench that were imported for them.

    Example:
        >>> answer({"ask": "plan"})["groups"][0]
        'data'
    """
    if request["ask"] == "plan":
        return {"groups": list(GROUPS)}
    _one_thread()
    only = request.get("only") or {}
    if request["ask"] == "cells":
        cells = [_given(each) for each in request["cells"]]
    else:
        cells = list(GROUPS[request["group"]](only))
    for cell in cells:
        cell["digest"] = digest(cell)
    return {"cells": cells, "modules": _modules()}


def digest(cell: Mapping[str, Any]) -> str:
    """Return the hash of a cell's numbers, of its reason where it has none.

    Args:
        cell: the cell.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> digest({"numbers": {"a": 0.1}}) == digest({"numbers": {"a": 0.10}})
        True
    """
    known = {name: cell.get(name) for name in ("numbers", "n/a", "failed")}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


# cells


def _cell(kind: str, name: str, make: Callable[[], Numbers], **facts: str) -> Cell:
    """Return a cell with its numbers, or with the reason why it has none."""
    from fgbench.errors import UsageError

    cell: Cell = {"kind": kind, "name": name, **facts}
    try:
        cell["numbers"] = make()
    except NotHere as error:
        cell["n/a"] = str(error)
    except (ImportError, UsageError) as error:
        cell["n/a"] = _line(error)
    except Exception as error:
        cell["failed"] = f"{type(error).__name__}: {_line(error)}"
    return cell


class NotHere(Exception):
    """A cell that this tree does not have; the message is the reason."""


def _line(error: BaseException) -> str:
    """Return the message of an error as one line without addresses and temporary folders."""
    text = " ".join(str(error).split())
    return re.sub(r"0x[0-9a-f]+|/\S*/fgbench-probe-\w+", "...", text)[:300]


def _one_thread() -> None:
    """Compute on one thread, whatever the environment says."""
    import torch

    torch.set_num_threads(1)


def _modules() -> list[str]:
    """Return the files of fgbench that are imported, below the folder of the package."""
    import sys

    root = Path(sys.modules["fgbench"].__file__ or "").parent
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.startswith("fgbench.") and file and Path(file).is_relative_to(root):
            found.append(Path(file).relative_to(root).as_posix())
    return sorted(found)


def _numbers(tensor: Any) -> Numbers:
    """Return a tensor as two numbers and a hash: its sum along fixed waves, its sum of squares, its bytes."""
    import torch

    flat = torch.as_tensor(tensor).detach().cpu().contiguous().flatten()
    raw = flat.view(torch.uint8) if flat.numel() else flat
    real = flat.to(torch.float64)
    waves = torch.cos(torch.arange(1, len(real) + 1, dtype=torch.float64))
    return {
        "along": float((real * waves).sum()),
        "square": float((real * real).sum()),
        "bytes": hashlib.sha256(raw.numpy().tobytes()).hexdigest()[:12],
    }


def _flat(value: Any, path: str = "") -> Numbers:
    """Return the numbers in nested results by their path; texts of one word count too."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        parts: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list | tuple):
        parts = list(enumerate(value))
    else:
        plain = isinstance(value, bool | int | float | str | None)
        return {path or "value": value if plain else type(value).__name__}
    found: Numbers = {}
    for name, part in parts:
        found |= _flat(part, f"{path}.{name}" if path else str(name))
    return found


def _chosen(names: Sequence[str], only: Mapping[str, Any], kind: str) -> list[str]:
    """Return those names that a request asks for, all where it does not say."""
    wanted = only.get(kind)
    return [name for name in names if wanted is None or name in wanted]


# data


def _data(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield pixels and labels as networks get them, splits, and changes of images."""
    from fgbench import registry

    with tempfile.TemporaryDirectory(prefix="fgbench-probe-") as folder, _no_network():
        for name in _chosen(registry.names("datasets"), only, "datasets"):
            yield _cell("data", f"data {name}", partial(_loaded_rows, name, folder), data=name)
    if "datasets" not in only:
        yield _cell("data", "data splits", _splits, data="synthetic", about="splits")
        for change in (
            {"flip": 0.5},
            {"area": 0.3},
            {"jitter": 1.0},
            {"gray": 0.5},
            {"blur": 1.0},
            {"solarise": 0.5},
        ):
            (about,) = change
            yield _cell("data", f"data {about}", partial(_augmented, change), about=about)


@contextmanager
def _no_network() -> Iterator[None]:
    """Refuse connections: nothing is fetched for a comparison of code."""
    import socket

    def refuse(*address: Any, **options: Any) -> Any:
        raise OSError("the gate fetches nothing")

    before = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect, socket.getaddrinfo = refuse, refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = before  # type: ignore[method-assign]


def _loaded_rows(name: str, folder: str) -> Numbers:
    """Return the first examples of a registered data set."""
    return _rows(_loaded(name, folder))


def _loaded(name: str, folder: str) -> Any:
    """Return a registered data set, small where it has sizes, from made files where it needs any."""
    from fgbench import registry

    entry = registry.entries("datasets")[name]
    options: Numbers = {}
    if entry.error:
        raise NotHere(entry.error)
    options |= {size: n for size, n in (("train", 64), ("test", 32)) if size in entry.options}
    if name in MADE_FILES:
        options |= MADE_FILES[name](Path(folder))
    if name in ("mnist", "fashion_mnist"):
        with _made_images():
            return entry.make(data_dir=folder)
    if name == "cifar10":
        return _made_batches(Path(folder))
    if name == "shakespeare":
        raise NotHere("needs a file that is not part of the repository")
    return entry.make(**options, data_dir=folder)


@contextmanager
def _made_images() -> Iterator[None]:
    """Give data sets in IDX files made pixels in place of the published ones."""
    from fgbench.data.files import idx

    def made(*given: Any) -> tuple[Any, ...]:
        import torch

        pixels = torch.arange(12 * 28 * 28).reshape(12, 1, 28, 28) * 37 % 251
        labels = torch.arange(12) % 10
        x = pixels.to(torch.uint8)
        return x[:8], labels[:8], x[8:], labels[8:]

    before = idx.read_splits
    idx.read_splits = made  # type: ignore[assignment]
    try:
        yield
    finally:
        idx.read_splits = before


def _made_batches(folder: Path) -> Any:
    """Return CIFAR-10 from made batches of four images."""
    from fgbench.data import cifar10

    for k, name in enumerate(cifar10.MD5S):
        records = (
            bytes([(i + k) % 10]) + bytes((i * 31 + k + j) % 251 for j in range(3072))
            for i in range(4)
        )
        (folder / name).write_bytes(b"".join(records))
    return cifar10.load_batches(folder, "made", {}, per_file=4)


def _image_tree(folder: Path) -> Numbers:
    """Make pictures of two classes, and return the options of their folder."""
    import numpy as np
    from PIL import Image

    for label in ("cat", "dog"):
        (folder / "tree" / label).mkdir(parents=True, exist_ok=True)
        for k in range(5):
            pixels = np.arange(9 * 7 * 3).reshape(9, 7, 3) * (31 + k + len(label)) % 251
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "tree" / label / f"{k}.bmp")
    return {"root": str(folder / "tree"), "size": 6}


def _array_file(folder: Path) -> Numbers:
    """Make a file of arrays, and return the options that name it."""
    import numpy as np

    x = np.arange(40.0).reshape(20, 2) % 7
    np.savez(folder / "a.npz", x=x, y=np.arange(20) % 3)
    return {"path": str(folder / "a.npz")}


def _text_file(folder: Path) -> Numbers:
    """Make a text, and return the options that name it."""
    (folder / "a.txt").write_text(TEXTS)
    return {"path": str(folder / "a.txt"), "context": 8}


MADE_FILES: dict[str, Callable[[Path], Numbers]] = {
    "imagefolder": _image_tree,
    "arrays": _array_file,
    "text": _text_file,
}


def _rows(data: Any) -> Numbers:
    """Return the first examples of both splits as a network gets them, and the sizes."""
    import torch

    found: Numbers = {"train": data.train_size, "test": data.test_size, "classes": data.classes}
    for split in ("train", "test"):
        x, y = getattr(data, f"{split}_x"), getattr(data, f"{split}_y")
        n = min(32, getattr(data, f"{split}_size"))
        stored = data.here(x, y, slice(0, n))
        for what, value in zip(("x", "y"), data.prepare(*stored, torch.float64), strict=True):
            found |= _tree(value, f"{split}_{what}")
    return found


def _tree(value: Any, path: str) -> Numbers:
    """Return the numbers of a tensor, or of tensors in mappings and sequences."""
    import torch

    if isinstance(value, torch.Tensor):
        return {f"{path}.{name}": number for name, number in _numbers(value).items()}
    parts = (
        value.items()
        if isinstance(value, Mapping)
        else enumerate(value)
        if isinstance(value, list | tuple)
        else ()
    )
    found: Numbers = {}
    for name, part in parts:
        found |= _tree(part, f"{path}.{name}")
    return found


def _splits() -> Numbers:
    """Return what is held out of a data set, and the order in which an epoch visits it."""
    from fgbench import registry
    from fgbench.core.noise.keyed import Noise

    data = registry.make("datasets", DATA).thing
    small = data.subset(48).held_out(16)
    order = Noise(SEED).permutation("order", 48)
    return {**_rows(small), **_tree(order, "order"), "fingerprint": small.fingerprint}


def _augmented(change: Mapping[str, float]) -> Numbers:
    """Return images after one random change."""
    import torch

    from fgbench.core.noise.keyed import Noise
    from fgbench.data.augment import Policy, augment

    x = (
        torch.cos(torch.arange(3 * 3 * 24 * 24, dtype=torch.float64)).reshape(3, 3, 24, 24) / 2
        + 0.5
    )
    return _tree(augment(x, Policy(**change), Noise(SEED, dtype=torch.float64)), "images")


# weights and draws


def _weights(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield the initial weights of every architecture, in a small form."""
    from fgbench import registry

    for name in _chosen(list(registry.entries("architectures")), only, "architectures"):
        arch = _small(name)
        yield _cell("weights", f"weights {arch}", partial(_initial, arch), arch=arch)
    for arch in _chosen(NETS, only, "archs") if "architectures" not in only else ():
        yield _cell("weights", f"weights {arch}", partial(_initial, arch), arch=arch)


def _small(name: str) -> str:
    """Return a small form of an architecture's name."""
    from fgbench import registry

    entry = registry.entries("architectures")[name]
    for ending in ("2x8", "2x4", "8", "2"):
        if entry.pattern and re.fullmatch(entry.pattern, ending):
            return f"{name}-{ending}"
    tiny = [ending for ending in entry.variants if re.match("xs|tiny|small|s", ending)]
    return f"{name}-{tiny[0]}" if tiny else name


def _initial(arch: str) -> Numbers:
    """Return the weights of a network before training, on the first data that it takes."""
    from fgbench.errors import UsageError

    reason = ""
    for data in (
        DATA,
        "copy[train=64,test=32]",
        "adding[train=64,test=32]",
        "poisson[train=64,test=32]",
    ):
        try:
            chain = _workload(arch, data).chain(SEED)
        except (UsageError, TypeError, ValueError) as error:
            reason = reason or _line(error)
            continue
        return {f"{n}.{k}": v for n, p in chain.named_parameters() for k, v in _numbers(p).items()}
    raise NotHere(reason)


@cache
def _workload(arch: str, data: str = DATA) -> Any:
    """Return a network on data, in float64."""
    from fgbench.workload import Workload

    return Workload.of(arch, data, dtype="float64")


def _draws(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield random numbers: of every law, of primitives, of masks and of initial weights."""
    from fgbench.core.noise import laws

    names = [*laws.LAWS, *(f"{name}[rank=2]" for name in getattr(laws, "MATRIX_LAWS", ()))]
    for name in names:
        yield _cell("draws", f"draws {name}", partial(_directions, name), about=name)
    yield _cell("draws", "draws primitives", _primitives, about="primitives")


def _directions(law: str) -> Numbers:
    """Return directions of a law, small and large."""
    import torch

    from fgbench.core.noise.keyed import Noise

    noise = Noise(SEED, ("gate",), dtype=torch.float64)
    found = noise.directions({"w": (6, 5), "v": (70, 70)}, 3, law)
    return {**_tree(found.rows("w", 0, 3), "w"), **_tree(found.rows("v", 0, 3), "v")}


def _primitives() -> Numbers:
    """Return normals, an order, a draw at another step and of another draw, and torch's seeded generator."""
    import torch

    from fgbench.core.noise.keyed import Noise

    noise = Noise(SEED, ("gate",), dtype=torch.float64)
    with noise.seeded():
        seeded = torch.randn(5, dtype=torch.float64)
    found = {
        "seeded": seeded,
        "normal": noise.normal("x", (9,)),
        "order": noise.permutation("y", 9),
    }
    found |= {"step": noise.at(3).normal("x", (9,)), "child": noise.child("z").normal("x", (9,))}
    found["redrawn"] = noise.redrawn(2).normal("x", (9,))
    return _tree(found, "noise")


# estimates


def _estimates(arch: str) -> Callable[[Mapping[str, Any]], Iterator[Cell]]:
    """Return what yields one estimate of methods on a network."""

    def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
        from fgbench import registry

        if arch not in only.get("archs", [arch]):
            return
        estimators = _chosen(registry.names("estimators"), only, "estimators")
        localities = _chosen(registry.names("localities"), only, "localities")
        for estimator in estimators:
            if arch != NETS[0] and _dear(estimator):
                reason = "too dear: at least one pass for each parameter"
                yield _refused("estimate", estimator, "", arch, reason)
                continue
            for locality in localities:
                if _covered(estimator, locality, arch) or len(localities) == 1:
                    yield _estimate(estimator, locality, arch)
        for locality in localities if arch == NETS[0] else ():
            if locality in ELSEWHERE:
                for estimator in estimators:
                    yield _estimate(estimator, locality, ELSEWHERE[locality])

    return cells


def _covered(estimator: str, locality: str, arch: str) -> bool:
    """Return whether a pair of an estimator and a locality is computed on a network.

    All estimators are computed under a few localities and all localities with a few estimators. Of the other
    pairs a part that their names choose is computed on the network with groups and patches: a new file
    changes no other cell.
    """
    if locality in ELSEWHERE or (_same_here(locality, arch)):
        return False
    few_localities, few_estimators, share = COVER[arch]
    if estimator in few_estimators or locality in few_localities:
        return True
    return share > 0 and zlib.crc32(f"{estimator}/{locality}".encode()) % share == 0


def _same_here(locality: str, arch: str) -> bool:
    """Return whether a locality keeps axes apart that a network lacks: its cells would repeat another's."""
    return arch != MIXER and bool(re.search(r"-p?g?$", locality)) and locality[-1] in "pg"


def _estimate(estimator: str, locality: str, arch: str) -> Cell:
    """Return the cell of one estimate."""
    method = f"{estimator}/{locality}"
    return _cell(
        "estimate", f"estimate {method} on {arch}", lambda: _one_estimate(method, arch),
        method=method, arch=arch, data=DATA,
    )  # fmt: skip


def _refused(kind: str, estimator: str, locality: str, arch: str, reason: str) -> Cell:
    """Return a cell that is not computed, with the reason."""
    method = f"{estimator}/{locality}"
    return {
        "kind": kind,
        "name": f"{kind} {method} on {arch}",
        "method": method,
        "arch": arch,
        "n/a": reason,
    }


def _given(case: Mapping[str, Any]) -> Cell:
    """Return the cell of one estimate by a given method, on a given network and data."""
    method, arch, data = case["method"], case.get("arch", NETS[0]), case.get("data", DATA)
    return _cell(
        "estimate", f"estimate {method} on {arch}", lambda: _one_estimate(method, arch, data),
        method=method, arch=arch, data=data,
    )  # fmt: skip


@cache
def _dear(estimator: str) -> bool:
    """Return whether an estimate costs a pass for each parameter."""
    try:
        found = _one_estimate(f"{estimator}/end", NETS[0])
    except Exception:
        return False
    return float(found["ledger.forward_equivalents"]) >= DEAR * float(found["parameters"])


@cache
def _one_estimate(method: str, arch: str, data: str = DATA) -> Numbers:
    """Return one estimate: two numbers of every parameter and learned state, a hash of all, the price."""
    from fgbench import registry
    from fgbench.core.estimator import why_not

    made = registry.method(method)
    task, x, y, start = _task(made.locality.text, arch, data)
    task.chain.load_state_dict(start)
    estimator, noise = made.estimator.thing, _workload(arch, data).noise(SEED)
    if reason := why_not(estimator, task.scheme):
        raise NotHere(reason)
    state = task.init_state(estimator, noise)
    step = task.estimate(x, y, estimator, noise.child("directions"), state)
    numbers = _of_step(step)
    return numbers | {"parameters": sum(p.numel() for p in task.chain.body_parameters().values())}


def _of_step(step: Any) -> Numbers:
    """Return the numbers of one estimate: of parameters and learned state, its loss and its price."""
    body = {name: step.body[name] for name in step.body}
    found = _tree(body, "body") | _tree(dict(step.readouts), "readouts")
    found |= _tree(step.state_grads, "state_grads") | _tree(step.new_state, "new_state")
    found = _with_one_hash(found)
    if step.loss is not None:
        found["loss"] = float(step.loss)
    found |= _flat(step.ledger.as_dict(), "ledger")
    found["ledger.forward_equivalents"] = float(step.ledger.forward_equivalents)
    return found


def _with_one_hash(numbers: Numbers) -> Numbers:
    """Return numbers of tensors with one hash of all bytes in place of one for each tensor."""
    hashes = {path: value for path, value in numbers.items() if path.endswith(".bytes")}
    whole = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:12]
    return {path: value for path, value in numbers.items() if path not in hashes} | {"bytes": whole}


@cache
def _task(locality: str, arch: str, data: str) -> tuple[Any, Any, Any, Any]:
    """Return a network under a locality that all estimators share, a batch, and its parameters."""
    import torch

    from fgbench import registry

    workload = _workload(arch, data)
    task, _, noise = workload.task(registry.method(f"bp/{locality}"), SEED)
    _fill(task.chain)
    if hasattr(task, "at"):
        from fgbench.core.clock import Clock

        task = task.at(Clock(0, 10, 0, 1))
    rows = workload.data.rows(torch.arange(BATCH))
    x, y = task.scheme.batch(*rows, workload.data, noise.child("views"))
    return task, x, y, {name: value.clone() for name, value in task.chain.state_dict().items()}


def _fill(chain: Any) -> None:
    """Fill parameters that begin at zero: behind a zero readout every gradient is zero."""
    import torch

    with torch.no_grad():
        for parameter in chain.parameters():
            if not parameter.any():
                waves = torch.cos(torch.arange(parameter.numel(), dtype=parameter.dtype))
                parameter.copy_(0.3 * waves.reshape(parameter.shape))


def _steps(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield estimates at multiples of a finite-difference step: their errors give the step that is used."""
    from fgbench import registry

    entries = registry.entries("estimators")
    for name in _chosen(list(entries), only, "estimators"):
        step = entries[name].options.get("step") if not entries[name].error else None
        if isinstance(step, float):
            for factor in STEP_FACTORS:
                size = factor * (step or 1e-3)
                method = f"{name}[step={size:g}]/end"
                yield _cell(
                    "estimate", f"step {name} times {factor}",
                    partial(_one_estimate, method, NETS[0]),
                    method=f"{name}/end", arch=NETS[0], data=DATA, about=f"step {size:g}",
                )  # fmt: skip


# wrapped networks

WRAPPED = ("residual", "convolutions", "attention", "recurrent", "running mean")
"""Ordinary modules that know nothing of fgbench, see :func:`_module`."""
WRAPPED_METHODS = tuple(
    f"{estimator}/{locality}"
    for locality in ("end", "local")
    for estimator in ("bp", "fg_a", "fg_w", "np")
)


def _wrapped(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield what is found in ordinary modules, estimates on them, and the buffers that steps leave."""
    for name in _chosen([f"wrapped {name}" for name in WRAPPED], only, "archs"):
        kind = name.partition(" ")[2]
        yield _cell("estimate", f"{name}: sites", partial(_sites, kind), arch=name, about="sites")
        for method in WRAPPED_METHODS:
            estimator, _, locality = method.partition("/")
            if _chosen([estimator], only, "estimators") and _chosen([locality], only, "localities"):
                make = partial(_wrapped_estimate, kind, method)
                yield _cell("estimate", f"{name}: {method}", make, arch=name, about=method)
        for method in ("bp/end", "fg_a/end") if kind == "running mean" else ():
            if _wanted(method, only):
                make = partial(_left_buffers, kind, method)
                about = f"{method} buffers"
                yield _cell("estimate", f"{name}: {about}", make, arch=name, about=about)


def _module(kind: str) -> tuple[Any, Any, Any, Any, Any]:
    """Return a small module in float64, inputs, targets, its loss per example, and where it is cut."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def waves(*shape: int) -> Any:
        return torch.cos(torch.arange(1.0, 1 + torch.Size(shape).numel()) ** 1.5).reshape(shape)

    class Residual(nn.Module):
        """A perceptron whose hidden layer is added to its input."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.hidden, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            h = F.relu(self.first(x))
            return self.last(h + torch.tanh(self.hidden(h)))

    class Convolutions(nn.Module):
        """Two convolutions, the first with a norm of groups, and the mean over pixels."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4)
            self.second, self.last = nn.Conv2d(4, 3, 3, stride=2), nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            h = F.relu(self.norm(self.first(x)))
            return self.last(F.gelu(self.second(h)).mean((2, 3)))

    class Attention(nn.Module):
        """Tokens that attend under a mask which all examples share; the readout is the embedding's."""

        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix, self.out = nn.Embedding(7, 4), nn.Linear(4, 12), nn.Linear(4, 4)

        def forward(self, tokens: Any, mask: Any) -> Any:
            h = self.embed(tokens)
            q, k, v = self.mix(h).chunk(3, -1)
            h = h + self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
            return h @ self.embed.weight.T

    class Recurrent(nn.Module):
        """A gated cell that goes over three positions, and a readout of the last state."""

        def __init__(self) -> None:
            super().__init__()
            self.cell, self.last = nn.GRUCell(2, 4), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            h = x.new_zeros(len(x), 4)
            for t in range(3):
                h = self.cell(x[:, t], h)
            return self.last(h)

    class Running(nn.Module):
        """Takes a running mean off, which it writes in place, and counts its calls."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
            self.register_buffer("mean", torch.zeros(5))
            self.register_buffer("calls", torch.zeros(()))
            self.mean: torch.Tensor
            self.calls: torch.Tensor

        def forward(self, x: Any) -> Any:
            h = self.first(x)
            seen = h - self.mean
            self.mean.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
            self.calls = self.calls + 1
            return self.last(torch.tanh(seen))

    def of_classes(prediction: Any, target: Any) -> Any:
        return F.cross_entropy(prediction, target, reduction="none")

    def of_tokens(prediction: Any, target: Any) -> Any:
        each = F.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
        return each.view(target.shape).mean(1)

    labels, tokens = torch.arange(BATCH) % 3, torch.arange(BATCH * BATCH).reshape(BATCH, BATCH)
    mask = torch.ones(BATCH, BATCH, dtype=torch.bool).tril()  # as long as the batch, and shared
    module, x, y, loss, cut = {
        "residual": (Residual, waves(BATCH, 6), labels, of_classes, ("first",)),
        "convolutions": (Convolutions, waves(BATCH, 1, 5, 5), labels, of_classes, ("norm",)),
        "attention": (Attention, (tokens * 5 % 7, mask), tokens * 3 % 7, of_tokens, ("embed",)),
        "recurrent": (Recurrent, waves(BATCH, 3, 2), labels, of_classes, ("cell",)),
        "running mean": (Running, waves(BATCH, 6), labels, of_classes, ("first",)),
    }[kind]
    with torch.random.fork_rng(devices=[]):
        net = module()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.2 + 0.6 * waves(*parameter.shape))
    if isinstance(x, torch.Tensor):
        x = x.double()
    return net.double(), x, y, loss, cut


@cache
def _wrapped_chain(kind: str, cut: bool) -> tuple[Any, Any, Any]:
    """Return a module as a chain of the measured tree, inputs and targets."""
    import fgbench

    net, x, y, loss, where = _module(kind)
    if not hasattr(fgbench, "wrap"):
        raise NotHere("this tree has no fgbench.wrap")
    return fgbench.wrap(net, x, loss, cut=where if cut else ()), x, y


def _sites(kind: str) -> Numbers:
    """Return the sites that are found in a module, with their shapes and shares of the operations."""
    chain, _, _ = _wrapped_chain(kind, True)
    shapes = chain.shapes()
    found = {name: [k, site.axes, *shapes[name]] for name, (k, site) in chain.index.items()}
    return _flat({"sites": found, "shares": chain.shares(), "rectified": sorted(chain.rectified())})


def _wrapped_estimate(kind: str, method: str) -> Numbers:
    """Return one estimate on a module."""
    import torch

    from fgbench import registry
    from fgbench.core.estimator import why_not
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Task

    made = registry.method(method)
    chain, x, y = _wrapped_chain(kind, made.locality.text == "local")
    task = Task.build(chain, made.locality.thing, Noise(SEED))
    task.chain.to(dtype=torch.float64)
    estimator, noise = made.estimator.thing, Noise(SEED, dtype=torch.float64)
    if reason := why_not(estimator, task.scheme):
        raise NotHere(reason)
    state = task.init_state(estimator, noise)
    return _of_step(task.estimate(x, y, estimator, noise.child("directions"), state))


def _left_buffers(kind: str, method: str) -> Numbers:
    """Return the buffers of a module and its loss after two steps in a loop of one's own."""
    import torch

    import fgbench

    net, x, y, loss, _ = _module(kind)
    if not hasattr(fgbench, "ForwardGradient"):
        raise NotHere("this tree has no fgbench.ForwardGradient")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    forward = fgbench.ForwardGradient(net, loss, method, optimizer, seed=SEED)
    losses = [forward.step(x, y) for _ in range(2)]
    return _tree(dict(net.named_buffers()), "buffers") | _flat(losses, "losses")


# measurements


def _measurements(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield every number of ``measure``: a few methods by both engines, on the three networks."""
    for arch, engine, methods in MEASURED:
        if arch in only.get("archs", [arch]):
            yield from _measured(arch, engine, [m for m in methods if _wanted(m, only)])


def _measured(arch: str, engine: str, methods: Sequence[str]) -> Iterator[Cell]:
    """Yield the cells of methods that are measured at the same points."""
    from fgbench.errors import UsageError

    about = f"measure engine {engine}"
    options: dict[str, Any] = {"engine": engine, "moments": (1.0,), **DESIGN}
    try:
        found = _records("measure", methods, arch, **options) if methods else []
    except (UsageError, ImportError, TypeError):  # of one of them: each on its own
        found = [partial(_record, "measure", method, arch, **options) for method in methods]
    for method, make in zip(methods, found, strict=True):
        name = f"measure {method} on {arch} engine {engine}"
        yield _cell("estimate", name, make, method=method, arch=arch, data=DATA, about=about)


def _records(
    verb: str, methods: Sequence[str], arch: str, **options: Any
) -> list[Callable[[], Numbers]]:
    """Return what gives the numbers of each run, or raises why it has none."""
    from fgbench.api import run_all

    records = run_all(verb, list(methods), arch=arch, data=DATA, **options)
    return [partial(_of_record, record) for record in records]


def _record(verb: str, method: str, arch: str, **options: Any) -> Numbers:
    """Return the numbers of one run."""
    return _records(verb, [method], arch, **options)[0]()


def _of_record(record: Mapping[str, Any]) -> Numbers:
    """Return the numbers of a record that are the same in every run of equal code."""
    if record["status"] == "failed":
        raise RuntimeError(record["reason"])
    if record["status"] == "skipped":
        raise NotHere(record["reason"])
    known = _flat({name: value for name, value in record.items() if name not in UNSTABLE})
    return {path: value for path, value in known.items() if not path.endswith(TIMES)}


# trainings

BASE: dict[str, Any] = {
    **{"epochs": 5, "batch": 64, "lr": 0.1, "lr_batch": 0, "optimizer": "sgd", "momentum": 0.0},
    **{"nesterov": False, "weight_decay": 0.0, "schedule": "constant", "warmup_epochs": 0.0},
    **{
        "head_lr": 1.0,
        "final_lr": 1.0,
        "head_decay": 1.0,
        "zero_heads": False,
        "flip": False,
        "crop": 1.0,
    },
    **{"colours": False, "blur": 0.0, "solarise": 0.0, "update": "none"},
}
"""Five steps of the plainest recipe; every variant changes one thing."""
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "optimizer adam": {"optimizer": "adam", "lr": 0.01},
    "optimizer adamw": {"optimizer": "adamw", "lr": 0.01},
    "optimizer rmsprop": {"optimizer": "rmsprop", "lr": 0.01},
    "optimizer lars": {"optimizer": "lars"},
    "schedule linear": {"schedule": "linear"},
    "schedule cosine": {"schedule": "cosine"},
    "schedule staircase": {"schedule": "staircase"},
    "warm-up": {"warmup_epochs": 3.0},
    "warm-up within an epoch": {"warmup_epochs": 0.5, "batch": 16, "epochs": 2},
    "momentum": {"momentum": 0.9},
    "momentum nesterov": {"momentum": 0.9, "nesterov": True},
    "momentum adam": {"optimizer": "adam", "lr": 0.01, "momentum": 0.5},
    "decay sgd": {"weight_decay": 0.1},
    "decay adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
    "decay adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "decay lars": {"optimizer": "lars", "weight_decay": 0.1},
    "rate per batch": {"lr_batch": 128},
    "order of batches": {"batch": 16, "epochs": 2},
    "flip": {"flip": True},
    "crop": {"crop": 0.5},
}
LOCAL_VARIANTS: dict[str, dict[str, Any]] = {
    "rate of heads": {"head_lr": 3.0},
    "rate of the final readout": {"final_lr": 3.0},
    "decay of heads": {"weight_decay": 0.1, "head_decay": 3.0},
    "zero heads": {"zero_heads": True},
}
TRAINED = (
    "FG-A",
    "FG-W",
    "LG-FG-A",
    "LG-FG-W",
    "NP",
    "WP",
    "FA",
    "DFA",
    "FF",
    "fg_a/module-pg",
    "bp/interlocking",
)
RECIPES = ("BP", "FG-A", "LG-FG-A")
"""Methods that are trained by the recipe that ships."""


def _trainings(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield losses of five steps: each optimiser, schedule and decay, several methods, shipped recipes."""
    from fgbench import registry

    if "estimators" in only and not {"bp"} & set(only["estimators"]):
        chosen: list[str] = []
    else:
        chosen = list(VARIANTS)
    for about in chosen:
        yield _trained("bp/end", NETS[0], about, BASE | VARIANTS[about])
    for about in LOCAL_VARIANTS if chosen else ():
        yield _trained("bp/local", NETS[0], about, BASE | LOCAL_VARIANTS[about])
    for method in TRAINED:
        if _wanted(method, only):
            arch = MIXER if "LG" in method or "module" in method else NETS[0]
            yield _trained(method, arch, "method", BASE | {"lr": 0.01})
    for method in RECIPES:
        if _wanted(method, only):
            yield _trained(method, NETS[0], "recipe", {"epochs": 2, "batch": 32})
    for name in registry.entries("updates") if chosen else ():
        yield _trained("fg_a/end", NETS[0], f"update {name}", BASE | {"update": name})


def _wanted(method: str, only: Mapping[str, Any]) -> bool:
    """Return whether a request asks for a method."""
    from fgbench import registry

    estimator = registry.parts(method)[0]
    return estimator in only.get("estimators", [estimator])


def _trained(method: str, arch: str, about: str, options: Mapping[str, Any]) -> Cell:
    """Return the cell of one training."""
    from fgbench import registry

    run = {"seed": SEED, "dtype": "float64", "threads": 1, **options}
    return _cell(
        "training", f"train {method} on {arch}: {about}",
        partial(_record, "train", method, arch, **run),
        method="/".join(registry.parts(method)), arch=arch, data=DATA, about=about,
    )  # fmt: skip


# intervals


def _intervals(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield intervals and p-values of fixed arrays."""
    import numpy as np

    i = np.arange(24.0)
    x = 1 + 0.3 * np.cos(i * i)
    y = x**2 + 0.5 + 0.2 * np.sin(3 * i)
    d = np.cos(np.outer(i + 1, np.arange(1, 6) + 0.5)) + 0.2
    gram, squares = d @ d.T, (d**2).sum(1)
    points = [list(x[k : k + 6]) for k in (0, 6, 12, 18)]
    calls: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
        "intervals.mean": ("intervals", (x,), {}),
        "intervals.scale": ("intervals", (x,), {}),
        "intervals.cosine": ("intervals", (x / 4,), {}),
        "intervals.efficiency": ("intervals", (x, y), {}),
        "intervals.scale_test": ("intervals", (x,), {}),
        "intervals.t_quantile": ("intervals", (7.0,), {}),
        "intervals.t_test": ("intervals", (0.3, 0.2, 7.0), {}),
        "medians.median": ("medians", (list(x),), {}),
        "aggregate.interquartile_mean": ("aggregate", ([x, y],), {}),
        "aggregate.wilson": ("aggregate", (np.array([0.2, 0.5]), np.array([10.0, 20.0])), {}),
        "bias.bias": ("bias", (gram, float(squares.sum()), 24), {}),
        "bias.coupled": ("bias", (x, gram, float(squares.sum())), {}),
        "blocks.sign_flip_p": ("blocks", (gram[:8, :8],), {}),
        "variance.relative_variance": ("variance", (squares, gram), {}),
        "variance.draws_needed": ("variance", (0.1, squares, gram), {}),
        "mean_direction.normalised_error": ("mean_direction", (x,), {}),
        "multiple_tests.holm": ("multiple_tests", ([0.01, None, 0.04, 0.2],), {}),
        "multiple_tests.benjamini_hochberg": ("multiple_tests", ([0.01, 0.04, None],), {}),
        "paired_seeds.seed_mean": ("paired_seeds", (x[:10],), {}),
        "paired_seeds.sign_flip": ("paired_seeds", (x[:10] - 1,), {}),
        "paired_seeds.difference": ("paired_seeds", (x[:10], y[:10]), {}),
        "replicates.spread": ("replicates", (list(x[:6]),), {"inits": [0, 0, 1, 1, 2, 2]}),
        "replicates.scale_over": ("replicates", (points,), {"inits": [0, 0, 1, 1]}),
        "replicates.efficiency_pooled": ("replicates", ([0.5, 0.6, 0.4],), {"inits": [0, 1, 2]}),
        "replicates.paired_log_ratio": (
            "replicates",
            (list(y[:4]), list(x[:4])),
            {"inits": [0, 1, 2, 3]},
        ),
        "seeds_needed.seeds_for": ("seeds_needed", (3,), {}),
    }
    for name, (room, given, named) in calls.items():
        yield _cell(
            "intervals",
            f"intervals {name}",
            partial(_called, room, name, given, named),
            about=name,
        )


def _called(room: str, name: str, given: Sequence[Any], named: Mapping[str, Any]) -> Numbers:
    """Return what a function of ``fgbench.stats`` returns for fixed arrays."""
    module = importlib.import_module(f"fgbench.stats.{room}")
    function = getattr(module, name.rpartition(".")[2], None)
    if function is None:
        raise NotHere(f"fgbench.stats.{name} does not exist")
    return _flat(function(*given, **named))


GROUPS: dict[str, Callable[[Mapping[str, Any]], Iterator[Cell]]] = {
    "data": _data,
    "weights": _weights,
    "draws": _draws,
    "intervals": _intervals,
    **{f"estimates on {arch}": _estimates(arch) for arch in NETS},
    "finite differences": _steps,
    "wrapped networks": _wrapped,
    "measurements": _measurements,
    "trainings": _trainings,
}
