"""Captured steps: the same run to the bit, noise that is not frozen, and what is not captured."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.api import run as run_verb
from fgbench.core.estimator import Defaults, Estimate, State
from fgbench.core.noise import replay as feed
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.training import cuda_graphs
from fgbench.training import loop as training
from fgbench.training import run as course
from fgbench.training import step_capture as graph
from fgbench.training.learner import Learner
from fgbench.training.recipe import Recipe
from fgbench.training.run import TrainingRun
from fgbench.workload import Workload
from tests.makers.paths import ROOT
from tests.makers.recorder import Recorder
from tests.makers.training import train

OWN = ROOT / "tests" / "makers" / "stateful.py"
RECIPE = Recipe(epochs=2, batch=20, lr=0.05, weight_decay=1e-3, flip=True, warmup_epochs=0.1)
STEPS = 14  # 3 that warm up, 5 that are timed, 3 rehearsals


def course_of(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    mode: str,
    arch: str = "mlp-2x16",
    recipe: Recipe = RECIPE,
    backend: Any = None,
) -> TrainingRun:
    """A run on a CPU whose steps the recorder captures where asked to."""
    monkeypatch.setattr(course, "backend_of", lambda device: backend or Recorder())
    workload = Workload.of(arch, "digits")
    task, estimator, noise = workload.task(registry.method(method), 0)
    return TrainingRun(task, estimator, recipe, noise, workload.data.subset(160), mode)


def taken(run: TrainingRun, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """All that steps have made: parameters, moments, state, losses."""
    for _ in range(steps):
        run.take()
    losses = [loss for loss, _ in run.unseen if loss is not None]
    found = {name: t.clone() for name, t in run.learner.tensors().items()}
    return {**found, "losses": torch.stack(losses) if losses else torch.zeros(0)}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, t in one.items() if not torch.equal(t, other[name])]


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bp": ("BP", "mlp-2x16", {}),
    "bp, a conv net, no momentum": ("BP", "cnn-tiny", {"momentum": 0.0}),
    "bp, nesterov": ("BP", "mlp-2x16", {"nesterov": True, "schedule": "cosine"}),
    "fg_a, local losses": ("LG-FG-A", "localmixer-xs/2/4", {}),
    "fg_a, noise that is changed in place": ("fg_a[law=uniform]/overlap", "mlp-3x16", {}),
    "fg_a, signs in two blocks": ("fg_a[directions=20,law=rademacher]/local", "mlp-2x16", {}),
    "fg_a, adam": ("fg_a[law=sphere]/local", "mlp-2x16", {"optimizer": "adam", "lr": 1e-3}),
    "fg_a, contrastive": ("fg_a/contrastive-local-pg", "localmixer-xs/2/4", {}),
    "fg_a, lars, augmented": (
        "LG-FG-A",
        "localmixer-xs/2/4",
        {"optimizer": "lars", "crop": 0.5, "colours": True, "solarise": 0.5},
    ),
    "fg_w": ("FG-W", "mlp-2x16", {}),
    "fg_w, a direction per example": ("fg_w[share=none]/local", "mlp-2x16", {}),
    "fa, shared state": ("fa/module", "mlp-2x16", {}),
    "dfa": ("DFA", "mlp-2x16", {}),
    "np": ("np/end", "mlp-2x16", {}),
    "wp, adamw": ("wp[sided=central]/end", "mlp-2x16", {"optimizer": "adamw", "lr": 1e-3}),
    "learned state of both kinds": ("{file}:Learned/local", "mlp-2x16", {}),
    "learned state, plain steps": ("{file}:Plain/local", "mlp-2x16", {}),
}


def both(
    monkeypatch: pytest.MonkeyPatch, method: str, arch: str = "mlp-2x16", **changes: Any
) -> tuple[TrainingRun, list[str]]:
    """A run with its steps captured, and what of it differs from the same run without."""
    case: dict[str, Any] = {"method": method.format(file=OWN), "arch": arch}
    case["recipe"] = RECIPE.but(**changes)
    plain = taken(course_of(monkeypatch, mode="off", **case))
    assert bool(plain["losses"].isfinite().all())
    run = course_of(monkeypatch, mode="auto", **case)
    return run, differing(taken(run), plain)


@pytest.mark.parametrize("name", CASES)
def test_captured_steps_are_the_plain_ones_to_the_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, arch, changes = CASES[name]
    run, off = both(monkeypatch, method, arch, **changes)
    assert (run.graph.used, off) == (True, [])
    assert run.graph.reason.startswith("bound by launches: 100 % of a step's time")


def test_pixels_that_lie_elsewhere_are_never_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    made = course_of(monkeypatch, "BP", "auto")
    far = torch.empty(160, 1, 8, 8, dtype=torch.uint8, device="meta")
    data = replace(made.data.subset(160), name="large", train_x=far)
    parts = (made.task, made.estimator, RECIPE, made.noise["order"], data)
    assert TrainingRun(*parts, "auto").graph._mode == "off"
    with pytest.raises(UsageError, match="images of large do not fit"):
        TrainingRun(*parts, "on")


class Called:
    """Counts the estimates that Python makes."""

    def __init__(self, estimator: Any) -> None:
        self.estimator, self.calls = estimator, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.estimator, name)

    def __call__(self, *given: Any) -> Any:
        self.calls += 1
        return self.estimator(*given)


def test_a_replay_runs_no_python_and_costs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    run = course_of(monkeypatch, "FG-A", "on", backend=recorder)
    counted = run.estimator = Called(run.estimator)
    taken(run)
    assert (counted.calls, recorder.replays) == (4, STEPS - 3)  # 3 rehearsals and the capture
    assert (run.graph.used, run.graph.reason) == (True, "on")
    assert run.step == STEPS
    assert len({tuple(cost.items()) for _, cost in run.unseen}) == 1


def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise stays that of the capture."""
    fill = feed.NoiseReplay.fill
    done: list[int] = []

    def once(given: feed.NoiseReplay, step: int) -> None:
        if not done:
            done.append(step)
            fill(given, step)

    monkeypatch.setattr(feed.NoiseReplay, "fill", once)


