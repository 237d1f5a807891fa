"""The sixteen faults that thirty-two sketched methods met: each is refused by name, or mended.

One test each, in the order in which they were found, and no more than the fault itself: the rooms that they
belong to have tests of everything around them.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fgbench import registry
from fgbench.conformance import check_estimator, estimator, pure, reach, sampled
from fgbench.conformance.nets import SMOOTH, TINY, Case
from fgbench.conformance.outcome import Fault
from fgbench.core.autodiff import no_reverse
from fgbench.core.autodiff.dual import Dual, part
from fgbench.core.cost import CostCounter
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.task import Task
from fgbench.core.view import View
from fgbench.errors import MethodFailed, UsageError
from fgbench.runs import sources
from fgbench.training.learner import Learner
from fgbench.training.recipe import Recipe
from tests.makers.localities import Greedy, Partial, Raises
from tests.makers.measuring import measured, of, workload
from tests.makers.paths import ROOT

FEW = ((64, 0.01), (64, 0.001))  # fixed seeds: a false alarm has probability 1e-5


def view_of(arch: str = "mlp-2x4") -> View:
    """The end objective on a batch of five."""
    with Noise(0).seeded():
        chain = registry.make("architectures", arch, shape=(1, 2, 2), classes=3).thing
    modules = tuple(range(len(chain)))
    end = Objective("end", (0, len(chain)), "final", modules)
    return View(chain, end, Noise(0).normal("x", (5, 1, 2, 2)), torch.arange(5) % 3, CostCounter())


@dataclass(frozen=True)
class Made(Defaults):
    """An estimator of one function, with its claims."""

    does: Any = None
    claimed: Claims = field(default_factory=Claims)
    starts: Any = None
    state_optimizer: Any = ("sgd", 1.0)

    def claims(self, scheme: Any) -> Claims:
        return self.claimed

    def init_state(self, scheme: Any, noise: Any) -> Any:
        return self.starts(scheme, noise) if self.starts else {}

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        found = self.does(view, noise, state) if self.does else Estimate(grads=view.reverse())
        return found if isinstance(found, Estimate) else Estimate(grads=found)


@dataclass(frozen=True)
class ActivityChange(Defaults):
    """Activity-based node perturbation: each layer's change under noise takes the place of its noise."""

    step: float = 1e-3

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="vanishing", backward="segment")  # false: its mean is another

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        u, seen = noise.directions(view.sites), [dict[str, Tensor](), dict[str, Tensor]()]

        def run(into: dict[str, Tensor], step: float) -> Tensor:
            def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
                if kind == "site":
                    z = into[name] = z + step * u.rows(name, 0, 1)[0]
                return z

            with torch.no_grad():
                f = view.chain.run(view.start, *view.objective.window, tap)
                prediction = view.chain.read(view.objective.readout, f)
                return F.cross_entropy(prediction, view.labels, reduction="none")

        change = run(seen[1], self.step) - run(seen[0], 0.0)
        moved = {n: seen[1][n] - z for n, z in seen[0].items()}
        square = sum((t * t).flatten(1).sum(1) for t in moved.values())
        size = sum(t[0].numel() for t in moved.values())
        factor = (size * change / square / len(change))[:, None]
        return Estimate(credit={n: t * factor for n, t in moved.items()})


@pytest.mark.slow
def test_fault_1_a_false_vanishing_claim_is_sampled_through_two_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampled, "STAGES", ((600, 0.01), (600, 0.001)))
    made = ActivityChange()
    found = list(estimator.bias(made, [Case.build(SMOOTH, "end", made)]))
    (refused,) = [o for o in found if not o.held]
    assert refused.check == f"unbiased on {SMOOTH.name}/end"
    assert "is not the gradient" in refused.detail


def test_fault_2_a_head_named_local0_is_measured_and_learns_along_the_way() -> None:
    bare: list[bool] = []

    class Looking(Greedy):
        def attach(self, chain: Any) -> None:
            bare.append(set(chain.readouts) == {"final"})
            super().attach(chain)

    for name in ("local", "aux"):
        own, plain = measured(
            of("bp", Looking(4, name)), "BP", where=workload("mlp-2x4"), moments=(0.0, 1.0)
        )
        assert (own["status"], plain["status"]) == ("ok", "ok")
    assert all(bare)


def test_fault_3_a_view_reads_the_head_that_it_is_given() -> None:
    view = view_of()
    moved = {n: torch.zeros_like(p) for n, p in view.chain.readout_parameters("final").items()}
    assert view.with_(params=moved).losses().tolist() == pytest.approx([1.0986123] * 5)  # log 3


