"""Speed: ratios within rounds under a given clock, turning order, peaks of known allocations."""

from __future__ import annotations

import gc
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.estimator import Defaults, Estimate
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.measurement.speed import backprop_reference as reference
from fgbench.measurement.speed import interleaved_timing
from fgbench.measurement.speed import step_costs as room
from fgbench.registry import Made, Method
from fgbench.reporting.terminal import tables
from fgbench.stats.medians import median
from fgbench.workload import Workload
from tests.makers.measuring import Counted
from tests.makers.recorder import Recorder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload.of("mlp-1x8", "synthetic[train=64,test=32]")


@dataclass(frozen=True)
class Exact(Defaults):
    """Backprop, holding so many bytes more while it runs."""

    extra: int = 0
    refused: str = ""

    def supports(self, task: Any) -> str:
        return self.refused

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        held = torch.empty(self.extra, dtype=torch.uint8)
        found = Estimate(grads=view.reverse())
        del held
        return found


class Drawn(Exact):
    """Draws from a generator that nobody reseeds."""

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        with torch.random.fork_rng(devices=[]):
            return Estimate(grads={n: g * torch.randn(()) for n, g in view.reverse().items()})


def of(estimator: Any) -> Method:
    return Method("own", Made("own", {}, estimator, ""), registry.make("localities", "end"))


def timed(workload: Workload, *methods: Method, **more: Any) -> list[dict[str, Any]]:
    given = {"batch": 8, "rounds": 5, "reference": "plain", **more}
    return room.speed(workload, methods, **given)


class Clock:
    """In place of ``clock.timed``: says how long a step took by who is asked and in which round."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Any) -> None:
        self.order: list[tuple[int, int]] = []
        self._known: list[Any] = []
        self._seconds = seconds
        monkeypatch.setattr(interleaved_timing, "timed", self)
        real = interleaved_timing.interleaved

        def interleaved(steps: Any, rounds: int, device: torch.device) -> Any:
            self._known = list(steps)
            return real(steps, rounds, device)

        monkeypatch.setattr(interleaved_timing, "interleaved", interleaved)

    def __call__(self, step: Any, k: int, device: torch.device) -> float:
        who, turn = self._known.index(step), k - interleaved_timing.WARM_UP
        self.order.append((turn, who))
        return float(self._seconds(who, turn))


def test_ratios_are_taken_within_rounds(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the machine wavers by a factor of 4 over the rounds; within a round the ratio is 3
    Clock(monkeypatch, lambda who, turn: (3.0 if who == 1 else 1.0) * 2.0 ** (turn % 3) / 1000)
    (found,) = timed(workload, of(Exact()), rounds=6)
    ratio = found["ratio_to_bp"]
    assert (ratio["value"], ratio["low"], ratio["high"], ratio["n"]) == (3.0, 3.0, 3.0, 6)
    assert found["bp_ms"]["value"] == pytest.approx(2.0)
    assert found["step_ms"]["value"] == pytest.approx(6.0)
    assert found["rounds"] == 6


def test_every_round_times_everyone_once_in_a_turning_order(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Clock(monkeypatch, lambda who, turn: 1.0)
    timed(workload, of(Exact()), of(Exact()), rounds=9)
    rounds = [[who for turn, who in fake.order if turn == k] for k in range(9)]
    assert [turn for turn, _ in fake.order] == sorted(turn for turn, _ in fake.order)
    assert all(sorted(one) == [0, 1, 2] for one in rounds)
    for place in range(3):  # nobody is always the first, the second or the last
        assert len({one[place] for one in rounds}) > 1


def test_the_interval_is_that_of_the_order_statistics() -> None:
    # ranks 6 and 15 of 20 hold the median with probability .959, the ends of 3 with .75
    found = median([float(k) for k in range(20, 0, -1)])
    assert found == {"value": 10.5, "low": 6.0, "high": 15.0, "n": 20}
    assert median([3.0, 1.0, 2.0]) == {
        "value": 2.0,
        "low": 1.0,
        "high": 3.0,
        "n": 3,
    }


def test_the_peak_of_a_known_allocation() -> None:
    kept = torch.empty(1 << 20, dtype=torch.uint8)  # held before: not counted

    def step(k: int) -> Any:
        first = torch.empty(3 << 20, dtype=torch.uint8)
        del first
        second = torch.empty(1 << 20, dtype=torch.uint8)
        third = torch.empty(1 << 20, dtype=torch.uint8)
        return second, third, kept

    assert interleaved_timing.peak(step, CPU) == 3 << 20
    assert interleaved_timing.peak(lambda k: None, CPU) == 0


def test_a_step_that_holds_more_has_a_larger_peak(workload: Workload) -> None:
    plain, more = timed(workload, of(Exact()), of(Exact(extra=1 << 22)), rounds=3)
    assert more["peak_mb"] - plain["peak_mb"] == pytest.approx(4.0, abs=0.01)
    assert more["peak_ratio_to_bp"] == pytest.approx(more["peak_mb"] / more["bp_peak_mb"])
    assert plain["bp_peak_mb"] == more["bp_peak_mb"] > 0


def test_the_network_is_built_once_and_claims_are_returned(workload: Workload) -> None:
    where = Counted.like(workload)
    methods = [registry.method(text) for text in ("BP", "FG-A", "bp/contrastive")]
    found = timed(where, *methods, of(Exact(refused="no such site")), rounds=3)
    assert where.built == [0]
    for method, one in zip(methods, found, strict=False):
        task, estimator, _ = workload.task(method, 0)
        assert one["claims"] == asdict(task.claims(estimator))
    assert found[-1]["claims"] is None


def test_the_noise_is_timed_apart_in_the_same_rounds_with_an_interval(workload: Workload) -> None:
    noisy, silent = timed(workload, registry.method("FG-A"), registry.method("BP"), rounds=7)
    found = noisy["noise_ms"]
    assert found["n"] == 7
    assert 0.0 < found["low"] <= found["value"] <= found["high"]
    assert found["value"] < noisy["step_ms"]["value"]
    assert silent["noise_ms"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 7}


@pytest.mark.parametrize("name", ["FG-A", "FG-W", "LG-FG-A", "fg_a[law=sphere,directions=2]/end"])
def test_the_noise_drawn_alone_is_that_of_the_step(
    name: str, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys say what is drawn: seed, path, step, place, kind and shape."""
    keys: list[int] = []
    key = Noise.key

    def noted(self: Noise, *args: Any) -> int:
        found = key(self, *args)
        keys.append(found)
        return found

    monkeypatch.setattr(Noise, "key", noted)
    method = registry.method(name)
    start = workload.chain(0)
    picked = workload.data.rows(torch.arange(8))
    runner = room._runner(method, room._built(workload, method, 0, start, picked), 0, None)
    keys.clear()
    runner.step(5)
    drawn = sorted(keys)
    keys.clear()
    runner.noise(5)
    assert sorted(keys) == drawn != []