def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers are made by the capture, in memory that its kernels overwrite."""

    def take(
        given: feed.NoiseReplay, source: Any, kind: str, name: str, block: int, shape: Any
    ) -> Any:
        drawn = plain(given, source, kind, name, block, shape)
        if given._sealed:
            key = feed._Draw(replace(source, step=0), kind, name, block, tuple(shape))
            drawn = given._buffers[key] = torch.zeros_like(drawn)
        return drawn

    plain = feed.NoiseReplay.take
    monkeypatch.setattr(feed.NoiseReplay, "take", take)


def lent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reader of a draw gets the buffer itself, which the first one changes."""

    def take(
        given: feed.NoiseReplay, source: Any, kind: str, name: str, block: int, shape: Any
    ) -> Any:
        key = feed._Draw(replace(source, step=0), kind, name, block, tuple(shape))
        if given._sealed:
            return given._buffers[key]
        return plain(given, source, kind, name, block, shape)

    plain = feed.NoiseReplay.take
    monkeypatch.setattr(feed.NoiseReplay, "take", take)


def paced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are numbers, which a replay cannot change."""
    monkeypatch.setattr(course, "Learner", lambda *given, captured: Learner(*given))


def picked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples are those of the capture."""
    work = TrainingRun._work

    def own(run: TrainingRun, noise: Any) -> Any:
        run._picked = run.picked().clone()
        return work(run, noise)

    monkeypatch.setattr(TrainingRun, "_work", own)