@pytest.mark.parametrize("oracle", ["reverse", "pull"])
def test_fault_4_misspelt_weights_are_refused(oracle: str) -> None:
    view, wrong = view_of(), {"body.1.l0.wieght": torch.ones(4, 4)}
    asked = {"reverse": (), "pull": ({"body.1.l0": view.output()},)}
    with pytest.raises(UsageError, match=r"did you mean 'body\.1\.l0\.weight'"):
        getattr(view, oracle)(*asked[oracle], weights=wrong)


FILE = """
from dataclasses import dataclass
from fgbench import Defaults, Estimate
@dataclass(frozen=True)
class {name}(Defaults):
    base: str = "none"
    def __call__(self, view, noise, state):
        return Estimate(grads=view.reverse())
"""


def test_fault_5_an_edited_base_gives_another_key(tmp_path: Path) -> None:
    for name in ("A", "B"):
        (tmp_path / f"{name}.py").write_text(FILE.format(name=name))
    text = f"{tmp_path}/A.py:A[base={tmp_path}/B.py:B]"
    files = sources.of(registry.make("estimators", text))
    assert sorted(path.name for path in files) == ["A.py", "B.py"]
    files = sources.of(registry.make("estimators", f"{tmp_path}/A.py:A[base=fg_a]"))
    assert sorted(path.name for path in files) == ["A.py", "fg_a.py"]


LOCALITY = """
from fgbench.localities.local import Local
class Mine(Local): pass
"""


def test_fault_6_paths_with_brackets_and_localities_of_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("A", "B"):
        Path(f"{name}.py").write_text(FILE.format(name=name))
    Path("loc.py").write_text(LOCALITY)
    made = registry.method("./A.py:A[base=./B.py:B]/end")
    assert (made.estimator.thing.base, made.locality.text) == ("./B.py:B", "end")
    assert type(registry.method("fg_a/./loc.py:Mine").locality.thing).__name__ == "Mine"


def test_fault_7_objectives_that_update_a_part_or_nothing_are_measured() -> None:
    where = workload("mlp-2x4")
    some, none = measured(of("bp", Partial((1,))), of("bp", Partial(())), where=where)
    assert some["status"] == "ok"
    assert (none["status"], none["reason"].partition(":")[0]) == (
        "skipped",
        "its objectives update no module",
    )


@pytest.mark.slow
def test_fault_8_an_estimator_is_sampled_under_the_locality_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three times too large under overlap alone, and of a form that no exact mean is known of."""
    monkeypatch.setattr(sampled, "STAGES", FEW)
    monkeypatch.setattr(estimator, "NETS", (TINY,))
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from fgbench import Claims, Defaults, Estimate\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Defaults):\n"
        "    def claims(self, scheme):\n"
        "        return Claims(bias='none', backward='none')\n"
        "    def __call__(self, view, noise, state):\n"
        "        v = noise.directions(view.shapes)\n"
        "        rows = {n: v.rows(n, 0, 1)[0] for n in v.names}\n"
        "        size = sum(t.numel() for t in rows.values())\n"
        "        s = view.slopes(v).sum() * size / sum((t * t).sum() for t in rows.values())\n"
        "        s = s * (3 if view.objective.name.startswith('pair') else 1)\n"
        "        return Estimate(grads={n: s * t for n, t in rows.items()})\n"
    )
    found = {o.check: o for o in check_estimator(f"{tmp_path}/mine.py:Mine/overlap")}
    assert not found[f"unbiased on {SMOOTH.name}/overlap"].held


PACKAGE = """
from dataclasses import dataclass
from fgbench import Defaults, Estimate, register
@register("estimators", "mine_of_a_package")
@dataclass(frozen=True)
class Mine(Defaults):
    '''Backprop.'''
    def __call__(self, view, noise, state):
        return Estimate(grads=view.reverse())
