"""Delayed feedback: every example meets the error of its own last visit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.estimators.f3 import COUNT, ERRORS, KEYS, fingerprints
from tests.makers.networks import batch, build, worst

SHAPE = (1, 4, 4)
HALVES = ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11])
MIXED = [7, 0, 3, 11, 5, 2]
X, Y = batch(12, SHAPE)


def visits(text: str, rows: Any, arch: str = "mlp-2x8") -> Any:
    """The task, the estimates of some visits to a frozen network, and the states after them."""
    task, made, noise = build(arch, f"{text}/end", SHAPE)
    states, found = [task.init_state(made, noise)], []
    for chosen in rows:
        step = task.estimate(X[chosen], Y[chosen], made, noise, states[-1])
        found.append(dict(step.body))
        states.append(step.new_state or states[-1])
    return task, found, states


def plain(task: Any, name: str, state: Any, rows: Any) -> dict[str, torch.Tensor]:
    """The estimate of another method with the same feedback."""
    own = {"end": {n: t for n, t in state["end"].items() if n not in (KEYS, ERRORS, COUNT)}}
    made = registry.make("estimators", name).thing
    return dict(task.estimate(X[rows], Y[rows], made, Noise(0, dtype=torch.float64), own).body)


def test_the_second_visit_of_a_frozen_network_is_direct_feedback_alignment() -> None:
    task, found, states = visits("f3", [*HALVES, MIXED])
    dfa = plain(task, "dfa", states[0], MIXED)
    assert worst(found[2], dfa) < 1e-14
    assert worst(found[0], plain(task, "dfa", states[0], HALVES[0])) > 1e-2
    assert float(states[-1]["end"][COUNT]) == 12


@pytest.mark.parametrize("arch", ["mlp-2x8", "cnn-tiny[width=4]"])
def test_the_first_visit_is_target_projection_of_the_other_sign(arch: str) -> None:
    task, found, states = visits("f3[base=drtp]", HALVES, arch)
    for rows, step in zip(HALVES, found, strict=True):
        drtp = plain(task, "drtp", states[0], rows)
        assert worst({n: -g for n, g in step.items()}, drtp) < 1e-14


def test_two_limits_keep_nothing() -> None:
    task, found, states = visits("f3[info=current_error]", [*HALVES, MIXED])
    dfa = plain(task, "dfa", states[0], MIXED)
    assert all(torch.equal(found[2][n], g) for n, g in dfa.items())
    assert KEYS not in states[-1]["end"]
    task, found, states = visits("f3[info=one_hot_target,base=drtp]", [HALVES[0]] * 2)
    drtp = plain(task, "drtp", states[0], HALVES[0])
    assert worst({n: -g for n, g in found[1].items()}, drtp) < 1e-14


def test_errors_are_used_before_they_are_replaced_and_of_this_batch_alone() -> None:
    """After a step of the weights the credit is that of the old error, example by example."""
    task, made, noise = build("mlp-2x8", "f3/end", SHAPE)
    state = task.init_state(made, noise)
    for rows in HALVES:
        state = task.estimate(X[rows], Y[rows], made, noise, state).new_state
    before = state["end"][ERRORS].clone()
    with torch.no_grad():
        for p in task.chain.readout_parameters("final").values():
            p.add_(0.3 * noise.normal("move", tuple(p.shape)))
    step = task.estimate(X[MIXED], Y[MIXED], made, noise, state)
    stale = worst(dict(step.body), plain(task, "dfa", state, MIXED))
    assert stale > 1e-2
    after = step.new_state["end"][ERRORS]
    moved = (after != before).any(1)
    assert moved.nonzero().flatten().tolist() == sorted(MIXED)
    again = task.estimate(X[MIXED], Y[MIXED], made, noise, step.new_state).body
    assert worst(dict(again), plain(task, "dfa", state, MIXED)) < 1e-14


def test_the_order_of_a_batch_does_not_count() -> None:
    for info in ("delayed_error", "delayed_error_softmax", "delayed_loss"):
        _, found, _ = visits(f"f3[info={info},one_hot=true]", [*HALVES, MIXED, MIXED[::-1]])
        assert worst(found[3], found[2]) < 1e-12


def test_kinds_of_information_are_their_formulas() -> None:
    task, _, _ = visits("f3", [])
    o = task.chain(X[MIXED]).detach()
    target = torch.nn.functional.one_hot(Y[MIXED], 5).double()
    want = {
        "delayed_loss": o.softmax(1) - target,
        "delayed_error": o - target,
        "delayed_error_softmax": o.softmax(1) - target,
    }
    for info, error in want.items():
        _, _, states = visits(f"f3[info={info}]", [MIXED])
        kept = states[-1]["end"][ERRORS][: len(MIXED)]
        torch.testing.assert_close(kept, error, rtol=0, atol=1e-12)
        _, _, states = visits(f"f3[info={info},one_hot=true]", [MIXED])
        kept = states[-1]["end"][ERRORS][: len(MIXED)]
        torch.testing.assert_close(kept, error * target, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.uint8])
def test_fingerprints_differ_wherever_a_bit_does(dtype: torch.dtype) -> None:
    rows = (200 * Noise(3, dtype=torch.float64).draw("uniform", "rows", 0, (500, 40))).to(dtype)
    found = fingerprints(rows, torch.arange(500) % 3)
    assert len(torch.unique(found, dim=0)) == 500
    assert int(found.min()) >= 0
    assert int(found.max()) < 2**21
    assert torch.equal(fingerprints(rows[100:200], torch.arange(100, 200) % 3), found[100:200])
    other = fingerprints(rows, (torch.arange(500) + 1) % 3)
    assert not (other == found).all(1).any()


def test_more_examples_than_room_are_refused() -> None:
    with pytest.raises(UsageError, match=r"more than capacity=8 training examples"):
        visits("f3[capacity=8]", HALVES)


@pytest.mark.parametrize(
    ("locality", "words"),
    [("contrastive", "visit to visit"), ("local", "later local losses")],
)
def test_where_examples_cannot_be_told_it_is_not_supported(locality: str, words: str) -> None:
    task, made, _ = build("mlp-2x8", f"f3/{locality}", SHAPE)
    assert words in made.supports(task.scheme)