def test_an_estimator_that_cannot_run_is_skipped(workload: Workload) -> None:
    refused, fine = timed(workload, of(Exact(refused="no such site")), of(Exact()), rounds=3)
    assert (refused["status"], refused["reason"]) == ("skipped", "no such site")
    assert "ratio_to_bp" not in refused
    assert fine["status"] == "ok"
    assert fine["ratio_to_bp"]["value"] > 0


def test_the_reference_is_an_ordinary_step(workload: Workload) -> None:
    data = workload.data
    x, y = data.normalise(data.train_x[:8]), data.train_y[:8]
    chain = workload.chain(0)
    torch.nn.functional.cross_entropy(chain(x), y).backward()
    task, _, _ = workload.task(registry.method("BP"), 0)
    made = reference.build(task, x, y, "plain")
    for k in range(2):  # nothing piles up
        made.steps["plain"](k)
    same = dict(chain.named_parameters())
    for name, p in task.chain.named_parameters():
        assert torch.equal(p, same[name])
        torch.testing.assert_close(p.grad, same[name].grad)


class Compiler:
    """In place of ``torch.compile``: notes what it is given, and makes something else of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
        self.calls = 0
        self._make = make
        monkeypatch.setattr(torch, "compile", self)

    def __call__(self, made: Any, **how: Any) -> Any:
        def compiled(*given: Any) -> Any:
            self.calls += 1
            return self._make(made, *given)

        return compiled


@pytest.mark.parametrize(
    ("compiled", "plain", "taken"), [(1.0, 2.0, "compiled"), (2.0, 1.0, "plain")]
)
def test_the_faster_of_plain_and_compiled_is_the_reference(
    workload: Workload,
    monkeypatch: pytest.MonkeyPatch,
    compiled: float,
    plain: float,
    taken: str,
) -> None:
    made = Compiler(monkeypatch, lambda loss, *given: loss(*given))
    seconds = {0: plain / 1000, 1: compiled / 1000, 2: 3 / 1000}
    fake = Clock(monkeypatch, lambda who, turn: seconds[who])
    (found,) = timed(workload, of(Exact()), reference="faster")
    assert {who for _, who in fake.order} == {0, 1, 2}  # both in the same rounds as the method
    assert found["reference"] == taken
    assert {k: ms["value"] for k, ms in found["reference_ms"].items()} == pytest.approx(
        {"plain": plain, "compiled": compiled}
    )
    assert found["bp_ms"]["value"] == pytest.approx(1.0)
    assert found["ratio_to_bp"]["value"] == pytest.approx(3.0)
    assert made.calls > 0
    assert found["reference_reason"] == ""
    assert tables._reference([found]) == f"{taken} PyTorch"
    rows = {row[0]: row[1:3] for row in tables._reference_rows([{**found, "method": "own/end"}])}
    plain_ms, compiled_ms = f"{plain:g}", f"{compiled:g}"
    assert rows == {
        "PyTorch, plain": [plain_ms, plain_ms],  # the ratio to the faster one, which takes 1 ms
        "PyTorch, compiled": [compiled_ms, compiled_ms],
    }


def _holding(bytes_more: int, backend: Any = lambda loss, *given: loss(*given)) -> Any:
    """A compiler whose code holds so many bytes more in its forward pass."""

    def compiled(loss: Any, *given: Any) -> Any:
        held = torch.empty(bytes_more, dtype=torch.uint8)
        found = backend(loss, *given)
        del held
        return found

    return compiled


@pytest.mark.parametrize("asked", ["faster", "compiled", "plain"])
def test_every_reference_has_a_peak_of_its_own(
    asked: str, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    Compiler(monkeypatch, _holding(1 << 22))
    Clock(monkeypatch, lambda who, turn: 1.0 + who)  # the plain one is the first, and the faster
    (found,) = timed(workload, of(Exact(extra=1 << 21)), rounds=3, reference=asked)
    peaks = found["reference_peak_mb"]
    assert set(peaks) == {"plain"} | ({"compiled"} if asked != "plain" else set())
    assert set(found["reference_ratio_to_bp"]) == set(found["reference_ms"])
    assert found["reference_ratio_to_bp"][found["reference"]]["value"] == 1.0
    if asked != "plain":
        assert peaks["compiled"] - peaks["plain"] == pytest.approx(4.0, abs=0.1)
    assert found["bp_peak_mb"] == peaks[found["reference"]]
    assert found["peak_ratio_to_plain"] == found["peak_mb"] / peaks["plain"]
    assert found["peak_ratio_to_bp"] == found["peak_mb"] / found["bp_peak_mb"]


def test_gradients_of_the_step_before_are_not_taken_from_a_peak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a network whose gradients are most of what a step holds."""
    wide = Workload.of("mlp-1x256", "synthetic[train=64,test=32]")
    Compiler(monkeypatch, lambda loss, *given: loss(*given))
    (found,) = timed(wide, of(Exact()), rounds=3, reference="faster")
    peaks = found["reference_peak_mb"]
    assert peaks["compiled"] == peaks["plain"]
    (alone,) = timed(wide, of(Exact()), rounds=3, reference="plain")
    assert alone["bp_peak_mb"] == peaks["plain"]