"""


@pytest.mark.slow
@pytest.mark.parametrize("value", ["packaged:Mine", "packaged"])
def test_fault_9_a_decorator_and_an_entry_point_live_together(value: str, tmp_path: Path) -> None:
    (tmp_path / "packaged.py").write_text(PACKAGE)
    info = tmp_path / "packaged-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: packaged\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[fgbench.estimators]\nmine_of_a_package = {value}\n")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from fgbench.cli import main; "
    code += "sys.exit(main.run(['list', 'estimators']))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if "mine_of_a_package" in line]
    assert len(lines) == 1
    assert "registered twice" not in done.stdout


@pytest.mark.parametrize("where", ["attach", "objectives", "batch", "losses"])
def test_fault_10_what_a_locality_raises_fails_alone_and_names_its_line(where: str) -> None:
    bad, plain = measured(of("bp", Raises(where=where)), "BP", where=workload("mlp-2x4"))
    assert (bad["status"], plain["status"]) == ("failed", "ok")
    assert "ValueError: on purpose (localities.py:" in bad["reason"]


def task_of(method: str = "BP") -> Task:
    return workload("mlp-2x4").task(registry.method(method), 0).task


def test_fault_11_a_misspelt_optimizer_and_a_state_of_no_objective_are_refused() -> None:
    def starts(scheme: Any, noise: Any) -> Any:
        return {"end": {"b": torch.zeros(2)}}

    recipe = Recipe(epochs=1, batch=4, lr=0.1)
    with pytest.raises(UsageError, match="'sdg'; did you mean 'sgd'"):
        Learner(task_of(), Made(starts=starts, state_optimizer=("sdg", 1.0)), recipe, Noise(0))
    with pytest.raises(UsageError, match="unknown objective in the state of Made 'whole'"):
        task_of().init_state(Made(starts=lambda s, n: {"whole": {"b": torch.zeros(2)}}), Noise(0))


def test_fault_12_state_shares_no_draw_with_training() -> None:
    noise = Noise(0)

    def starts(scheme: Any, own: Noise) -> Any:
        return {"end": {"b": own.child("directions").normal("b", (3,))}}

    state = task_of().init_state(Made(starts=starts), noise)
    assert not torch.equal(state["end"]["b"], noise.child("directions").normal("b", (3,)))


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (2, 4, 3, 5)])
@pytest.mark.parametrize("n", [1, 3])
def test_fault_13_exact_gelu_follows_any_layout(shape: tuple[int, ...], n: int) -> None:
    """A oneDNN kernel refused strides of some tangents on some processors."""
    noise = Noise(0)
    x, u = noise.normal("x", shape), noise.normal("u", (n, *shape))
    layouts = [(x, u), (x.mT, u.mT), (x.mT.contiguous().mT, u.mT.contiguous().mT)]
    for value, tangents in layouts:
        wanted = torch.stack([torch.func.jvp(F.gelu, (value,), (t,))[1] for t in tangents])
        found = part(F.gelu(Dual(value, tangents)))  # type: ignore[arg-type]
        assert found is not None
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


OPTIONS = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
from beside_it import WIDTH
from fgbench import Defaults
if TYPE_CHECKING:
    from torch import Tensor
@dataclass(frozen=True)
class Mine(Defaults):
    rate: float | None = 1.0
    hidden: Tensor = None
    width: int = WIDTH
"""


def test_fault_14_annotations_none_and_neighbours_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(OPTIONS)
    (tmp_path / "beside_it.py").write_text("WIDTH = 7")
    made = registry.method(f"{tmp_path}/mine.py:Mine[rate=None]").estimator.thing
    assert (made.rate, made.width) == (None, 7)
    with pytest.raises(UsageError, match="option hidden: its annotation 'Tensor' cannot be used"):
        registry.method(f"{tmp_path}/mine.py:Mine[hidden=1]")


def test_fault_15_types_graphs_names_of_heads_and_rounding() -> None:
    short = Made(starts=lambda s, n: {"end": {"b": torch.zeros(2)}})
    with pytest.raises(Fault, match=r"is torch\.float32 where the network is torch.float64"):
        pure.pure(Case.build(TINY, "end", short))
    decay = Made(lambda v, n, s: {k: g + 0.1 * v.params[k] for k, g in v.reverse().items()})
    with pytest.raises(Fault, match="carries autograd's graph"):
        pure.pure(Case.build(TINY, "end", decay))
    calls: list[int] = []

    def rounded(view: Any, noise: Any, state: Any) -> Any:
        calls.append(1)
        return {k: g + 2.8e-17 * (len(calls) % 2) for k, g in view.reverse().items()}

    assert pure.pure(Case.build(TINY, "end", Made(rounded)))
    task = Task.build(task_of().chain, Greedy(4, "aux"), Noise(0))
    Learner(task, Made(), Recipe(epochs=1, batch=4, lr=0.1, zero_heads=True), Noise(0))
    own = task.chain.readout_parameters("aux0")
    assert not any(bool(p.any()) for name, p in own.items() if ".last." in name)


def test_fault_16_an_estimator_that_opens_the_gate_itself_is_found() -> None:
    def opens(view: Any, noise: Any, state: Any) -> Any:
        with no_reverse.opened():
            return view.reverse()

    case = Case.build(TINY, "end", Made(opens, Claims(bias="none", backward="none")))
    with pytest.raises(Fault, match="but opens the gate itself"):
        reach.gated([case])
    with pytest.raises(Fault, match=r"calls view\.reverse; that is 'network'"):
        reach.reach(case)


def test_what_a_locality_raises_outside_of_measuring_is_one_line_too() -> None:
    with pytest.raises(MethodFailed, match="on purpose"):
        workload("mlp-2x4").task(of("bp", Raises(where="attach")), 0)