def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are looked at where the next replay writes its own."""
    replay = graph.Captured.replay

    def own(captured: Any, step: int) -> Any:
        loss, cost = replay(captured, step)
        loss.clone = lambda: loss
        return loss, cost

    monkeypatch.setattr(graph.Captured, "replay", own)


FAULTS: dict[str, tuple[Any, bool]] = {  # and whether parameters are wrong, not losses alone
    "noise is frozen": (frozen, True),
    "buffers made too late": (late, True),
    "buffers lent": (lent, True),
    "rates frozen": (paced, True),
    "examples frozen": (picked, True),
    "losses not copied": (kept, False),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, moved = FAULTS[fault]
    plant(monkeypatch)
    run, off = both(monkeypatch, "fg_a[law=uniform]/overlap", "mlp-3x16")
    assert run.graph.used
    assert "losses" in off
    assert ("chain\tbody.0.l0.weight" in off) == moved


# what is not captured


@dataclass(frozen=True)
class Odd(Defaults):
    """Backprop that does something which a replay would not repeat."""

    what: str = ""

    def __call__(self, view: Any, noise: Noise, state: State) -> Estimate:
        grads = view.reverse()
        name, g = next(iter(grads.items()))
        if self.what == "step":
            factor: Any = 1 / (1 + noise.step)
        elif self.what == "another step":
            factor = noise.at(3).normal("x", ())
        elif self.what == "key":
            factor = 1e-18 * noise.key("x", 0, "normal", ())
        elif self.what == "order":
            factor = noise.permutation("x", 3)[0]
        elif self.what == "value":
            factor = 1.0 if g[0, 0] > 0 else 0.5
        elif self.what == "number":
            factor = 1.0 + float(noise.normal("x", ()))
        elif self.what == "draws":
            times = 1 + len(torch.unique((g > 0).sum() % 2 + view.labels[:1])) + len(DONE)
            DONE.append(self.what)
            factor = sum(noise.normal(f"x{k}", ()) for k in range(times))
        elif self.what == "constant":
            factor = torch.tensor([0.5])
        elif self.what == "generator":
            factor = torch.rand((), generator=GENERATOR.manual_seed(3))
        else:
            factor = noise.normal("much", (600, 1000)).mean()
        return Estimate(grads={**grads, name: g * factor})


DONE: list[str] = []
GENERATOR = torch.Generator()
ODD = {
    "step": "it reads the number of the step",
    "another step": "it takes the noise of another step",
    "key": "it reads the number of the step",
    "order": "it draws an order on the host",
    "value": "RuntimeError: aten._local_scalar_dense.default is not permitted",
    "number": "RuntimeError: aten._local_scalar_dense.default is not permitted",
    "draws": "it draws other noise from step to step",
    "constant": "RuntimeError: aten.lift_fresh.default is not permitted",
    "generator": "RuntimeError: aten.rand.generator is not permitted",
    "much": "its noise takes more than 1 MiB",
}


@pytest.mark.parametrize("what", ODD)
def test_what_cannot_be_captured_runs_as_it_is(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "much":
        monkeypatch.setattr(feed, "HELD", 1 << 20)
    found = []
    for mode in ("off", "auto"):
        DONE.clear()
        run = course_of(monkeypatch, "BP", mode)
        run.estimator = Odd(what)
        found.append(taken(run))
    assert differing(*found) == []
    assert not run.graph.used
    assert run.graph.reason.startswith(f"the step cannot be captured: {ODD[what]}")
    DONE.clear()
    asked = course_of(monkeypatch, "BP", "on")
    asked.estimator = Odd(what)
    with pytest.raises(feed.Uncapturable, match=re.escape(ODD[what])):
        taken(asked)


def test_an_optimiser_that_reads_its_rate_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """RMSprop has no kernel for a CPU that takes its rate from memory."""
    run, off = both(monkeypatch, "BP", optimizer="rmsprop", lr=1e-3)
    assert (run.graph.used, off) == (False, [])
    assert "_local_scalar_dense" in run.graph.reason


class Grows(Odd):
    """Keeps all it has seen."""

    def init_state(self, task: Any, noise: Noise) -> dict[str, State]:
        return {o.name: {"seen": torch.zeros(1)} for o in task.objectives}

    def __call__(self, view: Any, noise: Noise, state: State) -> Estimate:
        seen = torch.cat([state["seen"], noise.normal("x", (1,))])
        grads = {name: g * (1 + 0.1 * seen.mean()) for name, g in view.reverse().items()}
        return Estimate(grads=grads, new_state={"seen": seen})


class Swaps(Odd):
    """Two tensors that change places."""

    def init_state(self, task: Any, noise: Noise) -> dict[str, State]:
        return {o.name: {"a": torch.zeros(1), "b": torch.ones(1)} for o in task.objectives}

    def __call__(self, view: Any, noise: Noise, state: State) -> Estimate:
        grads = {name: g * (1 + state["a"]) for name, g in view.reverse().items()}
        return Estimate(grads=grads, new_state={"a": state["b"], "b": state["a"]})


@pytest.mark.parametrize(("kind", "used"), [(Grows, False), (Swaps, True)])
def test_replaced_state(kind: Any, used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for mode in ("off", "auto"):
        run = course_of(monkeypatch, "BP", mode)
        run.estimator = kind()
        run.learner._learned.hold(kind().init_state(run.task, Noise(0)))
        found.append(taken(run, STEPS + 1))
    assert differing(*found) == []
    assert run.graph.used == used
    if kind is Swaps:
        assert [t.item() for t in run.learner.state["end"].values()] == [1.0, 0.0]
    else:
        assert "puts other tensors in the place of its state" in run.graph.reason


def test_steps_that_launches_do_not_hold_up_are_not_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Busy(Recorder):
        def wait(self) -> None:
            sleep(0.02)

    run = course_of(monkeypatch, "BP", "auto", backend=Busy())
    taken(run)
    assert not run.graph.used
    assert re.fullmatch(
        r"not bound by launches: \d+ % of a step's time went into launching it", run.graph.reason
    )


def test_the_reason_is_there_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert course_of(monkeypatch, "BP", "off").graph.reason == "off"
    early = course_of(monkeypatch, "BP", "auto")
    taken(early, 5)
    assert early.graph.reason == "the run ended before a step was captured"
    monkeypatch.undo()
    workload = Workload.of("mlp-2x16", "digits")
    task, estimator, noise = workload.task(registry.method("BP"), 0)
    run = TrainingRun(task, estimator, RECIPE, noise, workload.data, "auto")
    assert run.graph.reason == "steps are captured on cuda alone"


class Streams:
    """In place of torch.cuda: which stream work is on, and who waits for whom."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, broken: bool = False) -> None:
        self.now, self.seen = "main", list[str]()
        parts: dict[str, Any]
        parts = {"Stream": lambda device: Stream("own", self), "set_stream": self.put_back}
        parts |= {"current_stream": lambda device: Stream(self.now, self), "stream": self.on}
        parts |= {"CUDAGraph": lambda: SimpleNamespace(replay=lambda: None)}
        parts |= {"graph": self.captured, "graph_pool_handle": self.pool}
        for name, part in parts.items():
            monkeypatch.setattr(torch.cuda, name, part)
        self.pools: list[int] = []
        self.broken = broken

    def pool(self) -> tuple[int, int]:
        self.pools.append(0)
        return 0, len(self.pools)

    def captured(self, graph: Any, pool: tuple[int, int], stream: Any) -> Any:
        self.seen.append(f"capture into {pool}")
        return self.on(stream, self.broken)

    @contextmanager
    def on(self, stream: Any, broken: bool = False) -> Iterator[None]:
        before, self.now = self.now, stream.name
        yield
        if broken:  # as torch does: its stream stays
            raise RuntimeError("the capture was invalidated")
        self.now = before

    def put_back(self, stream: Any) -> None:
        self.now = stream.name