def test_each_reference_can_be_asked_for(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Compiler(monkeypatch, lambda loss, *given: loss(*given))
    (found,) = timed(workload, of(Exact()), rounds=3)
    assert (found["reference"], list(found["reference_ms"]), made.calls) == ("plain", ["plain"], 0)
    (found,) = timed(workload, of(Exact()), rounds=3, reference="compiled")
    assert (found["reference"], list(found["reference_ms"])) == ("compiled", ["compiled"])
    with pytest.raises(UsageError, match="reference"):
        registry.validated(room.speed, {"reference": "fastest"}, "speed", ("workload", "methods"))


def _no_compiler(loss: Any, *given: Any) -> Any:
    raise RuntimeError("no C++ compiler\nfound")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_no_compiler, "not compiled: RuntimeError: no C++ compiler found"),
        (lambda loss, *given: 1.5 * loss(*given), "the compiled gradient is off by 0.5"),
        (lambda loss, *given: float("nan") * loss(*given), "the compiled gradient is off by nan"),
    ],
)
@pytest.mark.parametrize("asked", ["faster", "compiled"])
def test_without_a_sound_compiled_step_the_plain_one_stands_alone(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, make: Any, why: str, asked: str
) -> None:
    Compiler(monkeypatch, make)
    (found,) = timed(workload, of(Exact()), rounds=3, reference=asked)
    assert (found["reference"], list(found["reference_ms"])) == ("plain", ["plain"])
    assert found["reference_reason"] == why
    assert why in tables._reference([found])


