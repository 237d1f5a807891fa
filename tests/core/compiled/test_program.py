"""A function of tensors as a compiled program: equal results, lifted constants, refusals by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fgbench.core.autodiff.dual import Dual, part
from fgbench.core.autodiff.tracing import tracing
from fgbench.core.compiled import program
from fgbench.core.compiled.program import Program, Refused, distance, trace


def square(x: Tensor) -> dict[str, Tensor]:
    return {"y": x * x}


@pytest.mark.slow
def test_a_program_takes_values_and_not_those_it_was_traced_with() -> None:
    compiled = Program(square, (torch.ones(3),))
    assert torch.equal(compiled(torch.arange(3.0))["y"], torch.tensor([0.0, 1.0, 4.0]))


def test_what_a_function_reads_beside_its_arguments_is_read_at_every_call() -> None:
    buffer = torch.ones(3)
    compiled = Program(lambda x: (x + buffer,), (torch.zeros(3),))
    buffer.fill_(5.0)
    assert torch.equal(compiled(torch.zeros(3))[0], torch.full((3,), 5.0))


@pytest.mark.slow
def test_gradients_and_tangents_are_part_of_the_program() -> None:
    def both(w: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        w = w.detach().requires_grad_()
        with torch.enable_grad():
            (grad,) = torch.autograd.grad((w**3).sum(), w)
        tangents = part(torch.tanh(Dual(w.detach(), t)))  # type: ignore[arg-type]
        assert tangents is not None
        return grad, tangents

    w, t = torch.tensor([0.5, -1.0]), torch.tensor([[1.0, 2.0]])
    grad, tangents = Program(both, (torch.ones(2), torch.ones(1, 2)))(w, t)
    assert torch.allclose(grad, 3 * w**2)
    assert torch.allclose(tangents, t * (1 - w.tanh() ** 2))


@pytest.mark.parametrize("shape", [(4,), (3, 1)])
def test_a_program_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    compiled = Program(square, (torch.ones(3),))
    with pytest.raises(Refused, match="compiled for other shapes"):
        compiled(torch.ones(shape))


@pytest.mark.slow
def test_another_layout_and_another_type_are_refused() -> None:
    compiled = Program(square, (torch.ones(3, 2),))
    with pytest.raises(Refused, match="other shapes"):
        compiled(torch.ones(2, 3).t())
    with pytest.raises(Refused, match="other shapes"):
        compiled(torch.ones(3, 2).double())


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: (x + x.new_empty(3).normal_(generator=torch.Generator()),), "draws random"),
        (lambda x: (x.add_(1),), "writes into what it reads"),
        (lambda x: (x if x.sum() > 0 else -x,), "cannot be traced"),
    ],
)
def test_what_a_replay_would_not_repeat_is_refused(function: object, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        trace(function, (torch.ones(3),))  # type: ignore[arg-type]


def test_autograds_forward_mode_is_not_compiled() -> None:
    def without_rule(x: Tensor, t: Tensor) -> tuple[Tensor]:
        found = part(torch.special.i0(Dual(x, t)))  # type: ignore[arg-type]
        assert found is not None
        return (found,)

    with pytest.raises(Refused, match="no rule"):
        trace(without_rule, (torch.ones(2), torch.ones(1, 2)))


def test_a_compiler_that_drops_a_tangent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def drops(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        return lambda *given: [torch.zeros_like(t) for t in graph(*given)]

    monkeypatch.setattr(program, "_compiled", drops)
    with pytest.raises(Refused, match="differ by 1"):
        Program(square, (torch.ones(3),))


def test_a_small_fault_is_refused_and_rounding_at_a_kink_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def off(by: float, dtypes: tuple[torch.dtype, ...]) -> object:
        def compiled(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
            return lambda *given: [t * (1 + by * (t.dtype in dtypes)) for t in graph(*given)]

        return compiled

    monkeypatch.setattr(program, "_compiled", off(1e-3, (torch.float32, torch.float64)))
    with pytest.raises(Refused, match="allowed are 1e-10"):
        Program(square, (torch.ones(3),))
    monkeypatch.setattr(program, "_compiled", off(1e-3, (torch.float32,)))
    Program(square, (torch.ones(3),))  # as a value does that changes the side of a ReLU
    monkeypatch.setattr(program, "_compiled", off(0.1, (torch.float32,)))
    with pytest.raises(Refused, match="allowed are"):
        Program(square, (torch.ones(3),))


def test_no_compiler_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor as inductor

    def fail(*_: object) -> None:
        raise RuntimeError("no C++ compiler was found")

    monkeypatch.setattr(inductor, "compile", fail)
    with pytest.raises(Refused, match="no C\\+\\+ compiler"):
        Program(square, (torch.ones(3),))


@pytest.mark.slow
def test_equal_functions_share_a_program() -> None:
    kept: dict[str, object] = {}
    for weight in (torch.ones(3), torch.zeros(3)):
        Program(lambda x, w=weight: (x * w,), (torch.ones(3),), kept)
    assert len(kept) == 1
    Program(lambda x: (2 * x,), (torch.ones(3),), kept)
    assert len(kept) == 2


def test_distances_name_what_a_norm_of_all_would_hide() -> None:
    one, tiny = torch.ones(4), torch.full((4,), 1e-2)
    assert distance(({"a": one, "b": tiny * 1.1},), ({"a": one, "b": tiny},)) == pytest.approx(0.1)
    noise = torch.full((4,), 1e-9)
    assert distance(({"a": one, "b": -noise},), ({"a": one, "b": noise},)) < 1e-5
    assert distance((one,), ((one, one),)) == float("inf")
    assert distance((torch.full((4,), torch.nan),), (one,)) == float("inf")


def test_tracing_is_told_inside_alone() -> None:
    seen: list[bool] = []

    def note(x: Tensor) -> tuple[Tensor]:
        seen.append(tracing())
        return (x + 1,)

    trace(note, (torch.ones(1),))
    assert seen == [True]
    assert not tracing()