class Stream:
    def __init__(self, name: str, all_: Streams) -> None:
        self.name, self.all = name, all_

    def wait_stream(self, other: Stream) -> None:
        self.all.seen.append(f"{self.name} waits for {other.name}")


def test_rehearsals_and_captures_are_on_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    backend = cuda_graphs.CudaGraphs(torch.device("cuda"))
    with backend.apart():
        streams.seen.append(f"work on {streams.now}")
    found, replay = backend.capture(lambda: streams.now)
    assert (found, replay(), streams.now) == ("own", None, "main")
    backend.capture(lambda: None)
    assert streams.seen == [
        *("own waits for main", "work on own", "main waits for own"),
        *["capture into (0, 1)"] * 2,
    ]


def test_a_broken_capture_leaves_its_stream_and_pool_and_keeps_its_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = Streams(monkeypatch, broken=True)
    monkeypatch.setattr(cuda_graphs.CudaGraphs, "_broken", [])
    backend = cuda_graphs.CudaGraphs(torch.device("cuda"))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="invalidated"):
            backend.capture(lambda: None)
    assert streams.now == "main"
    assert streams.seen == ["capture into (0, 1)", "capture into (0, 2)"]
    assert len(backend._broken) == 2


# whole runs

MLP: dict[str, Any] = {"arch": "mlp-2x16", "data": "digits", "train_size": 400}


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Steps on a CPU are captured, in `train` too."""
    made: list[Recorder] = []

    def one(device: torch.device) -> Recorder:
        made.append(Recorder())
        return made[-1]

    for room in (graph, course):
        monkeypatch.setattr(room, "backend_of", one)
    return made


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    history = [{k: v for k, v in point.items() if k != "seconds"} for point in result["history"]]
    return {**result, "seconds": None, "graph": None, "history": history}


def test_a_captured_run_is_the_plain_run(recorders: list[Recorder]) -> None:
    plain, captured, chosen = (
        train("LG-FG-A", **MLP, recipe=RECIPE, graph=mode) for mode in ("off", "on", "auto")
    )
    assert plain["graph"] == {"used": False, "reason": "off"}
    assert captured["graph"] == {"used": True, "reason": "on"}
    assert chosen["graph"]["used"]
    assert timeless(captured) == timeless(chosen) == timeless(plain)
    assert plain["status"] == "ok"
    assert plain["cost"]["forward_equivalents"] > 1
    assert sum(one.replays for one in recorders) == 2 * 40 - 3 - 11


def test_a_captured_run_goes_on_from_its_checkpoint(
    recorders: list[Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LOOK", 1)
    case: dict[str, Any] = {**MLP, "recipe": RECIPE, "method": f"{OWN}:Learned/local"}

    def stop(event: Any) -> None:
        if event.step == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(**case, graph="on", checkpoint=tmp_path, progress=stop)
    resumed = train(**case, graph="on", checkpoint=tmp_path)
    assert resumed["graph"]["used"]
    assert sum(one.replays for one in recorders) == 40 - 2 * 3
    assert timeless(resumed) == timeless(train(**case, graph="off"))


def test_a_captured_run_diverges_at_the_same_step(recorders: list[Recorder]) -> None:
    recipe = Recipe(epochs=4, batch=20, lr=0.1, warmup_epochs=3.5)
    plain, captured = (
        train("FG-W", arch="mlp-2x16", data="digits", recipe=recipe, graph=mode)
        for mode in ("off", "on")
    )
    assert captured["graph"]["used"]
    assert captured["status"] == "diverged"
    assert timeless(captured) == timeless(plain)


def test_a_capture_that_was_asked_for_and_cannot_be_fails(recorders: list[Recorder]) -> None:
    case: dict[str, Any] = {**MLP, "recipe": RECIPE.but(optimizer="rmsprop")}
    found = train("BP", **case, graph="on")
    assert found["status"] == "failed"
    assert re.match(
        r"Uncapturable: RuntimeError: aten._local_scalar_dense.* not permitted", found["reason"]
    )
    assert (found["steps"], found["graph"]["used"]) == (3, False)
    assert train("BP", **case, graph="auto")["status"] == "ok"


def test_mistakes_are_one_line() -> None:
    for mode, match in {
        "on": "graph 'on' was asked for on device 'cpu', and steps are captured on cuda alone",
        "of": "unknown graph 'of'; did you mean 'off'",
    }.items():
        for call in (
            lambda mode: train("BP", **MLP, recipe=RECIPE, graph=mode),
            lambda mode: run_verb("train", method="BP", **MLP, epochs=1, graph=mode),
        ):
            with pytest.raises(UsageError, match=match) as caught:
                call(mode)
            assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="unknown option of measure 'graph'"):
        run_verb("measure", method="BP", arch="mlp-2x16", data="digits", graph="off")


def test_how_steps_are_taken_is_no_part_of_the_key(tmp_path: Path) -> None:
    case: dict[str, Any] = {**MLP, "method": "BP", "epochs": 1, "records": tmp_path}
    one = run_verb("train", **case)
    assert one["graph"] == {"used": False, "reason": "steps are captured on cuda alone"}
    assert "graph" not in one["settings"]
    assert run_verb("train", **case, graph="off") == one  # found again, not run again


# on a GPU

GPU: Any = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
ON_GPU: dict[str, tuple[str, str, dict[str, Any]]] = {
    name: case for name, case in CASES.items() if case[1] != "cnn-tiny"
} | {"rmsprop": ("FG-A", "mlp-2x16", {"optimizer": "rmsprop", "lr": 1e-3})}
"""Without convolutions, whose gradients cuDNN may add up in any order."""


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("name", ON_GPU)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gpu_takes_the_same_steps_captured(name: str, dtype: str) -> None:
    method, arch, changes = ON_GPU[name]
    case: dict[str, Any] = {"arch": arch, "data": "digits", "train_size": 400, "device": "cuda"}
    case |= {"recipe": RECIPE.but(**changes), "dtype": dtype}
    found = [train(method.format(file=OWN), **case, graph=mode) for mode in ("off", "on", "auto")]
    assert [one["graph"]["used"] for one in found] == [False, True, True]
    assert found[2]["graph"]["reason"].startswith("bound by launches: ")
    assert timeless(found[0]) == timeless(found[1]) == timeless(found[2])
    assert found[0]["status"] == "ok"


@pytest.mark.gpu
@GPU
def test_a_gpu_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    case: dict[str, Any] = {**MLP, "method": "LG-FG-A", "recipe": RECIPE, "device": "cuda"}

    def stop(event: Any) -> None:
        if event.step == 20:  # the end of an epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(**case, graph="on", checkpoint=tmp_path, progress=stop)
    resumed = train(**case, graph="on", checkpoint=tmp_path)
    assert timeless(resumed) == timeless(train(**case, graph="off"))


def on_gpu(what: str, mode: str) -> TrainingRun:
    workload = Workload.of("mlp-2x16", "digits", "cuda")
    task, estimator, noise = workload.task(registry.method("BP"), 0)
    run = TrainingRun(task, estimator, RECIPE, noise, workload.data.subset(160), mode)
    run.estimator = Odd(what) if what else estimator
    return run


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("what", ["step", "another step", "key", "value", "number", "much"])
def test_a_gpu_goes_on_where_a_capture_breaks(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "much":
        monkeypatch.setattr(feed, "HELD", 1 << 20)
    broken = on_gpu(what, "auto")
    assert differing(taken(on_gpu(what, "off"), 30), taken(broken, 30)) == []
    assert not broken.graph.used
    assert broken.graph.reason.startswith("the step cannot be captured: ")
    with pytest.raises(feed.Uncapturable):
        taken(on_gpu(what, "on"))
    # another capture in the same process is none the worse
    whole = on_gpu("", "on")
    assert differing(taken(on_gpu("", "off"), 30), taken(whole, 30)) == []
    assert whole.graph.used


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("fault", ["noise is frozen", "rates frozen", "examples frozen"])
def test_a_gpu_shows_a_planted_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault][0](monkeypatch)
    found = []
    for mode in ("off", "on"):
        workload = Workload.of("mlp-2x16", "digits", "cuda")
        task, estimator, noise = workload.task(registry.method("LG-FG-A"), 0)
        data = workload.data.subset(160)
        found.append(taken(TrainingRun(task, estimator, RECIPE, noise, data, mode)))
    assert "chain\tbody.0.l0.weight" in differing(*found)


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize(
    "method", ["BP", "LG-FG-A", "fg_w[share=none]/end", "DFA", "fg_a/contrastive-local-pg"]
)
def test_a_step_never_waits_for_the_gpu(method: str, mode: str) -> None:
    """Data, order, noise and rates are on the device: after the first steps nothing is fetched."""
    workload = Workload.of("localmixer-xs/2/4", "digits", "cuda")
    task, estimator, noise = workload.task(registry.method(method), 0)
    assert workload.data.train_x.is_cuda
    run = TrainingRun(task, estimator, RECIPE, noise, workload.data.subset(800), mode)
    taken(run, 6)
    with warnings.catch_warnings(action="ignore"):  # a prototype, as it says itself
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            run.take()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.graph.used == (mode == "on")


@pytest.mark.gpu
@GPU
def test_a_small_captured_step_is_faster() -> None:
    found = run_verb("speed", method="BP", arch="mlp-3x64", data="digits", batch=32, device="cuda")
    assert found["captured_reason"] == ""
    assert found["captured_ms"]["high"] < found["step_ms"]["low"]
    assert found["bp_captured"]