def test_a_gradient_that_differs_only_where_inputs_are_constant_is_sound(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind norms, which blow up the rounding of blank patches; another loss is off everywhere."""
    task, _, _ = workload.task(registry.method("BP"), 0)
    blank = torch.zeros(8, *workload.data.shape)
    for wrong, kinds in ((False, ["plain", "compiled"]), (True, ["plain"])):

        def make(loss: Any, x: Any, y: Any, wrong: bool = wrong) -> Any:
            return loss(x, y) * (1.5 if wrong or not x.any() else 1.0)

        Compiler(monkeypatch, make)
        assert list(reference.build(task, blank, workload.data.train_y[:8]).steps) == kinds


def test_what_fails_in_the_plain_step_is_no_matter_of_compiling(workload: Workload) -> None:
    task, _, _ = workload.task(registry.method("BP"), 0)
    x = workload.data.normalise(workload.data.train_x[:8])
    with pytest.raises(RuntimeError):
        reference.build(task, x[:, :, :1], workload.data.train_y[:8])


# the compiler loads what torch itself still writes with torch.jit.script
@pytest.mark.filterwarnings("ignore:`torch.jit.script")
@pytest.mark.slow
def test_torch_can_trace_the_reference(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    # traced and differentiated as ever, with no C++ compiler behind it
    monkeypatch.setattr(
        torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True)
    )
    task, _, _ = workload.task(registry.method("BP"), 0)
    x = workload.data.normalise(workload.data.train_x[:8])
    made = reference.build(task, x, workload.data.train_y[:8])
    assert (made.reason, list(made.steps)) == ("", ["plain", "compiled"])
    assert made.compile_s > 0


def test_methods_of_one_end_share_a_reference(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    build = reference.build
    monkeypatch.setattr(room, "build", lambda *given: made.append(given[:3]) or build(*given))
    texts = ["BP", "LG-FG-A", "bp/contrastive", "fg_a/contrastive-local-pg"]
    found = timed(workload, *map(registry.method, texts), rounds=3, batch=8)
    assert [(task.end.readout, len(x)) for task, x, _ in made] == [("final", 8), ("projector", 16)]
    for one, other in (found[:2], found[2:]):
        assert one["bp_ms"] == other["bp_ms"]
        assert one["bp_peak_mb"] == other["bp_peak_mb"]
    assert found[0]["bp_ms"] != found[2]["bp_ms"]
    assert {f["batch"] for f in found} == {8}


@pytest.mark.parametrize("faster", [True, False])
def test_captured_steps_are_timed_beside_and_the_faster_backprop_is_the_reference(
    faster: bool, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "backend_of", lambda device: Recorder())
    # plain backprop, two methods as they are, all three captured, no compiled ones, the noise of the two
    times = [3.0, 6.0, 9.0, 1.0 if faster else 4.0, 2.0, None, None, None, 0.5, 0.25]
    Clock(monkeypatch, lambda who, turn: times[who])
    one, other = timed(workload, registry.method("FG-A"), of(Drawn()), rounds=5)
    assert one["bp_captured"] == other["bp_captured"] == faster
    reference = 1.0 if faster else 3.0
    assert one["bp_ms"]["value"] == 1e3 * reference
    assert one["ratio_to_bp"]["value"] == 6 / reference
    assert one["captured_ratio_to_bp"]["value"] == 2 / reference
    assert (one["captured_ms"]["value"], one["captured_reason"]) == (2e3, "")
    assert one["noise_ms"]["value"] == 500
    assert other["ratio_to_bp"]["value"] == 9 / reference
    assert (other["captured_ms"], other["captured_ratio_to_bp"]) == (None, None)
    assert "aten.randn.default is not permitted" in other["captured_reason"]


def test_no_step_is_captured_on_a_cpu(workload: Workload) -> None:
    (found,) = timed(workload, of(Exact()), rounds=3)
    assert not {"captured_ms", "captured_reason", "bp_captured"} & found.keys()


def test_garbage_collection_is_as_it_was(workload: Workload) -> None:
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            timed(workload, of(Exact()), rounds=3)
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


def test_what_cannot_be_timed_is_refused(workload: Workload) -> None:
    for more in ({"rounds": 2}, {"batch": 0}, {"batch": 65}):
        with pytest.raises(UsageError):
            timed(workload, of(Exact()), **more)
    assert timed(workload, of(Exact()), batch=64, rounds=3)[0]["batch"] == 64


@pytest.mark.slow
def test_compiled_steps_stand_beside_the_usual_ones(workload: Workload) -> None:
    methods = (registry.method("LG-FG-A"), registry.method("NP"))
    first, other = timed(workload, *methods, compile="auto")
    assert first["compiled_ms"]["n"] == first["step_ms"]["n"]
    assert first["compiled"]["runs"] == {"compiled": 1}
    assert first["compiled"]["seconds"] > 0
    assert first["compiled_peak_mb"] > 0
    assert other["compiled_ms"] is None
    assert "compiled_peak_mb" not in other


def test_without_being_asked_nothing_is_compiled(workload: Workload) -> None:
    (record,) = timed(workload, registry.method("LG-FG-A"))
    assert not any(name.startswith("compiled") for name in record)
